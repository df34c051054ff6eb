import { closeSync, openSync, readdirSync } from "node:fs";
import { journalOf } from "./apt-dpkg.ts";
import { REPAIR } from "./apt-state.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { HostState } from "./eco-driver.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { isFileLocked } from "./sys-ffi.ts";

/*
 * Whether dpkg would take a run now: looked at before the run uses anything up.
 */

/** The lock that whoever has dpkg do something holds (dpkg(1), `lock-frontend`). */
const FRONTEND_LOCK = "/var/lib/dpkg/lock-frontend";
/** As long as apt waits for it (`DPkg::Lock::Timeout`); dpkg by itself would not wait at all. */
const LOCK_WAIT_MS = 120_000;
const POLL_MS = 250;

/**
 * apt runs nothing after an interrupted dpkg (its own test: debSystem::CheckUpdates), though a simulation passes over it.
 * And whatever it does run, it configures what was left half-done along with it, which our hook would refuse: no plan names
 * it, unless it is about those very packages.
 * @throws AegisError `unavailable`
 */
export function refuseUnfinishedDpkg({ operation, transaction }: OperationPlan, now: HostState): void {
  const planned = new Set(transaction.map((e) => `${e.name}:${e.architecture}`));
  const isLeft = ([key, state]: [string, string]) =>
    / (?:unpacked|half-configured)$/.test(state) && !planned.has(key);
  const left = operation === "update" ? [] : Object.entries(now).filter(isLeft);
  const isInterrupted = journalOf(readdirSync("/var/lib/dpkg/updates")).length > 0;
  if (!isInterrupted && left.length === 0) return;
  const names = left.map(([key]) => key).slice(0, 5);
  throw new AegisError(
    "unavailable",
    isInterrupted
      ? "dpkg was interrupted earlier, and apt would refuse to run"
      : `dpkg has unfinished packages that apt would configure as well: ${names.join(", ")}`,
    `Plan and apply the repair first: ${REPAIR} (it runs dpkg --configure -a; its plan names what that can't mend, and the way out). Then apply this again: nothing has been used up.`,
  );
}

/**
 * Waits until nobody holds dpkg's lock. It may be taken again in the next moment: then dpkg fails, with nothing done.
 * `onWait` is called at each look.
 * @throws AegisError `busy` after two minutes
 */
export async function waitForDpkg(onWait: () => void): Promise<void> {
  const end = performance.now() + LOCK_WAIT_MS;
  while (isPathLocked(FRONTEND_LOCK)) {
    if (performance.now() > end) {
      throw new AegisError(
        "busy",
        `another program holds ${FRONTEND_LOCK}`,
        "Apply it again when that program has ended: nothing has been run, and nothing used up.",
      );
    }
    onWait();
    await Bun.sleep(POLL_MS);
  }
}

/** Whether a process holds a lock on a file, as dpkg and apt do (fcntl(2)). False where there is no such file. */
export function isPathLocked(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
  try {
    return isFileLocked(fd);
  } finally {
    closeSync(fd);
  }
}
