import { describe, expect, test } from "bun:test";
import { nextRefusal } from "../src/refusal-pace.ts";

const NOW = 1_800_000_000_000;

/** Waiting times of `count` refusals at `times`, one after the other. */
function waits(count: number, every: number, due = 0): number[] {
  let last = due;
  return Array.from({ length: count }, (_, n) => {
    const next = nextRefusal(last, NOW + n * every);
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
      const next = nextRefusal(due, now);
      due = next.due;
      events++;
      free[free.indexOf(now)] = now + Math.max(1, next.waitMs);
    }
    expect(events).toBeLessThan(3600 / 0.8 + 60 + 48 + 1);
  });
  test("a burst of an honest front waits for nothing", () => expect(Math.max(...waits(50, 0))).toBe(0));
  test("nor do refusals now and then", () => expect(Math.max(...waits(500, 1000))).toBe(0));
  test("a clock that was set back by a year holds nobody up for longer than a minute", () => {
    expect(nextRefusal(NOW + 3e10, NOW).waitMs).toBeLessThan(60_000);
  });
});
