import * as v from "valibot";
import { type CargoIndex, type CrateEntry, isForTarget } from "./cargo-index.ts";
import type { ArchiveFile } from "./eco-archive.ts";
import { badArchive } from "./eco-archive.ts";
import type { PackageFile, Planning, RegistryRequest } from "./eco-planning.ts";
import { readTarGz } from "./eco-tar.ts";
import { AegisError } from "./errors.ts";
import { parseToml } from "./sys-toml.ts";

/*
 * A crate with everything that building it takes, by the Cargo.lock inside its own file: what `cargo install --locked` goes by.
 */

const MAX_CRATES = 4000;
const ASKED_AT_ONCE = 8;
/** How Cargo.lock calls crates.io, whatever stands for it in the configuration. */
const CRATES_IO = [
  "registry+https://github.com/rust-lang/crates.io-index",
  "sparse+https://index.crates.io/",
];

const Locked = v.looseObject({
  name: v.string(),
  version: v.string(),
  source: v.optional(v.string()),
  checksum: v.optional(v.string()),
  dependencies: v.optional(v.array(v.string()), []),
});
type Locked = v.InferOutput<typeof Locked>;
const Lock = v.looseObject({ package: v.array(Locked) });

const Manifest = v.looseObject({
  package: v.looseObject({
    name: v.string(),
    version: v.string(),
    build: v.optional(v.union([v.string(), v.boolean(), v.array(v.string())])),
    links: v.optional(v.string()),
    license: v.optional(v.string()),
  }),
  lib: v.optional(
    v.looseObject({ "proc-macro": v.optional(v.boolean()), proc_macro: v.optional(v.boolean()) }),
  ),
  bin: v.optional(v.array(v.looseObject({ name: v.optional(v.string()) })), []),
});

/** One crate of the closure, unpacked in memory. */
export interface Crate {
  entry: CrateEntry;
  url: URL;
  file: PackageFile;
  files: ArchiveFile[];
  manifest: v.InferOutput<typeof Manifest>;
  /** `name version` of a crate that needs it; null for the one that was asked for. */
  requiredBy: string | null;
}

/**
 * Resolves a version of a crate to all crates that building it on this host takes, the crate itself first.
 * @throws AegisError `refused` (no lock file, another source than the registry, an archive that can't be used), `evidence_mismatch`,
 * `unavailable`
 */
export async function resolveCrate(
  root: CrateEntry,
  index: CargoIndex,
  request: RegistryRequest,
  planning: Planning,
): Promise<Crate[]> {
  const fetch = (entry: CrateEntry, requiredBy: string | null) =>
    fetchCrate(entry, requiredBy, { index, request, planning });
  const first = await fetch(root, null);
  const lock = readLock(first);
  const wanted = await follow(root, lock, index, planning.host.architecture);
  const crates = [first];
  for (let at = 0; at < wanted.length; at += ASKED_AT_ONCE) {
    const group = wanted.slice(at, at + ASKED_AT_ONCE);
    crates.push(...(await Promise.all(group.map(({ entry, requiredBy }) => fetch(entry, requiredBy)))));
  }
  return crates;
}

async function fetchCrate(
  entry: CrateEntry,
  requiredBy: string | null,
  { index, request, planning }: { index: CargoIndex; request: RegistryRequest; planning: Planning },
): Promise<Crate> {
  const { name, vers, cksum } = entry;
  const url = await index.fileUrl(entry);
  const file = await planning.packageFile(url, { algorithm: "sha256", hex: cksum }, request);
  const prefix = `${name}-${vers}/`;
  const files = readTarGz(file.bytes).map((one) => {
    if (!one.path.startsWith(prefix)) throw badArchive(`${JSON.stringify(one.path)} is not below ${prefix}`);
    return { ...one, path: one.path.slice(prefix.length) };
  });
  const text = textOf(files, "Cargo.toml");
  if (text === null) throw badArchive(`${name} ${vers} has no Cargo.toml`);
  const { tree, problem } = parseToml(text);
  const parsed = v.safeParse(Manifest, tree);
  if (problem !== null || !parsed.success)
    throw badArchive(`the Cargo.toml of ${name} ${vers} can't be read`);
  const stated = parsed.output.package;
  if (stated.name !== name || stated.version !== vers)
    throw badArchive(`the Cargo.toml of ${name} ${vers} is of ${stated.name} ${stated.version}`);
  return { entry, url, file, files, manifest: parsed.output, requiredBy };
}

