import { closeSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AegisError } from "./errors.ts";
import { tryFlock } from "./sys-ffi.ts";
import { identify, isSameProcess } from "./sys-process.ts";
import { STATE, type StatePaths } from "./sys-state.ts";

const POLL_MS = 100;
/** The locked file. It holds the users who had the lock recently. */
const LOCK = "run";
/** Prefixes of ticket names. */
const WAITING = "q.";
const RUNNING = "r.";
/** More users than may wait at a time. */
const MAX_SERVED = 64;

export interface RunLock {
  release(): void;
}

/** Takes the run lock without waiting; null if another process holds it. */
export function tryRunLock(paths: StatePaths = STATE): RunLock | null {
  const fd = openSync(join(paths.lock, LOCK), "a", 0o600);
  if (tryFlock(fd)) return { release: () => closeSync(fd) };
  closeSync(fd);
  return null;
}

/** A waiting execution, and the user who submitted it, as reported by the front. */
export interface Waiter {
  execution: string;
  uid: number;
}

/** Limits on waiting executions, in total and per user. */
export interface QueueLimits {
  all: number;
  perUid: number;
}

/** A slot in the queue, from its file name. */
interface Ticket extends Waiter {
  /** Sorts by arrival. */
  key: string;
  /** Whether it has the lock. */
  running: boolean;
}

/**
 * Waits for the run lock. Users take turns, so that one user's many plans don't delay the others'; each user's own plans run
 * in order of arrival. Each waiter creates a ticket (arrival time and process) and takes the lock only if no ticket of a live
 * process comes before its own. The ticket stays until the lock is released, so that the holder is visible; tickets of dead
 * processes are removed. Calls `onPlace` with the number of tickets ahead whenever it changes.
 * @throws AegisError `replay` if this execution is already waiting, `busy` if too many are; the reason of `stop`
 */
export async function waitForRunLock(
  { execution, uid }: Waiter,
  limits: QueueLimits,
  onPlace: (place: number) => void,
  stop?: AbortSignal,
  paths: StatePaths = STATE,
): Promise<RunLock> {
  const { pid, start, boot } = identify(process.pid);
  const key = `${String(Date.now()).padStart(16, "0")}-${String(process.hrtime.bigint()).padStart(20, "0")}.${pid}.${start}.${execution}.${uid}.${boot}`;
  admit({ execution, uid }, limits, paths);
  const waiting = join(paths.lock, `${WAITING}${key}`);
  const running = join(paths.lock, `${RUNNING}${key}`);
  writeFileSync(waiting, "", { mode: 0o600, flag: "wx" });
  const leave = () => {
    for (const path of [waiting, running]) rmSync(path, { force: true });
  };
  let lock: RunLock | null = null;
  try {
    let last = -1;
    for (;;) {
      stop?.throwIfAborted();
      const place = inTurn(tickets(paths), served(paths)).findIndex((ticket) => ticket.key === key);
      lock = place === 0 ? tryRunLock(paths) : null;
      if (lock !== null) break;
      if (place !== last) onPlace(place);
      last = place;
      // Polls less often further back in the queue.
      await Bun.sleep(POLL_MS * Math.min(place + 1, 10));
    }
    renameSync(waiting, running);
    rememberServed(uid, paths);
    const { release } = lock;
    return {
      release() {
        leave();
        release();
      },
    };
  } catch (error) {
    leave();
    lock?.release();
    throw error;
  }
}

/**
 * Tickets in order of turns: the lock's holder, then every user's first ticket, then every user's second, and so on; within a
 * round, the user who had the lock longest ago comes first. `served` lists users in the order in which they last had it.
 */
export function inTurn<T extends Pick<Ticket, "key" | "uid" | "running">>(
  tickets: readonly T[],
  served: readonly number[],
): T[] {
  const counts = new Map<number, number>();
  return tickets
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .map((ticket) => {
      const before = ticket.running ? -1 : (counts.get(ticket.uid) ?? 0);
      if (!ticket.running) counts.set(ticket.uid, before + 1);
      return { ticket, before, lately: served.lastIndexOf(ticket.uid) };
    })
    .toSorted((a, b) => a.before - b.before || a.lately - b.lately)
    .map(({ ticket }) => ticket);
}

/** Users in the order in which they last had the lock. Used for the order of turns only. */
function served(paths: StatePaths): number[] {
  try {
    return readFileSync(join(paths.lock, LOCK), "utf8")
      .split(" ")
      .filter((uid) => /^-?\d+$/.test(uid))
      .map(Number);
  } catch {
    return [];
  }
}

/** Saves the user in the lock's file. The caller holds the lock. */
function rememberServed(uid: number, paths: StatePaths): void {
  const list = [...served(paths).filter((other) => other !== uid), uid].slice(-MAX_SERVED);
  try {
    writeFileSync(join(paths.lock, LOCK), list.join(" "));
  } catch {
    // A full disk must not block a repair; turns then follow the last list that was written.
  }
}

/** One slot per plan and a share per user, so that neither can fill the queue. */
function admit({ execution, uid }: Waiter, { all, perUid }: QueueLimits, paths: StatePaths): void {
  const waiting = tickets(paths);
  if (waiting.some((ticket) => ticket.execution === execution)) {
    throw new AegisError(
      "replay",
      "this execution plan has already been submitted: it is running or waiting",
      `Watch it: aegis apply --watch ${execution}`,
    );
  }
  const own = waiting.filter((ticket) => ticket.uid === uid).length;
  if (waiting.length < all && (own < perUid || uid === 0)) return;
  throw new AegisError(
    "busy",
    `${waiting.length} executions are already waiting, ${own} of them yours`,
    "Try again when some have ended: aegis daemon status",
  );
}

/** Tickets of live processes, unordered. */
function tickets(paths: StatePaths): Ticket[] {
  return readdirSync(paths.lock)
    .filter((name) => name.startsWith(WAITING) || name.startsWith(RUNNING))
    .flatMap((name) => {
      const key = name.slice(WAITING.length);
      const [, pid = "", start = "", execution = "", uid = "", boot = ""] = key.split(".");
      if (isSameProcess({ pid: Number(pid), start: Number(start), boot }))
        return [{ key, execution, uid: Number(uid), running: name.startsWith(RUNNING) }];
      rmSync(join(paths.lock, name), { force: true });
      return [];
    });
}

/** Executions that hold the lock or wait for it, in order. */
export function queued(paths: StatePaths = STATE): string[] {
  return inTurn(tickets(paths), served(paths)).map((ticket) => ticket.execution);
}
