import type { ArchiveFile } from "./eco-archive.ts";
import { machineCode } from "./eco-closure.ts";
import { readTarGz } from "./eco-tar.ts";
import { AegisError } from "./errors.ts";
import { INSTALL_SCRIPTS, lifecycleScripts, type NpmScript, type NpmVersion } from "./npm-metadata.ts";

/*
 * What is in a package file. Nothing in it is run. npm resolves by the registry's metadata and installs what the file says, so a
 * file that says something else is refused ("manifest confusion").
 */

const MAX_SCRIPT = 64 * 1024;

export interface PackageContents {
  /** Its lifecycle scripts, with the text of the files that they run. */
  scripts: NpmScript[];
  /** Names of the commands that it brings. */
  commands: string[];
  hasBindingGyp: boolean;
  /** Files of machine code: `path (kind)`. */
  binaries: string[];
  /** The packages in its own node_modules, `name@version`, sorted. */
  bundled: string[];
  hasShrinkwrap: boolean;
}

/**
 * Reads a package file.
 * @throws AegisError `refused` for an archive that can't be used, or one that isn't the package of the metadata
 */
export function inspectPackage(version: NpmVersion, bytes: Uint8Array): PackageContents {
  const files = withoutRoot(readTarGz(bytes), version);
  const manifest = readManifest(files.get("package.json"), version);
  const problem = confusionOf(version, manifest);
  if (problem !== null) throw mismatch(version, problem);
  const hasBindingGyp = files.has("binding.gyp");
  const scripts = lifecycleScripts({ ...version, gypfile: version.gypfile ?? hasBindingGyp });
  const run = scripts.flatMap(({ name, body }) =>
    filesRunBy(body).flatMap((path) => {
      const file = files.get(path) ?? files.get(`${path}.js`);
      return file === undefined ? [] : [{ name: `${name}: ${path}`, body: textOf(file) }];
    }),
  );
  const tooLong = [...scripts, ...run].find(({ body }) => body.length > MAX_SCRIPT);
  // A script that doesn't fit into the plan completely can't be judged.
  if (tooLong !== undefined)
    throw mismatch(version, `its ${tooLong.name} is longer than ${MAX_SCRIPT} characters`);
  return {
    scripts: [...scripts, ...run],
    commands: Object.keys(commandsOf(manifest.bin, version.name)).sort(),
    hasBindingGyp,
    binaries: [...files].flatMap(([path, file]) => {
      const kind = machineCode(file);
      return kind === null ? [] : [`${path} (${kind})`];
    }),
    bundled: [...files].flatMap(([path, file]) => bundledPackage(path, file)).sort(),
    hasShrinkwrap: files.has("npm-shrinkwrap.json"),
  };
}

/** npm drops the first component of every path; if there were several, files of one could replace those of another. */
function withoutRoot(files: readonly ArchiveFile[], version: NpmVersion): ReadonlyMap<string, ArchiveFile> {
  const [root] = files[0]?.path.split("/") ?? [];
  const inside = new Map<string, ArchiveFile>();
  for (const file of files) {
    const [first, ...rest] = file.path.split("/");
    if (first !== root || rest.length === 0)
      throw mismatch(version, `${JSON.stringify(file.path)} is not below ${JSON.stringify(root)}`);
    inside.set(rest.join("/"), file);
  }
  return inside;
}

interface Manifest {
  name?: unknown;
  version?: unknown;
  scripts?: unknown;
  bin?: unknown;
  dependencies?: unknown;
  optionalDependencies?: unknown;
  peerDependencies?: unknown;
}

function readManifest(file: ArchiveFile | undefined, version: NpmVersion): Manifest {
  if (file === undefined) throw mismatch(version, "it has no package.json");
  let manifest: unknown;
  try {
    manifest = JSON.parse(textOf(file).replace(/^\uFEFF/, ""));
  } catch {
    throw mismatch(version, "its package.json is not JSON");
  }
  if (typeof manifest !== "object" || manifest === null || Array.isArray(manifest))
    throw mismatch(version, "its package.json is no object");
  return manifest;
}

