import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";
import { readConfig } from "./sys-config.ts";

/** How much of package files is kept for rollbacks, in MiB, where `AEGIS_KEPT_MIB` sets no other limit. */
export const KEPT_MIB = 2048;

/** Names allowed in aegisd.env; any other name is an error. */
export const DAEMON_VARIABLES: ReadonlySet<string> = new Set([
  "AEGIS_SIGNING_PUBLIC_KEY_HEX",
  "AEGIS_APPROVAL_PUBLIC_KEY_HEX",
  "AEGIS_AUDIT_LOG_DIR",
  "AEGIS_AUDIT_ROTATE_MIB",
  "AEGIS_CARGO_INDEX",
  "AEGIS_GOPROXY",
  "AEGIS_GOSUMDB",
  "AEGIS_KEPT_MIB",
  "AEGIS_LOG",
  "AEGIS_LOG_FORMAT",
  "AEGIS_NPM_REGISTRY",
  "AEGIS_NUGET_SOURCE",
  "AEGIS_OSV_DIR",
  "AEGIS_OSV_URL",
  "AEGIS_PIP_INDEX_URL",
  "AEGIS_VSCODE_GALLERY",
  "RUST_LOG",
]);

/** Names allowed in aegis-reviewd.env. */
export const REVIEWER_VARIABLES: ReadonlySet<string> = new Set([
  "AEGIS_AI_ALLOW_REMOTE",
  "AEGIS_AI_API_KEY",
  "AEGIS_AI_BASE_URL",
  "AEGIS_AI_DECODE_TOKENS_PER_SEC",
  "AEGIS_AI_MAX_OUTPUT_TOKENS",
  "AEGIS_AI_MODEL",
  "AEGIS_AI_MODELS_TIMEOUT_SECS",
  "AEGIS_AI_MODEL_STARTUP_ALLOWANCE_SECS",
  "AEGIS_AI_PREFILL_TOKENS_PER_SEC",
  "AEGIS_AI_RESPONSE_FORMAT_JSON",
  "AEGIS_AI_REVIEW_TIMEOUT_SECS",
  "AEGIS_LOG",
  "AEGIS_LOG_FORMAT",
  "RUST_LOG",
]);

/** Names allowed in feeds.env. */
export const FEEDS_VARIABLES: ReadonlySet<string> = new Set([
  "AEGIS_FEEDS_ECOSYSTEMS",
  "AEGIS_FEEDS_EPSS",
  "AEGIS_FEEDS_KEV",
  "AEGIS_FEEDS_OSV",
  "AEGIS_FEEDS_PROXY",
  "AEGIS_FEEDS_VEX",
  "AEGIS_LOG",
  "AEGIS_LOG_FORMAT",
  "RUST_LOG",
]);

/**
 * Parses the useful subset of systemd's EnvironmentFile= (systemd.exec(5)): `NAME=value`, the value bare or in one pair
 * of quotes, and comment lines with # or ;. Continuation lines, escapes and unknown names are errors. `source` is the
 * file's name, for messages.
 * @throws AegisError `invalid_config`
 */
export function parseEnvironmentFile(
  text: string,
  source: string,
  known: ReadonlySet<string> = DAEMON_VARIABLES,
): Map<string, string> {
  const values = new Map<string, string>();
  for (const [i, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#") || line.startsWith(";")) continue;
    const match = /^([A-Z_][A-Z0-9_]*)=(?:"([^"\\]*)"|'([^'\\]*)'|([^"'\\]*))$/.exec(line);
    const name = match?.[1] ?? "";
    const at = `${source}, line ${i + 1}`;
    if (match === null) throw new AegisError("invalid_config", `${at}: not NAME=value`);
    if (!known.has(name)) throw new AegisError("invalid_config", `${at}: unknown name ${name}`);
    if (values.has(name)) throw new AegisError("invalid_config", `${at}: ${name} is set twice`);
    values.set(name, match[2] ?? match[3] ?? match[4] ?? "");
  }
  return values;
}

/**
 * A service's environment: what it was started with, overridden by the file. The service reads the file itself, since
 * systemd's EnvironmentFile= accepts any name.
 * @throws AegisError `invalid_config`, also for a file that others than root can write; `io`
 */
export function withEnvironmentFile(env: Env, path: string, known: ReadonlySet<string>): Env {
  const text = readConfig(path, true);
  return text === null ? env : { ...env, ...Object.fromEntries(parseEnvironmentFile(text, path, known)) };
}
