import { join } from "node:path";
import { openProductionLog } from "./audit-production.ts";
import {
  CHANGES,
  type Change,
  changeTrust,
  HELP,
  type Planned,
  type TrustFilesHost,
} from "./cmd-trust-change.ts";
import { type KeyUses, openUses, usesOf } from "./cmd-trust-uses.ts";
import { renderChange, renderKeys, shownKey } from "./cmd-trust-view.ts";
import { type ArgsSpec, defineSubcommand, type Io, type Values } from "./command.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { loadTrust } from "./key-trust.ts";
import { oneEntry } from "./key-trust-text.ts";
import { SYSTEM } from "./paths.ts";
import { readFileLimited, readText, typedPath } from "./sys-files.ts";
import { prepareState, STATE } from "./sys-state.ts";

const ACTIONS = ["list", ...CHANGES] as const;

const TRUST_ARGS = {
  action: {
    type: "positional",
    required: false,
    complete: ACTIONS,
    description: "list (without one), add <entry>, revoke <id>, rotate <id> <entry>, or expire <id>",
  },
  operands: {
    type: "positional",
    required: false,
    multiple: true,
    complete: "file",
    description:
      "a trusted key's id; an entry: a .pub file of `sign keygen` or ssh-keygen, a file with what keygen prints, or -",
  },
  name: { type: "string", valueHint: "owner", description: "whose OpenSSH key it is; it can only approve" },
  "verify-required": {
    type: "boolean",
    description: "its security key must check a PIN or a fingerprint, and not only be touched",
  },
  reason: { type: "string", valueHint: "why", description: "why; into the log, and beside a revoked key" },
  until: {
    type: "string",
    valueHint: "date",
    description: "last day of the old key, as 2027-01-31 or with a time; rotate: in 7 days, expire: now",
  },
} as const satisfies ArgsSpec;
type TrustValues = Values<typeof TRUST_ARGS>;

/** `aegis sign trust`: the keys that this host trusts, and changes of them by root. */
export const signTrust = defineSubcommand({
  name: "sign trust",
  description:
    "List the keys that this host trusts, or as root add, revoke, rotate or expire one. Comments and order of the file are kept, and each change is in the production log.",
  args: TRUST_ARGS,
  run: (values, io) => trust(values, io, THIS_HOST),
});

/** What `sign trust` reads and changes. */
export interface TrustHost extends TrustFilesHost {
  isRoot: boolean;
  now: () => Date;
  uses(io: Io, now: Date): Promise<KeyUses>;
}

const THIS_HOST: TrustHost = {
  files: SYSTEM,
  lock: join(STATE.lock, "trusted-keys"),
  prepare: prepareState,
  isRoot: process.geteuid?.() === 0,
  rootOnly: true,
  now: () => new Date(),
  record(event) {
    const log = openProductionLog();
    try {
      log.append(event);
    } finally {
      log.close();
    }
  },
  uses: ({ env }, now) => openUses(env, now, readText("/etc/passwd")),
};

const MAX_ENTRY_BYTES = 16 * 1024;
const OVERLAP_DAYS = 7;

/**
 * Lists or changes the trusted keys of `host`.
 * @throws AegisError `usage`, `refused` (not root), `not_found` (no such key), `exists`, `invalid_key`, `invalid_config`, `io`
 */
