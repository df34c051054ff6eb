import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { METRICS_FILE, SYSTEM } from "./paths.ts";
import { readConfig } from "./sys-config.ts";
import { createFileExclusive } from "./sys-files.ts";

/** The group whose members may submit plans and read outcomes. */
export const ADMIN_GROUP = "aegis-admin";
/** The group whose members may ask the reviewer. */
export const REVIEW_GROUP = "aegis-review";
/** Users that the front, the reviewer, tools with managed directories, the downloads for those, the notifier and the feeds run as. Each has a group of its name. */
export const USERS = {
  front: "aegis-front",
  reviewer: "aegis-reviewd",
  build: "aegis-build",
  fetch: "aegis-fetch",
  notify: "aegis-notify",
  feeds: "aegis-feeds",
} as const;

/** Paths and ownership of an executor's state. */
export interface StatePaths {
  /** One directory per execution: the run's input and output. */
  runs: string;
  /** One outcome per execution. */
  results: string;
  /** The record of used plans and approvals. */
  used: string;
  /** The run lock and the queue. */
  lock: string;
  /** Directories of package files, one per run. */
  archives: string;
  /** The requests that wait for a person, and how others ended. */
  requests: string;
  /** Where clients prove who they are: one pipe per call, for its user alone. */
  proofs: string;
  /** The states of requests, for everybody. */
  run: string;
  /** What people are to be told of requests. */
  notices: string;
  /** The log of executions. */
  audit: string;
  /** Uid whose files are trusted. */
  owner: number;
  /** Group that may read outcomes, if it exists. */
  readers: string;
}

/** The production executor's state. All of it belongs to root; the admin group can read `results` only. */
export const STATE = {
  /** One directory per execution: configuration, receipt, output. 0700. */
  runs: join(SYSTEM.state, "runs"),
  /** One root-owned outcome per execution. 0750, group aegis-admin where it exists. */
  results: join(SYSTEM.state, "results"),
  /** The record of used plans and approvals. 0700. */
  used: join(SYSTEM.state, "spent"),
  /** The run lock and the queue. 0700: anyone who can open a lock file can hold it. */
  lock: join(SYSTEM.state, "lock"),
  /** Directories of package files, one per run. 0755: a tool's own users must reach them. */
  archives: "/var/cache/aegis/archives",
  /** One file per request, and its documents while it waits. 0700. */
  requests: join(SYSTEM.state, "requests"),
  /** 0711: a user must reach their own pipe by its name, and find no other. */
  proofs: join(SYSTEM.run, "proof"),
  run: SYSTEM.run,
  /** 2750: each notice gets the notifier's group. */
  notices: SYSTEM.notices,
  audit: SYSTEM.auditDir,
  owner: 0,
  readers: ADMIN_GROUP,
} as const satisfies StatePaths;

/** A directory of a production host and its ownership. */
export interface Directory {
  path: string;
  mode: number;
  user: "root" | typeof USERS.reviewer | typeof USERS.notify | typeof USERS.feeds;
  group: "root" | typeof ADMIN_GROUP | typeof USERS.reviewer | typeof USERS.notify | typeof USERS.feeds;
}

/** The executor's directories, parents first. */
export const STATE_DIRECTORIES: readonly Directory[] = [
  { path: SYSTEM.state, mode: 0o755, user: "root", group: "root" },
  { path: STATE.runs, mode: 0o700, user: "root", group: "root" },
  { path: STATE.used, mode: 0o700, user: "root", group: "root" },
  { path: STATE.lock, mode: 0o700, user: "root", group: "root" },
  { path: STATE.requests, mode: 0o700, user: "root", group: "root" },
  { path: STATE.notices, mode: 0o2750, user: "root", group: USERS.notify },
  { path: STATE.run, mode: 0o755, user: "root", group: "root" },
  // For members alone: with a compromised front nobody else can prove a call either, since the kernel keeps them out.
  { path: STATE.proofs, mode: 0o710, user: "root", group: ADMIN_GROUP },
  // Set-group-id here too: an outcome always has its group, even between rename and chown.
  { path: STATE.results, mode: 0o2750, user: "root", group: ADMIN_GROUP },
  { path: dirname(METRICS_FILE), mode: 0o755, user: "root", group: "root" },
  { path: "/var/cache/aegis", mode: 0o755, user: "root", group: "root" },
  { path: STATE.archives, mode: 0o755, user: "root", group: "root" },
  // Names for everybody, so that all plans say the same; contents for members.
  { path: SYSTEM.kept, mode: 0o755, user: "root", group: "root" },
  // Set-group-id: every log file gets the admin group. Others may traverse, to the reviewer's log below.
  { path: SYSTEM.auditDir, mode: 0o2751, user: "root", group: ADMIN_GROUP },
];

