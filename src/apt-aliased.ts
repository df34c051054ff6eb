import { lstatSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { namesIn } from "./sys-files.ts";

/*
 * Detects files that dpkg overwrote unknowingly. Where /bin is a link to usr/bin (Debian 12, Ubuntu 20.04 and later), a
 * file has two names, but dpkg compares names: a package with /usr/bin/true overwrites coreutils' /bin/true without
 * needing Replaces. Only the unpacked .deb reveals its file names, so this is checked afterwards, in dpkg's file lists.
 */

/** Directories that may be links into /usr. */
const MERGED = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
const INFO = "/var/lib/dpkg/info";
const DIVERSIONS = "/var/lib/dpkg/diversions";

/** Two packages with the same file under two names. */
export interface Clash {
  /** The package in question, and its name for the file. */
  package: string;
  path: string;
  /** The other package, and its name for the file. */
  other: string;
  otherPath: string;
}

/**
 * Files of the packages `names` that another package has under the other name. `root` is `/` in production. Diverted
 * files (dpkg-divert(1)) don't clash. Reads all packages' file lists, about 100 ms for 1,000 packages. Never throws,
 * since it is called after the run.
 */
export function aliasClashes(names: ReadonlySet<string>, root = "/"): Clash[] {
  const merged = MERGED.filter((name) => isMerged(join(root, name), name));
  const lists = merged.length === 0 || names.size === 0 ? [] : listsIn(join(root, INFO));
  const wanted = new Map<string, { package: string; path: string }[]>();
  for (const { owner, file } of lists) {
    if (!names.has(owner)) continue;
    for (const path of linesOf(file)) {
      const alias = aliasOf(path, merged);
      if (alias !== null) wanted.set(alias, [...(wanted.get(alias) ?? []), { package: owner, path }]);
    }
  }
  if (wanted.size === 0) return [];
  // The file also has package names on lines of their own; no path equals one.
  const diverted = new Set(linesOf(join(root, DIVERSIONS)));
  const clashes: Clash[] = [];
  for (const { owner: other, file } of lists) {
    for (const otherPath of linesOf(file)) {
      for (const mine of wanted.get(otherPath) ?? []) {
        if (mine.package === other || diverted.has(mine.path) || diverted.has(otherPath)) continue;
        if (!isRealDirectory(join(root, otherPath))) clashes.push({ ...mine, other, otherPath });
      }
    }
  }
  return clashes;
}

/** The clashes in `after` but not in `before`, in words: `/bin/true of coreutils, which x has as /usr/bin/true`. */
export function newClashes(before: readonly Clash[], after: readonly Clash[]): string[] {
  const words = (clash: Clash) =>
    `${clash.otherPath} of ${clash.other}, which ${clash.package} has as ${clash.path}`;
  const old = new Set(before.map(words));
  return [...new Set(after.map(words))].filter((text) => !old.has(text)).sort();
}

function isMerged(path: string, name: string): boolean {
  try {
    return [`usr/${name}`, `/usr/${name}`].includes(readlinkSync(path));
  } catch {
    return false;
  }
}

/** The other name of a file, or null. */
function aliasOf(path: string, merged: readonly string[]): string | null {
  if (merged.some((name) => path.startsWith(`/usr/${name}/`))) return path.slice("/usr".length);
  return merged.some((name) => path.startsWith(`/${name}/`)) ? `/usr${path}` : null;
}

/** The file lists of all packages: `<name>.list`, or `<name>:<architecture>.list`. */
function listsIn(directory: string): { owner: string; file: string }[] {
  return namesIn(directory)
    .filter((name) => name.endsWith(".list"))
    .map((name) => ({ owner: /^[^:]*?(?=:|\.list$)/.exec(name)?.[0] ?? "", file: join(directory, name) }));
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
}

function isRealDirectory(path: string): boolean {
  try {
    return lstatSync(path).isDirectory();
  } catch {
    return false;
  }
}
