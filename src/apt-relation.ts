import { compareDebVersions } from "./apt-target.ts";

/* Package relations in control files (Debian Policy 7.1). */

/** A package relation, `name:architecture (operator version)`. */
export interface Relation {
  name: string;
  architecture: string | null;
  operator: string | null;
  version: string | null;
}

const RELATION =
  /^([a-z0-9][a-z0-9+.-]*)(?::([a-z0-9-]+))?(?:\s*\(\s*(<<|<=|=|>=|>>|<|>)\s*([^\s()]+)\s*\))?$/;

/** Parses a field without alternatives, such as Conflicts or Provides (Debian Policy 7.1); null if malformed. */
export function parseRelations(text: string): Relation[] | null {
  const relations: Relation[] = [];
  for (const part of text.split(",")) {
    const word = part.replace(/\s+/g, " ").trim();
    if (word === "") continue;
    const [, name, architecture = null, operator = null, version = null] = RELATION.exec(word) ?? [];
    if (name === undefined) return null;
    relations.push({ name, architecture, operator, version });
  }
  return relations;
}

/** Whether a relation matches a package by its real name. */
export function namesPackage(
  relation: Relation,
  { name, architecture, version }: { name: string; architecture: string; version: string },
): boolean {
  const { architecture: wanted } = relation;
  return (
    relation.name === name &&
    (wanted === null || wanted === "any" || wanted === architecture) &&
    includesVersion(relation, version)
  );
}

/** Whether a relation includes a version; one without a version includes every version. */
export function includesVersion({ operator, version }: Relation, candidate: string | null): boolean {
  if (operator === null || version === null) return true;
  // A versioned relation never matches a name provided without a version (Policy 7.5).
  if (candidate === null) return false;
  const order = compareDebVersions(candidate, version);
  switch (operator) {
    case "<<":
      return order < 0;
    case ">>":
      return order > 0;
    case "=":
      return order === 0;
    // `<` and `>` are the old spellings of `<=` and `>=`.
    case "<":
    case "<=":
      return order <= 0;
    default:
      return order >= 0;
  }
}
