import { closeSync, constants, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { AegisError, messageOf } from "./errors.ts";
import { readFeedFile, readFeedTar, readFeedZip } from "./feeds-archive.ts";
import { conditionsOf, downloadFeed } from "./feeds-download.ts";
import { osvEntries, vexEntries } from "./feeds-records.ts";
import { type Feed, type FeedSettings, feedSettings } from "./feeds-settings.ts";
import { type FeedAttempts, readAttempts, writeAttempts } from "./feeds-state.ts";
import type { Log } from "./log.ts";
import { parseEpss, parseKev } from "./osv-context.ts";
import { FeedIndex, type IndexDescription, indexFile } from "./osv-index.ts";
import { IndexWriter } from "./osv-index-write.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { VERSION } from "./self.ts";
import { tryFlock } from "./sys-ffi.ts";
import { fileProblem, namesIn, readText } from "./sys-files.ts";
import { resolveProgram } from "./sys-spawn.ts";

/*
 * `aegis daemon --feeds`: one pass over the feeds. Each is asked whether it has changed, downloaded to a file, read whole, and only
 * then takes the place of what there was. A feed that fails leaves its old index and the other feeds alone.
 */

const SILENCE_MS = 60_000;
/** A new index with a smaller share of the old one's records is more likely a fault than news. */
const SMALLEST_SHARE = 0.5;

/** Where a pass works, and its means. */
export interface FeedsWorld {
  directory: string;
  settings: FeedSettings;
  now(): Date;
  /** Silence of a server in milliseconds that ends a download. */
  silenceMs: number;
}

/**
 * The service: one pass with this host's settings. Not as root: it reads what strangers write.
 * @throws AegisError `usage` for root, `invalid_config`, `busy`, `io`
 */
export async function runFeeds(env: Env, log: Log): Promise<void> {
  if (process.getuid?.() === 0)
    throw new AegisError(
      "usage",
      "the feeds are not downloaded as root",
      "Type: systemctl start aegis-feeds.service",
    );
  const settings = feedSettings(env, readText, (name) => resolveProgram(name) !== null);
  const now = () => new Date();
  await passOver({ directory: SYSTEM.feeds, settings, now, silenceMs: SILENCE_MS }, log);
}

/**
 * One pass. What fails of single feeds is in the state and the log.
 * @throws AegisError `busy` while another pass runs, `io` if the directory can't be used
 */
export async function passOver(world: FeedsWorld, log: Log): Promise<void> {
  const { directory, settings, now } = world;
  const lock = lockDirectory(directory);
  try {
    tidy(directory, settings.feeds);
    const before = stateOrNone(directory, log);
    const attempts: FeedAttempts = {};
    for (const { name } of settings.feeds) if (before[name] !== undefined) attempts[name] = before[name];
    for (const feed of settings.feeds) {
      const last_attempt = now().toISOString();
      const url = feed.url.href.slice(0, 1024);
      try {
        const facts = await update(feed, world);
        attempts[feed.name] = { url, last_attempt, last_success: now().toISOString(), problem: null };
        log.info(facts.changed ? "updated" : "unchanged", { feed: feed.name, records: facts.records });
      } catch (error) {
        const problem = clipped(error instanceof AegisError ? error.message : fileProblem(error));
        const last_success = before[feed.name]?.last_success ?? null;
        attempts[feed.name] = { url, last_attempt, last_success, problem };
        log.warn("not updated", { feed: feed.name, problem });
      }
      writeAttempts(directory, attempts);
    }
  } finally {
    closeSync(lock);
  }
}

/** Removes what a killed pass left, and the data of feeds that are not asked any more: it would grow old, and plans would use it. */
function tidy(directory: string, feeds: readonly Feed[]): void {
  const wanted = new Set(feeds.map(({ name }) => indexFile(name)));
  const isLeft = (name: string) =>
    /^\..+\.(?:download|index|tmp)$/.test(name) || (/\.index$/.test(name) && !wanted.has(name));
  for (const name of namesIn(directory).filter(isLeft)) rmSync(join(directory, name), { force: true });
}

function clipped(text: string): string {
  return text.slice(0, 1000).toWellFormed();
}

function stateOrNone(directory: string, log: Log): FeedAttempts {
  try {
    return readAttempts(directory);
  } catch (error) {
    log.warn("the state is begun anew", { problem: messageOf(error) });
    return {};
  }
}

/** The lock of a pass. The kernel releases it when the process ends, in whatever way. */
function lockDirectory(directory: string): number {
  const path = join(directory, ".lock");
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    throw new AegisError(
      "io",
      `can't open ${path}: ${fileProblem(error)}`,
      "Type as root: aegis daemon install --feeds",
    );
  }
  if (tryFlock(fd)) return fd;
  closeSync(fd);
  throw new AegisError(
    "busy",
    "another pass over the feeds is running",
    "See: systemctl status aegis-feeds.service",
  );
}

