import { accessSync, constants, existsSync, lstatSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { TOOLS, type Tool } from "./doc-plan.ts";
import { managedPlaces } from "./eco-exchange.ts";
import { ECOSYSTEMS, type Ecosystems, loadManaged } from "./eco-load.ts";
import type { ManagedTool, Tree, TreeEntry } from "./eco-managed.ts";
import { boundRecord, type RecordedPackage, type RootRecord } from "./eco-record.ts";
import { sizeOfTree, surveyTree, treeDigest, treeReader } from "./eco-stage.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import {
  executionsOf,
  type History,
  type LastWord,
  type ManagedExecution,
  readHistory,
} from "./monitor-managed-log.ts";
import { SYSTEM } from "./paths.ts";
import { namesIn } from "./sys-files.ts";

/*
 * Managed roots compared with the log's last word on each: whether their files are still what was signed, and which execution
 * brought what. Anybody who may read the log can do this; nothing but the log and what it has the digest of is believed.
 */

/** Where to look. */
export interface ManagedHere {
  /** The directory of managed roots. */
  state: string;
  /** Directory of the production log. */
  audit: string;
  /** Uid of whoever owns the roots. */
  owner: number;
  ecosystems: Ecosystems;
}

const MANAGED_HERE: ManagedHere = {
  state: SYSTEM.state,
  audit: SYSTEM.auditDir,
  owner: 0,
  ecosystems: ECOSYSTEMS,
};

/** One path that isn't what was signed. */
interface Deviation {
  /** Below the root; the root itself is empty. */
  path: string;
  /** `added`, `removed`, `changed`, or what is wrong with it: `has the mode 0666`. */
  what: string;
  /** What is there now, to tell one change from the next. */
  found: TreeEntry | null;
}

export interface ManagedLook {
  /** Null for the directory of links. */
  tool: Tool | null;
  path: string;
  /**
   * `changing`: an execution of the tool has no end yet, and its files are not what the one before left. `closed`: this user may not
   * read it, and the log's record is shown instead.
   */
  state: "empty" | "signed" | "deviating" | "changing" | "closed";
  /** The execution that left it. */
  execution: string | null;
  files: number;
  bytes: number;
  packages: RecordedPackage[];
  /** What differs; may be empty for a deviating root whose record is lost: see `problem`. */
  deviations: Deviation[];
  problem: string | null;
}

/** What was found of all roots, and the executions of their packages. */
export interface ManagedLooks {
  roots: ManagedLook[];
  executions: ManagedExecution[];
}

/** How often a root is read again that was exchanged meanwhile. */
const TRIES = 3;

/**
 * Looks at the managed roots of `only`, or of every tool, and at the links to their commands.
 * @throws AegisError `unavailable` if this user may not read the log or a root, `log_tampered`
 */
export async function lookAtManaged(
  only: Tool | null,
  here: ManagedHere = MANAGED_HERE,
): Promise<ManagedLooks> {
  const tools = await managedTools(here.ecosystems);
  for (let n = 1; ; n++) {
    try {
      const history = readHistory(here.audit);
      const all = tools.map((tool) => withRecord(tool, history, here));
      const looked = all.filter(({ tool: { tool } }) => only === null || tool === only);
      const roots = [...looked.map((one) => lookAt(one, history, here)), lookAtLinks(all, history, here)];
      const isSettled = roots.every(({ state }) => state !== "deviating" && state !== "changing");
      if (isSettled || n === TRIES || readHistory(here.audit).newest === history.newest)
        return { roots, executions: executionsOf(namedIn(roots), history) };
    } catch (error) {
      // A root that is exchanged while it is read has lost its name for a moment.
      if (n < TRIES && errnoOf(error) === "ENOENT") continue;
      if (error instanceof AegisError && error.code !== "io") throw error;
      throw unreadable(error);
    }
  }
}

/** Executions that left a root or brought a package. */
function namedIn(roots: readonly ManagedLook[]): Set<string> {
  const named = roots.flatMap(({ execution, packages }) => [
    execution,
    ...packages.map((one) => one.execution),
  ]);
  return new Set(named.filter((id) => id !== null));
}

function unreadable(error: unknown): AegisError {
  return new AegisError(
    "unavailable",
    `managed directories can't be compared with the log: ${messageOf(error)}`,
    "The production log is readable by root and the group aegis-admin: run this as one of them.",
  );
}

function managedTools(ecosystems: Ecosystems): Promise<ManagedTool[]> {
  const managed = TOOLS.filter((tool) => ecosystems[tool]?.managed !== undefined);
  return Promise.all(managed.map((tool) => loadManaged(tool, ecosystems)));
}

/** A tool, the log's last word on its root, and the record that the log has the digest of. */
interface Recorded {
  tool: ManagedTool;
  last: LastWord | null;
  record: RootRecord | null;
}

function withRecord(tool: ManagedTool, { last }: History, { state }: ManagedHere): Recorded {
  const word = last.get(tool.root) ?? null;
  return { tool, last: word, record: word === null ? null : boundRecord(state, word.left) };
}

