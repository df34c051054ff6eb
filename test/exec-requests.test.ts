import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import { noticeNames, readNotice } from "../src/doc-notice.ts";
import { writeResult } from "../src/doc-result.ts";
import { approvalHash } from "../src/exec-approval.ts";
import { settleRequests } from "../src/exec-requests.ts";
import { substanceOf } from "../src/exec-substance.ts";
import { UsedRecord } from "../src/exec-used.ts";
import { writeFileAtomic } from "../src/sys-files.ts";
import { logged } from "./execution-kit.ts";
import { AGENT, planned, RequestHost } from "./request-kit.ts";
import { approvalOf, refuses } from "./signing-kit.ts";

let host: RequestHost;
beforeEach(() => {
  host = new RequestHost();
});
afterEach(() => host.remove());

const files = () => readdirSync(host.paths.requests).sort();
const at = (name: string) => join(host.paths.requests, name);
const state = () => readFileSync(join(host.paths.run, "requests.state"), "utf8");
const approve = async (n: number) => {
  const plan = planned(n);
  const substance = substanceOf(plan, JSON.parse(host.texts(plan).policy_result));
  const request = await host.submit(plan);
  return host.approve(request, approvalOf(plan, { substance, now: host.now }));
};

/** As an execution writes it: used up, and its outcome. */
function runOf(use: { operation_plan_hash: string; approvals: string[] }, started = true): string {
  const id = "0b7b4a3e-7c9e-4f6a-9a44-1f0c2d3e4f50";
  const at = host.now.toISOString();
  new UsedRecord(host.paths.used).append([
    { tool: "apt", execution_plan_id: id, at, audit_sequence: 0, ...use },
  ]);
  const common = {
    schema_version: "1.0" as const,
    execution_plan_id: id,
    plan_id: "p",
    tool: "apt" as const,
  };
  const outcome = { argv: ["x"], state: "running" as const, exit_status: null, code: null, message: null };
  const times = { turn_at: at, started_at: at, ended_at: null };
  const rest = { submitted_by_uid: AGENT, not_as_planned: [], changed_besides: [], inverse: null };
  if (started) writeResult({ ...common, ...outcome, ...times, ...rest, actor: "ops (key 1)" }, host.paths);
  return id;
}

describe("refused", () => {
  test("a request's file that can't be read: no request is handled, and none is lost", async () => {
    await host.submit(planned(1));
    writeFileSync(at("1.json"), "{}");
    await refuses(() => host.submit(planned(2)), "io", "1.json can't be read");
    expect(files()).toEqual(["1.1.documents", "1.json"]);
  });

  test("documents that were changed on disk", async () => {
    await host.submit(planned(1));
    writeFileSync(at("1.1.documents"), readFileSync(at("1.1.documents"), "utf8").replace("hello", "evil1"));
    await refuses(() => host.open((store) => store.texts(store.find(1))), "io", "not what was kept");
  });

  test("a number that isn't there", async () => {
    await refuses(() => host.find(3), "not_found", "no request 3");
  });

  test("whatever fails to be logged fails, and is logged by the next", async () => {
    const { world } = host;
    const broken = {
      ...world.audit,
      append: () => {
        throw new Error("the disk is full");
      },
    };
    const { audit } = world;
    world.audit = broken;
    await expect(host.submit(planned(1))).rejects.toThrow("the disk is full");
    world.audit = audit;
    expect(await host.find(1)).toMatchObject({ state: "open" });
    expect(host.events()).toEqual(["request_submitted 1.1"]);
    // And repeating it makes no second one.
    expect((await host.submit(planned(1))).number).toBe(1);
    expect(host.events()).toEqual(["request_submitted 1.1"]);
  });
});

test("files are root's alone, and the states are for everybody", async () => {
  await host.submit(planned(1));
  const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);
  expect(files().map((name) => modeOf(at(name)))).toEqual(["600", "600"]);
  expect(modeOf(join(host.paths.run, "requests.state"))).toBe("644");
});

