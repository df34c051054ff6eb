import { join } from "node:path";
import type { RegistryRequest } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";
import { isProtected } from "./sys-fetch.ts";

/*
 * Where Python packages come from by pip's own settings, read as data: configuration files and PIP_* variables.
 * https://pip.pypa.io/en/stable/topics/configuration/
 */

const PYPI = "https://pypi.org/simple/";
const KEYS = [
  ...["index-url", "extra-index-url", "no-index", "find-links", "trusted-host", "cert", "client-cert"],
  ...["proxy", "pre", "constraint"],
] as const;

export interface PipConfig {
  /** The one index, with a last slash and without credentials. */
  index: URL;
  /** For requests to the index's own host: credentials, proxy, certificates. */
  request: RegistryRequest;
  /** For requests to any other host that the index names: without credentials. */
  otherRequest: RegistryRequest;
  /** Why nothing may be planned with these settings; null where something may. */
  refused: string | null;
  /** What is set and not used, for warnings. */
  notes: string[];
}

/**
 * Reads the settings. Files win over each other as pip has it: global, user, site, PIP_CONFIG_FILE; then `[install]` over
 * `[global]`; then variables.
 * @throws AegisError `invalid_config` for an address that can't be used
 */
export function pipConfig(env: Env, readText: (path: string) => string | null): PipConfig {
  const settings = readSettings(env, readText);
  const index = parseIndex(settings.get("index-url") ?? PYPI);
  const certificates = settings.get("cert");
  const pem = certificates === undefined ? null : readText(certificates);
  if (certificates !== undefined && pem === null) throw invalid("cert", "its file can't be read");
  const proxy = settings.get("proxy");
  const shared: RegistryRequest = {
    ...(pem === null ? {} : { certificates: pem }),
    ...(proxy === undefined ? {} : { proxy: proxyAddress(proxy) }),
  };
  return {
    index: index.url,
    request: {
      ...shared,
      ...(index.authorization === null ? {} : { headers: { authorization: index.authorization } }),
    },
    otherRequest: shared,
    refused: refusalOf(settings, index.url),
    notes: notesOf(settings),
  };
}

function refusalOf(settings: ReadonlyMap<string, string>, index: URL): string | null {
  const extra = (settings.get("extra-index-url") ?? "").split(/\s+/).filter((one) => one !== "");
  if (extra.length > 0) {
    const hosts = extra.map((one) => (URL.canParse(one) ? new URL(one).host : "an unreadable address"));
    return `extra-index-url names another index (${hosts.join(", ")}): whoever registers a name there could take the place of a package of ${index.host} (dependency confusion). Use one index that has both, as index-url`;
  }
  if (isTrue(settings.get("no-index"))) return "no-index is set, so there is no index to plan from";
  if (!isProtected(index))
    return `${index.host} is asked without encryption, so anybody on the way could answer; use an https address as index-url`;
  return null;
}

/** Settings that a signed run would not follow either. */
function notesOf(settings: ReadonlyMap<string, string>): string[] {
  const notes: string[] = [];
  const ignored = (key: string, why: string) => {
    if ((settings.get(key) ?? "") !== "") notes.push(`pip's settings: ${key} is set and not used: ${why}.`);
  };
  ignored("find-links", "packages come from the index alone");
  ignored("trusted-host", "certificates are always checked");
  ignored("client-cert", "Aegis has no client certificates");
  ignored("constraint", "the plan holds every version already");
  if (isTrue(settings.get("pre"))) notes.push("pip's settings: pre is set and not used: name the version.");
  return notes;
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && /^(?:y|yes|t|true|on|1)$/i.test(value.trim());
}

function readSettings(env: Env, readText: (path: string) => string | null): ReadonlyMap<string, string> {
  const sections = { global: new Map<string, string>(), install: new Map<string, string>() };
  for (const path of filesOf(env, readText)) {
    for (const [section, key, value] of readIni(readText(path) ?? "")) {
      if (section === "global" || section === "install") sections[section].set(key, value);
    }
  }
  const settings = new Map<string, string>();
  const keep = (key: string, value: string) => {
    if (KEYS.some((known) => known === key)) settings.set(key, value.trim());
  };
  for (const section of [sections.global, sections.install])
    for (const [key, value] of section) keep(key, value);
  for (const [name, value = ""] of Object.entries(env)) {
    // pip ignores a variable that is set and empty.
    if (name.startsWith("PIP_") && value !== "") keep(keyOf(name.slice(4)), value);
  }
  return settings;
}

function keyOf(name: string): string {
  return name.toLowerCase().replaceAll("_", "-").replace(/^--/, "");
}

/** pip's files in their order, the last one wins. `PIP_CONFIG_FILE=/dev/null` leaves none. */
function filesOf(env: Env, readText: (path: string) => string | null): string[] {
  const named = env.PIP_CONFIG_FILE ?? "";
  if (named === "/dev/null") return [];
  const global = [
    ...(env.XDG_CONFIG_DIRS ?? "/etc/xdg").split(":").map((directory) => join(directory, "pip/pip.conf")),
    "/etc/pip.conf",
  ];
  const config = env.XDG_CONFIG_HOME ?? (env.HOME === undefined ? null : join(env.HOME, ".config"));
  const user = [
    ...(env.HOME === undefined ? [] : [join(env.HOME, ".pip/pip.conf")]),
    ...(config === null ? [] : [join(config, "pip/pip.conf")]),
  ];
  const hasOwn = named !== "" && readText(named) !== null;
  // The site's file is that of the system's Python, which is the one that runs.
  return [...global, ...(hasOwn ? [] : user), "/usr/pip.conf", ...(hasOwn ? [named] : [])];
}

/** Settings of an INI file as Python's configparser reads it: continued lines, `=` or `:`, comments on lines of their own. */
function readIni(text: string): [section: string, key: string, value: string][] {
  const found: [string, string, string][] = [];
  let section = "";
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*(?:[#;]|$)/.test(line)) continue;
    const last = found.at(-1);
    if (/^\s/.test(line) && last !== undefined) {
      last[2] += `\n${line.trim()}`;
      continue;
    }
    const header = /^\[([^\]]+)\]\s*$/.exec(line)?.[1];
    if (header !== undefined) section = header;
    const [, key, value = ""] = /^([^=:]+?)\s*[=:]\s*(.*?)\s*$/.exec(header === undefined ? line : "") ?? [];
    if (key !== undefined) found.push([section, keyOf(key), value]);
  }
  return found;
}

function parseIndex(text: string): { url: URL; authorization: string | null } {
  const expanded = text.endsWith("/") ? text : `${text}/`;
  const url = URL.canParse(expanded) ? new URL(expanded) : null;
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:"))
    throw invalid("index-url", "it is no http or https address");
  const { username, password } = url;
  url.username = "";
  url.password = "";
  if (username === "" && password === "") return { url, authorization: null };
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { url, authorization: `Basic ${Buffer.from(credentials).toString("base64")}` };
}

function proxyAddress(text: string): string {
  const address = /^[a-z0-9+.-]+:\/\//i.test(text) ? text : `http://${text}`;
  if (!/^https?:/i.test(address) || !URL.canParse(address))
    throw invalid("proxy", "it is no http or https address");
  return address;
}

function invalid(key: string, problem: string): AegisError {
  return new AegisError(
    "invalid_config",
    `pip's ${key} can't be used: ${problem}`,
    "Correct it; see where it is set: python3 -m pip config debug",
  );
}
