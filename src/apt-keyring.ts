import { normalize } from "node:path";
import { dearmor, isArmored } from "./apt-armor.ts";
import type { AptSource } from "./apt-source.ts";
import type { AptDirs } from "./apt-sources.ts";
import type { Planning } from "./eco-planning.ts";

/** One good signature. */
export interface GoodSignature {
  /** Fingerprint of the signing key or subkey; null if the verifier doesn't report it. */
  fingerprint: string | null;
  /** Fingerprint of its primary key. */
  primary: string;
}

/** Broken hash algorithms (RFC 9580, 9.5): MD5, SHA-1, RIPEMD-160. */
const WEAK_HASHES: readonly string[] = ["1", "2", "3"];

/**
 * Parses the output of `gpgv --status-fd 1`. A signature is good with GOODSIG followed by VALIDSIG; an expired or
 * revoked key gives EXPKEYSIG or REVKEYSIG instead, also followed by VALIDSIG. `bad`: a signature that doesn't match.
 * @see doc/DETAILS of GnuPG, "GOODSIG", "VALIDSIG"
 */
export function parseGpgStatus(stdout: string): { good: GoodSignature[]; bad: boolean } {
  const good: GoodSignature[] = [];
  let bad = false;
  let goodSig = false;
  for (const line of stdout.split("\n")) {
    const [tag, keyword = "", ...args] = line.split(" ");
    if (tag !== "[GNUPG:]") continue;
    if (keyword === "BADSIG") bad = true;
    if (/^(?:NEWSIG|GOODSIG|BADSIG|ERRSIG|EXPSIG|EXPKEYSIG|REVKEYSIG)$/.test(keyword)) {
      goodSig = keyword === "GOODSIG";
    }
    if (keyword !== "VALIDSIG" || !goodSig) continue;
    goodSig = false;
    const [fingerprint = "", hash = "", primary = ""] = [args[0], args[7], args[9]];
    if (WEAK_HASHES.includes(hash) || !isFingerprint(fingerprint)) continue;
    good.push({ fingerprint, primary: isFingerprint(primary) ? primary : fingerprint });
  }
  return { good: bad ? [] : good, bad };
}

function isFingerprint(text: string): boolean {
  return /^(?:[0-9A-F]{40}|[0-9A-F]{64})$/.test(text);
}

/** The keys accepted for a source. */
export interface Binding {
  keyrings: string[];
  /** Upper case, with a trailing `!` for exactly that subkey; empty for any key in the keyrings. */
  fingerprints: string[];
  problems: string[];
}

/** A path suitable as an argument of gpgv. */
const PLAIN = /^\P{C}{1,1000}$/u;

/** Keyrings and fingerprints from Signed-By (sources.list(5)); without a path, apt's default keyrings. */
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
  // apt splits at ASCII blanks only.
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
      // File names apt reads (GetListOfFilesInDir, apt-pkg/contrib/fileutl.cc).
      .filter((name) => /^[A-Za-z0-9_:-][A-Za-z0-9._:-]*\.(?:gpg|asc)$/.test(name));
    for (const path of [dirs.trusted, ...parts.map((name) => `${dirs.trustedParts}/${name}`)]) {
      const text = planning.readText(path);
      if (text !== null && isKeyring(path, text)) addKeyring(path, text);
    }
  }
  return binding;
}

/**
 * Among the default keyrings apt uses the files whose content matches their extension and ignores the rest; sqv would
 * fail on another format. A binary keyring starts with a public key packet, 0x98, 0x99 or 0xc6, none of which is text.
 */
function isKeyring(path: string, text: string): boolean {
  return path.endsWith(".asc") ? dearmor(text) !== null : /^[\ufffd\u0180-\u01bf]/.test(text);
}

/** Whether the fingerprints allow a signature's key; a trailing `!` allows exactly that subkey. */
export function isAllowed({ fingerprint, primary }: GoodSignature, fingerprints: readonly string[]): boolean {
  return (
    fingerprints.length === 0 ||
    fingerprints.some((f) =>
      f.endsWith("!") ? f.slice(0, -1) === fingerprint : f === fingerprint || f === primary,
    )
  );
}
