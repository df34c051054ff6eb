import { join } from "node:path";
import * as v from "valibot";
import { timestamp } from "./doc-fields.ts";
import { AegisError, messageOf } from "./errors.ts";
import { type Finding, ok, warn } from "./finding.ts";
import { FeedIndex, indexFile, STALE_DAYS } from "./osv-index.ts";
import { daysBetween } from "./osv-indexed.ts";
import { SYSTEM } from "./paths.ts";
import { readFileLimited, writeFileAtomic } from "./sys-files.ts";
import { plural } from "./terminal.ts";

/*
 * How the feeds of a host are: what the last passes found, and the age of the data. The files belong to an unprivileged account.
 */

const STATE_FILE = "state.json";
const MAX_STATE = 256 * 1024;

const short = v.pipe(v.string(), v.maxLength(1024));
const Attempt = v.strictObject({
  /** Where it is downloaded. */
  url: short,
  last_attempt: timestamp,
  /** When the server last gave or confirmed what is in the index; null if never. */
  last_success: v.nullable(timestamp),
  /** What went wrong at the last attempt; null if nothing did. */
  problem: v.nullable(short),
});
/** Names become files: none may lead elsewhere. */
const Name = v.pipe(v.string(), v.regex(/^[a-z]+(?:-[A-Za-z]+(?:\.[a-z]+)?)?$/));
const State = v.pipe(
  v.record(Name, Attempt),
  v.check((state) => Object.keys(state).length <= 32, "too many feeds"),
);
export type FeedAttempts = v.InferOutput<typeof State>;

/** A feed as `status`, `doctor` and the metrics tell it. */
export interface FeedAge {
  feed: string;
  url: string;
  /** Null if there is no index, or none that can be used. */
  records: number | null;
  /** Whole days since the newest date in the data; null without an index. */
  age_days: number | null;
  last_attempt: string;
  last_success: string | null;
  problem: string | null;
  /** Older than what plans warn of, or without any data. */
  stale: boolean;
}

/** @throws AegisError `io` for a state that can't be read */
export function readAttempts(directory: string): FeedAttempts {
  const path = join(directory, STATE_FILE);
  try {
    return v.parse(State, JSON.parse(readFileLimited(path, MAX_STATE, "no links").toString("utf8")));
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return {};
    throw new AegisError(
      "io",
      `${path} can't be used: ${messageOf(error)}`,
      `The next pass needs: rm ${path}`,
    );
  }
}

/** @throws AegisError `io` */
export function writeAttempts(directory: string, attempts: FeedAttempts): void {
  writeFileAtomic(join(directory, STATE_FILE), `${JSON.stringify(attempts, null, 1)}\n`, 0o644);
}

/**
 * Every feed that was ever tried and still is, by name; none where feeds are off.
 * @throws AegisError `io`
 */
export function feedAges(now: Date, directory: string = SYSTEM.feeds): FeedAge[] {
  return Object.entries(readAttempts(directory))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([feed, attempt]) => {
      const { records, age_days, problem } = indexed(join(directory, indexFile(feed)), now);
      return {
        feed,
        ...attempt,
        records,
        age_days,
        problem: attempt.problem ?? problem,
        stale: age_days === null || age_days > STALE_DAYS,
      };
    });
}

function indexed(path: string, now: Date): Pick<FeedAge, "records" | "age_days" | "problem"> {
  try {
    const description = FeedIndex.describe(path);
    if (description === null) return { records: null, age_days: null, problem: null };
    const { records, newest, made_at } = description;
    return { records, age_days: daysBetween(newest ?? made_at, now), problem: null };
  } catch (error) {
    return { records: null, age_days: null, problem: `${path}: ${messageOf(error)}` };
  }
}

/** A finding for each feed. @throws AegisError `io` */
export function feedFindings(now: Date = new Date(), directory: string = SYSTEM.feeds): Finding[] {
  return feedAges(now, directory).map(({ feed, url, records, age_days, last_success, problem, stale }) => {
    const what =
      records === null || age_days === null
        ? "no data"
        : `${plural(records, "record")}, newest ${age_days === 0 ? "of today" : `${plural(age_days, "day")} old`}`;
    const checked = last_success === null ? "never downloaded" : `confirmed ${last_success}`;
    const message = `${feed}: ${what}; ${checked}${problem === null ? "" : `; last attempt: ${problem}`}`;
    if (problem === null && !stale) return ok("feeds", message);
    return warn("feeds", message, `Asked: ${url}. Try again as root: systemctl start aegis-feeds.service`);
  });
}
