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
 * Package files that nobody can change between the hook's look and dpkg's. apt downloads as its user `_apt` and then makes
 * the file root's, but a descriptor that was opened for writing before stays open: owner and mode say nothing of it. So
 * each file is copied into a fresh inode, the copy is checked, and it takes the name that apt gives to dpkg.
 */

/** The directory of the copies, below the run's archives so that a rename suffices. 0700: only root enters it. */
const COPIES = "checked";

/** The package files of one run. */
export interface PackageFiles {
  /**
   * Puts a copy in the place of the file at `path`, and returns digest and length of the copy.
   * `size` is what the file must have, in bytes: no more than that is copied.
   * @throws AegisError `hook_refused`, with the file at `path` as it was
   */
  replace(path: string, size: number): { sha256: string; size: number };
}

/**
 * The package files in `archives`, the run's private directory, where only root makes names.
 * @throws AegisError `hook_refused` where others than root could
 */
export function packageFiles(archives: string): PackageFiles {
  const problem = rootOnlyProblem(archives);
  if (problem !== null) throw refuse(problem);
  const directory = join(archives, COPIES);
  try {
    // Fails where it exists: whoever made it may have something open in it.
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    throw refuse(`can't make ${directory}: ${fileProblem(error)}`);
  }
  return {
    replace(path, size) {
      // A file elsewhere (sources of this host: file:, cdrom:) can't be replaced, and its descriptors can't be known.
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

/** Copies a regular file of `size` bytes to a new one, and hashes the new one. */
function copyFile(path: string, copy: string, size: number): { sha256: string; size: number } {
  const from = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(from);
    if (!stat.isFile()) throw refuse(`${path} is not a regular file`);
    if (stat.size !== size) throw refuse(`${path} has ${stat.size} bytes, the plan says ${size}`);
    const to = openSync(copy, "wx+", 0o600);
    try {
      copyBytes(from, to, size);
      // As apt leaves its own; who has a descriptor by now, got it for reading.
      fchmodSync(to, 0o644);
      return hashOpenFile(to);
    } finally {
      closeSync(to);
    }
  } finally {
    closeSync(from);
  }
}

/** Copies at most `size` bytes: a file that grows while it is read must not fill the disk. */
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
