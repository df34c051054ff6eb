import { join } from "node:path";
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
const Source = v.looseObject({
  "replace-with": text,
  registry: text,
  directory: v.optional(v.unknown()),
  "local-registry": v.optional(v.unknown()),
  git: v.optional(v.unknown()),
});
const Registry = v.looseObject({ index: text, token: text });
const Config = v.looseObject({
  source: v.optional(v.record(v.string(), Source), {}),
  registries: v.optional(v.record(v.string(), Registry), {}),
  http: v.optional(v.looseObject({ proxy: text, cainfo: text }), {}),
});
const Credentials = v.looseObject({ registries: v.optional(v.record(v.string(), Registry), {}) });

export interface CargoConfig {
  /** The sparse index in place of crates.io's, with a last slash. */
  index: URL;
  request: RegistryRequest;
}

/**
 * Reads the settings.
 * @throws AegisError `invalid_config` naming what can't be used
 */
export function cargoConfig(env: Env, readText: (path: string) => string | null): CargoConfig {
  const home = env.CARGO_HOME ?? (env.HOME === undefined ? null : join(env.HOME, ".cargo"));
  const config = readFile(home, ["config.toml", "config"], Config, readText);
  const credentials = readFile(home, ["credentials.toml", "credentials"], Credentials, readText);
  const { index, registry } = indexOf(config, env);
  const token =
    registry === null
      ? undefined
      : (env[`CARGO_REGISTRIES_${registry.toUpperCase().replaceAll("-", "_")}_TOKEN`] ??
        credentials?.registries[registry]?.token ??
        config?.registries[registry]?.token);
  const proxy = config?.http.proxy ?? env.CARGO_HTTP_PROXY;
  const cainfo = config?.http.cainfo ?? env.CARGO_HTTP_CAINFO;
  const certificates = cainfo === undefined ? null : readText(cainfo);
  return {
    index,
    request: {
      ...(token === undefined ? {} : { headers: { authorization: token } }),
      ...(proxy === undefined || proxy === ""
        ? {}
        : { proxy: proxy.includes("://") ? proxy : `http://${proxy}` }),
      ...(certificates === null ? {} : { certificates }),
    },
  };
}

/** The index that stands for crates.io, and the name of the registry that it belongs to, for its token. */
function indexOf(
  config: v.InferOutput<typeof Config> | null,
  env: Env,
): { index: URL; registry: string | null } {
  const own = env.AEGIS_CARGO_INDEX ?? "";
  if (own !== "") return { index: sparse(own, "AEGIS_CARGO_INDEX"), registry: null };
  let name = "crates-io";
  for (let n = 0; n < MAX_REPLACEMENTS; n++) {
    const source = config?.source[name];
    const registry = config?.registries[name];
    const next = source?.["replace-with"];
    if (next !== undefined) {
      name = next;
      continue;
    }
    const index = source?.registry ?? registry?.index;
    if (index !== undefined)
      return { index: sparse(index, `[source.${name}]`), registry: registry === undefined ? null : name };
    if (name === "crates-io") return { index: sparse(CRATES_IO, "crates.io"), registry: null };
    throw invalid(`[source.${name}] is no registry: vendored and local sources are not used`);
  }
  throw invalid("its source replacements go in a circle");
}

function sparse(index: string, where: string): URL {
  const url = index.startsWith("sparse+") ? index.slice("sparse+".length) : "";
  if (!/^https?:/.test(url) || !URL.canParse(url))
    throw invalid(`${where} is no sparse registry (sparse+https://…)`);
  return new URL(url.endsWith("/") ? url : `${url}/`);
}

function readFile<S extends v.GenericSchema>(
  home: string | null,
  names: readonly string[],
  schema: S,
  readText: (path: string) => string | null,
): v.InferOutput<S> | null {
  for (const name of home === null ? [] : names) {
    const path = join(home, name);
    const content = readText(path);
    if (content === null) continue;
    const { settings, problem } = readToml(content, schema);
    if (problem !== null) throw invalid(`${path}: ${problem}`);
    return settings;
  }
  return null;
}

function invalid(problem: string): AegisError {
  return new AegisError(
    "invalid_config",
    `cargo's configuration can't be used: ${problem}`,
    "Correct it: https://doc.rust-lang.org/cargo/reference/source-replacement.html",
  );
}
