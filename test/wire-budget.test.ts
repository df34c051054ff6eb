import { expect, test } from "bun:test";
import fc from "fast-check";
import { byteBudget } from "../src/wire-budget.ts";

test("limits each uid's share and the total", () => {
  const budget = byteBudget({ bytes: 100, bytesPerUid: 60 });
  const [a, b, other] = [budget.hold(1), budget.hold(1), budget.hold(2)];
  a.set(40);
  expect(() => b.set(21)).toThrow("you have too many");
  b.set(20);
  expect(() => other.set(41)).toThrow("there are too many");
  other.set(40);
  a.set(0);
  other.set(60);
});

test("a refusal changes nothing, and released bytes are available again", () => {
  const budget = byteBudget({ bytes: 100, bytesPerUid: 100 });
  const [a, b] = [budget.hold(1), budget.hold(2)];
  a.set(50);
  expect(() => a.set(101)).toThrow();
  expect(() => b.set(51)).toThrow();
  b.set(50);
  a.set(0);
  b.set(100);
});

test("property: the sums never exceed the limits, and are exact", () => {
  const steps = fc.array(fc.tuple(fc.nat(5), fc.nat(70)), { maxLength: 60 });
  fc.assert(
    fc.property(steps, (given) => {
      const budget = byteBudget({ bytes: 100, bytesPerUid: 60 });
      const holds = Array.from({ length: 6 }, (_, i) => ({ uid: i % 3, hold: budget.hold(i % 3), bytes: 0 }));
      const sum = (uid: number | null) =>
        holds.reduce((n, it) => n + (uid === null || it.uid === uid ? it.bytes : 0), 0);
      for (const [which, bytes] of given) {
        const it = holds[which];
        if (it === undefined) throw new Error("no such holder");
        const more = bytes - it.bytes;
        const fits = more <= 0 || (sum(null) + more <= 100 && sum(it.uid) + more <= 60);
        if (fits) {
          it.hold.set(bytes);
          it.bytes = bytes;
        } else expect(() => it.hold.set(bytes)).toThrow();
      }
    }),
  );
});
