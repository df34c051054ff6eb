import * as v from "valibot";
import { AegisError } from "./errors.ts";
import {
  isOsvId,
  MAX_RECORD,
  type OsvData,
  type OsvProblem,
  type OsvRecord,
  toOsvRecord,
} from "./osv-record.ts";
import type { OsvSubject } from "./osv-subjects.ts";
import { fetchJson } from "./sys-fetch.ts";

/*
 * An OSV API (https://google.github.io/osv.dev/api/). Planning otherwise sends only GET requests; the batch query is a
 * POST by the API's design. It changes nothing on the server, and its body contains only ecosystem, names and versions.
 * Whether a record applies is evaluated here, as for a directory.
 */

/** The API's limit on queries per request. */
const BATCH = 1000;
const MAX_PAGES = 100;
const MAX_RECORDS = 5000;
const MAX_ANSWER = 32 * 1024 * 1024;
/** For all requests in total. */
const TIMEOUT_MS = 60_000;
const CONCURRENCY = 16;

interface Query {
  package: { ecosystem: string; name: string };
  version: string;
  page_token?: string;
}

const Answer = v.object({
  results: v.array(
    v.nullish(
      v.object({
        vulns: v.nullish(v.array(v.object({ id: v.custom<string>(isOsvId, "not an identifier") })), []),
        next_page_token: v.nullish(v.pipe(v.string(), v.maxLength(4096)), ""),
      }),
      {},
    ),
  ),
});

/**
 * An API's records for the subjects. A record that can't be retrieved is a problem for the packages it was listed for.
 * @throws AegisError `unavailable` if the API gives no usable answer
 */
export async function queryOsvApi(
  api: URL,
  subjects: readonly OsvSubject[],
  timeoutMs = TIMEOUT_MS,
): Promise<OsvData> {
  const signal = AbortSignal.timeout(timeoutMs);
  const named = await namedRecords(api, queriesOf(subjects), signal);
  if (named.size > MAX_RECORDS) throw unusable(api, `it names more than ${MAX_RECORDS} records`);
  const records: OsvRecord[] = [];
  const problems: OsvProblem[] = [];
  const waiting = [...named];
  const worker = async () => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [id, names] = next;
      const record = toOsvRecord(await get(api, id, signal));
      const right = record?.id === id && record.affected.some((a) => names.has(a.package?.name ?? ""));
      if (record !== null && right) records.push(record);
      else
        problems.push({ names: [...names], what: `${id} is not a record of the package it was listed for` });
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return { records, problems, ageDays: 0 };
}

function get(api: URL, id: string, signal: AbortSignal): Promise<unknown> {
  return fetchJson(below(api, `v1/vulns/${encodeURIComponent(id)}`), { signal, maxBytes: MAX_RECORD });
}

function queriesOf(subjects: readonly OsvSubject[]): Query[] {
  const queries = new Map<string, Query>();
  for (const { names, ecosystems, osvVersion: version } of subjects) {
    for (const ecosystem of ecosystems) {
      for (const name of names) {
        queries.set(JSON.stringify([ecosystem, name, version]), { package: { ecosystem, name }, version });
      }
    }
  }
  return [...queries.values()];
}

/** Record ids, each with the package names it was listed for. */
async function namedRecords(
  api: URL,
  queries: Query[],
  signal: AbortSignal,
): Promise<Map<string, Set<string>>> {
  const named = new Map<string, Set<string>>();
  let waiting = queries;
  for (let page = 0; waiting.length > 0; page++) {
    if (page === MAX_PAGES) throw unusable(api, `it has more than ${MAX_PAGES} pages`);
    const asked = waiting.slice(0, BATCH);
    waiting = waiting.slice(BATCH);
    const body = { queries: asked };
    const answer = await fetchJson(below(api, "v1/querybatch"), { body, signal, maxBytes: MAX_ANSWER });
    const parsed = v.safeParse(Answer, answer);
    // The results carry no names; only their order relates them to the queries.
    if (!parsed.success || parsed.output.results.length !== asked.length) {
      throw unusable(api, "its answer is not one result for each query");
    }
    for (const [i, query] of asked.entries()) {
      const result = parsed.output.results[i];
      for (const { id } of result?.vulns ?? []) {
        named.set(id, (named.get(id) ?? new Set()).add(query.package.name));
      }
      const token = result?.next_page_token ?? "";
      if (token !== "") waiting.push({ ...query, page_token: token });
    }
  }
  return named;
}

function below(api: URL, path: string): URL {
  return new URL(path, api.href.endsWith("/") ? api : `${api.href}/`);
}

function unusable(api: URL, why: string): AegisError {
  return new AegisError("unavailable", `${api.host} gave no usable answer: ${why}`);
}
