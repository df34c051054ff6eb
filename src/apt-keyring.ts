import { normalize } from "node:path";
import { dearmor, isArmored } from "./apt-armor.ts";
import type { AptSource } from "./apt-source.ts";
import type { AptDirs } from "./apt-sources.ts";
import type { Planning } from "./eco-planning.ts";

/** One good signature. */
export interface GoodSignature {
  /** Fingerprint of the key or subkey that signed; null where the program that verified it doesn't say. */
  fingerprint: string | null;
  /** Fingerprint of the primary key it belongs to. */
  primary: string;
}

/** Hash algorithms (RFC 9580, 9.5) that prove nothing any more: MD5, SHA-1, RIPE-MD/160. */
const WEAK_HASHES: readonly string[] = ["1", "2", "3"];

/**
 * Reads the status lines of `gpgv --status-fd 1`. A signature counts with GOODSIG followed by VALIDSIG; one by an expired
 * or revoked key has EXPKEYSIG or REVKEYSIG instead, with a VALIDSIG all the same. `bad`: a signature that doesn't fit.
 * @see doc/DETAILS of GnuPG, "GOODSIG", "VALIDSIG"
 */
export function parseGpgStatus(stdout: string): { good: GoodSignature[]; bad: boolean } {
  const good: GoodSignature[] = [];
  let bad = false;
  let promising = false;
  for (const line of stdout.split("\n")) {
    const [tag, keyword = "", ...args] = line.split(" ");
    if (tag !== "[GNUPG:]") continue;
    if (keyword === "BADSIG") bad = true;
    if (/^(?:NEWSIG|GOODSIG|BADSIG|ERRSIG|EXPSIG|EXPKEYSIG|REVKEYSIG)$/.test(keyword)) {
      promising = keyword === "GOODSIG";
    }
    if (keyword !== "VALIDSIG" || !promising) continue;
    promising = false;
    const [fingerprint = "", hash = "", primary = ""] = [args[0], args[7], args[9]];
    if (WEAK_HASHES.includes(hash) || !isFingerprint(fingerprint)) continue;
    good.push({ fingerprint, primary: isFingerprint(primary) ? primary : fingerprint });
  }
  return { good: bad ? [] : good, bad };
}

function isFingerprint(text: string): boolean {
  return /^(?:[0-9A-F]{40}|[0-9A-F]{64})$/.test(text);
}

/** The keys that a source is bound to. */
export interface Binding {
  keyrings: string[];
  /** Upper case, a last `!` for "this subkey only"; empty for any key of the keyrings. */
  fingerprints: string[];
  problems: string[];
}

/** A path as long and as plain as an argument of gpgv may be. */
const PLAIN = /^\P{C}{1,1000}$/u;

/** Keyrings and fingerprints of Signed-By (sources.list(5)); without any path, all that apt trusts by default. */
export function bindingOf(source: AptSource, dirs: AptDirs, planning: Planning): Binding {
  const binding: Binding = { keyrings: [], fingerprints: [], problems: [] };
  const addKeyring = (path: string, text: string) => {
    const keys = isArmored(text) ? dearmor(text) : null;
    if (keys !== null) binding.keyrings.push(planning.temporary("keyring.gpg", keys));
    else if (isArmored(text)) binding.problems.push(`the key in ${path} is malformed`);
    else binding.keyrings.push(path);
  };
  const signedBy = source.signedBy ?? "";
  if (isArmored(signedBy)) {
    addKeyring(source.configuredIn, signedBy);
    return binding;
  }
  // To apt only ASCII has blanks.
  const words = signedBy.split(/[ \t\n,]+/).filter((word) => word !== "");
  for (const word of words) {
    if (word.startsWith("/")) {
      const path = normalize(word);
      const text = PLAIN.test(path) ? planning.readText(path) : null;
      if (text === null) binding.problems.push(`the keyring ${word} can't be read`);
      else addKeyring(path, text);
    } else if (/^(?:[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})!?$/.test(word)) {
      binding.fingerprints.push(word.toUpperCase());
    } else {
      binding.problems.push("Signed-By names something that is neither a keyring nor a fingerprint");
    }
  }
  if (!words.some((word) => word.startsWith("/"))) {
    const parts = planning
      .list(dirs.trustedParts)
      // The names that apt reads (GetListOfFilesInDir, apt-pkg/contrib/fileutl.cc).
      .filter((name) => /^[A-Za-z0-9_:-][A-Za-z0-9._:-]*\.(?:gpg|asc)$/.test(name));
    for (const path of [dirs.trusted, ...parts.map((name) => `${dirs.trustedParts}/${name}`)]) {
      const text = planning.readText(path);
      if (text !== null && isKeyring(path, text)) addKeyring(path, text);
    }
  }
  return binding;
}

/**
 * Of the files for every source, apt takes those that are what their name says and leaves out the rest, whatever the rest
 * is; sqv would stumble over one of another format. A binary one begins with the packet of a public key, 0x98, 0x99 or
 * 0xc6, none of which is text.
 */
function isKeyring(path: string, text: string): boolean {
  return path.endsWith(".asc") ? dearmor(text) !== null : /^[\ufffd\u0180-\u01bf]/.test(text);
}

/** True for a signature by a key that the fingerprints allow; a last `!` allows that very subkey only. */
export function isAllowed({ fingerprint, primary }: GoodSignature, fingerprints: readonly string[]): boolean {
  return (
    fingerprints.length === 0 ||
    fingerprints.some((f) =>
      f.endsWith("!") ? f.slice(0, -1) === fingerprint : f === fingerprint || f === primary,
    )
  );
}
