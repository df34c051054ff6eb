import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KEPT_RUNS, removeOldRuns } from "../src/eco-old-runs.ts";

let runs: string;
beforeEach(() => {
  runs = mkdtempSync(join(tmpdir(), "aegis-old-runs-"));
});
afterEach(() => rmSync(runs, { recursive: true }));

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
/** A run's directory, as old as its number is low. */
function make(n: number): string {
  const path = join(runs, id(n));
  mkdirSync(path);
  writeFileSync(join(path, "stdout"), "x");
  utimesSync(path, n, n);
  return path;
}
const left = () => readdirSync(runs).sort();

test("the newest are kept, the oldest are removed with their content", () => {
  for (let n = 1; n <= 5; n++) make(n);
  removeOldRuns(runs, id(5), 3);
  expect(left()).toEqual([id(3), id(4), id(5)]);
  removeOldRuns(runs, id(5), 3);
  expect(left()).toEqual([id(3), id(4), id(5)]);
});

test("the run that is ending is kept, even if it looks like the oldest", () => {
  for (let n = 1; n <= 5; n++) make(n);
  removeOldRuns(runs, id(1), 2);
  expect(left()).toEqual([id(1), id(5)]);
});

test("the program keeps 200", () => {
  for (let n = 1; n <= 203; n++) make(n);
  removeOldRuns(runs, id(203));
  expect([left().length, left()[0], KEPT_RUNS]).toEqual([200, id(4), 200]);
});

test("other files stay, and a link is removed without its target", () => {
  const outside = join(runs, "notes");
  mkdirSync(outside);
  writeFileSync(join(outside, "kept"), "x");
  symlinkSync(outside, join(runs, id(1)));
  make(2);
  removeOldRuns(runs, id(2), 1);
  expect(left()).toEqual([id(2), "notes"]);
  expect(existsSync(join(outside, "kept"))).toBe(true);
});

test("no directory of runs is no error", () => {
  expect(removeOldRuns(join(runs, "none"), id(1))).toBeUndefined();
});
