import { changeTotal } from "./cmd-plan-changes.ts";
import type { PolicyResult } from "./doc.ts";
import type { Outlook } from "./doc-outlook.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { severityCounts, type Vulnerability, vulnerabilityChange } from "./doc-vulnerabilities.ts";
import { changeGroups } from "./plan-groups.ts";
import { bytes, plural, quoteWord, safeStart } from "./terminal.ts";

/*
 * A plan's outlook in lines: what runs old code afterwards, whether to reboot, configuration, disk, what stays behind. All text that
 * these functions return is safe.
 */

/** Limits on the entries of one line, and on the characters of each. */
const LISTED = 12;
const CHARACTERS = 300;

/** What policy says about a plan: decided, or what it would say now. */
export interface PolicyNote {
  result: Pick<PolicyResult, "decision" | "rules" | "reasons">;
  /** Whether `aegis policy` wrote this down; otherwise nobody has decided anything. */
  isDecided: boolean;
}

/** `label, text` of everything that the outlook knows. */
export function outlookLines({
  outlook = {},
  packages_held_back,
  created_at,
}: OperationPlan): [string, string][] {
  const { configuration_files: files = [], space = [], unneeded = [] } = outlook;
  const modified = files.filter(({ state }) => state === "modified");
  const unread = files.length - modified.length;
  return [
    ["Kept back", keptBack(packages_held_back, outlook.held_back ?? [])],
    ["Services", servicesText(outlook.services, created_at)],
    ["Reboot", (outlook.reboot?.reasons ?? []).map(shown).join("; ")],
    [
      "Conffiles",
      sentences(
        modified.length === 0
          ? ""
          : `${some(modified.map(({ path, package: of }) => shown(`${path} (${of})`)))}: changed on this host and kept; where the new version has another, it is put beside it as .dpkg-dist`,
        unread === 0 ? "" : `${plural(unread, "file")} that you may not read: unknown`,
      ),
    ],
    [
      "Disk",
      space
        .map((one) => `${shown(one.path)}: ${bytes(one.needed)} needed, ${bytes(one.available)} free`)
        .join("; "),
    ],
    [
      "Unneeded",
      unneeded.length === 0
        ? ""
        : `${some(unneeded.map(quoteWord), " ")}: autoremove would take what nothing needs any more`,
    ],
  ];
}

/** What doesn't fit, for the top of the screen. */
export function shortages({ outlook }: OperationPlan): string[] {
  return (outlook?.space ?? [])
    .filter(({ needed, available }) => needed > available)
    .map(({ path, needed, available }) => spaceWarning(path, needed, available));
}

function spaceWarning(path: string, needed: number, available: number): string {
  return `Not enough space on ${path}: ${bytes(needed)} needed, ${bytes(available)} free`;
}

/** For the top of a long plan: how much changes, of which kinds, and what follows from it. */
export function inBrief(plan: OperationPlan, sensitive: readonly string[]): [string, string][] {
  const groups = changeGroups(plan, sensitive);
  const { reboot, services, configuration_files: files = [] } = plan.outlook ?? {};
  const { risky, others, outside } = byKind(services?.units ?? []);
  const running = risky.length + others.length;
  const modified = files.filter(({ state }) => state === "modified").length;
  const after = [
    ...((reboot?.reasons ?? []).length > 0 ? ["reboot needed"] : []),
    ...(running > 0
      ? [
          `${plural(running, "service")} on old code${risky.length > 0 ? `, ${risky.length} risky to restart` : ""}`,
        ]
      : []),
    ...(outside.length > 0 ? [`${plural(outside.length, "program")} outside of units on old code`] : []),
    ...(modified > 0 ? [`${plural(modified, "configuration file")} kept`] : []),
    ...(plan.packages_held_back.length > 0
      ? [`${plural(plan.packages_held_back.length, "package")} kept back`]
      : []),
  ];
  return [
    ["Changes", changeTotal(plan)],
    [
      "Of these",
      groups.length < 2
        ? ""
        : groups.map(({ title, changes }) => `${changes.length} ${lower(title)}`).join("; "),
    ],
    ["Known", known(plan)],
    ["After it", after.join("; ")],
  ];
}

