import { readStanzas } from "./deb822.ts";

/** What a repository says of itself (https://wiki.debian.org/DebianRepository/Format). Informational: anyone can say it. */
export interface ReleaseFile {
  origin: string | null;
  label: string | null;
  suite: string | null;
  codename: string | null;
  date: string | null;
  validUntil: string | null;
}

/**
 * The signed text of a clear-signed InRelease (RFC 9580, 7): what stands between its header and its signature, with
 * dash-escaping undone. Null where text stands outside, which apt refuses too.
 */
export function clearSignedText(text: string): string | null {
  const lines = text.split(/\r?\n/);
  const body = lines.indexOf("", 1);
  const signature = lines.indexOf("-----BEGIN PGP SIGNATURE-----", body);
  const end = lines.indexOf("-----END PGP SIGNATURE-----", signature);
  if (lines[0] !== "-----BEGIN PGP SIGNED MESSAGE-----" || body < 0 || signature < 0 || end < 0) return null;
  if (lines.slice(end + 1).some((line) => line !== "")) return null;
  return lines
    .slice(body + 1, signature)
    .map((line) => (line.startsWith("- ") ? line.slice(2) : line))
    .join("\n");
}

/** Reads a Release file, or the signed text of an InRelease; null where it can't be read as apt reads it. */
export function parseRelease(text: string): ReleaseFile | null {
  const { stanzas, problem } = readStanzas(text);
  const [stanza] = stanzas;
  if (problem !== null) return null;
  const value = (name: string) => stanza?.get(name) ?? null;
  return {
    origin: value("origin"),
    label: value("label"),
    suite: value("suite"),
    codename: value("codename"),
    date: value("date"),
    validUntil: value("valid-until"),
  };
}

/**
 * Milliseconds since the epoch of a Release file's date, or null where it can't be read. Only UTC is allowed there, so
 * that the reader's own time zone plays no part.
 */
export function releaseTime(date: string): number | null {
  if (!/^[A-Z][a-z]{2}, +\d{1,2} [A-Z][a-z]{2} \d{4} \d{1,2}:\d{2}:\d{2} (?:UTC|GMT|Z|\+0000)$/.test(date))
    return null;
  const time = Date.parse(date);
  return Number.isFinite(time) ? time : null;
}
