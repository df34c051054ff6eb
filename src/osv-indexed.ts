import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import * as v from "valibot";
import { VEX_STATUSES } from "./doc-plan-evidence.ts";
import { cveIn } from "./doc-vulnerabilities.ts";
import type { OsvEcosystem } from "./eco-grammar.ts";
import { messageOf } from "./errors.ts";
import { FeedIndex, type IndexedRecord, indexFile } from "./osv-index.ts";
import {
  type EpssScore,
  type OsvData,
  type OsvProblem,
  type OsvRecord,
  toStoredRecord,
  type VexStatement,
} from "./osv-record.ts";
import type { OsvSubject } from "./osv-subjects.ts";

/*
 * Looks packages up in this host's feeds. What is missing or damaged of OSV's records is a problem, since it would look like a clean
 * result; of CISA's catalog, the scores and VEX it only means to know less, and is said.
 */

/** Records read before yielding to the event loop, for the executor's `alive` events. */
const RECORDS_PER_TURN = 2000;
const MS_PER_DAY = 86_400_000;

const short = v.pipe(v.string(), v.maxLength(1024));
/** Rows of CISA's catalog and of FIRST's list, as the index has them. */
const EXPLOITED = /^(CVE-\d{4}-\d{4,19}),(\d{4}-\d\d-\d\d)$/;
const SCORE =
  /^(CVE-\d{4}-\d{4,19}),([01](?:\.\d{1,20})?|\d(?:\.\d{1,20})?e-\d{1,2}),([01](?:\.\d{1,20})?|\d(?:\.\d{1,20})?e-\d{1,2})$/;
const Statements = v.array(
  v.strictObject({
    // A document's names of one vulnerability: looked up for each product.
    vulnerabilities: v.pipe(v.array(short), v.maxLength(300)),
    products: v.array(short),
    status: v.picklist(VEX_STATUSES),
    justification: v.nullable(short),
    author: short,
    timestamp: v.nullable(short),
  }),
);
export type IndexedStatements = v.InferOutput<typeof Statements>;

/** The path of the index with an ecosystem's records. */
function osvIndexPath(directory: string, { base }: Pick<OsvEcosystem, "base">): string {
  return join(directory, indexFile(`osv-${base}`));
}

/** Whole days between two moments, at least 0. */
export function daysBetween(then: string, now: Date): number {
  return Math.max(0, Math.floor((now.getTime() - Date.parse(then)) / MS_PER_DAY));
}

/**
 * What the feeds in a directory say about the subjects.
 * @throws Error that says in words why the ecosystem's index can't be used
 */
export async function readFeeds(
  directory: string,
  ecosystem: OsvEcosystem,
  subjects: readonly OsvSubject[],
  now: Date,
): Promise<OsvData> {
  const index = FeedIndex.open(osvIndexPath(directory, ecosystem));
  if (index === null) throw new Error("there is none yet");
  try {
    const { release, newest, made_at } = index.description;
    const other = subjects.find(({ ecosystems }) => !ecosystems.some((one) => covers(release, one)));
    if (other !== undefined)
      throw new Error(`it was made for release ${release}; the next run of aegis-feeds makes a new one`);
    const names = new Set(subjects.flatMap((subject) => subject.names));
    const { records, problems } = await readRecords(index.find(names));
    const context = contextOf(directory, cvesOf(records), names);
    return { records, problems, ageDays: daysBetween(newest ?? made_at, now), ...context };
  } finally {
    index.close();
  }
}

/** Whether an index limited to a release has the records of an ecosystem: `24.04` those of `Ubuntu:Pro:24.04:LTS`. */
function covers(release: string | null, ecosystem: string): boolean {
  return release === null || ecosystem.split(":").includes(release);
}

/** A record's parts, one for each package that it names, put together again. */
async function readRecords(
  found: Iterable<IndexedRecord>,
): Promise<{ records: OsvRecord[]; problems: OsvProblem[] }> {
  const records = new Map<string, OsvRecord>();
  const problems: OsvProblem[] = [];
  let read = 0;
  for (const { key, text } of found) {
    if (++read % RECORDS_PER_TURN === 0) await turn();
    const record = toStoredRecord(parsed(text));
    if (record === null) {
      problems.push({ names: [key], what: `a record about ${key} can't be read` });
      continue;
    }
    const part = `${record.id} ${record.modified}`;
    const other = records.get(part);
    if (other === undefined) records.set(part, record);
    else other.affected.push(...record.affected);
  }
  return { records: [...records.values()], problems };
}

/** The vulnerabilities' names in the terms of CISA, FIRST and VEX. */
function cvesOf(records: readonly OsvRecord[]): Set<string> {
  const ids = records.flatMap(({ id, aliases, upstream }) => [id, ...aliases, ...upstream]);
  return new Set(ids.flatMap((id) => cveIn(id) ?? []));
}

function contextOf(directory: string, cves: ReadonlySet<string>, names: ReadonlySet<string>) {
  const exploited = new Map<string, string>();
  const epss = new Map<string, EpssScore>();
  const vex: VexStatement[] = [];
  const notes = [
    ...each(directory, "kev", cves, (text) => {
      const [, cve = "", added = ""] = EXPLOITED.exec(text) ?? [];
      if (added === "") throw new Error("a row of it can't be read");
      exploited.set(cve, added);
    }),
    ...each(directory, "epss", cves, (text) => {
      const [, cve = "", score, percentile] = SCORE.exec(text) ?? [];
      const one = { score: Number(score), percentile: Number(percentile) };
      if (!(one.score <= 1 && one.percentile <= 1)) throw new Error("a row of it can't be read");
      epss.set(cve, one);
    }),
    ...each(directory, "vex", cves, (text, url) => {
      for (const statement of v.parse(Statements, JSON.parse(text))) {
        const products = statement.products.filter((purl) => names.has(packageOf(purl)));
        // The administrator chose the address for Ubuntu's own statements.
        if (products.length > 0) vex.push({ ...statement, products, source: url, authentic: true });
      }
    }),
  ];
  return { exploited, epss, vex, ...(notes.length === 0 ? {} : { notes }) };
}

/** Passes on what a feed says about the keys; returns what went wrong in words. A feed that isn't there says nothing. */
function each(
  directory: string,
  feed: string,
  keys: ReadonlySet<string>,
  take: (text: string, url: string) => void,
): string[] {
  const path = join(directory, indexFile(feed));
  let index: FeedIndex | null = null;
  try {
    index = FeedIndex.open(path);
    if (index === null) return [];
    for (const { text } of index.find(keys)) take(text, index.description.url);
    return [];
  } catch (error) {
    return [`${path} could not be used: ${messageOf(error).slice(0, 300)}`];
  } finally {
    index?.close();
  }
}

/** `unbound` of `pkg:deb/ubuntu/unbound@1.22.0-1ubuntu1?arch=source&distro=plucky`; empty for anything else. */
function packageOf(purl: string): string {
  const name = /^pkg:deb\/ubuntu\/([^@?#/]+)@/.exec(purl)?.[1] ?? "";
  try {
    return decodeURIComponent(name);
  } catch {
    return "";
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
