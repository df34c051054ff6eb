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

/** Another opening of the file conflicts as another process would. */
function held(): () => void {
  const fd = openSync(path, "a+");
  expect(tryFlock(fd)).toBe(true);
  return () => closeSync(fd);
}

test("a lock that somebody holds is waited for, and this process goes on meanwhile", async () => {
  const release = held();
  const order: string[] = [];
  const waiting = awaitFileLock(path, () => order.push("locked"), never);
  for (let n = 0; n < 5; n++) await Bun.sleep(20);
  order.push("released");
  release();
  await waiting;
  expect(order).toEqual(["released", "locked"]);
});

test("whoever is to stop waits no longer, and does nothing", async () => {
  const release = held();
  const stop = new AbortController();
  let done = false;
  const waiting = awaitFileLock(path, () => (done = true), stop.signal).catch(String);
  stop.abort(new Error("stopped"));
  expect(await waiting).toBe("Error: stopped");
  release();
  expect(done).toBe(false);
});

test("what fails gives the lock back", async () => {
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
