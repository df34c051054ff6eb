import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, constants, lstatSync, openSync, readdirSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { readStanzas } from "./apt-deb822.ts";
import { splitClearSigned } from "./apt-release.ts";
import { listFileName } from "./apt-uri.ts";
import { sha256Hex } from "./canonical.ts";
import type { Held } from "./eco-driver.ts";
import { AegisError, messageOf } from "./errors.ts";
import { hasWriter } from "./sys-ffi.ts";
import { hashFile, readText, rootOnlyProblem } from "./sys-files.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The package indexes plans are made from. apt checks them only when downloading; its download user wrote them and may
 * still have them open for writing. So the executor makes sure that no process does, and then that each matches its
 * signed Release file. Planning checks the signatures, on the same files.
 */

/** Files apt decides by: Release files and their signatures, and package indexes in any compression. */
const INDEX = /_(?:InRelease|Release(?:\.gpg)?|Packages(?:\.(?:bz2|gz|lz4|lzma|xz|zst))?)$/;
const PACKAGES = /_Packages(\.[a-z0-9]+)?$/;

/** apt's program to decompress a file (`apt-helper cat-file`). */
const APT_HELPER = "/usr/lib/apt/apt-helper";
const TIME_LIMIT_MS = 120_000;

/**
 * Secures the indexes in apt's lists directory. `used` are the sources a plan takes packages from, as in the plan
 * (`<uri> <suite>`): each of their indexes must be listed in its Release file.
 * @throws AegisError `refused` if others than root could change one, by owner or mode or because it is open for writing
 */
export function sealIndexes(
  lists: string,
  used: readonly string[] = [],
  uncompressed = hashUncompressed,
): Held {
  const before = fingerprintsOf(lists);
  const reliedOn = used.map((id) => join(lists, listFileName(sourceOf(id), "")));
  for (const path of before.keys()) refuseWritable(path);
  return {
    check: () => checkIndexes([...before.keys()], reliedOn, uncompressed),
    refuseReplaced() {
      const now = fingerprintsOf(lists);
      const all = [...new Set([...before.keys(), ...now.keys()])];
      const other = all.find((path) => before.get(path) !== now.get(path));
      if (other === undefined) return;
      throw new AegisError(
        "drift",
        `apt's package lists were refreshed while Aegis planned again: ${basename(other)}`,
        "Apply the plan again: nothing was run, and the plan was not used.",
      );
    },
  };
}

function sourceOf(id: string): { uri: string; suite: string } {
  const space = id.lastIndexOf(" ");
  return { uri: id.slice(0, space), suite: id.slice(space + 1) };
}

/** Path → inode, size and times, which change when the file is replaced or written. */
function fingerprintsOf(lists: string): Map<string, string> {
  const fingerprints = new Map<string, string>();
  for (const name of readdirSync(lists).sort()) {
    if (!INDEX.test(name)) continue;
    const path = join(lists, name);
    // Both a link and its target.
    const stats = [
      lstatSync(path, { bigint: true }),
      statSync(path, { bigint: true, throwIfNoEntry: false }),
    ];
    fingerprints.set(
      path,
      stats.map((it) => [it?.dev, it?.ino, it?.size, it?.mtimeNs, it?.ctimeNs].join(" ")).join("; "),
    );
  }
  return fingerprints;
}

/**
 * Checks owner and mode first: then only root can open the file for writing, and one check of open descriptors is
 * enough. For a file: source apt keeps a link, and its target counts.
 */
function refuseWritable(path: string): void {
  const real = resolved(path);
  const problem = rootOnlyProblem(path === real ? path : dirname(path)) ?? rootOnlyProblem(real);
  const again =
    path === real
      ? "Fetch the lists again: apt-get update"
      : `It belongs to a file: source. Make that root's (chown root, chmod go-w, also for every directory above), or remove it from apt's sources; then: apt-get update`;
  if (problem !== null) throw refuse(problem, again);
  const fd = openSync(real, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    if (!hasWriter(fd)) return;
  } finally {
    closeSync(fd);
  }
  throw refuse(
    `${real} is open for writing, so it could change after planning`,
    `See who has it open: fuser -v ${real}. End that process, then: apt-get update`,
  );
}

function resolved(path: string): string {
  try {
    return lstatSync(path).isSymbolicLink() ? realpathSync(path) : path;
  } catch (error) {
    throw refuse(`can't examine ${path}: ${messageOf(error)}`, "Fetch the lists again: apt-get update");
  }
}

/**
 * Compares every package index with each Release file that lists it: a file name may belong to several sources
 * (`http://m/u x/` and `http://m/ u/`), and none may vouch for a file that another signed differently. An index listed
 * nowhere is accepted if the plan takes nothing from its source, or if the source has no Release file: planning then
 * reports it as unsigned.
 */
