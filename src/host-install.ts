import { closeSync, constants, existsSync, openSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { Io } from "./command.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { queued, type RunLock, tryRunLock, waitForRunLock } from "./exec-lock.ts";
import { serviceSteps } from "./host-services.ts";
import { groundSteps, programSteps, type Step, unsafeProgram } from "./host-steps.ts";
import {
  NEEDRESTART_FILE,
  SYSUSERS_FILE,
  TMPFILES_FILE,
  UNIT_NAMES,
  type UnitName,
  WAIT_FOR_APT,
} from "./host-units.ts";
import { installedProgram, refuseDowngrade } from "./host-version.ts";
import { removeWrappers, wrapperFiles, wrapperSteps, wrappersLeftOut } from "./host-wrappers.ts";
import { trustsExecutionKey } from "./key-trust.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { assertSafeEnvironment, isCompiled, VERSION } from "./self.ts";
import { isFlocked } from "./sys-ffi.ts";
import { refuseForeignAccounts, STATE, USERS } from "./sys-state.ts";
import { requireSystemd, showUnits, systemd, UNIT_DIRECTORY } from "./sys-systemd.ts";
import { showArgv } from "./terminal.ts";

export interface StepReport {
  what: string;
  /** What was, or with `--dry-run` would be, done; null where nothing was to be done. */
  done: string | null;
}

export interface InstallReport {
  dry_run: boolean;
  steps: StepReport[];
  /** Of the key that signs this host's reviews; null where there is none yet. */
  review_public_key_hex: string | null;
  /** The version that was installed, null for none or one that can't be told, and the one that is installed now. */
  version: { from: string | null; to: string };
  /** What a person has to do now. */
  next: string[];
}

/**
 * Makes a production host of this machine, from the executable that is running. Repeatable; an older installation is
 * upgraded in place. What replaces program and units waits in the queue of runs until its turn: a run that began with one
 * version ends with it, since apt calls the installed file as its hook.
 * @throws AegisError `usage` when not root, and for an older version than is installed without `downgrade`; `refused` from sources, from a file of others, with accounts of others; `unavailable` without systemd, or an older one;
 * `exists` while an executor that was started by hand runs; what the steps throw
 */
export async function install(
  { dryRun, wrappers, downgrade }: { dryRun: boolean; wrappers: boolean; downgrade: boolean },
  io: Pick<Io, "env" | "note">,
): Promise<InstallReport> {
  await refuseUnfit("install", io.env);
  refuseForeignAccounts();
  const installed = await installedProgram();
  if (!downgrade) refuseDowngrade(installed);
  process.umask(0o022);
  const steps = await apply(groundSteps(), dryRun);
  const program = programSteps(installed);
  if (dryRun || !(await anyNeeded(program))) steps.push(...(await apply(program, dryRun)));
  else {
    const lock = await quiet(io);
    try {
      // Another install may have had its turn before this one.
      if (!downgrade) refuseDowngrade(await installedProgram());
      steps.push(...(await apply(program, false)));
    } finally {
      lock.release();
    }
  }
  const units = new Set(UNIT_NAMES.map((name) => join(UNIT_DIRECTORY, name)));
  const unitsWritten = steps.some(({ what, done }) => done !== null && units.has(what));
  steps.push(...(await apply(serviceSteps(unitsWritten), dryRun)));
  if (wrappers) steps.push(...(await apply(wrapperSteps(), dryRun)));
  const leftOut = wrappers ? wrappersLeftOut() : [];
  return {
    dry_run: dryRun,
    steps,
    review_public_key_hex: reviewKey(),
    version: { from: installed.version, to: VERSION },
    next: [...leftOut, ...(dryRun ? [] : await next())],
  };
}

/**
 * Who may change the host's set-up, where, and with which program.
 * @throws AegisError as {@link install}
 */
async function refuseUnfit(verb: "install" | "uninstall", env: Io["env"]): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new AegisError(
      "usage",
      `only root can ${verb} services`,
      `Type: sudo ${calledAs()} daemon ${verb} (--dry-run only shows the steps)`,
    );
  }
  if (!isCompiled()) {
    throw new AegisError(
      "refused",
      "this is aegis run from its sources; a host gets the one executable",
      "Type: ./scripts/build && sudo dist/aegis daemon install",
    );
  }
  await requireSystemd();
  assertSafeEnvironment(env);
  const problem = unsafeProgram(env.SUDO_UID);
  if (problem !== null) {
    throw new AegisError(
      "refused",
      `root's programs must be root's alone: ${problem}`,
      "Give that to root first, and to nobody else to write: chown root:root, chmod go-w.",
    );
  }
  for (const socket of [SYSTEM.socket, SYSTEM.runnerSocket]) refuseByHand(socket);
}

