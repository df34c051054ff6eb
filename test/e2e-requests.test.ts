import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { type RequestSummary, requestHash } from "../src/doc-request.ts";
import { makeApproval } from "../src/exec-approval.ts";
import { unsignedRejection } from "../src/exec-rejection.ts";
import { REQUEST_LIMITS } from "../src/exec-request-submit.ts";
import { substanceOf } from "../src/exec-substance.ts";
import { signDocument } from "../src/key-sign.ts";
import { evaluate } from "../src/policy.ts";
import { loadPolicyConfig } from "../src/policy-config.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { eventually, executorProcesses, kill, plain } from "./e2e-running.ts";
import type { HostileOutcomes, HostilePlan } from "./hostile-front.ts";
import { ROOT } from "./kit.ts";
import type { Came, Deed } from "./request-client.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { call, RawClient } from "./varlink-kit.ts";

const ALICE = 61001;
/** The agent's uid, and that of a group of other members of aegis-admin. */
const AGENT = 61010;
const ADMIN_GID = "61003";
const CLIENT = "/opt/request-client.js";
const HOSTILE = "/opt/hostile-front.js";

describeOnThrowaway("requests", () => {
  let chain: Chain;
  let base: OperationPlan;
  let nth = 0;
  beforeAll(async () => {
    chain = await startChain();
    await chain.host.repo.publish(plain("some", 3));
    await chain.host.aptUpdate();
    for (const [to, script] of [
      [CLIENT, "request-client.ts"],
      [HOSTILE, "hostile-front.ts"],
    ] as const) {
      const { outputs, logs } = await Bun.build({ entrypoints: [join(ROOT, "test", script)], target: "bun" });
      if (outputs[0] === undefined) throw new Error(logs.join("\n"));
      chain.host.write(to, await outputs[0].text());
    }
    await chain.startDaemon();
    base = (await chain.plan("apt", "install", "some0")).plan;
  }, 120_000);
  afterAll(() => chain.stop());

  /** Another plan of the same change. */
  const newPlan = (): OperationPlan => ({
    ...base,
    plan_id: `00000000-0000-4000-8000-${String(++nth).padStart(12, "0")}`,
  });
  const policyOf = (plan: OperationPlan) => {
    const { config, hash } = loadPolicyConfig({}, { system: true, systemPath: "/nonexistent" });
    return evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash });
  };
  const textsOf = (plan: OperationPlan) => ({
    operation_plan: canonicalJson(plan),
    policy_result: canonicalJson(policyOf(plan)),
    review: null,
  });
  const submission = (plan = newPlan(), reason = "web server"): Deed => ({
    do: "submit",
    given: { ...textsOf(plan), reason },
  });
  const as = (uid: number): string[] => [
    ...["/usr/bin/setpriv", "--reuid", String(uid), "--regid", String(uid), "--groups", ADMIN_GID, "--"],
    ...[process.execPath, CLIENT],
  ];
  const deeds = async (uid: number, ...list: Deed[]): Promise<Came[]> => {
    if (list.length === 0) return [];
    const { stdout, stderr } = await chain.host.exec(as(uid), {
      stdin: JSON.stringify(list),
      timeoutMs: 120_000,
    });
    const lines = stdout.trimEnd().split("\n");
    if (lines.length !== list.length) throw new Error(`${stdout}${stderr}`);
    return lines.map((line) => JSON.parse(line));
  };
  const deed = async (uid: number, one: Deed) => (await deeds(uid, one))[0] ?? { code: "none", message: "" };
  const requestIn = (came: Came): RequestSummary => {
    if (!("done" in came)) throw new Error(JSON.stringify(came));
    return came.done as RequestSummary;
  };
  const approvalOf = (plan: OperationPlan) => {
    const seed = Buffer.from(JSON.parse(chain.host.read("/home/alice/keys/approve")).secret_key_hex, "hex");
    const key = { seed, publicKeyHex: chain.keys.approval, keyId: "alice" };
    const substance = substanceOf(plan, policyOf(plan));
    const terms = { planHash: canonicalHash(plan), substance, signer: "alice@example", reason: "fine" };
    return { key, approval: makeApproval({ ...terms, key, now: new Date(), minutes: 60 }) };
  };
  const approve = (request: RequestSummary, plan: OperationPlan, hash = requestHash(request)): Deed => ({
    do: "decide",
    given: {
      ...{ number: request.number, request_hash: hash, newer: null },
      approval: canonicalJson(approvalOf(plan).approval),
    },
  });
  const kindsOf = (number: number) =>
    chain
      .audit()
      .filter(({ details }) => (details as { request?: number } | null)?.request === number)
      .map(({ kind }) => kind);
  const withdrawAll = async () => {
    // Calls of root's that were left mute hold its places for a moment longer.
    const { done } = (await deed(0, { do: "list", given: { all: false }, again: 100 })) as {
      done: { requests: RequestSummary[] };
    };
    const withdrawal = ({ number }: RequestSummary): Deed => ({
      ...{ do: "withdraw", given: { number, reason: null }, again: 100 },
    });
    await deeds(0, ...done.requests.map(withdrawal));
  };
  const verified = async () => (await chain.aegis(["audit", "verify", "--system"])).status;

  describe("from asking to a run", () => {
    test("somebody outside the group reaches nothing", async () => {
      const outside = ["/usr/bin/setpriv", "--reuid", "62999", "--regid", "62999", "--clear-groups", "--"];
      const { stdout } = await chain.host.exec([...outside, process.execPath, CLIENT], {
        stdin: JSON.stringify([submission()]),
      });
      expect(JSON.parse(stdout)).toMatchObject({ code: "unavailable" });
    });

    test("nor can they prove a call that a compromised front makes for them", async () => {
      const proof = "/run/aegis/proof/theirs";
      await chain.host.exec(["sh", "-ec", `mkfifo -m 0200 ${proof}; chown 62999 ${proof}`]);
      const write = ["sh", "-c", `echo x > ${proof}`];
      const outside = ["/usr/bin/setpriv", "--reuid", "62999", "--regid", "62999", "--clear-groups", "--"];
      const { stderr, status } = await chain.host.exec([...outside, ...write]);
      await chain.host.exec(["rm", proof]);
      expect([status, stderr]).toEqual([2, expect.stringContaining("Permission denied")]);
    });

    test("asked by one user, approved by another, told to the one who waits, and ended by the run", async () => {
      const plan = newPlan();
      const request = requestIn(await deed(AGENT, submission(plan)));
      expect(request).toMatchObject({ uid: AGENT, state: "open", reason: "web server" });
      const waiting = deed(AGENT, { do: "watch", given: { number: request.number, revision: 1 } });
      const own = await deed(AGENT, approve(request, plan));
      expect(own).toMatchObject({
        code: "refused",
        message: expect.stringContaining("can't approve it as well"),
      });
      const approved = requestIn(await deed(ALICE, approve(request, plan)));
      expect(approved).toMatchObject({
        state: "approved",
        approvals: [{ signer: "alice@example", uid: ALICE }],
      });
      expect(await waiting).toEqual({ done: { number: request.number, revision: 2, state: "approved" } });
      // The signer takes the request's plan and its approval.
      const read = (await deed(0, { do: "read", given: request.number as unknown as object })) as {
        done: { documents: { approvals: object[] } };
      };
      const [approval] = read.done.documents.approvals;
      const file = "/tmp/from-request.json";
      chain.host.write(file, canonicalJson(approval));
      chain.host.write("/tmp/request.plan", canonicalJson(plan));
      chain.host.write("/tmp/request.policy", canonicalJson(policyOf(plan)));
      const signed = await chain.aegis([
        ...["sign", "--plan", "/tmp/request.plan", "--policy", "/tmp/request.policy", "--approval", file],
        ...["--key", "/root/keys/sign", "--signer", "ops@example", "--out", "/tmp/signed.json"],
      ]);
      expect(signed.status).toBe(0);
      expect((await chain.apply("/tmp/signed.json")).status).toBe(0);
      const ended = (await deed(AGENT, { do: "read", given: request.number as unknown as object })) as {
        done: { request: RequestSummary; documents: null };
      };
      const { execution_plan_id: execution_id } = JSON.parse(chain.host.read("/tmp/signed.json"));
      expect(ended.done).toMatchObject({
        request: { state: "applied", end: { execution_id, by: expect.stringContaining("ops@example") } },
        documents: null,
      });
      expect(kindsOf(request.number)).toEqual([
        ...["request_submitted", "request_denied", "request_approved", "request_applied"],
      ]);
    });

    test("rejected by a signed word, which ends it", async () => {
      const request = requestIn(await deed(AGENT, submission()));
      const { key } = approvalOf(base);
      const unsigned = unsignedRejection({
        ...{ request: request.number, requestHash: requestHash(request), signer: "alice@example" },
        ...{ reason: "not on a Friday", now: new Date() },
      });
      const rejection = signDocument(unsigned, key.seed, key.keyId);
      const given = {
        number: request.number,
        request_hash: requestHash(request),
        rejection: canonicalJson(rejection),
      };
      expect(requestIn(await deed(ALICE, { do: "decide", given }))).toMatchObject({
        state: "rejected",
        end: { reason: "not on a Friday", uid: ALICE },
      });
    });
  });

  describe("a compromised front", () => {
    let outcomes: HostileOutcomes;
    let before: RequestSummary[];
    let mine: RequestSummary;
    let plan: OperationPlan;
    let stop: () => void;
    const all = async () =>
      ((await deed(0, { do: "list", given: { all: true } })) as { done: { requests: RequestSummary[] } }).done
        .requests;
    const through = (lie: string, uid: number, one: Deed): Deed => ({
      ...one,
      socket: `/tmp/lies/${lie}.${uid}`,
    });

    beforeAll(async () => {
      plan = newPlan();
      mine = requestIn(await deed(AGENT, submission(plan)));
      await deed(AGENT, submission());
      const [front] = executorProcesses(chain, "front");
      const { approval } = approvalOf(plan);
      const decide = { number: mine.number, request_hash: requestHash(mine) };
      const { review: _, ...texts } = textsOf(newPlan());
      const task: HostilePlan = {
        flood: 70,
        sockets: "/tmp/lies",
        otherTexts: texts,
        calls: {
          "submit as another": { method: "Submit", parameters: { ...texts, reason: "x" }, uid: AGENT },
          "submit as root": { method: "Submit", parameters: { ...texts, reason: "x" }, uid: 0 },
          "submit as itself": { method: "Submit", parameters: { ...texts, reason: "x" }, uid: null },
          "hand over an approval": {
            method: "Decide",
            parameters: { ...decide, approval: canonicalJson(approval) },
            uid: ALICE,
          },
          reject: { method: "Decide", parameters: { ...decide, rejection: "{}" }, uid: ALICE },
          "withdraw for another": { method: "Withdraw", parameters: { number: mine.number }, uid: AGENT },
        },
      };
      chain.host.write("/opt/hostile.json", JSON.stringify(task));
      const ids = ["--reuid", String(front?.uid), "--regid", String(front?.uid), "--clear-groups"];
      await chain.host.exec(["install", "-d", "-o", String(front?.uid), "-m", "755", "/tmp/lies"]);
      const hostile = await chain.host.spawn([
        "/usr/bin/setpriv",
        ...ids,
        "--",
        process.execPath,
        HOSTILE,
        "/opt/hostile.json",
      ]);
      stop = () => hostile.kill("SIGKILL");
      while (!hostile.stdout().includes("\n")) {
        if (hostile.stderr() !== "") throw new Error(hostile.stderr());
        await Bun.sleep(100);
      }
      outcomes = JSON.parse(hostile.stdout());
      process.stderr.write(`${JSON.stringify(outcomes, null, 2)}\n`);
      before = await all();
    }, 180_000);
    afterAll(() => stop());

    test("can't ask, decide or withdraw in anybody's name, nor answer a proof", () => {
      const unproved = (uid: number) =>
        `timeout: uid ${uid} has not proved within 10 s that it made this call (proof: EACCES)`;
      expect(outcomes).toMatchObject({
        "submit as another": unproved(AGENT),
        "submit as root": unproved(0),
        "submit as itself": expect.stringMatching(/^refused: uid \d+ is the executor's own front/),
        "hand over an approval": unproved(ALICE),
        reject: unproved(ALICE),
        "withdraw for another": unproved(AGENT),
        "list the proofs": "EACCES",
        "make a proof": "EACCES",
        "read the requests": "EACCES",
        "change the states": "EACCES",
      });
    });

    test("changes nothing by that, and each attempt is logged", async () => {
      expect(before.find(({ number }) => number === mine.number)).toEqual(mine);
      const denied = chain.audit().filter(({ kind, actor }) => kind === "request_denied" && actor === null);
      const said = denied.map(
        ({ details }) => details as { method: string; code: string; caller_reported_by_front: object },
      );
      expect(said.slice(0, 6).map(({ method, code }) => `${method} ${code}`)).toEqual([
        ...[
          "Submit timeout",
          "Submit timeout",
          "Submit refused",
          "Decide timeout",
          "Decide timeout",
          "Withdraw timeout",
        ],
      ]);
      expect(said[0]).toMatchObject({ caller_reported_by_front: { uid: AGENT } });
    });

    test("flooding the runner delays, and is bounded by its slots", () => {
      expect(outcomes["flood"]).toContain("timeout: uid N has not proved");
    });

    test("afterwards the others are served at once", async () => {
      const started = performance.now();
      const request = requestIn(await deed(AGENT, submission()));
      expect(request.state).toBe("open");
      expect(performance.now() - started).toBeLessThan(20_000);
    });

    const lies: [string, string, () => Deed][] = [
      ["another reason than the client's", "reason", () => submission()],
      ["another plan than the client's", "plan", () => submission()],
      [
        "another request's number",
        "number",
        () => ({ do: "withdraw", given: { number: mine.number, reason: null } }),
      ],
    ];
    test.each(lies)("%s is refused: the proof is of the call as it was made", async (_, lie, one) => {
      const known = await all();
      expect(await deed(AGENT, through(lie, AGENT, one()))).toEqual({
        code: "refused",
        message: `uid ${AGENT} has not made this call: what it wrote as proof is of another one`,
      });
      expect(await all()).toEqual(known);
    });

    test("one call is not two: its second proof is not answered", async () => {
      const known = (await all()).length;
      const came = await deed(AGENT, through("twice", AGENT, submission()));
      // Either the second question comes first, or the answer.
      if ("code" in came)
        expect(came).toMatchObject({ code: "protocol", message: expect.stringContaining("second time") });
      await Bun.sleep(1000);
      expect((await all()).length).toBeLessThanOrEqual(known + 1);
    });

    test("a client that reads proves nothing", async () => {
      const known = await all();
      const read: Deed = { do: "list", given: { all: false } };
      expect(await deed(AGENT, through("reading", AGENT, read))).toMatchObject({ code: "protocol" });
      expect(await all()).toEqual(known);
    });

    test("who is shown another reason approves another request, and is refused", async () => {
      const read = (await deed(
        ALICE,
        through("shown", ALICE, { do: "read", given: mine.number as unknown as object }),
      )) as {
        done: { request: RequestSummary };
      };
      expect(read.done.request.reason).toBe("harmless");
      const decided = await deed(ALICE, approve(mine, plan, requestHash(read.done.request)));
      expect(decided).toMatchObject({
        code: "hash_mismatch",
        message: expect.stringContaining("not what was shown"),
      });
    });

    test("it can lose a call", async () => {
      expect(await deed(AGENT, through("lost", AGENT, submission()))).toMatchObject({ code: "protocol" });
    });

    test("and the log verifies", async () => {
      expect(await verified()).toBe(0);
      // What was asked and never answered is gone within the time limit.
      await eventually(() => readdirSync(chain.host.path("/run/aegis/proof")).length === 0, 200);
    });
  });

  describe("load", () => {
    test("limits hold with 200 open and hostile clients, and others are served meanwhile", async () => {
      await withdrawAll();
      const path = chain.host.path("/run/aegis/aegisd.sock");
      const { all: most, perUid } = REQUEST_LIMITS;
      // From root: silent, malformed, too large, and deaf.
      const nuisance = Array.from({ length: 4 }, () => new RawClient(path));
      const noise = [
        new RawClient(path).send("no json\0"),
        new RawClient(path).send(Buffer.alloc(4 * 1024 * 1024 + 5000, 120)),
      ];
      for (const it of noise) expect(await it.refusal()).toBe("protocol");
      // A user who proves nothing takes that user's places alone.
      const mute = Array.from({ length: 3 }, () =>
        new RawClient(path).send(call("Withdraw", { number: 1 }, { more: true })),
      );
      const users = Array.from({ length: Math.ceil(most / perUid) }, (_, n) => 62_000 + n);
      const longest: number[] = [];
      const came = await Promise.all(
        users.map(async (uid, place) => {
          const mineOf = Math.min(perUid, most - place * perUid);
          const started = performance.now();
          const list = Array.from({ length: mineOf }, () => ({ ...submission(), again: 100 }));
          const results = await deeds(uid, ...list);
          longest.push(performance.now() - started);
          return results;
        }),
      );
      const numbers = came.flat().map((one) => requestIn(one).number);
      expect(new Set(numbers).size).toBe(most);
      const [seventeenth, first] = await Promise.all([deed(62_000, submission()), deed(AGENT, submission())]);
      expect(seventeenth).toEqual({
        code: "busy",
        message: "16 of your requests wait for a person, which is the limit for one user",
      });
      expect(first).toEqual({
        code: "busy",
        message: "200 requests wait for a person on this host, which is the limit",
      });
      const started = performance.now();
      const { done } = (await deed(AGENT, { do: "list", given: { all: false } })) as {
        done: { requests: object[] };
      };
      const listed = performance.now() - started;
      expect(done.requests.length).toBe(most);
      const [front] = executorProcesses(chain, "front");
      const kb = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${front?.pid}/status`, "utf8"))?.[1]);
      process.stderr.write(
        `200 requests of ${users.length} users: the last after ${Math.round(Math.max(...longest))} ms; listed in ${Math.round(listed)} ms; front at most ${Math.round(kb / 1024)} MiB\n`,
      );
      for (const it of [...nuisance, ...noise, ...mute]) it.socket.destroy();
      expect(await verified()).toBe(0);
      await withdrawAll();
    }, 240_000);

    test("killed at many moments, the runner loses no acknowledged request, doubles none, and no event is missing", async () => {
      const uids = [62_100, 62_101, 62_102, 62_103, 62_104];
      const plans = uids.map(() => Array.from({ length: 12 }, newPlan));
      let isOver = false;
      let kills = 0;
      const killer = (async () => {
        while (!isOver) {
          await Bun.sleep(100 + Math.random() * 500);
          const runners = executorProcesses(chain, "runner");
          kill(runners);
          kills += runners.length;
        }
      })();
      const came = await Promise.all(
        uids.map((uid, place) =>
          deeds(uid, ...(plans[place] ?? []).map((plan) => ({ ...submission(plan), again: 400 }))),
        ),
      );
      isOver = true;
      await killer;
      const { done } = (await deed(0, { do: "list", given: { all: false } })) as {
        done: { requests: RequestSummary[] };
      };
      const acknowledged = came.flat().map(requestIn);
      process.stderr.write(`${kills} runners killed; ${acknowledged.length} requests acknowledged\n`);
      expect(kills).toBeGreaterThan(10);
      // Each plan is there once, under the number that was acknowledged.
      const kept = new Map(done.requests.map((request) => [request.number, request.asked_plan_hash]));
      for (const { number, asked_plan_hash } of acknowledged) expect(kept.get(number)).toBe(asked_plan_hash);
      expect(new Set(done.requests.map((request) => request.asked_plan_hash)).size).toBe(
        done.requests.length,
      );
      expect(done.requests.length).toBe(plans.flat().length);
      // And each has its one event.
      for (const { number } of done.requests) expect(kindsOf(number)).toEqual(["request_submitted"]);
      expect(await verified()).toBe(0);
      const left = readdirSync(chain.host.path("/var/lib/aegis/requests"));
      expect(left.filter((name) => name.endsWith(".tmp"))).toEqual([]);
    }, 240_000);
  });
});
