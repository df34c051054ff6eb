import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { passOver } from "../src/feeds.ts";
import type { Feed } from "../src/feeds-settings.ts";
import { readAttempts } from "../src/feeds-state.ts";
import { FeedIndex } from "../src/osv-index.ts";
import { zip } from "./archive-kit.ts";
import {
  type Answer,
  epss,
  feedsAt,
  found,
  kev,
  MADE,
  osvZip,
  PUBLISHED,
  pass,
  recordingLog,
  tagged,
  vexTar,
  withDirectory,
  withServer,
} from "./feeds-kit.ts";

const CVE = "CVE-2023-5678";

/** One feed of a host, by its name. */
function feedNamed(feeds: readonly Feed[], name: string): Feed {
  const feed = feeds.find((one) => one.name === name);
  if (feed === undefined) throw new Error(`there is no feed ${name}`);
  return feed;
}

test("a pass: every feed is downloaded, indexed for this host, and can be looked up", () =>
  withServer(PUBLISHED, (address) =>
    withDirectory(async (directory) => {
      const { feeds } = feedsAt(address, "debian 12", "Debian npm");
      expect(await pass(directory, feeds)).toEqual({
        kev: null,
        epss: null,
        "osv-Debian": null,
        "osv-npm": null,
      });
      expect(readdirSync(directory).sort()).toEqual(
        [".lock", "epss.index", "kev.index", "osv-Debian.index", "osv-npm.index", "state.json"].sort(),
      );
      expect(found(directory, "kev", CVE)).toEqual([`${CVE},2026-01-02`]);
      expect(found(directory, "epss", CVE)).toEqual([`${CVE},0.00383,0.70088`]);
      expect(found(directory, "osv-Debian", "openssl")).toHaveLength(1);
      // Of Debian 7 and 9.
      expect(FeedIndex.open(join(directory, "osv-Debian.index"))?.description).toMatchObject({
        ...{
          feed: "osv-Debian",
          release: "12",
          url: `${address}/osv/Debian/all.zip`,
          etag: '"1"',
          records: 1,
        },
        made_at: MADE.toISOString(),
      });
    }),
  ));

test("Ubuntu's statements are those of its release, about source packages", () =>
  withServer(PUBLISHED, (address) =>
    withDirectory(async (directory) => {
      const { feeds } = feedsAt(address, "ubuntu 24.04 noble", "Ubuntu");
      expect(await pass(directory, feeds)).toEqual({ kev: null, epss: null, "osv-Ubuntu": null, vex: null });
      const [text = "[]"] = found(directory, "vex", "CVE-2026-0685");
      expect(JSON.parse(text)).toEqual([
        {
          vulnerabilities: ["CVE-2026-0685"],
          products: ["pkg:deb/ubuntu/genshi@0.7.7-4build2?arch=source&distro=noble"],
          status: "under_investigation",
          justification: null,
          author: "Canonical Ltd.",
          timestamp: "2026-06-26T16:16:00.000Z",
        },
      ]);
    }),
  ));

describe("what hasn't changed is not downloaded again", () => {
  const both = async (
    change: (directory: string, address: string) => Feed[],
    answers: Readonly<Record<string, Answer>> = PUBLISHED,
  ) =>
    withServer(answers, (address, asked) =>
      withDirectory(async (directory) => {
        await pass(directory, feedsAt(address).feeds);
        asked.length = 0;
        const problems = await pass(directory, change(directory, address));
        return { asked, problems, kev: found(directory, "kev", CVE) };
      }),
    );
  const KEPT = [`${CVE},2026-01-02`];
  const NONE = { kev: null, epss: null, "osv-Debian": null };

  test("each feed by its own tag", async () => {
    expect(await both((_, address) => feedsAt(address).feeds)).toEqual({
      asked: ["/kev.json if changed", "/epss.csv.gz if changed", "/osv/Debian/all.zip if changed"],
      problems: NONE,
      kev: KEPT,
    });
  });
  test("unless its index is gone or damaged", async () => {
    const { asked, kev } = await both((directory, address) => {
      rmSync(join(directory, "kev.index"));
      writeFileSync(join(directory, "epss.index"), "AEGISIX1");
      return feedsAt(address).feeds;
    });
    expect(asked).toEqual(["/kev.json", "/epss.csv.gz", "/osv/Debian/all.zip if changed"]);
    expect(kev).toEqual(KEPT);
  });
  test("unless the host has another release", async () => {
    const { asked, problems } = await both((_, address) => feedsAt(address, "debian 7").feeds);
    expect(asked.at(-1)).toBe("/osv/Debian/all.zip");
    expect(problems).toEqual(NONE);
  });
  test("a server that says so without being asked is not believed", async () => {
    const answers = { ...PUBLISHED, "/kev.json": () => new Response(null, { status: 304 }) };
    await withServer(answers, (address) =>
      withDirectory(async (directory) => {
        const { feeds } = feedsAt(address);
        expect((await pass(directory, feeds))["kev"]).toContain("status 304");
      }),
    );
  });
});

