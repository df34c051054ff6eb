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
