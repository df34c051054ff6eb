import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  lstatSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  utimesSync,
} from "node:fs";
import { join } from "node:path";
import { isFetched, type TransactionEntry } from "./doc-plan.ts";
import type { Result } from "./doc-result.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { DAEMON_VARIABLES, KEPT_MIB, withEnvironmentFile } from "./sys-environment-file.ts";
import { hashFile, namesIn } from "./sys-files.ts";
import { ADMIN_GROUP, groupId } from "./sys-state.ts";

/*
 * Package files that executions installed, kept so that a later rollback finds versions that the archive has dropped. Root's directory;
 * the names are for everybody, so that all plans say the same, and the contents for members of aegis-admin, since a package may come
 * from a repository with a password. A file's name ends in its SHA-256, which is compared whenever the file is used.
 */

/** At most this part of the file system, and this many files. */
const SHARE = 0.1;
const MAX_FILES = 5000;

export interface KeptFile {
  path: string;
  name: string;
  version: string;
  architecture: string;
  sha256: string;
}

type Version = Pick<KeptFile, "name" | "version" | "architecture">;

/** `hello_1%3a2.10-3_amd64.<sha256>.deb`, as apt writes names and versions. */
const NAME = /^([a-z0-9][a-z0-9+.-]*)_((?:[A-Za-z0-9.+~-]|%3a)+)_([a-z0-9-]+)\.([0-9a-f]{64})\.deb$/;

function fileName({ name, version, architecture, sha256 }: Omit<KeptFile, "path">): string {
  return `${name}_${version.replaceAll(":", "%3a")}_${architecture}.${sha256}.deb`;
}

/** The kept files that file names stand for; others are skipped. */
function parseNames(names: readonly string[], directory: string): KeptFile[] {
  return names.flatMap((file) => {
    const [, name, version, architecture, sha256] = NAME.exec(file) ?? [];
    if (name === undefined || version === undefined || architecture === undefined || sha256 === undefined)
      return [];
    return [
      { path: join(directory, file), name, version: version.replaceAll("%3a", ":"), architecture, sha256 },
    ];
  });
}

function isSame(a: Version, b: Version): boolean {
  return a.name === b.name && a.version === b.version && a.architecture === b.architecture;
}

/** The versions that are kept, for planning. */
export function keptFiles(planning: Pick<Planning, "list">, directory: string = SYSTEM.kept): KeptFile[] {
  return parseNames(planning.list(directory), directory);
}

/** A kept file that has the bytes it had when it was installed. */
export interface FoundKept extends KeptFile {
  size: number;
}

/**
 * The kept file of a version, or why there is none to use. It is hashed: only bytes that an execution had verified come back.
 */
export function findKept(
  wanted: Version,
  files: readonly KeptFile[],
  planning: Pick<Planning, "digestOf">,
): FoundKept | string {
  const [first, ...others] = files.filter((one) => isSame(one, wanted));
  if (first === undefined)
    return "is no longer available: no configured source offers that version any more, and it isn't kept";
  if (others.length > 0) return "is kept with two different contents";
  const found = planning.digestOf(first.path);
  if (found === null)
    return `is kept in ${first.path}, which can't be read: only root and members of aegis-admin may`;
  if (found.sha256 !== first.sha256) return `is kept in ${first.path}, but that file has been changed since`;
  return { ...first, size: found.size };
}

/**
 * Copies the kept files of a plan to where apt's download user may read them, and compares the copies with the plan. Returns their paths.
 * @throws AegisError `evidence_mismatch` for other bytes, `not_found` for a file that was removed meanwhile
 */
export function bringKept(
  transaction: readonly TransactionEntry[],
  to: string,
  directory: string = SYSTEM.kept,
): string[] {
  return transaction.filter(isKept).map((entry) => {
    const { name, architecture, to_version: version, sha256 } = entry;
    const file = fileName({ name, architecture, version: version ?? "", sha256: sha256 ?? "" });
    const copy = join(to, `${name}_${architecture}.deb`);
    try {
      copyFileSync(join(directory, file), copy);
      chmodSync(copy, 0o644);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      throw new AegisError("not_found", `${file} is not kept any more`, "Plan the rollback again.");
    }
    if (hashFile(copy).sha256 === sha256) return copy;
    throw new AegisError("evidence_mismatch", `${join(directory, file)} is not the file that was signed`);
  });
}

