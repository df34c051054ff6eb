import type { OperationPlan, Tool } from "./doc-plan.ts";
import type { Difference } from "./doc-result.ts";

/*
 * What the mechanism of managed roots has to know of one tool. The mechanism (fetch, closed registry, confined build, staging,
 * comparison, exchange) is the same for npm, pip, Go, cargo and the others.
 */

/** One package file of the signed transaction, on disk and equal to its signed hash. */
export interface SignedFile {
  name: string;
  version: string;
  /** Where planning found it. */
  url: string;
  /** The ecosystem's own hash, as it writes it. */
  integrity: string;
  sha256: string;
  size: number;
  /** Absolute; root's, readable by everybody in the build. */
  path: string;
}

/** What the closed registry answers for one path. */
export type Route =
  | { file: string; type: string }
  | { body: string; type: string; headers?: Readonly<Record<string, string>> };

/** Where one build happens, as the tool sees it. */
export interface BuildPlaces {
  /** Address of the closed registry, without a last slash: `http://127.0.0.1:<port>`. */
  registry: string;
  /** The fresh HOME, the build user's. */
  home: string;
  /** The build user's scratch directory, on disk, thrown away afterwards. */
  scratch: string;
}

/** How a tool is pointed at the closed registry, and at nothing else. */
export interface BuildSettings {
  variables: Readonly<Record<string, string>>;
  /** Files of the fresh HOME, by relative path. */
  files?: Readonly<Record<string, string>>;
}

/** A directory tree, read once: relative path → what is there. Directories stand in it where they are empty. */
export type Tree = ReadonlyMap<string, TreeEntry>;

export type TreeEntry =
  | { kind: "file"; sha256: string; size: number; executable: boolean }
  | { kind: "link"; target: string }
  | { kind: "directory" };

/** What is installed in a managed root, by its own records: key (`name`, or `name version` where several may be) → version. */
export type Inventory = Readonly<Record<string, string>>;

export interface ManagedTool {
  tool: Tool;
  /** Name of the managed root below /var/lib/aegis, as it stands in the signed argv. */
  root: string;
  /** Everything that the closed registry answers; any other path is 404. `registry` is its address, for documents that name one. */
  routes(files: readonly SignedFile[], registry: string): Promise<ReadonlyMap<string, Route>>;
  settings(places: BuildPlaces): BuildSettings;
  /**
   * Compares what the tool left in the stage with what the signed files give, file by file. `before` is the root as it was. An empty
   * list: exactly what was signed has been added to or replaced in it, and nothing else has changed.
   */
  check(run: {
    plan: OperationPlan;
    files: readonly SignedFile[];
    before: Tree;
    stage: Tree;
    /** Reads a file of the stage, at most `limit` bytes. */
    read(path: string, limit: number): Uint8Array;
    /** Reads a file of the root as it was. */
    readBefore(path: string, limit: number): Uint8Array;
  }): Promise<Difference[]>;
  /** What a root holds. */
  inventory(tree: Tree, read: (path: string, limit: number) => Uint8Array): Inventory;
  /** Commands that a root offers: name → path below the root. */
  executables(
    tree: Tree,
    read: (path: string, limit: number) => Uint8Array,
  ): Readonly<Record<string, string>>;
}
