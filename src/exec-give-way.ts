import { readFileSync } from "node:fs";
import type { Ecosystems } from "./eco-load.ts";
import { EXIT, messageOf } from "./errors.ts";
import { isRunAtWork } from "./exec-recover.ts";
import type { Log } from "./log.ts";
import type { StatePaths } from "./sys-state.ts";
import { type Stopping, stoppingUnits } from "./sys-systemd.ts";

/*
 * A runner that is asked to stop waits for its tool, so that a shutdown does not interrupt it. Without a shutdown this may be a
 * deadlock: the tool may wait for a maintainer script or hook that restarts this service. The unit refuses a manual stop, but a
 * drop-in or a dependency can still cause one. Then the runner ends, the tool continues, and aegis-recover.service closes the run
 * as it does when a runner has died.
 */

/** Long enough for a download to end, which the signal stops. */
const FIRST_LOOK_MS = 2000;
const POLL_MS = 1000;

/** The facts that the decision rests on; replaced in tests. */
export interface Surroundings {
  unit: string | null;
  stopping(unit: string): Promise<Stopping>;
  isAtWork(): Promise<boolean>;
}

/** Whether this service, and not the whole host, is being stopped while a tool is running. */
export async function isToGiveWay({ unit, stopping, isAtWork }: Surroundings): Promise<boolean> {
  if (unit === null || !(await isAtWork())) return false;
  const { units, hostToo } = await stopping(unit);
  return units.includes(unit) && !hostToo;
}

/** Called when this process is asked to stop: checks until the process ends by itself, and ends it when it must give way. */
export function giveWay(log: Log, paths: StatePaths, ecosystems: Ecosystems): void {
  const around = {
    unit: ownUnit(),
    stopping: (unit: string) => stoppingUnits([unit]),
    isAtWork: () => isRunAtWork(paths, ecosystems),
  };
  const look = async () => {
    try {
      if (await isToGiveWay(around)) {
        log.error(
          "asked to stop while a tool is running, but the host stays up: the tool continues without this process",
        );
        process.exit(EXIT.unavailable);
      }
    } catch (error) {
      // If in doubt, wait: that interrupts nothing.
      log.warn("can't determine why this service must stop", { problem: messageOf(error) });
    }
    later(POLL_MS);
  };
  // The timer alone must not keep the process alive.
  const later = (ms: number) => setTimeout(look, ms).unref();
  later(FIRST_LOOK_MS);
}

/** The systemd service that this process belongs to, or null. */
function ownUnit(): string | null {
  return unitOf(readFileSync("/proc/self/cgroup", "utf8"));
}

/** The unit in a process's list of control groups (cgroups(7)), in the unified tree or systemd's own; null for none. */
export function unitOf(cgroups: string): string | null {
  return /^(?:0:|\d+:name=systemd):.*\/([^/\n]+\.service)$/m.exec(cgroups)?.[1] ?? null;
}
