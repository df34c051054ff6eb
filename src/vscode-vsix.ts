import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { type ArchiveFile, badArchive } from "./eco-archive.ts";
import { machineCode } from "./eco-closure.ts";
import { readZip } from "./eco-zip.ts";
import { isExtensionId } from "./vscode-target.ts";

/*
 * A .vsix, read and never run: a zip with the extension's files below `extension/` and a description beside them.
 * https://code.visualstudio.com/api/references/extension-manifest
 */

const BELOW = "extension/";
const MAX_REQUIRED = 200;
/** The one script that editors run: when the extension is removed. */
const UNINSTALL = "vscode:uninstall";

const text = v.fallback(v.optional(v.string()), undefined);
const texts = v.fallback(v.array(v.string()), []);
const Manifest = v.looseObject({
  ...{ publisher: v.string(), name: v.string(), version: v.string() },
  engines: v.looseObject({ vscode: v.string() }),
  ...{ main: text, browser: text, license: text },
  ...{ activationEvents: texts, extensionPack: texts, extensionDependencies: texts },
  contributes: v.fallback(v.looseObject({ commands: v.optional(v.unknown()) }), {}),
  capabilities: v.fallback(
    v.looseObject({ untrustedWorkspaces: v.optional(v.looseObject({ supported: v.optional(v.unknown()) })) }),
    {},
  ),
  scripts: v.fallback(v.looseObject({ [UNINSTALL]: v.optional(v.string()) }), {}),
});

export interface Vsix {
  /** In lower case. */
  id: string;
  version: string;
  /** `universal`, or what the description says. */
  platform: string;
  /** The range of VS Code's versions that it is made for. */
  engine: string;
  license: string | null;
  /** Ids of extensions that it needs or brings along, in lower case, sorted. */
  requires: string[];
  facts: ExtensionFacts;
  /** package.json, as it stands in the file. */
  manifest: Record<string, unknown>;
  /** What is unpacked, by path below the extension's directory. */
  files: ReadonlyMap<string, ArchiveFile>;
  /** extension.vsixmanifest. */
  description: Uint8Array;
  /** Everything in the package file, as it stands there. */
  entries: readonly ArchiveFile[];
}

/** What of an extension runs, and when. */
interface ExtensionFacts {
  hasCode: boolean;
  /** Events that start it without anybody asking for it. */
  startsAlways: string[];
  startsByCommand: boolean;
  /** Patterns of files whose presence starts it. */
  startsByFiles: string[];
  /** Whether it also runs in workspaces that the user doesn't trust. */
  runsUntrusted: boolean;
  /** Machine code, by path, with its kind. */
  machineCode: { path: string; kind: string }[];
  uninstallScript: string | null;
}

/**
 * Reads a package file.
 * @throws AegisError `refused` for one that can't be used
 */
export function readVsix(bytes: Uint8Array): Vsix {
  const entries = readZip(bytes);
  const all = new Map(entries.map((file) => [file.path, file]));
  const manifestFile = all.get(`${BELOW}package.json`);
  const description = all.get("extension.vsixmanifest")?.data;
  if (manifestFile === undefined || description === undefined)
    throw badArchive("it has no extension/package.json, or no extension.vsixmanifest");
  const json = jsonOf(manifestFile.data);
  const read = v.safeParse(Manifest, json);
  if (!read.success) throw badArchive("its package.json lacks publisher, name, version or engines.vscode");
  const manifest = read.output;
  const id = `${manifest.publisher}.${manifest.name}`;
  if (!isExtensionId(id)) throw badArchive(`${JSON.stringify(id.slice(0, 200))} is no extension's id`);
  const stated = identityOf(new TextDecoder().decode(description));
  if (stated.id.toLowerCase() !== id.toLowerCase() || stated.version !== manifest.version)
    throw badArchive(
      `its package.json says ${id} ${manifest.version}, and its extension.vsixmanifest ${stated.id} ${stated.version}`.slice(
        0,
        400,
      ),
    );
  const files = new Map(
    [...all.values()]
      .filter(({ path }) => path.startsWith(BELOW))
      .map((file) => [file.path.slice(BELOW.length), file]),
  );
  return {
    ...{
      id: id.toLowerCase(),
      version: manifest.version,
      platform: stated.platform,
      files,
      description,
      entries,
    },
    engine: manifest.engines.vscode,
    license: manifest.license ?? null,
    requires: requirementsOf(manifest),
    facts: factsOf(manifest, files),
    manifest: json,
  };
}

function jsonOf(data: Uint8Array): Record<string, unknown> {
  try {
    const json = parseJson(new TextDecoder("utf-8", { fatal: true }).decode(data));
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return json;
  } catch {
    // Told below.
  }
  throw badArchive("its package.json is no JSON object");
}

/** What the Identity element says. @throws AegisError `refused` */
function identityOf(xml: string): { id: string; version: string; platform: string } {
  const elements = xml.match(/<Identity\b[^<>]*>/g) ?? [];
  const [element = ""] = elements;
  const attribute = (name: string) => {
    const found = [...element.matchAll(new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, "g"))];
    return found.length === 1 ? (found[0]?.[1] ?? found[0]?.[2] ?? "") : "";
  };
  const [publisher, name, version] = ["Publisher", "Id", "Version"].map(attribute);
  const platform = attribute("TargetPlatform") || "universal";
  if (elements.length !== 1 || !/^[a-z0-9-]{1,40}$/.test(platform))
    throw badArchive("its extension.vsixmanifest has no single Identity");
  return { id: `${publisher}.${name}`, version: version ?? "", platform };
}

function requirementsOf(manifest: v.InferOutput<typeof Manifest>): string[] {
  const ids = [...new Set([...manifest.extensionDependencies, ...manifest.extensionPack])];
  const bad = ids.find((one) => !isExtensionId(one));
  if (bad !== undefined)
    throw badArchive(`it needs ${JSON.stringify(bad.slice(0, 200))}, which is no extension`);
  if (ids.length > MAX_REQUIRED) throw badArchive(`it needs more than ${MAX_REQUIRED} others`);
  return [...new Set(ids.map((one) => one.toLowerCase()))].sort();
}

function factsOf(
  manifest: v.InferOutput<typeof Manifest>,
  files: ReadonlyMap<string, ArchiveFile>,
): ExtensionFacts {
  const { activationEvents: events, contributes, capabilities, main, browser } = manifest;
  const hasCode = main !== undefined || browser !== undefined;
  const commands = contributes.commands;
  const hasCommands = Array.isArray(commands) ? commands.length > 0 : commands !== undefined;
  const trust = capabilities.untrustedWorkspaces?.supported;
  return {
    hasCode,
    startsAlways: events.filter((one) => one === "*" || one === "onStartupFinished"),
    // Since 1.74 a command that is contributed starts its extension, whether or not an event says so.
    startsByCommand: hasCode && (hasCommands || events.some((one) => one.startsWith("onCommand:"))),
    startsByFiles: events.filter((one) => one.startsWith("workspaceContains:")),
    runsUntrusted: hasCode && (trust === true || trust === "limited"),
    machineCode: [...files].flatMap(([path, file]) => {
      const kind = machineCode(file);
      return kind === null ? [] : [{ path, kind }];
    }),
    uninstallScript: manifest.scripts[UNINSTALL] ?? null,
  };
}