export async function trust(values: TrustValues, io: Io, host: TrustHost): Promise<ExitStatus> {
  const action = ACTIONS.find((one) => one === (values.action ?? "list"));
  if (action === undefined) throw new AegisError("usage", `sign trust takes ${ACTIONS.join(", ")}`, HELP);
  const now = host.now();
  if (action === "list") {
    if ([...values.operands, values.reason, values.until, values.name].some((one) => one !== undefined))
      throw new AegisError("usage", "list takes nothing else", HELP);
    const keys = loadTrust({ rootOnly: false, files: host.files });
    const uses = await host.uses(io, now);
    const shown = keys.map((key) => ({ ...shownKey(key, now), uses: usesOf(uses, key) }));
    io.result({ keys: shown, unknown: uses.unknown }, renderKeys(shown, uses.unknown, io.terminal));
    return EXIT.ok;
  }
  const planned = await plannedChange(action, values, io, now);
  if (!host.isRoot) {
    const hint = "Type it as root. What is trusted now: aegis sign trust list";
    throw new AegisError("refused", `only root may change ${host.files.trustedKeys}`, hint);
  }
  const changed = changeTrust(action, planned, host, now);
  const uses = changed.old === null ? { uses: [], unknown: [] } : await host.uses(io, now);
  // A key that stays good for some time ends what would have outlived it.
  const until = changed.old?.notAfter ?? null;
  const ended =
    changed.old === null
      ? []
      : usesOf(uses, changed.old).filter(
          (use) => changed.old?.revoked === true || until === null || Date.parse(use.until) > until.getTime(),
        );
  const result = {
    change: action,
    key: changed.old === null ? null : shownKey(changed.old, now),
    added: changed.added === null ? null : shownKey(changed.added, now),
    ends: ended,
    unknown: uses.unknown,
    path: host.files.trustedKeys,
  };
  io.result(result, renderChange(result, changed.trust, now, io.terminal));
  return EXIT.ok;
}

/** What was asked for, checked as far as that goes without the file. */
async function plannedChange(
  action: Change,
  { operands, reason, until, name, "verify-required": verifyRequired }: TrustValues,
  io: Io,
  now: Date,
): Promise<Planned> {
  const takesId = action !== "add";
  const takesEntry = action === "add" || action === "rotate";
  const [id = null, file] = takesId ? [operands[0], operands[1]] : [null, operands[0]];
  if (operands.length !== Number(takesId) + Number(takesEntry)) {
    const wanted = [...(takesId ? ["<id>"] : []), ...(takesEntry ? ["<entry file>"] : [])].join(" ");
    throw new AegisError("usage", `${action} takes ${wanted}`, `Type: aegis sign trust ${action} ${wanted}`);
  }
  if (action === "revoke" && reason === undefined)
    throw new AegisError("usage", "a revocation needs a reason", "Add: --reason <why>");
  if (reason !== undefined && (reason.length > 500 || /[\p{C}\p{Zl}\p{Zp}]/u.test(reason)))
    throw new AegisError("usage", "--reason takes up to 500 printable characters", HELP);
  if (until !== undefined && (action === "add" || action === "revoke"))
    throw new AegisError("usage", `${action} takes no --until`, HELP);
  const end = takesId && action !== "revoke" ? endOf(until, action, now) : null;
  if ((name !== undefined && file === undefined) || (verifyRequired && name === undefined))
    throw new AegisError("usage", "--name and --verify-required are for an OpenSSH key that is added", HELP);
  const owner = name === undefined ? null : { name, verifyRequired };
  const entry =
    file === undefined ? null : oneEntry(await entryAt(file, io), file === "-" ? "the entry" : file, owner);
  return { id, entry, until: end, reason: reason ?? null };
}

async function entryAt(file: string, io: Io): Promise<string> {
  if (file === "-") return io.readStdin();
  return typedPath(() => readFileLimited(file, MAX_ENTRY_BYTES)).toString("utf8");
}

/** The old key's end in whole seconds. A day ends with its last second, in UTC. @throws AegisError `usage` */
function endOf(given: string | undefined, action: "rotate" | "expire", now: Date): Date {
  const later = action === "rotate" ? OVERLAP_DAYS * 86_400_000 : 0;
  if (given === undefined) return new Date(Math.floor((now.getTime() + later) / 1000) * 1000);
  const day = /^\d{4}-\d\d-\d\d$/.test(given) ? `${given}T23:59:59Z` : given;
  const full = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(day);
  const time = new Date(full ? day : Number.NaN);
  // Date turns 30 February into 2 March.
  if (!full || Number.isNaN(time.getTime()) || time.toISOString().slice(0, 10) !== day.slice(0, 10))
    throw new AegisError("usage", "--until takes a date such as 2027-01-31 or 2027-01-31T12:00:00Z", HELP);
  if (action === "rotate" && time <= now)
    throw new AegisError(
      "usage",
      "--until is past: the old key would end at once",
      "To end it now: sign trust revoke",
    );
  return time;
}
