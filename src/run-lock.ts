import { closeSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AegisError } from "./errors.ts";
import { tryFlock } from "./ffi.ts";
import { identify, isSameProcess } from "./processes.ts";
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

/** Who waits: an execution, and the user who submitted it as the front reports. */
export interface Waiter {
  execution: string;
  uid: number;
}

/** Most executions that may wait, of everybody and of one user. */
export interface QueueLimits {
  all: number;
  perUid: number;
}

/**
 * Waits for the run lock, first come first served: each waiter leaves a ticket (arrival time and process) and
 * takes the lock only when no older ticket of a living process is left. The ticket stays until the lock is released, so
 * that whoever holds it can be seen; a dead one's is swept away. `onPlace` hears how many are before us, at each change.
 * @throws AegisError `replay` when this execution waits already, `busy` when too many do; the reason of `stop`
 */
export async function waitForRunLock(
  { execution, uid }: Waiter,
  limits: QueueLimits,
  onPlace: (place: number) => void,
  stop?: AbortSignal,
): Promise<RunLock> {
  const { pid, start, boot } = identify(process.pid);
  const ticket = `${String(Date.now()).padStart(16, "0")}-${String(process.hrtime.bigint()).padStart(20, "0")}.${pid}.${start}.${execution}.${uid}.${boot}`;
  admit({ execution, uid }, limits);
  const path = join(STATE.lock, `q.${ticket}`);
  writeFileSync(path, "", { mode: 0o600, flag: "wx" });
  const leave = () => rmSync(path, { force: true });
  try {
    let last = -1;
    for (;;) {
      stop?.throwIfAborted();
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

/** One place a plan, so that one plan can't fill the queue, and not all of them to one user. */
function admit({ execution, uid }: Waiter, { all, perUid }: QueueLimits): void {
  const waiting = tickets();
  if (waiting.some((ticket) => ticket.execution === execution)) {
    throw new AegisError(
      "replay",
      "this execution plan has been submitted already: it runs, or waits",
      `Watch it: aegis apply --watch ${execution}`,
    );
  }
  const own = waiting.filter((ticket) => ticket.uid === uid).length;
  if (waiting.length < all && (own < perUid || uid === 0)) return;
  throw new AegisError(
    "busy",
    `${waiting.length} executions are waiting already, ${own} of them yours`,
    "Try again when some have ended: aegis daemon status",
  );
}

/** Tickets of the living, oldest first. */
function tickets(): ({ key: string } & Waiter)[] {
  return readdirSync(STATE.lock)
    .filter((name) => name.startsWith("q."))
    .flatMap((name) => {
      const key = name.slice(2);
      const [, pid = "", start = "", execution = "", uid = "", boot = ""] = key.split(".");
      if (isSameProcess({ pid: Number(pid), start: Number(start), boot }))
        return [{ key, execution, uid: Number(uid) }];
      rmSync(join(STATE.lock, name), { force: true });
      return [];
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** Executions that have the lock or wait for it, in their order. */
export function queued(): string[] {
  return tickets().map((ticket) => ticket.execution);
}
