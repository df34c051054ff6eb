import { describe, expect, test } from "bun:test";
import { nextDue, REFUSAL_PACE } from "../src/refusal-pace.ts";

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

describe("the pace of refusals", () => {
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
  test("a burst of an honest front waits for nothing", () => expect(Math.max(...waits(50, 0))).toBe(0));
  test("nor do refusals now and then", () => expect(Math.max(...waits(500, 1000))).toBe(0));
  test("a clock that was set back by a year holds nobody up for longer than a minute", () => {
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
