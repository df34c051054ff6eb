import { lstatSync, mkdirSync, type Stats } from "node:fs";
import { dirname, resolve } from "node:path";
import { AegisError, errnoOf } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { ensureDir, fileProblem } from "./sys-files.ts";

/*
 * Checks of the directories named by a user's variables (HOME, XDG_*_HOME, AEGIS_AUDIT_LOG_DIR) when the user is root.
 * With `sudo -E` or HOME=/home/alice, alice could replace a directory on the path to root's files by another or by a
 * link while apt reads its settings there or the log is written. So root uses a directory only if nobody else can
 * change the path to it.
 */

/**
 * Creates `path` (0700) and missing parents. As root, every directory from / down must be writable by root alone; other
 * users may use any path.
 * @throws AegisError `refused` naming the directory and its owner, `io`
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
    const what = `can't create the directory ${path}: ${fileProblem(error)}`;
    throw new AegisError("io", what, `Check: ls -ld ${dirname(path)}`, { errno: errnoOf(error) });
  }
  if (problem !== null) throw refusal(path, problem);
}

/**
 * Why root should not use the directory `path`, or null. A missing directory is no problem. The result stays true: only
 * root can change each directory from / down, so nobody else can replace the next one.
 */
export function ownDirProblem(path: string): string | null {
  try {
    return walk(resolve(path), false);
  } catch (error) {
    return `${path}: ${fileProblem(error)}`;
  }
}

/** Why root should not trust the file `path`, or null: only root may be able to change it and the path to it. */
export function ownFileProblem(path: string): string | null {
  const problem = ownDirProblem(dirname(path));
  if (problem !== null) return problem;
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined ? null : entryProblem(path, stat, { sticky: false });
}

function walk(path: string, create: boolean): string | null {
  const parents: string[] = [];
  for (let current = path; current !== "/"; current = dirname(current)) parents.unshift(current);
  for (const current of ["/", ...parents]) {
    const stat = statOrCreate(current, create);
    if (stat === undefined) return null;
    if (!stat.isDirectory() && !stat.isSymbolicLink()) throw new Error(`${current} is not a directory`);
    // In a sticky directory such as /tmp others can't replace root's entries, but they could add some to the directory
    // root writes.
    const problem = entryProblem(current, stat, { sticky: current !== path });
    if (problem !== null) return problem;
  }
  return null;
}

/** One directory of the path, created if missing. If another user creates it first, its owner gives that away. */
function statOrCreate(path: string, create: boolean): Stats | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat !== undefined || !create) return stat;
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
  // rsyslog gives /var/log to its group; members could write the system's own logs anyway.
  const others = path === dirname(SYSTEM.auditDir) ? 0o002 : 0o022;
  return (stat.mode & others) === 0 ? null : `${path} can be written by others than root`;
}

function refusal(path: string, problem: string): AegisError {
  return new AegisError(
    "refused",
    `root can't use ${path}: ${problem}, so others could change what root reads and writes there`,
    "Use root's own directories: sudo -H, or HOME=/root. XDG_*_HOME and AEGIS_AUDIT_LOG_DIR must also name directories that only root can change.",
  );
}