describe("what is broken never takes the place of what is good", () => {
  const bytes =
    (body: Uint8Array, more: object = {}): Answer =>
    () =>
      new Response(new Uint8Array(body), more);
  const text =
    (body: string, more: object = {}): Answer =>
    () =>
      new Response(body, more);
  const record = (over: object = {}) =>
    JSON.stringify({
      id: "DEBIAN-CVE-2026-1",
      modified: "2026-11-20T00:00:00Z",
      affected: [{ package: { ecosystem: "Debian:12", name: "hello" }, ranges: [] }],
      ...over,
    });
  const one = (body: string, over: object = {}) => zip([{ name: "a.json", body, ...over }]);
  const cut = (whole: Buffer) => whole.subarray(0, whole.length - 40);
  const bomb = Buffer.alloc(40 * 1024 * 1024, "[");

  const CASES: [what: string, feed: string, path: string, answer: Answer, said: string][] = [
    ["not there", "kev", "/kev.json", text("", { status: 404 }), "status 404"],
    ["an error with a body", "kev", "/kev.json", text(kev(), { status: 500 }), "status 500"],
    ["not JSON", "kev", "/kev.json", text("<html>"), "JSON Parse error"],
    ["other JSON", "kev", "/kev.json", text("{}"), "it is not CISA's catalog"],
    [
      "cut in its list",
      "kev",
      "/kev.json",
      text(kev({ count: 1500 })),
      "it has 2 entries and says that it has 1500",
    ],
    ["emptied", "kev", "/kev.json", text(kev({ count: 0, vulnerabilities: [] })), "it is not CISA's catalog"],
    [
      "too large",
      "kev",
      "/kev.json",
      bytes(Buffer.alloc(33 * 1024 * 1024)),
      "the file is larger than 33554432 bytes",
    ],
    [
      "to plain HTTP",
      "kev",
      "/kev.json",
      text("", { status: 302, headers: { location: "http://example.com/" } }),
      "sends elsewhere, which is not followed",
    ],
    [
      "to a file",
      "kev",
      "/kev.json",
      text("", { status: 302, headers: { location: "file:///etc/passwd" } }),
      "sends elsewhere, which is not followed",
    ],
    ["not a list of scores", "epss", "/epss.csv.gz", text("<html>"), "it is not FIRST's list of scores"],
    ["no scores", "epss", "/epss.csv.gz", text("cve,epss,percentile\n"), "it has no record for this host"],
    ["half a gzip", "epss", "/epss.csv.gz", bytes(epss().subarray(0, 60)), "unexpected end of file"],
    [
      "no zip",
      "osv-Debian",
      "/osv/Debian/all.zip",
      text("<html>".repeat(9)),
      "it is no zip archive, or cut off",
    ],
    [
      "a cut zip",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(cut(osvZip("Debian"))),
      "it is no zip archive, or cut off",
    ],
    [
      "a zip of nothing",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(zip([])),
      "it has no record for this host",
    ],
    [
      "a zip of another ecosystem",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(osvZip("npm")),
      "it has no record for this host",
    ],
    [
      "a damaged record",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(one(record(), { crc: 7 })),
      "a.json in it is damaged",
    ],
    [
      "a record longer than it says",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(one(record(), { size: 9 })),
      "a.json in it is damaged, or longer than it says",
    ],
    [
      "a claim of 4 GB",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(one(record(), { size: 2 ** 32 - 1 })),
      "a.json in it is larger than 67108864 bytes",
    ],
    [
      "a bomb",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(zip([{ name: "a.json", body: bomb }])),
      "it unpacks to far too much",
    ],
    [
      "a way out",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(zip([{ name: "../../x.json", body: record() }])),
      "is no plain path",
    ],
    [
      "an absolute way out",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(zip([{ name: "/x.json", body: record() }])),
      "is an absolute path",
    ],
    [
      "encrypted",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(one(record(), { flags: 1 })),
      "a.json in it is encrypted",
    ],
    [
      "a record that isn't JSON",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(one(`{"Debian:12`)),
      "a.json in it can't be read: JSON Parse error",
    ],
    [
      "a record of another kind",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(one(`{"affected": "Debian:12"}`)),
      "a.json in it can't be read: it is not an OSV record",
    ],
    [
      "nested without end",
      "osv-Debian",
      "/osv/Debian/all.zip",
      bytes(one(`"Debian:12"${"[".repeat(300_000)}`)),
      "a.json in it can't be read",
    ],
    ["no tar", "vex", "/vex.tar.gz", text("x".repeat(2000)), "a header has"],
    ["a cut tar", "vex", "/vex.tar.gz", bytes(vexTar().subarray(0, 400)), "unexpected end of file"],
    [
      "a document of another kind",
      "vex",
      "/vex.tar.gz",
      bytes(vexTar(`{"a":"distro=noble"}`)),
      "it is not an OpenVEX document",
    ],
  ];
  for (const [what, name, path, answer, said] of CASES) {
    test(`${name}: ${what}`, () =>
      withServer(PUBLISHED, (good) =>
        withServer({ ...PUBLISHED, [path]: answer }, (bad) =>
          withDirectory(async (directory) => {
            const os = name === "vex" ? "ubuntu 24.04 noble" : "debian 12";
            const feed = feedNamed(feedsAt(good, os).feeds, name);
            await pass(directory, [feed]);
            const before = readFileSync(join(directory, `${name}.index`));
            // The same feed as before as far as the index knows, so that it is compared with it.
            const { url } = feedNamed(feedsAt(bad, os).feeds, name);
            const problems = await pass(directory, [{ ...feed, url }]);
            expect(problems[name]).toContain(said);
            expect(readFileSync(join(directory, `${name}.index`)).equals(before)).toBe(true);
            expect(readdirSync(directory).sort()).toEqual([".lock", `${name}.index`, "state.json"].sort());
            expect(existsSync(join(directory, "../../x.json"))).toBe(false);
            expect(readAttempts(directory)[name]).toMatchObject({ last_success: MADE.toISOString() });
          }),
        ),
      ));
  }

  test("less than half of what there was, until its index is removed", () => {
    const rows = (n: number) =>
      zip(Array.from({ length: n }, (_, i) => ({ name: `${i}.json`, body: record({ id: `D-${i}` }) })));
    let now = rows(5);
    const answers = { "/osv/Debian/all.zip": () => new Response(new Uint8Array(now)) };
    return withServer(answers, (address) =>
      withDirectory(async (directory) => {
        const feed = feedNamed(feedsAt(address).feeds, "osv-Debian");
        const step = async (n: number) => {
          now = rows(n);
          return (await pass(directory, [feed]))["osv-Debian"];
        };
        expect(await step(5)).toBeNull();
        expect(await step(3)).toBeNull();
        expect(await step(1)).toStartWith("it has 1 records where at least 2 were expected: remove ");
        expect(found(directory, "osv-Debian", "hello")).toHaveLength(3);
        rmSync(join(directory, "osv-Debian.index"));
        expect(await step(1)).toBeNull();
      }),
    );
  });

  test("one feed's failure is no other's", () =>
    withServer({ ...PUBLISHED, "/kev.json": text("{}") }, (address) =>
      withDirectory(async (directory) => {
        const problems = await pass(directory, feedsAt(address).feeds);
        expect(problems).toEqual({ kev: "it is not CISA's catalog", epss: null, "osv-Debian": null });
      }),
    ));
});

