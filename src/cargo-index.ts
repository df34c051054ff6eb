import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { CargoConfig } from "./cargo-config.ts";
import { type CrateDependency, type CrateNeeds, named } from "./cargo-manifest.ts";
import { isCrate } from "./cargo-target.ts";
import type { PackageFile, Planning, RegistryRequest } from "./eco-planning.ts";
import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";
import { leadsHome } from "./sys-fetch.ts";

/*
 * A sparse registry: what versions a crate has, what they need, and where their files are.
 * https://doc.rust-lang.org/cargo/reference/registry-index.html
 */

const text = v.optional(v.nullable(v.string()));
const lists = v.optional(v.nullable(named(v.array(v.string()))));
const Dependency = v.looseObject({
  name: v.string(),
  req: v.string(),
  target: text,
  kind: text,
  /** The crate's own name where `name` renames it. */
  package: text,
  optional: v.optional(v.nullable(v.boolean())),
  default_features: v.optional(v.nullable(v.boolean())),
  features: v.optional(v.nullable(v.array(v.string()))),
});
const Entry = v.looseObject({
  name: v.string(),
  vers: v.string(),
  cksum: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  deps: v.array(Dependency),
  features: lists,
  features2: lists,
  yanked: v.optional(v.nullable(v.boolean())),
  pubtime: text,
});
const Settings = v.looseObject({ dl: v.string(), "auth-required": v.optional(v.boolean(), false) });

/** One version of a crate, as the index has it. */
export interface CrateEntry extends CrateNeeds {
  name: string;
  version: string;
  /** SHA-256 of its file, in lower-case hex. */
  checksum: string;
  isYanked: boolean;
  /** RFC 3339 in UTC; null where the index doesn't tell. */
  publishedAt: string | null;
}

/** The registry of a configuration; each crate's index file is read once. */
export class CargoIndex {
  readonly #config: CargoConfig;
  readonly #planning: Planning;
  readonly #crates = new Map<string, Promise<string[]>>();
  #settings: Promise<v.InferOutput<typeof Settings>> | null = null;

  constructor(config: CargoConfig, planning: Planning) {
    this.#config = config;
    this.#planning = planning;
  }

