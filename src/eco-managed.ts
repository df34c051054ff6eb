import type { OperationPlan, Tool } from "./doc-plan.ts";
import type { Difference } from "./doc-result.ts";

/*
 * What the mechanism of managed roots has to know of one tool. The mechanism (fetch, closed registry, confined build, staging,
 * comparison, exchange) is the same for npm, pip, Go, cargo and the others.
 */

/** One package file (or support file) of the signed plan, on disk and equal to its signed hash. */
export interface SignedFile {
  name: string;
  /** Empty for a support file. */
  version: string;
  /** From the plan's `support_files`, which a build needs beside the packages. */
  isSupport: boolean;
  /** Where planning found it. */
  url: string;
  /** The ecosystem's own hash, as it writes it. */
  integrity: string;
  /** Of ecosystems whose files have one. */
  mediaType?: string;
  sha256: string;
  size: number;
  /** Absolute, for root's own reading (`routes`, `check`). The build reaches it through the closed registry alone. */
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

/** A directory tree, read once: relative path → what is there. Directories stand in it where they are empty, or taken whole. */
export type Tree = ReadonlyMap<string, TreeEntry>;

export type TreeEntry =
  | { kind: "file"; sha256: string; size: number; executable: boolean }
  | { kind: "link"; target: string }
  | { kind: "directory" }
  /** A directory with all that is in it, by one digest: see eco-whole.ts. */
  | { kind: "whole"; sha256: string; entries: number; size: number };

/**
 * A root whose files belong to several users, with special modes and attributes. Nobody but root can enter it. The tool runs as the root
 * of a user namespace, on an empty directory, and root makes the files what they must be before it reads them.
 */
export interface ManagedStore {
  /** Directories that are taken whole. */
  isWhole(path: string): boolean;
  /** What programs that use the root write into it: neither compared nor kept. An empty directory has a slash behind its path. */
  isPassing(path: string): boolean;
  /** @throws AegisError `unavailable` where the tool can't work in a root, which may be missing; `busy` while somebody uses it */
  ready(root: string): void;
  /**
   * Compares what the tool left in `left` with the signed files, and makes of it the new directory `stage`, which is root's. Nothing in
   * `left` is believed; nobody changes it any more.
   */
  settle(run: {
    plan: OperationPlan;
    files: readonly SignedFile[];
    left: string;
    stage: string;
    /** The id on the host of the namespace's user 0. */
    firstUser: number;
    /** Adds a line to the run's output. */
    note(line: string): void;
  }): Promise<Difference[]>;
}

/**
 * What is installed in a managed root, by its own records: key → version. The first word of a key is the package's name. A second one,
 * after a space, says whose part it is where packages have private copies (`accepts express`), and several versions are joined by spaces.
 */
export type Inventory = Readonly<Record<string, string>>;

/** How the executor reaches one address. Headers may hold credentials: they go to the fetch process and are written nowhere. */
export interface FetchAccess {
  headers?: Readonly<Record<string, string>>;
  proxy?: string;
  /** In PEM, in place of the system's. */
  certificates?: string;
  /** Follows redirects, elsewhere without the headers: the bytes are compared, wherever they come from. */
  redirects?: boolean;
}

/** What reaching a registry may depend on. */
interface Reaching {
  readText(path: string): string | null;
  /** Names in a directory; empty if it does not exist. */
  list(path: string): string[];
  /** Headers with the executor's own credentials for an address. */
  credentials(url: URL): Readonly<Record<string, string>>;
  stop: AbortSignal;
}

export interface ManagedTool {
  tool: Tool;
  /** Name of the managed root below /var/lib/aegis, as it stands in the signed argv: one component. */
  root: string;
  /** Everything that the closed registry answers, by path, or `POST <path>` for that; anything else is 404. `registry` is its address, for documents that name one. */
  routes(files: readonly SignedFile[], registry: string): Promise<ReadonlyMap<string, Route>>;
  settings(places: BuildPlaces, files: readonly SignedFile[]): BuildSettings;
  /** Left out, a root of plain files that are open to everybody. */
  store?: ManagedStore;
  /** How package files are reached by this host's own settings (files below /etc); left out, without anything special. */
  access?(readText: (path: string) => string | null): (url: URL) => FetchAccess;
  /**
   * The same where a registry has to be asked first, as for the tokens of image registries. @throws AegisError `unavailable`,
   * `invalid_config`
   */
  reach?(files: readonly SignedFile[], reaching: Reaching): Promise<(url: URL) => FetchAccess>;
  /**
   * For a tool that is confused by what is there already: it then works on an empty directory, and these paths of the root are put beside
   * what it left. Left out, the tool works on a copy of the root.
   */
  keeps?(run: {
    before: Tree;
    stage: Tree;
    read(path: string, limit: number): Uint8Array;
    readBefore(path: string, limit: number): Uint8Array;
  }): readonly string[];
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
  /** What the tool writes for itself: paths of the stage that are not taken over once it has been compared. Left out, none. */
  discards?(stage: Tree): readonly string[];
  /** Set where the root's records name what was asked for and not what that was made from, with whether that is listed all the same. */
  recordsRequestedOnly?: { listsParts: boolean };
  /** What a root holds. */
  inventory(tree: Tree, read: (path: string, limit: number) => Uint8Array): Inventory;
  /**
   * Files that root adds to a tree once it has been compared: programs, where the tool's own need a setting to run, and records that the
   * tool reads. Path → text, made from the tree alone. They are made anew by each run; `keeps` and `check` leave them to it.
   */
  launchers?(tree: Tree, read: (path: string, limit: number) => Uint8Array): Readonly<Record<string, string>>;
  /** Commands that a root offers: name → path below the root. */
  executables(
    tree: Tree,
    read: (path: string, limit: number) => Uint8Array,
  ): Readonly<Record<string, string>>;
}
