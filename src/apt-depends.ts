import type { DpkgPackage } from "./apt-dpkg.ts";
import { includesVersion, parseRelations, type Relation } from "./apt-relation.ts";

/*
 * Which packages dpkg could configure by what it has: Depends and Pre-Depends (Debian Policy 7.2), judged as dpkg does
 * (src/main/packages.c, lib/dpkg/depcon.c).
 */

/** States in which dpkg takes a package for one that others may rely on. */
const USABLE: readonly string[] = ["installed", "triggers-pending", "triggers-awaited"];

/** A package under one of its names; `version` is null where that is only provided, without a version. */
interface Offer {
  by: DpkgPackage;
  version: string | null;
}

/**
 * Of the packages that dpkg is to configure together, those that it can't, each with the dependencies that nothing meets,
 * as they stand in its fields. They may depend on each other in a circle; on one that can't be configured itself none
 * may.
 */
export function unconfigurable(
  candidates: readonly DpkgPackage[],
  installed: Iterable<DpkgPackage>,
  native: string,
): Map<DpkgPackage, string[]> {
  const hopeful = new Set(candidates);
  const offers = offersOf(installed);
  const isMet = (text: string, dependent: DpkgPackage) =>
    (parseAlternatives(text) ?? []).some((relation) =>
      offers
        .get(relation.name)
        ?.some(
          (offer) =>
            (USABLE.includes(offer.by.state) || hopeful.has(offer.by)) &&
            isOfArchitecture(offer.by, relation, dependent, native) &&
            includesVersion(relation, offer.version),
        ),
    );
  const failing = new Map<DpkgPackage, string[]>();
  for (let before = -1; before !== failing.size; ) {
    before = failing.size;
    for (const one of hopeful) {
      const unmet = dependenciesOf(one).filter((text) => !isMet(text, one));
      if (unmet.length === 0) continue;
      failing.set(one, unmet);
      hopeful.delete(one);
    }
  }
  return failing;
}

/** The conditions of a package, each with its alternatives. */
function dependenciesOf({ depends }: DpkgPackage): string[] {
  return depends
    .split(",")
    .map((text) => text.replace(/\s+/g, " ").trim())
    .filter((text) => text !== "");
}

/** `a (>= 1) | b` → both. Null where it can't be read. */
function parseAlternatives(text: string): Relation[] | null {
  const relations = text.split("|").map((one) => parseRelations(one));
  return relations.includes(null) ? null : relations.flatMap((one) => one ?? []);
}

/** Every name that packages have or provide. */
function offersOf(installed: Iterable<DpkgPackage>): Map<string, Offer[]> {
  const offers = new Map<string, Offer[]>();
  const add = (name: string, offer: Offer) => {
    const others = offers.get(name);
    if (others === undefined) offers.set(name, [offer]);
    else others.push(offer);
  };
  for (const by of installed) {
    add(by.name, { by, version: by.version });
    for (const { name, version } of parseRelations(by.provides) ?? []) add(name, { by, version });
  }
  return offers;
}

/** `archsatisfied` of dpkg: without a qualifier the dependent's own architecture counts, or any of a foreign package. */
function isOfArchitecture(
  by: DpkgPackage,
  { architecture }: Relation,
  dependent: DpkgPackage,
  native: string,
): boolean {
  if (architecture === "any") return true;
  if (architecture === null && by.multiArch === "foreign") return true;
  const real = (name: string) => (name === "all" || name === "native" ? native : name);
  return real(by.architecture) === real(architecture ?? dependent.architecture);
}
