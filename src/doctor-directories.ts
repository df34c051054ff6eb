import { closeSync, lstatSync, type Stats } from "node:fs";
import { basename, dirname } from "node:path";
import { logDirectoryProblem, openLogDirectory } from "./audit-production.ts";
import { AegisError } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { auditDir, type Env, SYSTEM, userPaths } from "./paths.ts";
import { ownDirProblem } from "./sys-own-directory.ts";
import { groupName } from "./sys-state.ts";

/** On Ubuntu, rsyslog's group may write /var/log (tmpfiles.d/00rsyslog.conf). */
const LOG_WRITERS = "syslog";

/** Whether this user's directories belong to the user, and the system's to root. */
export function directories(env: Env): Finding[] {
  const paths = userPaths(env);
  const own = [paths.data, paths.plans, paths.policy, paths.executions, paths.keys].flatMap((path) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return [];
    if ((stat.mode & 0o022) !== 0)
      return [fail("directories", `${path} can be written by others`, `Type: chmod go-w ${path}`)];
    return stat.uid === process.geteuid?.()
      ? []
      : [warn("directories", `${path} belongs to another user`, `Type: ls -ld ${path}`)];
  });
  const system = [SYSTEM.config, SYSTEM.state, SYSTEM.run].flatMap((path) => pathProblems(path));
  const all = [...foreignDirectories(env), ...own, ...system, ...logDirectory(SYSTEM.auditDir)];
  // Several paths share parent directories.
  const findings = [...new Map(all.map((finding) => [finding.message, finding])).values()];
  return findings.some(({ level }) => level !== "ok")
    ? findings
    : [ok("directories", `${paths.data}, ${SYSTEM.state}, ${SYSTEM.auditDir}`), ...findings];
}

/** As root: directories named by the environment whose parents don't belong to root, as after `sudo -E`. */
function foreignDirectories(env: Env): Finding[] {
  if (process.geteuid?.() !== 0) return [];
  const { data, cache, config, auditDir: own } = userPaths(env);
  const paths = [data, cache, config, ...(auditDir(env) === own ? [] : [auditDir(env)])];
  return paths.flatMap((path) => {
    const problem = ownDirProblem(dirname(path));
    if (problem === null) return [];
    return [fail("directories", `${problem}, but root would use it`, "Type: sudo -H aegis doctor")];
  });
}

/** Problems of `path` and its parents if others than root can change them; none if the path does not exist. */
function pathProblems(path: string): Finding[] {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
  const all: string[] = [path];
  for (let at = path; at !== "/"; at = dirname(at)) all.push(dirname(at));
  return all.flatMap((at) => {
    const stat = lstatSync(at);
    const problem = stat.isSymbolicLink() ? "is a symbolic link" : logDirectoryProblem(stat);
    return problem === null ? [] : [notRoots(at, problem)];
  });
}

const notRoots = (path: string, problem: string) =>
  fail(
    "directories",
    `${path} ${problem}`,
    `Type: ls -ld ${path}; then, as root: chown root ${path}; chmod go-w ${path}`,
  );

/** Checks root's log directory as the executor does. Its parent may be writable by the group that writes logs. */
function logDirectory(path: string): Finding[] {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
  const parent = dirname(path);
  const above = lstatSync(parent);
  return [...contentProblems(path), ...(isLogWriters(above) ? [note(path)] : pathProblems(parent))];
}

function contentProblems(path: string): Finding[] {
  try {
    closeSync(openLogDirectory(path));
    return [];
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    // A user who may not open it can still see its owner and mode.
    const stat = lstatSync(path);
    const problem = stat.isDirectory() ? logDirectoryProblem(stat) : "is not a directory";
    return problem === null ? [] : [notRoots(path, problem)];
  }
}

/** Whether it belongs to root and is writable by root and group syslog only. */
function isLogWriters({ uid, gid, mode }: Stats): boolean {
  return uid === 0 && (mode & 0o022) === 0o020 && groupName(gid) === LOG_WRITERS;
}

function note(path: string): Finding {
  return ok(
    "directories",
    `${dirname(path)} can be written by the group ${LOG_WRITERS}, the default on Ubuntu: its members can rename ${basename(path)} but not change it, and the executor refuses to continue another log`,
  );
}
