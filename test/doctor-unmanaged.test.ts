import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { readEvents } from "../src/audit-read.ts";
import { unmanagedChanges } from "../src/doctor-unmanaged.ts";

const NOW = new Date("2026-11-22T12:00:00Z");
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "aegis-unmanaged-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Writes events with the times given, oldest first. */
function write(...events: readonly (readonly [at: string, event: NewAuditEvent])[]): void {
  for (const [at, event] of events) {
    const log = openAuditLog(dir, { now: () => new Date(at) });
    log.append(event);
    log.close();
  }
}
const unmanaged = (program: string, count: number): NewAuditEvent => ({
  kind: "unmanaged_change",
  details: { program, count, message: `${program} did it` },
});
const BASELINE: NewAuditEvent = { kind: "monitor_baseline" };

describe("changes outside Aegis, from the log", () => {
  test("no log at all", () => {
    expect(unmanagedChanges(join(dir, "none"), NOW)).toBeNull();
  });

  test.each<[string, NewAuditEvent[], { monitored: boolean; runs: number }]>([
    ["a monitor that never ran", [{ kind: "checkpoint" }], { monitored: false, runs: 0 }],
    ["a monitor that found nothing", [BASELINE], { monitored: true, runs: 0 }],
    ["one run of dpkg", [BASELINE, unmanaged("dpkg", 1)], { monitored: true, runs: 1 }],
  ])("%s", (_, events, expected) => {
    write(...events.map((event) => ["2026-11-20T00:00:00Z", event] as const));
    expect(unmanagedChanges(dir, NOW)).toMatchObject(expected);
  });

  test("runs and packages are counted by program, for 30 days", () => {
    write(
      ["2026-10-01T00:00:00Z", unmanaged("dpkg", 7)],
      ["2026-11-01T00:00:00Z", unmanaged("unattended-upgrades", 12)],
      ["2026-11-02T00:00:00Z", { kind: "checkpoint" }],
      ["2026-11-03T00:00:00Z", unmanaged("apt-get", 1)],
      ["2026-11-04T00:00:00Z", unmanaged("unattended-upgrades", 3)],
    );
    expect(unmanagedChanges(dir, NOW)).toEqual({
      since: "2026-10-23T12:00:00.000Z",
      first_look: false,
      monitored: true,
      runs: 3,
      packages: 16,
      programs: { "unattended-upgrades": 2, "apt-get": 1 },
      newest: [
        { at: "2026-11-01T00:00:00.000Z", message: "unattended-upgrades did it" },
        { at: "2026-11-03T00:00:00.000Z", message: "apt-get did it" },
        { at: "2026-11-04T00:00:00.000Z", message: "unattended-upgrades did it" },
      ],
      managed: [],
    });
  });

  const deviates = (managed_root: string, count: number): NewAuditEvent => ({
    kind: "unmanaged_change",
    details: { managed_root, count, message: `${managed_root} deviates`, changes: ["added: x"] },
  });
  const leaves = (root: string): NewAuditEvent => ({
    kind: "execution_completed",
    details: {
      managed_root: { root, tree_sha256: "0".repeat(64), record_sha256: "0".repeat(64), files: 0, bytes: 0 },
    },
  });
  test.each<[string, NewAuditEvent[], string[]]>([
    [
      "a managed directory that deviates, months ago too",
      [deviates("/m/npm", 2)],
      ["/m/npm deviates: added: x"],
    ],
    ["not once it is as it was", [deviates("/m/npm", 2), deviates("/m/npm", 0)], []],
    ["not once an execution has exchanged it", [deviates("/m/npm", 2), leaves("npm")], []],
    [
      "another's execution changes nothing",
      [deviates("/m/npm", 2), leaves("pip")],
      ["/m/npm deviates: added: x"],
    ],
    ["what deviates after it", [leaves("npm"), deviates("/m/npm", 1)], ["/m/npm deviates: added: x"]],
  ])("%s", (_, events, expected) => {
    write(...events.map((event) => ["2026-05-01T00:00:00Z", event] as const));
    const summary = unmanagedChanges(dir, NOW);
    expect(summary?.managed.map(({ message }) => message)).toEqual(expected);
    expect(summary).toMatchObject({ runs: 0, packages: 0 });
  });
});

describe("the start of the summary", () => {
  const BEGINS: NewAuditEvent = { kind: "monitor_baseline", details: { repositories_as_last_seen: null } };
  const LOST: NewAuditEvent = { kind: "monitor_baseline", details: { repositories_as_last_seen: true } };
  const MONTH = { since: "2026-10-23T12:00:00.000Z", first_look: false };
  test.each<[string, [string, NewAuditEvent][], object]>([
    [
      "the first look, of these days",
      [["2026-11-20T08:00:00Z", BEGINS]],
      { since: "2026-11-20T08:00:00.000Z", first_look: true },
    ],
    [
      "not a look before which nothing was known any more",
      [
        ["2026-01-01T00:00:00Z", BEGINS],
        ["2026-11-20T08:00:00Z", LOST],
      ],
      MONTH,
    ],
    ["30 days ago, where the first look was before", [["2026-01-01T00:00:00Z", BEGINS]], MONTH],
  ])("%s", (_, events, expected) => {
    write(...events);
    expect(unmanagedChanges(dir, NOW)).toMatchObject({ monitored: true, ...expected });
  });
});

test("the log is filtered by kinds and read no further back than requested", () => {
  write(
    ["2026-11-01T00:00:00Z", BASELINE],
    ["2026-11-02T00:00:00Z", unmanaged("dpkg", 1)],
    ["2026-11-03T00:00:00Z", { kind: "checkpoint" }],
    ["2026-11-04T00:00:00Z", { kind: "repository_drift" }],
  );
  const kinds = (filter: Parameters<typeof readEvents>[1]) => readEvents(dir, filter).map(({ kind }) => kind);
  expect(kinds({ kind: ["unmanaged_change", "repository_drift"] })).toEqual([
    "unmanaged_change",
    "repository_drift",
  ]);
  expect(kinds({ kind: [] })).toEqual([]);
  expect(kinds({ since: "2026-11-02T00:00:00.000Z" })).toEqual([
    "unmanaged_change",
    "checkpoint",
    "repository_drift",
  ]);
  expect(kinds({ kind: "monitor_baseline", since: "2026-11-02T00:00:00.000Z" })).toEqual([]);
});
