import { setImmediate as turn } from "node:timers/promises";
import type { Planning } from "./eco-planning.ts";
import { MAX_RECORD, type OsvData, type OsvProblem, type OsvRecord, toOsvRecord } from "./osv-record.ts";

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

/**
 * The records in a directory that name one of `names`: files `*.json`, directly in it or one level down in directories
 * named after the ecosystem (`Debian`, `Debian:12`), as in OSV's exports. Each file is read once; only those naming a
 * wanted package are parsed. Unreadable files are problems, and so is a directory without records.
 */
export async function readOsvDirectory(
  directory: string,
  ecosystem: string,
  names: ReadonlySet<string>,
  planning: Pick<Planning, "now" | "readText" | "list">,
): Promise<OsvData> {
  const { files, problems } = filesOf(directory, ecosystem, planning);
  if (files.length === 0) {
    return failed(`there are no readable *.json files in it, nor below a directory ${ecosystem}`);
  }
  if (files.length > MAX_FILES) return failed(`it has more than ${MAX_FILES} files`);
  const records: OsvRecord[] = [];
  let newest = "";
  let total = 0;
  for (const [i, file] of files.entries()) {
    if (i % FILES_PER_TURN === 0) await turn();
    const text = planning.readText(`${directory}/${file}`);
    if (text === null || text.length > MAX_RECORD || !text.trimEnd().endsWith("}")) {
      problems.push({ names: null, what: `${file} is unreadable, too large or cut off` });
      continue;
    }
    total += text.length;
    if (total > MAX_TOTAL) return failed(`its files are larger than ${MAX_TOTAL} characters together`);
    const modified = MODIFIED.exec(text)?.[1] ?? "";
    if (modified > newest) newest = modified;
    const wanted = wantedIn(text, names);
    if (wanted.length === 0) continue;
    const record = parse(text);
    if (record === null) problems.push({ names: wanted, what: `${file} is not an OSV record` });
    else records.push(record);
  }
  return { records, problems, ageDays: ageInDays(newest, planning.now) };
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
  const files = list(directory).flatMap((name) => {
    if (isRecord(name)) return [name];
    if (name !== ecosystem && !name.startsWith(`${ecosystem}:`)) return [];
    const below = list(`${directory}/${name}`).filter(isRecord);
    if (below.length === 0)
      problems.push({ names: null, what: `${name} in it has no readable *.json files` });
    return below.map((file) => `${name}/${file}`);
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

function parse(text: string): OsvRecord | null {
  try {
    return toOsvRecord(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Whole days since the newest record was modified, the age of the whole copy; null if unknown. */
function ageInDays(newest: string, now: Date): number | null {
  const then = Date.parse(`${newest}Z`);
  return Number.isFinite(then) ? Math.max(0, Math.floor((now.getTime() - then) / MS_PER_DAY)) : null;
}
