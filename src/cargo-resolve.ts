import { type CrateClosure, crateClosure, type NeededCrate } from "./cargo-closure.ts";
import { type CrateFacts, inspectCrate } from "./cargo-evidence.ts";
import type { CargoIndex, CrateEntry } from "./cargo-index.ts";
import { type LockedCrate, readLock } from "./cargo-lock.ts";
import type { CrateNeeds } from "./cargo-manifest.ts";
import { badArchive } from "./eco-archive.ts";
import { inParallel } from "./eco-closure.ts";
import { AegisError } from "./errors.ts";

/*
 * A crate with everything that building it takes, by the Cargo.lock inside its own file: what `cargo install --locked` goes by.
 */

const ASKED_AT_ONCE = 16;

/** One crate of the closure, fetched and looked into. */
export interface Crate {
  entry: CrateEntry;
  url: URL;
  /** In lower-case hex. */
  sha256: string;
  /** Bytes. */
  size: number;
  facts: CrateFacts;
  /** `name version` of a crate that needs it; null for the one that was asked for. */
  requiredBy: string | null;
}

/**
 * Resolves a version of a crate to all crates that building it on this host takes, the crate itself first.
 * @throws AegisError `refused` (no lock file, another source than the registry, an archive that can't be used), `evidence_mismatch`,
 * `not_found`, `unavailable`
 */
export async function resolveCrate(
  root: CrateEntry,
  index: CargoIndex,
  architecture: string,
): Promise<{ crates: Crate[]; features: ReadonlySet<string> }> {
  const first = await fetchCrate(root, null, index);
  const { lock, start } = lockOf(first);
  const entries = new Map<LockedCrate, CrateEntry>();
  const byIndex = (crate: LockedCrate): CrateNeeds | null => {
    if (crate === start) return first.facts.manifest;
    // Of what isn't the registry's it knows nothing; it is refused as soon as it is built.
    return crate.checksum === null ? NOTHING : (entries.get(crate) ?? null);
  };
  let closure = crateClosure(start, lock, byIndex, architecture);
  for (; closure.unknown.length > 0; closure = crateClosure(start, lock, byIndex, architecture)) {
    const found = await inParallel(closure.unknown, ASKED_AT_ONCE, async (crate) => ({
      crate,
      entry: await index.version(crate.name, crate.version),
    }));
    for (const { crate, entry } of found) entries.set(crate, entry);
  }
  const [, ...others] = closure.built;
  const fetched = await inParallel(others, ASKED_AT_ONCE, async ({ locked, requiredBy }) => {
    const entry = entries.get(locked);
    if (entry === undefined || entry.checksum !== locked.checksum) throw otherFile(locked, root);
    return { locked, crate: await fetchCrate(entry, requiredBy, index) };
  });
  const manifests = new Map(fetched.map(({ locked, crate }) => [locked, crate.facts.manifest]));
  const byManifests = crateClosure(start, lock, (one) => manifests.get(one) ?? byIndex(one), architecture);
  assertSame(closure, byManifests);
  return { crates: [first, ...fetched.map(({ crate }) => crate)], features: closure.features };
}

const NOTHING: CrateNeeds = { dependencies: [], features: new Map() };

async function fetchCrate(entry: CrateEntry, requiredBy: string | null, index: CargoIndex): Promise<Crate> {
  const { url, file } = await index.file(entry);
  const facts = inspectCrate(entry.name, entry.version, file.bytes);
  return { entry, url, sha256: file.sha256, size: file.bytes.length, facts, requiredBy };
}

/** @throws AegisError `refused` */
function lockOf({ entry: { name, version }, facts }: Crate): { lock: LockedCrate[]; start: LockedCrate } {
  if (facts.lock === null) {
    throw new AegisError(
      "refused",
      `${name} ${version} has no Cargo.lock: cargo would take whatever is newest on the day`,
      "Ask its authors to publish one, or take a version that has it.",
    );
  }
  const lock = readLock(facts.lock);
  const start = lock.find((one) => one.name === name && one.version === version && one.source === null);
  if (start === undefined) throw badArchive(`its Cargo.lock does not list ${name} ${version} itself`);
  return { lock, start };
}

/**
 * The index tells what to fetch; cargo goes by it too, but whoever reads a crate goes by its manifest. Where the two mean different
 * crates, one of them lies.
 */
function assertSame(byIndex: CrateClosure, byManifests: CrateClosure): void {
  const names = (crates: readonly NeededCrate[]) =>
    new Set(crates.map(({ locked }) => `${locked.name} ${locked.version}`));
  const [some, others] = [names(byIndex.built), names(byManifests.built)];
  const [odd] = some.symmetricDifference(others);
  if (odd === undefined) return;
  throw new AegisError(
    "evidence_mismatch",
    `the registry's index and the crates' own manifests don't agree whether ${odd} is needed`,
    "Don't install it, and tell the registry's administrator.",
  );
}

function otherFile({ name, version }: LockedCrate, root: CrateEntry): AegisError {
  return new AegisError(
    "evidence_mismatch",
    `the registry has another file of ${name} ${version} than the Cargo.lock of ${root.name} names`,
    "Don't install it, and tell the crate's authors.",
  );
}
