import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { AegisError } from "../src/errors.ts";
import { inTurn, queued, type RunLock, tryRunLock, waitForRunLock } from "../src/exec-lock.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { makeStatePaths, statePathsIn } from "./execution-kit.ts";
import { installStateWorker } from "./kit.ts";
import { refuses } from "./signing-kit.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import type { Running } from "./throwaway-inside.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const LOCK = "/var/lib/aegis/lock";
const A = "aaaaaaaa-0000-4000-8000-000000000000";
const B = "bbbbbbbb-0000-4000-8000-000000000000";
const C = "cccccccc-0000-4000-8000-000000000000";
const D = "dddddddd-0000-4000-8000-000000000000";
const E = "eeeeeeee-0000-4000-8000-000000000000";

/** `key.uid`, `!` for the one that has the lock. */
const tickets = (words: string) =>
  words
    .split(" ")
    .filter((word) => word !== "")
    .map((word) => ({ key: word, uid: Number(word.split(".")[1]), running: word.endsWith("!") }));
const order = (words: string, served: number[]) =>
  inTurn(tickets(words), served)
    .map(({ key }) => key)
    .join(" ");

const TURNS: [what: string, tickets: string, served: number[], order: string][] = [
  ["nobody", "", [1], ""],
  ["one user's in the order of arrival", "c.1 a.1 b.1", [1], "a.1 b.1 c.1"],
  ["whoever has the lock, whatever it had before", "a.2 b.1! c.3", [2, 3, 1], "b.1! a.2 c.3"],
  ["a user who had it longer ago", "a.1 b.2", [2, 1], "b.2 a.1"],
  ["a user who never had it", "a.1 b.2", [1], "b.2 a.1"],
  ["two who never had it, by arrival", "b.2 a.1", [], "a.1 b.2"],
  ["by turns", "a.1! b.1 c.1 d.1 e.2 f.3 g.3", [1], "a.1! e.2 f.3 b.1 g.3 c.1 d.1"],
  ["a caller without a name is one user", "a.-1 b.-1 c.0", [-1], "c.0 a.-1 b.-1"],
];
for (const [what, given, served, expected] of TURNS)
  test(`turns: ${what}`, () => expect(order(given, served)).toBe(expected));

test("property: per own earlier plan, nobody waits for more turns than there are users", () => {
  const uid = fc.integer({ min: 0, max: 4 });
  fc.assert(
    fc.property(fc.array(uid, { minLength: 1, maxLength: 30 }), fc.array(uid), (uids, before) => {
      let served = before;
      let waiting = uids.map((who, n) => ({ key: String(n).padStart(3, "0"), uid: who, running: false }));
      const users = new Set(uids).size;
      for (let turn = 1; waiting.length > 0; turn++) {
        const [next] = inTurn(waiting, served);
        if (next === undefined) throw new Error("nobody is next");
        const own = waiting.filter((other) => other.uid === next.uid);
        expect(own[0]).toBe(next);
        const nth = uids.slice(0, Number(next.key) + 1).filter((who) => who === next.uid).length;
        expect(turn).toBeLessThanOrEqual(nth * users);
        waiting = waiting.filter((other) => other !== next);
        served = [...served.filter((who) => who !== next.uid), next.uid];
      }
    }),
  );
});

