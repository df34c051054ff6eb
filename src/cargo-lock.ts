import * as v from "valibot";
import type { CrateDependency } from "./cargo-manifest.ts";
import { isCrate } from "./cargo-target.ts";
import { badArchive } from "./eco-archive.ts";
import { AegisError } from "./errors.ts";
import { parseToml } from "./sys-toml.ts";

/*
 * Cargo.lock, in all the formats that cargo has written: 1 has its checksums in a table of their own and names every dependency in
 * full, 2 to 4 have them with each package and names as short as they can be.
 * https://doc.rust-lang.org/cargo/reference/resolver.html, cargo's core/resolver/encode.rs
 */

const MAX_CRATES = 4000;
const NEWEST_FORMAT = 4;
/** How Cargo.lock calls crates.io, whatever stands for it in the configuration. */
const CRATES_IO: ReadonlySet<string> = new Set([
  "registry+https://github.com/rust-lang/crates.io-index",
  "sparse+https://index.crates.io/",
]);

const Package = v.looseObject({
  name: v.string(),
  version: v.string(),
  source: v.optional(v.string()),
  checksum: v.optional(v.string()),
  dependencies: v.optional(v.array(v.string()), []),
});
const Lock = v.looseObject({
  version: v.optional(v.number()),
  package: v.optional(v.array(Package), []),
  /** The package itself, in the oldest files. */
  root: v.optional(Package),
  metadata: v.optional(v.record(v.string(), v.unknown()), {}),
});

/** A package of a lock file. */
export interface LockedCrate {
  name: string;
  version: string;
  /** Where it comes from; null for a directory, which is only right for the crate that the lock file is in. */
  source: string | null;
  /** SHA-256 of its file in lower-case hex; null where the lock file has none. */
  checksum: string | null;
  /** `name`, `name version` or `name version (source)`. */
  dependencies: readonly string[];
}

/**
 * The packages of a lock file.
 * @throws AegisError `refused`
 */
export function readLock(text: string): LockedCrate[] {
  const { tree, problem } = parseToml(text);
  const parsed = v.safeParse(Lock, tree);
  if (!parsed.success)
    throw badArchive(`its Cargo.lock can't be read${problem === null ? "" : `: ${problem}`}`);
  const { version = 1, package: packages, root, metadata } = parsed.output;
  if (version > NEWEST_FORMAT) throw badArchive(`its Cargo.lock has format ${version}, which isn't known`);
  if (packages.length > MAX_CRATES) throw badArchive(`its Cargo.lock has more than ${MAX_CRATES} packages`);
  const apart = new Map(Object.entries(metadata));
  return [...packages, ...(root === undefined ? [] : [root])].map((one) => {
    const source = one.source ?? null;
    if (!isCrate(one.name, one.version))
      throw badArchive(
        `its Cargo.lock names ${JSON.stringify(`${one.name} ${one.version}`.slice(0, 200))}, which is no crate`,
      );
    const checksum = one.checksum ?? apart.get(`checksum ${one.name} ${one.version} (${source})`);
    return {
      name: one.name,
      version: one.version,
      source,
      checksum: typeof checksum === "string" && /^[0-9a-f]{64}$/.test(checksum) ? checksum : null,
      dependencies: one.dependencies,
    };
  });
}

/**
 * The packages of the lock file that a dependency of `by` can mean: one, or several where the lock file has several versions that fit;
 * none where it knows nothing of the dependency.
 * @throws AegisError `refused` for a lock file that is ambiguous
 */
export function lockedFor(
  { crate, versions }: CrateDependency,
  by: LockedCrate,
  lock: readonly LockedCrate[],
): LockedCrate[] {
  const found = by.dependencies
    .filter((line) => line.split(" ")[0] === crate)
    .map((line) => lineOf(line, lock));
  const fitting = found.filter(({ version }) => fits(version, versions));
  return fitting.length === 0 ? found : fitting;
}

function lineOf(line: string, lock: readonly LockedCrate[]): LockedCrate {
  const [name = "", version, source] = line.split(" ");
  const [only, second] = lock.filter(
    (one) =>
      one.name === name &&
      (version === undefined || one.version === version) &&
      (source === undefined || `(${one.source?.split("#")[0]})` === source.replace(/#.*\)$/, ")")),
  );
  if (only === undefined || second !== undefined)
    throw badArchive(`its Cargo.lock does not say which ${JSON.stringify(line.slice(0, 200))} is meant`);
  return only;
}

/** `1.2` means `^1.2`, and a comma that both must hold. */
function fits(version: string, versions: string): boolean {
  const range = versions
    .split(",")
    .map((one) => one.trim())
    .map((one) => (/^\d/.test(one) && !one.includes("*") ? `^${one}` : one))
    .join(" ");
  return Bun.semver.satisfies(version, range);
}

/**
 * Refuses what doesn't come from the registry.
 * @throws AegisError `refused`
 */
export function assertFromRegistry({ name, version, source }: LockedCrate, requiredBy: string): void {
  if (source !== null && CRATES_IO.has(source)) return;
  const from =
    source === null ? "a directory" : source.startsWith("git+") ? "a git repository" : "another registry";
  throw new AegisError(
    "refused",
    `${requiredBy} needs ${name} ${version} from ${from}, which nothing vouches for`,
    "Choose a version that takes everything from the registry.",
  );
}
