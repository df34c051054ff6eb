import { closeSync, lstatSync, type Stats } from "node:fs";
import { basename, dirname } from "node:path";
import { logDirectoryProblem, openLogDirectory } from "./audit-production.ts";
import { AegisError } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { auditDir, type Env, SYSTEM, userPaths } from "./paths.ts";
import { ownDirProblem } from "./sys-own-directory.ts";
import { groupName } from "./sys-state.ts";

/** Of the groups that distributions let write /var/log: rsyslog's, on Ubuntu (tmpfiles.d/00rsyslog.conf). */
const LOG_WRITERS = "syslog";

/** Whether this user's directories are theirs, and the system's root's. */
export function directories(env: Env): Finding[] {
  const paths = userPaths(env);
  const own = [paths.data, paths.plans, paths.policy, paths.executions, paths.keys].flatMap((path) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return [];
    if ((stat.mode & 0o022) !== 0)
      return [fail("directories", `${path} can be written by others`, `Type: chmod go-w ${path}`)];
    return stat.uid === process.geteuid?.()
      ? []
      : [warn("directories", `${path} belongs to another user`, `Look: ls -ld ${path}`)];
  });
  const system = [SYSTEM.config, SYSTEM.state, SYSTEM.run].flatMap((path) => onTheWay(path));
  const all = [...foreign(env), ...own, ...system, ...logDirectory(SYSTEM.auditDir)];
  // One directory lies on the way to several.
  const findings = [...new Map(all.map((finding) => [finding.message, finding])).values()];
  return findings.some(({ level }) => level !== "ok")
    ? findings
    : [ok("directories", `${paths.data}, ${SYSTEM.state}, ${SYSTEM.auditDir}`), ...findings];
}

/** As root: what lies above the directories that the environment names, and isn't root's, as after `sudo -E`. */
function foreign(env: Env): Finding[] {
  if (process.geteuid?.() !== 0) return [];
  const { data, cache, config, auditDir: own } = userPaths(env);
  const places = [data, cache, config, ...(auditDir(env) === own ? [] : [auditDir(env)])];
  return places.flatMap((path) => {
    const problem = ownDirProblem(dirname(path));
    if (problem === null) return [];
    return [fail("directories", `${problem}, and root would use it`, "Type: sudo -H aegis doctor")];
  });
}

/** Directories on the way to `path`, itself included, that others than root can change. None where there is no such path. */
function onTheWay(path: string): Finding[] {
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
    `Look: ls -ld ${path}; then, as root: chown root ${path}; chmod go-w ${path}`,
  );

/** Root's log: it is opened as the executor does, and what is above it may be writable by those who write logs. */
function logDirectory(path: string): Finding[] {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
  const parent = dirname(path);
  const above = lstatSync(parent);
  return [...inside(path), ...(isLogWriters(above) ? [note(path)] : onTheWay(parent))];
}

function inside(path: string): Finding[] {
  try {
    closeSync(openLogDirectory(path));
    return [];
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    // Who may not list it can't open it; what it is can be seen all the same.
    const stat = lstatSync(path);
    const problem = stat.isDirectory() ? logDirectoryProblem(stat) : "is no directory";
    return problem === null ? [] : [notRoots(path, problem)];
  }
}

/** Root's, and writable by group syslog besides; by nobody else. */
function isLogWriters({ uid, gid, mode }: Stats): boolean {
  return uid === 0 && (mode & 0o022) === 0o020 && groupName(gid) === LOG_WRITERS;
}

function note(path: string): Finding {
  return ok(
    "directories",
    `${dirname(path)} can be written by the group ${LOG_WRITERS}, as Ubuntu has it: its members can rename ${basename(path)}, not change it, and the executor refuses to go on with another log`,
  );
}
