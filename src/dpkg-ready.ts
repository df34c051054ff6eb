import { closeSync, openSync, readdirSync } from "node:fs";
import { REPAIR } from "./apt-state.ts";
import { journalOf } from "./dpkg-status.ts";
import { AegisError, errnoOf } from "./errors.ts";
import { isFileLocked } from "./ffi.ts";

/*
 * What is looked at before a run uses anything up: whether dpkg would take it now.
 */

/** The lock that whoever has dpkg do something holds (dpkg(1), `lock-frontend`). */
const FRONTEND_LOCK = "/var/lib/dpkg/lock-frontend";
/** As long as apt waits for it (`DPkg::Lock::Timeout`); dpkg by itself would not wait at all. */
const LOCK_WAIT_MS = 120_000;
const POLL_MS = 250;

/**
 * apt runs nothing after an interrupted dpkg (its own test: debSystem::CheckUpdates), though a simulation passes over it.
 * @throws AegisError `unavailable`
 */
export function refuseInterruptedDpkg(): void {
  if (journalOf(readdirSync("/var/lib/dpkg/updates")).length === 0) return;
  throw new AegisError(
    "unavailable",
    "dpkg was interrupted earlier, and apt would refuse to run",
    `Plan and apply the repair first: ${REPAIR} (it runs dpkg --configure -a). Then apply this again: nothing has been used up.`,
  );
}

/**
 * Waits until nobody holds dpkg's lock. It may be taken again in the next moment: then dpkg fails, with nothing done.
 * `onWait` is called at each look.
 * @throws AegisError `busy` after two minutes
 */
export async function waitForDpkg(onWait: () => void): Promise<void> {
  const end = Date.now() + LOCK_WAIT_MS;
  while (isLocked()) {
    if (Date.now() > end) {
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

function isLocked(): boolean {
  let fd: number;
  try {
    fd = openSync(FRONTEND_LOCK, "r+");
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
