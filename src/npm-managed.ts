import { posix } from "node:path";
import * as v from "valibot";
import { anyKeys, parseJson, sha256Hex } from "./canonical.ts";
import type { Difference } from "./doc-result.ts";
import type { ArchiveFile } from "./eco-archive.ts";
import type { Inventory, ManagedTool, Route, SignedFile, Tree, TreeEntry } from "./eco-managed.ts";
import { readTarGz } from "./eco-tar.ts";
import { mendedCommand, packageCommands } from "./npm-commands.ts";
import { npmConfig, npmRequests } from "./npm-config.ts";
import { readFileLimited } from "./sys-files.ts";

/*
 * npm with a managed prefix: `npm install --global` from a registry that holds the signed tarballs, and what it must leave.
 * https://docs.npmjs.com/cli/configuring-npm/folders
 */

const MODULES = "lib/node_modules";
const MAX_TARBALL = 512 * 1024 * 1024;
const MAX_MANIFEST = 4 * 1024 * 1024;

const text = v.fallback(v.string(), "");
/** What is needed of a package.json; npm takes the rest from the packument as it stands there. */
const Manifest = v.looseObject({ name: text, version: text });

/** A signed tarball, unpacked. */
interface Package {
  signed: SignedFile;
  /** Path below the package's directory → SHA-256 of the file, as npm lays it out. */
  files: ReadonlyMap<string, string>;
  /** Command → its file, as npm links it. */
  commands: ReadonlyMap<string, string>;
  /** Those files, which npm may have mended a line end of → their SHA-256 then. */
  mended: ReadonlyMap<string, string>;
  manifest: Record<string, unknown>;
  hasShrinkwrap: boolean;
}

export const npmManaged: ManagedTool = {
  tool: "npm",
  root: "npm-global",

  routes(files, registry) {
    const byName = Map.groupBy(packagesOf(files), ({ signed }) => signed.name);
    const routes = new Map<string, Route>();
    for (const [name, packages] of byName) {
      const versions: Record<string, unknown> = {};
      for (const { signed, manifest, hasShrinkwrap } of packages) {
        const path = `/${name}/-/${posix.basename(name)}-${signed.version}.tgz`;
        routes.set(path, { file: signed.path, type: "application/octet-stream" });
        const { version, integrity } = signed;
        const dist = { tarball: `${registry}${path}`, ...(integrity === "" ? {} : { integrity }) };
        // Without the mark npm ignores a shrinkwrap, and installs other versions than it was planned with.
        versions[version] = {
          ...manifest,
          name,
          version,
          dist,
          ...(hasShrinkwrap ? { _hasShrinkwrap: true } : {}),
        };
      }
      const newest = packages
        .map(({ signed }) => signed.version)
        .sort(Bun.semver.order)
        .at(-1);
      const body = JSON.stringify({ name, "dist-tags": { latest: newest }, versions });
      routes.set(`/${name}`, { body, type: "application/json" });
    }
    return Promise.resolve(routes);
  },

  settings: ({ registry, home, scratch }) => ({
    variables: {
      npm_config_registry: registry,
      npm_config_cache: posix.join(scratch, "npm-cache"),
      // Two paths where nothing is: npm refuses one file for both.
      npm_config_userconfig: posix.join(home, "no-user-npmrc"),
      npm_config_globalconfig: posix.join(home, "no-global-npmrc"),
      npm_config_update_notifier: "false",
      npm_config_logs_max: "0",
      // The registry answers at once and always the same; npm would wait for minutes, and ask again for a file that has changed.
      npm_config_fetch_retries: "0",
    },
  }),

  access: (readText) => npmRequests({}, readText, npmConfig({}, readText)),

  check({ plan, files, before, stage, read }) {
    const packages = packagesOf(files);
    const targets = plan.exact_targets.map((target) => target.slice(0, target.lastIndexOf("@")));
    const isOurs = (path: string) => targets.some((name) => path.startsWith(`${MODULES}/${name}/`));
    const places = placesOf(stage, packages);
    return Promise.resolve([
      ...notInstalled(packages, places),
      ...filesDiffering(stage, places, isOurs, read),
      ...linksDiffering(stage, places, targets, before),
      ...changedElsewhere(before, stage, isOurs, targets),
    ]);
  },

  inventory(tree, read) {
    const found = new Map<string, Set<string>>();
    for (const [path, entry] of tree) {
      if (entry.kind !== "file" || !path.endsWith("/package.json")) continue;
      const directory = path.slice(0, -"/package.json".length);
      const place = directory.startsWith(`${MODULES}/`) ? directory.slice(MODULES.length + 1) : "";
      // Only where npm puts packages: a package may have other files of that name.
      if (!/^(?:@[^/]+\/)?[^/@]+(?:\/node_modules\/(?:@[^/]+\/)?[^/@]+)*$/.test(place)) continue;
      const { name, version } = v.parse(Manifest, parseJson(textOf(read(path, MAX_MANIFEST))));
      const [top = ""] = place.split("/node_modules/");
      const key = place === top ? name : `${name} ${top}`;
      if (name !== "" && version !== "") found.set(key, (found.get(key) ?? new Set()).add(version));
    }
    return Object.fromEntries(
      [...found].map(([key, versions]) => [key, [...versions].sort().join(" ")]),
    ) satisfies Inventory;
  },

  executables: (tree) =>
    Object.fromEntries(
      [...tree].flatMap(([path, entry]) =>
        entry.kind === "link" && /^bin\/[^/]+$/.test(path) ? [[path.slice(4), path]] : [],
      ),
    ),
};