async function checkIndexes(
  paths: readonly string[],
  reliedOn: readonly string[],
  uncompressed: (path: string) => Promise<string>,
): Promise<void> {
  const releases = releasesOf(paths);
  await Promise.all(
    paths.map(async (path) => {
      const match = PACKAGES.exec(path);
      if (match === null) return;
      const compression = match[1];
      const plainPath = path.slice(0, path.length - (compression?.length ?? 0));
      const own = longest(reliedOn.filter((base) => path.startsWith(base)));
      for (const [base, hashes] of releases) {
        const [asIs, plain] = [hashes.get(path), hashes.get(plainPath)];
        if (asIs !== undefined && asIs === hashFile(path).sha256) continue;
        if (compression !== undefined && plain !== undefined && plain === (await uncompressed(path)))
          continue;
        if (asIs !== undefined || plain !== undefined) {
          throw refuse(
            `${path} is not the index that its signed Release file names`,
            "Fetch the lists again: apt-get update. Find out who changed it: only root and apt's user _apt could.",
          );
        }
        if (base === own) {
          throw refuse(
            `${path} is not listed in this form by its signed Release file, so its content can't be verified`,
            'Have the repository list its uncompressed indexes, or keep them compressed: Acquire::GzipIndexes "true", then apt-get update.',
          );
        }
      }
    }),
  );
}

function longest(texts: readonly string[]): string | undefined {
  return texts.toSorted((a, b) => b.length - a.length)[0];
}

/** Common prefix of a source's files → hashes in its Release file. As in apt, InRelease wins over Release. */
function releasesOf(paths: readonly string[]): Map<string, ReadonlyMap<string, string>> {
  const releases = new Map<string, ReadonlyMap<string, string>>();
  for (const suffix of ["Release", "InRelease"]) {
    for (const path of paths) {
      const base = path.slice(0, -suffix.length);
      if (path.endsWith(`_${suffix}`)) releases.set(base, releaseHashes(path, base));
    }
  }
  return releases;
}

/** Path of an index → SHA-256, for everything a Release file lists (apt's file names: `/` becomes `_`). */
function releaseHashes(path: string, base: string): ReadonlyMap<string, string> {
  const text = readText(path) ?? "";
  const body = path.endsWith("InRelease") ? (splitClearSigned(text)?.text ?? "") : text;
  const lines = readStanzas(body).stanzas[0]?.get("sha256")?.split("\n") ?? [];
  const hashes = lines.flatMap((line): [string, string][] => {
    const [hash, , name, more] = line.trim().split(/\s+/);
    if (hash === undefined || name === undefined || more !== undefined) return [];
    return [[base + name.replace(/^\.\//, "").replaceAll("/", "_"), hash.toLowerCase()]];
  });
  return new Map(hashes);
}

/** SHA-256 of a compressed file's content. */
async function hashUncompressed(path: string): Promise<string> {
  const hash = createHash("sha256");
  await uncompress(path, (piece) => hash.update(piece));
  return hash.digest("hex");
}

/** Passes on a file's content piece by piece, uncompressed. apt's program takes files of every compression, and of none. */
function uncompress(path: string, take: (piece: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(APT_HELPER, ["cat-file", path], {
      env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
      cwd: "/",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: TIME_LIMIT_MS,
      killSignal: "SIGKILL",
    });
    child.stdout.on("data", take);
    child.on("error", (error) => reject(refuse(`can't read ${path}: ${error.message}`, "Is apt complete?")));
    child.on("close", (status) => {
      if (status === 0) resolve();
      else reject(refuse(`${path} can't be uncompressed`, "Fetch the lists again: apt-get update"));
    });
  });
}

/** No archive's stanza is longer, in bytes. */
const MAX_STANZA = 1 << 20;

/**
 * Every package file that the indexes of a source list: `name:arch=version <SHA-256>`. Stanzas that apt could read differently are left
 * out. `id` is `<uri> <suite>`.
 * @throws AegisError `refused` for an index that can't be read
 */
export async function packageFilesOf(lists: string, id: string): Promise<Set<string>> {
  const base = listFileName(sourceOf(id), "");
  const found = new Set<string>();
  for (const name of readdirSync(lists)) {
    if (!PACKAGES.test(name) || !name.startsWith(base)) continue;
    let rest: Buffer = Buffer.alloc(0);
    let isTooLong = false;
    const take = (stanza: Buffer) => {
      const file = isTooLong ? null : packageFileIn(stanza.toString());
      if (file !== null) found.add(file);
      isTooLong = false;
    };
    await uncompress(join(lists, name), (piece) => {
      const text = Buffer.concat([rest, piece]);
      let start = 0;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n", start)) {
        take(text.subarray(start, end));
        start = end + 2;
      }
      rest = text.subarray(start);
      if (rest.length <= MAX_STANZA) return;
      isTooLong = true;
      rest = rest.subarray(-1);
    });
    take(rest);
  }
  return found;
}

/** The file that a stanza is about; null for none, or several. */
function packageFileIn(text: string): string | null {
  const { stanzas } = readStanzas(text);
  const [stanza, second] = stanzas;
  const [name, architecture, version, hash] = ["package", "architecture", "version", "sha256"].map((field) =>
    stanza?.get(field),
  );
  const isNamed = [name, architecture, version].every((word) => word !== undefined && /^\S+$/.test(word));
  if (second !== undefined || !isNamed || hash === undefined || !/^[0-9a-f]{64}$/.test(hash)) return null;
  return `${name}:${architecture}=${version} ${hash}`;
}

/** Changes whenever a file changes that apt decides by. */
export function indexesDigest(lists: string): string {
  return sha256Hex([...fingerprintsOf(lists)].flat().join("\n"));
}

function refuse(why: string, hint: string): AegisError {
  return new AegisError("refused", why, hint);
}
