import { AegisError } from "./errors.ts";

/*
 * What keeps a service small whatever it is sent: a byte budget, slots, and memory that is collected as requests come in.
 */

/** What one holder has of a budget. */
export interface Hold {
  /**
   * Says how many bytes it holds now. Holding less always works.
   * @throws AegisError `busy` where there is no room for more; it then holds what it held before
   */
  set(bytes: number): void;
}

export interface ByteBudget {
  /** A new holder, of nothing yet. Give everything back with `set(0)`. */
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
            const whose = theirs > bytesPerUid ? "you have" : "there are";
            const hint = "Wait until some of it is through, then try again.";
            throw new AegisError("busy", `${whose} too many large requests under way`, hint);
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

/** A bounded number of slots: `all` in total, and as many of them for one uid as `ofOne` says. */
export interface Slots {
  /** Takes one, and returns how to give it back; null where none is free for this uid. */
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

/** Bytes between two collections: reading this much takes about as long as a collection. */
const SWEEP_BYTES = 4 * 1024 * 1024;
/** Bytes of garbage for each byte of a request that was parsed. */
export const LEFT_BEHIND = 8;

let since = 0;

/**
 * Counts received bytes and the garbage they leave, over all connections, and collects it every {@link SWEEP_BYTES}. The engine
 * itself waits until much more has piled up.
 */
export function sweepAfter(bytes: number): void {
  since += bytes;
  if (since < SWEEP_BYTES) return;
  since = 0;
  Bun.gc(true);
}
