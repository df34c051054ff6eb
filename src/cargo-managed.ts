import { posix } from "node:path";
import * as v from "valibot";
import { anyKeys, parseJson } from "./canonical.ts";
import { type ClosedCrate, indexFiles } from "./cargo-closed-index.ts";
import { inspectCrate } from "./cargo-evidence.ts";
import type { Difference } from "./doc-result.ts";
import type { ManagedTool, Route, SignedFile, Tree } from "./eco-managed.ts";
import { readFileLimited } from "./sys-files.ts";
import { parseToml } from "./sys-toml.ts";

/*
 * cargo with a managed root: `cargo install` from a sparse registry that holds the signed crates, and what it must leave: commands, and
 * its own two records of them. https://doc.rust-lang.org/cargo/commands/cargo-install.html
 */

const MAX_CRATE = 512 * 1024 * 1024;
const MAX_RECORD = 16 * 1024 * 1024;
const RECORDS = [".crates.toml", ".crates2.json"] as const;

/** `name version (source)` → names of its commands. */
const Crates = v.looseObject({ v1: v.optional(anyKeys(v.array(v.string())), {}) });
const Crates2 = v.looseObject({
  installs: v.optional(anyKeys(v.looseObject({ bins: v.array(v.string()) })), {}),
});

type Read = (path: string, limit: number) => Uint8Array;

export const cargoManaged: ManagedTool = {
  tool: "cargo",
  root: "cargo",
  recordsRequestedOnly: { listsParts: true },

  routes(files, registry) {
    const crates = cratesOf(files);
    const routes = new Map<string, Route>();
    const dl = `${registry}/crates/{crate}/{version}`;
    routes.set("/index/config.json", { body: JSON.stringify({ dl }), type: "application/json" });
    for (const [path, body] of indexFiles(crates)) routes.set(`/index/${path}`, { body, type: "text/plain" });
    for (const { name, version, path } of files)
      routes.set(`/crates/${name}/${version}`, { file: path, type: "application/gzip" });
    return Promise.resolve(routes);
  },

  settings: ({ registry, home, scratch }) => ({
    variables: {
      CARGO_HOME: posix.join(home, ".cargo"),
      CARGO_TARGET_DIR: posix.join(scratch, "target"),
      CARGO_NET_RETRY: "0",
      CARGO_TERM_COLOR: "never",
    },
    files: {
      ".cargo/config.toml": `[source.crates-io]\nreplace-with = "signed"\n\n[source.signed]\nregistry = "sparse+${registry}/index/"\n`,
    },
  }),

  check({ plan, files, before, stage, read, readBefore }) {
    const [target = ""] = plan.exact_targets;
    const [name = "", version = ""] = target.split("@");
    const crate = cratesOf(files.filter((one) => one.name === name && one.version === version))[0];
    const allowed = new Set(crate?.facts.manifest.commands.map((one) => one.name));
    const [old, now] = [recordsOf(before, readBefore), recordsOf(stage, read)];
    const isOurs = (key: string) => key.split(" ")[0] === name;
    const commands = [...now].flatMap(([key, bins]) => (isOurs(key) ? bins : []));
    const gone = [...old].flatMap(([key, bins]) => (isOurs(key) ? bins : []));
    return Promise.resolve([
      ...recordsDiffering(old, now, `${name} ${version}`, isOurs),
      ...recordsAgree(stage, read),
      ...commands
        .filter((one) => !allowed.has(one))
        .map((one) => difference(one, null, "a command that the crate doesn't have")),
      ...commands
        .filter((one) => !isProgram(stage, one))
        .map((one) => difference(`bin/${one}`, "a program", null)),
      ...changedElsewhere(
        before,
        stage,
        new Set([...commands, ...gone.filter((one) => !stage.has(`bin/${one}`))]),
      ),
    ]);
  },

  inventory: (tree, read) =>
    Object.fromEntries(
      [...recordsOf(tree, read).keys()].map((key) => {
        const [name = "", version = ""] = key.split(" ");
        return [name, version];
      }),
    ),

  executables: (tree, read) =>
    Object.fromEntries(
      [...recordsOf(tree, read).values()]
        .flat()
        .filter((name) => isProgram(tree, name))
        .map((name) => [name, `bin/${name}`]),
    ),
};

function cratesOf(files: readonly SignedFile[]): ClosedCrate[] {
  return files
    .filter(({ isSupport }) => !isSupport)
    .map(({ name, version, sha256, path }) => ({
      ...{ name, version, checksum: sha256 },
      facts: inspectCrate(name, version, readFileLimited(path, MAX_CRATE)),
    }));
}

/** cargo's record of a root: `name version (source)` → commands. */
function recordsOf(tree: Tree, read: Read): Map<string, string[]> {
  if (tree.get(RECORDS[0])?.kind !== "file") return new Map();
  const { tree: parsed } = parseToml(new TextDecoder().decode(read(RECORDS[0], MAX_RECORD)));
  return new Map(Object.entries(v.parse(Crates, parsed).v1));
}

/** Every other crate stands there as before, and the planned one once. */
function recordsDiffering(
  old: ReadonlyMap<string, string[]>,
  now: ReadonlyMap<string, string[]>,
  planned: string,
  isOurs: (key: string) => boolean,
): Difference[] {
  const others = [...new Set([...old.keys(), ...now.keys()])].filter((key) => !isOurs(key));
  const ours = [...now.keys()].filter(isOurs);
  const found = ours.map((key) => key.split(" ").slice(0, 2).join(" ")).join(", ");
  return [
    ...others
      .filter((key) => JSON.stringify(old.get(key)) !== JSON.stringify(now.get(key)))
      .map((key) => difference(key, old.get(key)?.join(" ") ?? null, now.get(key)?.join(" ") ?? null)),
    ...(found === planned ? [] : [difference(planned, planned, found === "" ? null : found)]),
  ];
}

/** The two records say the same. */
function recordsAgree(stage: Tree, read: Read): Difference[] {
  const [first, second] = RECORDS;
  const one = Object.fromEntries(recordsOf(stage, read));
  const bytes = stage.get(second)?.kind === "file" ? read(second, MAX_RECORD) : Buffer.from("{}");
  const { installs } = v.parse(Crates2, parseJson(new TextDecoder().decode(bytes)));
  const other = Object.fromEntries(Object.entries(installs).map(([key, { bins }]) => [key, bins]));
  const text = (record: Record<string, string[]>) => JSON.stringify(Object.entries(record).sort());
  return text(one) === text(other) ? [] : [difference(second, `what ${first} says`, "something else")];
}

function changedElsewhere(before: Tree, stage: Tree, commands: ReadonlySet<string>): Difference[] {
  const isPlanned = (path: string) =>
    RECORDS.some((record) => record === path) || (path.startsWith("bin/") && commands.has(path.slice(4)));
  return [...new Set([...before.keys(), ...stage.keys()])].flatMap((path) => {
    const [old, now] = [before.get(path), stage.get(path)];
    if (isPlanned(path) || path === "bin" || JSON.stringify(old) === JSON.stringify(now)) return [];
    return [difference(path, old === undefined ? null : "as before", now === undefined ? null : now.kind)];
  });
}

function isProgram(tree: Tree, command: string): boolean {
  const entry = tree.get(`bin/${command}`);
  return entry?.kind === "file" && entry.executable;
}

function difference(what: string, expected: string | null, found: string | null): Difference {
  return { package: what, architecture: "all", expected, found };
}
