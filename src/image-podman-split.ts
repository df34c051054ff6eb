import { createHash } from "node:crypto";
import { closeSync, constants, createReadStream, openSync, readSync } from "node:fs";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { openBeneath, reopen } from "./sys-beneath.ts";

/*
 * What podman notes of a layer's tar archive beside the unpacked files, to put it together again when an image is saved or pushed:
 * https://github.com/vbatts/tar-split/blob/v0.11.2/tar/storage/entry.go. It is podman's own, and taken over only if archive and files
 * really come out of it.
 */

/** Bytes of all lines together: headers, mostly, and padding. */
const MAX_TEXT = 2 * 1024 ** 3;
const CHUNK = 1024 * 1024;

const Entry = v.variant("type", [
  // A file, whose content is on disk.
  v.looseObject({ type: v.literal(1), name: v.optional(v.string(), ""), size: v.optional(v.number(), 0) }),
  // Bytes of the archive between them.
  v.looseObject({ type: v.literal(2), payload: v.string() }),
]);

/** Whether `split`, a file of podman's, and the files of a layer's directory make the archive with this digest. */
export async function makesLayer(split: string, directory: string, diffId: string): Promise<boolean> {
  const hash = createHash("sha256");
  const root = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  const buffer = Buffer.alloc(CHUNK);
  try {
    const text = createReadStream(split).pipe(createGunzip());
    let length = 0;
    for await (const line of createInterface({ input: text, crlfDelay: Number.POSITIVE_INFINITY })) {
      length += line.length;
      if (length > MAX_TEXT) return false;
      const entry = v.parse(Entry, parseJson(line));
      if (entry.type === 2) hash.update(Buffer.from(entry.payload, "base64"));
      else if (entry.size > 0 && !addFile(root, entry.name, buffer, (part) => hash.update(part)))
        return false;
    }
    return `sha256:${hash.digest("hex")}` === diffId;
  } catch {
    return false; // It isn't what podman writes.
  } finally {
    closeSync(root);
  }
}

function addFile(root: number, name: string, buffer: Buffer, add: (part: Buffer) => void): boolean {
  const path = openBeneath(root, name.replace(/^(?:\.?\/)+/, ""));
  if (path === null) return false;
  let file = -1;
  try {
    file = reopen(path);
    for (;;) {
      const length = readSync(file, buffer);
      if (length === 0) return true;
      add(buffer.subarray(0, length));
    }
  } finally {
    closeSync(path);
    if (file >= 0) closeSync(file);
  }
}
