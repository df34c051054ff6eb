/** A bounded number of places: so many for everybody together, and so many of those for one user. */
export interface Places {
  /** Takes one, and returns how to give it back; null where none is free for this uid. */
  take(uid: number): (() => void) | null;
}

export function places(all: number, perUid: number): Places {
  const taken = new Map<symbol, number>();
  return {
    take(uid) {
      const theirs = [...taken.values()].filter((other) => other === uid).length;
      if (taken.size >= all || theirs >= perUid) return null;
      const place = Symbol();
      taken.set(place, uid);
      return () => taken.delete(place);
    },
  };
}
