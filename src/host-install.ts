import { closeSync, constants, existsSync, openSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { Io } from "./command.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { queued, type RunLock, tryRunLock, waitForRunLock } from "./exec-lock.ts";
import { SYSUSERS_FILE, TMPFILES_FILE } from "./host-accounts.ts";
import { NEEDRESTART_FILE } from "./host-drop-ins.ts";
import { serviceSteps } from "./host-services.ts";
import { sharedFiles, sharedLeftOut, sharedSteps } from "./host-shared.ts";
import { groundSteps, programSteps, type Step, unsafeProgram } from "./host-steps.ts";
import { UNIT_NAMES, type UnitName, WAIT_FOR_APT } from "./host-units.ts";
import { installedProgram, refuseDowngrade } from "./host-version.ts";
import { removeWrappers, wrapperFiles, wrapperSteps, wrappersLeftOut } from "./host-wrappers.ts";
import { trustsExecutionKey } from "./key-trust.ts";
import { type Env, SHARED, type SharedTexts, SYSTEM } from "./paths.ts";
import { assertSafeEnvironment, isCompiled, VERSION } from "./self.ts";
import { isFlocked } from "./sys-ffi.ts";
import { refuseForeignAccounts, STATE, USERS } from "./sys-state.ts";
import { requireSystemd, showUnits, systemd, UNIT_DIRECTORY } from "./sys-systemd.ts";
import { showArgv } from "./terminal.ts";

export interface StepReport {
  what: string;
  /** What was done or, with `--dry-run`, would be done; null if there was nothing to do. */
  done: string | null;
}

export interface InstallReport {
  dry_run: boolean;
  steps: StepReport[];
  /** Public key of this host's reviewer; null if it has none yet. */
  review_public_key_hex: string | null;
  /** The previous version (null if there was none or it is unknown) and the one installed now. */
  version: { from: string | null; to: string };
  /** What the administrator has to do next. */
  next: string[];
}

/** `feeds`: whether vulnerability data is downloaded; null for what was chosen before. */
type InstallChoices = Record<"dryRun" | "wrappers" | "downgrade", boolean> & {
  feeds: boolean | null;
  shared: SharedTexts;
};

/**
 * Sets this machine up as a production host, from the running executable. Idempotent; upgrades an older installation in
 * place. Replacing the program and its units waits in the queue of runs: apt calls the installed file as its hook, so a run
 * must end with the version it began with.
 * @throws AegisError `usage` if not root, or for a downgrade without `downgrade`; `refused` if run from sources, or if the
 * executable or an account belongs to others; `unavailable` without systemd or with too old a one; `exists` while an
 * executor started by hand runs; errors of the steps
 */
export async function install(options: InstallChoices, io: Pick<Io, "env" | "note">): Promise<InstallReport> {
  const { dryRun, wrappers, downgrade, feeds, shared } = options;
  await assertCanSetUp("install", io.env);
  refuseForeignAccounts();
  const installed = await installedProgram();
  if (!downgrade) refuseDowngrade(installed);
  process.umask(0o022);
  const steps = await apply(groundSteps(), dryRun);
  const program = programSteps(installed);
  if (dryRun || !(await anyNeeded(program))) steps.push(...(await apply(program, dryRun)));
  else {
    const lock = await lockWhenIdle(io);
    try {
      // Another install may have run while this one waited.
      if (!downgrade) refuseDowngrade(await installedProgram());
      steps.push(...(await apply(program, false)));
    } finally {
      lock.release();
    }
  }
  const units = new Set(UNIT_NAMES.map((name) => join(UNIT_DIRECTORY, name)));
  const unitsWritten = steps.some(({ what, done }) => done !== null && units.has(what));
  steps.push(...(await apply(serviceSteps(unitsWritten, feeds), dryRun)));
  steps.push(...(await apply(sharedSteps(shared), dryRun)));
  if (wrappers) steps.push(...(await apply(wrapperSteps(), dryRun)));
  const leftOut = wrappers ? wrappersLeftOut() : [];
  return {
    dry_run: dryRun,
    steps,
    review_public_key_hex: reviewKey(),
    version: { from: installed.version, to: VERSION },
    next: [...sharedLeftOut(), ...leftOut, ...(dryRun ? [] : await next())],
  };
}

/**
 * Checks that this user may set up this host with this program.
 * @throws AegisError as {@link install}
 */
async function assertCanSetUp(verb: "install" | "uninstall", env: Io["env"]): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new AegisError(
      "usage",
      `only root can ${verb} the services`,
      `Type: sudo ${calledAs()} daemon ${verb} (--dry-run only shows the steps)`,
    );
  }
  if (!isCompiled()) {
    throw new AegisError(
      "refused",
      "aegis is running from its sources; only the built executable can be installed",
      "Type: ./scripts/build && sudo dist/aegis daemon install",
    );
  }
  await requireSystemd();
  assertSafeEnvironment(env);
  const problem = unsafeProgram(env.SUDO_UID);
  if (problem !== null) {
    throw new AegisError(
      "refused",
      `a program that root runs must be writable by root alone: ${problem}`,
      "Fix its owner and mode first: chown root:root, chmod go-w.",
    );
  }
  for (const socket of [SYSTEM.socket, SYSTEM.runnerSocket]) refuseManualExecutor(socket);
}

/** @throws AegisError `exists` if an executor started by hand holds the lock next to this socket */
function refuseManualExecutor(socket: string): void {
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
    `an executor started by hand is using ${socket}`,
    "Stop it with Ctrl-C in its terminal (a run in progress continues), then try again.",
  );
}

