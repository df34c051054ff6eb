import { join } from "node:path";
import type { ToolSettings } from "./eco-planning.ts";
import type { Env } from "./paths.ts";

/*
 * The user's effective registry settings, read from the files npm reads, and nothing else from them: npmrc files can
 * also name programs to run. Credentials are left out, so packages that need a login are "not found" in a plan.
 */

const PUBLIC_REGISTRY = "https://registry.npmjs.org/";

/** npm's global configuration files, depending on the prefix npm was installed with. */
const GLOBAL_FILES = ["/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"];
const KEYS = /^(?:registry|@[a-z0-9-][a-z0-9._-]*:registry|cafile|proxy|https-proxy|noproxy)$/;
/** Variables npm reads without its own prefix. */
const PLAIN_VARIABLES: Readonly<Record<string, string>> = {
  http_proxy: "proxy",
  https_proxy: "https-proxy",
  no_proxy: "noproxy",
};

/**
 * The settings by key; as in npm, later sources win: global files, the user's file, the environment.
 * @see https://docs.npmjs.com/cli/using-npm/config
 */
export function npmConfig(env: Env, readText: (path: string) => string | null): Map<string, string> {
  const config = new Map<string, string>();
  const variables = npmVariables(env);
  const userFile = variables.get("userconfig") ?? (env.HOME === undefined ? null : join(env.HOME, ".npmrc"));
  const globalFile = variables.get("globalconfig");
  const files = [
    ...(globalFile === undefined ? GLOBAL_FILES : [globalFile]),
    ...(userFile === null ? [] : [userFile]),
  ];
  for (const file of files) {
    for (const line of (readText(file) ?? "").split("\n")) {
      const match = /^\s*([^=;#\s]+)\s*=\s*(?:"([^"]*)"|(.*?))\s*$/.exec(line);
      if (match !== null) setKnown(config, match[1] ?? "", expand(match[2] ?? match[3] ?? "", env));
    }
  }
  for (const [key, value] of variables) setKnown(config, key, value);
  return config;
}

/** The configuration file npm gets in planning instead of the user's. */
function npmrc(config: ReadonlyMap<string, string>): string {
  // Notices and log files would only cause extra requests and noise.
  const lines = ["update-notifier=false", "logs-max=0", "ignore-scripts=true"];
  for (const [key, value] of config) lines.push(`${key}=${value}`);
  return `${lines.join("\n")}\n`;
}

/** Passes the planning user's registry settings, and nothing else of theirs, to a call of npm. */
export function npmSettings(config: ReadonlyMap<string, string>): (home: string) => ToolSettings {
  return (home) => ({
    files: { ".npmrc": npmrc(config), ".npmrc-global": "" },
    // npm reads the host's global file whatever HOME is, with everything it sets.
    variables: { NPM_CONFIG_GLOBALCONFIG: join(home, ".npmrc-global") },
  });
}

/** A package's registry: its scope's, else the default one. Ends with a slash. */
export function registryOf(config: ReadonlyMap<string, string>, name: string): string {
  const scope = name.startsWith("@") ? config.get(`${name.slice(0, name.indexOf("/"))}:registry`) : undefined;
  const url = scope ?? config.get("registry") ?? PUBLIC_REGISTRY;
  return url.endsWith("/") ? url : `${url}/`;
}

/** Settings in the environment: `npm_config_<key>` in any case with `_` for `-`, and the usual proxy variables. */
function npmVariables(env: Env): Map<string, string> {
  const values = new Map<string, string>();
  const entries = Object.entries(env).filter((e): e is [string, string] => (e[1] ?? "") !== "");
  for (const [name, value] of entries) {
    const key = PLAIN_VARIABLES[name.toLowerCase()];
    if (key !== undefined) values.set(key, value);
  }
  for (const [name, value] of entries) {
    const match = /^npm_config_([a-z0-9@:._-]+)$/i.exec(name);
    if (match?.[1] !== undefined) values.set(match[1].toLowerCase().replaceAll("_", "-"), value);
  }
  return values;
}

function setKnown(config: Map<string, string>, key: string, value: string): void {
  if (!KEYS.test(key) || value === "" || /\p{C}/u.test(value)) return;
  if (!key.endsWith("registry")) {
    config.set(key, value);
    return;
  }
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:")) return;
  url.username = "";
  url.password = "";
  config.set(key, url.href);
}

/** npm replaces `${NAME}` in its files; an unset one makes the value unusable. */
function expand(value: string, env: Env): string {
  let missing = false;
  const expanded = value.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (_, name: string) => {
    const found = env[name];
    if (found === undefined) missing = true;
    return found ?? "";
  });
  return missing ? "" : expanded;
}
