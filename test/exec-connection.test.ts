import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Result } from "../src/doc-result.ts";
import { nextDue, outcomeForClients, pace, REFUSAL_PACE } from "../src/exec-connection.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { readStatus } from "../src/wire-executor.ts";
import { makeStatePaths, statePathsIn } from "./execution-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const ID = "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";

/** A result whose message quotes what a package says of itself, at this length. */
const quoting = (length: number): Result => ({
  schema_version: "1.0",
  execution_plan_id: ID,
  plan_id: "11111111-2222-4333-8444-555555555555",
  tool: "apt",
  argv: ["apt-get", "install", "-y", `hello=${"1".repeat(length)}`],
  actor: "ops".repeat(length),
  state: "failed",
  exit_status: 100,
  code: "hook_refused",
  message: "x".repeat(length),
  turn_at: null,
  started_at: "2026-01-02T03:10:00.000Z",
  ended_at: "2026-01-02T03:10:05.000Z",
  submitted_by_uid: 0,
  not_as_planned: [],
  changed_besides: [],
  inverse: [],
});

test("an outcome with a long message does not hide the others from clients", () => {
  const outcome = outcomeForClients(quoting(300_000));
  const recent = [outcome, outcomeForClients(quoting(3))];
  const status = readStatus({
    parameters: { running: null, queued: [], recent },
    continues: false,
    error: null,
  });
  expect(status.recent.map(({ message }) => message?.length)).toEqual([8192, 3]);
});

const NOW = 1_800_000_000_000;

/** Waiting times of `count` refusals at `times`, one after the other. */
function waits(count: number, every: number, due = 0): number[] {
  let last = due;
  return Array.from({ length: count }, (_, n) => {
    const next = nextDue(REFUSAL_PACE, last, NOW + n * every);
    last = next.due;
    return next.waitMs;
  });
}

describe("the rate limit on refusals", () => {
  test("a flood on 48 connections costs a bounded number of events", () => {
    // Each connection sends its next one when its wait is over.
    const free = Array.from({ length: 48 }, () => NOW);
    const hour = NOW + 3_600_000;
    let due = 0;
    let events = 0;
    for (;;) {
      const now = Math.min(...free);
      if (now >= hour) break;
      const next = nextDue(REFUSAL_PACE, due, now);
      due = next.due;
      events++;
      free[free.indexOf(now)] = now + Math.max(1, next.waitMs);
    }
    expect(events).toBeLessThan(3600 / 0.8 + 60 + 48 + 1);
  });
  test("a burst of an honest front does not wait", () => expect(Math.max(...waits(50, 0))).toBe(0));
  test("nor do occasional refusals", () => expect(Math.max(...waits(500, 1000))).toBe(0));
  test("a clock set back by a year delays nobody for longer than a minute", () => {
    expect(nextDue(REFUSAL_PACE, NOW + 3e10, NOW).waitMs).toBeLessThan(60_000);
  });
});

test("reports in one after the other, as an honest front sends them, are each taken within seconds", () => {
  const pace = { eachMs: 5000, free: 60 };
  let [due, now, longest] = [0, NOW, 0];
  for (let n = 0; n < 500; n++) {
    const next = nextDue(pace, due, now);
    due = next.due;
    longest = Math.max(longest, next.waitMs);
    now += next.waitMs + 1000;
  }
  expect(longest).toBeLessThanOrEqual(5000);
  expect(now - NOW).toBeGreaterThan(400 * 5000);
});

describe("waiting after a log entry", () => {
  let paths: StatePaths;
  let remove: () => void;
  beforeEach(() => {
    const directory = temporaryDirectory();
    remove = directory.remove;
    paths = statePathsIn(directory.path);
    makeStatePaths(paths);
  });
  afterEach(() => remove());
  const HOURLY = { eachMs: 3_600_000, free: 1 };
  const due = () => Number(readFileSync(join(paths.lock, "what"), "utf8"));

  test("the first ones are free; a stop ends the wait of the next one", async () => {
    const stop = new AbortController();
    await pace("what", HOURLY, stop.signal, paths);
    await pace("what", HOURLY, stop.signal, paths);
    const waits = pace("what", HOURLY, stop.signal, paths);
    expect(await Promise.race([waits, Promise.resolve("waits")])).toBe("waits");
    stop.abort();
    await waits;
    expect(due()).toBeGreaterThan(Date.now() + HOURLY.eachMs);
  });
  test("a stop before the wait skips it", async () => {
    await pace("what", { ...HOURLY, free: 0 }, AbortSignal.abort(), paths);
    await pace("what", { ...HOURLY, free: 0 }, AbortSignal.abort(), paths);
  });
  test("a wait ends by itself", async () => {
    const quick = { eachMs: 20, free: 0 };
    const { signal } = new AbortController();
    for (let n = 0; n < 3; n++) await pace("what", quick, signal, paths);
    expect(due()).toBeGreaterThan(0);
  });
  test("an invalid record counts as none", async () => {
    writeFileSync(join(paths.lock, "what"), "soon");
    await pace("what", HOURLY, new AbortController().signal, paths);
    expect(due()).toBeGreaterThan(0);
  });
});
