import { join } from "node:path";
import * as v from "valibot";
import { canonicalHash } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";
import { type Env, SYSTEM, userPaths } from "./paths.ts";
import {
  artifacts,
  certificate,
  days,
  decision,
  fingerprint,
  flag,
  imageSigner,
  list,
  minutes,
  ofArtifacts,
  packagePattern,
  publicKeys,
  registry,
  unitPattern,
  uri,
} from "./policy-config-fields.ts";
import { readFileLimited, rootOnlyProblem } from "./sys-files.ts";
import { ownFileProblem } from "./sys-own-directory.ts";
import { readToml, type TomlProblem, tomlProblems } from "./sys-toml.ts";

const MAX_CONFIG_BYTES = 256 * 1024;

/** Where notices are posted: https, or plain http to this host. */
export const WebhookAddress = v.pipe(
  v.string(),
  v.maxLength(2000),
  v.check((text) => {
    const url = URL.parse(text);
    const isLocal = url?.protocol === "http:" && ["127.0.0.1", "[::1]", "localhost"].includes(url.hostname);
    return (url?.protocol === "https:" || isLocal) && url?.username === "" && url.password === "";
  }, "not an https address, or http on this host, without a password in it"),
);
const address = v.pipe(
  v.string(),
  v.maxLength(254),
  v.regex(/^[A-Za-z0-9_][A-Za-z0-9._%+-]*(?:@[A-Za-z0-9][A-Za-z0-9.-]*)?$/, "not a mail address"),
);

/** The policy file, with its defaults. */
export const PolicyConfig = v.strictObject({
  apt: v.optional(
    v.strictObject({
      allow_removals: flag(false),
      allow_downgrades: flag(false),
      install: v.optional(decision, "require_human"),
      upgrade: v.optional(decision, "allow_with_snapshot"),
      update: v.optional(decision, "allow"),
      /** Services whose snapshots of the distribution's archive count though their indexes have expired. */
      snapshot_services: list(registry),
      /** Security updates of the distribution are exempt. */
      minimum_age_days: days,
      /** Sources trusted besides the distribution's own, by URI and signing key, never by the names they give themselves. */
      trusted_origins: list(v.strictObject({ uri, fingerprint })),
      sensitive_packages: list(packagePattern),
    }),
    {},
  ),
  npm: artifacts("deny", ["registry.npmjs.org"]),
  pip: artifacts("deny", ["pypi.org", "files.pythonhosted.org"]),
  container: v.optional(
    v.strictObject({
      ...ofArtifacts("allow", ["docker.io"]),
      /** An image must be signed by one of `signers` that is named for it. */
      require_signature: flag(false),
      allow_root_user: flag(true),
      signers: list(imageSigner),
    }),
    {},
  ),
  nuget: v.optional(
    v.strictObject({
      ...ofArtifacts("deny", ["api.nuget.org"]),
      /** SHA-256 fingerprints of the certificates of authors whose signatures count. */
      authors: list(certificate),
    }),
    {},
  ),
  vscode: v.optional(
    v.strictObject({
      ...ofArtifacts("deny", ["marketplace.visualstudio.com", "open-vsx.org", "openvsx.eclipsecontent.org"]),
      /** Keys of galleries whose signatures count for `require_provenance`; without any, each gallery's own. */
      signing_keys: v.optional(publicKeys, []),
      /** SHA-256 fingerprints of the certificates of galleries and publishers whose signatures count: Microsoft's gallery has one. */
      certificates: list(certificate),
    }),
    {},
  ),
  go: artifacts("allow", ["proxy.golang.org"]),
  cargo: v.optional(
    v.strictObject({
      ...ofArtifacts("deny", ["index.crates.io", "static.crates.io"]),
      /** Code of crates runs while they are built: build scripts and procedural macros. */
      allow_build_scripts: flag(false),
    }),
    {},
  ),
  services: v.optional(
    v.strictObject({
      restart: v.optional(v.picklist(["allow", "require_human", "deny"]), "require_human"),
      sensitive_units: list(unitPattern),
      /** Of the units whose restart is denied because it takes down what others rely on, those that a person may have restarted. */
      permitted_units: list(unitPattern),
    }),
    {},
  ),
  freshness: v.optional(v.strictObject({ plan_minutes: minutes(60), execution_minutes: minutes(30) }), {}),
  approvals: v.optional(
    v.strictObject({
      required: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(16)), 1),
      /** Requesters may approve their own requests, with another key: for hosts of one person. */
      same_user: flag(false),
    }),
    {},
  ),
  requests: v.optional(
    v.strictObject({
      hours: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(168)), 24),
    }),
    {},
  ),
  vulnerability: v.optional(
    v.strictObject({
      /** The least severity that is denied; an exploited vulnerability counts as critical. */
      deny: v.optional(v.picklist(["low", "medium", "high", "critical"]), "critical"),
      /** What becomes of one that the installed version has too, so that the change makes nothing worse. */
      remaining: v.optional(v.picklist(["deny", "require_human"]), "deny"),
    }),
    {},
  ),
  /** `public_keys` are the reviewers'. With `required`, only a review signed by one of them counts. */
  review: v.optional(v.strictObject({ required: flag(false), public_keys: v.optional(publicKeys, []) }), {}),
  snapshot: v.optional(v.strictObject({ accept_declared: flag(false) }), {}),
  /** Who is told of requests. `webhook_file` holds the address where it is a secret: this file isn't one. */
  notify: v.optional(
    v.pipe(
      v.strictObject({
        webhook: v.optional(WebhookAddress),
        webhook_file: v.optional(v.pipe(v.string(), v.regex(/^\/[\x21-\x7e]+$/, "not an absolute path"))),
        mail: v.optional(address),
      }),
      v.check(
        (given) => given.webhook === undefined || given.webhook_file === undefined,
        "give webhook or webhook_file",
      ),
    ),
    {},
  ),
});
export type PolicyConfig = v.InferOutput<typeof PolicyConfig>;

