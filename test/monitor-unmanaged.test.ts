import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describeChange, type PackageChange, parseAptHistory, parseDpkgLine } from "../src/apt-logs.ts";
import { encodeLine, MAX_LINE } from "../src/audit-event.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { unlogged } from "../src/monitor-packages.ts";
import { groupByRun, localClock, type ManagedRun, unexplained } from "../src/monitor-unmanaged.ts";
import { moreUnmanaged, unmanagedEvent } from "../src/monitor-unmanaged-events.ts";
import { entry as planned } from "./policy-plans.ts";

const UTC = localClock(() => 0, null);
/** Berlin: summer time ended on 2026-10-25 at 01:00 UTC, when 03:00 became 02:00. */
const berlin = (instant: number) => (instant < Date.UTC(2026, 9, 25, 1) ? 120 : 60);

const change = (line: string): PackageChange => {
  const parsed = parseDpkgLine(line);
  if (parsed === null) throw new Error(`no change: ${line}`);
  return parsed;
};
const at = (time: string, what: string) => change(`2026-11-22 ${time} ${what}`);

function entry(text: string): TransactionEntry {
  const [action = "", name = "", architecture = "", from = "-", to = "-"] = text.split(" ");
  const version = (word: string) => (word === "-" ? null : word);
  return planned(name, {
    architecture,
    action: action as TransactionEntry["action"],
    from_version: version(from),
    to_version: version(to),
  });
}

/** An execution from 12:00:00.500 to 12:00:10, UTC. */
function run(...transaction: string[]): ManagedRun {
  const noon = Date.UTC(2026, 10, 22, 12);
  const argv = ["apt-get", "install", "-y", "a=1.0"];
  return { id: "run", from: noon + 500, to: noon + 10_000, argv, transaction: transaction.map(entry) };
}

const left = (changes: readonly PackageChange[], runs: readonly ManagedRun[], clock = UTC) =>
  unexplained(changes, runs, [], clock).map(describeChange);

describe("an execution does not explain", () => {
  test.each([
    ["another package", "12:00:01", "install b:all <none> 1.0"],
    ["another version", "12:00:01", "install a:all <none> 1.1"],
    ["another architecture", "12:00:01", "install a:i386 <none> 1.0"],
    ["a removal of what it installs", "12:00:01", "remove a:all 1.0 <none>"],
    ["a purge", "12:00:01", "purge a:all 1.0 <none>"],
    ["the second before", "11:59:59", "install a:all <none> 1.0"],
    ["the second after", "12:00:11", "install a:all <none> 1.0"],
    ["the same an hour before", "11:00:01", "install a:all <none> 1.0"],
  ])("%s", (_, time, what) => {
    expect(left([at(time, what)], [run("install a all - 1.0")])).toHaveLength(1);
  });

  test("a purge of another package than the one that was purged", () => {
    const purged = { ...run("remove a all 1.0 -"), argv: ["apt-get", "purge", "-y", "a"] };
    const lines = ["remove a:all 1.0 <none>", "purge a:all 1.0 <none>", "purge b:all 1.0 <none>"];
    expect(
      left(
        lines.map((what) => at("12:00:01", what)),
        [purged],
      ),
    ).toEqual(["purge b:all 1.0 none"]);
  });

  test.each(["upgrade a:all 1.0 1.0", "remove a:all 1.0 <none>"])(
    "not something a repair does: %s",
    (what) => {
      expect(left([at("12:00:01", what)], [run("configure a all 1.0 1.0")])).toHaveLength(1);
    },
  );

  test("its own change, repeated by hand", () => {
    const line = "upgrade a:all 1.0 1.0";
    const twice = [at("12:00:01", line), at("12:00:02", line)];
    expect(left(twice, [run("reinstall a all 1.0 1.0")])).toEqual(["upgrade a:all 1.0 1.0"]);
  });

  test("a change by hand while it runs", () => {
    const lines = [at("12:00:01", "install a:all <none> 1.0"), at("12:00:02", "install evil:all <none> 1.0")];
    expect(left(lines, [run("install a all - 1.0")])).toEqual(["install evil:all none 1.0"]);
  });

  test("an invalid time", () => {
    expect(
      left([change("2026-99-99 12:00:01 install a:all <none> 1.0")], [run("install a all - 1.0")]),
    ).toHaveLength(1);
  });
});

