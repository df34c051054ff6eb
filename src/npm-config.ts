import { join } from "node:path";
import type { RegistryRequest, ToolSettings } from "./eco-planning.ts";
import type { Env } from "./paths.ts";
import { isProtected } from "./sys-fetch.ts";

/*
 * The user's effective registry settings, read from the files npm reads, and nothing else from them: npmrc files can
 * also name programs to run. Credentials are kept apart: they become headers of GETs, and reach no program, file or plan.
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
  for (const [key, value] of npmLines(env, readText)) setKnown(config, key, value);
  for (const [key, value] of npmVariables(env)) setKnown(config, key, value);
  return config;
}

/** The lines of the npmrc files, in the order in which later ones win. */
function* npmLines(env: Env, readText: (path: string) => string | null): Generator<[string, string]> {
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
      if (match !== null) yield [match[1] ?? "", expand(match[2] ?? match[3] ?? "", env)];
    }
  }
}

/** How each URL is requested: proxy and certificates as the settings say, and the credentials of its registry. */
export type NpmRequests = (url: URL) => RegistryRequest;

/**
 * The requests that npm's settings make. Credentials are sent to the address they are configured for and below it, and never over
 * plain HTTP except to this machine.
 * @see https://docs.npmjs.com/cli/configuring-npm/npmrc#auth-related-configuration
 */
export function npmRequests(
  env: Env,
  readText: (path: string) => string | null,
  config: ReadonlyMap<string, string>,
): NpmRequests {
  const secrets = new Map<string, string>();
  for (const [key, value] of npmLines(env, readText)) {
    if (/^\/\/.+:(?:_authToken|_auth|username|_password)$/.test(key) && !/\p{C}/u.test(value))
      secrets.set(key, value);
  }
  const cafile = config.get("cafile");
  const certificates = cafile === undefined ? null : readText(cafile);
  return (url) => {
    const authorization = isProtected(url) ? authorizationFor(url, secrets) : null;
    const proxy = proxyFor(url, config);
    return {
      ...(authorization === null ? {} : { headers: { authorization } }),
      ...(proxy === undefined ? {} : { proxy }),
      ...(certificates === null ? {} : { certificates }),
    };
  };
}

/** The credentials for `//host/path` or what is above it, with or without the last slash, as npm-registry-fetch looks them up. */
function authorizationFor(url: URL, secrets: ReadonlyMap<string, string>): string | null {
  for (let key = `//${url.host}${url.pathname}`; key.length > 2; key = key.replace(/(?:[^/]+|\/)$/, "")) {
    const token = secrets.get(`${key}:_authToken`) ?? "";
    if (token !== "") return `Bearer ${token}`;
    const auth = secrets.get(`${key}:_auth`) ?? "";
    if (auth !== "") return `Basic ${auth}`;
    const [user = "", password = ""] = [secrets.get(`${key}:username`), secrets.get(`${key}:_password`)];
    if (user === "" || password === "") continue;
    const both = `${user}:${Buffer.from(password, "base64").toString()}`;
    return `Basic ${Buffer.from(both).toString("base64")}`;
  }
  return null;
}

function proxyFor({ protocol, hostname }: URL, config: ReadonlyMap<string, string>): string | undefined {
  const excluded = (config.get("noproxy") ?? "").split(",").map((one) => one.trim().replace(/^\*?\./, ""));
  const isExcluded = excluded.some(
    (one) => one !== "" && (one === "*" || hostname === one || hostname.endsWith(`.${one}`)),
  );
  if (isExcluded) return undefined;
  return (protocol === "https:" ? config.get("https-proxy") : undefined) ?? config.get("proxy");
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
