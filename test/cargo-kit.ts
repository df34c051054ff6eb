import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { Planning } from "../src/eco-planning.ts";
import { tar, tarEntry } from "./archive-kit.ts";
import { HOST } from "./policy-plans.ts";
import { fakeRegistry, type RegistryAnswer } from "./registry-kit.ts";

/*
 * A sparse registry of our own: crates from their manifests, the index made from the same words.
 */

export const INDEX = "https://index.example";
export const FILES = "https://files.example";
export const CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index";

export interface FakeDependency {
  name: string;
  /** Its version in the lock file; none for one that the lock file doesn't know. */
  version?: string;
  req?: string;
  package?: string;
  kind?: "normal" | "build" | "dev";
  target?: string;
  optional?: boolean;
  features?: string[];
  default_features?: boolean;
}

export interface FakeCrate {
  name: string;
  version: string;
  dependencies?: FakeDependency[];
  features?: Record<string, string[]>;
  /** Files besides Cargo.toml and Cargo.lock, by path below the crate. */
  files?: Record<string, string>;
  /** More lines of `[package]`. */
  stated?: string;
  /** More of the manifest. */
  more?: string;
  /** Fields of its line in the index that differ. */
  entry?: Record<string, unknown>;
  /** Entries of its archive in place of the proper ones. */
  archive?: Buffer[];
}

export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

const TABLES = { normal: "dependencies", build: "build-dependencies", dev: "dev-dependencies" } as const;

export function manifestOf({
  name,
  version,
  dependencies = [],
  features = {},
  stated = "",
  more = "",
}: FakeCrate) {
  const tables = dependencies.map((one) => {
    const { kind = "normal", target, req = one.version ?? "1", optional = false } = one;
    const table = target === undefined ? TABLES[kind] : `target.${JSON.stringify(target)}.${TABLES[kind]}`;
    return [
      `[${table}.${one.name}]`,
      `version = ${JSON.stringify(req)}`,
      ...(one.package === undefined ? [] : [`package = ${JSON.stringify(one.package)}`]),
      `optional = ${optional}`,
      `features = ${JSON.stringify(one.features ?? [])}`,
      `default-features = ${one.default_features ?? true}`,
    ].join("\n");
  });
  const lists = Object.entries(features).map(
    ([key, value]) => `${JSON.stringify(key)} = ${JSON.stringify(value)}`,
  );
  return [
    `[package]\nname = ${JSON.stringify(name)}\nversion = ${JSON.stringify(version)}\nedition = "2021"\nlicense = "MIT"\n${stated}`,
    more,
    ...tables,
    `[features]\n${lists.join("\n")}`,
  ].join("\n");
}

/** A crate's file. `lock` is its Cargo.lock, for one that is installed. */
export function crateFile(crate: FakeCrate, lock: string | null = null): Buffer {
  const { name, version, files = {}, archive } = crate;
  const all = { "Cargo.toml": manifestOf(crate), ...(lock === null ? {} : { "Cargo.lock": lock }), ...files };
  const entries = Object.entries(all).map(([path, body]) => tarEntry(`${name}-${version}/${path}`, body));
  return gzipSync(tar(...(archive ?? entries)));
}

export function indexLine(crate: FakeCrate, checksum: string): string {
  const { name, version, dependencies = [], features = {}, entry = {} } = crate;
  const deps = dependencies.map((one) => ({
    name: one.name,
    req: one.req ?? one.version ?? "1",
    features: one.features ?? [],
    optional: one.optional ?? false,
    default_features: one.default_features ?? true,
    target: one.target ?? null,
    kind: one.kind ?? "normal",
    ...(one.package === undefined ? {} : { package: one.package }),
  }));
  return JSON.stringify({ name, vers: version, deps, cksum: checksum, features, yanked: false, ...entry });
}

const prefixOf = (name: string) =>
  name.length < 3
    ? String(name.length)
    : name.length === 3
      ? `3/${name[0]}`
      : `${name.slice(0, 2)}/${name.slice(2, 4)}`;
