import { columnsRow, fitColumns } from "./cmd-columns.ts";
import type { KeyUse } from "./cmd-trust-uses.ts";
import type { Trust } from "./key-trust.ts";
import { keyState, type TrustedKey } from "./key-trusted-keys.ts";
import { fit, GUTTER, paint, safe, type Terminal } from "./terminal.ts";

/* The trusted keys and their changes, for people. */

/** A key as shown: with dates as text, and how it stands. */
export function shownKey(key: TrustedKey, now: Date) {
  return {
    id: key.ids.at(-1) ?? "",
    ids: key.ids,
    name: key.name,
    role: key.role,
    break_glass: key.breakGlass,
    public_key_hex: key.publicKeyHex,
    ssh: key.ssh === null ? null : sshOf(key.ssh),
    not_before: key.notBefore?.toISOString() ?? null,
    not_after: key.notAfter?.toISOString() ?? null,
    state: keyState(key, now),
  };
}

function sshOf({ fingerprint, application, verifyRequired }: NonNullable<TrustedKey["ssh"]>) {
  return { fingerprint, in_security_key: application !== null, verify_required: verifyRequired };
}
type ShownKey = ReturnType<typeof shownKey>;

/** How the key is held, where the entry says so. */
function kindOf({ ssh, break_glass }: ShownKey): string {
  const sealed = break_glass ? ", break-glass" : "";
  if (ssh === null) return sealed;
  if (!ssh.in_security_key) return `${sealed}, SSH`;
  return `${sealed}${ssh.verify_required ? ", security key, PIN" : ", security key"}`;
}

const HEADER = ["ID", "NAME", "ROLE", "STATE", "GOOD UNTIL"];

/** A line for each key, and below it what rests on it. */
export function renderKeys(
  keys: readonly (ShownKey & { uses: readonly KeyUse[] })[],
  unknown: readonly string[],
  terminal: Terminal,
): string {
  if (keys.length === 0) return "No key is trusted. Add one as root: aegis sign trust add <file>.pub";
  const rows = keys.map((key) => [
    ...[key.id, key.name ?? "–", `${key.role}${kindOf(key)}`, key.state].map(safe),
    key.state === "not yet valid" ? `from ${day(key.not_before)}` : day(key.not_after),
  ]);
  const widths = fitColumns([HEADER, ...rows], terminal.interactive ? terminal.width : 10_000);
  const line = (cells: readonly string[]) => columnsRow(cells, widths, GUTTER, false);
  return [
    paint(terminal, "dim", line(HEADER)),
    ...keys.flatMap(({ state, uses }, n) => [
      state === "valid" ? line(rows[n] ?? []) : paint(terminal, "bold", line(rows[n] ?? [])),
      ...uses.flatMap((use) => fit(terminal, describe(use), "  ")).map((text) => `  ${text}`),
    ]),
    ...unknown.flatMap((text) => fit(terminal, `Not known: ${safe(text)}`, "  ")),
  ].join("\n");
}

function day(time: string | null): string {
  return time === null ? "–" : time.replace(/:\d\d\.\d+Z$/, "Z").replace("T", " ");
}

function describe({ what, id, until }: KeyUse): string {
  return `${what} ${safe(id)}, until ${day(until)}`;
}

/** What a change did and ends, and what is left. */
export function renderChange(
  {
    change,
    key,
    added,
    ends,
    unknown,
    path,
  }: {
    change: string;
    key: ShownKey | null;
    added: ShownKey | null;
    ends: readonly KeyUse[];
    unknown: readonly string[];
    path: string;
  },
  trust: Trust,
  now: Date,
  terminal: Terminal,
): string {
  const named = (one: ShownKey) => `${one.role} key ${safe(one.id)} of ${safe(one.name ?? "nobody named")}`;
  const lines = [
    ...(key === null
      ? []
      : [change === "revoke" ? `Revoked: ${named(key)}` : `Good until ${day(key.not_after)}: ${named(key)}`]),
    ...(added === null ? [] : [`Trusted: ${named(added)}`]),
    ...ends.map((use) => `Ends with it: ${describe(use)}`),
    ...(key !== null && ends.length === 0 ? ["Nothing open that is known here rests on the old key."] : []),
    ...unknown.map((text) => `Not known: ${safe(text)}`),
    ...(["execution", "approval"] as const).flatMap((role) => {
      const good = trust.filter(
        (one) => one.role === role && ["valid", "expiring"].includes(keyState(one, now)),
      );
      if (good.length > 0) return [];
      return [
        role === "execution"
          ? "No execution key is good now: the executor runs nothing."
          : "No approval key is good now: nothing that needs a person can run.",
      ];
    }),
    `Written: ${safe(path)}; it holds from now on. In the log: aegis audit show --system --kind trust_changed`,
    ...(added?.role === "execution"
      ? ["If the executor is not started yet, as root: aegis daemon install"]
      : []),
  ];
  return lines.flatMap((line) => fit(terminal, line, "  ")).join("\n");
}
