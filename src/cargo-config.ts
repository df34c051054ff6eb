import { isAbsolute, join } from "node:path";
import * as v from "valibot";
import type { RegistryRequest } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import type { Env } from "./paths.ts";
import { readToml } from "./sys-toml.ts";

/*
 * Where crates come from, by the settings of whoever plans: cargo's configuration file, read as data, and its variables. A file can
 * also name programs, wrappers and linkers: nothing of that is looked at.
 * https://doc.rust-lang.org/cargo/reference/config.html, https://doc.rust-lang.org/cargo/reference/source-replacement.html
 */

const CRATES_IO = "sparse+https://index.crates.io/";
const MAX_REPLACEMENTS = 8;

const text = v.optional(v.string());
const tables = <S extends v.GenericSchema>(schema: S) => v.optional(v.record(v.string(), schema), {});
const Registries = tables(v.looseObject({ index: text, token: text }));
const Config = v.looseObject({
  source: tables(v.looseObject({ "replace-with": text, registry: text })),
  registries: Registries,
  http: v.optional(v.looseObject({ proxy: text, cainfo: text }), {}),
});
const Credentials = v.looseObject({ registries: Registries });

export interface CargoConfig {
  /** The sparse index in place of crates.io's, with a last slash and without credentials. */
  index: URL;
  request: RegistryRequest;
}

/**
 * Reads the settings.
 * @throws AegisError `invalid_config` naming what can't be used
 */
export function cargoConfig(env: Env, readText: (path: string) => string | null): CargoConfig {
  const home = env.CARGO_HOME ?? (env.HOME === undefined ? null : join(env.HOME, ".cargo"));
  // Where both names are there, cargo takes the one without an extension.
  const config = readFile(home, ["config", "config.toml"], Config, readText);
  const credentials = readFile(home, ["credentials", "credentials.toml"], Credentials, readText);
  const { index, registry } = indexOf(config, env);
  const token =
    registry === null
      ? undefined
      : (env[variableOf(registry, "TOKEN")] ??
        tableOf(credentials.registries, registry)?.token ??
        tableOf(config.registries, registry)?.token);
  const authorization = passwordOf(index) ?? token;
  const proxy = env.CARGO_HTTP_PROXY ?? config.http.proxy ?? "";
  const cainfo = env.CARGO_HTTP_CAINFO ?? config.http.cainfo ?? "";
  return {
    index: withoutPassword(index),
    request: {
      ...(authorization === undefined ? {} : { headers: { authorization } }),
      ...(proxy === "" ? {} : { proxy: proxy.includes("://") ? proxy : `http://${proxy}` }),
      ...(cainfo === "" ? {} : { certificates: certificatesIn(cainfo, readText) }),
    },
  };
}

/** The index that stands for crates.io, and the name of the registry that it belongs to, for its token. */
function indexOf(config: v.InferOutput<typeof Config>, env: Env): { index: URL; registry: string | null } {
  // The host's own, which the executor plans from; a token for it may stand with a registry of the same address.
  const own = env.AEGIS_CARGO_INDEX ?? "";
  if (own !== "") {
    const same = Object.entries(config.registries).find(([, registry]) => registry.index === own);
    return { index: sparse(own, "AEGIS_CARGO_INDEX"), registry: same?.[0] ?? null };
  }
  let name = "crates-io";
  for (let n = 0; n < MAX_REPLACEMENTS; n++) {
    const source = tableOf(config.source, name);
    const registry = tableOf(config.registries, name);
    const next = source?.["replace-with"];
    if (next !== undefined) {
      name = next;
      continue;
    }
    const named = env[variableOf(name, "INDEX")] ?? registry?.index;
    const index = source?.registry ?? named;
    if (index !== undefined)
      return { index: sparse(index, `[source.${name}]`), registry: named === undefined ? null : name };
    if (name !== "crates-io")
      throw invalid(`[source.${name}] is no registry; vendored and local sources are not used`);
    return { index: sparse(CRATES_IO, "crates.io"), registry: null };
  }
  throw invalid("its source replacements go in a circle");
}

function variableOf(registry: string, what: "INDEX" | "TOKEN"): string {
  return `CARGO_REGISTRIES_${registry.toUpperCase().replaceAll("-", "_")}_${what}`;
}

function tableOf<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

function sparse(index: string, where: string): URL {
  const address = index.startsWith("sparse+") ? index.slice("sparse+".length) : "";
  if (!/^https?:\/\//.test(address) || !URL.canParse(address))
    throw invalid(`${where} is no sparse registry (sparse+https://…)`);
  const url = new URL(address);
  url.search = "";
  url.hash = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url;
}

/** User and password in an address as the header that they become. */
function passwordOf({ username, password }: URL): string | undefined {
  if (username === "" && password === "") return undefined;
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return `Basic ${Buffer.from(pair).toString("base64")}`;
}

function withoutPassword(url: URL): URL {
  const plain = new URL(url);
  plain.username = "";
  plain.password = "";
  return plain;
}

/** Certificates that are configured and can't be read are no reason to believe others. */
function certificatesIn(path: string, readText: (path: string) => string | null): string {
  const certificates = isAbsolute(path) ? readText(path) : null;
  if (certificates !== null) return certificates;
  throw invalid(
    `http.cainfo names ${JSON.stringify(path)}, which is no absolute path of a file that can be read`,
  );
}

function readFile<S extends v.GenericSchema>(
  home: string | null,
  names: readonly string[],
  schema: S,
  readText: (path: string) => string | null,
): v.InferOutput<S> {
  const paths = home === null ? [] : names.map((name) => join(home, name));
  for (const path of paths) {
    const content = readText(path);
    if (content === null) continue;
    const read = readToml(content, schema);
    if (read.problem !== null) throw invalid(`${path}: ${read.problem}`);
    return read.settings;
  }
  return v.parse(schema, {});
}

function invalid(problem: string): AegisError {
  return new AegisError(
    "invalid_config",
    `cargo's configuration can't be used: ${problem}`,
    "Correct it: https://doc.rust-lang.org/cargo/reference/source-replacement.html",
  );
}