/** `fixes 12 vulnerabilities (1 exploited, 3 high, 8 medium); leaves 2 (…)` */
function known(plan: OperationPlan): string {
  const { fixes, leaves, introduces } = vulnerabilityChange(plan);
  const counted = (what: string, list: readonly Vulnerability[]) =>
    list.length === 0
      ? []
      : [`${what} ${plural(list.length, "vulnerability", "vulnerabilities")} (${severityCounts(list)})`];
  return [
    ...counted("fixes", fixes),
    ...counted("introduces", introduces),
    ...counted("leaves", leaves),
  ].join("; ");
}

/** `Policy` and what it says; `would be` where nobody has decided. */
export function policyLine(note: PolicyNote | null): [string, string] {
  if (note === null) return ["Policy", ""];
  const { decision, rules, reasons } = note.result;
  const why = reasons.map(shown).join("; ");
  const by = rules.length === 0 ? "" : ` (${some(rules.map(shown))})`;
  const text = note.isDecided ? `decided: ${decision}` : `not decided yet; now it would be ${decision}`;
  return ["Policy", `${text}${why === "" ? "" : `: ${why}`}${by}`];
}

function keptBack(names: readonly string[], reasons: NonNullable<Outlook["held_back"]>): string {
  const why = new Map(reasons.map((one) => [one.package, one.why]));
  const told = names.filter((name) => why.has(name));
  const silent = names.filter((name) => !why.has(name));
  const groups = Map.groupBy(told, (name) => why.get(name) ?? "");
  return sentences(
    ...[...groups].map(([reason, of]) => `${some(of.map(quoteWord), ", ")}: ${shown(reason)}`),
    some(silent.map(quoteWord), ", "),
  );
}

function servicesText(services: Outlook["services"], planned: string): string {
  if (services === undefined) return "";
  const { units, unseen, seen_at } = services;
  const { risky, others, outside } = byKind(units);
  // Whoever may not look into others' processes has what root saw last.
  const minutes = Math.floor((Date.parse(planned) - Date.parse(seen_at)) / 60_000);
  const ago = minutes < 1 ? "just before" : `${plural(minutes, "minute")} before`;
  return sentences(
    risky.length === 0
      ? ""
      : `to restart with care: ${some(risky.map(({ unit, risky: why }) => shown(`${unit} (${why})`)))}`,
    others.length === 0 ? "" : `to restart: ${some(others.map(({ unit }) => shown(unit)))}`,
    outside.length === 0
      ? ""
      : `programs outside of units: ${some(outside.map(({ unit }) => shown(unit.slice(1, -1))))}`,
    units.length === 0 && unseen === 0 ? "none runs what changes" : "",
    seen_at === planned ? "" : `seen ${ago} this plan, by root's last look`,
    unseen === 0 ? "" : `${plural(unseen, "process", "processes")} that could not be looked into`,
  );
}

type Units = NonNullable<Outlook["services"]>["units"];

/** Units by what a restart means; `(name)` is a program that belongs to none. */
function byKind(units: Units): Record<"risky" | "others" | "outside", Units> {
  const isOutside = ({ unit }: Units[number]) => unit.startsWith("(");
  return {
    risky: units.filter((one) => one.risky !== null),
    others: units.filter((one) => one.risky === null && !isOutside(one)),
    outside: units.filter((one) => one.risky === null && isOutside(one)),
  };
}

function sentences(...parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join("; ");
}

function shown(text: string): string {
  return safeStart(text, CHARACTERS);
}

function lower(title: string): string {
  return title.charAt(0).toLowerCase() + title.slice(1);
}

/** So many of them, and the number of the others. */
function some(items: readonly string[], separator = ", "): string {
  const more = items.length - LISTED;
  const first = items.slice(0, LISTED).join(separator);
  return more > 0 ? `${first}${separator}and ${more} more (--json has all)` : first;
}
