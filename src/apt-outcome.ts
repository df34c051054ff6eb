import type { DpkgPackage } from "./apt-dpkg.ts";
import { isMark, type TransactionEntry } from "./doc-plan.ts";
import type { Difference, Undo } from "./doc-result.ts";
import type { HostState } from "./eco-driver.ts";

/* The effect of a run of apt or dpkg: packages before and after, compared with the plan. */

/** Whether our hook must have been called: apt-get calls it for every transaction; dpkg and apt-mark call none. */
export function isChecked(argv: readonly string[], transaction: readonly TransactionEntry[]): boolean {
  return argv[0] === "apt-get" && transaction.length > 0;
}

/** Follows the state of a package on hold. */
const ON_HOLD = " on hold";

/** Follows the version of a package of which only configuration files are left. */
const LEFTOVER = " config-files";

/** dpkg's packages by `name:architecture`: `1.0-1 installed`, `1.0-1 installed on hold`, `1.0-1 config-files`. */
export function snapshotOf(packages: ReadonlyMap<string, DpkgPackage>): HostState {
  return Object.fromEntries(
    [...packages].map(([key, p]) => [key, `${p.version} ${p.state}${p.selection === "hold" ? ON_HOLD : ""}`]),
  );
}

/** A state without packages of which only configuration files are left. */
export function withoutLeftovers(state: HostState): HostState {
  return Object.fromEntries(
    Object.entries(state).filter(([, text]) => !withoutHold(text).endsWith(LEFTOVER)),
  );
}

/** A package's state; without its hold unless that is what the entry changes. dpkg drops a hold when it unpacks. */
function stateFor(entry: TransactionEntry, state: string | undefined): string | null {
  return state === undefined ? null : isMark(entry) ? state : withoutHold(state);
}

function withoutHold(state: string): string {
  return state.endsWith(ON_HOLD) ? state.slice(0, -ON_HOLD.length) : state;
}

/** The state that an entry leads to; null for not installed. */
function stateAfter({ action, to_version }: TransactionEntry): string | null {
  if (action === "remove") return null;
  return `${to_version} installed${action === "hold" ? ON_HOLD : ""}`;
}

/** Compares dpkg's state after a run with the plan: differences from it, and changes outside it. */
export function postCheck(
  transaction: readonly TransactionEntry[],
  before: HostState,
  after: HostState,
): { not_as_planned: Difference[]; changed_besides: Difference[] } {
  const planned = new Map(transaction.map((e) => [`${e.name}:${e.architecture}`, e]));
  const not_as_planned: Difference[] = [];
  for (const [key, entry] of planned) {
    const [expected, found] = [stateAfter(entry), stateFor(entry, after[key])];
    if (found !== expected) not_as_planned.push(difference(key, expected, found));
  }
  const replaced = replacedBy(transaction, before);
  const changed_besides: Difference[] = [];
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old = null, now = null] = [before[key], after[key]];
    const name = key.slice(0, key.lastIndexOf(":"));
    if (
      planned.has(key) ||
      old === now ||
      (now === null && replaced.has(`${name} ${withoutHold(old ?? "")}`))
    )
      continue;
    changed_besides.push(difference(key, old, now));
  }
  return { not_as_planned, changed_besides };
}

/**
 * What reverts the changes to a transaction's packages, sorted. Derived from dpkg's state, not the plan: a run that
 * failed halfway has only half to revert. Changes outside the plan are not this execution's.
 */
export function inverseOf(
  transaction: readonly TransactionEntry[],
  before: HostState,
  after: HostState,
): Undo[] {
  const planned = new Map(transaction.map((e) => [`${e.name}:${e.architecture}`, e]));
  const replaced = replacedBy(transaction, before);
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return keys.flatMap((key) => {
    const [old, left] = [versionIn(before, key), versionIn(after, key)];
    const colon = key.lastIndexOf(":");
    const name = key.slice(0, colon);
    const entry = planned.get(key);
    const undo = { package: name, architecture: key.slice(colon + 1), before: old, left };
    if (entry !== undefined && isMark(entry)) {
      const held = isHeld(before[key]);
      return held === isHeld(after[key]) ? [] : [{ ...undo, held }];
    }
    const isOwn =
      entry !== undefined || (left === null && replaced.has(`${name} ${withoutHold(before[key] ?? "")}`));
    return !isOwn || old === left ? [] : [undo];
  });
}

/**
 * Packages whose old key disappears because an upgrade changes their architecture, for example from `all`. Not those
 * already installed in the new architecture.
 */
function replacedBy(transaction: readonly TransactionEntry[], before: HostState): Set<string> {
  return new Set(
    transaction
      .filter((e) => e.from_version !== null && before[`${e.name}:${e.architecture}`] === undefined)
      .map((e) => `${e.name} ${e.from_version} installed`),
  );
}

function isHeld(state: string | undefined): boolean {
  return state?.endsWith(ON_HOLD) === true;
}

/** The version in a snapshot's `1.0 installed`; null if not installed. */
function versionIn(snapshot: HostState, key: string): string | null {
  const state = snapshot[key];
  return state === undefined || withoutHold(state).endsWith(LEFTOVER) ? null : state.split(" ")[0] || null;
}

function difference(key: string, expected: string | null, found: string | null): Difference {
  const colon = key.lastIndexOf(":");
  return { package: key.slice(0, colon), architecture: key.slice(colon + 1), expected, found };
}
