import * as v from "valibot";
import { canonicalJson, parseJson, sha256Hex } from "./canonical.ts";
import type { Difference } from "./doc-result.ts";
import type { Inventory, ManagedTool, Route, SignedFile, Tree } from "./eco-managed.ts";
import { readFileLimited } from "./sys-files.ts";
import { isExtensionId } from "./vscode-target.ts";
import { readVsix, type Vsix } from "./vscode-vsix.ts";

/*
 * VS Code with managed directories: `--install-extension` from a gallery that holds the signed package files, and what it must leave.
 *
 * The editor keeps what is installed already, also in another version than was signed, so it works on empty directories, and what the
 * root has of other extensions is kept beside it. What it writes for itself (caches, logs, its list of extensions) is not taken over:
 * root writes the list from the directories.
 */

const MANAGED = "/var/lib/aegis/vscode";
const EXTENSIONS = "extensions/";
const LIST = `${EXTENSIONS}extensions.json`;
const MAX_VSIX = 512 * 1024 * 1024;
const MAX_MANIFEST = 16 * 1024 * 1024;
const PACKAGE = "Microsoft.VisualStudio.Services.VSIXPackage";
const MANIFEST = "Microsoft.VisualStudio.Code.Manifest";

type Read = (path: string, limit: number) => Uint8Array;

const Listed = v.array(
  v.looseObject({
    identifier: v.looseObject({ id: v.string() }),
    version: v.string(),
    relativeLocation: v.string(),
  }),
);
const Installed = v.looseObject({
  ...{ publisher: v.string(), name: v.string(), version: v.string() },
  // The editor's own note about an extension. One that says that it belongs to the editor would be trusted as such.
  __metadata: v.optional(
    v.looseObject({
      isBuiltin: v.optional(v.literal(false)),
      isSystem: v.optional(v.literal(false)),
      targetPlatform: v.optional(v.string()),
    }),
    {},
  ),
});

export const vscodeManaged: ManagedTool = {
  tool: "vscode",
  root: "vscode",

  routes(files, registry) {
    const routes = new Map<string, Route>();
    const answers = files.map((file) => {
      const vsix = vsixOf(file);
      const assets = `/assets/${vsix.id}/${vsix.version}`;
      routes.set(`${assets}/${PACKAGE}`, { file: file.path, type: "application/octet-stream" });
      routes.set(`${assets}/${MANIFEST}`, { body: JSON.stringify(vsix.manifest), type: "application/json" });
      return answerOf(vsix, `${registry}${assets}`);
    });
    const metadataItems = [{ name: "TotalCount", count: answers.length }];
    const resultMetadata = [{ metadataType: "ResultCount", metadataItems }];
    // The editor looks for what it has asked for among the answers.
    const body = JSON.stringify({ results: [{ extensions: answers, resultMetadata }] });
    routes.set("POST /extensionquery", { body, type: "application/json" });
    return Promise.resolve(routes);
  },

  settings: ({ registry }) => ({
    variables: {
      EXTENSIONS_GALLERY: JSON.stringify({ serviceUrl: registry }),
      CS_DISABLE_GETTING_STARTED_OVERRIDE: "1",
    },
  }),

  keeps({ before, stage, readBefore }) {
    const replaced = new Set(directoriesOf(stage).map(idOf));
    const kept = new Set(
      directoriesOf(before).filter(
        (directory) => !replaced.has(manifestOf(before, directory, readBefore)?.id ?? ""),
      ),
    );
    return [...before.keys()].filter((path) => path !== LIST && kept.has(directoryOf(path) ?? ""));
  },

  check({ files, stage, read }) {
    const signed = new Map(
      files.map((file): [string, Vsix] => {
        const vsix = vsixOf(file);
        return [directoryName(vsix), vsix];
      }),
    );
    return Promise.resolve([
      ...[...signed].flatMap(([directory, vsix]) => extensionDifferences(directory, vsix, stage, read)),
      ...notSigned(stage, signed),
      ...listDifferences(stage, signed, read),
    ]);
  },

  discards: (stage) => [...stage.keys()].filter((path) => path === LIST || !path.startsWith(EXTENSIONS)),

  inventory(tree, read) {
    const found = directoriesOf(tree).flatMap((directory): [string, string][] => {
      const manifest = manifestOf(tree, directory, read);
      return manifest === null ? [] : [[manifest.id, manifest.version]];
    });
    return Object.fromEntries(found) satisfies Inventory;
  },

  launchers: (tree, read) => ({ [LIST]: `${JSON.stringify(listOf(tree, read), null, 1)}\n` }),
  executables: () => ({}),
};

