import { readFileSync } from "node:fs";
import type { Ecosystems } from "./eco-load.ts";
import { EXIT, messageOf } from "./errors.ts";
import { isRunAtWork } from "./exec-recover.ts";
import type { Log } from "./log.ts";
import type { Places } from "./sys-state.ts";
import { type Stopping, stoppingUnits } from "./sys-systemd.ts";

/*
 * A runner that is told to stop waits for its tool, so that a shutdown does not cut that off. If it is not a shutdown, whoever
 * asked may be what that tool waits for: a maintainer script, or a hook that restarts services. The unit refuses to be stopped
 * by hand; this is for the ways around that, a drop-in or a dependency. The runner then goes, the tool goes on without it, and
 * aegis-recover.service closes the run as that of a runner that died.
 */

/** Enough for a download to end, which the signal stops. */
const FIRST_LOOK_MS = 2000;
const POLL_MS = 1000;

/** What is looked at; replaced in tests. */
export interface Surroundings {
  unit: string | null;
  stopping(unit: string): Promise<Stopping>;
  isAtWork(): Promise<boolean>;
}

/** Whether this service has been told to stop by itself, and has a tool to wait for. */
export async function isToGiveWay({ unit, stopping, isAtWork }: Surroundings): Promise<boolean> {
  if (unit === null || !(await isAtWork())) return false;
  const { units, hostToo } = await stopping(unit);
  return units.includes(unit) && !hostToo;
}

/** Called once this process was asked to stop: looks until it ends by itself, and ends it when it is to give way. */
export function giveWay(log: Log, places: Places, ecosystems: Ecosystems): void {
  const around = {
    unit: ownUnit(),
    stopping: (unit: string) => stoppingUnits([unit]),
    isAtWork: () => isRunAtWork(places, ecosystems),
  };
  const look = async () => {
    try {
      if (await isToGiveWay(around)) {
        log.error(
          "told to stop while a tool is at work, and the host stays up: it goes on without this process",
        );
        process.exit(EXIT.unavailable);
      }
    } catch (error) {
      // Whoever can't tell waits: that cuts nothing off.
      log.warn("can't see why this service is to stop", { problem: messageOf(error) });
    }
    later(POLL_MS);
  };
  // It keeps no process alive that has nothing else to do.
  const later = (ms: number) => setTimeout(look, ms).unref();
  later(FIRST_LOOK_MS);
}

/** The service that this process is of, null where systemd started none. */
function ownUnit(): string | null {
  return unitOf(readFileSync("/proc/self/cgroup", "utf8"));
}

/** The unit in a process's list of control groups (cgroups(7)), in the unified tree or systemd's own; null for none. */
export function unitOf(cgroups: string): string | null {
  return /^(?:0:|\d+:name=systemd):.*\/([^/\n]+\.service)$/m.exec(cgroups)?.[1] ?? null;
}
