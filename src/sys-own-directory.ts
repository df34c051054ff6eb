import { lstatSync, mkdirSync, type Stats } from "node:fs";
import { dirname, resolve } from "node:path";
import { AegisError, errnoOf } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { ensureDir, fileProblem } from "./sys-files.ts";

/*
 * The directories that a user's variables name (HOME, XDG_*_HOME, AEGIS_AUDIT_LOG_DIR), when the user is root. `sudo -E` and
 * HOME=/home/alice put root's files where alice can replace any directory on the way by another or by a link, while apt reads
 * its settings there or the log is written. So root uses a directory only where nobody else can change the way to it.
 */

/**
 * Makes `path`, 0700, where it is missing, with what is missing above it. As root, every directory from / down must then be
 * root's alone; other users may use what they like.
 * @throws AegisError `refused` saying which directory is whose, `io`
 */
export function ensureOwnDir(path: string, uid = process.geteuid?.()): void {
  if (uid !== 0) {
    ensureDir(path);
    return;
  }
  let problem: string | null;
  try {
    problem = walk(resolve(path), true);
  } catch (error) {
    const what = `can't make the directory ${path}: ${fileProblem(error)}`;
    throw new AegisError("io", what, `Look: ls -ld ${dirname(path)}`, { errno: errnoOf(error) });
  }
  if (problem !== null) throw refusal(path, problem);
}

/**
 * Why root should not use the directory `path`, or null. What does not exist yet is no problem.
 * Stays true: from / down each directory is one that only root can change, so nobody else can replace the next.
 */
export function ownDirProblem(path: string): string | null {
  try {
    return walk(resolve(path), false);
  } catch (error) {
    return `${path}: ${fileProblem(error)}`;
  }
}

/** Why root should not believe the file `path`, or null: it and the way to it must be root's alone. */
export function ownFileProblem(path: string): string | null {
  const problem = ownDirProblem(dirname(path));
  if (problem !== null) return problem;
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined ? null : entryProblem(path, stat, { sticky: false });
}

function walk(path: string, make: boolean): string | null {
  const parents: string[] = [];
  for (let current = path; current !== "/"; current = dirname(current)) parents.unshift(current);
  for (const current of ["/", ...parents]) {
    const stat = look(current, make);
    if (stat === undefined) return null;
    if (!stat.isDirectory() && !stat.isSymbolicLink()) throw new Error(`${current} is not a directory`);
    // In a sticky directory such as /tmp nobody can replace what is root's; what root writes into needs more.
    const problem = entryProblem(current, stat, { sticky: current !== path });
    if (problem !== null) return problem;
  }
  return null;
}

/** One step of the way, made where it is missing. Whoever makes it first is found out by its owner. */
function look(path: string, make: boolean): Stats | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat !== undefined || !make) return stat;
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
  }
  return lstatSync(path);
}

function entryProblem(path: string, stat: Stats, { sticky }: { sticky: boolean }): string | null {
  if (stat.isSymbolicLink()) return `${path} is a symbolic link`;
  if (stat.uid !== 0) return `${path} belongs to another user (uid ${stat.uid})`;
  if (sticky && (stat.mode & 0o1000) !== 0) return null;
  // rsyslog makes /var/log its group's; who is in that group could write the system's own logs anyway.
  const others = path === dirname(SYSTEM.auditDir) ? 0o002 : 0o022;
  return (stat.mode & others) === 0 ? null : `${path} can be written by others than root`;
}

function refusal(path: string, problem: string): AegisError {
  return new AegisError(
    "refused",
    `root can't use ${path}: ${problem}, and so others could change what root reads and writes there`,
    "Use root's own directories: sudo -H, or HOME=/root; XDG_*_HOME and AEGIS_AUDIT_LOG_DIR too must name what is root's alone.",
  );
}
