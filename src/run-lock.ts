import { closeSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AegisError } from "./errors.ts";
import { tryFlock } from "./ffi.ts";
import { isSameProcess, startTimeOf } from "./processes.ts";
import { STATE } from "./state.ts";

const POLL_MS = 100;

export interface RunLock {
  release(): void;
}

/** Takes the run lock when nobody holds it, without waiting. */
export function tryRunLock(): RunLock | null {
  const fd = openSync(join(STATE.lock, "run"), "a", 0o600);
  if (tryFlock(fd)) return { release: () => closeSync(fd) };
  closeSync(fd);
  return null;
}

/**
 * Waits for the run lock, first come first served: each waiter leaves a ticket (arrival time, pid, its start time) and
 * takes the lock only when no older ticket of a living process is left. The ticket stays until the lock is released, so
 * that whoever holds it can be seen; a dead one's is swept away. `onPlace` hears how many are before us, at each change.
 * @throws AegisError `busy` when more than `limit` wait already
 */
export async function waitForRunLock(
  execution: string,
  limit: number,
  onPlace: (place: number) => void,
): Promise<RunLock> {
  const ticket = `${String(Date.now()).padStart(16, "0")}-${String(process.hrtime.bigint()).padStart(20, "0")}.${process.pid}.${startTimeOf(process.pid) ?? 0}.${execution}`;
  if (tickets().length >= limit) {
    throw new AegisError(
      "busy",
      `${limit} executions are waiting already`,
      "Try again when some have ended: aegis daemon status",
    );
  }
  const path = join(STATE.lock, `q.${ticket}`);
  writeFileSync(path, "", { mode: 0o600, flag: "wx" });
  const leave = () => rmSync(path, { force: true });
  try {
    let last = -1;
    for (;;) {
      const place = tickets().filter((other) => other.key < ticket).length;
      if (place === 0) {
        const lock = tryRunLock();
        if (lock !== null) {
          return {
            release() {
              leave();
              lock.release();
            },
          };
        }
      }
      if (place !== last) onPlace(place);
      last = place;
      // The further behind, the less there is to miss.
      await Bun.sleep(POLL_MS * Math.min(place + 1, 10));
    }
  } catch (error) {
    leave();
    throw error;
  }
}

/** Tickets of the living, oldest first. */
function tickets(): { key: string; execution: string }[] {
  return readdirSync(STATE.lock)
    .filter((name) => name.startsWith("q."))
    .flatMap((name) => {
      const key = name.slice(2);
      const [, pid = "", start = "", execution = ""] = key.split(".");
      if (isSameProcess(Number(pid), Number(start))) return [{ key, execution }];
      rmSync(join(STATE.lock, name), { force: true });
      return [];
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** Executions that have the lock or wait for it, in their order. */
export function queued(): string[] {
  return tickets().map((ticket) => ticket.execution);
}