/** The numeric id of a group in /etc/group, or null. */
export function groupId(name: string): number | null {
  return numericId(entries(readFileSync("/etc/group", "utf8")).find(([found]) => found === name)?.[2]);
}

/** The name of a group in /etc/group, or null. */
export function groupName(gid: number): string | null {
  const line = readFileSync("/etc/group", "utf8")
    .split("\n")
    .find((entry) => entry.split(":")[2] === String(gid));
  return line?.split(":")[0] ?? null;
}

/** The name of a user in /etc/passwd, or null. */
export function userName(uid: number, passwd: string = readFileSync("/etc/passwd", "utf8")): string | null {
  return entries(passwd).find((fields) => numericId(fields[2]) === uid)?.[0] ?? null;
}

/** The numeric ids of a user in /etc/passwd, or null. */
export function userIds(
  name: string,
  passwd: string = readFileSync("/etc/passwd", "utf8"),
): { uid: number; gid: number } | null {
  const fields = entries(passwd).find(([found]) => found === name);
  const [uid, gid] = [numericId(fields?.[2]), numericId(fields?.[3])];
  return uid === null || gid === null ? null : { uid, gid };
}

/**
 * An id as such a file has it; null for anything else. 2³² - 1 leaves root's id as it is (setresuid(2)), and setpriv(1) takes
 * larger ones modulo 2³²: both would be root.
 */
function numericId(text: string | undefined): number | null {
  const id = /^\d{1,10}$/.test(text ?? "") ? Number(text) : Number.POSITIVE_INFINITY;
  return id < 2 ** 32 - 1 ? id : null;
}

/**
 * Creates the executor's missing directories, and refuses any that isn't root's or that others can write.
 * @throws AegisError `io`
 */
export function prepareState(): void {
  for (const directory of STATE_DIRECTORIES) rootDirectory(directory);
}

function rootDirectory({ path, mode, group }: Directory): void {
  const gid = groupId(group) ?? 0;
  try {
    // RestrictSUIDSGID= makes mkdir(2) with the set-group-id bit fail even if the directory exists.
    mkdirSync(path, { mode: mode & 0o777 });
    own(path, mode, gid);
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") {
      throw noSpace(error, path) ?? new AegisError("io", `can't create ${path}: ${messageOf(error)}`);
    }
  }
  const stat = lstatSync(path);
  if (!stat.isDirectory() || stat.uid !== 0 || (stat.mode & 0o022) !== 0) {
    throw new AegisError(
      "io",
      `${path} must be a directory that belongs to root and that only root can write`,
      `Check it: ls -ld ${path}; then, as root: chown root:${gid === 0 ? "root" : group} ${path} && chmod ${mode.toString(8).padStart(5, "0")} ${path}`,
    );
  }
}

/**
 * Sets owner and mode through a descriptor: where others can write the parent, the name may already mean something
 * else.
 */
function own(path: string, mode: number, gid: number): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    if (fstatSync(fd).uid !== 0) return; // The check that follows refuses it.
    fchownSync(fd, 0, gid);
    fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
}

/**
 * The error for a full disk or quota, or null for any other error. `fallback` is the directory, if the error has no
 * path.
 */