/** Whether a plan takes an entry's file from what is kept. */
export function isKept({ sources }: Pick<TransactionEntry, "sources">): boolean {
  return sources.includes(SYSTEM.kept);
}

/** What keeping depends on besides the files. */
interface Keeping {
  /** The newest outcomes: what undoes them is never removed. */
  recent: readonly Result[];
  /** What is installed: `name:arch` → version, as the next upgrade's rollback will need it. */
  installed: ReadonlyMap<string, string>;
  /** In bytes, if not the setting's. */
  limit?: number;
  /** The file of settings, if not aegisd.env. */
  settings?: string;
  directory?: string;
}

/**
 * Keeps the package files of a run that succeeded, and removes what there is no room for. Never throws: returns what could not be kept and
 * why, or null.
 */
export function keepPackages(
  transaction: readonly TransactionEntry[],
  archives: string,
  { recent, installed, limit, settings = SYSTEM.daemonEnv, directory = SYSTEM.kept }: Keeping,
): string | null {
  try {
    const bytes = limit ?? roomFor(directory, settings);
    const debs = readdirSync(archives).filter((name) => name.endsWith(".deb"));
    const hashes = new Map(debs.map((name) => [hashFile(join(archives, name)).sha256, join(archives, name)]));
    const fresh = new Set<string>();
    for (const entry of transaction.filter(isFetched)) {
      const { name, architecture, to_version: version, sha256 } = entry;
      const from = hashes.get(sha256 ?? "");
      if (from === undefined || version === null || sha256 === null || bytes === 0) continue;
      const to = join(directory, fileName({ name, architecture, version, sha256 }));
      fresh.add(to);
      put(from, to);
    }
    return evict(directory, bytes, (file) => {
      const { name, architecture, version } = file;
      if (isNeeded(file, recent)) return 2;
      return fresh.has(file.path) || installed.get(`${name}:${architecture}`) === version ? 1 : 0;
    });
  } catch (error) {
    return `package files were not kept: ${messageOf(error)}`;
  }
}

/** A link to a file that only root can write, in one step. Its time tells what is oldest. */
function put(from: string, to: string): void {
  const temporary = `${to}.new`;
  rmSync(temporary, { force: true });
  linkSync(from, temporary);
  chownSync(temporary, 0, groupId(ADMIN_GROUP) ?? 0);
  chmodSync(temporary, 0o640);
  utimesSync(temporary, new Date(), new Date());
  renameSync(temporary, to);
  // Renaming a file to another name of the same inode does nothing (rename(2)).
  rmSync(temporary, { force: true });
}

function isNeeded({ name, architecture, version }: Version, recent: readonly Result[]): boolean {
  return recent.some(({ inverse }) =>
    inverse?.some(
      (one) => one.package === name && one.architecture === architecture && one.before === version,
    ),
  );
}

/** Removes the least valuable, then the oldest files until the rest fits; those of value 2 stay. */
function evict(directory: string, bytes: number, worthOf: (file: KeptFile) => number): string | null {
  const files = parseNames(namesIn(directory), directory)
    .map((file) => ({ ...file, value: worthOf(file), stat: lstatSync(file.path) }))
    .sort((a, b) => a.value - b.value || a.stat.mtimeMs - b.stat.mtimeMs);
  let [total, count] = [files.reduce((sum, { stat }) => sum + stat.size, 0), files.length];
  for (const { path, value, stat } of files) {
    if ((total <= bytes && count <= MAX_FILES) || value === 2) break;
    rmSync(path);
    total -= stat.size;
    count--;
  }
  return total <= bytes
    ? null
    : `what rollbacks of the newest executions need takes ${Math.ceil(total / 2 ** 20)} MiB, more than the ${Math.floor(bytes / 2 ** 20)} MiB that are meant to be kept`;
}

/** The limit in bytes. @throws AegisError `invalid_config`, `io` */
function roomFor(directory: string, settings: string): number {
  const setting = withEnvironmentFile(process.env, settings, DAEMON_VARIABLES).AEGIS_KEPT_MIB ?? "";
  if (!/^\d{0,7}$/.test(setting))
    throw new AegisError("invalid_config", `AEGIS_KEPT_MIB is not a number of MiB: ${setting.slice(0, 100)}`);
  const mib = setting === "" ? KEPT_MIB : Number(setting);
  const { blocks, bsize } = statfsSync(directory);
  return Math.min(mib * 2 ** 20, Math.floor(blocks * bsize * SHARE));
}
