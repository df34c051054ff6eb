import { basename, posix } from "node:path";
import type { Difference } from "./doc-result.ts";
import { badArchive } from "./eco-archive.ts";
import type { Inventory, ManagedTool, Route, SignedFile, Tree } from "./eco-managed.ts";
import { pipConfig } from "./pip-config.ts";
import { indexRequest } from "./pip-index.ts";
import { isLauncher, pipCommands, pipLaunchers } from "./pip-launcher.ts";
import { entryPoints, isShim, layOut } from "./pip-layout.ts";
import { parseWheelName } from "./pip-tags.ts";
import { normalName } from "./pip-target.ts";
import { readCsv } from "./pip-wheel.ts";
import { readFileLimited } from "./sys-files.ts";

/*
 * pip with a managed directory: `pip install --target` from an index that holds the signed wheels, and what it must leave.
 *
 * With a directory that isn't empty `--target` replaces whole top-level entries: `bin` loses the commands of everything that was
 * installed before, and a namespace its other packages. So pip works on an empty directory, and what the root has of other packages
 * is kept beside it.
 */

const MAX_WHEEL = 512 * 1024 * 1024;
const MAX_RECORD = 64 * 1024 * 1024;
const INFO = /^[^/]+\.dist-info(?=\/)/;

type Read = (path: string, limit: number) => Uint8Array;

export const pipManaged: ManagedTool = {
  tool: "pip",
  root: "pip-packages",

  routes(files, registry) {
    const byName = Map.groupBy(files, ({ name }) => name);
    const routes = new Map<string, Route>();
    for (const [name, wheels] of byName) {
      const links = wheels.map((wheel) => {
        const filename = wheelName(wheel);
        const path = `/files/${filename}`;
        routes.set(path, { file: wheel.path, type: "application/octet-stream" });
        return `<a href="${registry}${path}#sha256=${wheel.sha256}">${filename}</a>`;
      });
      // HTML, since pip reads JSON (PEP 691) only from 22.2 on.
      routes.set(`/simple/${name}/`, { body: `<!DOCTYPE html>\n${links.join("\n")}\n`, type: "text/html" });
    }
    return Promise.resolve(routes);
  },

  settings: ({ registry }) => ({
    variables: {
      PIP_CONFIG_FILE: "/dev/null",
      PIP_INDEX_URL: `${registry}/simple/`,
      PIP_ONLY_BINARY: ":all:",
      PIP_NO_CACHE_DIR: "1",
      PIP_COMPILE: "0",
      PIP_UPGRADE: "1",
      PIP_PROGRESS_BAR: "off",
      PYTHONSAFEPATH: "1",
      PYTHONNOUSERSITE: "1",
      PYTHONDONTWRITEBYTECODE: "1",
    },
  }),

  access(readText) {
    const config = pipConfig({}, readText);
    return (url) => indexRequest(url, config);
  },

  keeps({ before, stage, readBefore }) {
    const replaced = new Set(packagesOf(stage).map(({ name }) => name));
    const gone = new Set(
      packagesOf(before)
        .filter(({ name }) => replaced.has(name))
        .flatMap(({ info }) => recorded(before, info, readBefore)),
    );
    return [...before.keys()].filter(
      (path) => !gone.has(path) && !isLauncher(path) && before.get(path)?.kind !== "directory",
    );
  },

  check({ plan, files, before, stage, read, readBefore }) {
    const targets = plan.exact_targets.map((target) => target.replace(/==.*$/, ""));
    const expected = new Map<string, string | Shim>();
    const twice: string[] = [];
    for (const signed of files) {
      const layout = layOut(readFileLimited(signed.path, MAX_WHEEL), {
        name: signed.name,
        version: signed.version,
      });
      const isAsked = targets.includes(signed.name);
      for (const [path, sha256] of [...layout.files, ...written(layout.info, isAsked)]) {
        // With the same bytes it doesn't matter whose it is: parts of one namespace bring the same `__init__.py`.
        const other = expected.get(path);
        if (other !== undefined && other !== sha256) twice.push(path);
        expected.set(path, sha256);
      }
      for (const { name, module, attribute } of entryPoints(layout.entryPoints)) {
        const path = `bin/${name}`;
        const [other, shim] = [expected.get(path), { module, attribute }];
        if (other !== undefined && JSON.stringify(other) !== JSON.stringify(shim)) twice.push(path);
        expected.set(path, shim);
      }
    }
    const kept = pipManaged.keeps?.({ before, stage, read, readBefore }) ?? [];
    return Promise.resolve([
      ...twice.map((path) => difference(path, "one file", "two packages have it")),
      ...[...expected.keys(), ...stage.keys()]
        .filter(isLauncher)
        .map((path) => difference(path, null, "a place that is kept for launchers")),
      ...missing(expected, stage),
      ...others(expected, stage, read),
      ...recordsDiffering(stage, read),
      ...kept
        .filter(
          (path) => stage.has(path) && JSON.stringify(stage.get(path)) !== JSON.stringify(before.get(path)),
        )
        .map((path) => difference(path, "as before", "another package brings it too")),
    ]);
  },

  inventory: (tree) =>
    Object.fromEntries(packagesOf(tree).map(({ name, version }) => [name, version])) satisfies Inventory,

  launchers: pipLaunchers,
  executables: pipCommands,
};

