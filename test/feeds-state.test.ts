import { describe, expect, test } from "bun:test";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { feedAges, feedFindings } from "../src/feeds-state.ts";
import { feedsAt, MADE, PUBLISHED, pass, withDirectory, withServer, writeIndex } from "./feeds-kit.ts";

const attempt = (over: object = {}) => ({
  ...{ url: "https://feeds.example/", last_attempt: MADE.toISOString(), last_success: MADE.toISOString() },
  ...{ problem: null, ...over },
});
const state = (directory: string, feeds: Record<string, object>) =>
  writeFileSync(join(directory, "state.json"), JSON.stringify(feeds));
const later = (days: number) => new Date(MADE.getTime() + days * 86_400_000);

describe("a state that can't be used", () => {
  const WRONG: [string, string][] = [
    ["not JSON", "{"],
    ["another shape", "1"],
    ["a name that leads elsewhere", JSON.stringify({ "../../etc/x": attempt() })],
    ["a field more", JSON.stringify({ kev: attempt({ more: 1 }) })],
    ["too long a problem", JSON.stringify({ kev: attempt({ problem: "x".repeat(2000) }) })],
    [
      "too many",
      JSON.stringify(
        Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`osv-${"a".repeat(i + 1)}`, attempt()])),
      ),
    ],
  ];
  test.each(WRONG)("%s", (_, text) =>
    withDirectory(async (directory) => {
      writeFileSync(join(directory, "state.json"), text);
      expect(() => feedAges(MADE, directory)).toThrow("can't be used");
    }),
  );
});

test("a state that is a link is not followed: root would read what it names, and tell of it", () =>
  withDirectory(async (directory) => {
    writeFileSync(join(directory, "secret"), "token:secret");
    symlinkSync(join(directory, "secret"), join(directory, "state.json"));
    expect(() => feedAges(MADE, directory)).toThrow("state.json: too many symbolic links");
  }));

test("none where feeds are off", () =>
  withDirectory(async (directory) => {
    expect(feedAges(MADE, directory)).toEqual([]);
    expect(feedFindings(MADE, join(directory, "absent"))).toEqual([]);
  }));

test("age is that of the newest date in the data, not of the download", () =>
  withServer(PUBLISHED, (address) =>
    withDirectory(async (directory) => {
      await pass(directory, feedsAt(address).feeds);
      const ages = feedAges(later(10), directory);
      expect(ages.map(({ feed, records, age_days, stale }) => [feed, records, age_days, stale])).toEqual([
        ["epss", 2, 10, false],
        ["kev", 2, 11, false],
        ["osv-Debian", 1, 21, true],
      ]);
    }),
  ));

test("findings: fresh, stale, failed, never there, damaged", () =>
  withDirectory(async (directory) => {
    const newest = MADE.toISOString();
    writeIndex(directory, "kev", [{ keys: ["a"], text: "1" }], { newest });
    writeIndex(directory, "epss", [], { newest: later(-20).toISOString() });
    writeIndex(directory, "vex", [], { newest });
    writeFileSync(join(directory, "osv-Debian.index"), "AEGISIX1");
    state(directory, {
      kev: attempt(),
      epss: attempt(),
      vex: attempt({ problem: "status 404\u001b[2J" }),
      "osv-Debian": attempt(),
      "osv-npm": attempt({ last_success: null, problem: "connection refused" }),
    });
    expect(feedFindings(MADE, directory).map(({ level, message }) => `${level} ${message}`)).toEqual([
      `warn epss: 0 records, newest 20 days old; confirmed ${newest}`,
      `ok kev: 1 record, newest of today; confirmed ${newest}`,
      `warn osv-Debian: no data; confirmed ${newest}; last attempt: ${join(directory, "osv-Debian.index")}: it is cut off`,
      "warn osv-npm: no data; never downloaded; last attempt: connection refused",
      `warn vex: 0 records, newest of today; confirmed ${newest}; last attempt: status 404\u001b[2J`,
    ]);
  }));
