import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import { reportRefusals } from "../src/refusals.ts";
import { MAX_REFUSALS } from "../src/varlink-interface.ts";
import { memoryLog, startRunner, temporaryDirectory, until } from "./varlink-kit.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const unknown = { request_sha256: null, execution_id: null };

test("refusals of ten thousand users are one bounded message, and none is lost", async () => {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const path = join(directory.path, "runner.sock");
  const log = memoryLog();
  const refusals = reportRefusals(path, 5, log);
  for (let uid = 0; uid < 10_000; uid++) refusals.add({ code: "busy", uid, ...unknown });
  await until(() => log.lines.some((line) => line.includes("can't be told")));
  const runner = await startRunner(path, () => {});
  cleanups.push(runner.close);
  await refusals.close();
  expect(runner.reports.length).toBe(1);
  expect(runner.reports[0]?.length).toBe(MAX_REFUSALS);
  expect(runner.reports.flat().reduce((n, refusal) => n + refusal.count, 0)).toBe(10_000);
});

test("the digest is kept while all that is counted have the same one", async () => {
  const directory = temporaryDirectory();
  cleanups.push(directory.remove);
  const path = join(directory.path, "runner.sock");
  const runner = await startRunner(path, () => {});
  cleanups.push(runner.close);
  const refusals = reportRefusals(path, 3_600_000, memoryLog());
  const [a, b] = ["a".repeat(64), "b".repeat(64)];
  // The first goes out at once, the rest at close.
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
