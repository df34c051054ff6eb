import type { DpkgPackage } from "./apt-dpkg.ts";
import { namesPackage, type Relation } from "./apt-relation.ts";
import type { TransactionEntry } from "./doc-plan.ts";

/*
 * `Replaces` (Debian Policy 7.6): a package may overwrite files of the packages it names, and dpkg removes a package
 * that owns no file any more. Planning evaluates the index's field, the hook the .deb's; both use this file.
 */

/** The fields of a package that a relation refers to. */
type Named = Pick<DpkgPackage, "name" | "architecture" | "version">;

/** Packages installed, at least partly, that the transaction doesn't change. */
export function stayingPackages(
  installed: ReadonlyMap<string, DpkgPackage>,
  transaction: readonly TransactionEntry[],
): DpkgPackage[] {
  const changed = new Set(transaction.map((e) => `${e.name}:${e.architecture}`));
  // A package can change architecture to `all` and back.
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

/** The packages present after the transaction, by name. */
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
 * Sorted names of the packages whose files a package with these relations takes over: by real name, since dpkg ignores
 * provided names for Replaces, and in the versions present afterwards.
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