describe("servers and files in the way", () => {
  const raw = async (say: string, use: (address: string) => Promise<void>) => {
    const server = Bun.listen({
      ...{ hostname: "127.0.0.1", port: 0 },
      socket: {
        data(socket) {
          socket.write(say);
          if (!say.includes("stall")) socket.end();
        },
      },
    });
    try {
      await use(`http://127.0.0.1:${server.port}`);
    } finally {
      server.stop(true);
    }
  };
  const problemOf = (address: string, silenceMs: number) =>
    withDirectory(async (directory) => {
      const feed = feedNamed(feedsAt(address).feeds, "kev");
      return (await pass(directory, [feed], { silenceMs }))["kev"];
    });

  test("one that says nothing", () =>
    raw("HTTP/1.1 200 OK\r\nX: stall\r\n", async (address) =>
      expect(await problemOf(address, 200)).toContain("silent for 0.2 seconds"),
    ));
  test("one that stalls in the middle", () =>
    raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstall", async (address) =>
      expect(await problemOf(address, 200)).toContain("silent for 0.2 seconds"),
    ));
  test("one that ends too early", () =>
    raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", async (address) =>
      expect(await problemOf(address, 20_000)).toContain("the connection was cut"),
    ));
  test("one that announces 10 GiB and ends", () =>
    raw(`HTTP/1.1 200 OK\r\nContent-Length: ${10 * 1024 ** 3}\r\n\r\n{`, async (address) =>
      expect(await problemOf(address, 20_000)).toContain("the connection was cut"),
    ));
  test("none", async () =>
    expect(await problemOf("http://127.0.0.1:1", 20_000)).toContain("connection refused"));

  test("what a killed pass left is removed, links are not followed", () =>
    withServer(PUBLISHED, (address) =>
      withDirectory(async (directory) => {
        const other = join(directory, "other");
        writeFileSync(other, "mine");
        symlinkSync(other, join(directory, ".kev.download"));
        symlinkSync(other, join(directory, ".kev.index"));
        symlinkSync(other, join(directory, "kev.index"));
        writeFileSync(join(directory, ".epss.index"), "half");
        expect(await pass(directory, feedsAt(address).feeds)).toMatchObject({ kev: null, epss: null });
        expect(readFileSync(other, "utf8")).toBe("mine");
        expect(readdirSync(directory).filter((name) => name.startsWith("."))).toEqual([".lock"]);
        expect(found(directory, "kev", CVE)).toHaveLength(1);
      }),
    ));

  test("the data of a feed that isn't asked any more is removed", () =>
    withServer(PUBLISHED, (address) =>
      withDirectory(async (directory) => {
        const { feeds } = feedsAt(address);
        await pass(directory, feeds);
        expect(await pass(directory, [feedNamed(feeds, "kev")])).toEqual({ kev: null });
        expect(readdirSync(directory).sort()).toEqual([".lock", "kev.index", "state.json"]);
      }),
    ));

  test("a second pass at the same time", () =>
    withServer(PUBLISHED, (address) =>
      withDirectory(async (directory) => {
        const { feeds } = feedsAt(address);
        const settings = { feeds, proxy: undefined };
        const world = { directory, settings, now: () => MADE, silenceMs: 20_000 };
        const { log, said } = recordingLog();
        const both = await Promise.allSettled([passOver(world, log), passOver(world, log)]);
        expect(both.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
        expect(said).toEqual(["updated kev 2", "updated epss 2", "updated osv-Debian 1"]);
      }),
    ));

  test("no directory", () =>
    withDirectory(async (directory) => {
      const said = await pass(join(directory, "absent"), []).catch(String);
      expect(said).toContain("no such file or directory");
    }));

  test("a state that can't be read is begun anew", () =>
    withServer(PUBLISHED, (address) =>
      withDirectory(async (directory) => {
        writeFileSync(join(directory, "state.json"), '{"../x": 1}');
        expect(await pass(directory, feedsAt(address).feeds)).toMatchObject({ kev: null });
      }),
    ));
});

test("dates in the future make nothing look new", () => {
  const at = (modified: string, id: string) => ({
    name: `${id}.json`,
    body: JSON.stringify({ id, modified, affected: [{ package: { ecosystem: "Debian:12", name: "x" } }] }),
  });
  const archive = zip([
    at("2099-01-01T00:00:00Z", "A"),
    at("2026-11-01T00:00:00Z", "B"),
    at("2026-10-01T00:00:00Z", "C"),
  ]);
  return withServer({ "/osv/Debian/all.zip": tagged(archive) }, (address) =>
    withDirectory(async (directory) => {
      await pass(directory, [feedNamed(feedsAt(address).feeds, "osv-Debian")]);
      const index = FeedIndex.open(join(directory, "osv-Debian.index"));
      expect(index?.description.newest).toBe("2026-11-01T00:00:00.000Z");
      index?.close();
    }),
  );
});
