import { createHash } from "node:crypto";
import { normalizedVersion } from "../src/nuget-version.ts";
import { zip } from "./archive-kit.ts";
import { type RegistryAnswer, type StandIn, standInPlanning } from "./registry-kit.ts";

/*
 * A package source of our own, by NuGet's protocol of version 3: packages from their nuspecs, the documents made from the same words.
 */

export const SOURCE = "https://nuget.example";
export const INDEX = `${SOURCE}/v3/index.json`;

interface FakeDependency {
  id: string;
  version?: string;
}

export interface FakeNupkg {
  id: string;
  version: string;
  dependencies?: FakeDependency[];
  groups?: Record<string, FakeDependency[]>;
  /** Files besides the nuspec, by name in the archive. */
  files?: Record<string, string | Uint8Array>;
  /** More of the nuspec's `<metadata>`. */
  more?: string;
  /** Attributes of `<metadata>`. */
  attributes?: string;
  /** In place of the nuspec that follows from the rest. */
  nuspec?: string;
  /** Fields of its catalog entry that differ. */
  entry?: Record<string, unknown>;
  /** In place of the file that follows from the rest. */
  file?: Buffer;
}

const dependencyOf = ({ id, version }: FakeDependency) =>
  `<dependency id="${id}"${version === undefined ? "" : ` version="${version}"`} />`;

export function nuspecOf({
  id,
  version,
  dependencies = [],
  groups = {},
  more = "",
  attributes = "",
}: FakeNupkg): string {
  const grouped = Object.entries(groups).map(
    ([name, list]) =>
      `<group${name === "" ? "" : ` targetFramework="${name}"`}>${list.map(dependencyOf).join("")}</group>`,
  );
  return `<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd"><metadata ${attributes}>
<id>${id}</id><version>${version}</version><authors>somebody</authors><description>d</description>${more}
<dependencies>${dependencies.map(dependencyOf).join("")}${grouped.join("")}</dependencies>
</metadata></package>`;
}

const CONTENT_TYPES = `<?xml version="1.0" encoding="utf-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">${[
  "nuspec",
  "txt",
  "dll",
  "ps1",
  "targets",
  "p7s",
]
  .map((extension) => `<Default Extension="${extension}" ContentType="application/octet" />`)
  .join(
    "",
  )}<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml" /></Types>`;

/** A package's file. */
export function nupkgFile(one: FakeNupkg): Buffer {
  const { id, nuspec = nuspecOf(one), files = {}, file } = one;
  if (file !== undefined) return file;
  const manifest = "http://schemas.microsoft.com/packaging/2010/07/manifest";
  const all = {
    "[Content_Types].xml": CONTENT_TYPES,
    "_rels/.rels": `<?xml version="1.0" encoding="utf-8"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Type="${manifest}" Target="/${id}.nuspec" Id="R1" /></Relationships>`,
    [`${id}.nuspec`]: nuspec,
    ...files,
  };
  return zip(Object.entries(all).map(([name, body]) => ({ name, body })));
}

/** Everything that a source with these packages answers, by address. */
export function fakeSource(
  packages: readonly FakeNupkg[],
  { base = SOURCE, more = [] }: { base?: string; more?: { "@id": string; "@type": string }[] } = {},
): Record<string, RegistryAnswer> {
  const resources = [
    { "@id": `${base}/flat`, "@type": "PackageBaseAddress/3.0.0" },
    { "@id": `${base}/registration/`, "@type": "RegistrationsBaseUrl/3.6.0" },
    { "@id": `${base}/query`, "@type": "SearchQueryService" },
    ...more,
  ];
  const answers: Record<string, RegistryAnswer> = {
    [`${base}/v3/index.json`]: JSON.stringify({ version: "3.0.0", resources }),
  };
  const ids = [...new Set(packages.map(({ id }) => id.toLowerCase()))];
  for (const id of ids) {
    const own = packages.filter((one) => one.id.toLowerCase() === id);
    const versions = own.map(({ version }) => (normalizedVersion(version) ?? version).toLowerCase());
    answers[`${base}/flat/${id}/index.json`] = JSON.stringify({ versions });
    const items = own.map((one, at) => {
      const file = nupkgFile(one);
      const version = versions[at] ?? "";
      answers[`${base}/flat/${id}/${version}/${id}.${version}.nupkg`] = file;
      const address = `${base}/catalog/${id}.${version}.json`;
      const entry = {
        ...{
          "@id": address,
          id: one.id,
          version: one.version,
          listed: true,
          published: "2024-01-01T00:00:00Z",
        },
        packageHashAlgorithm: "SHA512",
        packageHash: createHash("sha512").update(file).digest("base64"),
        ...one.entry,
      };
      answers[address] = JSON.stringify(entry);
      const { packageHash: _hash, packageHashAlgorithm: _algorithm, ...shown } = entry;
      return { catalogEntry: shown };
    });
    const page = { "@id": `${base}/registration/${id}/page.json`, lower: "0.0.0", upper: "999.0.0" };
    answers[page["@id"]] = JSON.stringify({ ...page, items });
    answers[`${base}/registration/${id}/index.json`] = JSON.stringify({ items: [page] });
  }
  return answers;
}

export const CONFIG = "/home/u/.config/NuGet/NuGet.Config";
export const configOfSources = (sources: Record<string, string>, more = "") =>
  `<?xml version="1.0" encoding="utf-8"?><configuration><packageSources>${Object.entries(sources)
    .map(([key, value]) => `<add key="${key}" value="${value}" />`)
    .join("")}</packageSources>${more}</configuration>`;

/** Planning on a host whose nuget takes its packages from this source. */
export const nugetPlanning = (
  answers: Readonly<Record<string, RegistryAnswer>>,
  { files = {}, ...host }: Partial<StandIn> = {},
) =>
  standInPlanning(answers, {
    programs: { nuget: "" },
    ...host,
    files: { [CONFIG]: configOfSources({ ours: INDEX }), ...files },
  });