export interface LoadedPolicyConfig {
  config: PolicyConfig;
  /** The file's path, or `built-in`. */
  source: string;
  /**
   * Hash of the settings that decide, defaults included: equal settings have equal hashes, whatever their file. How long
   * requests wait, and who is told of them, decides nothing.
   */
  hash: string;
}

export interface PolicyConfigOptions {
  /** For the executor: use only the system's file, which only root may be able to write. */
  system?: boolean;
  /** Path of the system's file. */
  systemPath?: string;
}

/**
 * The policy in force: the first of `AEGIS_POLICY_CONFIG`, `$XDG_CONFIG_HOME/aegis/policy.toml`,
 * `/etc/aegis/policy.toml`, and the built-in one. A file named by the variable must exist.
 * @throws AegisError `invalid_config` naming the file and key, `not_found`, `io`
 */
export function loadPolicyConfig(env: Env, options: PolicyConfigOptions = {}): LoadedPolicyConfig {
  const { system = false, systemPath = SYSTEM.policy } = options;
  const named = env.AEGIS_POLICY_CONFIG ?? "";
  if (!system && named !== "") return load(named, readFileLimited(named, MAX_CONFIG_BYTES));
  const paths = system ? [systemPath] : [join(userPaths(env).config, "policy.toml"), systemPath];
  for (const path of paths) {
    const data = readIfExists(path);
    if (data === null) continue;
    const asRoot = path !== systemPath && process.geteuid?.() === 0;
    const problem = system ? rootOnlyProblem(path) : asRoot ? ownFileProblem(path) : null;
    if (problem !== null)
      throw invalid(path, problem, `Make it writable by root only: chown root:root, chmod go-w.`);
    return load(path, data);
  }
  return load("built-in", new Uint8Array());
}

function readIfExists(path: string): Uint8Array | null {
  try {
    return readFileLimited(path, MAX_CONFIG_BYTES);
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return null;
    throw error;
  }
}

function load(source: string, data: Uint8Array): LoadedPolicyConfig {
  const config = parsePolicyConfig(data, source);
  return { config, source, hash: policyConfigHash(config) };
}

/** Hash of the settings that decide: who is told of requests, and how long those wait, is no part of it. */
export function policyConfigHash({ notify: _told, requests: _kept, ...deciding }: PolicyConfig): string {
  return canonicalHash(deciding);
}

/**
 * Parses the bytes of a policy file (TOML 1.0, UTF-8), defaults filled in. `source` names it in messages.
 * @throws AegisError `invalid_config` naming the key
 */
export function parsePolicyConfig(data: Uint8Array | string, source: string): PolicyConfig {
  let text: string;
  try {
    text = typeof data === "string" ? data : new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch (error) {
    throw invalid(source, messageOf(error));
  }
  const { settings, problem } = readToml(text, PolicyConfig);
  if (problem !== null) throw invalid(source, problem);
  return settings;
}

/** Every mistake in the bytes of a policy file, with its place. None for a file that {@link parsePolicyConfig} takes. */
export function policyProblems(data: Uint8Array): TomlProblem[] {
  try {
    return tomlProblems(new TextDecoder("utf-8", { fatal: true }).decode(data), PolicyConfig);
  } catch (error) {
    return [{ line: null, column: null, message: messageOf(error) }];
  }
}

function invalid(source: string, problem: string, hint = "Correct the file; nothing is decided until then.") {
  return new AegisError("invalid_config", `the policy file ${source} can't be used: ${problem}`, hint);
}
