import { type ArchiveFile, archivePath, badArchive } from "./eco-archive.ts";
import { machineCode } from "./eco-closure.ts";
import { readZip } from "./eco-zip.ts";
import { AegisError } from "./errors.ts";
import { isPackageId } from "./nuget-target.ts";
import { normalizedVersion, parseRange, type VersionRange } from "./nuget-version.ts";
import { childOf, childrenOf, parseXml, type XmlElement } from "./nuget-xml.ts";

/*
 * What a package file holds, read without running anything: its own description (id, version and what it needs,
 * https://learn.microsoft.com/nuget/reference/nuspec) and its files. Paths are those that nuget unpacks to: names in a .nupkg are
 * escaped as in addresses (Open Packaging Conventions).
 */

const MAX_DEPENDENCIES = 5000;
const MAX_SCRIPT = 64 * 1024;
/** Visual Studio's package console runs them, `nuget install` does not. */
const CONSOLE_SCRIPT = /^tools\/(?:[^/]+\/)?(?:init|install|uninstall)\.ps1$/i;
/** MSBuild includes these files in every project that uses the package. */
const BUILD_TARGETS =
  /^build(?:transitive|multitargeting|crosstargeting)?\/(?:.+\/)?[^/]+\.(?:targets|props)$/i;
const NATIVE_DIRECTORY = /^runtimes\/[^/]+\/native\//i;
/** Changes to the configuration of a web site. */
const WEB_CONFIGURATION = /^content\/(?:.+\/)?web\.config(?:\.(?:un)?install\.xdt|\.transform)?$/i;
/** Ids of what handles a web application's requests and who may make them. */
const WEB_ID =
  /^(?:Microsoft\.AspNet|Microsoft\.AspNetCore|Microsoft\.Owin|Owin|System\.Web|Microsoft\.Web|Microsoft\.Identity|Microsoft\.IdentityModel|System\.IdentityModel)(?:\.|$)/i;

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
  const id = childText(metadata, "id") ?? "";
  const writtenVersion = childText(metadata, "version") ?? "";
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
    authors: childText(metadata, "authors"),
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

function childText(metadata: XmlElement, name: string): string | null {
  const text = childOf(metadata, name)?.text ?? "";
  return text === "" ? null : text;
}

export interface NupkgContents {
  nuspec: Nuspec;
  /** Files that MSBuild includes. */
  buildTargets: string[];
  scripts: { name: string; body: string }[];
  /** PowerShell besides those. */
  powershell: string[];
  /** Files of machine code: `path (kind)`. */
  native: string[];
  /** Why it is about ASP.NET; empty where it isn't. */
  aspnet: string[];
  /** Its `.signature.p7s`, or null. */
  signature: Uint8Array | null;
}

/**
 * Looks into a package's file.
 * @throws AegisError `refused` for an archive that can't be used, or that is another package
 */
export function inspectNupkg(id: string, version: string, bytes: Uint8Array): NupkgContents {
  try {
    const contents = inspect(bytes);
    const { nuspec } = contents;
    if (
      nuspec.id.toLowerCase() !== id.toLowerCase() ||
      nuspec.version.toLowerCase() !== version.toLowerCase()
    )
      throw badArchive(`it is ${nuspec.id} ${nuspec.version}`);
    return contents;
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    throw new AegisError(error.code, `${id} ${version}: ${error.message}`, error.hint);
  }
}

/**
 * The files of a package with the paths that they are unpacked to.
 * @throws AegisError `refused`
 */
export function filesOfNupkg(bytes: Uint8Array): ArchiveFile[] {
  const paths = new Set<string>();
  return readZip(bytes).map((file) => {
    const path = unescapedPath(file.path);
    const key = path.normalize("NFC").toLowerCase();
    if (paths.has(key)) throw badArchive(`${JSON.stringify(path)} is in it twice`);
    paths.add(key);
    return { ...file, path };
  });
}

function inspect(bytes: Uint8Array): NupkgContents {
  const files = filesOfNupkg(bytes);
  const [nuspec, second] = files.filter(({ path }) => /^[^/]+\.nuspec$/i.test(path));
  if (nuspec === undefined || second !== undefined)
    throw badArchive(nuspec === undefined ? "it has no nuspec" : "it has two nuspecs");
  const read = readNuspec(nuspec.data);
  const scripts = files.filter(({ path }) => CONSOLE_SCRIPT.test(path));
  const tooLong = scripts.find(({ data }) => data.length > MAX_SCRIPT);
  // A script that doesn't fit into the plan completely can't be judged.
  if (tooLong !== undefined) throw badArchive(`${tooLong.path} is longer than ${MAX_SCRIPT} bytes`);
  const matching = (pattern: RegExp) => files.map(({ path }) => path).filter((path) => pattern.test(path));
  return {
    nuspec: read,
    buildTargets: matching(BUILD_TARGETS),
    scripts: scripts.map(({ path, data }) => ({ name: path, body: textOf(data) })),
    powershell: matching(/\.ps[dm]?1$/i).filter((path) => !CONSOLE_SCRIPT.test(path)),
    native: files.flatMap((file) => {
      const kind = nativeCode(file);
      return kind === null ? [] : [`${file.path} (${kind})`];
    }),
    aspnet: [
      ...(WEB_ID.test(read.id) ? ["its id"] : []),
      ...read.frameworkReferences.filter((name) => WEB_ID.test(name)).map((name) => `it is built on ${name}`),
      ...matching(WEB_CONFIGURATION),
    ],
    signature: files.find(({ path }) => path === ".signature.p7s")?.data ?? null,
  };
}

function unescapedPath(path: string): string {
  try {
    return archivePath(decodeURIComponent(path));
  } catch (error) {
    if (error instanceof AegisError) throw error;
    throw badArchive(`${JSON.stringify(path.slice(0, 200))} is not escaped as a name`);
  }
}

/** The kind of machine code; assemblies of .NET are none, where nothing but their loader is. */
function nativeCode(file: ArchiveFile): string | null {
  const kind = machineCode(file);
  if (kind === "PE") return isAssembly(file.data) ? null : "PE";
  return kind ?? (NATIVE_DIRECTORY.test(file.path) ? "of unknown kind" : null);
}

/** Whether a PE file has a CLR header: the fifteenth data directory of its optional header. ECMA-335, II.25.2.3.3 */
function isAssembly(data: Uint8Array): boolean {
  const view = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const start = view.length < 0x40 ? view.length : view.readUInt32LE(0x3c);
  if (start + 26 > view.length || view.readUInt32LE(start) !== 0x4550) return false;
  const optional = start + 24;
  const magic = view.readUInt16LE(optional);
  const directories = optional + (magic === 0x20b ? 112 : 96);
  const header = directories + 14 * 8;
  if ((magic !== 0x10b && magic !== 0x20b) || header + 8 > view.length) return false;
  return view.readUInt32LE(directories - 4) > 14 && view.readUInt32LE(header) !== 0;
}

/** PowerShell reads UTF-16 with a byte order mark too. */
function textOf(data: Uint8Array): string {
  const isWide = data[0] === 0xff && data[1] === 0xfe;
  return new TextDecoder(isWide ? "utf-16le" : "utf-8").decode(data).toWellFormed();
}
