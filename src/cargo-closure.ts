import { assertFromRegistry, type LockedCrate, lockedFor } from "./cargo-lock.ts";
import type { CrateDependency, CrateNeeds } from "./cargo-manifest.ts";
import { isForTarget } from "./cargo-platform.ts";
import { badArchive } from "./eco-archive.ts";

/*
 * Which crates of a lock file are built for a host with the default features of the crate that is installed: what `cargo install
 * --locked` downloads. As in cargo's dependency resolver, features of one version are the union of what everybody asks of it, on any
 * host and for any kind of dependency; then only what this host builds is followed. Dependencies of tests never count.
 * https://doc.rust-lang.org/cargo/reference/features.html, cargo's core/resolver/dep_cache.rs
 */

/** A crate of the closure. */
export interface NeededCrate {
  locked: LockedCrate;
  /** `name version` of a crate that needs it; null for the one that is installed. */
  requiredBy: string | null;
}

export interface CrateClosure {
  /** Crates that are built, the one that is installed first. */
  built: NeededCrate[];
  /** Crates whose needs aren't known yet, so that this is not the whole closure. */
  unknown: LockedCrate[];
  /** Features of the installed crate that are on. */
  features: ReadonlySet<string>;
}

/** A crate whose features are being found out. */
interface State {
  needs: CrateNeeds;
  features: Set<string>;
  /** Optional dependencies that a feature has switched on. */
  chosen: Set<string>;
  /** Features that its features ask of its dependencies. */
  asked: Map<string, Set<string>>;
}

/**
 * The closure of `root`. `needsOf` returns what a crate needs, or null while that isn't known. Pure.
 * @throws AegisError `refused` for something that isn't from the registry, or that the lock file doesn't name
 */
export function crateClosure(
  root: LockedCrate,
  lock: readonly LockedCrate[],
  needsOf: (crate: LockedCrate) => CrateNeeds | null,
  architecture: string,
): CrateClosure {
  const states = new Map<LockedCrate, State>();
  const unknown = new Set<LockedCrate>();
  const edges = memoised(lock);
  const queue: { crate: LockedCrate; wanted: readonly string[] }[] = [{ crate: root, wanted: ["default"] }];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const { crate, wanted } = next;
    const known = states.get(crate);
    const state = known ?? newState(needsOf(crate));
    if (state === null) unknown.add(crate);
    if (state === null || (known !== undefined && wanted.every((one) => state.features.has(one)))) continue;
    states.set(crate, state);
    for (const one of wanted) switchOn(one, state);
    for (const dependency of activeOf(state)) {
      const asked = [
        ...dependency.features,
        ...(state.asked.get(dependency.name) ?? []),
        ...(dependency.usesDefault ? ["default"] : []),
      ];
      for (const one of edges(dependency, crate)) queue.push({ crate: one, wanted: asked });
    }
  }
  return {
    built: builtOf(root, states, edges, architecture),
    unknown: [...unknown],
    features: states.get(root)?.features ?? new Set(),
  };
}

type Edges = (dependency: CrateDependency, by: LockedCrate) => LockedCrate[];

function memoised(lock: readonly LockedCrate[]): Edges {
  const found = new Map<CrateDependency, LockedCrate[]>();
  return (dependency, by) => {
    const known = found.get(dependency) ?? lockedFor(dependency, by, lock);
    found.set(dependency, known);
    return known;
  };
}

function newState(needs: CrateNeeds | null): State | null {
  return needs === null ? null : { needs, features: new Set(), chosen: new Set(), asked: new Map() };
}

function activeOf({ needs, chosen }: State): CrateDependency[] {
  return needs.dependencies.filter(
    ({ kind, isOptional, name }) => kind !== "dev" && (!isOptional || chosen.has(name)),
  );
}

/**
 * `name`, `dep:name`, `name/feature` or `name?/feature`. cargo's resolver switches the dependency on for the last too, which its build
 * may then leave out; but not the feature that is called like the dependency.
 */
function switchOn(feature: string, state: State): void {
  const { needs, features, chosen, asked } = state;
  const queue = [feature];
  for (let one = queue.pop(); one !== undefined; one = queue.pop()) {
    const slash = one.indexOf("/");
    if (one.startsWith("dep:")) {
      chosen.add(one.slice(4));
    } else if (slash > 0) {
      const isWeak = one[slash - 1] === "?";
      const name = one.slice(0, isWeak ? slash - 1 : slash);
      chosen.add(name);
      asked.set(name, (asked.get(name) ?? new Set()).add(one.slice(slash + 1)));
      if (!isWeak && needs.dependencies.some((it) => it.isOptional && it.name === name)) queue.push(name);
    } else if (!features.has(one)) {
      features.add(one);
      const means = needs.features.get(one);
      // An optional dependency is also a feature.
      if (means === undefined) chosen.add(one);
      else queue.push(...means);
    }
  }
}

function builtOf(
  root: LockedCrate,
  states: ReadonlyMap<LockedCrate, State>,
  edges: Edges,
  architecture: string,
): NeededCrate[] {
  const built = new Map<LockedCrate, NeededCrate>([[root, { locked: root, requiredBy: null }]]);
  // The map grows while it is gone through.
  for (const { locked } of built.values()) {
    const state = states.get(locked);
    const requiredBy = `${locked.name} ${locked.version}`;
    for (const dependency of state === undefined ? [] : activeOf(state)) {
      if (!isForTarget(dependency.target, architecture)) continue;
      const found = edges(dependency, locked);
      if (found.length === 0)
        throw badArchive(`its Cargo.lock does not name ${dependency.crate}, which ${requiredBy} needs`);
      for (const one of found) {
        assertFromRegistry(one, requiredBy);
        if (!built.has(one)) built.set(one, { locked: one, requiredBy });
      }
    }
  }
  return [...built.values()];
}