describe("states for those who wait", () => {
  test("have number, revision and state, and nothing else", async () => {
    await host.submit(planned(1));
    await approve(2);
    await host.withdraw(await host.submit(planned(3)), AGENT);
    expect(state()).toBe("3 2 withdrawn\n2 2 approved\n1 1 open\n");
  });

  test("are written again after a boot", async () => {
    await host.submit(planned(1));
    await host.withdraw(await host.submit(planned(2)), AGENT);
    rmSync(join(host.paths.run, "requests.state"));
    await settleRequests(host.world, new AbortController().signal);
    expect(state()).toBe("2 2 withdrawn\n1 1 open\n");
  });

  test("that can't be written stop nothing", async () => {
    rmSync(host.paths.run, { recursive: true });
    expect((await host.submit(planned(1))).number).toBe(1);
    expect(host.warnings.join()).toContain("can't be published");
  });
});

describe("time", () => {
  test("ends a request, and drops its documents", async () => {
    await host.submit(planned(1));
    host.pass(24 * 60 - 1);
    expect(await host.find(1)).toMatchObject({ state: "open" });
    host.pass(1);
    expect(await host.find(1)).toMatchObject({ state: "expired", end: { by: null, uid: null } });
    expect(host.events()).toEqual(["request_submitted 1.1", "request_expired 1.2"]);
    expect(files()).toEqual(["1.ended.json"]);
  });

  test("ends an approval, and the request is open again", async () => {
    const request = await approve(1);
    host.pass(61);
    const open = await host.find(1);
    expect(open).toMatchObject({ state: "open", approvals: [], revision: request.revision + 1 });
    expect(logged(host.paths).at(-1)).toMatchObject({
      kind: "request_lapsed",
      details: { lapsed: [{ name: "alice" }] },
    });
  });
});

describe("a run", () => {
  test("that was used up and never started ends nothing", async () => {
    await approve(1);
    runOf({ operation_plan_hash: canonicalHash(planned(1)), approvals: [] }, false);
    expect(await host.find(1)).toMatchObject({ state: "approved" });
  });

  test("of another plan ends nothing", async () => {
    await approve(1);
    runOf({ operation_plan_hash: canonicalHash(planned(2)), approvals: [] });
    expect(await host.find(1)).toMatchObject({ state: "approved" });
  });

  test("of its plan ends the request", async () => {
    await approve(1);
    const id = runOf({ operation_plan_hash: canonicalHash(planned(1)), approvals: [] });
    await settleRequests(host.world, new AbortController().signal);
    expect(await host.find(1)).toMatchObject({
      state: "applied",
      end: { by: "ops (key 1)", uid: AGENT, execution_id: id },
    });
    expect(logged(host.paths).at(-1)).toMatchObject({
      kind: "request_applied",
      execution_id: id,
      actor: "ops (key 1)",
    });
  });

  test("with its approval, of a plan that was planned again, ends it too", async () => {
    await approve(1);
    const hashes = await host.open((store) => store.find(1).approvals.map(approvalHash));
    runOf({ operation_plan_hash: "0".repeat(64), approvals: hashes });
    expect(await host.find(1)).toMatchObject({ state: "applied" });
  });
});

test("nothing is opened where there are no requests", async () => {
  await settleRequests(host.world, new AbortController().signal);
  expect(existsSync(join(host.paths.lock, "requests"))).toBe(false);
  expect(host.warnings).toEqual([]);
});

describe("what has ended", () => {
  const endOne = async (n: number) => host.withdraw(await host.submit(planned(n)), AGENT);

  test("is kept for 90 days, the newest for good: no number comes twice", async () => {
    for (let n = 1; n <= 3; n++) await endOne(n);
    for (const name of files()) utimesSync(at(name), new Date(0), new Date(0));
    expect((await host.submit(planned(4))).number).toBe(4);
    expect(files().filter((name) => name.includes("ended"))).toEqual(["3.ended.json"]);
  });

  test("is bounded in number", async () => {
    await endOne(1);
    const text = readFileSync(at("1.ended.json"), "utf8");
    for (let n = 2; n <= 1001; n++)
      writeFileSync(at(`${n}.ended.json`), text.replace('"number":1,', `"number":${n},`));
    await host.submit(planned(2));
    const ended = files().filter((name) => name.includes("ended"));
    expect(ended.length).toBe(1000);
    expect(ended).not.toContain("1.ended.json");
  });

  test("is listed newest first", async () => {
    for (let n = 1; n <= 2; n++) await endOne(n);
    expect(await host.open((store) => store.ended().map(({ request }) => request.number))).toEqual([2, 1]);
  });
});