describe("an execution explains", () => {
  test.each([
    ["an installation", "install a all - 1.0", "install a:all <none> 1.0"],
    ["one over configuration files", "install a all - 1.0", "install a:all 0.9 1.0"],
    ["an upgrade", "upgrade a all 1.0 1.1", "upgrade a:all 1.0 1.1"],
    ["a downgrade", "downgrade a all 1.1 1.0", "upgrade a:all 1.1 1.0"],
    ["a removal", "remove a all 1.0 -", "remove a:all 1.0 <none>"],
    ["what apt takes away before it replaces it", "upgrade a all 1.0 1.1", "remove a:all 1.0 <none>"],
  ])("%s", (_, planned, what) => {
    expect(left([at("12:00:00", what)], [run(planned)])).toEqual([]);
  });

  test("a run whose transaction is no longer on record, by apt's history", () => {
    const history = parseAptHistory(
      "Start-Date: 2026-11-22  12:00:01\nCommandline: /usr/bin/apt-get install -y a=1.0\nInstall: a:amd64 (1.0), b:amd64 (2.0, automatic)\nEnd-Date: 2026-11-22  12:00:02\n",
    );
    const lines = [
      at("12:00:01", "install a:all <none> 1.0"),
      at("12:00:01", "install b:amd64 <none> 2.0"),
      at("12:00:01", "install c:amd64 <none> 2.0"),
    ];
    const lost = { ...run(), transaction: null };
    expect(unexplained(lines, [lost], history, UTC).map(describeChange)).toEqual([
      "install c:amd64 none 2.0",
    ]);
    const other = { ...lost, argv: ["apt-get", "install", "-y", "z=1.0"] };
    expect(unexplained(lines, [other], history, UTC)).toHaveLength(3);
  });
});

describe("local time", () => {
  const clock = localClock(berlin, null);
  test.each([
    ["winter", "2026-11-22 13:00:01", [Date.UTC(2026, 10, 22, 12, 0, 1)]],
    ["summer", "2026-07-22 14:00:01", [Date.UTC(2026, 6, 22, 12, 0, 1)]],
    [
      "the hour that comes twice",
      "2026-10-25 02:30:00",
      [Date.UTC(2026, 9, 25, 0, 30), Date.UTC(2026, 9, 25, 1, 30)],
    ],
    ["no time", "2026-13-41 02:30:00", []],
  ])("%s", (_, text, instants) => {
    expect(clock(text)).toEqual(instants);
  });

  test("an execution over the end of summer time explains both hours", () => {
    const from = Date.UTC(2026, 9, 25, 0, 59, 50);
    const over = { ...run("install a all - 1.0", "install b all - 1.0"), from, to: from + 20_000 };
    const lines = [
      change("2026-10-25 02:59:55 install a:all <none> 1.0"),
      change("2026-10-25 02:00:05 install b:all <none> 1.0"),
    ];
    expect(left(lines, [over], clock)).toEqual([]);
  });

  test("a time zone changed since the last run", () => {
    const planned = run("install a all - 1.0");
    const line = at("13:00:01", "install a:all <none> 1.0");
    expect(left([line], [planned], UTC)).toHaveLength(1);
    expect(
      left(
        [line],
        [planned],
        localClock(() => 0, 60),
      ),
    ).toEqual([]);
  });
});

