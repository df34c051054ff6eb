import { AegisError } from "./errors.ts";

/* Limits on a service's memory: a byte budget, slots, and garbage collection as requests come in. */

/** One holder's share of a budget. */
export interface Hold {
  /**
   * Sets the number of bytes held. Reducing it always succeeds.
   * @throws AegisError `busy` if there is no room for more; the holder keeps what it had
   */
  set(bytes: number): void;
}

export interface ByteBudget {
  /** A new holder with 0 bytes. Release it with `set(0)`. */
  hold(uid: number): Hold;
}

/** A byte budget: a total, and a share of it per uid. */
export function byteBudget({ bytes, bytesPerUid }: { bytes: number; bytesPerUid: number }): ByteBudget {
  const ofUid = new Map<number, number>();
  let total = 0;
  return {
    hold(uid) {
      let mine = 0;
      return {
        set(wanted) {
          const more = wanted - mine;
          const theirs = (ofUid.get(uid) ?? 0) + more;
          if (more > 0 && (total + more > bytes || theirs > bytesPerUid)) {
            const subject = theirs > bytesPerUid ? "you have" : "there are";
            const hint = "Wait until some of them are answered, then try again.";
            throw new AegisError("busy", `${subject} too many large requests in progress`, hint);
          }
          mine = wanted;
          total += more;
          if (theirs === 0) ofUid.delete(uid);
          else ofUid.set(uid, theirs);
        },
      };
    },
  };
}

/** A pool of slots: `all` in total, and at most `ofOne(uid)` for one uid. */
export interface Slots {
  /** Takes a slot and returns the function that releases it; null if none is free for this uid. */
  take(uid: number): (() => void) | null;
}

export function slots(all: number, ofOne: (uid: number) => number): Slots {
  const taken = new Map<symbol, number>();
  return {
    take(uid) {
      const theirs = [...taken.values()].filter((other) => other === uid).length;
      if (taken.size >= all || theirs >= ofOne(uid)) return null;
      const slot = Symbol();
      taken.set(slot, uid);
      return () => taken.delete(slot);
    },
  };
}

/** Bytes between two collections; reading this much takes about as long as one collection. */
const SWEEP_BYTES = 4 * 1024 * 1024;
/** Bytes of garbage per byte of a parsed request. */
export const GARBAGE_PER_BYTE = 8;

let since = 0;

/**
 * Counts received bytes and the garbage they cause, over all connections, and runs the collector every {@link
 * SWEEP_BYTES}. Left alone, the engine waits until much more has piled up.
 */
export function sweepAfter(bytes: number): void {
  since += bytes;
  if (since < SWEEP_BYTES) return;
  since = 0;
  Bun.gc(true);
}
