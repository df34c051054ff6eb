import type { CrateFacts } from "./cargo-evidence.ts";
import { prefixOf } from "./cargo-index.ts";
import { type LockedCrate, lockedFor, readLock } from "./cargo-lock.ts";
import type { CrateDependency, CrateManifest } from "./cargo-manifest.ts";
import { AegisError } from "./errors.ts";

/*
 * The index of a registry that holds the signed crates and nothing else, made from their own manifests and the lock file of the one
 * that is installed. Dependencies on anything else are left out: nothing of them is built. Of the crate itself cargo reads the manifest
 * and wants to find all of it, tests and other systems included, so that what is only named there has an entry without a file.
 */

/** A signed crate. */
export interface ClosedCrate {
  name: string;
  version: string;
  /** SHA-256 of its file in lower-case hex. */
  checksum: string;
  facts: CrateFacts;
}

interface Closed {
  root: ClosedCrate;
  lock: readonly LockedCrate[];
  has(locked: LockedCrate): boolean;
}

/**
 * Files of the index by path.
 * @throws AegisError `evidence_mismatch` where no crate's lock file has all the others
 */
export function indexFiles(crates: readonly ClosedCrate[]): Map<string, string> {
  const closed = closedBy(crates);
  const lines = [...crates.map((crate) => lineOf(crate, closed)), ...namedOnly(closed)];
  const files = new Map<string, string>();
  for (const { name, line } of lines) {
    const lower = name.toLowerCase();
    const path = `${prefixOf(lower)}/${lower}`;
    files.set(path, `${files.get(path) ?? ""}${JSON.stringify(line)}\n`);
  }
  return files;
}

/** The crate that is installed is the one whose lock file has all the others. */
function closedBy(crates: readonly ClosedCrate[]): Closed {
  const keyOf = (name: string, version: string, checksum: string | null) => `${name} ${version} ${checksum}`;
  const keys = new Set(crates.map(({ name, version, checksum }) => keyOf(name, version, checksum)));
  for (const root of crates) {
    const lock = root.facts.lock === null ? [] : readLock(root.facts.lock);
    const known = new Set(lock.map(({ name, version, checksum }) => keyOf(name, version, checksum)));
    const isComplete = crates.every(
      (one) => one === root || known.has(keyOf(one.name, one.version, one.checksum)),
    );
    if (isComplete && known.has(keyOf(root.name, root.version, null)))
      return { root, lock, has: ({ name, version, checksum }) => keys.has(keyOf(name, version, checksum)) };
  }
  throw new AegisError("evidence_mismatch", "no crate's Cargo.lock has all the other crates of the plan");
}

function lineOf({ name, version, checksum, facts }: ClosedCrate, { root, lock, has }: Closed) {
  const { manifest } = facts;
  const own = lock.find(
    (one) =>
      one.name === name &&
      one.version === version &&
      one.checksum === (name === root.name && version === root.version ? null : checksum),
  );
  const isKept = (one: CrateDependency) =>
    one.kind !== "dev" && own !== undefined && lockedFor(one, own, lock).some(has);
  const kept = manifest.dependencies.filter(isKept);
  return { name, line: entry(name, version, checksum, kept, featuresWithout(manifest, kept)) };
}

/** The features without what they ask of dependencies that are left out; what such a one switched on alone is empty. */
function featuresWithout(
  manifest: CrateManifest,
  kept: readonly CrateDependency[],
): Record<string, string[]> {
  const left = new Set(kept.map(({ name }) => name));
  const gone = new Set(manifest.dependencies.map(({ name }) => name).filter((name) => !left.has(name)));
  const features: Record<string, string[]> = {};
  for (const name of gone) features[name] = [];
  for (const [feature, values] of manifest.features)
    features[feature] = values.filter(
      (value) =>
        !gone.has(value.replace(/^dep:/, "").replace(/\??\/.*$/, "")) || features[value] !== undefined,
    );
  return features;
}

/**
 * What the crate's manifest names and nothing builds, with all features that are asked of it. For the crate that is installed cargo takes
 * any version of the lock file that fits, not only the one that the lock file names for it (measured: cargo 1.95).
 */
function namedOnly({ root, lock, has }: Closed) {
  const { manifest } = root.facts;
  const own = lock.find(
    ({ name, version, source }) => name === root.name && version === root.version && source === null,
  );
  const found = new Map<LockedCrate, Set<string>>();
  for (const one of own === undefined ? [] : manifest.dependencies) {
    const asked = [...manifest.features.values()].flat().flatMap((value) => {
      const [, name, feature] = /^([^/]+?)\??\/(.+)$/.exec(value) ?? [];
      return name === one.name && feature !== undefined ? [feature] : [];
    });
    for (const locked of lock.filter(({ name }) => name === one.crate)) {
      if (has(locked) || locked === own) continue;
      const features = found.get(locked) ?? new Set<string>();
      for (const feature of [...one.features, ...asked]) features.add(feature);
      found.set(locked, features);
    }
  }
  return [...found].map(([{ name, version, checksum }, features]) => ({
    name,
    line: entry(
      name,
      version,
      checksum ?? "0".repeat(64),
      [],
      Object.fromEntries([...features].map((one) => [one, []])),
    ),
  }));
}

function entry(
  name: string,
  version: string,
  checksum: string,
  dependencies: readonly CrateDependency[],
  features: Record<string, string[]>,
) {
  return {
    name,
    vers: version,
    deps: dependencies.map((one) => ({
      name: one.name,
      req: one.versions,
      features: one.features,
      optional: one.isOptional,
      default_features: one.usesDefault,
      target: one.target,
      kind: one.kind,
      ...(one.crate === one.name ? {} : { package: one.crate }),
    })),
    cksum: checksum,
    features: {},
    features2: features,
    yanked: false,
    v: 2,
  };
}
