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