  /** @throws AegisError `not_found`, `unavailable`, `evidence_mismatch` for an index that can't be read */
  async version(name: string, version: string): Promise<CrateEntry> {
    const found = entriesOf(name, await this.#lines(name), version);
    const [entry, second] = found.filter((one) => one.version === version);
    if (second !== undefined) throw damaged(`it has two entries for ${name} ${version}`);
    if (entry !== undefined) return entry;
    throw new AegisError(
      "not_found",
      `the registry has no ${name} ${version}`,
      `aegis plan cargo install ${name} names the newest.`,
    );
  }

  /**
   * The newest version that `cargo install` would take: no pre-release, nothing yanked.
   * @throws AegisError as {@link version}
   */
  async newest(name: string): Promise<CrateEntry> {
    const [newest] = entriesOf(name, await this.#lines(name))
      .filter((one) => !one.isYanked && isCrate(name, one.version) && !one.version.includes("-"))
      .toSorted((a, b) => SEMVER.compare(b.version, a.version));
    if (newest !== undefined) return newest;
    throw new AegisError(
      "not_found",
      `the registry has no release of ${name} that isn't withdrawn`,
      "Name an exact version.",
    );
  }

  /**
   * A crate's file, checked against the index, and its address by the registry's own template.
   * @throws AegisError `unavailable`, `evidence_mismatch`
   */
  async file({ name, version, checksum }: CrateEntry): Promise<{ url: URL; file: PackageFile }> {
    this.#settings ??= this.#readSettings();
    const { dl, "auth-required": isPrivate } = await this.#settings;
    const values = new Map([
      ["{crate}", name],
      ["{version}", version],
      ["{prefix}", prefixOf(name)],
      ["{lowerprefix}", prefixOf(name.toLowerCase())],
      ["{sha256-checksum}", checksum],
    ]);
    const filled = dl.replace(/\{[a-z0-9-]+\}/g, (marker) => values.get(marker) ?? marker);
    const address = filled === dl ? `${dl.replace(/\/$/, "")}/${name}/${version}/download` : filled;
    if (!/^https?:\/\//.test(address) || !URL.canParse(address))
      throw damaged("its download address is none");
    const url = new URL(address);
    if (url.username !== "" || url.password !== "") throw damaged("its download address holds a password");
    if (leadsHome(this.#config.index, url))
      throw damaged("its download address is on this machine, and it is not");
    const request = this.#requestOf(url, isPrivate);
    return {
      url,
      file: await this.#planning.packageFile(url, { algorithm: "sha256", hex: checksum }, request),
    };
  }

  /** As cargo, files are only asked for with the token where the registry says so; and never in the clear where its index is not. */
  #requestOf(url: URL, isPrivate: boolean): RegistryRequest {
    const { request, index } = this.#config;
    const { headers, ...open } = request;
    const isDowngrade = index.protocol === "https:" && url.protocol !== "https:";
    return headers === undefined || ((!isPrivate || isDowngrade) && url.origin !== index.origin)
      ? open
      : request;
  }

  async #readSettings(): Promise<v.InferOutput<typeof Settings>> {
    const bytes = await this.#get("config.json");
    const parsed = v.safeParse(Settings, bytes === null ? null : jsonOf(Buffer.from(bytes).toString("utf8")));
    if (!parsed.success) throw damaged("its config.json names no download address");
    return parsed.output;
  }

  #lines(name: string): Promise<string[]> {
    const lower = name.toLowerCase();
    const known = this.#crates.get(lower) ?? this.#read(lower);
    this.#crates.set(lower, known);
    return known;
  }

  async #read(name: string): Promise<string[]> {
    const bytes = await this.#get(`${prefixOf(name)}/${name}`);
    if (bytes !== null) return Buffer.from(bytes).toString("utf8").split("\n");
    throw new AegisError("not_found", `the registry has no crate ${name}`, "Check the name at the registry.");
  }

  async #get(path: string): Promise<Uint8Array | null> {
    const url = new URL(path, this.#config.index);
    const { status, bytes, location } = await this.#planning.get(url, this.#config.request);
    if (status === 200) return bytes;
    if ([404, 410, 451].includes(status)) return null;
    const elsewhere = location === "" ? "" : " and sends elsewhere, which is not followed";
    throw new AegisError("unavailable", `${url.host} answers ${status}${elsewhere}: ${url.pathname}`);
  }
}

/** The entries of an index file, or only those of one version. As for cargo, a line in a format that isn't known is none. */
function entriesOf(name: string, lines: readonly string[], version?: string): CrateEntry[] {
  const wanted = version === undefined ? '"' : JSON.stringify(version);
  return lines.flatMap((line) => {
    if (!line.includes(wanted)) return [];
    const parsed = v.safeParse(Entry, jsonOf(line));
    if (!parsed.success) return [];
    const one = parsed.output;
    if (one.name.toLowerCase() !== name.toLowerCase())
      throw damaged(`an entry of ${name} is of another crate`);
    const time = new Date(one.pubtime ?? "");
    return {
      name: one.name,
      version: one.vers,
      checksum: one.cksum,
      isYanked: one.yanked === true,
      publishedAt: Number.isFinite(time.getTime()) ? time.toISOString() : null,
      dependencies: one.deps.map(dependencyOf),
      features: new Map([...(one.features ?? []), ...(one.features2 ?? [])]),
    };
  });
}

function dependencyOf(one: v.InferOutput<typeof Dependency>): CrateDependency {
  return {
    name: one.name,
    crate: one.package ?? one.name,
    versions: one.req,
    kind: one.kind === "dev" || one.kind === "build" ? one.kind : "normal",
    target: one.target ?? null,
    isOptional: one.optional === true,
    features: one.features ?? [],
    usesDefault: one.default_features !== false,
  };
}

function jsonOf(line: string): unknown {
  try {
    return parseJson(line);
  } catch {
    return null;
  }
}

/** The directories of a crate's index file: `1`, `2`, `3/a`, `ab/cd`. */
export function prefixOf(name: string): string {
  if (name.length < 3) return String(name.length);
  return name.length === 3 ? `3/${name.slice(0, 1)}` : `${name.slice(0, 2)}/${name.slice(2, 4)}`;
}

function damaged(why: string): AegisError {
  return new AegisError(
    "evidence_mismatch",
    `the registry's index can't be used: ${why}`,
    "Tell the registry's administrator.",
  );
}
