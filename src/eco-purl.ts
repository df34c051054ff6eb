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
 * The canonical package URL of these parts, with its type's rules applied (lower case, for example).
 * @throws Error if a part is not allowed in a package URL
 */
export function purlOf({ type, namespace, name, version, qualifiers, subpath }: PurlParts): string {
  const text = new PackageURL(type, namespace, name, version, qualifiers, subpath ?? null).toString();
  // The specification leaves only letters, digits and .-_~: unescaped, and / between segments and in values. The library
  // escapes less in names and versions (the + of most Debian updates), and more in the values of qualifiers.
  const [before = "", values] = text.split("?", 2);
  const canonical = before.replace(/[+!'()*]/g, percent);
  return values === undefined
    ? canonical
    : `${canonical}?${values.replace(/%(?:2F|3A)/g, decodeURIComponent)}`;
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}