interface Shim {
  module: string;
  attribute: string;
}

/** @throws AegisError `refused` for a signed file that is no wheel of its package */
function wheelName({ name, url }: SignedFile): string {
  const filename = decodeURIComponent(basename(new URL(url).pathname));
  const parsed = parseWheelName(filename);
  if (parsed === null || normalName(parsed.name) !== name)
    throw badArchive(`${JSON.stringify(filename)} is no wheel of ${name}`);
  return filename;
}

/** Packages of a directory by their `.dist-info`. */
function packagesOf(tree: Tree): { name: string; version: string; info: string }[] {
  const infos = new Set([...tree.keys()].flatMap((path) => INFO.exec(path)?.[0] ?? []));
  return [...infos].map((info) => {
    const [name = "", version = ""] = info.slice(0, -".dist-info".length).split("-");
    return { name: normalName(name), version, info };
  });
}

/** Files that a package's RECORD names, with its own directory. pip writes commands as `../../bin/x`, seen from `lib/python`. */
function recorded(tree: Tree, info: string, read: Read): string[] {
  const own = [...tree.keys()].filter((path) => path.startsWith(`${info}/`));
  return [...own, ...rowsOf(tree, info, read).map(([path = ""]) => placeOf(path))];
}

function rowsOf(tree: Tree, info: string, read: Read): string[][] {
  if (tree.get(`${info}/RECORD`)?.kind !== "file") return [];
  return readCsv(new TextDecoder().decode(read(`${info}/RECORD`, MAX_RECORD))) ?? [];
}

function placeOf(path: string): string {
  return posix.normalize(path.replace(/^\.\.\/\.\.\//, ""));
}

/** What pip itself writes beside a wheel's files: who installed it, and whether it was asked for. */
function written(info: string, isAsked: boolean): [string, string][] {
  return [
    [`${info}/INSTALLER`, sha256Of("pip\n")],
    ...(isAsked ? ([[`${info}/REQUESTED`, sha256Of("")]] as [string, string][]) : []),
  ];
}

function sha256Of(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}

function missing(expected: ReadonlyMap<string, unknown>, stage: Tree): Difference[] {
  return [...expected.keys()]
    .filter((path) => stage.get(path)?.kind !== "file")
    .map((path) => difference(path, "the signed file", null));
}

/** Everything in the stage must be a signed file, a command of a signed entry point, or a RECORD. */
function others(expected: ReadonlyMap<string, string | Shim>, stage: Tree, read: Read): Difference[] {
  return [...stage].flatMap(([path, entry]) => {
    const signed = expected.get(path);
    if (entry.kind === "directory") return [];
    if (entry.kind === "link") return [difference(path, null, `a link to ${entry.target}`)];
    if (signed === undefined)
      return /^[^/]+\.dist-info\/RECORD$/.test(path) ? [] : [difference(path, null, "another file")];
    const fits =
      typeof signed === "string"
        ? entry.sha256 === signed
        : entry.size < 4096 &&
          isShim(new TextDecoder().decode(read(path, 4096)), signed.module, signed.attribute);
    return fits ? [] : [difference(path, "the signed file", "another file")];
  });
}

/** A RECORD, which pip writes anew, names files of the stage with their hashes. */
function recordsDiffering(stage: Tree, read: Read): Difference[] {
  return packagesOf(stage).flatMap(({ info }) =>
    rowsOf(stage, info, read).flatMap(([path = "", hash = ""]) => {
      const entry = stage.get(placeOf(path));
      const own =
        entry?.kind === "file" ? `sha256=${Buffer.from(entry.sha256, "hex").toString("base64url")}` : null;
      return own === null || (hash !== "" && hash !== own)
        ? [difference(`${info}/RECORD`, path, "something else")]
        : [];
    }),
  );
}

function difference(what: string, expected: string | null, found: string | null): Difference {
  return { package: what, architecture: "all", expected, found };
}
