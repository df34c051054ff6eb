/** A key in ASCII armor (RFC 9580, 6.2) begins and ends with these lines. */
const BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END = "-----END PGP PUBLIC KEY BLOCK-----";
/** In characters. The keyring of a whole distribution has a tenth of it. */
const MAX_ARMOR = 4 * 1024 * 1024;

/** True for text that holds an ASCII-armored key; what stands before it is no part of it, to apt either. */
export function isArmored(text: string): boolean {
  return /(?:^|\n)[ \t]*-----BEGIN PGP PUBLIC KEY BLOCK-----/.test(text);
}

/**
 * The binary keys in ASCII armor, one block after the other, for gpgv, which reads nothing else. Null where a block is
 * malformed or the whole is too large. The optional CRC line is passed over: it protects against accidents only. One pass
 * over the lines, as apt's own reader makes it: the time is linear in the length, whatever the text is.
 */
export function dearmor(text: string): Uint8Array | null {
  if (text.length > MAX_ARMOR) return null;
  const blocks: Uint8Array[] = [];
  /** The base64 lines of the block that is open; headers stand before its first empty line. */
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
