import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { UUID } from "./canonical.ts";
import type { Executable } from "./doc-result.ts";
import type { BuildReceipt } from "./eco-build-receipt.ts";
import { pruneRecords, publishRecord, recordDirectories } from "./eco-record.ts";
import { CLOSED_MODE } from "./eco-stage.ts";
import { keepOldDirectories } from "./eco-whole.ts";
import { AegisError } from "./errors.ts";
import { exchangePaths, syncFileSystem } from "./sys-ffi.ts";
import { namesIn, syncDirectory } from "./sys-files.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The managed roots on disk: `<state>/<root>` is what is installed, `stage/<execution>` belongs to a run under way,
 * `previous/<root>/<execution>` is what a run replaced, `bin` links to the commands. A run changes a root in one step, by exchanging
 * it with a tree that is complete and on disk.
 */

/** Previous contents kept for each root. */
const KEPT_PREVIOUS = 3;

/** Paths of one managed root. */
export interface ManagedPlaces {
  /** The directory of managed roots. */
  state: string;
  root: string;
  stages: string;
  previous: string;
  bin: string;
}

export function managedPlaces(state: string, root: string): ManagedPlaces {
  return {
    state,
    root: join(state, root),
    stages: join(state, "stage"),
    previous: join(state, "previous", root),
    bin: join(state, "bin"),
  };
}

/** Makes the directories that are missing; an absent root is an empty one, and closed to all but root or not. @throws AegisError `io` for one that isn't root's */
export function prepareManaged(
  { state, root, stages, previous, bin }: ManagedPlaces,
  isClosed = false,
): void {
  for (const [path, mode] of [
    ...[[root, isClosed ? CLOSED_MODE : 0o755] as const, [bin, 0o755] as const, [stages, 0o700] as const],
    // What is kept was open to all when it was installed, and whoever plans has to see whether it still is kept.
    ...[[dirname(previous), 0o755] as const, [previous, 0o755] as const],
    ...recordDirectories(state, basename(root)).map((path) => [path, 0o755] as const),
  ]) {
    if (!existsSync(path)) {
      mkdirSync(path, { mode });
      chmodSync(path, mode);
    }
    const stat = lstatSync(path);
    if (!stat.isDirectory() || stat.uid !== process.getuid?.() || (stat.mode & 0o022) !== 0)
      throw new AegisError(
        "io",
        `${path} must be a directory that belongs to root and that only root can write`,
        `Check it: ls -ld ${path}`,
      );
    if ((stat.mode & 0o777) !== mode) chmodSync(path, mode);
  }
}

/** Identifies a directory, whatever it is called. */
export function directoryId(path: string): string {
  const { dev, ino } = statSync(path, { bigint: true });
  return `${dev}:${ino}`;
}

/** Whether a run has exchanged its root: the directory that it prepared is the root now. */
export function isExchanged({ directory_id }: BuildReceipt, { root }: ManagedPlaces): boolean {
  return existsSync(root) && directoryId(root) === directory_id;
}

/**
 * Exchanges the root with `next`, a complete tree of root's beside which its record is, keeps what was there, and links the commands.
 * @throws AegisError `io`; the root is then as it was, or the new one, and {@link sweepStages} finishes the rest
 */
export function exchangeRoot(
  next: string,
  execution: string,
  places: ManagedPlaces,
  { executables, undoes, shared }: Pick<BuildReceipt, "executables" | "undoes" | "shared">,
): void {
  const fd = openSync(next, "r");
  try {
    syncFileSystem(fd);
  } finally {
    closeSync(fd);
  }
  exchangePaths(next, places.root);
  syncDirectory(dirname(places.root));
  publishRecord(dirname(next), places.state, basename(places.root), execution);
  keepOldDirectories(places.root, next, shared);
  keepPrevious(next, execution, places, undoes);
  linkExecutables(places, executables);
}

/** What a rollback has brought back is the root now: it needs no second copy, whose place an older content can keep. */
function keepPrevious(
  old: string,
  execution: string,
  { state, root, previous }: ManagedPlaces,
  undoes: string | null,
): void {
  renameSync(old, join(previous, execution));
  if (undoes !== null) rmSync(join(previous, undoes), { recursive: true, force: true });
  syncDirectory(previous);
  const kept = readdirSync(previous).map((name) => ({ name, since: statSync(join(previous, name)).ctimeMs }));
  for (const name of outdated(kept, execution))
    rmSync(join(previous, name), { recursive: true, force: true });
  pruneRecords(state, basename(root), (one) => existsSync(join(previous, one)));
}

/** Previous contents beyond the limit, the oldest: `newest` is never one, whatever the clock said when the others were kept. */
export function outdated(kept: readonly { name: string; since: number }[], newest: string): string[] {
  return kept
    .filter(({ name }) => name !== newest)
    .toSorted((a, b) => b.since - a.since)
    .slice(KEPT_PREVIOUS - 1)
    .map(({ name }) => name);
}

/** Makes the links to a root's commands what they should be; those to other roots stay. Never overwrites what isn't our link. */
function linkExecutables(
  { root, bin }: Pick<ManagedPlaces, "root" | "bin">,
  executables: readonly Executable[],
): void {
  const wanted = new Map(executables.map(({ name, path }) => [name, path]));
  for (const name of readdirSync(bin)) {
    const target = linkTarget(join(bin, name));
    if (target === null || !target.startsWith(`${root}/`)) continue;
    if (wanted.get(name) === target) wanted.delete(name);
    else rmSync(join(bin, name), { force: true });
  }
  for (const [name, path] of wanted)
    if (linkTarget(join(bin, name)) === null) symlinkSync(path, join(bin, name));
  syncDirectory(bin);
}

function linkTarget(path: string): string | null {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return null;
  return stat.isSymbolicLink() ? readlinkSync(path) : "";
}

/** Programs with the name of a command: the system's, and another root's link, which stays. */
export function shadowed(name: string, { root, bin }: Pick<ManagedPlaces, "root" | "bin">): string[] {
  const other = linkTarget(join(bin, name));
  const links = other === null || other.startsWith(`${root}/`) ? [] : [join(bin, name)];
  // Where /bin is a link to /usr/bin, a program has one name, not two.
  const directories = SYSTEM_PATH.filter(
    (path) => !lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink(),
  );
  return [
    ...links,
    ...directories.map((directory) => join(directory, name)).filter((path) => existsSync(path)),
  ];
}

/**
 * Finishes or removes what runs left that were killed: the stage of one that had exchanged its root holds the previous content,
 * which is kept; any other stage is thrown away. Call it under the run lock.
 */
export function sweepStages(state: string, receiptOf: (execution: string) => BuildReceipt | null): void {
  const stages = join(state, "stage");
  for (const execution of namesIn(stages)) {
    const stage = join(stages, execution);
    const receipt = UUID.test(execution) ? receiptOf(execution) : null;
    const next = join(stage, "next");
    if (receipt !== null) {
      const places = managedPlaces(state, receipt.root);
      if (isExchanged(receipt, places)) {
        publishRecord(stage, state, receipt.root, execution);
        // It may have died between these as well.
        if (existsSync(next)) {
          keepOldDirectories(places.root, next, receipt.shared);
          keepPrevious(next, execution, places, receipt.undoes);
        }
        linkExecutables(places, receipt.executables);
      }
    }
    rmSync(stage, { recursive: true, force: true });
  }
}
