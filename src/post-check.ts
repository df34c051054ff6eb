import type { TransactionEntry } from "./documents.ts";
import type { DpkgPackage } from "./dpkg-status.ts";
import type { Difference } from "./results.ts";

/** dpkg's packages as `name:architecture` → version and state in one text, for comparing two moments. */
export type DpkgSnapshot = Readonly<Record<string, string>>;

/** `1.0-1 installed`, or nothing for a package of which at most configuration files are left. */
export function snapshotOf(packages: ReadonlyMap<string, DpkgPackage>): DpkgSnapshot {
  return Object.fromEntries(
    [...packages]
      .filter(([, p]) => p.state !== "config-files")
      .map(([key, p]) => [key, `${p.version} ${p.state}`]),
  );
}

/**
 * dpkg after a run against the plan: what is not as planned, and what changed that the plan does not name.
 */
export function postCheck(
  transaction: readonly TransactionEntry[],
  before: DpkgSnapshot,
  after: DpkgSnapshot,
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
  // A package may change its architecture in an upgrade, from `all` say: then the old key is gone as planned. One that
  // was there in the new architecture before has no other to give up.
  const replaced = new Set(
    transaction
      .filter((e) => e.from_version !== null && before[`${e.name}:${e.architecture}`] === undefined)
      .map((e) => `${e.name} ${e.from_version} installed`),
  );
  const changed_besides: Difference[] = [];
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old = null, now = null] = [before[key], after[key]];
    const name = key.slice(0, key.lastIndexOf(":"));
    if (planned.has(key) || old === now || (now === null && replaced.has(`${name} ${old}`))) continue;
    changed_besides.push(difference(key, old, now));
  }
  return { not_as_planned, changed_besides };
}

function difference(key: string, expected: string | null, found: string | null): Difference {
  const colon = key.lastIndexOf(":");
  return { package: key.slice(0, colon), architecture: key.slice(colon + 1), expected, found };
}

/** One difference in words. */
export function describeDifference({ package: name, architecture, expected, found }: Difference): string {
  return `${name}:${architecture} is ${found ?? "not installed"}, expected ${expected ?? "not installed"}`;
}