function packagesOf(files: readonly SignedFile[]): Package[] {
  return files.filter(({ isSupport }) => !isSupport).map(unpack);
}

/** @throws AegisError `refused` for a tarball that can't be used */
function unpack(signed: SignedFile): Package {
  const archive = readTarGz(readFileLimited(signed.path, MAX_TARBALL));
  const contents = new Map(archive.map((file) => [withoutTop(file), file]));
  const manifest = v.parse(
    anyKeys(v.unknown()),
    parseJson(textOf(contents.get("package.json")?.data ?? Buffer.from("{}"))),
  );
  const files = new Map<string, string>();
  for (const [path, { data }] of contents) {
    // npm renames it where there is no .npmignore beside it, and else leaves it out (pacote, lib/fetcher.js).
    const ignored = path.replace(/(^|\/)\.gitignore$/, "$1.npmignore");
    if (ignored === path || !contents.has(ignored)) files.set(ignored, sha256Hex(data));
  }
  const commands = packageCommands(manifest, contents);
  const mended = [...new Set(commands.values())].map((path): [string, string] => {
    const data = contents.get(path)?.data ?? new Uint8Array();
    return [path, sha256Hex(mendedCommand(data))];
  });
  return {
    ...{ signed, files, manifest, commands },
    mended: new Map(mended),
    hasShrinkwrap: contents.has("npm-shrinkwrap.json"),
  };
}

/** A tarball has one directory at the top, whatever it is called. */
function withoutTop({ path }: ArchiveFile): string {
  return path.slice(path.indexOf("/") + 1);
}

/** Directories of the stage by the package that they hold, which its package.json shows. */
function placesOf(stage: Tree, packages: readonly Package[]): Map<string, Package> {
  const byManifest = new Map(packages.map((one) => [one.files.get("package.json"), one]));
  const places = new Map<string, Package>();
  for (const [path, entry] of stage) {
    const found =
      entry.kind === "file" && path.endsWith("/package.json") ? byManifest.get(entry.sha256) : undefined;
    const directory = posix.dirname(path);
    if (found !== undefined && /(?:^|\/)node_modules\/(?:@[^/]+\/)?[^/@]+$/.test(directory))
      places.set(directory, found);
  }
  return places;
}

function notInstalled(packages: readonly Package[], places: ReadonlyMap<string, Package>): Difference[] {
  const installed = new Set([...places.values()]);
  return packages
    .filter((one) => !installed.has(one))
    .map(({ signed }) => difference(signed.name, signed.version, null));
}

