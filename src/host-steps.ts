import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { AegisError, errnoOf } from "./errors.ts";
import {
  HOST_DIRECTORIES,
  SYSUSERS_FILE,
  sysusersText,
  TMPFILES_FILE,
  tmpfilesText,
} from "./host-accounts.ts";
import { NEEDRESTART_FILE, needrestartText } from "./host-drop-ins.ts";
import { DAEMON_ENV, FEEDS_ENV, REVIEWER_ENV, TRUSTED_KEYS } from "./host-templates.ts";
import { UNIT_NAMES, unitText } from "./host-units.ts";
import { changeInWords, type InstalledProgram } from "./host-version.ts";
import { generateKey, writeKeyFiles } from "./key-file.ts";
import { SYSTEM } from "./paths.ts";
import {
  createFileExclusive,
  ensureDir,
  hashFile,
  rootOnlyProblem,
  secretFileProblem,
  writeFileAtomic,
} from "./sys-files.ts";
import {
  ADMIN_GROUP,
  type Directory,
  groupId,
  installedAt,
  markInstalled,
  REVIEW_GROUP,
  STATE,
  USERS,
  userIds,
} from "./sys-state.ts";
import { systemd, UNIT_DIRECTORY } from "./sys-systemd.ts";

/*
 * The install steps, as data. Each reports what it still has to do, and does it. All are idempotent; none overwrites what
 * an administrator has written.
 */

export interface Step {
  /** What the step is about, for people. */
  what: string;
  /** What is still to be done, in words, or null. Changes nothing. */
  needed(): Promise<string | null> | string | null;
  apply(): Promise<unknown> | unknown;
}

/** Accounts, directories, configuration: safe to apply during a run. */
export function groundSteps(): Step[] {
  return [
    file(SYSUSERS_FILE, sysusersText()),
    {
      what: "accounts",
      needed() {
        const users = Object.values(USERS).filter((name) => userIds(name) === null);
        const groups = [ADMIN_GROUP, REVIEW_GROUP].filter((name) => groupId(name) === null);
        return listed("create", [...groups, ...users]);
      },
      // systemd-sysusers locks the password file, keeps existing accounts, and creates accounts without login, home, mail
      // spool and subordinate ids.
      apply: () => systemd("systemd-sysusers", [SYSUSERS_FILE]),
    },
    file(TMPFILES_FILE, tmpfilesText()),
    file(NEEDRESTART_FILE, needrestartText()),
    {
      what: "directories",
      needed: () =>
        listed(
          "create or correct",
          HOST_DIRECTORIES.filter(isMisconfigured).map(({ path }) => path),
        ),
      apply: makeDirectories,
    },
    {
      what: "outcomes and log of an executor started by hand",
      needed: () => listed("make readable for the group aegis-admin", unreadableByGroup()),
      apply() {
        const gid = groupId(ADMIN_GROUP) ?? 0;
        for (const path of unreadableByGroup()) {
          chownSync(path, 0, gid);
          chmodSync(path, 0o640);
        }
      },
    },
    template(SYSTEM.trustedKeys, TRUSTED_KEYS),
    template(SYSTEM.daemonEnv, DAEMON_ENV),
    template(SYSTEM.reviewerEnv, REVIEWER_ENV, USERS.reviewer),
    template(SYSTEM.feedsEnv, FEEDS_ENV),
    {
      what: SYSTEM.reviewKey,
      needed() {
        const problem = secretFileProblem(SYSTEM.reviewKey);
        if (problem === null) return existsSync(SYSTEM.reviewKey) ? null : "generate the review signing key";
        const hint = `Anyone who has read it can sign reviews. Type as root: rm ${SYSTEM.reviewKey}*; install generates a new one.`;
        throw new AegisError("refused", problem, hint);
      },
      apply: () => writeKeyFiles(SYSTEM.reviewKey, generateKey()),
    },
    {
      what: SYSTEM.installed,
      needed: () => (installedAt() === null ? "record the time of installation" : null),
      apply: () => markInstalled(new Date()),
    },
  ];
}

/** The program and its units, which are replaced together, and only between runs. */
export function programSteps(installed: InstalledProgram): Step[] {
  return [
    {
      what: "leftovers of an interrupted install",
      needed: () => listed("remove", unfinishedCopies()),
      apply() {
        for (const path of unfinishedCopies()) rmSync(path, { force: true });
      },
    },
    {
      what: SYSTEM.binary,
      needed: () => (isInstalledProgram() ? null : changeInWords(installed)),
      apply: () => writeFileAtomic(SYSTEM.binary, readFileSync(OWN_PROGRAM), 0o755),
    },
    ...UNIT_NAMES.map((name) => file(join(UNIT_DIRECTORY, name), unitText(name))),
  ];
}

