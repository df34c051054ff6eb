import { createHash } from "node:crypto";
import { badArchive } from "./eco-archive.ts";

/*
 * What a package signature covers: the file as it was before the signature was put into it. The archive has been read strictly before,
 * so its directory is sound and its entries lie side by side.
 * https://github.com/NuGet/Home/wiki/Package-Signatures-Technical-Details
 */

const SIGNATURE_FILE = ".signature.p7s";
const [END_SIZE, CENTRAL_SIZE] = [22, 46];

/**
 * The hash of a package file without its signature.
 * @throws AegisError `refused` for one that has none, or has it packed
 */
export function hashWithoutSignature(bytes: Uint8Array, algorithm: "sha256" | "sha384" | "sha512"): Buffer {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = view.length - END_SIZE;
  const start = view.readUInt32LE(end + 16);
  const records: { from: number; to: number; offset: number }[] = [];
  let signature = -1;
  for (let at = start; at < end; ) {
    const [name = 0, extra = 0, comment = 0] = [28, 30, 32].map((offset) => view.readUInt16LE(at + offset));
    const to = at + CENTRAL_SIZE + name + extra + comment;
    const isSignature =
      view.toString("latin1", at + CENTRAL_SIZE, at + CENTRAL_SIZE + name) === SIGNATURE_FILE;
    if (isSignature && view.readUInt16LE(at + 10) !== 0) throw badArchive("its signature is packed");
    if (isSignature) signature = records.length;
    records.push({ from: at, to, offset: view.readUInt32LE(at + 42) });
    at = to;
  }
  const signed = records[signature];
  if (signed === undefined) throw badArchive("it has no signature");
  const ends = [...records.map(({ offset }) => offset), start].sort((a, b) => a - b);
  const signatureEnd = ends.find((offset) => offset > signed.offset) ?? start;
  const size = signatureEnd - signed.offset;
  const hash = createHash(algorithm);
  hash.update(view.subarray(0, signed.offset)).update(view.subarray(signatureEnd, start));
  for (const { from, to, offset } of records) {
    if (from === signed.from) continue;
    const record = Buffer.from(view.subarray(from, to));
    record.writeUInt32LE(offset > signed.offset ? offset - size : offset, 42);
    hash.update(record);
  }
  const tail = Buffer.from(view.subarray(end));
  for (const at of [8, 10]) tail.writeUInt16LE(tail.readUInt16LE(at) - 1, at);
  tail.writeUInt32LE(tail.readUInt32LE(12) - (signed.to - signed.from), 12);
  tail.writeUInt32LE(tail.readUInt32LE(16) - size, 16);
  return hash.update(tail).digest();
}
