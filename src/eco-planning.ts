import type { CommandEvidence, Host } from "./doc-plan.ts";
import type { Env } from "./paths.ts";
import type { BytesAnswer } from "./sys-fetch.ts";

/*
 * What planning may use of the world, and nothing else: programs, files and settings, read-only.
 */

/** The settings of one program, in the form that the program takes them. */
export interface ToolSettings {
  /** Files of the fresh HOME, by name. */
  files?: Readonly<Record<string, string>>;
  /** Files of the working directory, which is otherwise empty, by name. */
  workFiles?: Readonly<Record<string, string>>;
  /** Variables of its environment. */
  variables?: Readonly<Record<string, string>>;
}

/** For a program that may read this host's settings, since it is asked for them, or has none. */
export const HOST_SETTINGS = (): ToolSettings => ({});

/** What planning may use of the world. Replaced as a whole in tests. */
export interface Planning {
  now: Date;
  /** The environment of whoever plans. */
  env: Env;
  host: Host;
  /** Where apt keeps the binary cache of this planning alone (an absolute path); left out, the host's own is used. */
  aptCache?: string;
  /**
   * Runs one of the read-only argv of planning and records it as evidence. A missing program, a failure, a time-out
   * and an output over the cap are outcomes, not exceptions; anything outside the list of planning throws `internal`.
   * `settings` gives the program its settings; `home` is the empty HOME it will have, where `files` go.
   */
  run(argv: readonly string[], call: PlanningCall): Promise<PlanningOutput>;
  /**
   * GETs metadata from a registry. Redirects are not followed; a response with a status other than 200 is returned with the
   * beginning of its body.
   * @throws AegisError `unavailable` for no response within the time limit, or one that is too large
   */
  get(url: URL, request?: RegistryRequest): Promise<BytesAnswer>;
  /**
   * The package file with this digest, from the user's cache or by one GET; the digest is checked either way.
   * @throws AegisError `unavailable` if the registry doesn't serve it, `evidence_mismatch` if it serves another file
   */
  packageFile(url: URL, digest: Digest | null, request?: RegistryRequest): Promise<PackageFile>;
  /** The text of a file on the host, or null where it is not there or can't be read. */
  readText(path: string): string | null;
  /** Names in a directory, sorted; empty where it is not there. */
  list(path: string): string[];
  /** Writes a private temporary file that lives as long as the planning; returns its path. */
  temporary(name: string, data: string | Uint8Array): string;
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
  /** The proxy that the tool's settings name. */
  proxy?: string;
  /** The certificates that the tool's settings name, in PEM, in place of the system's. */
  certificates?: string;
  /** Limit on the response, in bytes. */
  maxBytes?: number;
}

interface PlanningCall {
  /** Required, so that no program reads the host's settings because somebody forgot: {@link HOST_SETTINGS} for one that has none. */
  settings: (home: string) => ToolSettings;
  /** Keep the output in the plan, however large, as long as there is room. */
  keep?: boolean;
}

export interface PlanningOutput {
  stdout: string;
  stderr: string;
  evidence: CommandEvidence;
}
