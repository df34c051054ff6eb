import { posix } from "node:path";
import * as v from "valibot";
import { anyKeys } from "./canonical.ts";
import { type ArchiveFile, badArchive } from "./eco-archive.ts";
import { parseToml } from "./sys-toml.ts";

/*
 * A crate's Cargo.toml, as cargo itself writes it into the crate's file.
 * https://doc.rust-lang.org/cargo/reference/manifest.html
 */

/** One dependency, by its manifest or by the registry's index. */
export interface CrateDependency {
  /** What the manifest calls it, and its features go by. */
  name: string;
  /** The crate's own name. */
  crate: string;
  /** The versions that fit: https://doc.rust-lang.org/cargo/reference/specifying-dependencies.html */
  versions: string;
  kind: "normal" | "build" | "dev";
  /** A triple or `cfg(…)`; null for every host. */
  target: string | null;
  isOptional: boolean;
  features: readonly string[];
  usesDefault: boolean;
}

/** What a version of a crate needs, and what its features add to that. */
export interface CrateNeeds {
  dependencies: readonly CrateDependency[];
  features: ReadonlyMap<string, readonly string[]>;
}

export interface CrateManifest extends CrateNeeds {
  name: string;
  version: string;
  license: string | null;
  /** The oldest Rust that it can be built with, as it states it. */
  oldestRust: string | null;
  /** The library that it links with. */
  links: string | null;
  isMacro: boolean;
  /** Paths of its build scripts, below the crate. */
  buildScripts: readonly string[];
  /** Commands that it has, with the features that each needs. */
  commands: readonly { name: string; features: readonly string[] }[];
}

/** A table by its names, as a map: `constructor` is a feature of some crates. */
export const named = <S extends v.GenericSchema>(schema: S) =>
  v.pipe(
    anyKeys(schema),
    v.transform((table) => new Map(Object.entries(table))),
  );

const optional = <S extends v.GenericSchema>(schema: S) => v.optional(schema);
const strings = v.array(v.string());
const flag = optional(v.boolean());
const Dependency = v.union([
  v.string(),
  v.looseObject({
    version: optional(v.string()),
    package: optional(v.string()),
    optional: flag,
    features: v.optional(strings, []),
    "default-features": flag,
    default_features: flag,
  }),
]);
const dependencies = v.optional(named(Dependency), {});
const DEPENDENCIES = {
  dependencies,
  "build-dependencies": dependencies,
  build_dependencies: dependencies,
  "dev-dependencies": dependencies,
  dev_dependencies: dependencies,
};
const Manifest = v.looseObject({
  package: v.looseObject({
    name: v.string(),
    version: v.string(),
    build: optional(v.union([v.string(), v.boolean(), strings])),
    links: optional(v.string()),
    license: optional(v.string()),
    "rust-version": optional(v.string()),
    edition: optional(v.string()),
    autobins: flag,
  }),
  lib: optional(v.looseObject({ "proc-macro": flag, proc_macro: flag })),
  bin: optional(
    v.array(
      v.looseObject({
        name: v.string(),
        path: optional(v.string()),
        "required-features": v.optional(strings, []),
      }),
    ),
  ),
  features: v.optional(named(strings), {}),
  target: v.optional(named(v.looseObject(DEPENDENCIES)), {}),
  ...DEPENDENCIES,
});
type Manifest = v.InferOutput<typeof Manifest>;

/**
 * The manifest of a crate. `files` are the crate's own, by paths below it.
 * @throws AegisError `refused`
 */
export function readManifest(files: readonly ArchiveFile[]): CrateManifest {
  const text = textOf(files, "Cargo.toml");
  if (text === null) throw badArchive("it has no Cargo.toml");
  const { tree, problem } = parseToml(text);
  const parsed = v.safeParse(Manifest, tree);
  if (!parsed.success)
    throw badArchive(`its Cargo.toml can't be read${problem === null ? "" : `: ${problem}`}`);
  const { package: stated, lib, features, target } = parsed.output;
  return {
    name: stated.name,
    version: stated.version,
    license: stated.license ?? null,
    oldestRust: stated["rust-version"] ?? null,
    links: stated.links ?? null,
    isMacro: lib?.["proc-macro"] === true || lib?.proc_macro === true,
    buildScripts: buildScriptsOf(stated.build, files),
    commands: commandsOf(parsed.output, files),
    features,
    dependencies: [
      ...tableOf(parsed.output, null),
      ...[...target].flatMap(([condition, tables]) => tableOf(tables, condition)),
    ],
  };
}

/** The text of a file of a crate; null where it isn't there. */
export function textOf(files: readonly ArchiveFile[], path: string): string | null {
  const found = files.find((one) => one.path === path);
  return found === undefined ? null : Buffer.from(found.data).toString("utf8");
}

function tableOf(
  tables: v.InferOutput<v.LooseObjectSchema<typeof DEPENDENCIES, undefined>>,
  target: string | null,
): CrateDependency[] {
  const kinds = [
    ["normal", tables.dependencies],
    ["build", new Map([...tables["build-dependencies"], ...tables.build_dependencies])],
    ["dev", new Map([...tables["dev-dependencies"], ...tables.dev_dependencies])],
  ] as const;
  return kinds.flatMap(([kind, table]) =>
    [...table].map(([name, given]) => {
      const one = typeof given === "string" ? { version: given, features: [] } : given;
      return {
        name,
        crate: one.package ?? name,
        versions: one.version ?? "*",
        kind,
        target,
        isOptional: one.optional === true,
        features: one.features,
        usesDefault: (one["default-features"] ?? one.default_features) !== false,
      };
    }),
  );
}

/** Without a word of the manifest, a file called build.rs is one. */
function buildScriptsOf(build: Manifest["package"]["build"], files: readonly ArchiveFile[]): string[] {
  if (build === false) return [];
  if (typeof build === "string" || Array.isArray(build))
    return [build].flat().map((path) => posix.normalize(path));
  return files.some(({ path }) => path === "build.rs") ? ["build.rs"] : [];
}

/**
 * The commands that the manifest names, and those that cargo finds by their place: the latter only where no entry of the manifest
 * has taken their name or their file. https://doc.rust-lang.org/cargo/reference/cargo-targets.html#target-auto-discovery
 */
function commandsOf(
  { package: stated, bin }: Manifest,
  files: readonly ArchiveFile[],
): CrateManifest["commands"] {
  const named = (bin ?? []).map((one) => ({ name: one.name, features: one["required-features"] }));
  const isDiscovered = stated.autobins ?? (bin === undefined || (stated.edition ?? "2015") !== "2015");
  if (!isDiscovered) return named;
  const names = new Set(named.map(({ name }) => name));
  const paths = new Set((bin ?? []).flatMap(({ path }) => (path === undefined ? [] : posix.normalize(path))));
  const found = files.flatMap(({ path }) => {
    const name =
      path === "src/main.rs" ? stated.name : /^src\/bin\/([^/]+?)(?:\.rs|\/main\.rs)$/.exec(path)?.[1];
    return name === undefined || names.has(name) || paths.has(path) ? [] : [{ name, features: [] }];
  });
  return [...named, ...found];
}
