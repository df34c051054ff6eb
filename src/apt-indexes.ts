import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, constants, lstatSync, openSync, readdirSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { readStanzas } from "./apt-deb822.ts";
import { splitClearSigned } from "./apt-release.ts";
import { listFileName } from "./apt-uri.ts";
import type { Held } from "./eco-driver.ts";
import { AegisError, messageOf } from "./errors.ts";
import { hasWriter } from "./sys-ffi.ts";
import { hashFile, readText, rootOnlyProblem } from "./sys-files.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The package indexes that a plan is made from. apt checks them as they are downloaded and believes them from then on; its
 * download user wrote them, and may hold them open for writing. So the executor makes sure that nobody does, and then that
 * each is what its signed Release file says. The signature itself is planning's to check, on the same files.
 */

/** What makes apt's mind up: Release files and their signatures, and the indexes of packages, however compressed. */
const INDEX = /_(?:InRelease|Release(?:\.gpg)?|Packages(?:\.(?:bz2|gz|lz4|lzma|xz|zst))?)$/;
const PACKAGES = /_Packages(\.[a-z0-9]+)?$/;

/** apt's own program that writes a file out uncompressed (`apt-helper cat-file`). */
const APT_HELPER = "/usr/lib/apt/apt-helper";
const TIME_LIMIT_MS = 120_000;

/**
 * Looks at the indexes in apt's directory of lists. `used` are the sources that a plan takes something from, as a plan names
 * them (`<uri> <suite>`): of theirs each index must be named by its Release file.
 * @throws AegisError `refused` where anyone but root could change one: by its owner and mode, or because it is open for
 * writing
 */
export function sealIndexes(
  lists: string,
  used: readonly string[] = [],
  uncompressed = hashUncompressed,
): Held {
  const before = marksOf(lists);
  const relied = used.map((id) => join(lists, listFileName(sourceOf(id), "")));
  for (const path of before.keys()) refuseWritable(path);
  return {
    check: () => checkIndexes([...before.keys()], relied, uncompressed),
    refuseReplaced() {
      const now = marksOf(lists);
      const all = [...new Set([...before.keys(), ...now.keys()])];
      const other = all.find((path) => before.get(path) !== now.get(path));
      if (other === undefined) return;
      throw new AegisError(
        "drift",
        `apt's package lists were refreshed while Aegis planned again: ${basename(other)}`,
        "Apply it again: nothing has been run, and nothing used up.",
      );
    },
  };
}

function sourceOf(id: string): { uri: string; suite: string } {
  const space = id.lastIndexOf(" ");
  return { uri: id.slice(0, space), suite: id.slice(space + 1) };
}

/** Path → what changes when a file is replaced or written to. */
function marksOf(lists: string): Map<string, string> {
  const marks = new Map<string, string>();
  for (const name of readdirSync(lists).sort()) {
    if (!INDEX.test(name)) continue;
    const path = join(lists, name);
    // A link and what it leads to: both count.
    const looks = [
      lstatSync(path, { bigint: true }),
      statSync(path, { bigint: true, throwIfNoEntry: false }),
    ];
    marks.set(
      path,
      looks.map((it) => [it?.dev, it?.ino, it?.size, it?.mtimeNs, it?.ctimeNs].join(" ")).join("; "),
    );
  }
  return marks;
}

/**
 * Owner and mode first: after that only root can open it for writing, so that one look at who has is enough. Of a source that
 * reads files of this host apt keeps a link, and what counts is where it leads.
 */
function refuseWritable(path: string): void {
  const real = resolved(path);
  const problem = rootOnlyProblem(path === real ? path : dirname(path)) ?? rootOnlyProblem(real);
  const again =
    path === real
      ? "Fetch the lists again: apt-get update"
      : `It is of a file: source. Give that to root (chown root, chmod go-w, every directory above it too), or take it out of apt's sources; then: apt-get update`;
  if (problem !== null) throw refuse(problem, again);
  const fd = openSync(real, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    if (!hasWriter(fd)) return;
  } finally {
    closeSync(fd);
  }
  throw refuse(
    `${real} is open for writing, so what is planned from it could be changed`,
    `See who has it open: fuser -v ${real}. End that process, then: apt-get update`,
  );
}

function resolved(path: string): string {
  try {
    return lstatSync(path).isSymbolicLink() ? realpathSync(path) : path;
  } catch (error) {
    throw refuse(`can't look at ${path}: ${messageOf(error)}`, "Fetch the lists again: apt-get update");
  }
}

/**
 * Compares every index of packages with each Release file that names it: a name in the lists may belong to several sources
 * (`http://m/u x/` and `http://m/ u/`), and none of them may vouch for what another one signed otherwise. An index that no
 * Release file names stays as it is, where the plan takes nothing from its source, or the source has no Release file: planning
 * says of such a source that it is not signed.
 */
async function checkIndexes(
  paths: readonly string[],
  relied: readonly string[],
  uncompressed: (path: string) => Promise<string>,
): Promise<void> {
  const releases = releasesOf(paths);
  await Promise.all(
    paths.map(async (path) => {
      const match = PACKAGES.exec(path);
      if (match === null) return;
      const compression = match[1];
      const plainPath = path.slice(0, path.length - (compression?.length ?? 0));
      const own = longest(relied.filter((base) => path.startsWith(base)));
      for (const [base, hashes] of releases) {
        const [asIs, plain] = [hashes.get(path), hashes.get(plainPath)];
        if (asIs !== undefined && asIs === hashFile(path).sha256) continue;
        if (compression !== undefined && plain !== undefined && plain === (await uncompressed(path)))
          continue;
        if (asIs !== undefined || plain !== undefined) {
          throw refuse(
            `${path} is not the index that its signed Release file names`,
            "Fetch the lists again: apt-get update; and find out who changed it: only root and apt's _apt could.",
          );
        }
        if (base === own) {
          throw refuse(
            `${path} is not named by its signed Release file as it lies here, so nothing vouches for it`,
            'Have the repository list its uncompressed indexes, or keep them as they come: Acquire::GzipIndexes "true", then apt-get update.',
          );
        }
      }
    }),
  );
}

function longest(texts: readonly string[]): string | undefined {
  return texts.toSorted((a, b) => b.length - a.length)[0];
}

/** What the names of a source's files begin with → what its Release file says. As with apt, InRelease wins over Release. */
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

/** Path of an index → SHA-256, for everything that a Release file names (apt's names: `/` is `_`). */
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
function hashUncompressed(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(APT_HELPER, ["cat-file", path], {
      env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
      cwd: "/",
      stdio: ["ignore", "pipe", "ignore"],
      timeout: TIME_LIMIT_MS,
      killSignal: "SIGKILL",
    });
    const hash = createHash("sha256");
    child.stdout.on("data", (piece: Buffer) => hash.update(piece));
    child.on("error", (error) => reject(refuse(`can't read ${path}: ${error.message}`, "Is apt complete?")));
    child.on("close", (status) => {
      if (status === 0) resolve(hash.digest("hex"));
      else reject(refuse(`${path} can't be uncompressed`, "Fetch the lists again: apt-get update"));
    });
  });
}

function refuse(why: string, hint: string): AegisError {
  return new AegisError("refused", why, hint);
}