/** @throws AegisError `refused` for a file that can't be used */
function vsixOf({ path }: SignedFile): Vsix {
  return readVsix(readFileLimited(path, MAX_VSIX));
}

/** What the gallery's protocol says of an extension. */
function answerOf(vsix: Vsix, assets: string) {
  const { id, version, platform, engine, manifest } = vsix;
  const [publisherName, extensionName] = id.split(".");
  const text = (key: string) => {
    const value = manifest[key];
    return Array.isArray(value) ? value.filter((one) => typeof one === "string").join(",") : "";
  };
  const time = "2000-01-01T00:00:00.000Z";
  const files = [PACKAGE, MANIFEST].map((assetType) => ({ assetType, source: `${assets}/${assetType}` }));
  const properties = [
    { key: "Microsoft.VisualStudio.Code.Engine", value: engine },
    { key: "Microsoft.VisualStudio.Code.ExtensionDependencies", value: text("extensionDependencies") },
    { key: "Microsoft.VisualStudio.Code.ExtensionPack", value: text("extensionPack") },
  ];
  return {
    ...{ extensionId: uuidOf(id), extensionName, displayName: id, shortDescription: "", flags: "" },
    publisher: { publisherId: uuidOf(publisherName ?? ""), publisherName, displayName: publisherName },
    versions: [
      {
        ...{ version, lastUpdated: time, assetUri: assets, fallbackAssetUri: assets, files, properties },
        ...(platform === "universal" ? {} : { targetPlatform: platform }),
      },
    ],
    ...{
      statistics: [],
      tags: [],
      categories: [],
      releaseDate: time,
      publishedDate: time,
      lastUpdated: time,
    },
  };
}

/** Some UUID for a name: the protocol wants one. */
function uuidOf(name: string): string {
  return sha256Hex(name).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5");
}

/** Where an extension is unpacked, below `extensions`. */
function directoryName({ id, version, platform }: Vsix): string {
  return `${id}-${version}${platform === "universal" ? "" : `-${platform}`}`;
}

/** The directory of an extension that a path lies in, or is. */
function directoryOf(path: string): string | null {
  return /^extensions\/([^/]+)(?:\/|$)/.exec(path)?.[1] ?? null;
}

function directoriesOf(tree: Tree): string[] {
  const found = [...tree.keys()].filter((path) => path !== LIST).map(directoryOf);
  return [...new Set(found.filter((one) => one !== null))].sort();
}

/** The extension that a directory made by the editor is for. */
function idOf(directory: string): string {
  return directory.replace(/-\d+\.\d+\.\d+.*$/, "");
}

/** What a directory says of itself; null where that is no extension. @throws Error for a manifest that can't be read */
function manifestOf(
  tree: Tree,
  directory: string,
  read: Read,
): { id: string; version: string; platform: string } | null {
  const path = `${EXTENSIONS}${directory}/package.json`;
  if (tree.get(path)?.kind !== "file") return null;
  const { publisher, name, version, __metadata: metadata } = v.parse(Installed, jsonAt(path, read));
  const id = `${publisher}.${name}`.toLowerCase();
  return isExtensionId(id) ? { id, version, platform: metadata.targetPlatform ?? "undefined" } : null;
}

