import { afterAll, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { tryFlock } from "../src/sys-ffi.ts";
import { awaitFileLock } from "../src/sys-file-lock.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const { path: directory, remove } = temporaryDirectory();
afterAll(remove);
const path = join(directory, "lock");
const never = new AbortController().signal;

/** A second open of the file conflicts as another process would. */
function held(): () => void {
  const fd = openSync(path, "a+");
  expect(tryFlock(fd)).toBe(true);
  return () => closeSync(fd);
}

test("waits for a held lock without blocking the process", async () => {
  const release = held();
  const order: string[] = [];
  const waiting = awaitFileLock(path, () => order.push("locked"), never);
  for (let n = 0; n < 5; n++) await Bun.sleep(20);
  order.push("released");
  release();
  await waiting;
  expect(order).toEqual(["released", "locked"]);
});

test("an abort ends the wait, and the action is not run", async () => {
  const release = held();
  const stop = new AbortController();
  let done = false;
  const waiting = awaitFileLock(path, () => (done = true), stop.signal).catch(String);
  stop.abort(new Error("stopped"));
  expect(await waiting).toBe("Error: stopped");
  release();
  expect(done).toBe(false);
});

test("a failing action releases the lock", async () => {
  const failing = awaitFileLock(
    path,
    () => {
      throw new Error("failed");
    },
    never,
  ).catch(String);
  expect(await failing).toBe("Error: failed");
  held()();
  expect(await awaitFileLock(path, () => "free", never)).toBe("free");
});
