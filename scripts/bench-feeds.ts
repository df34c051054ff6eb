import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { aptGrammar } from "../src/apt-grammar.ts";
import { passOver } from "../src/feeds.ts";
import { feedSettings } from "../src/feeds-settings.ts";
import type { Log } from "../src/log.ts";
import { readOsvDirectory } from "../src/osv-directory.ts";
import { readFeeds } from "../src/osv-indexed.ts";
import { subjectsOf } from "../src/osv-subjects.ts";
import { namesIn, readText } from "../src/sys-files.ts";
import { zip } from "../test/archive-kit.ts";
import { entry } from "../test/policy-plans.ts";
import { build, type Line, line, median } from "./bench-measure.ts";

/*
 * Vulnerability data: one pass over feeds of 50,000 records and 300,000 scores, and looking 2,000 packages up. Each sample is a process of its own,
 * compiled as Aegis is. The references read the same records: `unzip` and `jq` for the pass, the directory of AEGIS_OSV_DIR for the look-up.
 */

const RECORDS = 50_000;
const SCORES = 300_000;
const PACKAGES = 2000;
/** Source packages that there are; the first, a kernel, has a sixth of the records. */
const SOURCES = 8000;
const HOST = { os_id: "debian", os_version: "12" };
const QUIET: Log = {
  error: () => {},
  warn: (...said) => process.stderr.write(`${JSON.stringify(said)}\n`),
  info: () => {},
  debug: () => {},
};

interface Sample {
  ms: number;
  /** Peak of the process's memory in MB. */
  mb: number;
  found: number;
}