function jsonAt(path: string, read: Read): unknown {
  return parseJson(
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(read(path, MAX_MANIFEST)),
  );
}

/** The list of extensions as the editor reads it, made from their directories. */
function listOf(tree: Tree, read: Read) {
  return directoriesOf(tree).flatMap((directory) => {
    const manifest = manifestOf(tree, directory, read);
    if (manifest === null) return [];
    const { id, version, platform: targetPlatform } = manifest;
    return [
      {
        ...{ identifier: { id }, version, relativeLocation: directory },
        location: { $mid: 1, path: `${MANAGED}/${EXTENSIONS}${directory}`, scheme: "file" },
        // Of this version, and not the newest: the editor leaves it alone.
        metadata: { source: "gallery", targetPlatform, pinned: true, isBuiltin: false },
      },
    ];
  });
}

/** Every file of a package file, against what was unpacked. */
function extensionDifferences(directory: string, vsix: Vsix, stage: Tree, read: Read): Difference[] {
  const at = (path: string) => `${EXTENSIONS}${directory}/${path}`;
  const expected = new Map([...vsix.files].map(([path, { data }]) => [at(path), sha256Hex(data)]));
  // The editor puts the description beside the files.
  expected.set(at(".vsixmanifest"), sha256Hex(vsix.description));
  const missing = [...expected.keys()].filter((path) => stage.get(path)?.kind !== "file");
  const others = [...stage].flatMap(([path, entry]) => {
    if (!path.startsWith(at(""))) return [];
    const signed = expected.get(path);
    if (signed === undefined)
      return entry.kind === "directory" ? [] : [difference(path, null, "another file")];
    if (entry.kind === "file" && entry.sha256 === signed) return [];
    const isSame = path === at("package.json") && isManifest(path, vsix, read);
    return isSame ? [] : [difference(path, "the signed file", "another file")];
  });
  return [...missing.map((path) => difference(path, "the signed file", null)), ...others];
}

/** Whether package.json is the signed one with the editor's note in it: it writes the file anew. */
function isManifest(path: string, { manifest }: Vsix, read: Read): boolean {
  try {
    const found = v.parse(Installed, jsonAt(path, read));
    return canonicalJson({ ...found, __metadata: null }) === canonicalJson({ ...manifest, __metadata: null });
  } catch {
    return false;
  }
}

/** What lies beside the signed extensions. */
function notSigned(stage: Tree, signed: ReadonlyMap<string, Vsix>): Difference[] {
  return [...stage].flatMap(([path, entry]) => {
    const directory = path === LIST ? null : directoryOf(path);
    if (directory === null || signed.has(directory) || entry.kind === "directory") return [];
    return [difference(path, null, "another file")];
  });
}

/** The editor's list names the signed extensions and no other. */
function listDifferences(stage: Tree, signed: ReadonlyMap<string, Vsix>, read: Read): Difference[] {
  const name = (id: string, version: string, directory: string) =>
    `${id.toLowerCase()} ${version} ${directory}`;
  const expected = new Set([...signed].map(([directory, { id, version }]) => name(id, version, directory)));
  try {
    const listed = stage.has(LIST) ? v.parse(Listed, jsonAt(LIST, read)) : [];
    const found = new Set(
      listed.map(({ identifier, version, relativeLocation }) =>
        name(identifier.id, version, relativeLocation),
      ),
    );
    return [
      ...[...expected].filter((one) => !found.has(one)).map((one) => difference(LIST, one, null)),
      ...[...found].filter((one) => !expected.has(one)).map((one) => difference(LIST, null, one)),
    ];
  } catch {
    return [difference(LIST, "a list of extensions", "something else")];
  }
}

function difference(what: string, expected: string | null, found: string | null): Difference {
  return { package: what, architecture: "all", expected, found };
}