describe("grouping", () => {
  const fixture = (name: string) => readFileSync(join(import.meta.dir, "fixtures/monitor", name), "utf8");
  const logged = (name: string) =>
    fixture(name)
      .split("\n")
      .flatMap((line) => parseDpkgLine(line) ?? []);

  test("recorded logs: each run of apt is one batch, dpkg alone another", () => {
    const history = parseAptHistory(fixture("history.log"));
    const found = groupByRun(logged("dpkg.log"), history, [], UTC, 0);
    const byApt = found.filter(({ run }) => run !== null);
    expect(byApt.map(({ run, changes }) => [run?.command, changes.length])).toEqual(
      history.map(({ command, packages }) => [command, packages.length]),
    );
    const byDpkg = found
      .filter(({ run }) => run === null)
      .flatMap(({ changes }) => changes.map(describeChange));
    expect(byDpkg).toEqual([
      "remove postinst-fails:all 1.0 none",
      "remove conflictor:all 1.0 none",
      "remove hello-aegis:all 1.1 none",
    ]);
  });

  test("recorded logs of unattended-upgrades", () => {
    const found = groupByRun(
      logged("dpkg-unattended.log"),
      parseAptHistory(fixture("history-unattended.log")),
      [],
      UTC,
      0,
    );
    expect(found.map((batch) => unmanagedEvent(batch).details)).toMatchObject([
      { program: "apt-get", count: 1 },
      {
        program: "unattended-upgrades",
        message: "unattended-upgrades: unattended-upgrade -v: 1 package change",
        command: "/usr/bin/unattended-upgrade -v",
        changes: ["upgrade hello-aegis:all 1.0 1.1"],
      },
    ]);
  });

  test("recorded logs of one unattended-upgrade that commits in three steps: one batch", () => {
    const found = groupByRun(
      logged("dpkg-unattended-steps.log"),
      parseAptHistory(fixture("history-unattended-steps.log")),
      [],
      UTC,
      0,
    );
    expect(found.map((batch) => unmanagedEvent(batch).details)).toMatchObject([
      { program: "dpkg", count: 2 },
      { program: "apt-get", count: 3 },
      {
        program: "unattended-upgrades",
        message: "unattended-upgrades: unattended-upgrade -v: 3 package changes",
        started: "2026-11-30 07:10:18",
        ended: "2026-11-30 07:10:21",
        changes: [
          "upgrade conffile-owner:all 1.0 1.1",
          "upgrade hello-aegis:all 1.0 1.1",
          "upgrade openssh-aegis:all 1.0 1.1",
        ],
      },
    ]);
  });

  const UNATTENDED = "/usr/bin/unattended-upgrade";
  test.each<
    [string, first: [command: string, ended: string], second: [command: string, started: string], number]
  >([
    [
      "another program's, one after the other",
      ["apt-get upgrade", "12:00:02"],
      ["apt-get upgrade", "12:00:04"],
      2,
    ],
    ["called in another way", [UNATTENDED, "12:00:02"], [`${UNATTENDED} -v`, "12:00:04"], 2],
    ["after a pause", [UNATTENDED, "12:00:02"], [UNATTENDED, "12:01:03"], 2],
    ["after one that was killed", [UNATTENDED, ""], [UNATTENDED, "12:00:04"], 2],
    ["within the pause", [UNATTENDED, "12:00:02"], [UNATTENDED, "12:01:02"], 1],
  ])("two stanzas of unattended-upgrades, or not: %s", (_, [first, ended], [second, started], expected) => {
    const end = ended === "" ? "" : `End-Date: 2026-11-22  ${ended}\n`;
    const history = parseAptHistory(
      `Start-Date: 2026-11-22  12:00:00\nCommandline: ${first}\nUpgrade: a:amd64 (1, 2)\n${end}\n` +
        `Start-Date: 2026-11-22  ${started}\nCommandline: ${second}\nUpgrade: b:amd64 (1, 2)\n`,
    );
    const changes = [at("12:00:01", "upgrade a:amd64 1 2"), at(started, "upgrade b:amd64 1 2")];
    expect(groupByRun(changes, history, [], UTC, 0)).toHaveLength(expected);
  });

  test("dpkg's own changes are separated by pauses", () => {
    const lines = ["12:00:00", "12:00:59", "12:03:00"].map((time, n) =>
      at(time, `install a${n}:all <none> 1.0`),
    );
    expect(groupByRun(lines, [], [], UTC, 0).map(({ changes }) => changes.length)).toEqual([2, 1]);
  });

  test.each([
    ["since the last run", 12, "apt-get"],
    ["before the last run", 13, "unknown"],
  ])("a change without a time, and apt's word for one %s", (_, hour, program) => {
    const history = parseAptHistory(
      "Start-Date: 2026-11-22  12:00:01\nCommandline: apt-get install -y a\nInstall: a:amd64 (1.0)\n",
    );
    const silent = {
      at: null,
      action: "changed",
      name: "a",
      architecture: "all",
      from: null,
      to: "1.0",
    } as const;
    const [batch, ...more] = groupByRun([silent], history, [], UTC, Date.UTC(2026, 10, 22, hour));
    expect([batch && unmanagedEvent(batch).details?.program, more]).toEqual([program, []]);
  });

  test("an execution running at the same time is named", () => {
    const [batch] = groupByRun([at("12:00:02", "install evil:all <none> 1.0")], [], [run()], UTC, 0);
    expect(batch?.during).toEqual(["run"]);
  });
});

