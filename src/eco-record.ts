import { chmodSync, existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { canonicalJson, parseJson, sha256Hex } from "./canonical.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { Executable } from "./doc-result.ts";
import type { Inventory, Tree, TreeEntry } from "./eco-managed.ts";
import { sizeOfTree, treeDigest } from "./eco-stage.ts";
import { errnoOf } from "./errors.ts";
import { namesIn, readFileLimited, syncDirectory, writeFileAtomic } from "./sys-files.ts";

/*
 * The record of a managed root: what its files must be by what was signed, and which execution brought each package. Root writes it at
 * each exchange, anyone may read it, and the log has its digest: without that it proves nothing.
 */

const MAX_RECORD = 256 * 1024 * 1024;

const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Entry = v.variant("kind", [
  v.strictObject({ kind: v.literal("file"), sha256, size: count, executable: v.boolean() }),
  v.strictObject({ kind: v.literal("link"), target: v.string() }),
  v.strictObject({ kind: v.literal("directory") }),
  v.strictObject({ kind: v.literal("whole"), sha256, entries: count, size: count }),
]);

const RecordedPackage = v.strictObject({
  name: v.string(),
  version: v.string(),
  /** The package that has this one for itself alone, or was built from it. */
  part_of: v.nullable(v.string()),
  /** The last execution that brought or changed it; null for what no execution brought. */
  execution: v.nullable(v.string()),
});
export type RecordedPackage = v.InferOutput<typeof RecordedPackage>;

/** The first line of a record; each further one is a path with what must be there. */
const Header = v.strictObject({
  schema_version: v.literal("1.0"),
  /** The name of the managed root. */
  root: v.string(),
  /** The execution that left it. */
  execution: v.string(),
  packages: v.array(RecordedPackage),
  executables: v.array(v.strictObject({ name: v.string(), path: v.string() })),
});
const Line = v.strictTuple([v.string(), Entry]);

export type RootRecord = v.InferOutput<typeof Header> & { tree: Tree };

/** What the log says of a root, in the end event of the execution that left it. */
export const LeftRoot = v.strictObject({
  root: v.string(),
  /** treeDigest of what its files must be. */
  tree_sha256: sha256,
  /** SHA-256 of the record. */
  record_sha256: sha256,
  files: count,
  bytes: count,
});
export type LeftRoot = v.InferOutput<typeof LeftRoot>;

/** Names below the directory of managed roots. */
const RECORDS = "inventory";
/** Name of a record in its run's stage. */
const STAGED = "record.ndjson";

/** The record of a root as it is now. */
function recordPath(state: string, root: string): string {
  return join(state, RECORDS, `${root}.ndjson`);
}

/** The record of the content that an execution replaced, kept as long as that content. */
function replacedRecord(state: string, root: string, execution: string): string {
  return join(state, RECORDS, root, `${execution}.ndjson`);
}

/** A record with the SHA-256 of its file; null for one that is missing or invalid. */
function readRecord(path: string): { record: RootRecord; sha256: string } | null {
  try {
    const bytes = readFileLimited(path, MAX_RECORD);
    const [first = "", ...lines] = bytes.toString("utf8").trimEnd().split("\n");
    const tree = new Map(lines.map((line) => v.parse(Line, parseJson(line))));
    return { record: { ...v.parse(Header, parseJson(first)), tree }, sha256: sha256Hex(bytes) };
  } catch {
    return null;
  }
}

/** What the files of a root must be by its record (treeDigest), for users who may not read them. Null without a record. */
export function recordedContent(state: string, root: string): string | null {
  const found = readRecord(recordPath(state, root));
  return found === null ? null : treeDigest(found.record.tree);
}

/** The record of a root if it is the one that the log has. */
export function boundRecord(state: string, left: LeftRoot): RootRecord | null {
  const found = readRecord(recordPath(state, left.root));
  return found?.sha256 === left.record_sha256 ? found.record : null;
}

/**
 * What a path of the root is there by. `signed`: compared with signed bytes by this run, or written by root itself. `kept`: it was there.
 * `restored`: it had been replaced.
 */
export type PathOrigin = (path: string, entry: TreeEntry) => "signed" | "kept" | "restored";

/** For a run that installs beside `kept`. */
export function installedBeside(kept: Tree): PathOrigin {
  return (path, entry) => (isIn(kept, path, entry) ? "kept" : "signed");
}

/** For a run that brings `tree` back over `before`. */
export function restoredOver(before: Tree, tree: Tree): PathOrigin {
  return (path, entry) => {
    if (isIn(before, path, entry)) return "kept";
    return isIn(tree, path, entry) ? "restored" : "signed";
  };
}

function isIn(tree: Tree, path: string, entry: TreeEntry): boolean {
  return JSON.stringify(tree.get(path)) === JSON.stringify(entry);
}

/** From one content of a root to the next. */
export interface RecordedChange {
  plan: Pick<OperationPlan, "transaction" | "operation" | "targets">;
  root: string;
  execution: string;
  after: Tree;
  origin: PathOrigin;
  /** Of the root afterwards. */
  inventory: Inventory;
  /** The root's records name what was asked for only: what that was made from is taken from the plan. */
  listsParts: boolean;
  executables: readonly Executable[];
}

/**
 * Writes the record of the content that a run prepared into its stage, before the exchange. What the run keeps of the root must
 * still be what was signed earlier: a file that somebody has changed since does not become right by being kept.
 */
export function stageRecord(stage: string, state: string, change: RecordedChange): LeftRoot {
  const { root, execution, plan } = change;
  const current = readRecord(recordPath(state, root))?.record ?? null;
  const [undone] = plan.operation === "rollback" ? plan.targets : [];
  const restored =
    undone === undefined ? null : (readRecord(replacedRecord(state, root, undone))?.record ?? null);
  const tree = signedTree(change, current, restored);
  const header: v.InferOutput<typeof Header> = {
    schema_version: "1.0",
    ...{ root, execution },
    packages: packagesAfter(change, current, restored),
    executables: change.executables.map(({ name, path }) => ({ name, path })),
  };
  const text = [header, ...tree].map((line) => `${canonicalJson(line)}\n`).join("");
  writeFileAtomic(join(stage, STAGED), text);
  chmodSync(join(stage, STAGED), 0o644);
  return {
    root,
    tree_sha256: treeDigest(tree),
    record_sha256: sha256Hex(text),
    ...sizeOfTree(tree),
  };
}

function signedTree(
  { after, origin }: RecordedChange,
  current: RootRecord | null,
  restored: RootRecord | null,
): Tree {
  return new Map(
    [...after].flatMap(([path, entry]): [string, TreeEntry][] => {
      // Kept and restored content was compared with signed bytes when it was installed, not now.
      const earlier = { kept: current, restored };
      const by = origin(path, entry);
      const must = by === "signed" ? entry : earlier[by]?.tree.get(path);
      return must === undefined ? [] : [[path, must]];
    }),
  );
}

/** Packages of the root, each with the execution that it is there by. */
function packagesAfter(
  change: RecordedChange,
  current: RootRecord | null,
  restored: RootRecord | null,
): RecordedPackage[] {
  const { plan, execution } = change;
  const key = (one: Omit<RecordedPackage, "execution">) =>
    JSON.stringify([one.name, one.version, one.part_of]);
  const known = new Map(current?.packages.map((one) => [key(one), one.execution]));
  const earlier = new Map(restored?.packages.map((one) => [key(one), one]));
  const planned = new Set(plan.transaction.map(({ name }) => name));
  const versions = new Set(plan.transaction.map(({ name, to_version }) => `${name} ${to_version}`));
  const isPlanned = ({ name, version, part_of }: Omit<RecordedPackage, "execution">) =>
    versions.has(`${name} ${version}`) && (part_of === null || planned.has(part_of));
  const found = [
    ...Object.entries(change.inventory).flatMap(([words, found]) => {
      const [name = "", part_of = null] = words.split(" ");
      return found.split(" ").map((version) => ({ name, version, part_of }));
    }),
    ...(change.listsParts ? builtFrom(change, current, restored) : []),
  ];
  return found.map((one) => {
    const isBack = earlier.has(key(one)) && !known.has(key(one));
    return { ...one, execution: isPlanned(one) || isBack ? execution : (known.get(key(one)) ?? null) };
  });
}

/** What the programs of a root were built from: by the plan, and for the others by earlier records. */
function builtFrom(
  { plan, inventory }: RecordedChange,
  current: RootRecord | null,
  restored: RootRecord | null,
): Omit<RecordedPackage, "execution">[] {
  const parents = new Map(
    plan.transaction.map(({ name, to_version, required_by }) => [`${name} ${to_version}`, required_by]),
  );
  const topOf = (one: string): string => {
    let at = one;
    for (let hops = 0; hops < 1000; hops++) {
      const parent = parents.get(at);
      if (parent === undefined) break;
      at = parent;
    }
    return at.split(" ")[0] ?? "";
  };
  const planned = plan.transaction.flatMap(({ name, to_version, required_by }) =>
    required_by === undefined || to_version === null
      ? []
      : [{ name, version: to_version, part_of: topOf(required_by) }],
  );
  const source = plan.operation === "rollback" ? restored : current;
  const replaced = new Set(planned.map(({ part_of }) => part_of));
  const kept = (source?.packages ?? []).flatMap(({ name, version, part_of }) =>
    part_of !== null && Object.hasOwn(inventory, part_of) && !replaced.has(part_of)
      ? [{ name, version, part_of }]
      : [],
  );
  return [...planned, ...kept];
}

/** The directories of a root's records, parents first. */
export function recordDirectories(state: string, root: string): string[] {
  return [join(state, RECORDS), join(state, RECORDS, root)];
}

/**
 * Puts the record of a run into its place once the root is exchanged, and keeps the one before. May be called again after it was
 * interrupted.
 */
export function publishRecord(stage: string, state: string, root: string, execution: string): void {
  const staged = join(stage, STAGED);
  const now = recordPath(state, root);
  if (!existsSync(staged)) return;
  try {
    renameSync(now, replacedRecord(state, root, execution));
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
  renameSync(staged, now);
  syncDirectory(join(state, RECORDS));
}

/** Removes the records of contents that aren't kept any more. */
export function pruneRecords(state: string, root: string, isKept: (execution: string) => boolean): void {
  for (const name of namesIn(join(state, RECORDS, root)))
    if (!isKept(name.replace(/\.ndjson$/, ""))) rmSync(join(state, RECORDS, root, name), { force: true });
}
