/** First and last line of a key in ASCII armor (RFC 9580, 6.2). */
const BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END = "-----END PGP PUBLIC KEY BLOCK-----";
/** In characters. A whole distribution's keyring has a tenth of it. */
const MAX_ARMOR = 4 * 1024 * 1024;

/** Whether a text contains an ASCII-armored key. Like apt, ignores text before it. */
export function isArmored(text: string): boolean {
  return /(?:^|\n)[ \t]*-----BEGIN PGP PUBLIC KEY BLOCK-----/.test(text);
}

/**
 * The binary keys in ASCII armor, concatenated, for gpgv, which reads no armor. Null if a block is malformed or the
 * text is too large. The optional CRC is ignored: it protects against accidents only. Like apt's reader, makes one pass
 * over the lines, so the time is linear in the length.
 */
export function dearmor(text: string): Uint8Array | null {
  if (text.length > MAX_ARMOR) return null;
  const blocks: Uint8Array[] = [];
  /** Base64 lines of the current block; headers come before its first empty line. */
  let body: string[] = [];
  let part: "outside" | "headers" | "body" = "outside";
  for (const raw of text.split("\n")) {
    const line = raw.trim();
    if (line === BEGIN) {
      if (part !== "outside") return null;
      part = "headers";
      body = [];
    } else if (part === "headers" && line === "") part = "body";
    else if (line === END && part !== "outside") {
      const base64 = body.join("");
      if (base64 === "" || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return null;
      blocks.push(Buffer.from(base64, "base64"));
      part = "outside";
    } else if (part === "body" && line !== "" && !line.startsWith("=")) body.push(line);
  }
  return part !== "outside" || blocks.length === 0 ? null : Buffer.concat(blocks);
}