function lookAt({ tool, last, record }: Recorded, history: History, here: ManagedHere): ManagedLook {
  const { root: path } = managedPlaces(here.state, tool.root);
  if (tool.store !== undefined && !mayRead(path)) return closedLook(path, { tool, last, record });
  const { tree, odd } =
    lstatSync(path, { throwIfNoEntry: false }) === undefined
      ? NOTHING
      : surveyTree(path, here.owner, tool.store);
  const look = {
    ...{ tool: tool.tool, path, execution: last?.execution ?? null, problem: null },
    ...sizeOfTree(tree),
  };
  const isRunning = history.running.has(tool.tool);
  const state = isRunning ? "changing" : "deviating";
  if (last === null) {
    const deviations = deviationsOf(new Map(), tree, odd);
    if (deviations.length === 0) return { ...look, state: "empty", packages: [], deviations };
    const packages = inventoryOf(tool, path, tree);
    return { ...look, state, packages, deviations, problem: "no execution on record has left it" };
  }
  const isSame = treeDigest(tree) === last.left.tree_sha256 && odd.size === 0;
  if (record === null) {
    const problem =
      "its record, which names files and executions, is missing or not the one that the log has";
    const deviations = deviationsOf(tree, tree, odd);
    const packages = inventoryOf(tool, path, tree);
    return { ...look, state: isSame ? "signed" : state, packages, deviations, problem };
  }
  const deviations = isSame ? [] : deviationsOf(record.tree, tree, odd);
  return { ...look, state: isSame ? "signed" : state, packages: record.packages, deviations };
}

/** Also of one that isn't there. */
function mayRead(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.X_OK);
    return true;
  } catch (error) {
    return errnoOf(error) !== "EACCES";
  }
}

function closedLook(path: string, { tool, last, record }: Recorded): ManagedLook {
  const { files = 0, bytes = 0 } = last?.left ?? {};
  return {
    ...{ tool: tool.tool, path, state: "closed", execution: last?.execution ?? null, files, bytes },
    ...{ packages: record?.packages ?? [], deviations: [] },
    problem: "only root can compare its files: sudo aegis audit installed",
  };
}

const NOTHING: ReturnType<typeof surveyTree> = { tree: new Map(), odd: new Map() };

/** Packages by the root's own records, which nothing vouches for; none if they can't be read. */
function inventoryOf(tool: ManagedTool, path: string, tree: Tree): RecordedPackage[] {
  try {
    return Object.entries(tool.inventory(tree, treeReader(path, tree))).flatMap(([key, versions]) => {
      const [name = "", part_of = null] = key.split(" ");
      return versions.split(" ").map((version) => ({ name, version, part_of, execution: null }));
    });
  } catch {
    return [];
  }
}

/** What of `found` isn't in `signed`, and the other way round. A directory stands in a tree only where it is empty. */
function deviationsOf(signed: Tree, found: Tree, odd: ReadonlyMap<string, string>): Deviation[] {
  const text = (entry: TreeEntry | undefined) => JSON.stringify(entry);
  const paths = [...new Set([...signed.keys(), ...found.keys(), ...odd.keys()])].sort();
  return paths.flatMap((path): Deviation[] => {
    const [must, is] = [signed.get(path), found.get(path)];
    const what = odd.get(path);
    if (what !== undefined) return [{ path, what, found: is ?? null }];
    if (text(must) === text(is)) return [];
    return [{ path, what: must === undefined ? "added" : changeOf(must, is), found: is ?? null }];
  });
}

function changeOf(must: TreeEntry, is: TreeEntry | undefined): string {
  if (is === undefined) return "removed";
  if (must.kind === "link" && is.kind === "link") return "leads elsewhere";
  const isMode = must.kind === "file" && is.kind === "file" && must.sha256 === is.sha256;
  if (!isMode) return "changed";
  return is.executable ? "became executable" : "is no longer executable";
}

/** The links to commands, against the records of all roots. */
function lookAtLinks(all: readonly Recorded[], history: History, here: ManagedHere): ManagedLook {
  const { bin } = managedPlaces(here.state, "");
  const known = all.flatMap(({ record }) => record?.executables ?? []);
  // A root whose record is lost has commands that nothing tells of.
  const unknown = all
    .filter(({ last, record }) => last !== null && record === null)
    .map(({ tool }) => `${managedPlaces(here.state, tool.root).root}/`);
  const names = namesIn(bin).sort();
  const added = names.flatMap((path): Deviation[] => {
    const stat = lstatSync(join(bin, path));
    if (!stat.isSymbolicLink()) return [{ path, what: "is no link of ours", found: null }];
    const target = readlinkSync(join(bin, path));
    const found = { kind: "link" as const, target };
    const targets = known.filter(({ name }) => name === path).map((one) => one.path);
    if (stat.uid !== here.owner) return [{ path, what: `belongs to uid ${stat.uid}`, found }];
    if (targets.includes(target) || unknown.some((root) => target.startsWith(root))) return [];
    return [{ path, what: targets.length === 0 ? "added" : "leads elsewhere", found }];
  });
  const removed = known
    .filter(({ name }) => !names.includes(name))
    .map(({ name }): Deviation => ({ path: name, what: "removed", found: null }));
  const deviations = [...ownerOf(bin, here), ...added, ...removed];
  const changing = all.some(({ tool: { tool } }) => history.running.has(tool));
  const deviating = changing ? "changing" : "deviating";
  return {
    ...{ tool: null, path: bin, execution: null, files: names.length, bytes: 0, packages: [], problem: null },
    state: deviations.length > 0 ? deviating : names.length === 0 ? "empty" : "signed",
    deviations,
  };
}

function ownerOf(path: string, { owner }: ManagedHere): Deviation[] {
  if (!existsSync(path)) return [];
  const { uid, mode } = lstatSync(path);
  if (uid !== owner) return [{ path: "", what: `belongs to uid ${uid}`, found: null }];
  const found = mode & 0o7777;
  return found === 0o755
    ? []
    : [{ path: "", what: `has the mode ${found.toString(8).padStart(4, "0")}`, found: null }];
}