/** An executor started by hand holds a lock beside its socket. */
function refuseByHand(socket: string): void {
  let fd: number;
  try {
    fd = openSync(`${socket}.lock`, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return;
    throw error;
  }
  const held = isFlocked(fd);
  closeSync(fd);
  if (!held) return;
  throw new AegisError(
    "exists",
    `an executor that was started by hand has ${socket}`,
    "Stop it (Ctrl-C where it was started; a run goes on), then try again.",
  );
}

/** Waits in the queue of runs. Interrupting the wait loses nothing. */
function quiet(io: Pick<Io, "note">): ReturnType<typeof waitForRunLock> {
  const everybody = { all: Number.POSITIVE_INFINITY, perUid: Number.POSITIVE_INFINITY };
  return waitForRunLock({ execution: `set-up-${process.pid}`, uid: 0 }, everybody, (place) => {
    io.note(
      `waiting until no run is under way (${place === 0 ? "one is" : `${place} before this`}); Ctrl-C stops here, and another install goes on from here`,
    );
  });
}

async function anyNeeded(steps: readonly Step[]): Promise<boolean> {
  for (const step of steps) if ((await step.needed()) !== null) return true;
  return false;
}

/** Does what is needed, in order. A failure names the step, and what was done before stays. */
async function apply(steps: readonly Step[], dryRun: boolean): Promise<StepReport[]> {
  const reports: StepReport[] = [];
  for (const step of steps) {
    const done = await step.needed();
    if (done !== null && !dryRun) {
      try {
        await step.apply();
      } catch (error) {
        const { code, hint } = error instanceof AegisError ? error : { code: "io" as const, hint: "" };
        throw new AegisError(code, `${step.what}: ${messageOf(error)}`, `${hint} Then install again.`.trim());
      }
    }
    reports.push({ what: step.what, done });
  }
  return reports;
}

const PublicPart = v.looseObject({ public_key_hex: v.string() });

function reviewKey(): string | null {
  try {
    return v.parse(PublicPart, parseJson(readFileSync(`${SYSTEM.reviewKey}.pub`, "utf8"))).public_key_hex;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}

async function next(): Promise<string[]> {
  if (!trustsExecutionKey()) {
    const { "aegisd.service": front } = await showUnits(["aegisd.service"]);
    const runs = front.ActiveState === "active";
    return [
      runs
        ? "No execution key is trusted any more: the executor runs, and refuses every plan."
        : "No key is trusted yet, so the executor is not started.",
      `Write the public parts of an execution key and of somebody else's approval key into ${SYSTEM.trustedKeys} (aegis sign keygen --out <file> prints what to write)${runs ? "; it needs no restart" : ", then type again: aegis daemon install"}.`,
      "Let a user submit signed plans: adduser <user> aegis-admin",
    ];
  }
  return ["See how it is: aegis daemon status; let a user submit signed plans: adduser <user> aegis-admin"];
}

/** How this program was called, for a command line under sudo, which looks in root's own places only. */
function calledAs(): string {
  if (!isCompiled()) return "aegis";
  if (process.argv0.includes("/")) return showArgv([process.argv0]);
  return process.execPath === SYSTEM.binary ? "aegis" : showArgv([process.execPath]);
}

/** What stays, since it is evidence, configuration, or what keeps a used plan from running once more. */
const KEPT = [
  `${SYSTEM.auditDir} (the log)`,
  `${SYSTEM.state} (outcomes, the record of used plans)`,
  `${SYSTEM.config} (configuration, whom this host trusts, the reviewer's key)`,
  `the users ${Object.values(USERS).join(", ")} and their groups: files that stay belong to them`,
] as const;

export interface UninstallReport {
  dry_run: boolean;
  steps: StepReport[];
  kept: readonly string[];
}

/**
 * Takes the services and the program off this host. Logs, configuration and the record of used plans stay.
 * @throws AegisError `busy` while a run is under way or waits; else as install does
 */
export async function uninstall(dryRun: boolean, env: Env): Promise<UninstallReport> {
  await refuseUnfit("uninstall", env);
  const lock = existsSync(STATE.lock) ? whenQuiet() : null;
  try {
    const steps: StepReport[] = [];
    const states = await showUnits(UNIT_NAMES);
    const running = UNIT_NAMES.filter(
      (name) => states[name].ActiveState === "active" || states[name].UnitFileState === "enabled",
    );
    if (running.length > 0) {
      steps.push({ what: "services", done: `stop and disable ${running.join(", ")}` });
      if (!dryRun) {
        const stopped = running.filter((name) => !endsByItself(name));
        if (stopped.length > 0) await systemd("systemctl", ["disable", "--now", ...stopped]);
        const left = running.filter(endsByItself);
        if (left.length > 0) await systemd("systemctl", ["disable", ...left]);
      }
    }
    const files = [
      ...UNIT_NAMES.map((name) => join(UNIT_DIRECTORY, name)),
      NEEDRESTART_FILE,
      TMPFILES_FILE,
      SYSUSERS_FILE,
      SYSTEM.binary,
    ];
    // While the program is still there: nobody ever meets a wrapper that leads nowhere.
    steps.push(...wrapperFiles().map((path) => ({ what: path, done: "remove" })));
    if (!dryRun) removeWrappers();
    for (const path of files.filter((file) => existsSync(file))) {
      steps.push({ what: path, done: "remove" });
      if (!dryRun) rmSync(path);
    }
    if (!dryRun) removeEmpty(dirname(NEEDRESTART_FILE), dirname(dirname(NEEDRESTART_FILE)));
    if (!dryRun && steps.length > 0) {
      await systemd("systemctl", ["daemon-reload"]);
      // What has failed would be listed for ever, as a unit that can't be found. A pattern that fits none is no error.
      const patterns = UNIT_NAMES.map((name) => name.replace("@.", "@*.").replace(/.$/, "[$&]"));
      await systemd("systemctl", ["reset-failed", ...patterns]);
    }
    return { dry_run: dryRun, steps, kept: KEPT };
  } finally {
    lock?.release();
  }
}

/** systemd refuses to stop it, and no run is under way for which it could wait. */
function endsByItself(name: UnitName): boolean {
  return WAIT_FOR_APT.some((one) => one === name);
}

/** Takes directories away that hold nothing, as install made them where needrestart was not there. */
function removeEmpty(...directories: readonly string[]): void {
  for (const directory of directories) {
    try {
      rmdirSync(directory);
    } catch (error) {
      if (!["ENOENT", "ENOTEMPTY", "EEXIST"].includes(errnoOf(error))) throw error;
    }
  }
}

/** Holds the run lock, so that nothing begins meanwhile; whoever waits for it then finds the program gone. */
function whenQuiet(): RunLock {
  const lock = queued().length === 0 ? tryRunLock() : null;
  if (lock !== null) return lock;
  throw new AegisError(
    "busy",
    "a run is under way or waits for its turn",
    "Wait for its end: aegis daemon status",
  );
}
