import { createHash } from "node:crypto";
import { type ArchiveFile, badArchive } from "./eco-archive.ts";
import { machineCode } from "./eco-closure.ts";
import { readZip } from "./eco-zip.ts";
import type { Wheel } from "./pip-index.ts";
import { parseRequirement, type Requirement } from "./pip-requirement.ts";
import { normalName } from "./pip-target.ts";
import { comparePython, isPythonVersion } from "./pip-version.ts";

/*
 * A wheel looked into, without running anything: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
 */

const MAX_SCRIPT = 64 * 1024;

/** Core metadata, as far as planning needs it. https://packaging.python.org/en/latest/specifications/core-metadata/ */
export interface WheelMetadata {
  requires: Requirement[];
  requiresPython: string | null;
  license: string | null;
  author: string | null;
  sha256: string;
}

export interface WheelContents {
  metadata: WheelMetadata;
  /** Bytes of the wheel. */
  size: number;
  /** Text that Python or a person's shell runs: `.pth` lines that import, scripts of `*.data/scripts`. */
  scripts: { name: string; body: string }[];
  /** Files of machine code. */
  native: string[];
  /** Commands that installing makes. */
  commands: string[];
  /** Its archive or its RECORD can't be believed: why; null where it can. */
  problem: string | null;
}

/**
 * Reads a wheel.
 * @throws AegisError `refused` for an archive that can't be used, or without readable metadata
 */
export function readWheel(bytes: Uint8Array, wheel: Pick<Wheel, "name" | "version">): WheelContents {
  const files = readZip(bytes);
  const info = infoDirectory(files, wheel);
  const fileOf = (name: string) => files.find(({ path }) => path === `${info}/${name}`);
  const metadataFile = fileOf("METADATA");
  if (metadataFile === undefined) throw badArchive(`it has no ${info}/METADATA`);
  const metadata = readMetadata(metadataFile.data, wheel);
  if (typeof metadata === "string") throw badArchive(metadata);
  const scripts: WheelContents["scripts"] = [];
  const native: string[] = [];
  const commands = new Set(consoleScripts(textOf(fileOf("entry_points.txt"))));
  let problem = recordProblem(files, info);
  for (const file of files) {
    const { path } = file;
    if (machineCode(file) !== null) native.push(path);
    const script = /^[^/]+\.data\/scripts\/([^/]+)$/.exec(path)?.[1];
    if (script !== undefined) commands.add(script);
    const runs = script !== undefined ? machineCode(file) === null : isStartupFile(file);
    if (!runs) continue;
    if (file.data.length > MAX_SCRIPT)
      problem ??= `${path} is longer than ${MAX_SCRIPT} bytes, so it can't be judged`;
    else scripts.push({ name: path, body: textOf(file) });
  }
  return { metadata, size: bytes.length, scripts, native, commands: [...commands].sort(), problem };
}

/** The wheel's one `.dist-info` directory, which must be named after it. */
export function infoDirectory(
  files: readonly ArchiveFile[],
  { name, version }: Pick<Wheel, "name" | "version">,
): string {
  const directories = new Set(files.flatMap(({ path }) => /^[^/]+\.dist-info(?=\/)/.exec(path)?.[0] ?? []));
  const [info = "", second] = directories;
  if (info === "" || second !== undefined) throw badArchive("it has not exactly one .dist-info directory");
  const stem = info.replace(/\.dist-info$/, "");
  const dash = stem.indexOf("-");
  const said = stem.slice(dash + 1).replaceAll("_", "-");
  if (
    normalName(stem.slice(0, Math.max(dash, 0))) !== name ||
    !isPythonVersion(said) ||
    comparePython(said, version) !== 0
  )
    throw badArchive(`its ${JSON.stringify(info)} is of another package than ${name} ${version}`);
  return info;
}

/** Core metadata read; a text says why it can't be used. */
export function readMetadata(
  data: Uint8Array,
  { name, version }: Pick<Wheel, "name" | "version">,
): WheelMetadata | string {
  const fields = headersOf(Buffer.from(data).toString("utf8"));
  const one = (field: string) => fields.find(([key]) => key === field)?.[1] ?? null;
  const [ownName, ownVersion] = [one("name") ?? "", one("version") ?? ""];
  if (
    normalName(ownName) !== name ||
    !isPythonVersion(ownVersion) ||
    comparePython(ownVersion, version) !== 0
  )
    return `its metadata is of ${JSON.stringify(`${ownName} ${ownVersion}`.slice(0, 200))}`;
  const requires: Requirement[] = [];
  for (const [key, value] of fields) {
    if (key !== "requires-dist") continue;
    const requirement = parseRequirement(value);
    if (requirement === null) return `its requirement ${JSON.stringify(value.slice(0, 200))} can't be read`;
    requires.push(requirement);
  }
  return {
    requires,
    requiresPython: one("requires-python"),
    license: licenseOf(fields),
    author: one("author") ?? one("author-email") ?? one("maintainer") ?? one("maintainer-email"),
    sha256: createHash("sha256").update(data).digest("hex"),
  };
}

