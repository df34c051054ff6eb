import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { type AuditLog, openAuditLog } from "../src/audit-log.ts";
import {
  feedMetrics,
  type MetricFacts,
  metricsText,
  processMetrics,
  writeMetrics,
} from "../src/monitor-metrics.ts";
import { VERSION } from "../src/self.ts";
import { writeIndex } from "./feeds-kit.ts";

let dir = "";
let log: AuditLog;
const at = (name: string) => join(dir, name);
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "aegis-metrics-"));
  log = openAuditLog(at("log"), { rotateAt: 4000 });
});
afterEach(() => rmSync(dir, { recursive: true }));

const FACTS: MetricFacts = { findings: [], now: new Date("2026-11-30T20:00:00.900Z"), more: [] };
function written(facts: Partial<MetricFacts> = {}): string {
  const paths = { auditDir: at("log"), run: dir, counts: at("counts.json"), file: at("aegis.prom") };
  writeMetrics({ ...FACTS, ...facts }, paths);
  return readFileSync(at("aegis.prom"), "utf8");
}
const sample = (text: string, name: string) =>
  text
    .split("\n")
    .find((line) => line.startsWith(`${name} `))
    ?.slice(name.length + 1);

test("vulnerability data: the age of each feed, and whether it failed", () => {
  const attempt = { url: "u", last_attempt: FACTS.now.toISOString(), last_success: null, problem: null };
  const feeds = { kev: attempt, epss: { ...attempt, problem: "status 404" } };
  writeFileSync(at("state.json"), JSON.stringify(feeds));
  writeIndex(dir, "kev", [], { newest: "2026-11-27T20:00:00Z" });
  const text = written({ more: feedMetrics(FACTS.now, dir) });
  expect(sample(text, 'aegis_feed_age_seconds{feed="kev"}')).toBe(String(3 * 86_400));
  expect(sample(text, 'aegis_feed_age_seconds{feed="epss"}')).toBeUndefined();
  expect(['kev"', 'epss"'].map((feed) => sample(text, `aegis_feed_failed{feed="${feed}}`))).toEqual([
    "0",
    "1",
  ]);
  writeFileSync(at("state.json"), "{");
  expect(feedMetrics(FACTS.now, dir)).toEqual([]);
  expect(written({ more: feedMetrics(FACTS.now, at("absent")) })).not.toContain("aegis_feed");
});

describe("the file", () => {
  test("executions by outcome, counted once each, over rotated files too", () => {
    const outcomes = ["completed", "failed", "completed", "interrupted", "denied", "completed"] as const;
    for (const outcome of outcomes) {
      if (outcome === "denied" || outcome === "interrupted")
        log.append({ kind: `execution_${outcome}`, details: {} });
      else log.append({ kind: "execution_completed", details: { state: outcome, filler: "x".repeat(1500) } });
    }
    const text = written();
    const by = (outcome: string) => sample(text, `aegis_executions_total{outcome="${outcome}"}`);
    expect(["completed", "failed", "interrupted", "denied"].map(by)).toEqual(["3", "1", "1", "1"]);
    expect(Number(sample(text, "aegis_audit_log_files"))).toBeGreaterThan(1);
    expect(written()).toBe(text);
    log.append({ kind: "execution_completed", details: { state: "completed" } });
    expect(sample(written(), 'aegis_executions_total{outcome="completed"}')).toBe("4");
  });

  test("refusals that the front has summed up count as many", () => {
    log.append({ kind: "execution_denied", details: { count: 7 } });
    log.append({ kind: "execution_denied", details: { count: -7 } });
    log.append({ kind: "execution_denied", details: { count: "7" } });
    expect(sample(written(), 'aegis_executions_total{outcome="denied"}')).toBe("9");
  });

  test("a new log is counted from its beginning", () => {
    for (let n = 0; n < 3; n++) log.append({ kind: "execution_interrupted", details: {} });
    expect(sample(written(), 'aegis_executions_total{outcome="interrupted"}')).toBe("3");
    rmSync(at("log"), { recursive: true });
    openAuditLog(at("log")).append({ kind: "execution_interrupted", details: {} });
    expect(sample(written(), 'aegis_executions_total{outcome="interrupted"}')).toBe("1");
  });

  test("requests, findings, time, size, version", () => {
    log.append({ kind: "monitor_baseline", details: {} });
    writeFileSync(at("requests.state"), "4 1 open\n3 2 approved\n2 1 rejected\n1 1 applied\n");
    const text = written({ findings: ["warn keys: x", "fail units: y", "fail keys: z"] });
    expect(sample(text, "aegis_requests_pending")).toBe("2");
    expect(sample(text, 'aegis_findings{level="warn"}')).toBe("1");
    expect(sample(text, 'aegis_findings{level="fail"}')).toBe("2");
    expect(sample(text, "aegis_monitor_timestamp_seconds")).toBe("1796068800");
    expect(sample(text, "aegis_audit_log_bytes")).toBe(String(statSync(at("log/audit.ndjson")).size));
    expect(sample(text, `aegis_info{version="${VERSION}"}`)).toBe("1");
    expect(statSync(at("aegis.prom")).mode & 0o777).toBe(0o644);
  });

  for (const [what, content] of [
    ["nothing", ""],
    ["another document", '{"sequence":1}'],
    [
      "a number below zero",
      '{"sequence":-1,"completed":0,"failed":0,"interrupted":0,"denied":0,"unmanaged":0}',
    ],
  ]) {
    test(`kept counts that are ${what}: all is counted again`, () => {
      log.append({ kind: "execution_interrupted", details: {} });
      writeFileSync(at("counts.json"), content ?? "");
      expect(sample(written(), 'aegis_executions_total{outcome="interrupted"}')).toBe("1");
    });
  }

  test("a log that was changed ends the run, and the old file stays", () => {
    log.append({ kind: "execution_interrupted", details: {} });
    const before = written();
    const path = at("log/audit.ndjson");
    writeFileSync(path, readFileSync(path, "utf8").replace("execution_interrupted", "execution_completed"));
    expect(() => written()).toThrow("was changed");
    expect(readFileSync(at("aegis.prom"), "utf8")).toBe(before);
  });
});

test("old code and a reboot; nothing where nobody could look", () => {
  const old = [{ path: "/usr/lib/x.so", processes: [{ pid: 1, start: 1 }] }];
  const units = [
    { unit: "a.service", files: [], old },
    { unit: "b.service", files: [], old: [] },
  ];
  const text = metricsText(processMetrics({ units, reboot: [] }));
  expect(text).toContain("\naegis_units_with_old_code 1\n");
  expect(text).toEndWith("\naegis_reboot_needed 0\n");
  expect(processMetrics(null)).toEqual([]);
});

test("a label may hold anything, and stays one line", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (label) => {
      const text = metricsText([
        { name: "m", help: "h", type: "gauge", samples: [{ labels: { label }, value: 1 }] },
      ]);
      const [, , line = "", ...rest] = text.split("\n");
      expect(rest).toEqual([""]);
      const value = /^m\{label="((?:[^"\\]|\\[\\n"])*)"\} 1$/s.exec(line)?.[1] ?? "";
      expect(value.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c))).toBe(label);
    }),
  );
});
