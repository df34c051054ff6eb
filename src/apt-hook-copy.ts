import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
} from "node:fs";
import { basename, join } from "node:path";
import { AegisError } from "./errors.ts";
import { fileProblem, hashOpenFile, rootOnlyProblem, writeFully } from "./sys-files.ts";

/*
 * Keeps package files from changing between the hook's check and dpkg's use. apt downloads as user `_apt` and then
 * gives the file to root, but a descriptor opened for writing before stays valid, whatever owner and mode say. So each
 * file is copied to a new inode, the copy is checked and renamed to the name that apt passes to dpkg.
 */

/** Directory of the copies, inside the run's archives so that a rename suffices. 0700: only root can enter it. */
const COPIES = "checked";

/** The package files of one run. */
export interface PackageFiles {
  /**
   * Replaces the file at `path` with a copy, and returns the copy's digest and length. `size` is the required length in
   * bytes; no more is copied.
   * @throws AegisError `hook_refused`; the file at `path` is unchanged
   */
  replace(path: string, size: number): { sha256: string; size: number };
}

/**
 * The package files in `archives`, the run's private directory, where only root can create names.
 * @throws AegisError `hook_refused` if others can
 */
export function packageFiles(archives: string): PackageFiles {
  const problem = rootOnlyProblem(archives);
  if (problem !== null) throw refuse(problem);
  const directory = join(archives, COPIES);
  try {
    // Fails if it exists: its creator may have open descriptors inside.
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    throw refuse(`can't create ${directory}: ${fileProblem(error)}`);
  }
  return {
    replace(path, size) {
      // A file elsewhere (file: and cdrom: sources) can't be replaced, and its open descriptors are unknown.
      if (path !== join(archives, basename(path))) {
        throw refuse(`${path} is not in ${archives}, where this run's packages belong`);
      }
      const copy = join(directory, basename(path));
      try {
        const found = copyFile(path, copy, size);
        renameSync(copy, path);
        return found;
      } catch (error) {
        rmSync(copy, { force: true });
        throw error instanceof AegisError ? error : refuse(`can't copy ${path}: ${fileProblem(error)}`);
      }
    },
  };
}

/** Copies a regular file of `size` bytes to a new one, and hashes the copy. */
function copyFile(path: string, copy: string, size: number): { sha256: string; size: number } {
  const from = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(from);
    if (!stat.isFile()) throw refuse(`${path} is not a regular file`);
    if (stat.size !== size) throw refuse(`${path} has ${stat.size} bytes, the plan says ${size}`);
    const to = openSync(copy, "wx+", 0o600);
    try {
      copyBytes(from, to, size);
      // Like apt's own files. From here on, others can only open it for reading.
      fchmodSync(to, 0o644);
      return hashOpenFile(to);
    } finally {
      closeSync(to);
    }
  } finally {
    closeSync(from);
  }
}

/** Copies at most `size` bytes: a file that grows meanwhile must not fill the disk. */
function copyBytes(from: number, to: number, size: number): void {
  const piece = Buffer.allocUnsafe(1 << 20);
  for (let left = size; left > 0; ) {
    const n = readSync(from, piece, 0, Math.min(left, piece.length), null);
    if (n === 0) return;
    writeFully(to, piece.subarray(0, n));
    left -= n;
  }
}

function refuse(why: string): AegisError {
  return new AegisError("hook_refused", why);
}
