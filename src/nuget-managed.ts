import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { sha256Hex } from "./canonical.ts";
import type { Difference } from "./doc-result.ts";
import { badArchive } from "./eco-archive.ts";
import type { Inventory, ManagedTool, Route, SignedFile, Tree } from "./eco-managed.ts";
import { nugetConfig } from "./nuget-config.ts";
import { filesOfNupkg, inspectNupkg, type Nuspec, readNuspec } from "./nuget-package.ts";
import { parseXml } from "./nuget-xml.ts";
import { readFileLimited } from "./sys-files.ts";

/*
 * NuGet with a managed directory: `nuget install` from a feed that holds the signed packages, and what it must leave. nuget takes a file
 * whatever hash its feed tells, so every file that it leaves is compared here: each .nupkg, and each file that was unpacked from it.
 *
 * What is installed already would count as a dependency, in whatever version: so nuget works on an empty directory, and the packages of
 * the root are kept beside what it left.
 */

const MAX_NUPKG = 512 * 1024 * 1024;
const PACKAGES = "packages";
/** What nuget leaves out when it unpacks: descriptions and what the container format needs. Directories count by their beginning. */
const LEFT_OUT = /^(?:_rels|package)|\.nuspec$|^\[Content_Types\]\.xml$/i;

type Read = (path: string, limit: number) => Uint8Array;

export const nugetManaged: ManagedTool = {
  tool: "nuget",
  root: "nuget",

  routes: (files, registry) => Promise.resolve(feedRoutes(files.map(feedPackage), registry)),

  settings: ({ registry }) => ({
    variables: {},
    files: {
      ".config/NuGet/NuGet.Config": `<?xml version="1.0" encoding="utf-8"?>\n<configuration><packageSources><clear /><add key="signed" value="${feedAddress(registry)}" /></packageSources></configuration>\n`,
    },
  }),

  access(readText) {
    const config = nugetConfig({}, readText, namesIn);
    return (url) => (url.origin === config.source.origin ? config.request : config.otherRequest);
  },

  keeps({ before, stage }) {
    const replaced = new Set(directoriesOf(stage));
    return [...before.keys()].filter(
      (path) => before.get(path)?.kind !== "directory" && !replaced.has(directoryOf(path)),
    );
  },

  check({ files, stage }) {
    const expected = new Map<string, { sha256: string; isNeeded: boolean }>();
    for (const file of files)
      for (const [path, one] of unpacked(file)) {
        // Nothing of one package can be another's: ids and versions name its directory.
        if (expected.has(path)) throw badArchive(`two packages have ${JSON.stringify(path)}`);
        expected.set(path, one);
      }
    return Promise.resolve([
      ...[...expected].flatMap(([path, { sha256, isNeeded }]) => {
        const found = stage.get(path);
        if (found === undefined) return isNeeded ? [difference(path, "a file of its package", null)] : [];
        if (found.kind !== "file") return [difference(path, "a file", found.kind)];
        if (found.sha256 !== sha256) return [difference(path, `sha256:${sha256}`, `sha256:${found.sha256}`)];
        return found.executable ? [difference(path, "a file", "a program")] : [];
      }),
      ...[...stage.keys()]
        .filter((path) => !expected.has(path))
        .map((path) => difference(path, null, "not signed")),
    ]);
  },

  inventory(tree, read) {
    const versions = new Map<string, string[]>();
    for (const directory of directoriesOf(tree)) {
      const { id, version } = packageIn(directory, tree, read);
      versions.set(id, [...(versions.get(id) ?? []), version]);
    }
    return Object.fromEntries(
      [...versions].map(([id, all]) => [id, all.sort().join(" ")]),
    ) satisfies Inventory;
  },

  // Libraries for projects: nothing that a shell would run.
  executables: () => ({}),
};

function feedPackage({ name, version, path, size }: SignedFile): FeedPackage {
  const bytes = readFileLimited(path, MAX_NUPKG);
  const { nuspec } = inspectNupkg(name, version, bytes);
  return { nuspec, sha512: createHash("sha512").update(bytes).digest("hex"), size, path };
}