/** The licence as it is stated: an expression, else a name, else a classifier; some have its whole text as a name. */
function licenseOf(fields: readonly [string, string][]): string | null {
  const all = (field: string) =>
    fields.flatMap(([key, value]) => (key === field && value !== "UNKNOWN" ? [value] : []));
  const classifiers = all("classifier").flatMap(
    (one) => /^License :: (?:OSI Approved :: )?(.*)$/.exec(one)?.[1] ?? [],
  );
  const names = all("license").filter((one) => one !== "");
  const short = names.filter((one) => !one.includes("\n"));
  const [stated] = [...all("license-expression"), ...short, ...classifiers, ...names];
  return stated?.split("\n")[0]?.slice(0, 200) ?? null;
}

function headersOf(text: string): [field: string, value: string][] {
  const fields: [string, string][] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line === "") break;
    const last = fields.at(-1);
    const [, key, value = ""] = /^([A-Za-z0-9-]+):\s*(.*)$/.exec(line) ?? [];
    if (key !== undefined) fields.push([key.toLowerCase(), value.trim()]);
    else if (/^[ \t]/.test(line) && last !== undefined) last[1] += `\n${line.trim()}`;
  }
  return fields;
}

const HASHES: Readonly<Record<string, string>> = { sha256: "sha256", sha384: "sha384", sha512: "sha512" };

/** What RECORD says that isn't so; null where every file is in it with its hash, and nothing else is. */
function recordProblem(files: readonly ArchiveFile[], info: string): string | null {
  const record = files.find(({ path }) => path === `${info}/RECORD`);
  if (record === undefined) return "it has no RECORD";
  const rows = readCsv(textOf(record));
  if (rows === null) return "its RECORD can't be read";
  const left = new Map(files.map((file) => [file.path, file]));
  for (const [path = "", hash = "", size = ""] of rows) {
    const file = left.get(path);
    if (file === undefined)
      return `its RECORD names ${JSON.stringify(path.slice(0, 200))}, which is not in it, or twice`;
    left.delete(path);
    // RECORD can't have its own hash, nor those of its signatures.
    if (path === `${info}/RECORD` || path === `${info}/RECORD.jws` || path === `${info}/RECORD.p7s`) continue;
    const [algorithm = "", digest = ""] = hash.split("=");
    const known = HASHES[algorithm];
    if (known === undefined) return `its RECORD has no usable hash of ${JSON.stringify(path)}`;
    const real = createHash(known).update(file.data).digest("base64url");
    if (real !== digest || (size !== "" && Number(size) !== file.data.length))
      return `its RECORD lies about ${JSON.stringify(path)}`;
  }
  const [missing] = [...left.keys()].filter((path) => !/\.dist-info\/RECORD(?:\.jws|\.p7s)$/.test(path));
  return missing === undefined ? null : `its RECORD leaves out ${JSON.stringify(missing)}`;
}

/** Rows of a CSV text as Python's csv module writes it; null where a quote isn't closed. */
export function readCsv(text: string): string[][] | null {
  const rows: string[][] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line === "") continue;
    const cells: string[] = [];
    let rest = line;
    for (let more = true; more; ) {
      const [whole, quoted, plain = ""] = /^(?:"((?:[^"]|"")*)"|([^",]*))(?=,|$)/.exec(rest) ?? [];
      if (whole === undefined) return null;
      cells.push(quoted?.replaceAll('""', '"') ?? plain);
      rest = rest.slice(whole.length);
      more = rest.startsWith(",");
      rest = rest.slice(1);
    }
    rows.push(cells);
  }
  return rows;
}

/** Names of `[console_scripts]` and `[gui_scripts]`. https://packaging.python.org/en/latest/specifications/entry-points/ */
function consoleScripts(text: string): string[] {
  let section = "";
  return text.split(/\r?\n/).flatMap((line) => {
    const header = /^\s*\[([^\]]+)\]\s*$/.exec(line)?.[1];
    if (header !== undefined) section = header.trim();
    const name = /^\s*([^=#;[\s][^=]*?)\s*=/.exec(line)?.[1];
    return header === undefined && name !== undefined && /^(?:console|gui)_scripts$/.test(section)
      ? [name]
      : [];
  });
}

/** What Python runs when it starts, at the top of the packages. https://docs.python.org/3/library/site.html */
function isStartupFile(file: ArchiveFile): boolean {
  const name = file.path.replace(/^[^/]+\.data\/(?:purelib|platlib)\//, "");
  if (/^(?:site|user)customize(?:\/__init__)?\.py$/.test(name)) return true;
  return /^[^/]+\.pth$/.test(name) && /^import[ \t]/m.test(textOf(file));
}

function textOf(file: ArchiveFile | undefined): string {
  return Buffer.from(file?.data ?? []).toString("utf8");
}
