import { lstatSync, readlinkSync, statSync } from "node:fs";
import { AegisError } from "./errors.ts";
import { isDirectory, typedPath, writeFileAtomic, writeHint } from "./sys-files.ts";

/* Files that a user names as a command's output. */

/**
 * {@link writeFileAtomic} to a path the user typed.
 * @throws AegisError `usage` for a path that can't be written, `io`
 */
export function writeTyped(path: string, data: string): void {
  const other = otherThanFile(path);
  if (other !== null) {
    const hint = isDirectory(path) ? writeHint(path, "EISDIR") : "Give a file; it is replaced as a whole.";
    throw new AegisError("usage", `can't write ${path}: it is ${other}`, hint);
  }
  typedPath(() => writeFileAtomic(path, data));
}

/**
 * What else than a file is at a path, in words. Renaming a file over it would replace it: as root /dev/null and /dev/stdout, for
 * everybody. Over a directory such as /tmp it would fail with a confusing error about its parent.
 */
function otherThanFile(path: string): string | null {
  if (isDirectory(path)) return "a directory";
  try {
    const link = lstatSync(path);
    if (link.isSymbolicLink() && readlinkSync(path).startsWith("/proc/")) return "a link to an open file";
    return statSync(path).isFile() ? null : "a device, pipe or socket";
  } catch {
    // Nothing is there, or writing will say why it can't be examined.
    return null;
  }
}
