import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { CargoConfig } from "./cargo-config.ts";
import { isCrateVersion } from "./cargo-target.ts";
import type { Planning } from "./eco-planning.ts";
import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";

/*
 * A sparse registry: what versions a crate has, what they need, and where their files are.
 * https://doc.rust-lang.org/cargo/reference/registry-index.html
 */

const Dependency = v.looseObject({
  name: v.string(),
  target: v.optional(v.nullable(v.string())),
  kind: v.optional(v.nullable(v.string())),
  /** The crate's own name where `name` renames it. */
  package: v.optional(v.nullable(v.string())),
});

const Entry = v.looseObject({
  name: v.string(),
  vers: v.string(),
  cksum: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  deps: v.array(Dependency),
  yanked: v.boolean(),
  pubtime: v.optional(v.nullable(v.string())),
});
export type CrateEntry = v.InferOutput<typeof Entry>;

/** The registry of a configuration; each crate's index file is read once. */
export class CargoIndex {
  readonly #config: CargoConfig;
  readonly #planning: Planning;
  readonly #crates = new Map<string, Promise<CrateEntry[]>>();
  #download: Promise<string> | null = null;

  constructor(config: CargoConfig, planning: Planning) {
    this.#config = config;
    this.#planning = planning;
  }

  /**
   * The versions of a crate.
   * @throws AegisError `not_found`, `unavailable`, `evidence_mismatch` for an index that can't be read
   */
  crate(name: string): Promise<CrateEntry[]> {
    const known = this.#crates.get(name) ?? this.#read(name);
    this.#crates.set(name, known);
    return known;
  }

  /** @throws AegisError `not_found` as {@link crate}, and where the crate has no such version */
  async version(name: string, version: string): Promise<CrateEntry> {
    // Build metadata doesn't tell versions apart in a registry.
    const entry = (await this.crate(name)).find(({ vers }) => vers === version);
    if (entry !== undefined) return entry;
    throw new AegisError(
      "not_found",
      `the registry has no ${name} ${version}`,
      "aegis plan cargo install <crate> names the newest.",
    );
  }

  /**
   * The newest version that `cargo install` would take: no pre-release, nothing yanked.
   * @throws AegisError `not_found`
   */
  async newest(name: string): Promise<CrateEntry> {
    const offered = (await this.crate(name)).filter(
      ({ vers, yanked }) => !yanked && isCrateVersion(vers) && !vers.includes("-"),
    );
    const [newest] = offered.toSorted((a, b) => SEMVER.compare(b.vers, a.vers));
    if (newest !== undefined) return newest;
    throw new AegisError(
      "not_found",
      `the registry has no release of ${name} that isn't yanked`,
      "Name an exact version.",
    );
  }

  /** The address of a crate's file, by the registry's own template. */
  async fileUrl({ name, vers, cksum }: CrateEntry): Promise<URL> {
    this.#download ??= this.#readDownload();
    const template = await this.#download;
    const values: Record<string, string> = {
      "{crate}": name,
      "{version}": vers,
      "{prefix}": prefixOf(name),
      "{lowerprefix}": prefixOf(name.toLowerCase()),
      "{sha256-checksum}": cksum,
    };
    const filled = template.replace(/\{[a-z0-9-]+\}/g, (marker) => values[marker] ?? marker);
    const url = filled === template ? `${template.replace(/\/$/, "")}/${name}/${vers}/download` : filled;
    if (!/^https?:/.test(url) || !URL.canParse(url)) throw damaged("its download address is none");
    return new URL(url);
  }

  async #readDownload(): Promise<string> {
    const bytes = await this.#get("config.json");
    const parsed = v.safeParse(v.looseObject({ dl: v.string() }), jsonOf(bytes ?? new Uint8Array()));
    if (!parsed.success) throw damaged("its config.json names no download address");
    return parsed.output.dl;
  }

  async #read(name: string): Promise<CrateEntry[]> {
    const bytes = await this.#get(`${prefixOf(name.toLowerCase())}/${name.toLowerCase()}`);
    if (bytes === null)
      throw new AegisError(
        "not_found",
        `the registry has no crate ${name}`,
        "Check the name at the registry.",
      );
    const lines = Buffer.from(bytes)
      .toString("utf8")
      .split("\n")
      .filter((line) => line.trim() !== "");
    const entries = lines.flatMap((line) => {
      const parsed = v.safeParse(Entry, jsonOf(Buffer.from(line)));
      return parsed.success ? parsed.output : [];
    });
    if (entries.some((entry) => entry.name.toLowerCase() !== name.toLowerCase()))
      throw damaged(`its entry of ${name} is of another crate`);
    return entries;
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

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return parseJson(Buffer.from(bytes).toString("utf8"));
  } catch {
    return null;
  }
}

/** The directories of a crate's index file: `1`, `2`, `3/a`, `ab/cd`. */
function prefixOf(name: string): string {
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

/** What rustc says of the targets that a host builds for, by dpkg architecture: triple and `target_arch`, `target_pointer_width`. */
const RUST_TARGETS: Readonly<Record<string, readonly [triple: string, arch: string, width: string]>> = {
  amd64: ["x86_64-unknown-linux-gnu", "x86_64", "64"],
  arm64: ["aarch64-unknown-linux-gnu", "aarch64", "64"],
  i386: ["i686-unknown-linux-gnu", "x86", "32"],
  armhf: ["armv7-unknown-linux-gnueabihf", "arm", "32"],
  ppc64el: ["powerpc64le-unknown-linux-gnu", "powerpc64", "64"],
  s390x: ["s390x-unknown-linux-gnu", "s390x", "64"],
  riscv64: ["riscv64gc-unknown-linux-gnu", "riscv64", "64"],
};

/**
 * Whether a dependency's `target`, a triple or a `cfg(…)`, is for a host of this dpkg architecture. What isn't known counts as
 * holding: a file too many is fetched then, and none too few.
 * https://doc.rust-lang.org/reference/conditional-compilation.html
 */
export function isForTarget(target: string | null | undefined, architecture: string): boolean {
  const host = RUST_TARGETS[architecture];
  if (target === null || target === undefined || host === undefined) return true;
  const [triple, arch, width] = host;
  if (!target.startsWith("cfg(")) return target === triple;
  const known: Readonly<Record<string, string>> = {
    target_os: "linux",
    target_family: "unix",
    target_env: "gnu",
    target_vendor: "unknown",
    target_endian: architecture === "s390x" ? "big" : "little",
    target_arch: arch,
    target_pointer_width: width,
  };
  const tokens = target.match(/[A-Za-z_][A-Za-z0-9_]*|"[^"]*"|[=(),]/g) ?? [];
  let at = 0;
  /** True, false, or null for what isn't known. */
  const expression = (): boolean | null => {
    const word = tokens[at++] ?? "";
    if (tokens[at] === "(") return group(word);
    if (tokens[at] !== "=") return word === "unix" ? true : word === "windows" ? false : null;
    const value = tokens[at + 1] ?? "";
    at += 2;
    return word in known ? `"${known[word]}"` === value : null;
  };
  const group = (word: string): boolean | null => {
    at++;
    const values: (boolean | null)[] = [];
    while (at < tokens.length && tokens[at] !== ")") {
      values.push(expression());
      if (tokens[at] === ",") at++;
    }
    at++;
    if (word === "not") return values[0] === null || values[0] === undefined ? null : !values[0];
    if (word === "any") return values.includes(true) ? true : values.includes(null) ? null : false;
    return values.includes(false) ? false : values.includes(null) ? null : true;
  };
  return expression() !== false;
}
