import type { TransactionEntry } from "./doc-plan.ts";
import type { Difference, Undo } from "./doc-result.ts";
import type { Comparison, HostState, RunSubject } from "./eco-driver.ts";
import type { Inventory } from "./eco-managed.ts";

/*
 * What a run changed in a managed root, by the inventories before and after it. The supervisor has compared every file by then.
 */

/**
 * Packages by their names, which are the first words of the inventory's keys. Private copies of other packages, of which a planned one
 * is the second word, may come and go with it.
 */
export function compareInventories(
  { transaction }: RunSubject,
  before: HostState,
  after: Inventory,
): Comparison {
  const planned = new Set(transaction.map(({ name }) => name));
  const versions = (name: string) =>
    Object.entries(after).flatMap(([key, value]) => (key.split(" ")[0] === name ? value.split(" ") : []));
  return {
    not_as_planned: transaction.flatMap(({ name, to_version }) => {
      const found = versions(name);
      if (to_version === null ? found.length === 0 : found.includes(to_version)) return [];
      return [difference(name, to_version, found.length === 0 ? null : found.join(" "))];
    }),
    ...changes(before, after, (key) => key.split(" ").some((word) => planned.has(word))),
  };
}

/** A rollback changes exactly the keys that it was planned from: `required_by` says whose private copy a package is. */
export function compareRestored(
  { transaction }: RunSubject,
  before: HostState,
  after: Inventory,
): Comparison {
  const keyOf = ({ name, required_by }: TransactionEntry) =>
    required_by === undefined ? name : `${name} ${required_by.split(" ")[0]}`;
  const isDone = (entry: TransactionEntry) => {
    const versions = versionsAt(after, keyOf(entry))?.split(" ") ?? [];
    return entry.to_version === null
      ? !versions.includes(entry.from_version ?? "")
      : versions.includes(entry.to_version);
  };
  const planned = new Set(transaction.map(keyOf));
  return {
    not_as_planned: transaction
      .filter((entry) => !isDone(entry))
      .map((entry) => difference(keyOf(entry), entry.to_version, versionsAt(after, keyOf(entry)))),
    ...changes(before, after, (key) => planned.has(key)),
  };
}

function changes(before: HostState, after: Inventory, isPlanned: (key: string) => boolean) {
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  const changed = keys.filter((key) => versionsAt(before, key) !== versionsAt(after, key));
  return {
    changed_besides: changed
      .filter((key) => !isPlanned(key))
      .map((key) => difference(key, versionsAt(before, key), versionsAt(after, key))),
    inverse: changed.map(
      (key): Undo => ({
        ...{ package: key, architecture: "all" },
        ...{ before: versionsAt(before, key), left: versionsAt(after, key) },
      }),
    ),
  };
}

/** Not by subscript alone: every object has a `constructor`, and npm a package of that name. */
function versionsAt(state: HostState, key: string): string | null {
  return Object.hasOwn(state, key) ? (state[key] ?? null) : null;
}

function difference(name: string, expected: string | null, found: string | null): Difference {
  return { package: name, architecture: "all", expected, found };
}
