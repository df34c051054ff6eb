import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { type FeedsWorld, passOver } from "../src/feeds.ts";
import { type Feed, feedSettings } from "../src/feeds-settings.ts";
import { readAttempts } from "../src/feeds-state.ts";
import type { Log } from "../src/log.ts";
import { FeedIndex, indexFile } from "../src/osv-index.ts";
import { IndexWriter } from "../src/osv-index-write.ts";
import { END, tarEntry, zip } from "./archive-kit.ts";
import { FIXTURES } from "./osv-kit.ts";

/*
 * The publishers' files in small, a server on loopback that has them, and passes over it.
 */

export const MADE = new Date("2026-11-22T01:02:03.004Z");

const VEX = join(import.meta.dir, "fixtures/feeds/CVE-2026-0685.json");

/** OSV's export of an ecosystem, of the recorded ones and more. */
export function osvZip(ecosystem: string, more: Record<string, string> = {}): Buffer {
  const directory = join(FIXTURES, ecosystem);
  const recorded = readdirSync(directory).map((name) => ({
    name,
    body: readFileSync(join(directory, name)),
  }));
  const others = Object.entries(more).map(([name, body]) => ({ name, body }));
  return zip([...recorded, ...others].map((one) => ({ ...one, descriptor: "signed" })));
}

/** The same with the directory that counts beyond 65,535 (APPNOTE 4.3.14–4.3.15). */
export function zip64(plain: Buffer): Buffer {
  const end = plain.subarray(-22);
  const record = Buffer.alloc(56);
  record.writeUInt32LE(0x06064b50, 0);
  record.writeBigUInt64LE(44n, 4);
  for (const at of [24, 32]) record.writeBigUInt64LE(BigInt(end.readUInt16LE(10)), at);
  record.writeBigUInt64LE(BigInt(end.readUInt32LE(12)), 40);
  record.writeBigUInt64LE(BigInt(end.readUInt32LE(16)), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(plain.length - 22), 8);
  const tail = Buffer.from(end);
  tail.fill(0xff, 8, 20);
  return Buffer.concat([plain.subarray(0, -22), record, locator, tail]);
}

/** Ubuntu's OpenVEX, packed with gzip. */
export function vexTar(text = readFileSync(VEX, "utf8")): Buffer {
  const entries = [
    tarEntry("vex/", "", { type: "5" }),
    tarEntry("vex/cve/2026/CVE-2026-0685.json", text),
    tarEntry("vex/usn/USN-1-1.json", "{}"),
  ];
  return gzipSync(Buffer.concat([...entries, END]));
}

export const kev = (more: object = {}) =>
  JSON.stringify({
    title: "CISA Catalog of Known Exploited Vulnerabilities",
    catalogVersion: "2026.11.20",
    dateReleased: "2026-11-20T19:00:14.5797Z",
    count: 2,
    vulnerabilities: [
      { cveID: "CVE-2023-5678", vendorProject: "OpenSSL", dateAdded: "2026-01-02" },
      { cveID: "CVE-2021-44228", vendorProject: "Apache", dateAdded: "2021-12-10" },
    ],
    ...more,
  });

export const epss = () =>
  gzipSync(
    "#model_version:v2026.06.15,score_date:2026-11-21T12:00:22Z\ncve,epss,percentile\nCVE-2023-5678,0.00383,0.70088\nCVE-2026-0685,0.5,0.99\n",
  );

/** What a server says to a request. */
export type Answer = (request: Request) => Response | Promise<Response>;

/** A file that a conditional request with its tag finds unchanged. */
export const tagged =
  (body: Uint8Array | string, tag = '"1"'): Answer =>
  ({ headers }) =>
    headers.get("if-none-match") === tag
      ? new Response(null, { status: 304 })
      : new Response(typeof body === "string" ? body : new Uint8Array(body), { headers: { etag: tag } });