export function noSpace(error: unknown, fallback: string): AegisError | null {
  const errno = errnoOf(error);
  if (errno !== "ENOSPC" && errno !== "EDQUOT") return null;
  const path = error instanceof Error && "path" in error && typeof error.path === "string" ? error.path : "";
  const directory = path === "" ? fallback : dirname(path);
  return new AegisError(
    "io",
    `no space left under ${directory} (${errno})`,
    `Free blocks or inodes there: df ${directory}; df -i ${directory}. Then try again.`,
  );
}

/**
 * When Aegis was first installed on this host; null if never installed (started by hand). Nothing signed earlier runs
 * here.
 * @throws AegisError `invalid_config` for a file that can't be trusted
 */
export function installedAt(path: string = SYSTEM.installed): Date | null {
  const text = readConfig(path, true);
  if (text === null) return null;
  const date = new Date(text.trim());
  if (!/^\d{4}-\d{2}-\d{2}T[\d:.]+Z\n?$/.test(text) || Number.isNaN(date.getTime())) {
    throw new AegisError(
      "invalid_config",
      `${path} does not hold the installation time`,
      `Remove it as root and type: aegis daemon install; anything signed before then must be signed again.`,
    );
  }
  return date;
}

/** Records the time of the first installation; an existing record stays. */
export function markInstalled(now: Date): void {
  createFileExclusive(SYSTEM.installed, `${now.toISOString()}\n`, 0o644);
}

/** Highest system uid (SYS_UID_MAX of login.defs(5)). */
const LAST_SYSTEM_ID = 999;
const NO_LOGIN = /\/(?:nologin|false)$/;

/**
 * Why existing accounts with our names are unfit for the services, one reason each; missing accounts are no problem. An
 * account that is root's, a person's, or in other groups gives a service what its unit is meant to deny.
 * @throws an error of the file system
 */
export function accountProblems(
  passwd: string = readFileSync("/etc/passwd", "utf8"),
  group: string = readFileSync("/etc/group", "utf8"),
): string[] {
  const users = entries(passwd);
  const groups = entries(group);
  const problems = Object.values(USERS).flatMap((name) => {
    const user = users.find(([found]) => found === name);
    const own = groups.find(([found]) => found === name);
    const members = own?.[3] ?? "";
    const others = groups.filter((one) => one[0] !== name && (one[3] ?? "").split(",").includes(name));
    return [
      ...(user === undefined ? [] : userProblems(name, user, own?.[2], users)),
      ...(members === "" || members === name ? [] : [`group ${name} has other members: ${members}`]),
      ...(others.length === 0 ? [] : [`${name} is in other groups: ${others.map(([of]) => of).join(", ")}`]),
    ];
  });
  const root = [ADMIN_GROUP, REVIEW_GROUP, ...Object.values(USERS)].filter(
    (name) => Number(groups.find(([found]) => found === name)?.[2] ?? 1) === 0,
  );
  return [...problems, ...root.map((name) => `group ${name} is root's (gid 0)`)];
}

function userProblems(
  name: string,
  [, , uid = "", gid = "", , , shell = ""]: readonly string[],
  ownGid: string | undefined,
  users: readonly (readonly string[])[],
): string[] {
  const alike = users.filter((one) => one[2] === uid && one[0] !== name).map(([found]) => found);
  const number = Number(uid);
  return [
    ...(number >= 1 && number <= LAST_SYSTEM_ID ? [] : [`${name} is not a system account (uid ${uid})`]),
    ...(alike.length === 0 ? [] : [`${name} has the uid of ${alike.join(", ")}`]),
    ...(gid === ownGid ? [] : [`the group of ${name} is not ${name}`]),
    ...(NO_LOGIN.test(shell) ? [] : [`${name} can log in (${shell})`]),
  ];
}

/** @throws AegisError `refused` if {@link accountProblems} finds any */
export function refuseForeignAccounts(): void {
  const problems = accountProblems();
  if (problems.length === 0) return;
  throw new AegisError(
    "refused",
    `services can't run under accounts not made for them: ${problems.join("; ")}`,
    "Rename or remove these accounts, or take them out of the groups; install creates its own.",
  );
}

function entries(text: string): string[][] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split(":"));
}
