import { readStanzas } from "./apt-deb822.ts";

/** A repository's description of itself (https://wiki.debian.org/DebianRepository/Format). Informational only. */
export interface ReleaseFile {
  origin: string | null;
  label: string | null;
  suite: string | null;
  codename: string | null;
  date: string | null;
  validUntil: string | null;
  /** Where changelogs are, with `@CHANGEPATH@` for a version's; `no` for nowhere. */
  changelogs: string | null;
}

const SIGNED_MESSAGE = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE = "-----END PGP SIGNATURE-----";

/** The parts of an InRelease file: the signed text and the armored signatures. */
export interface ClearSigned {
  text: string;
  signatures: string;
}

/**
 * Splits a clear-signed InRelease (RFC 9580, 7) as apt does (SplitClearSignedFile, apt-pkg/contrib/gpgv.cc): the text
 * without dash-escaping and trailing blanks, which are not signed. Null for what apt refuses: text outside the signed
 * part, and a line starting with a dash where not allowed.
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

/** Adjacent blocks, each closed. */
function areSignatures(lines: readonly string[]): boolean {
  let open = false;
  for (const line of lines) {
    if (!open && line !== BEGIN_SIGNATURE) return false;
    if (open && line.startsWith("-") && line !== END_SIGNATURE) return false;
    open = line !== END_SIGNATURE;
  }
  return !open;
}

/** Strips line ends first, then blanks, like apt. */
function withoutLastBlanks(line: string): string {
  let end = line.length;
  while (line[end - 1] === "\r") end--;
  while (line[end - 1] === " " || line[end - 1] === "\t") end--;
  return line.slice(0, end);
}

/** Parses a Release file or the signed text of an InRelease; null if apt could read it differently. */
export function parseRelease(text: string): ReleaseFile | null {
  const { stanzas, problem } = readStanzas(text);
  const [stanza] = stanzas;
  // apt reads only the first stanza.
  if (problem !== null || stanzas.length > 1) return null;
  const value = (name: string) => stanza?.get(name) ?? null;
  return {
    origin: value("origin"),
    label: value("label"),
    suite: value("suite"),
    codename: value("codename"),
    date: value("date"),
    validUntil: value("valid-until"),
    changelogs: value("changelogs"),
  };
}
