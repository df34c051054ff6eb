import { AegisError } from "./errors.ts";

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

/** Shares out memory, in bytes: so much for everybody together, and so much of that for one user. */
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

/** A bounded number of places: so many for everybody together, and so many of those as `ofOne` says for one user. */
export interface Places {
  /** Takes one, and returns how to give it back; null where none is free for this uid. */
  take(uid: number): (() => void) | null;
}

export function places(all: number, ofOne: (uid: number) => number): Places {
  const taken = new Map<symbol, number>();
  return {
    take(uid) {
      const theirs = [...taken.values()].filter((other) => other === uid).length;
      if (taken.size >= all || theirs >= ofOne(uid)) return null;
      const place = Symbol();
      taken.set(place, uid);
      return () => taken.delete(place);
    },
  };
}

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
