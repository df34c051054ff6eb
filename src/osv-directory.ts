import { setImmediate as turn } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { cveIn } from "./doc-vulnerabilities.ts";
import type { OsvEcosystem } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { kindOf, parseEpss, parseKev, parseVex } from "./osv-context.ts";
import {
  type EpssScore,
  MAX_RECORD,
  type OsvData,
  type OsvProblem,
  type OsvRecord,
  toOsvRecord,
  type VexStatement,
} from "./osv-record.ts";

/** OSV's largest ecosystem has about 300,000 records. */
const MAX_FILES = 1_000_000;
/** In characters. */
const MAX_TOTAL = 4 * 1024 ** 3;
/** Files read before yielding to the event loop, for the executor's `alive` events. */
const FILES_PER_TURN = 500;
/** Cautious: a name written with an escape ends at the backslash and counts as wanted. */
const NAMES = /"name"\s*:\s*"([^"\\]*)(["\\])/g;
const MS_PER_DAY = 86_400_000;
const MODIFIED = /"modified"\s*:\s*"(\d{4}-\d\d-\d\dT[\d:]{8})/;

/** EPSS scores as FIRST names them: the last of several is the newest. */
const EPSS = /^epss_scores-[\w.-]+\.csv(\.gz)?$/;
const MAX_EPSS = 64 * 1024 * 1024;
/** Where VEX documents are, as in Ubuntu's own archive: `vex/cve/2025/CVE-2025-5994.json`. */
const VEX = "vex";
const VEX_DEPTH = 3;

type Reader = Pick<Planning, "now" | "readText" | "readBytes" | "list">;

/**
 * The records in a directory that name one of `names`: files `*.json`, directly in it or one level down in directories
 * named after the ecosystem (`Debian`, `Debian:12`), as in OSV's exports. Each file is read once; only those naming a
 * wanted package are parsed. Unreadable files are problems, and so is a directory without records.
 *
 * Beside them: CISA's catalog and OpenVEX documents, known by their content, the latter also below `vex`, and EPSS scores by their
 * name. A catalog that can't be read is a problem too, since the policy asks it; of the others the plan says so.
 */
export async function readOsvDirectory(
  directory: string,
  { base, purl }: Pick<OsvEcosystem, "base" | "purl">,
  names: ReadonlySet<string>,
  planning: Reader,
): Promise<OsvData> {
  const { files, problems } = filesOf(directory, base, planning);
  if (files.length === 0) {
    return failed(`there are no readable *.json files in it, nor below a directory ${base}`);
  }
  if (files.length > MAX_FILES) return failed(`it has more than ${MAX_FILES} files`);
  const records: OsvRecord[] = [];
  const exploited = new Map<string, string>();
  const vex: VexStatement[] = [];
  const notes: string[] = [];
  let newest = "";
  let total = 0;
  for (const [i, file] of files.entries()) {
    if (i % FILES_PER_TURN === 0) await turn();
    const isVex = file.startsWith(`${VEX}/`);
    const text = planning.readText(`${directory}/${file}`);
    if (text === null || text.length > MAX_RECORD || !text.trimEnd().endsWith("}")) {
      const what = `${file} is unreadable, too large or cut off`;
      if (isVex) notes.push(what);
      else problems.push({ names: null, what });
      continue;
    }
    total += text.length;
    if (total > MAX_TOTAL) return failed(`its files are larger than ${MAX_TOTAL} characters together`);
    const kind = isVex ? "vex" : kindOf(text);
    if (kind === "kev") {
      const found = parseKev(parse(text));
      if (found === null)
        problems.push({ names: null, what: `${file} is not a catalog of exploited vulnerabilities` });
      for (const [cve, since] of found ?? []) exploited.set(cve, since);
      continue;
    }
    if (kind === "vex") {
      if (!namesProduct(text, purl, names)) continue;
      // Whoever filled the directory is not known to be the distribution.
      const found = parseVex(parse(text), file, false);
      if (found === null) notes.push(`${file} is not an OpenVEX document`);
      vex.push(...(found ?? []));
      continue;
    }
    const modified = MODIFIED.exec(text)?.[1] ?? "";
    if (modified > newest) newest = modified;
    const wanted = wantedIn(text, names);
    if (wanted.length === 0) continue;
    const record = toOsvRecord(parse(text));
    if (record === null) problems.push({ names: wanted, what: `${file} is not an OSV record` });
    else records.push(record);
  }
  const epss = epssIn(directory, records, notes, planning);
  return { records, problems, ageDays: ageInDays(newest, planning.now), exploited, epss, vex, notes };
}

/** The scores of the records' CVEs. Adds to `notes` where there is a file that can't be read. */
function epssIn(
  directory: string,
  records: readonly OsvRecord[],
  notes: string[],
  { list, readText, readBytes }: Reader,
): Map<string, EpssScore> {
  const file = list(directory).findLast((name) => EPSS.test(name));
  if (file === undefined) return new Map();
  const path = `${directory}/${file}`;
  const text = file.endsWith(".gz") ? gunzipped(readBytes?.(path) ?? null) : readText(path);
  const cves = records.flatMap(({ id, aliases, upstream }) => [id, ...aliases, ...upstream].map(cveIn));
  const scores = parseEpss(text ?? "", new Set(cves.filter((cve) => cve !== null)));
  if (scores === null) notes.push(`${file} could not be read as EPSS scores`);
  return scores ?? new Map();
}

function gunzipped(bytes: Uint8Array | null): string | null {
  try {
    return bytes === null ? null : gunzipSync(bytes, { maxOutputLength: MAX_EPSS }).toString();
  } catch {
    return null;
  }
}

function failed(what: string): OsvData {
  return { records: [], problems: [{ names: null, what }], ageDays: null };
}

function filesOf(
  directory: string,
  ecosystem: string,
  { list }: Pick<Planning, "list">,
): { files: string[]; problems: OsvProblem[] } {
  const isRecord = (name: string) => name.endsWith(".json") && !name.startsWith(".");
  const problems: OsvProblem[] = [];
  const below = (path: string, depth: number): string[] =>
    list(`${directory}/${path}`).flatMap((name) => {
      if (isRecord(name)) return [`${path}/${name}`];
      return depth > 0 && !name.includes(".") ? below(`${path}/${name}`, depth - 1) : [];
    });
  const files = list(directory).flatMap((name) => {
    if (isRecord(name)) return [name];
    if (name === VEX) return below(VEX, VEX_DEPTH);
    if (name !== ecosystem && !name.startsWith(`${ecosystem}:`)) return [];
    const inIt = list(`${directory}/${name}`).filter(isRecord);
    if (inIt.length === 0) problems.push({ names: null, what: `${name} in it has no readable *.json files` });
    return inIt.map((file) => `${name}/${file}`);
  });
  return { files, problems };
}

/** The wanted names in a text as `"name"`; all of them if a name is written with an escape. */
function wantedIn(text: string, names: ReadonlySet<string>): string[] {
  const found = new Set<string>();
  for (const [, name = "", end] of text.matchAll(NAMES)) {
    if (end === "\\") return [...names];
    if (names.has(name)) found.add(name);
  }
  return [...found];
}

/** Whether a text has a package URL of one of `names`. */
function namesProduct(text: string, purl: string, names: ReadonlySet<string>): boolean {
  const beginning = `"pkg:${purl}/`;
  for (let at = text.indexOf(beginning); at >= 0; at = text.indexOf(beginning, at + 1)) {
    const start = at + beginning.length;
    const name = /^[^"@?#]*/.exec(text.slice(start, start + 512))?.[0] ?? "";
    // Cautious: what is escaped may be anything.
    if (names.has(name) || name.includes("%")) return true;
  }
  return false;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Whole days since the newest record was modified, the age of the whole copy; null if unknown. */
function ageInDays(newest: string, now: Date): number | null {
  const then = Date.parse(`${newest}Z`);
  return Number.isFinite(then) ? Math.max(0, Math.floor((now.getTime() - then) / MS_PER_DAY)) : null;
}
