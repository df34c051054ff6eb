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
