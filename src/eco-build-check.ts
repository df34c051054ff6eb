import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { sha256Hex } from "./canonical.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { type Difference, describeDifference, type Executable } from "./doc-result.ts";
import { type ManagedPlaces, shadowed } from "./eco-exchange.ts";
import type { ManagedTool, SignedFile, Tree, TreeEntry } from "./eco-managed.ts";
import { treeReader } from "./eco-stage.ts";
import { AegisError } from "./errors.ts";
import { hashFile } from "./sys-files.ts";

/*
 * A stage, once nothing works on it any more, against the signed files.
 */

/** Differences named in a refusal. */
const NAMED = 5;

interface Checked {
  plan: OperationPlan;
  files: readonly SignedFile[];
  before: Tree;
  after: Tree;
  root: string;
  stage: string;
}

/** @throws AegisError `hash_mismatch` for a fetched file that isn't on disk as it was signed any more: tools and checks have read others */
export function refuseChangedFiles(files: readonly SignedFile[]): void {
  for (const { name, version, path, sha256 } of files) {
    if (hashFile(path).sha256 === sha256) continue;
    const what = `${name} ${version}`.trim();
    throw new AegisError("hash_mismatch", `the fetched file of ${what} was changed on this host: ${path}`);
  }
}

/**
 * What of the stage is taken over.
 * @throws AegisError `hash_mismatch` unless the stage is the root with the signed files, and nothing else
 */
export async function checkStage(
  tool: ManagedTool,
  { plan, files, before, after, root, stage }: Checked,
): Promise<Tree> {
  const differences = await tool.check({
    ...{ plan, files, before, stage: after },
    read: treeReader(stage, after),
    readBefore: treeReader(root, before),
  });
  refuseDifferences(differences);
  const discarded = new Set(tool.discards?.(after) ?? []);
  return new Map([...after].filter(([path]) => !discarded.has(path)));
}

/** @throws AegisError `hash_mismatch` if there are any */
export function refuseDifferences(differences: readonly Difference[]): void {
  if (differences.length === 0) return;
  const more = differences.length > NAMED ? ` and ${differences.length - NAMED} more` : "";
  const named = differences.slice(0, NAMED).map(describeDifference).join("; ");
  throw new AegisError("hash_mismatch", `what was installed isn't what was signed: ${named}${more}`);
}

/** What of the root is put beside what the tool left: nothing for a tool that works on a copy of it. */
export function keptOf(
  tool: ManagedTool,
  { before, after, root, stage }: Omit<Checked, "plan" | "files">,
): Tree {
  const readers = { read: treeReader(stage, after), readBefore: treeReader(root, before) };
  const paths = tool.keeps?.({ before, stage: after, ...readers }) ?? [];
  return new Map(
    paths.flatMap((path) => {
      const entry = before.get(path);
      return entry === undefined || after.has(path) ? [] : [[path, entry] as const];
    }),
  );
}

/** A tree less some of its paths. */
export function without(tree: Tree, others: Tree): Tree {
  return new Map([...tree].filter(([path]) => !others.has(path)));
}

/** The directories taken whole that two contents have in common. */
export function sharedBy(before: Tree, after: Tree): Tree {
  return new Map(
    [...after].filter(([path, entry]) => {
      const other = before.get(path);
      return entry.kind === "whole" && other?.kind === "whole" && other.sha256 === entry.sha256;
    }),
  );
}

/** Writes a tree's launchers beside it into `next`, its copy. Returns both. */
export function withLaunchers(tool: ManagedTool, tree: Tree, next: string): Tree {
  const texts = Object.entries(tool.launchers?.(tree, treeReader(next, tree)) ?? {});
  return new Map([
    ...tree,
    ...texts.map(([path, text]): [string, TreeEntry] => {
      const target = join(next, path);
      mkdirSync(dirname(target), { recursive: true });
      chmodSync(dirname(target), 0o755);
      rmSync(target, { force: true });
      const executable = text.startsWith("#!");
      writeFileSync(target, text, { mode: 0o644, flag: "wx" });
      chmodSync(target, executable ? 0o755 : 0o644);
      return [path, { kind: "file", sha256: sha256Hex(text), size: Buffer.byteLength(text), executable }];
    }),
  ]);
}

/** The commands that a stage offers, as they will be in the root. */
export function executablesOf(
  tool: ManagedTool,
  tree: Tree,
  stage: string,
  places: ManagedPlaces,
): Executable[] {
  const found = tool.executables(tree, treeReader(stage, tree));
  return Object.entries(found).flatMap(([name, path]) => {
    const entry = fileBehind(tree, path);
    if (entry === null || !/^[A-Za-z0-9][A-Za-z0-9._+-]*$/.test(name)) return [];
    return [{ name, path: join(places.root, path), sha256: entry.sha256, shadows: shadowed(name, places) }];
  });
}

/** The file that a path leads to, through the links of the tree. */
function fileBehind(tree: Tree, path: string) {
  let at = path;
  for (let hops = 0; hops < 8; hops++) {
    const entry = tree.get(at);
    if (entry?.kind === "file") return entry;
    if (entry?.kind !== "link") return null;
    at = join(dirname(at), entry.target);
  }
  return null;
}