/** The text of a file of a crate; null where it isn't there. */
export function textOf(files: readonly ArchiveFile[], path: string): string | null {
  const found = files.find((one) => one.path === path);
  return found === undefined ? null : Buffer.from(found.data).toString("utf8");
}

/** @throws AegisError `refused` */
function readLock({ entry, files }: Crate): Locked[] {
  const text = textOf(files, "Cargo.lock");
  if (text === null) {
    throw new AegisError(
      "refused",
      `${entry.name} ${entry.vers} has no Cargo.lock: cargo would take whatever is newest on the day`,
      "Ask its authors to publish one, or take a version that has it.",
    );
  }
  const { tree, problem } = parseToml(text);
  const parsed = v.safeParse(Lock, tree);
  if (problem !== null || !parsed.success || parsed.output.package.length > MAX_CRATES)
    throw badArchive(`the Cargo.lock of ${entry.name} ${entry.vers} can't be read`);
  return parsed.output.package;
}

interface Wanted {
  entry: CrateEntry;
  requiredBy: string;
}

/**
 * Follows the lock from the root through the dependencies that a build for this host has: not those of tests, nor those of other
 * systems.
 */
async function follow(
  root: CrateEntry,
  lock: readonly Locked[],
  index: CargoIndex,
  architecture: string,
): Promise<Wanted[]> {
  const found = new Map<string, Wanted>();
  const start = lock.find(
    ({ name, version, source }) => name === root.name && version === root.vers && source === undefined,
  );
  if (start === undefined) throw badArchive(`its Cargo.lock does not list ${root.name} ${root.vers} itself`);
  const queue = [{ locked: start, entry: root }];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { locked, entry } = next;
    const requiredBy = `${entry.name} ${entry.vers}`;
    for (const text of locked.dependencies) {
      const dependency = lockedBy(text, lock);
      if (!isBuilt(entry, dependency.name, architecture)) continue;
      const key = `${dependency.name} ${dependency.version}`;
      if (found.has(key)) continue;
      assertFromRegistry(dependency, requiredBy);
      const own = await index.version(dependency.name, dependency.version);
      if (own.cksum !== dependency.checksum)
        throw new AegisError(
          "evidence_mismatch",
          `the registry has another file of ${key} than the Cargo.lock of ${root.name} names`,
          "Don't install it, and tell the crate's authors.",
        );
      found.set(key, { entry: own, requiredBy });
      queue.push({ locked: dependency, entry: own });
    }
  }
  return [...found.values()];
}

/** The package that a line of `dependencies` means: `name`, `name version` or `name version (source)`. */
function lockedBy(text: string, lock: readonly Locked[]): Locked {
  const [name = "", version, source] = text.split(" ");
  const found = lock.filter(
    (one) =>
      one.name === name &&
      (version === undefined || one.version === version) &&
      (source === undefined || `(${one.source})` === source),
  );
  const [only, second] = found;
  if (only === undefined || second !== undefined)
    throw badArchive(`its Cargo.lock does not say which ${text} is meant`);
  return only;
}

function isBuilt(entry: CrateEntry, dependency: string, architecture: string): boolean {
  return entry.deps.some(
    (one) =>
      (one.package ?? one.name) === dependency && one.kind !== "dev" && isForTarget(one.target, architecture),
  );
}

function assertFromRegistry({ name, version, source }: Locked, requiredBy: string): void {
  if (source !== undefined && CRATES_IO.includes(source)) return;
  const from =
    source === undefined
      ? "a directory"
      : source.startsWith("git+")
        ? "a git repository"
        : "another registry";
  throw new AegisError(
    "refused",
    `${requiredBy} needs ${name} ${version} from ${from}, which nothing vouches for`,
    "Choose a version that takes everything from the registry.",
  );
}