/** Takes the run lock, waiting in the queue of runs. */
function lockWhenIdle(io: Pick<Io, "note">): ReturnType<typeof waitForRunLock> {
  const everybody = { all: Number.POSITIVE_INFINITY, perUid: Number.POSITIVE_INFINITY };
  return waitForRunLock({ execution: `set-up-${process.pid}`, uid: 0 }, everybody, (place) => {
    io.note(
      `waiting for running executions (${place === 0 ? "1 running" : `${place} ahead`}); Ctrl-C stops here, and the next install continues from here`,
    );
  });
}

async function anyNeeded(steps: readonly Step[]): Promise<boolean> {
  for (const step of steps) if ((await step.needed()) !== null) return true;
  return false;
}

/** Applies the steps that are needed, in order. An error names its step; earlier steps stay applied. */
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
        ? "No execution key is trusted any more: the executor runs but refuses every plan."
        : "No execution key is trusted yet, so the executor is not started.",
      `Add the public parts of an execution key and of another person's approval key to ${SYSTEM.trustedKeys} (aegis sign keygen --role <role> --name <name>, then aegis sign trust add <file>.pub)${runs ? "; no restart needed" : ", then type again: aegis daemon install"}.`,
      "Let a user submit signed plans: adduser <user> aegis-admin",
    ];
  }
  return [
    "Check the services: aegis daemon status; let a user submit signed plans: adduser <user> aegis-admin",
  ];
}

/** How to call this program under sudo, whose PATH may differ from the user's. */
function calledAs(): string {
  if (!isCompiled()) return "aegis";
  if (process.argv0.includes("/")) return showArgv([process.argv0]);
  return process.execPath === SYSTEM.binary ? "aegis" : showArgv([process.execPath]);
}

/** What uninstall keeps: evidence, configuration, and the record that prevents replay of used plans. */
const KEPT = [
  `${SYSTEM.auditDir} (the log)`,
  `${SYSTEM.state} (outcomes, the record of used plans), ${SYSTEM.kept} (package files for rollbacks)`,
  `${SYSTEM.config} (configuration, trusted keys, the reviewer's key)`,
  `the users ${Object.values(USERS).join(", ")} and their groups, which own some of these files`,
] as const;

export interface UninstallReport {
  dry_run: boolean;
  steps: StepReport[];
  kept: readonly string[];
}

/**
 * Removes the services and the program from this host. Keeps logs, configuration and the record of used plans.
 * @throws AegisError `busy` while a run is running or waiting; otherwise as {@link install}
 */
export async function uninstall(dryRun: boolean, env: Env): Promise<UninstallReport> {
  await assertCanSetUp("uninstall", env);
  const lock = existsSync(STATE.lock) ? lockIfIdle() : null;
  try {
    const steps: StepReport[] = [];
    const states = await showUnits(UNIT_NAMES);
    const running = UNIT_NAMES.filter(
      (name) =>
        ["active", "activating"].includes(states[name].ActiveState) ||
        states[name].UnitFileState === "enabled",
    );
    if (running.length > 0) {
      steps.push({ what: "services", done: `stop and disable ${running.join(", ")}` });
      if (!dryRun) {
        const stopped = running.filter((name) => !refusesManualStop(name));
        if (stopped.length > 0) await systemd("systemctl", ["disable", "--now", ...stopped]);
        const left = running.filter(refusesManualStop);
        if (left.length > 0) await systemd("systemctl", ["disable", ...left]);
      }
    }
    const files = [
      ...UNIT_NAMES.map((name) => join(UNIT_DIRECTORY, name)),
      NEEDRESTART_FILE,
      TMPFILES_FILE,
      SYSUSERS_FILE,
      ...sharedFiles(),
      SYSTEM.binary,
    ];
    // Before the program, so that there is never a dangling wrapper.
    steps.push(...wrapperFiles().map((path) => ({ what: path, done: "remove" })));
    if (!dryRun) removeWrappers();
    for (const path of files.filter((file) => existsSync(file))) {
      steps.push({ what: path, done: "remove" });
      if (!dryRun) rmSync(path);
    }
    if (!dryRun) removeEmpty(NEEDRESTART_FILE, SHARED.fish);
    if (!dryRun && steps.length > 0) {
      await systemd("systemctl", ["daemon-reload"]);
      // Otherwise failed units would stay listed as not found. A pattern that matches nothing is no error.
      const patterns = UNIT_NAMES.map((name) => name.replace("@.", "@*.").replace(/.$/, "[$&]"));
      await systemd("systemctl", ["reset-failed", ...patterns]);
    }
    return { dry_run: dryRun, steps, kept: KEPT };
  } finally {
    lock?.release();
  }
}

/** Units that systemd refuses to stop by hand. No run is in progress, so they end by themselves. */
function refusesManualStop(name: UnitName): boolean {
  return WAIT_FOR_APT.some((one) => one === name);
}

/** Removes the two directories above each file if empty, no links: install made them where needrestart or fish wasn't installed. */
function removeEmpty(...files: readonly string[]): void {
  for (const directory of files.flatMap((file) => [dirname(file), dirname(dirname(file))])) {
    try {
      rmdirSync(directory);
    } catch (error) {
      if (!["ENOENT", "ENOTDIR", "ENOTEMPTY", "EEXIST"].includes(errnoOf(error))) throw error;
    }
  }
}

/** Takes the run lock without waiting, so that no run can start during the uninstall. */
function lockIfIdle(): RunLock {
  const lock = queued().length === 0 ? tryRunLock() : null;
  if (lock !== null) return lock;
  throw new AegisError(
    "busy",
    "an execution is running or waiting",
    "Wait until it has ended: aegis daemon status",
  );
}