describe("the queue, in one process", () => {
  let paths: StatePaths;
  let remove: () => void;
  beforeEach(() => {
    const directory = temporaryDirectory();
    remove = directory.remove;
    paths = statePathsIn(directory.path);
    makeStatePaths(paths);
  });
  afterEach(() => remove());

  const LIMITS = { all: 3, perUid: 2 };
  const stopping = new AegisError("unavailable", "being stopped");
  const held: RunLock[] = [];
  afterEach(() => {
    for (const lock of held.splice(0)) lock.release();
  });
  /** Holds the lock without a ticket, as recovery does. */
  const hold = () => {
    const lock = tryRunLock(paths);
    if (lock === null) throw new Error("the lock is taken");
    held.push(lock);
    return {
      release() {
        held.splice(held.indexOf(lock), 1);
        lock.release();
      },
    };
  };
  const stops: AbortController[] = [];
  afterEach(() => {
    for (const stop of stops.splice(0)) stop.abort(stopping);
  });
  /** Waits for the lock; the queue positions reported go into `told`. */
  const wait = (execution: string, uid: number, told: number[] = []) => {
    const stop = new AbortController();
    stops.push(stop);
    const lock = waitForRunLock({ execution, uid }, LIMITS, (place) => told.push(place), stop.signal, paths);
    lock.catch(() => {});
    return { lock, stop, told };
  };
  const files = () =>
    readdirSync(paths.lock)
      .filter((name) => name !== "run")
      .map((name) => name.slice(0, 2));

  test("free: at once, and free again after its release", async () => {
    const { lock } = wait(A, 1);
    const taken = await lock;
    expect(tryRunLock(paths)).toBeNull();
    expect(queued(paths)).toEqual([A]);
    expect(files()).toEqual(["r."]);
    taken.release();
    expect(files()).toEqual([]);
    expect(queued(paths)).toEqual([]);
    hold().release();
  });
  test("held: the place is reported once per change", async () => {
    const lock = hold();
    const first = wait(A, 1);
    const second = wait(B, 2);
    while (second.told.length === 0) await Bun.sleep(5);
    expect(queued(paths)).toEqual([A, B]);
    expect([first.told, second.told]).toEqual([[0], [1]]);
    lock.release();
    const taken = await first.lock;
    expect(queued(paths)).toEqual([A, B]);
    taken.release();
    (await second.lock).release();
    expect(second.told[0]).toBe(1);
  });
  test("a user who had the lock waits behind one who had not", async () => {
    (await wait(A, 1).lock).release();
    const lock = hold();
    const own = wait(B, 1);
    const other = wait(C, 2);
    while (other.told.length === 0 || own.told.length === 0) await Bun.sleep(5);
    expect(queued(paths)).toEqual([C, B]);
    lock.release();
    (await other.lock).release();
    (await own.lock).release();
  });
  test("stopped while waiting: the stop's reason, and no ticket is left", async () => {
    hold();
    const { lock, stop } = wait(A, 1);
    stop.abort(stopping);
    await expect(lock).rejects.toBe(stopping);
    expect(files()).toEqual([]);
  });
  test("the same execution a second time", async () => {
    hold();
    wait(A, 1);
    const hint = await refuses(() => wait(A, 2).lock, "replay", "already been submitted");
    expect(hint).toContain(`--watch ${A}`);
    expect(queued(paths)).toEqual([A]);
  });
  test("too many of one user, but never of root", async () => {
    hold();
    wait(A, 1);
    wait(B, 1);
    await refuses(() => wait(C, 1).lock, "busy", "2 executions are already waiting, 2 of them yours");
    wait(C, 0);
    expect(queued(paths)).toHaveLength(3);
  });
  test("too many in total, root's too", async () => {
    hold();
    for (const [uid, id] of [A, B, C].entries()) wait(id, uid);
    await refuses(() => wait(D, 0).lock, "busy", "3 executions are already waiting, 1 of them yours");
  });
  test("an error in the callback removes the ticket", async () => {
    hold();
    const onPlace = () => {
      throw new Error("the connection broke");
    };
    await expect(waitForRunLock({ execution: A, uid: 1 }, LIMITS, onPlace, undefined, paths)).rejects.toThrow(
      "the connection broke",
    );
    expect(files()).toEqual([]);
  });
  const SWEPT: [what: string, name: string][] = [
    ["of a process that has ended", `q.0.0.${2 ** 22 + 1}.5.${B}.1.x`],
    ["of an earlier boot", `r.0.0.1.1.${B}.1.00000000-0000-4000-8000-000000000000`],
    ["that is no ticket", "q.nonsense"],
  ];
  for (const [what, name] of SWEPT) {
    test(`a ticket ${what} is swept away`, async () => {
      writeFileSync(join(paths.lock, name), "");
      (await wait(A, 1).lock).release();
      expect(files()).toEqual([]);
    });
  }
  test("an invalid record of turns is ignored", async () => {
    writeFileSync(join(paths.lock, "run"), "x 1 \n -1 2e9 ");
    (await wait(A, 7).lock).release();
    expect(readFileSync(join(paths.lock, "run"), "utf8")).toBe("1 -1 7");
  });
});

