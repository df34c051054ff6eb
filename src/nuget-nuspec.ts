import { badArchive } from "./eco-archive.ts";
import { isPackageId } from "./nuget-target.ts";
import { normalizedVersion, parseRange, type VersionRange } from "./nuget-version.ts";
import { childOf, childrenOf, parseXml, type XmlElement } from "./nuget-xml.ts";

/*
 * A package's own description: id, version and what it needs. https://learn.microsoft.com/nuget/reference/nuspec
 */

const MAX_DEPENDENCIES = 5000;

export interface NugetDependency {
  id: string;
  /** Null for any version. */
  range: VersionRange | null;
  /** As written, for messages. */
  written: string;
}

export interface Nuspec {
  id: string;
  /** As written: it names the directory that nuget installs into. */
  writtenVersion: string;
  /** Normalised. */
  version: string;
  authors: string | null;
  /** An SPDX expression, or null. */
  license: string | null;
  /** The oldest NuGet that may install it, or null. */
  minClientVersion: string | null;
  /** Names of its groups of dependencies; `any` for the one without a target framework. */
  frameworks: string[];
  /** Those of all groups: `nuget install` knows no target framework and takes them all. */
  dependencies: NugetDependency[];
  /** Shared frameworks that it is built on: `Microsoft.AspNetCore.App`. */
  frameworkReferences: string[];
}

/**
 * Reads a nuspec.
 * @throws AegisError `refused` for what can't be used
 */
export function readNuspec(bytes: Uint8Array): Nuspec {
  const root = parseXml(bytes);
  const metadata = childOf(root, "metadata");
  if (root.name !== "package" || metadata === undefined) throw badArchive("its nuspec has no <metadata>");
  const id = textOf(metadata, "id") ?? "";
  const writtenVersion = textOf(metadata, "version") ?? "";
  const version = normalizedVersion(writtenVersion);
  if (!isPackageId(id)) throw badArchive(`its nuspec's id is ${JSON.stringify(id.slice(0, 200))}`);
  if (version === null)
    throw badArchive(`its nuspec's version is ${JSON.stringify(writtenVersion.slice(0, 200))}`);
  const section = childOf(metadata, "dependencies");
  const groups = childrenOf(section, "group");
  const all = [
    ...childrenOf(section, "dependency"),
    ...groups.flatMap((one) => childrenOf(one, "dependency")),
  ];
  if (all.length > MAX_DEPENDENCIES) throw badArchive("its nuspec has far too many dependencies");
  const license = childOf(metadata, "license");
  return {
    ...{ id, writtenVersion, version },
    authors: textOf(metadata, "authors"),
    license: license?.attributes.get("type") === "expression" ? license.text : null,
    minClientVersion: metadata.attributes.get("minClientVersion") ?? null,
    frameworks: groups.map((one) => one.attributes.get("targetFramework") ?? "any"),
    dependencies: all.map(dependencyOf),
    frameworkReferences: childrenOf(childOf(metadata, "frameworkReferences"), "group").flatMap((group) =>
      childrenOf(group, "frameworkReference").flatMap((one) => one.attributes.get("name") ?? []),
    ),
  };
}

function dependencyOf({ attributes }: XmlElement): NugetDependency {
  const id = attributes.get("id")?.trim() ?? "";
  const written = attributes.get("version")?.trim() ?? "";
  const range = written === "" ? null : parseRange(written);
  if (!isPackageId(id))
    throw badArchive(`its nuspec needs ${JSON.stringify(id.slice(0, 200))}, which is no id`);
  if (written !== "" && range === null)
    throw badArchive(
      `its nuspec needs ${id} ${JSON.stringify(written.slice(0, 200))}, which is no range of versions`,
    );
  return { id, range, written: written === "" ? "any version" : written };
}

function textOf(metadata: XmlElement, name: string): string | null {
  const text = childOf(metadata, name)?.text ?? "";
  return text === "" ? null : text;
}