/** Paths below the root that a signed package may leave, with their hashes; whether nuget has to unpack it. */
function unpacked({ name, version, path }: SignedFile): [string, { sha256: string; isNeeded: boolean }][] {
  const bytes = readFileLimited(path, MAX_NUPKG);
  const { nuspec } = inspectNupkg(name, version, bytes);
  const directory = `${nuspec.id}.${nuspec.writtenVersion}`;
  const files = filesOfNupkg(bytes);
  const types = files.find((one) => one.path === "[Content_Types].xml");
  const isDeclared = types === undefined ? () => false : declaredBy(types.data);
  const own = files
    .filter((one) => !/^\[Content_Types\]\.xml$/i.test(one.path))
    .map((one): [string, { sha256: string; isNeeded: boolean }] => [
      `${PACKAGES}/${directory}/${one.path}`,
      { sha256: sha256Hex(one.data), isNeeded: isDeclared(one.path) && !LEFT_OUT.test(one.path) },
    ]);
  const archive = `${PACKAGES}/${directory}/${directory}.nupkg`;
  return [[archive, { sha256: sha256Hex(bytes), isNeeded: true }], ...own];
}

/** Files of the container are those whose type it declares, by their extension or by name: ECMA-376, part 2, section 7.3. */
function declaredBy(types: Uint8Array): (path: string) => boolean {
  const extensions = new Set<string>();
  const names = new Set<string>();
  for (const { name, attributes } of parseXml(types).children) {
    if (name === "Default") extensions.add((attributes.get("Extension") ?? "").toLowerCase());
    if (name === "Override") names.add(decoded(attributes.get("PartName") ?? "").toLowerCase());
  }
  return (path) => {
    const extension = /\.([^./]+)$/.exec(path)?.[1] ?? "";
    return extensions.has(extension.toLowerCase()) || names.has(`/${path}`.toLowerCase());
  };
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** Directories of packages in a tree: `packages/Newtonsoft.Json.13.0.3`. */
function directoriesOf(tree: Tree): string[] {
  return [...new Set([...tree.keys()].filter((path) => path.startsWith(`${PACKAGES}/`)).map(directoryOf))];
}

function directoryOf(path: string): string {
  return path.split("/").slice(0, 2).join("/");
}

/** The package of a directory: by its own description, since ids may end in numbers too. */
function packageIn(directory: string, tree: Tree, read: Read): { id: string; version: string } {
  const name = directory.slice(PACKAGES.length + 1);
  const path = `${directory}/${name}.nupkg`;
  if (tree.get(path)?.kind !== "file") return { id: name, version: "unknown" };
  const nuspec = filesOfNupkg(read(path, MAX_NUPKG)).find((one) => /^[^/]+\.nuspec$/i.test(one.path));
  if (nuspec === undefined) return { id: name, version: "unknown" };
  const { id, version } = readNuspec(nuspec.data);
  return { id, version };
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

function difference(what: string, expected: string | null, found: string | null): Difference {
  return { package: what, architecture: "all", expected, found };
}

/*
 * The closed registry of a run, in NuGet's protocol of version 2, an OData feed of Atom entries: Debian's nuget knows no other. It asks
 * for one version by its key, for a dependency by a filter, and reads the description of the service before that.
 * https://learn.microsoft.com/nuget/api/overview says of version 2 that it isn't documented: this is what nuget 2.8.7 was seen to ask.
 */

const DATA = "http://schemas.microsoft.com/ado/2007/08/dataservices";
const NAMESPACES = `xmlns="http://www.w3.org/2005/Atom" xmlns:d="${DATA}" xmlns:m="${DATA}/metadata"`;
const ATOM = "application/atom+xml;charset=utf-8";
const HEADER = '<?xml version="1.0" encoding="utf-8"?>\n';
const ROOT = "/api/v2";

const PROPERTIES = [
  ...["Id", "Version", "Dependencies", "PackageHash", "PackageHashAlgorithm"].map((name) => [name, "String"]),
  ...["IsLatestVersion", "IsAbsoluteLatestVersion", "IsPrerelease"].map((name) => [name, "Boolean"]),
  ["Published", "DateTime"],
  ["PackageSize", "Int64"],
] as const;

interface FeedPackage {
  nuspec: Nuspec;
  /** In lower-case hex. */
  sha512: string;
  size: number;
  /** The file, for {@link Route}. */
  path: string;
}

/** The address of the feed, for NuGet.Config. */
const feedAddress = (registry: string) => `${registry}${ROOT}/`;

/** Everything that the feed answers. */
function feedRoutes(packages: readonly FeedPackage[], registry: string): Map<string, Route> {
  const routes = new Map<string, Route>();
  const xml = (body: string, type = "application/xml"): Route => ({ body: `${HEADER}${body}`, type });
  routes.set(ROOT, xml(service(registry)));
  routes.set(`${ROOT}/`, xml(service(registry)));
  routes.set(`${ROOT}/$metadata`, xml(description()));
  for (const one of packages) {
    const { id, version, writtenVersion } = one.nuspec;
    for (const spelling of new Set([version, writtenVersion]))
      routes.set(`${ROOT}/Packages(Id='${id}',Version='${spelling}')`, xml(entryOf(one, registry), ATOM));
    routes.set(fileOf(one), { file: one.path, type: "application/zip" });
  }
  // Whatever spelling a dependency has, its id is asked for in lower case.
  for (const [id, named] of Map.groupBy(packages, ({ nuspec }) => nuspec.id.toLowerCase())) {
    const entries = named.map((one) => entryOf(one, registry)).join("");
    const feed = `<feed ${NAMESPACES}><id>${registry}${ROOT}/Packages</id><title type="text">Packages</title><updated>2000-01-01T00:00:00Z</updated>${entries}</feed>`;
    routes.set(`${ROOT}/Packages()?$filter=tolower(Id) eq '${id}'&$orderby=Id`, xml(feed, ATOM));
  }
  return routes;
}

function fileOf({ nuspec: { id, writtenVersion } }: FeedPackage): string {
  return `/packages/${id}.${writtenVersion}.nupkg`;
}

function entryOf(one: FeedPackage, registry: string): string {
  const { id, writtenVersion, dependencies } = one.nuspec;
  const values: Readonly<Record<(typeof PROPERTIES)[number][0], string>> = {
    Id: id,
    Version: writtenVersion,
    // Without target frameworks: nuget install takes the dependencies of all.
    Dependencies: dependencies
      .map((dependency) => `${dependency.id}:${dependency.range === null ? "" : dependency.written}:`)
      .join("|"),
    PackageHash: Buffer.from(one.sha512, "hex").toString("base64"),
    PackageHashAlgorithm: "SHA512",
    PackageSize: String(one.size),
    IsLatestVersion: "true",
    IsAbsoluteLatestVersion: "true",
    IsPrerelease: "false",
    Published: "2000-01-01T00:00:00",
  };
  const properties = PROPERTIES.map(
    ([name, type]) =>
      `<d:${name}${type === "String" ? "" : ` m:type="Edm.${type}"`}>${escaped(values[name] ?? "")}</d:${name}>`,
  );
  const key = `${registry}${ROOT}/Packages(Id='${id}',Version='${escaped(writtenVersion)}')`;
  return [
    `<entry ${NAMESPACES} xml:base="${registry}${ROOT}/"><id>${key}</id>`,
    `<category term="NuGetGallery.V2FeedPackage" scheme="${DATA}/scheme" /><title type="text">${id}</title>`,
    `<updated>2000-01-01T00:00:00Z</updated><author><name /></author>`,
    `<content type="application/zip" src="${registry}${escaped(fileOf(one))}" />`,
    `<m:properties>${properties.join("")}</m:properties></entry>`,
  ].join("");
}

function service(registry: string): string {
  return `<service xml:base="${registry}${ROOT}/" xmlns="http://www.w3.org/2007/app" xmlns:atom="http://www.w3.org/2005/Atom"><workspace><atom:title>Default</atom:title><collection href="Packages"><atom:title>Packages</atom:title></collection></workspace></service>`;
}

function description(): string {
  const edm = "http://schemas.microsoft.com/ado";
  const properties = PROPERTIES.map(
    ([name, type]) =>
      `<Property Name="${name}" Type="Edm.${type}" Nullable="${name !== "Id" && name !== "Version"}" />`,
  );
  return [
    `<edmx:Edmx Version="1.0" xmlns:edmx="${edm}/2007/06/edmx"><edmx:DataServices m:DataServiceVersion="2.0" xmlns:m="${DATA}/metadata">`,
    `<Schema Namespace="NuGetGallery" xmlns="${edm}/2006/04/edm"><EntityType Name="V2FeedPackage" m:HasStream="true">`,
    `<Key><PropertyRef Name="Id" /><PropertyRef Name="Version" /></Key>${properties.join("")}</EntityType>`,
    `<EntityContainer Name="Feed" m:IsDefaultEntityContainer="true"><EntitySet Name="Packages" EntityType="NuGetGallery.V2FeedPackage" /></EntityContainer>`,
    "</Schema></edmx:DataServices></edmx:Edmx>",
  ].join("");
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