/** A whole set of feeds by their paths. */
export const PUBLISHED: Readonly<Record<string, Answer>> = {
  "/osv/Debian/all.zip": tagged(osvZip("Debian")),
  "/osv/Ubuntu/all.zip": tagged(osvZip("Ubuntu")),
  "/osv/npm/all.zip": tagged(zip64(osvZip("npm"))),
  "/vex.tar.gz": tagged(vexTar()),
  "/kev.json": tagged(kev()),
  "/epss.csv.gz": tagged(epss()),
};

/** Runs `use` with a server that answers by these paths, and what it was asked. */
export async function withServer<T>(
  answers: Readonly<Record<string, Answer>>,
  use: (address: string, asked: string[]) => Promise<T>,
): Promise<T> {
  const asked: string[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    fetch(request) {
      const { pathname } = new URL(request.url);
      const conditional = request.headers.has("if-none-match") ? " if changed" : "";
      asked.push(`${pathname}${conditional}`);
      return answers[pathname]?.(request) ?? new Response("not here", { status: 404 });
    },
  });
  try {
    return await use(server.url.href.replace(/\/$/, ""), asked);
  } finally {
    await server.stop(true);
  }
}

/** The settings of a Debian 12 or an Ubuntu, for a server with {@link PUBLISHED}. */
export function feedsAt(
  address: string,
  os = "debian 12",
  ecosystems = "",
): { feeds: Feed[]; proxy: undefined } {
  const [id = "", version = "", codename = ""] = os.split(" ");
  const env = {
    AEGIS_FEEDS_OSV: `${address}/osv`,
    AEGIS_FEEDS_VEX: `${address}/vex.tar.gz`,
    AEGIS_FEEDS_KEV: `${address}/kev.json`,
    AEGIS_FEEDS_EPSS: `${address}/epss.csv.gz`,
    AEGIS_FEEDS_ECOSYSTEMS: ecosystems,
  };
  const release = `ID=${id}\nVERSION_ID="${version}"\nVERSION_CODENAME=${codename}\n`;
  const read = (path: string) => (path === "/etc/os-release" ? release : null);
  return { ...feedSettings(env, read, () => false), proxy: undefined };
}

export async function withDirectory<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "aegis-feeds-"));
  try {
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What a service logged, as `message feed problem`. */
export function recordingLog(): { log: Log; said: string[] } {
  const said: string[] = [];
  const say = (message: string, fields = {}) => void said.push([message, ...Object.values(fields)].join(" "));
  return { log: { error: say, warn: say, info: say, debug: say }, said };
}

/** One pass. Returns each feed's problem, null where it went well. */
export async function pass(
  directory: string,
  feeds: readonly Feed[],
  over: Partial<FeedsWorld> = {},
): Promise<Record<string, string | null>> {
  const settings = { feeds: [...feeds], proxy: undefined };
  await passOver({ directory, settings, now: () => MADE, silenceMs: 20_000, ...over }, recordingLog().log);
  return Object.fromEntries(
    Object.entries(readAttempts(directory)).map(([name, { problem }]) => [name, problem]),
  );
}

/** What an index has under some keys. */
export function found(directory: string, feed: string, ...keys: string[]): string[] {
  const index = FeedIndex.open(join(directory, indexFile(feed)));
  try {
    return [...(index?.find(keys) ?? [])].map(({ text }) => text);
  } finally {
    index?.close();
  }
}

/** Writes an index with these records. */
export function writeIndex(
  directory: string,
  feed: string,
  records: readonly { keys: readonly string[]; text: string }[],
  over: { release?: string | null; newest?: string | null } = {},
): string {
  const path = join(directory, indexFile(feed));
  const writer = new IndexWriter(path, `${path}.new`);
  for (const { keys, text } of records) writer.add(keys, text);
  writer.finish({
    ...{ feed, made_by: "test", url: "https://feeds.example/", release: null, made_at: MADE.toISOString() },
    ...{ newest: null, etag: "", last_modified: "", records: records.length },
    ...over,
  });
  return path;
}
