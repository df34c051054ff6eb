import { createHash } from "node:crypto";
import { closeSync, openSync, readSync, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { errnoOf } from "./errors.ts";

/* Sizes, digests and free space, for what planning tells people about this host's disks. Nothing here throws. */

const CHUNK = 256 * 1024;
/** A configuration file is smaller; what is larger is not read. */
const LARGEST = 64 * 1024 * 1024;

/** The MD5 of a regular file; null if there is none, `unreadable` if this user may not read it or it is too large. */
export function md5Of(path: string): string | null {
  try {
    const status = statSync(path, { throwIfNoEntry: false });
    if (status === undefined) return null;
    // A FIFO would wait for a writer.
    if (!status.isFile() || status.size > LARGEST) return "unreadable";
    const file = openSync(path, "r");
    try {
      const hash = createHash("md5");
      const buffer = Buffer.alloc(Math.min(CHUNK, Math.max(1, status.size + 1)));
      for (let read = readSync(file, buffer); read > 0; read = readSync(file, buffer))
        hash.update(buffer.subarray(0, read));
      return hash.digest("hex");
    } finally {
      closeSync(file);
    }
  } catch (error) {
    return ["ENOENT", "ENOTDIR"].includes(errnoOf(error)) ? null : "unreadable";
  }
}

export function sizeOf(path: string): number | null {
  try {
    return statSync(path, { throwIfNoEntry: false })?.size ?? null;
  } catch {
    return null;
  }
}

/** The file system of `path`, or of the nearest directory above it that exists. Free: what is left for ordinary users (statfs(2)). */
export function spaceOf(path: string): { device: number; available: number } | null {
  for (let at = path; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = statfsSync(at);
      return { device: statSync(at).dev, available: bavail * bsize };
    } catch {
      if (at === dirname(at)) return null;
    }
  }
}
