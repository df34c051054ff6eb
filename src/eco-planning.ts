import type { Host } from "./doc-plan.ts";
import type { CommandEvidence } from "./doc-plan-evidence.ts";
import type { ManagedStore } from "./eco-managed.ts";
import type { Env } from "./paths.ts";
import type { BytesAnswer } from "./sys-fetch.ts";
import type { ProcessLook } from "./sys-processes.ts";

/*
 * The only way for planning to reach the system: programs, files and settings, read-only.
 */

/** The settings of one program, in its own format. */
export interface ToolSettings {
  /** Files of the fresh HOME, by relative path. */
  files?: Readonly<Record<string, string>>;
  /** Files of the working directory, which is otherwise empty, by relative path. */
  workFiles?: Readonly<Record<string, string>>;
  /** Variables of its environment. */
  variables?: Readonly<Record<string, string>>;
}

/** For a program that may read this host's settings because it reports them, or that has none. */
export const HOST_SETTINGS = (): ToolSettings => ({});

/** Access to the system for planning. Replaced as a whole in tests. */
export interface Planning {
  now: Date;
  /** The planning user's environment. */
  env: Env;
  host: Host;
  /** Absolute path of a private binary cache for apt; without it, the host's own is used. */
  aptCache?: string;
  /** Absolute path of the host's vulnerability data; without it, the one of a production host. */
  feeds?: string;
  /**
   * Runs one of planning's read-only argv and records it as evidence. A missing program, a failure, a timeout and too much
   * output are outcomes, not exceptions; an argv that is not on the list throws `internal`. `settings` returns the program's
   * settings; `home` is its empty HOME, where `files` go.
   */
  run(argv: readonly string[], call: PlanningCall): Promise<PlanningOutput>;
  /**
   * GETs metadata from a registry. Redirects are not followed; a response with a status other than 200 is returned with the
   * beginning of its body.
   * @throws AegisError `unavailable` for no response within the time limit, or one that is too large; `refused` for plain HTTP to
   * another machine
   */
  get(url: URL, request?: RegistryRequest): Promise<BytesAnswer>;
  /**
   * The package file with this digest, from the user's cache or by one GET; the digest is checked either way.
   * @throws AegisError as {@link get}, `evidence_mismatch` for another file
   */
  packageFile(url: URL, digest: Digest | null, request?: RegistryRequest): Promise<PackageFile>;
  /** Whether requests to an address get credentials that are not in the tool's own settings. */
  hasCredentials?(url: URL): boolean;
  /** The text of a file on the host, or null if it does not exist or can't be read. */
  readText(path: string): string | null;
  /** The bytes of a file of at most 64 MiB, as {@link readText}. */
  readBytes?(path: string): Uint8Array | null;
  /** SHA-256 and length in bytes of a regular file, or null if it does not exist or can't be read. */
  digestOf(path: string): { sha256: string; size: number } | null;
  /** Whether a run could start this program: one that root owns, in the system's directories. It is looked up and not started. */
  hasProgram(name: string): boolean;
  /** Names in a directory, sorted; empty if it does not exist. */
  list(path: string): string[];
  /** What runs on the host, and when it was looked at. Left out, a plan says nothing of it. */
  running?(): Promise<ProcessLook & { seen_at: string }>;
  /** For a plan's outlook. Left out where nobody reads one. */
  disk?: Disk;
  /**
   * The digest of a managed root (treeDigest), of the kind of `store`; null where there is none.
   * @throws AegisError `refused` for what has no place in one, `io`
   */
  contentOf(root: string, store?: ManagedStore): Promise<string | null>;
  /** Writes a private temporary file, removed when planning ends; returns its path. */
  temporary(name: string, data: string | Uint8Array): string;
}

/** What a plan's outlook says of this host's files and file systems. */
export interface Disk {
  /** The MD5 of a file in lower-case hex, which dpkg records; null if it does not exist, "unreadable" if this user may not read it. */
  md5(path: string): string | null;
  /** Bytes of a file; null if it does not exist. */
  size(path: string): number | null;
  /** The file system of a path, or of the nearest directory above it that exists: which one it is, and bytes free for all users. */
  space(path: string): { device: number; available: number } | null;
}

/** The digest of a file as its registry states it, in lower-case hex. */
export interface Digest {
  algorithm: "sha256" | "sha512" | "sha1";
  hex: string;
}

export interface PackageFile {
  bytes: Uint8Array;
  /** In lower-case hex. */
  sha256: string;
}

export interface RegistryRequest {
  /** May hold credentials: they are sent, and written nowhere. */
  headers?: Readonly<Record<string, string>>;
  /** The authorization is a token that the registry gave out, which the executor's own credentials don't replace. */
  hasToken?: boolean;
  /** The proxy that the tool's settings name. */
  proxy?: string;
  /** The certificates that the tool's settings name, in PEM, in place of the system's. */
  certificates?: string;
  /** Limit on the response, in bytes. */
  maxBytes?: number;
  /** For a package file with a digest: follow redirects to https, without the headers. */
  redirects?: boolean;
}

interface PlanningCall {
  /** Required, so that no program reads the host's settings by oversight; {@link HOST_SETTINGS} for one without settings. */
  settings: (home: string) => ToolSettings;
  /** Keep the output in the plan, however large, while there is room. */
  keep?: boolean;
}

export interface PlanningOutput {
  stdout: string;
  stderr: string;
  evidence: CommandEvidence;
}
