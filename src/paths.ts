import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/** Environment variables; `process.env` in the program, a plain object in tests. */
export type Env = Readonly<Record<string, string | undefined>>;

/** Fixed paths on a production host. */
export const SYSTEM = {
  binary: "/usr/local/bin/aegis",
  config: "/etc/aegis",
  policy: "/etc/aegis/policy.toml",
  trustedKeys: "/etc/aegis/trusted-keys.toml",
  daemonEnv: "/etc/aegis/aegisd.env",
  /** Credentials of registries, for the executor alone. */
  registries: "/etc/aegis/registries.toml",
  /** Sigstore's `trusted_root.json`, in place of the one in the program. */
  sigstoreRoot: "/etc/aegis/sigstore-trusted-root.json",
  reviewerEnv: "/etc/aegis/aegis-reviewd.env",
  feedsEnv: "/etc/aegis/feeds.env",
  /** The reviewer's signing key. systemd passes it in (LoadCredential=), so the reviewer can read but not replace it. */
  reviewKey: "/etc/aegis/review-key",
  state: "/var/lib/aegis",
  run: "/run/aegis",
  socket: "/run/aegis/aegisd.sock",
  runnerSocket: "/run/aegis/runner.sock",
  reviewerSocket: "/run/aegis/aegis-reviewd.sock",
  /** Where root alone starts the sandbox of a managed run and its downloads. */
  buildSocket: "/run/aegis/build.sock",
  unpackSocket: "/run/aegis/unpack.sock",
  fetchSocket: "/run/aegis/fetch.sock",
  auditDir: "/var/log/aegis",
  /** What the runner has to tell people, and what the notifier has sent. */
  notices: "/var/lib/aegis/notices",
  notifierState: "/var/lib/aegis/notify",
  /** Vulnerability data: an index for each feed, and the state of the downloads. */
  feeds: "/var/lib/aegis/feeds",
  /** Package files that executions installed, for rollbacks; in plans also the name of that source. */
  kept: "/var/cache/aegis/kept",
  reviewerState: "/var/lib/aegis/reviewd",
  reviewerAudit: "/var/log/aegis/reviewd",
  /** Sequence number of the newest event in the log in `auditDir`. */
  newestEvent: "/var/lib/aegis/newest-event",
  /** When Aegis was first installed here (RFC 3339). */
  installed: "/var/lib/aegis/installed",
} as const;

/**
 * Where man(1) and shells look for what an administrator installs: bash-completion below XDG_DATA_DIRS, else /usr/local/share and
 * /usr/share; Debian's zsh in $fpath (its README.Debian); fish in /etc (fish(1), "Where to put completions"), since Debian's looks
 * into /usr/local/share only where XDG_DATA_DIRS names it (measured on 3.6).
 */
export const SHARED = {
  manual: "/usr/local/share/man/man1/aegis.1",
  bash: "/usr/local/share/bash-completion/completions/aegis",
  zsh: "/usr/local/share/zsh/site-functions/_aegis",
  fish: "/etc/fish/completions/aegis.fish",
} as const;

/** Figures for Prometheus's node exporter, readable by everybody. */
export const METRICS_FILE = join(SYSTEM.state, "metrics", "aegis.prom");

/** What is written there. */
export type SharedTexts = Readonly<Record<keyof typeof SHARED, string>>;

/** File name of the audit log inside its directory. */
export const AUDIT_FILE = "audit.ndjson";

/** File in `SYSTEM.run` with the requests' states: the runner writes it, the front reads it. */
export const REQUESTS_STATE_FILE = "requests.state";

/**
 * An XDG base directory. Relative values are ignored, as the specification requires.
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

/** The audit directory: `AEGIS_AUDIT_LOG_DIR` if set and absolute, else the user's own. */
export function auditDir(env: Env): string {
  const value = env.AEGIS_AUDIT_LOG_DIR;
  return value !== undefined && isAbsolute(value) ? value : userPaths(env).auditDir;
}
