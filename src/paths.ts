import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/** The environment that paths are read from; `process.env` in the program, a plain object in tests. */
export type Env = Readonly<Record<string, string | undefined>>;

/** Fixed places of a production host. */
export const SYSTEM = {
  binary: "/usr/local/bin/aegis",
  config: "/etc/aegis",
  policy: "/etc/aegis/policy.toml",
  trustedKeys: "/etc/aegis/trusted-keys.toml",
  daemonEnv: "/etc/aegis/aegisd.env",
  reviewerEnv: "/etc/aegis/aegis-reviewd.env",
  /** What the reviewer signs with; systemd hands it over, so that the reviewer can read it and not write it. */
  reviewKey: "/etc/aegis/review-key",
  state: "/var/lib/aegis",
  run: "/run/aegis",
  socket: "/run/aegis/aegisd.sock",
  runnerSocket: "/run/aegis/runner.sock",
  reviewerSocket: "/run/aegis/aegis-reviewd.sock",
  auditDir: "/var/log/aegis",
  reviewerState: "/var/lib/aegis/reviewd",
  reviewerAudit: "/var/log/aegis/reviewd",
  /** The number of the newest event of the log in `auditDir`. */
  newestEvent: "/var/lib/aegis/newest-event",
  /** When Aegis was first installed here (RFC 3339). */
  installed: "/var/lib/aegis/installed",
} as const;

/** File name of the audit log inside its directory. */
export const AUDIT_FILE = "audit.ndjson";

/**
 * Base directories of the XDG specification. A relative value is ignored, as the specification demands.
 * @see https://specifications.freedesktop.org/basedir-spec/latest/
 */
function xdg(env: Env, variable: string, fallback: string): string {
  const value = env[variable];
  if (value !== undefined && isAbsolute(value)) return join(value, "aegis");
  const home = env.HOME;
  return join(home !== undefined && isAbsolute(home) ? home : homedir(), fallback, "aegis");
}

/** Where a user's documents, cache and configuration live. */
export function userPaths(env: Env) {
  const data = xdg(env, "XDG_DATA_HOME", ".local/share");
  return {
    data,
    plans: join(data, "plans"),
    reviews: join(data, "reviews"),
    policy: join(data, "policy"),
    approvals: join(data, "approvals"),
    executions: join(data, "executions"),
    keys: join(data, "keys"),
    auditDir: join(data, "audit"),
    cache: xdg(env, "XDG_CACHE_HOME", ".cache"),
    config: xdg(env, "XDG_CONFIG_HOME", ".config"),
  };
}

/** The audit directory that applies: `AEGIS_AUDIT_LOG_DIR`, else the user's own. */
export function auditDir(env: Env): string {
  const value = env.AEGIS_AUDIT_LOG_DIR;
  return value !== undefined && isAbsolute(value) ? value : userPaths(env).auditDir;
}