/** @throws Error that says in words why the old index stays */
async function update(feed: Feed, world: FeedsWorld): Promise<{ changed: boolean; records: number }> {
  const { settings, silenceMs } = world;
  const { proxy } = settings;
  const path = join(world.directory, indexFile(feed.name));
  const old = descriptionAt(path);
  const same = old !== null && isSameFeed(old, feed);
  const packed = join(world.directory, `.${feed.name}.download`);
  try {
    const unless = same && old.made_by === VERSION ? conditionsOf(old) : {};
    const answer = await downloadFeed(feed, packed, unless, { proxy, silenceMs });
    if (answer.status === 304 && old !== null) return { changed: false, records: old.records };
    const atLeast = same ? old.records * SMALLEST_SHARE : 1;
    const records = await buildIndex(feed, packed, path, answer.headers, Math.ceil(atLeast), world);
    return { changed: true, records };
  } finally {
    rmSync(packed, { force: true });
  }
}

/** Null also for an index that can't be used: the download replaces it. */
function descriptionAt(path: string): IndexDescription | null {
  let index: FeedIndex | null = null;
  try {
    index = FeedIndex.open(path);
    return index?.description ?? null;
  } catch {
    return null;
  } finally {
    index?.close();
  }
}

function isSameFeed({ feed, url, release }: IndexDescription, now: Feed): boolean {
  return feed === now.name && url === now.url.href.slice(0, 1024) && release === releaseOf(now);
}

function releaseOf(feed: Feed): string | null {
  if (feed.kind === "osv") return feed.wanted.release;
  return feed.kind === "vex" ? feed.release : null;
}

/** Reads a download and puts its index in the place of the old one. Returns the number of records. */
async function buildIndex(
  feed: Feed,
  packed: string,
  path: string,
  headers: Headers,
  atLeast: number,
  world: FeedsWorld,
): Promise<number> {
  const writer = new IndexWriter(path, join(world.directory, `.${feed.name}.index`));
  try {
    const made = world.now();
    let records = 0;
    let newest = Number.NaN;
    for await (const { entries, date } of read(feed, packed)) {
      for (const { keys, text } of entries) writer.add(keys, text);
      records += entries.length;
      // A date in the future would make old data look new.
      if (date <= made.getTime() && !(date <= newest)) newest = date;
    }
    if (records === 0) throw new Error("it has no record for this host");
    if (records < atLeast)
      throw new Error(
        `it has ${records} records where at least ${atLeast} were expected: remove ${path} if that is right`,
      );
    writer.finish({
      feed: feed.name,
      made_by: VERSION,
      url: feed.url.href.slice(0, 1024),
      release: releaseOf(feed),
      made_at: made.toISOString(),
      newest: Number.isFinite(newest) ? new Date(newest).toISOString() : null,
      etag: kept(headers.get("etag")),
      last_modified: kept(headers.get("last-modified")),
      records,
    });
    return records;
  } finally {
    writer.abandon();
  }
}

/** A header to send back; none if it is longer than any server's. */
function kept(header: string | null): string {
  return header === null || header.length > 1024 ? "" : header;
}

interface Piece {
  entries: readonly { keys: readonly string[]; text: string }[];
  date: number;
}

async function* read(feed: Feed, path: string): AsyncGenerator<Piece> {
  switch (feed.kind) {
    case "osv":
      for (const { name, data } of readFeedZip(path, feed.limits))
        if (name.endsWith(".json")) yield named(name, () => osvEntries(data, feed.wanted));
      return;
    case "vex":
      // The notices (vex/usn) repeat what the documents of the CVEs say.
      for await (const { name, data } of readFeedTar(path, feed.limits))
        if (/(?:^|\/)cve\/.*\.json$/.test(name)) yield named(name, () => vexEntries(data, feed.codename));
      return;
    case "kev":
      yield kevPiece((await readFeedFile(path, feed.limits)).toString("utf8"));
      return;
    case "epss":
      yield epssPiece((await readFeedFile(path, feed.limits)).toString("utf8"));
  }
}

function named<T>(name: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new Error(`${name} in it can't be read: ${messageOf(error)}`);
  }
}

const Catalog = v.object({
  count: v.number(),
  dateReleased: v.string(),
  vulnerabilities: v.array(v.unknown()),
});

function kevPiece(text: string): Piece {
  const tree: unknown = JSON.parse(text);
  const [exploited, catalog] = [parseKev(tree), v.safeParse(Catalog, tree)];
  if (exploited === null || !catalog.success) throw new Error("it is not CISA's catalog");
  const { count, dateReleased, vulnerabilities } = catalog.output;
  if (count !== vulnerabilities.length)
    throw new Error(`it has ${vulnerabilities.length} entries and says that it has ${count}`);
  const entries = [...exploited].map(([cve, added]) => ({
    keys: [cve],
    text: `${cve},${added}`,
  }));
  return { entries, date: Date.parse(dateReleased) };
}

function epssPiece(text: string): Piece {
  const scores = parseEpss(text);
  if (scores === null) throw new Error("it is not FIRST's list of scores");
  const entries = [...scores].map(([cve, { score, percentile }]) => ({
    keys: [cve],
    text: `${cve},${score},${percentile}`,
  }));
  const date = /^#[^\n]*score_date:([^,\s]+)/.exec(text)?.[1] ?? "";
  return { entries, date: Date.parse(date) };
}