export const indexUrl = (name: string) => `${INDEX}/${prefixOf(name)}/${name.toLowerCase()}`;
export const fileUrl = (name: string, version: string) => `${FILES}/${name}/${version}/download`;

/** The lock file of the first crate, in format 3, with all the others. */
export function lockOf(crates: readonly FakeCrate[], sums: ReadonlyMap<string, string>): string {
  const versionsOf = (name: string) => crates.filter((one) => one.name === name).length;
  const packages = crates.map(({ name, version, dependencies = [] }, at) => {
    const lines = dependencies.flatMap((one) => {
      const crate = one.package ?? one.name;
      return one.version === undefined ? [] : [versionsOf(crate) > 1 ? `${crate} ${one.version}` : crate];
    });
    const from = `source = "${CRATES_IO}"\nchecksum = "${sums.get(`${name} ${version}`)}"\n`;
    return `[[package]]\nname = "${name}"\nversion = "${version}"\n${at === 0 ? "" : from}dependencies = ${JSON.stringify(lines)}\n`;
  });
  return `version = 3\n\n${packages.join("\n")}`;
}

/** Everything that the registry answers for these crates, by address; the first is the one to install. `lock` changes its lock file. */
export function fakeCrates(
  crates: readonly FakeCrate[],
  lock: (text: string) => string | null = (text) => text,
): Record<string, RegistryAnswer> {
  const answers: Record<string, RegistryAnswer> = { [`${INDEX}/config.json`]: JSON.stringify({ dl: FILES }) };
  const [root, ...others] = crates;
  const sums = new Map<string, string>();
  const add = (crate: FakeCrate, file: Buffer) => {
    const url = indexUrl(crate.name);
    const known = answers[url];
    sums.set(`${crate.name} ${crate.version}`, sha256(file));
    answers[url] = `${typeof known === "string" ? known : ""}${indexLine(crate, sha256(file))}\n`;
    answers[fileUrl(crate.name, crate.version)] = file;
  };
  for (const crate of others) add(crate, crateFile(crate));
  if (root !== undefined) add(root, crateFile(root, lock(lockOf(crates, sums))));
  return answers;
}

/** Planning on a host whose cargo takes its crates from this registry. */
export function cargoPlanning(
  answers: Readonly<Record<string, RegistryAnswer>>,
  { env = {}, files = {}, commands = [], hasCargo = true }: Partial<CargoHost> = {},
): Planning & { requests: { url: string; headers: Readonly<Record<string, string>> }[] } {
  const config: Record<string, string> = {
    "/home/u/.cargo/config.toml": `[source.crates-io]\nreplace-with = "ours"\n[source.ours]\nregistry = "sparse+${INDEX}/"\n`,
    ...files,
  };
  return {
    ...fakeRegistry(answers),
    now: new Date("2026-11-30T00:00:00Z"),
    env: { HOME: "/home/u", ...env },
    host: HOST,
    run(argv, { settings }) {
      settings("/home/x");
      const none = { stdout_sha256: null, stderr_sha256: null, stdout: null, stderr: null };
      const outcome = hasCargo ? ("ok" as const) : ("missing" as const);
      return Promise.resolve({
        stdout: hasCargo ? "cargo 1.95.0\n" : "",
        stderr: "",
        evidence: { argv: [...argv], status: hasCargo ? 0 : null, outcome, ...none },
      });
    },
    readText: (path) => config[path] ?? null,
    list: (path) => (path === "/usr/bin" ? commands : []),
    hasProgram: () => true,
    digestOf: () => null,
    contentOf: () => Promise.resolve(null),
    temporary: () => {
      throw new Error("cargo needs no temporary files");
    },
  };
}

interface CargoHost {
  env: Record<string, string>;
  files: Record<string, string>;
  /** Names in /usr/bin. */
  commands: string[];
  hasCargo: boolean;
}