describe("the event", () => {
  test("of 5000 packages, with hostile text, is one complete line", () => {
    const evil = "\u202e\u001b[31m\u{1F600}".repeat(20_000);
    const history = {
      started: "2026-11-22 12:00:00",
      ended: null,
      command: evil,
      requestedBy: evil,
      error: evil,
      packages: [],
    };
    const changes = Array.from({ length: 5000 }, (_, n) =>
      at("12:00:00", `upgrade package${n}:amd64 1.${n} 2.${n}`),
    );
    const event = unmanagedEvent({ run: history, changes, during: Array(500).fill(crypto.randomUUID()) });
    const { line } = encodeLine(event, {
      sequence: 1,
      event_id: "x",
      timestamp: "2026-11-22T12:00:00Z",
      host: "h",
      previous_hash: "0".repeat(64),
    });
    expect(line.length).toBeLessThanOrEqual(MAX_LINE);
    expect(JSON.parse(line).details).toMatchObject({
      count: 5000,
      changes_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
  });

  test("identifies its changes: another list has another digest, the same list the same", () => {
    const batch = (version: string) => ({
      run: null,
      changes: [at("12:00:00", `install a:all <none> ${version}`)],
      during: [],
    });
    const digest = (version: string) => unmanagedEvent(batch(version)).details?.changes_sha256;
    expect(digest("1.0")).toBe(digest("1.0"));
    expect(digest("1.0")).not.toBe(digest("1.1"));
    expect(moreUnmanaged([batch("1.0"), batch("1.1")]).details).toMatchObject({ runs: 2, count: 2 });
  });
});

describe("changes in no log", () => {
  test.each([
    ["nothing changed", { "a:all": "1" }, { "a:all": "1" }, [], []],
    ["an upgrade", { "a:all": "1" }, { "a:all": "2" }, [], ["changed a:all 1 2"]],
    ["an installation", {}, { "a:all": "2" }, [], ["changed a:all none 2"]],
    ["a removal", { "a:all": "1" }, {}, [], ["changed a:all 1 none"]],
    ["a logged upgrade", { "a:all": "1" }, { "a:all": "2" }, ["upgrade a:all 1 2"], []],
    [
      "a logged one, and more behind it",
      { "a:all": "1" },
      { "a:all": "3" },
      ["upgrade a:all 1 2"],
      ["changed a:all 1 3"],
    ],
    ["a logged removal", { "a:all": "1" }, {}, ["remove a:all 1 <none>"], []],
    ["a change of architecture", { "a:all": "1" }, { "a:amd64": "2" }, ["upgrade a:amd64 1 2"], []],
  ])("%s", (_, before, now, lines, expected) => {
    const logged = lines.map((line) => at("12:00:00", line));
    expect(
      unlogged(before as Record<string, string>, now as Record<string, string>, logged, []).map(
        describeChange,
      ),
    ).toEqual(expected);
  });

  test("an execution explains them too", () => {
    expect(unlogged({}, { "a:all": "1.0" }, [], [run("install a all - 1.0")])).toEqual([]);
  });
});