describe("killed", () => {
  /** Throws at the nth write, removal or event, before or after it is done; nothing is done after that. */
  function dyingAt(step: number, after: boolean) {
    let steps = 0;
    const dying =
      <A extends unknown[], R>(deed: (...args: A) => R) =>
      (...args: A): R => {
        steps++;
        if (steps > step || (steps === step && !after)) throw new Error("killed");
        const done = deed(...args);
        if (steps === step) throw new Error("killed");
        return done;
      };
    const { audit } = host.world;
    host.world.disk = {
      write: dying(writeFileAtomic),
      remove: dying((path: string) => rmSync(path, { force: true })),
    };
    host.world.audit = { ...audit, append: dying((event) => audit.append(event)) };
    return {
      hasDied: () => steps >= step,
      revive: () => {
        host.world.audit = audit;
        delete host.world.disk;
      },
    };
  }

  /** A submission, an approval with a newer plan, a withdrawal: each by itself and acknowledged unless it throws. */
  const story: [string, string[], () => Promise<unknown>][] = [
    ["submitted", ["request_submitted 1.1"], () => host.submit(planned(1))],
    [
      "approved",
      ["request_submitted 1.1", "request_approved 1.2"],
      async () => {
        const newer = planned(2);
        const substance = substanceOf(newer, JSON.parse(host.texts(newer).policy_result));
        const approval = approvalOf(newer, { substance, now: host.now });
        return host.approve(await host.find(1), approval, { newer });
      },
    ],
    [
      "withdrawn",
      ["request_submitted 1.1", "request_approved 1.2", "request_withdrawn 1.3"],
      async () => host.withdraw(await host.find(1), AGENT),
    ],
  ];

  for (const [place, [what, whole]] of story.entries()) {
    for (const after of [false, true]) {
      test(`${after ? "after" : "before"} each step of being ${what}: the log and the files agree`, async () => {
        const before = story[place - 1]?.[1] ?? [];
        for (let step = 1; ; step++) {
          host.remove();
          host = new RequestHost();
          for (const [, , deed] of story.slice(0, place)) await deed();
          const life = dyingAt(step, after);
          const acknowledged = await story[place]?.[2]().then(
            () => true,
            () => false,
          );
          life.revive();
          await settleRequests(host.world, new AbortController().signal);
          const events = existsSync(join(host.paths.audit, "audit.ndjson")) ? host.events() : [];
          expect([before, whole]).toContainEqual(events);
          if (acknowledged) expect(events).toEqual(whole);
          const isDone = events.length === whole.length;
          const last = events.at(-1)?.split(".")[1];
          const found = await host.find(1).catch(() => null);
          expect(found?.revision ?? 0).toBe(Number(last ?? 0));
          // Nothing is left over: documents of a request that waits, and nothing else of one that has ended.
          const revision = isDone && what === "approved" ? 2 : place === 2 ? 2 : 1;
          const waiting =
            isDone && what === "withdrawn" ? ["1.ended.json"] : [`1.${revision}.documents`, "1.json"];
          expect(files()).toEqual(found === null ? [] : waiting);
          if (!life.hasDied()) break;
          expect(step).toBeLessThan(20);
        }
      });
    }
  }
});

describe("notices", () => {
  test("each change that was audited is told once, by a file of the request's number and revision", async () => {
    await host.withdraw(await host.submit(planned(1)), AGENT);
    const names = noticeNames(host.paths.notices);
    expect(names).toEqual(["1-1.json", "1-2.json"]);
    expect(names.map((name) => readNotice(host.paths.notices, name))).toMatchObject([
      { number: 1, state: "open", approvals: 0 },
      { number: 1, state: "withdrawn" },
    ]);
  });

  test("a request that nobody can be told of is kept all the same", async () => {
    rmSync(host.paths.notices, { recursive: true });
    await host.submit(planned(1));
    expect(host.events()).toEqual(["request_submitted 1.1"]);
    expect(host.warnings).toEqual([expect.stringContaining("a notice of a request can't be written")]);
  });
});
