import { existsSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { AegisError, errnoOf } from "./errors.ts";
import { refuseUnfit, type StepReport } from "./install.ts";
import type { Env } from "./paths.ts";
import { SYSTEM } from "./paths.ts";
import { queued, type RunLock, tryRunLock } from "./run-lock.ts";
import { showUnits, systemd } from "./service-manager.ts";
import { STATE, USERS } from "./state.ts";
import {
  NEEDRESTART_FILE,
  SYSUSERS_FILE,
  TMPFILES_FILE,
  UNIT_DIRECTORY,
  UNIT_NAMES,
  type UnitName,
  WAIT_FOR_APT,
} from "./units.ts";
import { removeWrappers, wrapperFiles } from "./wrappers.ts";

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