export async function feeds(quick: boolean): Promise<Line[]> {
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  const archive = publish(dir);
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => new Response(Bun.file(join(dir, new URL(request.url).pathname.slice(1)))),
  });
  try {
    const program = join(dir, "feeds");
    build(import.meta.path, program);
    const rounds = quick ? 3 : 9;
    const run = async (...argv: string[]): Promise<Sample> => {
      const child = Bun.spawn(argv, { stdout: "pipe", stderr: "inherit" });
      const text = await new Response(child.stdout).text();
      if ((await child.exited) !== 0) throw new Error(`${argv.join(" ")} failed`);
      return text.startsWith("{") ? JSON.parse(text) : { ms: 0, mb: 0, found: text.length };
    };
    const timed = async (...argv: string[]): Promise<Sample & { wall: number }> => {
      const start = performance.now();
      return { ...(await run(...argv)), wall: performance.now() - start };
    };
    const passes: Sample[] = [];
    const plain: number[] = [];
    const looks: (Sample & { wall: number })[] = [];
    const reads: (Sample & { wall: number })[] = [];
    for (let i = 0; i < rounds; i++) {
      rmSync(join(dir, "feeds.d"), { recursive: true, force: true });
      mkdirSync(join(dir, "feeds.d"));
      passes.push(await run(program, "pass", join(dir, "feeds.d"), server.url.href));
      plain.push(
        (
          await timed(
            "/bin/sh",
            "-c",
            `unzip -p ${archive} | jq -c '[.id, .modified, .aliases, .upstream, .affected]' >/dev/null`,
          )
        ).wall,
      );
      looks.push(await timed(program, "look", join(dir, "feeds.d")));
      if (i === 0 || !quick) reads.push(await timed(program, "read", join(dir, "osv")));
    }
    const size = namesIn(join(dir, "feeds.d")).reduce(
      (sum, name) => sum + Bun.file(join(dir, "feeds.d", name)).size,
      0,
    );
    const of = <T>(samples: readonly T[], value: (sample: T) => number) => median(samples.map(value));
    const common = { samples: rounds, goal: null } as const;
    return [
      line({
        ...common,
        ...{ name: "feeds: a pass over 50,000 records and 300,000 scores", unit: "ms" },
        ours: of(passes, ({ ms }) => ms),
        reference: median(plain),
        against: "unzip and jq reading the same records",
        note: `downloads of ${(Bun.file(archive).size / 1e6).toFixed(0)} MB from loopback; the indexes have ${(size / 1e6).toFixed(0)} MB`,
      }),
      line({
        ...common,
        ...{ name: "feeds: peak memory of that pass", unit: "MB" },
        ours: of(passes, ({ mb }) => mb),
        reference: of(reads, ({ mb }) => mb),
        against: "a look-up in the directory of the same records",
      }),
      line({
        ...common,
        ...{ name: "feeds: looking 2,000 packages up, from the start of the process", unit: "ms" },
        ours: of(looks, ({ wall }) => wall),
        reference: of(reads, ({ wall }) => wall),
        against: "the directory of the same records (AEGIS_OSV_DIR)",
        goal: { of: "ours", at_most: 200 },
        note: `${looks[0]?.found} records found, ${of(looks, ({ ms }) => ms).toFixed(0)} ms of it in the look-up, peak memory ${of(looks, ({ mb }) => mb).toFixed(0)} MB`,
      }),
    ];
  } finally {
    await server.stop(true);
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Writes what the publishers offer, and the directory of the same records. Returns the archive. */
function publish(dir: string): string {
  mkdirSync(join(dir, "osv/Debian"), { recursive: true });
  const entries = Array.from({ length: RECORDS }, (_, i) => ({
    name: `DEBIAN-CVE-2024-${i + 1000}.json`,
    body: record(i),
  }));
  for (const { name, body } of entries) writeFileSync(join(dir, "osv/Debian", name), body);
  const archive = join(dir, "Debian/all.zip");
  mkdirSync(join(dir, "Debian"));
  writeFileSync(archive, zip(entries.map((one) => ({ ...one, descriptor: "signed" }))));
  const rows = Array.from(
    { length: SCORES },
    (_, i) => `CVE-2024-${i + 1000},0.${String(i).padStart(5, "0")},0.5`,
  );
  writeFileSync(
    join(dir, "epss.csv"),
    `#model_version:v1,score_date:2026-11-21T12:00:22Z\ncve,epss,percentile\n${rows.join("\n")}\n`,
  );
  return archive;
}

/** A record like those of OSV's Debian export: one package in three releases, its versions listed. */
function record(i: number): string {
  const name = i % 6 === 0 ? "package-0" : `package-${i % SOURCES}`;
  const affected = ["11", "12", "13"].map((release) => ({
    package: { ecosystem: `Debian:${release}`, name, purl: `pkg:deb/debian/${name}?arch=source` },
    ranges: [
      { type: "ECOSYSTEM", events: [{ introduced: "0" }, ...(i % 3 === 0 ? [] : [{ fixed: "1.0-2" }])] },
    ],
    versions: Array.from({ length: 20 }, (_, n) => `0.${n}-1`),
    ecosystem_specific: { urgency: "not yet assigned" },
    database_specific: {
      source: `https://storage.googleapis.com/debian-osv/debian-cve-osv/DEBIAN-CVE-2024-${i + 1000}.json`,
    },
  }));
  return JSON.stringify({
    ...{
      schema_version: "1.7.3",
      id: `DEBIAN-CVE-2024-${i + 1000}`,
      modified: "2026-11-20T10:11:12.123456Z",
    },
    ...{
      published: "2024-01-02T03:04:05Z",
      upstream: [`CVE-2024-${i + 1000}`],
      details: `Flaw ${i}. ${"An attacker could. ".repeat(20)}`,
    },
    severity: [{ type: "CVSS_V3", score: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H" }],
    affected,
  });
}

async function pass(directory: string, address: string): Promise<number> {
  const env = { AEGIS_FEEDS_OSV: address, AEGIS_FEEDS_EPSS: `${address}epss.csv`, AEGIS_FEEDS_KEV: "off" };
  const release = 'ID=debian\nVERSION_ID="12"\n';
  const settings = feedSettings(
    env,
    () => release,
    () => false,
  );
  await passOver(
    { directory, settings, now: () => new Date("2026-11-22T00:00:00Z"), silenceMs: 60_000 },
    QUIET,
  );
  return readdirSync(directory).filter((name) => name.endsWith(".index")).length;
}

/** The names of 2,000 packages, looked up in an index or in a directory. */
async function look(directory: string, indexed: boolean): Promise<number> {
  const ecosystem = aptGrammar.osv(HOST);
  if (ecosystem === null) throw new Error("no ecosystem");
  const now = new Date("2026-11-22T00:00:00Z");
  const transaction = Array.from({ length: PACKAGES }, (_, i) => entry(`package-${i}`));
  const subjects = subjectsOf(transaction, ecosystem);
  const names = new Set(subjects.flatMap((one) => one.names));
  const list = (path: string) => namesIn(path).sort();
  const data = indexed
    ? await readFeeds(directory, ecosystem, subjects, now)
    : await readOsvDirectory(directory, ecosystem, names, { now, readText, list });
  return data.records.length + (data.epss?.size ?? 0);
}

/** In MB. Not getrusage(2)'s, which begins with what the parent had. */
function peakMemory(): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? 0) / 1024;
}

if (import.meta.main) {
  const [role, directory = "", address = ""] = process.argv.slice(2);
  const start = performance.now();
  const found = role === "pass" ? await pass(directory, address) : await look(directory, role === "look");
  const ms = performance.now() - start;
  process.stdout.write(JSON.stringify({ ms, mb: peakMemory(), found } satisfies Sample));
}
