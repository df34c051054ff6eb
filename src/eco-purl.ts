import { PackageURL } from "packageurl-js";

/** The parts of a package URL, as https://github.com/package-url/purl-spec names them. */
export interface PurlParts {
  type: string;
  namespace: string | null;
  name: string;
  version: string | null;
  qualifiers: Readonly<Record<string, string>> | null;
  subpath?: string | null;
}

/**
 * The canonical package URL of these parts, with the rules of its type applied (case, for one).
 * @throws Error where a part may not be in a package URL
 */
export function purlOf({ type, namespace, name, version, qualifiers, subpath }: PurlParts): string {
  const text = new PackageURL(type, namespace, name, version, qualifiers, subpath ?? null).toString();
  // The specification leaves only letters, digits and .-_~: as they are, and / between segments and in values. The library
  // is laxer in a version (+), which most of Debian's updates have, and in names, and stricter in the values of qualifiers.
  const [before = "", values] = text.split("?", 2);
  const canonical = before.replace(/[+!'()*]/g, percent);
  return values === undefined
    ? canonical
    : `${canonical}?${values.replace(/%(?:2F|3A)/g, decodeURIComponent)}`;
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}
