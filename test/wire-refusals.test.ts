import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { openLog } from "../src/log.ts";
import { MAX_REFUSALS } from "../src/wire-executor.ts";
import { countRefusals, reportRefusals } from "../src/wire-refusals.ts";
import { memoryLog, startRunner, temporaryDirectory, until } from "./varlink-kit.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const unknown = { request_sha256: null, execution_id: null };

test("refusals of ten thousand users fit in one bounded message, and none is lost", async () => {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const path = join(directory.path, "runner.sock");
  const log = memoryLog();
  const refusals = reportRefusals(path, 5, log);
  for (let uid = 0; uid < 10_000; uid++) refusals.add({ code: "busy", uid, ...unknown });
  await until(() => log.lines.some((line) => line.includes("can't report to the runner")));
  const runner = await startRunner(path, () => {});
  cleanups.push(runner.close);
  await refusals.close();
  expect(runner.reports.length).toBe(1);
  expect(runner.reports[0]?.length).toBe(MAX_REFUSALS);
  expect(runner.reports.flat().reduce((n, refusal) => n + refusal.count, 0)).toBe(10_000);
});

test("the digest is kept as long as all counted refusals share it", async () => {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const path = join(directory.path, "runner.sock");
  const runner = await startRunner(path, () => {});
  cleanups.push(runner.close);
  const refusals = reportRefusals(path, 3_600_000, memoryLog());
  const [a, b] = ["a".repeat(64), "b".repeat(64)];
  // The first is sent at once, the rest on close.
  refusals.add({ code: "expired", uid: 1, request_sha256: a, execution_id: null });
  await until(() => runner.reports.length === 1);
  for (const request_sha256 of [a, a])
    refusals.add({ code: "replay", uid: 1, request_sha256, execution_id: null });
  for (const request_sha256 of [a, b])
    refusals.add({ code: "drift", uid: 1, request_sha256, execution_id: null });
  await refusals.close();
  expect<unknown>(runner.reports[1]).toEqual([
    { code: "replay", count: 2, uid: 1, request_sha256: a, execution_id: null },
    { code: "drift", count: 2, uid: 1, request_sha256: null, execution_id: null },
  ]);
});

test("the log has one line for many deliveries, with codes and uids; a failure is logged once", async () => {
  const lines: Record<string, unknown>[] = [];
  const log = openLog({ AEGIS_LOG_FORMAT: "json" }, (line) => lines.push(JSON.parse(line)));
  let problem: Error | null = null;
  let deliveries = 0;
  const refusals = countRefusals({
    async deliver() {
      deliveries++;
      return problem;
    },
    intervalMs: 1,
    log,
    what: "refused requests",
    undelivered: "nobody can be told of",
  });
  const refuse = async (code: string, uid: number) => {
    const before = deliveries;
    refusals.add({ code, uid, ...unknown });
    await until(() => deliveries > before);
  };
  await refuse("expired", 1000);
  for (let n = 0; n < 5; n++) await refuse("replay", 1001);
  await refuse("busy", 1002);
  problem = new Error("connection refused");
  await refuse("busy", 1002);
  await until(() => deliveries > 12);
  problem = null;
  await refusals.close();
  expect(lines).toMatchObject([
    { level: "warn", message: "refused requests", count: 1, codes: "expired 1", uids: "1000" },
    {
      level: "error",
      message: "nobody can be told of refused requests",
      codes: "busy 1",
      problem: "connection refused",
    },
    { level: "info", message: "delivered after an earlier failure" },
    { level: "warn", count: 7, codes: "replay 5, busy 2", uids: "1001, 1002" },
  ]);
});
