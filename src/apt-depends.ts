import type { DpkgPackage } from "./apt-dpkg.ts";
import { includesVersion, parseRelations, type Relation } from "./apt-relation.ts";

/*
 * Whether dpkg could configure packages: Depends and Pre-Depends (Debian Policy 7.2), evaluated as dpkg does
 * (src/main/packages.c, lib/dpkg/depcon.c).
 */

/** States in which dpkg lets other packages depend on a package. */
const USABLE: readonly string[] = ["installed", "triggers-pending", "triggers-awaited"];

/** A package under a name it has or provides; `version` is null if provided without one. */
interface Offer {
  by: DpkgPackage;
  version: string | null;
}

/**
 * Of the packages to be configured together, those that dpkg can't configure, each with its unmet dependencies as
 * written in its fields. Packages may depend on each other in a circle, but not on one that can't be configured.
 */
export function unconfigurable(
  candidates: readonly DpkgPackage[],
  installed: Iterable<DpkgPackage>,
  native: string,
): Map<DpkgPackage, string[]> {
  const configurable = new Set(candidates);
  const offers = offersOf(installed);
  const isMet = (text: string, dependent: DpkgPackage) =>
    (parseAlternatives(text) ?? []).some((relation) =>
      offers
        .get(relation.name)
        ?.some(
          (offer) =>
            (USABLE.includes(offer.by.state) || configurable.has(offer.by)) &&
            isOfArchitecture(offer.by, relation, dependent, native) &&
            includesVersion(relation, offer.version),
        ),
    );
  const failing = new Map<DpkgPackage, string[]>();
  for (let before = -1; before !== failing.size; ) {
    before = failing.size;
    for (const one of configurable) {
      const unmet = dependenciesOf(one).filter((text) => !isMet(text, one));
      if (unmet.length === 0) continue;
      failing.set(one, unmet);
      configurable.delete(one);
    }
  }
  return failing;
}

/** A package's dependencies, each with its alternatives. */
function dependenciesOf({ depends }: DpkgPackage): string[] {
  return depends
    .split(",")
    .map((text) => text.replace(/\s+/g, " ").trim())
    .filter((text) => text !== "");
}

/** `a (>= 1) | b` → both; null if malformed. */
function parseAlternatives(text: string): Relation[] | null {
  const relations = text.split("|").map((one) => parseRelations(one));
  return relations.includes(null) ? null : relations.flatMap((one) => one ?? []);
}

/** All names that packages have or provide. */
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

/**
 * dpkg's `archsatisfied`: without a qualifier the architecture must be the dependent's, or the package Multi-Arch:
 * foreign.
 */
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