/** What the file's package.json says in another way than the registry, or null. */
function confusionOf(version: NpmVersion, manifest: Manifest): string | null {
  if (manifest.name !== version.name) return `its package.json is that of ${JSON.stringify(manifest.name)}`;
  // The registry's version is the cleaned one.
  if (typeof manifest.version !== "string" || clean(manifest.version) !== clean(version.version))
    return `its package.json is that of version ${JSON.stringify(manifest.version)}`;
  const said = scriptsOf(version.scripts);
  for (const [name, body] of Object.entries(scriptsOf(manifest.scripts))) {
    if (said[name] !== body) return `its ${name} script is not the one in the registry`;
  }
  const missing = Object.keys(said).find((name) => !Object.hasOwn(scriptsOf(manifest.scripts), name));
  // The registry adds the script that a binding.gyp implies.
  if (missing !== undefined && said[missing] !== "node-gyp rebuild")
    return `the ${missing} script in the registry is not in it`;
  const all = (one: Manifest) => ({ ...mapOf(one.dependencies), ...mapOf(one.optionalDependencies) });
  for (const [kind, given, listed] of [
    ["dependencies", all(manifest), all(version)],
    ["peerDependencies", mapOf(manifest.peerDependencies), mapOf(version.peerDependencies)],
    ["commands", commandsOf(manifest.bin, version.name), commandsOf(version.bin, version.name)],
  ] as const) {
    const names = [...new Set([...Object.keys(given), ...Object.keys(listed)])].sort();
    const differing = names.find((name) => given[name] !== listed[name]);
    if (differing !== undefined) return `its ${kind} are not those in the registry (${differing})`;
  }
  return null;
}

function clean(version: string): string {
  return version
    .trim()
    .replace(/^[=v]+/, "")
    .replace(/\+.*$/, "");
}

function mapOf(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter((one): one is [string, string] => typeof one[1] === "string"),
  );
}

function scriptsOf(value: unknown): Record<string, string> {
  const all = mapOf(value);
  return Object.fromEntries(
    INSTALL_SCRIPTS.flatMap((name) => ((all[name] ?? "") === "" ? [] : [[name, all[name] ?? ""]])),
  );
}

/** Command → file in the package. A string names the one command that is called like the package. */
function commandsOf(bin: unknown, name: string): Record<string, string> {
  const given = typeof bin === "string" ? { [name.replace(/^@[^/]+\//, "")]: bin } : mapOf(bin);
  return Object.fromEntries(
    Object.entries(given).map(([command, path]) => [
      // As npm-normalize-package-bin: the last component, and a path that stays in the package.
      command.replace(/^.*[/\\]/, ""),
      path.replace(/^(?:\.?\/)+/, ""),
    ]),
  );
}

/** Files that a script starts by name: `node install.js`, `sh ./build.sh`. */
function filesRunBy(body: string): string[] {
  const found = body.matchAll(/(?:^|[\s;&|])(?:node|sh|bash|python3?)\s+(?:\.\/)?([\w][\w./-]*)/g);
  return [...new Set([...found].map(([, path = ""]) => path))];
}

function bundledPackage(path: string, file: ArchiveFile): string[] {
  if (!/^(?:node_modules\/(?:@[^/]+\/)?[^/]+\/)+package\.json$/.test(path)) return [];
  try {
    const { name, version }: Manifest = JSON.parse(textOf(file));
    return typeof name === "string" && typeof version === "string" ? [`${name}@${version}`] : [];
  } catch {
    return [];
  }
}

function textOf({ data }: ArchiveFile): string {
  return Buffer.from(data).toString("utf8");
}

function mismatch({ name, version }: NpmVersion, why: string): AegisError {
  return new AegisError(
    "refused",
    `${name}@${version} can't be used: ${why}`,
    "Don't install it: report it to its registry.",
  );
}