describeOnThrowaway("the run lock, between processes", () => {
  let host: ThrowawayHost;
  let worker: string[];
  const running: Running[] = [];

  beforeAll(async () => {
    host = await startHost();
    worker = await installStateWorker(host);
    await host.exec([...worker, "prepare"]);
  });
  afterEach(async () => {
    for (const process of running.splice(0)) {
      try {
        process.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
      await process.exited;
    }
    for (const name of readdirSync(host.path("/run")).filter((n) => n.startsWith("go-")))
      rmSync(host.path(`/run/${name}`));
  });
  afterAll(() => host.stop());

  const until = async (holds: () => boolean) => {
    while (!holds()) await Bun.sleep(10);
  };
  const says = (one: Running, text: string) => until(() => one.stdout().split("\n").includes(text));
  /** Starts one that wants the lock, and waits until it stands in the queue or has it. */
  const hold = async (execution: string, limits: { uid?: number; all?: number; perUid?: number } = {}) => {
    const words = JSON.stringify({ uid: 0, all: 32, perUid: 32, ...limits });
    const process = await host.spawn([...worker, "hold", execution, words]);
    running.push(process);
    await until(() => process.stdout() !== "");
    return process;
  };
  const go = (execution: string) => host.write(`/run/go-${execution}`, "");
  const call = async (step: string) => JSON.parse((await host.exec([...worker, step])).stdout);
  const files = () => readdirSync(host.path(LOCK)).filter((name) => /^[qr]\./.test(name));

  test("first come, first served; each gets its place; the lock is free afterwards", async () => {
    const a = await hold(A);
    await says(a, "locked");
    const b = await hold(B);
    const c = await hold(C);
    const d = await hold(D);
    await says(d, "place 3");
    expect([b.stdout(), c.stdout(), d.stdout()]).toEqual(["place 1\n", "place 2\n", "place 3\n"]);
    expect(await call("queued")).toEqual([A, B, C, D]);
    expect(await call("free")).toBe(false);
    // Each looks now and then: nobody goes on before all have heard.
    go(A);
    await says(b, "locked");
    await says(c, "place 1");
    await says(d, "place 2");
    go(B);
    await says(c, "locked");
    await says(d, "place 1");
    go(C);
    await says(d, "locked");
    go(D);
    for (const process of [a, b, c, d]) expect(await process.exited).toBe(0);
    // One that looks between two moments of a change may hear of place 0, which is the lock.
    const heard = (one: Running) => one.stdout().replace("place 0\n", "");
    expect(heard(b)).toBe('place 1\nlocked\n"released"\n');
    expect(heard(c)).toBe('place 2\nplace 1\nlocked\n"released"\n');
    expect(heard(d)).toBe('place 3\nplace 2\nplace 1\nlocked\n"released"\n');
    expect([await call("free"), await call("queued"), files()]).toEqual([true, [], []]);
  });

  test("a slow older waiter is not overtaken", async () => {
    const a = await hold(A);
    await says(a, "locked");
    const b = await hold(B);
    const c = await hold(C);
    await says(c, "place 2");
    b.kill("SIGSTOP");
    go(A);
    await says(c, "place 1");
    // Several looks of the younger one at a lock that is free.
    for (let i = 0; i < 5; i++) await host.exec([...worker, "queued"]);
    await Bun.sleep(500);
    expect(c.stdout()).toBe("place 2\nplace 1\n");
    b.kill("SIGCONT");
    await says(b, "locked");
  });

  test("a process that dies, waiting or holding, delays nobody and leaves no ticket", async () => {
    const a = await hold(A);
    await says(a, "locked");
    const b = await hold(B);
    const c = await hold(C);
    await says(c, "place 2");
    b.kill("SIGKILL");
    await says(c, "place 1");
    a.kill("SIGKILL");
    await says(c, "locked");
    expect(await call("queued")).toEqual([C]);
    expect(files()).toHaveLength(1);
  });

  test("a ticket whose pid belongs to another process now is swept away", async () => {
    const a = await hold(A);
    await says(a, "locked");
    host.write(`${LOCK}/q.0000000000000001-00000000000000000001.${a.insidePid}.1.${B}`, "");
    host.write(`${LOCK}/q.0000000000000002-00000000000000000001.nonsense`, "");
    expect(await call("queued")).toEqual([A]);
    expect(files()).toHaveLength(1);
  });

  test("a ticket of an earlier boot is swept away, even if pid and start time match", async () => {
    const a = await hold(A);
    await says(a, "locked");
    const [, pid, start, , uid] = files()[0]?.split(".").slice(1) ?? [];
    const other = "00000000-0000-4000-8000-000000000000";
    host.write(`${LOCK}/q.0000000000000001-00000000000000000001.${pid}.${start}.${B}.${uid}.${other}`, "");
    host.write(`${LOCK}/q.0000000000000001-00000000000000000002.${pid}.${start}.${C}.${uid}`, "");
    expect(await call("queued")).toEqual([A]);
    expect(files()).toHaveLength(1);
  });

  const REFUSED: [
    name: string,
    first: [string, object],
    second: [string, object],
    third: [string, object],
    says: string,
  ][] = [
    [
      "too many",
      [A, { all: 2 }],
      [B, { all: 2 }],
      [C, { all: 2 }],
      "busy: 2 executions are already waiting, 2 of them yours",
    ],
    [
      "too many of one user's",
      [A, { uid: 1 }],
      [B, { uid: 2 }],
      [C, { uid: 1, perUid: 1 }],
      "busy: 2 executions are already waiting, 1 of them yours",
    ],
    [
      "an execution that waits already",
      [A, {}],
      [B, {}],
      [B, { uid: 1 }],
      "replay: this execution plan has already been submitted",
    ],
    ["an execution that runs already", [A, {}], [B, {}], [A, {}], "replay: "],
  ];
  for (const [name, first, second, third, expected] of REFUSED) {
    test(`refused: ${name}`, async () => {
      const a = await hold(...first);
      await says(a, "locked");
      await says(await hold(...second), "place 1");
      const refused = await hold(...third);
      expect(await refused.exited).toBe(0);
      expect(refused.stdout()).toStartWith(expected);
      expect(await call("queued")).toEqual([A, B]);
    });
  }

  test("users take turns, however many plans one of them has, and each of them in the order of their arrival", async () => {
    const a = await hold(A, { uid: 1 });
    await says(a, "locked");
    const b = await hold(B, { uid: 1 });
    const c = await hold(C, { uid: 1 });
    const d = await hold(D, { uid: 2 });
    await says(b, "place 2");
    await says(c, "place 3");
    await says(d, "place 1");
    expect(await call("queued")).toEqual([A, D, B, C]);
    go(A);
    await says(d, "locked");
    expect(await call("queued")).toEqual([D, B, C]);
    const again = await hold(E, { uid: 2 });
    expect(await call("queued")).toEqual([D, B, E, C]);
    go(D);
    await says(b, "locked");
    go(B);
    await says(again, "locked");
    go(E);
    await says(c, "locked");
  });

  test("another user still has a slot, and root even beyond its share", async () => {
    const a = await hold(A, { uid: 1, perUid: 1 });
    await says(a, "locked");
    const others = [
      await hold(B, { uid: 2, perUid: 1 }),
      await hold(C, { uid: 0, perUid: 1 }),
      await hold(D, { uid: 0, perUid: 1 }),
    ];
    for (const one of others) expect(one.stdout()).toStartWith("place ");
    expect((await call("queued")).sort()).toEqual([A, B, C, D]);
  });
});
