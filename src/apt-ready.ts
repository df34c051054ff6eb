import { closeSync, openSync, readdirSync } from "node:fs";
import { journalOf } from "./apt-dpkg.ts";
import { REPAIR } from "./apt-state.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { HostState } from "./eco-driver.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { isFileLocked } from "./sys-ffi.ts";

/* Whether dpkg could run now, checked before the run uses anything. */

/** The lock held by any program using dpkg (dpkg(1), `lock-frontend`). */
const FRONTEND_LOCK = "/var/lib/dpkg/lock-frontend";
/** As long as apt waits (`DPkg::Lock::Timeout`); dpkg itself would not wait. */
const LOCK_WAIT_MS = 120_000;
const POLL_MS = 250;

/**
 * apt refuses to run after an interrupted dpkg (debSystem::CheckUpdates), though a simulation ignores it. And with any
 * run it would also configure unfinished packages, which our hook would refuse, since no plan has them except one about
 * exactly those packages.
 * @throws AegisError `unavailable`
 */
export function refuseUnfinishedDpkg({ operation, transaction }: OperationPlan, now: HostState): void {
  const planned = new Set(transaction.map((e) => `${e.name}:${e.architecture}`));
  const isLeft = ([key, state]: [string, string]) =>
    / (?:unpacked|half-configured)(?: |$)/.test(state) && !planned.has(key);
  const left = operation === "update" ? [] : Object.entries(now).filter(isLeft);
  const isInterrupted = journalOf(readdirSync("/var/lib/dpkg/updates")).length > 0;
  if (!isInterrupted && left.length === 0) return;
  const names = left.map(([key]) => key).slice(0, 5);
  throw new AegisError(
    "unavailable",
    isInterrupted
      ? "dpkg was interrupted earlier, and apt would refuse to run"
      : `dpkg has unfinished packages that apt would also configure: ${names.join(", ")}`,
    `Plan and apply the repair first: ${REPAIR} (it runs dpkg --configure -a; its plan lists what that can't fix, and how to proceed). Then apply this again: no plan was used.`,
  );
}

/**
 * Waits until dpkg's lock is free. It may be taken again at once: then dpkg fails with nothing done. `onWait` is called
 * at each attempt.
 * @throws AegisError `busy` after two minutes
 */
export async function waitForDpkg(onWait: () => void): Promise<void> {
  const end = performance.now() + LOCK_WAIT_MS;
  while (isPathLocked(FRONTEND_LOCK)) {
    if (performance.now() > end) {
      throw new AegisError(
        "busy",
        `another program holds ${FRONTEND_LOCK}`,
        "Apply the plan again when that program has ended: nothing was run, and the plan was not used.",
      );
    }
    onWait();
    await Bun.sleep(POLL_MS);
  }
}

/** Whether a process holds an fcntl(2) lock on a file, as dpkg and apt do. False if the file doesn't exist. */
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
