import { readStanzas } from "./apt-deb822.ts";

/** What a repository says of itself (https://wiki.debian.org/DebianRepository/Format). Informational: anyone can say it. */
export interface ReleaseFile {
  origin: string | null;
  label: string | null;
  suite: string | null;
  codename: string | null;
  date: string | null;
  validUntil: string | null;
}

const SIGNED_MESSAGE = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE = "-----END PGP SIGNATURE-----";

/** An InRelease taken apart: what is signed, and the armored signatures. */
export interface ClearSigned {
  text: string;
  signatures: string;
}

/**
 * Takes a clear-signed InRelease (RFC 9580, 7) apart as apt does (SplitClearSignedFile, apt-pkg/contrib/gpgv.cc): the text
 * with dash-escaping undone and without blanks at the ends of lines, which are not signed. Null for what apt refuses: text
 * outside the signed part, and a line that starts with a dash where none may.
 */
export function splitClearSigned(text: string): ClearSigned | null {
  if (!text.endsWith("\n")) return null;
  const lines = text.slice(0, -1).split("\n").map(withoutLastBlanks);
  const head = lines.indexOf("");
  const end = lines.indexOf(BEGIN_SIGNATURE);
  if (lines[0] !== SIGNED_MESSAGE || head < 0 || end < head) return null;
  if (lines.slice(1, head).some((line) => line.startsWith("-"))) return null;
  const signed = lines.slice(head + 1, end);
  const signatures = lines.slice(end);
  if (signed.some((line) => line.startsWith("-") && !line.startsWith("- "))) return null;
  if (!areSignatures(signatures)) return null;
  return {
    text: signed.map((line) => (line.startsWith("- ") ? line.slice(2) : line)).join("\n"),
    signatures: `${signatures.join("\n")}\n`,
  };
}

/** Blocks one right behind the other, each closed. */
function areSignatures(lines: readonly string[]): boolean {
  let open = false;
  for (const line of lines) {
    if (!open && line !== BEGIN_SIGNATURE) return false;
    if (open && line.startsWith("-") && line !== END_SIGNATURE) return false;
    open = line !== END_SIGNATURE;
  }
  return !open;
}

/** Line ends first, then blanks, as apt takes them away. */
function withoutLastBlanks(line: string): string {
  let end = line.length;
  while (line[end - 1] === "\r") end--;
  while (line[end - 1] === " " || line[end - 1] === "\t") end--;
  return line.slice(0, end);
}

/** Reads a Release file, or the signed text of an InRelease; null where it can't be read as apt reads it. */
export function parseRelease(text: string): ReleaseFile | null {
  const { stanzas, problem } = readStanzas(text);
  const [stanza] = stanzas;
  // apt reads the first stanza and passes over the others.
  if (problem !== null || stanzas.length > 1) return null;
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