/** Whether this exact program is installed, as a regular file that only root can change. */
function isInstalledProgram(): boolean {
  const stat = lstatSync(SYSTEM.binary, { throwIfNoEntry: false });
  const own = stat?.isFile() === true && stat.uid === 0 && (stat.mode & 0o7777) === 0o755;
  return own && hashFile(SYSTEM.binary).sha256 === hashFile(OWN_PROGRAM).sha256;
}

/** Unfinished copies of the program. None is being written now, since install holds the run lock. */
function unfinishedCopies(): string[] {
  const directory = dirname(SYSTEM.binary);
  return namesIfThere(directory)
    .filter((name) => /^\.aegis\.[0-9a-f-]{36}\.tmp$/.test(name))
    .map((name) => join(directory, name));
}

/** The running executable, even if its path has been replaced. */
const OWN_PROGRAM = "/proc/self/exe";

/**
 * Creates the directories and corrects their owner, group and mode.
 * @throws AegisError `io` if some are still wrong
 */
export async function makeDirectories(): Promise<void> {
  await systemd("systemd-tmpfiles", ["--create", TMPFILES_FILE]);
  const misconfigured = HOST_DIRECTORIES.filter(isMisconfigured).map(({ path }) => path);
  if (misconfigured.length === 0) return;
  throw new AegisError(
    "io",
    `systemd-tmpfiles did not correct: ${misconfigured.join(", ")}`,
    `Check each, as with: ls -ld ${misconfigured[0]}; it must be a directory, and its parents must belong to root.`,
  );
}

function listed(verb: string, names: readonly string[]): string | null {
  return names.length === 0 ? null : `${verb} ${names.join(", ")}`;
}

/** Whether a directory is missing or has the wrong owner, group or mode. */
export function isMisconfigured({ path, mode, user, group }: Directory): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return !(
    stat?.isDirectory() === true &&
    (stat.mode & 0o7777) === mode &&
    stat.uid === userIds(user)?.uid &&
    stat.gid === groupId(group)
  );
}

/** Outcomes and log files that aegis-admin can't read because the group did not exist when they were written. */
function unreadableByGroup(): string[] {
  const gid = groupId(ADMIN_GROUP);
  const files = [
    ...namesIfThere(STATE.results)
      .filter((name) => name.endsWith(".json"))
      .map((name) => join(STATE.results, name)),
    ...namesIfThere(SYSTEM.auditDir)
      .filter((name) => name.endsWith(".ndjson"))
      .map((name) => join(SYSTEM.auditDir, name)),
  ];
  return files.filter((path) => {
    const stat = lstatSync(path);
    return stat.isFile() && stat.uid === 0 && (stat.gid !== gid || (stat.mode & 0o7777) !== 0o640);
  });
}

function namesIfThere(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}

/** A step for a file that Aegis owns: any change to it is overwritten. */
export function file(path: string, text: string): Step {
  return {
    what: path,
    needed() {
      if (!existsSync(path)) return "write";
      const { uid, mode } = lstatSync(path);
      const same = uid === 0 && (mode & 0o7777) === 0o644 && readFileSync(path, "utf8") === text;
      return same ? null : "rewrite";
    },
    apply() {
      ensureDir(dirname(path), 0o755);
      writeFileAtomic(path, text, 0o644);
    },
  };
}

/** A step for a file the administrator edits: written once. With `group`, only root and the group can read it: it may hold a secret. */
function template(path: string, text: string, group?: string): Step {
  const needed = () => (existsSync(path) ? null : "write a template to fill in");
  return {
    what: path,
    needed,
    apply() {
      if (!createFileExclusive(path, text, group === undefined ? 0o644 : 0o640)) return;
      if (group === undefined) chmodSync(path, 0o644);
      else chownSync(path, 0, groupId(group) ?? 0);
    },
  };
}

/**
 * Why it is unsafe to install this executable, or to install to this directory, or null. Anyone who can write a program that
 * root runs is root.
 */
export function unsafeProgram(sudoUid: string | undefined): string | null {
  const { uid, mode } = statSync(OWN_PROGRAM);
  if (uid !== 0 && String(uid) !== sudoUid) return `${process.execPath} belongs to another user (uid ${uid})`;
  if ((mode & 0o022) !== 0) return `${process.execPath} can be written by others`;
  return rootOnlyProblem(dirname(SYSTEM.binary));
}
