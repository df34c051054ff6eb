import type { DpkgPackage } from "./apt-dpkg.ts";
import { namesPackage, type Relation } from "./apt-relation.ts";
import type { TransactionEntry } from "./doc-plan.ts";

/*
 * `Replaces` (Debian Policy 7.6): a package that says so takes over files of another one that it names, and dpkg takes the
 * other away when no file of it is left. Planning reads it in the index, the hook in the .deb; both ask here what it means.
 */

/** What has to be known of a package to tell whether a relation names it. */
type Named = Pick<DpkgPackage, "name" | "architecture" | "version">;

/** What is installed, at least in part, and not changed by the transaction. */
export function stayingPackages(
  installed: ReadonlyMap<string, DpkgPackage>,
  transaction: readonly TransactionEntry[],
): DpkgPackage[] {
  const changed = new Set(transaction.map((e) => `${e.name}:${e.architecture}`));
  // A package can change its architecture to `all` and back.
  const replaced = new Set(
    transaction.filter((e) => e.from_version !== null).map((e) => `${e.name} ${e.from_version}`),
  );
  return [...installed]
    .filter(
      ([key, p]) =>
        p.state !== "config-files" && !changed.has(key) && !replaced.has(`${p.name} ${p.version}`),
    )
    .map(([, p]) => p);
}

/** What is there when the transaction is done, by name. */
export function packagesAfter(
  installed: ReadonlyMap<string, DpkgPackage>,
  transaction: readonly TransactionEntry[],
): ReadonlyMap<string, readonly Named[]> {
  const changed = transaction.flatMap(({ name, architecture, to_version: version }) =>
    version === null ? [] : [{ name, architecture, version }],
  );
  return Map.groupBy<string, Named>(
    [...stayingPackages(installed, transaction), ...changed],
    ({ name }) => name,
  );
}

/**
 * Names of the packages, sorted, whose files a package with these relations takes over: by their own names, since dpkg takes
 * no other for a Replaces, and in the versions that are there afterwards.
 */
export function takenOver(
  name: string,
  replaces: readonly Relation[],
  after: ReadonlyMap<string, readonly Named[]>,
): string[] {
  const hits = replaces.filter(
    (relation) =>
      relation.name !== name && (after.get(relation.name) ?? []).some((p) => namesPackage(relation, p)),
  );
  return [...new Set(hits.map((relation) => relation.name))].sort();
}
