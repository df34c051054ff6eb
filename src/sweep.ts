/*
 * By itself the engine collects what requests leave behind only when much of it has piled up, which is late for a service
 * that is to stay small whatever it is sent. Here it is collected as it comes.
 */

/** So much costs about as long to be read as a collection takes. */
const SWEEP_BYTES = 4 * 1024 * 1024;
/** A request leaves many times its size behind when it is read. */
export const LEFT_BEHIND = 8;

let since = 0;

/** Counts bytes that came in or were left behind, by all connections, and collects them when they are many. */
export function sweepAfter(bytes: number): void {
  since += bytes;
  if (since < SWEEP_BYTES) return;
  since = 0;
  Bun.gc(true);
}
