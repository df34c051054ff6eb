import type { DpkgPackage } from "./apt-dpkg.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import type { Difference, Undo } from "./doc-result.ts";
import type { HostState } from "./eco-driver.ts";

/* The effect of a run of apt or dpkg: packages before and after, compared with the plan. */

/** Whether our hook must have been called: apt calls it for every transaction; a repair runs dpkg alone. */
export function isChecked(argv: readonly string[], transaction: readonly TransactionEntry[]): boolean {
  return argv[0] === "apt-get" && transaction.length > 0;
}

/**
 * dpkg's packages by `name:architecture`: `1.0-1 installed`. Packages removed except for configuration files are
 * omitted.
 */
export function snapshotOf(packages: ReadonlyMap<string, DpkgPackage>): HostState {
  return Object.fromEntries(
    [...packages]
      .filter(([, p]) => p.state !== "config-files")
      .map(([key, p]) => [key, `${p.version} ${p.state}`]),
  );
}

/** Compares dpkg's state after a run with the plan: differences from it, and changes outside it. */
export function postCheck(
  transaction: readonly TransactionEntry[],
  before: HostState,
  after: HostState,
): { not_as_planned: Difference[]; changed_besides: Difference[] } {
  const planned = new Map(
    transaction.map((e) => [
      `${e.name}:${e.architecture}`,
      e.action === "remove" ? null : `${e.to_version} installed`,
    ]),
  );
  const not_as_planned: Difference[] = [];
  for (const [key, expected] of planned) {
    const found = after[key] ?? null;
    if (found !== expected) not_as_planned.push(difference(key, expected, found));
  }
  const replaced = replacedBy(transaction, before);
  const changed_besides: Difference[] = [];
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old = null, now = null] = [before[key], after[key]];
    const name = key.slice(0, key.lastIndexOf(":"));
    if (planned.has(key) || old === now || (now === null && replaced.has(`${name} ${old}`))) continue;
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
  const planned = new Set(transaction.map((e) => `${e.name}:${e.architecture}`));
  const replaced = replacedBy(transaction, before);
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return keys.flatMap((key) => {
    const [old, left] = [versionIn(before, key), versionIn(after, key)];
    const colon = key.lastIndexOf(":");
    const name = key.slice(0, colon);
    const isOwn = planned.has(key) || (left === null && replaced.has(`${name} ${before[key]}`));
    if (!isOwn || old === left) return [];
    return [{ package: name, architecture: key.slice(colon + 1), before: old, left }];
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

/** The version in a snapshot's `1.0 installed`; null if not installed. */
function versionIn(snapshot: HostState, key: string): string | null {
  return snapshot[key]?.split(" ")[0] || null;
}

function difference(key: string, expected: string | null, found: string | null): Difference {
  const colon = key.lastIndexOf(":");
  return { package: key.slice(0, colon), architecture: key.slice(colon + 1), expected, found };
}
