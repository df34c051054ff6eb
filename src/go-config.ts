import { join } from "node:path";
import type { RegistryRequest } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";

/*
 * Where Go's modules come from and what vouches for them, by the settings of whoever plans: the environment, and the file that
 * `go env -w` writes. https://go.dev/ref/mod#environment-variables
 */

const KEYS = [
  "GOPROXY",
  "GOSUMDB",
  "GOPRIVATE",
  "GONOSUMDB",
  "GONOPROXY",
  "GONOSUMCHECK",
  "GOINSECURE",
] as const;
type Key = (typeof KEYS)[number];

/** The checksum databases that the go command knows by name, with their keys. */
const KNOWN: Readonly<Record<string, string>> = {
  "sum.golang.org": "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
};

export interface GoConfig {
  /**
   * Proxies in the order of GOPROXY. `direct`, which runs version control, and what follows it is left out. After `|` the next is
   * asked whatever went wrong, after `,` only where this one has no such file.
   */
  proxies: { url: URL; request: RegistryRequest; next: "," | "|" }[];
  /** Null where GOSUMDB is `off`. `url` is null for the database's own address, which is also asked through each proxy. */
  sumdb: { key: string; url: URL | null } | null;
  /** Why nothing vouches for this module, by GOPRIVATE and its kin; null where the database is asked. */
  bypass(module: string): string | null;
  /** Why no proxy may learn of this module, by GONOPROXY; null where they are asked. */
  unasked(module: string): string | null;
  /** The settings as variables, without credentials: what `go env` shows. */
  shown: Readonly<Record<string, string>>;
}

/**
 * What the go command of planning runs with: modules by one proxy (an address) and nothing else. The checksum database is asked by
 * planning itself, for every file. No version control, no other toolchain, no workspace file above the working directory.
 */
export function planningVariables(proxy: string): Readonly<Record<string, string>> {
  return {
    GOPROXY: proxy,
    GOSUMDB: "off",
    GOENV: "off",
    GOWORK: "off",
    GOTOOLCHAIN: "local",
    GOVCS: "*:off",
    GOFLAGS: "-mod=mod",
    GOTELEMETRY: "off",
  };
}

/**
 * Reads the settings.
 * @throws AegisError `invalid_config` naming the variable
 */
export function goConfig(env: Env, readText: (path: string) => string | null): GoConfig {
  const settings = readSettings(env, readText);
  const proxies = parseProxies(settings.get("GOPROXY") ?? "https://proxy.golang.org,direct");
  // Both take GOPRIVATE's patterns where they have none of their own.
  const privately = (key: "GONOSUMDB" | "GONOPROXY") => {
    const from = settings.has(key) ? key : "GOPRIVATE";
    const patterns = (settings.get(from) ?? "").split(",").flatMap((p) => p.trim() || []);
    return (module: string) => {
      const found = patterns.find((pattern) => matchesPrefix(pattern, module));
      return found === undefined ? null : `${from} names it (${found})`;
    };
  };
  return {
    proxies,
    sumdb: parseSumdb(settings.get("GOSUMDB") ?? "sum.golang.org"),
    bypass: privately("GONOSUMDB"),
    unasked: privately("GONOPROXY"),
    shown: {
      ...Object.fromEntries(settings),
      ...(settings.has("GOPROXY")
        ? {
            GOPROXY:
              proxies
                .map(({ url, next }, i) => (i + 1 < proxies.length ? url.href + next : url.href))
                .join("") || "off",
          }
        : {}),
    },
  };
}

function readSettings(env: Env, readText: (path: string) => string | null): ReadonlyMap<Key, string> {
  const settings = new Map<Key, string>();
  const config = env.XDG_CONFIG_HOME ?? (env.HOME === undefined ? null : join(env.HOME, ".config"));
  const file = env.GOENV ?? (config === null ? null : join(config, "go/env"));
  for (const line of (file === null || file === "off" ? "" : (readText(file) ?? "")).split("\n")) {
    const equals = line.indexOf("=");
    const key = KEYS.find((known) => known === line.slice(0, Math.max(equals, 0)));
    if (key !== undefined) settings.set(key, line.slice(equals + 1).trim());
  }
  for (const key of KEYS) {
    const value = env[key] ?? "";
    if (value !== "") settings.set(key, value);
  }
  return settings;
}

function parseProxies(text: string): GoConfig["proxies"] {
  const parts = text.match(/[^,|]*[,|]?/g) ?? [];
  const proxies: GoConfig["proxies"] = [];
  for (const part of parts) {
    const name = part.replace(/[,|]$/, "").trim();
    if (name === "direct" || name === "off") break;
    if (name !== "") proxies.push({ ...parseProxy(name), next: part.endsWith("|") ? "|" : "," });
  }
  return proxies;
}

function parseProxy(text: string): Omit<GoConfig["proxies"][number], "next"> {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:"))
    throw invalid("GOPROXY", "it names something that is no http or https address");
  if (url.search !== "" || url.hash !== "") throw invalid("GOPROXY", "an address in it has a ? or a #");
  const { username, password } = url;
  url.username = "";
  url.password = "";
  if (username === "" && password === "") return { url, request: {} };
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return {
    url,
    request: { headers: { authorization: `Basic ${Buffer.from(credentials).toString("base64")}` } },
  };
}

/** `name`, `name+id+key`, either followed by the address of a mirror; or `off`. */
function parseSumdb(text: string): GoConfig["sumdb"] {
  if (text === "off") return null;
  const [name = "", address, ...rest] = text.trim().split(/\s+/);
  const key = KNOWN[name] ?? name;
  if (rest.length > 0 || !key.includes("+"))
    throw invalid(
      "GOSUMDB",
      "it is neither a known database, nor <name>+<id>+<key> with an address, nor off",
    );
  if (address === undefined) return { key, url: null };
  if (!/^https?:/.test(address) || !URL.canParse(address))
    throw invalid("GOSUMDB", "its address is no http or https address");
  const url = new URL(address);
  if (url.username !== "" || url.password !== "")
    throw invalid("GOSUMDB", "its address has credentials; the database is asked without");
  return { key, url };
}

function invalid(variable: string, problem: string): AegisError {
  return new AegisError(
    "invalid_config",
    `${variable} can't be used: ${problem}`,
    `Correct it: go env ${variable}. https://go.dev/ref/mod#environment-variables`,
  );
}

/** Whether a glob of path elements matches the beginning of a module's path (`path.Match` per element, as the go command does). */
function matchesPrefix(pattern: string, module: string): boolean {
  const globs = pattern.split("/");
  const elements = module.split("/");
  return (
    globs.length <= elements.length && globs.every((glob, i) => globToRegExp(glob).test(elements[i] ?? ""))
  );
}

function globToRegExp(glob: string): RegExp {
  const source = glob
    .replace(/[.+^${}()|\\]/g, "\\$&")
    .replaceAll("*", "[^/]*")
    .replaceAll("?", "[^/]");
  try {
    return new RegExp(`^${source}$`);
  } catch {
    // A malformed pattern matches nothing for Go; taken to match, it can only make the plan stricter.
    return /^/;
  }
}