/** Every file of what was asked for, against the tarballs; every file of the tarballs, against the stage. */
function filesDiffering(
  stage: Tree,
  places: ReadonlyMap<string, Package>,
  isOurs: (path: string) => boolean,
  read: (path: string, limit: number) => Uint8Array,
): Difference[] {
  const signed = new Map<string, Set<string>>();
  for (const [directory, { files, mended }] of places) {
    if (!isOurs(`${directory}/`)) continue;
    for (const [path, sha256] of files) {
      const allowed = signed.get(`${directory}/${path}`) ?? new Set();
      signed.set(`${directory}/${path}`, allowed.add(sha256).add(mended.get(path) ?? sha256));
    }
  }
  const missing = [...signed.keys()].filter((path) => stage.get(path)?.kind !== "file");
  const other = [...stage].flatMap(([path, entry]) => {
    if (entry.kind !== "file" || !isOurs(path)) return [];
    const allowed = signed.get(path);
    if (allowed?.has(entry.sha256) === true) return [];
    if (allowed === undefined && isHiddenLock(path) && isLock(read(path, MAX_MANIFEST))) return [];
    return [difference(path, allowed === undefined ? null : "the signed file", "another file")];
  });
  return [...missing.map((path) => difference(path, "the signed file", null)), ...other];
}

/** What npm writes down of a tree for itself. It is data, and npm reads the packages where it is older than they are. */
function isHiddenLock(path: string): boolean {
  return path.endsWith("/node_modules/.package-lock.json");
}

function isLock(bytes: Uint8Array): boolean {
  try {
    return v.is(
      v.looseObject({ lockfileVersion: v.number(), packages: anyKeys(v.unknown()) }),
      parseJson(textOf(bytes)),
    );
  } catch {
    return false;
  }
}

/** Links may be commands, with the names and files that their packages state, and manual pages; at the top, of what was asked for. */
function linksDiffering(
  stage: Tree,
  places: ReadonlyMap<string, Package>,
  targets: readonly string[],
  before: Tree,
): Difference[] {
  const owner = (file: string) =>
    [...places]
      .filter(([directory]) => file.startsWith(`${directory}/`))
      .sort(([a], [b]) => b.length - a.length)[0];
  return [...stage].flatMap(([path, entry]) => {
    if (entry.kind !== "link") return [];
    const known = before.get(path);
    if (known?.kind === "link" && known.target === entry.target) return [];
    const linked = posix.normalize(posix.join(posix.dirname(path), entry.target));
    const [directory = "", found] = owner(linked) ?? [];
    const file = linked.slice(directory.length + 1);
    const isCommand = found?.commands.get(posix.basename(path)) === file;
    const isTarget = targets.some((name) => directory === `${MODULES}/${name}`);
    const fits =
      (isTarget && /^bin\/[^/]+$/.test(path) && isCommand) ||
      (isTarget && /^share\/man\/man[^/]+\/[^/]+$/.test(path) && found?.files.has(file) === true) ||
      (/\/node_modules\/\.bin\/[^/]+$/.test(path) && isCommand);
    return fits ? [] : [difference(path, null, `a link to ${entry.target}`)];
  });
}

/** Outside of what was asked for everything stays, but for links to it, which take no other's place. */
function changedElsewhere(
  before: Tree,
  stage: Tree,
  isOurs: (path: string) => boolean,
  targets: readonly string[],
): Difference[] {
  const leadsToOurs = (path: string, entry: TreeEntry | undefined) => {
    if (entry?.kind !== "link") return entry === undefined;
    const target = posix.normalize(posix.join(posix.dirname(path), entry.target));
    return targets.some((name) => target.startsWith(`${MODULES}/${name}/`));
  };
  const paths = new Set([...before.keys(), ...stage.keys()]);
  return [...paths].flatMap((path) => {
    const [old, now] = [before.get(path), stage.get(path)];
    if (isOurs(path) || [old?.kind, now?.kind].includes("directory")) return [];
    if (leadsToOurs(path, old) && leadsToOurs(path, now)) return [];
    if (JSON.stringify(old) === JSON.stringify(now)) return [];
    return [
      difference(path, old === undefined ? null : "as before", now === undefined ? null : "another file"),
    ];
  });
}

function difference(what: string, expected: string | null, found: string | null): Difference {
  return { package: what, architecture: "all", expected, found };
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
