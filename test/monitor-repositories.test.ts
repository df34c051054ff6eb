import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openAuditLog } from "../src/audit-log.ts";
import { sha256Hex } from "../src/canonical.ts";
import { executedFiles, type RepositoryState, repositoryDrift } from "../src/monitor-repositories.ts";

const FILE = "/etc/apt/sources.list.d/vendor.sources";
const ID = "https://vendor.example/debian stable";
const source = (change: Record<string, string> = {}) => ({
  configured_in: `${FILE} stanza 1`,
  signed_by: "embedded",
  trusted_option: "false",
  trust: "pinned",
  problems: "",
  ...change,
});
const fresh = source({ trust: "untrusted", problems: "no index on disk: run `apt-get update`" });
const drift = (before: RepositoryState, now: RepositoryState, executed: string[] = [FILE]) =>
  repositoryDrift(before, now, new Set(executed)).map(({ change, property }) => property ?? change);

describe("what an execution did is not drift", () => {
  test.each<[what: string, before: RepositoryState, now: RepositoryState]>([
    ["added", {}, { [ID]: fresh }],
    ["removed", { [ID]: source() }, {}],
    ["replaced", { [ID]: source() }, { [ID]: source({ keyrings_sha256: "b", components: "main" }) }],
    ["its first index", { [ID]: fresh }, { [ID]: source() }],
  ])("%s", (_, before, now) => {
    expect(drift(before, now)).toEqual([]);
    expect(drift(before, now, []).length).toBeGreaterThan(0);
  });
});

describe("everything else is", () => {
  test.each<[what: string, before: RepositoryState, now: RepositoryState, found: string[]]>([
    ["a source in another file", {}, { x: source({ configured_in: "/etc/apt/sources.list:1" }) }, ["added"]],
    [
      "one that two files configure",
      {},
      { [ID]: source({ configured_in: `${FILE} stanza 1, /etc/apt/sources.list:1` }) },
      ["added"],
    ],
    [
      "one that moved into the file",
      { [ID]: source({ configured_in: "/etc/apt/sources.list:1" }) },
      { [ID]: source() },
      ["configured_in"],
    ],
    [
      "trust that is lost later",
      { [ID]: source() },
      { [ID]: source({ trust: "untrusted", problems: "its index has expired" }) },
      ["trust", "problems"],
    ],
    ["an unreadable part", {}, { "": { problems: "x" } }, ["added"]],
  ])("%s", (_, before, now, found) => expect(drift(before, now)).toEqual(found));
});

describe("files as executions left them", () => {
  const directory = mkdtempSync(join(tmpdir(), "aegis-monitor-repositories-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  const [log, kept, edited, gone] = ["log", "kept", "edited", "gone"].map((name) =>
    join(directory, name),
  ) as [string, string, string, string];
  beforeAll(() => {
    for (const file of [kept, edited]) {
      writeFileSync(file, "a");
      chmodSync(file, 0o644);
    }
    const audit = openAuditLog(log);
    const left = (path: string, text: string | null) =>
      audit.append({
        kind: "execution_completed",
        details: { repository_left: { path, state: text === null ? null : `sha256:${sha256Hex(text)}` } },
      });
    left(kept, "b");
    left(kept, "a");
    left(edited, "a");
    left(edited, "b");
    left(gone, null);
    audit.append({ kind: "execution_completed", details: { repository_left: "forged" } });
  });
  test("the newest execution counts, and only while the file is so", () =>
    expect([...executedFiles(log, undefined)].sort()).toEqual([gone, kept]));
  test("older than the last event: none", () => expect([...executedFiles(log, 6)]).toEqual([]));
});
