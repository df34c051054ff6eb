import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "./canonical.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { namesIn, readFileLimited } from "./sys-files.ts";

/*
 * The files that Aegis depends on: its program, keys, policy and units. A package can change them, by shipping such a file or
 * from a maintainer script, which runs as root. A run in which they changed says so.
 */

const UNIT_DIRECTORIES = ["/etc/systemd/system", "/usr/lib/systemd/system"];
/** Larger than any of our files except the program, which is compared by inode: hashing 100 MB would cost each run a second. */
const MAX_BYTES = 1024 * 1024;
const MAX_DEPTH = 4;

/** Path → fingerprint, for each file that exists. */
export type OwnFiles = ReadonlyMap<string, string>;

/** The files of Aegis below `root`, which is `/` in the program. Never throws: what can't be read is part of the answer. */
export function ownFiles(root = "/"): OwnFiles {
  const found = new Map<string, string>();
  const look = (path: string, depth: number): void => {
    try {
      const stat = lstatSync(join(root, path), { bigint: true, throwIfNoEntry: false });
      if (stat === undefined) return;
      const owner = `${stat.mode}:${stat.uid}:${stat.gid}`;
      if (stat.isDirectory() && depth > 0) {
        found.set(path, owner);
        for (const name of readdirSync(join(root, path))) look(join(path, name), depth - 1);
      } else if (stat.isFile() && stat.size <= MAX_BYTES) {
        found.set(path, `${owner}:${sha256Hex(readFileLimited(join(root, path), MAX_BYTES))}`);
      } else {
        found.set(path, `${owner}:${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`);
      }
    } catch (error) {
      found.set(path, errnoOf(error) ?? messageOf(error));
    }
  };
  look(SYSTEM.binary, 0);
  look(SYSTEM.config, MAX_DEPTH);
  for (const directory of UNIT_DIRECTORIES) {
    for (const name of namesIn(join(root, directory))) {
      if (name.startsWith("aegis")) look(join(directory, name), MAX_DEPTH);
    }
  }
  return found;
}

/** The paths that are new, gone or changed, sorted. */
export function changedFiles(before: OwnFiles, after: OwnFiles): string[] {
  const paths = new Set([...before.keys(), ...after.keys()]);
  return [...paths].filter((path) => before.get(path) !== after.get(path)).sort();
}

/**
 * A tool that calls back starts the file that is installed now. It must be the version that prepared the run.
 * @throws AegisError `unavailable`
 */
export function refuseReplaced(isReplaced: () => boolean): void {
  if (!isReplaced()) return;
  throw new AegisError(
    "unavailable",
    "aegis was reinstalled while this request waited",
    "Apply it again: nothing has been run, and nothing used up.",
  );
}
