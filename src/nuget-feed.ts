import type { Route } from "./eco-managed.ts";
import type { Nuspec } from "./nuget-nuspec.ts";

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

export interface FeedPackage {
  nuspec: Nuspec;
  /** In lower-case hex. */
  sha512: string;
  size: number;
  /** The file, for {@link Route}. */
  path: string;
}

/** The address of the feed, for NuGet.Config. */
export const feedAddress = (registry: string) => `${registry}${ROOT}/`;

/** Everything that the feed answers. */
export function feedRoutes(packages: readonly FeedPackage[], registry: string): Map<string, Route> {
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
