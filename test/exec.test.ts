import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openBreakGlass } from "../src/audit-break-glass.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { verifyAuditLog } from "../src/audit-verify.ts";
import type { Approval, ExecutionPlan } from "../src/doc.ts";
import { readResult } from "../src/doc-result.ts";
import { ECOSYSTEMS, loadDriver, loadEcosystem } from "../src/eco-load.ts";
import { isRunAlive, stopRecorded } from "../src/eco-run.ts";
import { AegisError } from "../src/errors.ts";
import { execute } from "../src/exec.ts";
import { approvalHash } from "../src/exec-approval.ts";
import { queued } from "../src/exec-lock.ts";
import { recoverInterrupted } from "../src/exec-recover.ts";
import { substanceOf } from "../src/exec-substance.ts";
import { signDocument } from "../src/key-sign.ts";
import { makePlan } from "../src/plan.ts";
import { openPlanning } from "../src/plan-world.ts";
import { startTimeOf } from "../src/sys-process.ts";
import { type StatePaths, userIds } from "../src/sys-state.ts";
import type { EventInput } from "../src/wire-executor.ts";
import { contextOf, logged, makeExecutionHost, signed, submit } from "./execution-kit.ts";
import { type FakeHost, fakeGrammar, withFake } from "./fake-ecosystem.ts";
import { needs } from "./needs.ts";
import { ALICE, approvalOf, configOf, forged, refuses, SIGNER, STRANGER, TRUST } from "./signing-kit.ts";

/*
 * The executor's own code, from the submitted text to the log, with an ecosystem that exists only here, and without root.
 */

let directory: string;
let remove: () => void;
let host: FakeHost;
let paths: StatePaths;
beforeEach(() => {
  ({ directory, remove, host, paths } = makeExecutionHost());
});
afterEach(() => remove());

const install = (target = "acme.tool@1.0.0") => signed(host, paths, directory, "install", target);
const context = (change?: Parameters<typeof contextOf>[3]) => contextOf(host, paths, directory, change);
const version = (name = "acme.tool") =>
  existsSync(join(host.store, name)) ? readFileSync(join(host.store, name), "utf8") : null;
/** Rules by which alice's key is a break-glass key. */
const sealed = () => {
  const trust = TRUST.map((key) => ({ ...key, breakGlass: key.publicKeyHex === ALICE.publicKeyHex }));
  return {
    rules: () => ({ trust, policy: { ...configOf('[vscode]\napply = "require_human"'), source: "test" } }),
  };
};
const kinds = () => logged(paths).map(({ kind }) => kind);
/** Nothing was run, used up or left behind. */
const untouched = () => {
  expect(version()).toBeNull();
  for (const place of [paths.runs, paths.results, paths.used, paths.archives]) {
    expect(readdirSync(place)).toEqual([]);
  }
  expect(existsSync(join(paths.lock, "current.json"))).toBe(false);
};

/** Has the tool run as another user, who can reach what it needs. */
const runAs = (user: string) => {
  const ids = userIds(user);
  for (const path of [directory, join(directory, "state"), paths.archives]) chmodSync(path, 0o755);
  if (ids !== null) chownSync(host.store, ids.uid, ids.gid);
  host = { ...host, user };
};

describe("refused before anything is used up", () => {
  const CASES: [string, string, (plan: ExecutionPlan) => Parameters<typeof contextOf>[3]][] = [
    ["a signer whom this host doesn't trust", "key_untrusted", () => rules(TRUST.filter(isNot(SIGNER)))],
    ["an approver whom this host doesn't trust", "approval_invalid", () => rules(TRUST.filter(isNot(ALICE)))],
    ["a policy that denies", "policy_denied", () => rules(TRUST, '[vscode]\napply = "deny"')],
    [
      "a policy that asks for two people",
      "approval_required",
      () => rules(TRUST, '[vscode]\napply = "require_human"\n[approvals]\nrequired = 2'),
    ],
    ["an ecosystem that this version doesn't run", "not_built", () => ({ ecosystems: unbuilt() })],
    ["a runner that is asked to end", "unavailable", () => ({ stop: AbortSignal.abort(STOPPED) })],
  ];
  const STOPPED = new AegisError("unavailable", "being stopped");
  const isNot = (key: { publicKeyHex: string }) => (one: { publicKeyHex: string }) =>
    one.publicKeyHex !== key.publicKeyHex;
  const rules = (trust: typeof TRUST, toml = '[vscode]\napply = "require_human"') => ({
    rules: () => ({ trust, policy: { ...configOf(toml), source: "test" } }),
  });
  const unbuilt = () => {
    const ecosystems = withFake(host, paths);
    const load = async () => ({ ...(await loadEcosystem("vscode", ecosystems)), driver: null });
    return { ...ecosystems, vscode: { grammar: fakeGrammar, load } };
  };
  for (const [what, code, change] of CASES) {
    test(what, async () => {
      const plan = await install();
      await expect(submit(plan, context(change(plan)))).rejects.toMatchObject({ code });
      untouched();
      expect(kinds()).toEqual(["execution_denied"]);
    });
  }
  test("a host that has changed since", async () => {
    const plan = await install();
    writeFileSync(join(host.store, "acme.tool"), "0.9.0");
    await refuses(() => submit(plan, context()), "drift", "upgrade acme.tool:all 0.9.0 -> 1.0.0");
    expect(version()).toBe("0.9.0");
    expect(kinds()).toEqual(["execution_denied"]);
  });
  // A client that reconnects in between would learn only that nothing was started.
  test("the refusal is in the log before the plan leaves the queue", async () => {
    const plan = await install();
    writeFileSync(join(host.store, "acme.tool"), "0.9.0");
    const audit = openAuditLog(paths.audit);
    let waiting: string[] = [];
    const append: typeof audit.append = (event) => {
      waiting = queued(paths);
      return audit.append(event);
    };
    await refuses(() => submit(plan, context({ audit: { ...audit, append } })), "drift");
    expect(waiting).toEqual([plan.execution_plan_id]);
    expect(queued(paths)).toEqual([]);
  });
  test("a plan that somebody else signed again", async () => {
    const plan = await install();
    await refuses(() => execute(forged(plan, {}, STRANGER), context()), "key_untrusted");
    untouched();
  });
  test("with a break-glass key, and then not run: no use of it is in the log", async () => {
    const plan = await install();
    writeFileSync(join(host.store, "acme.tool"), "0.9.0");
    await refuses(() => submit(plan, context(sealed())), "drift");
    expect(kinds()).toEqual(["execution_denied"]);
  });
  test("a plan that was used", async () => {
    const plan = await install();
    await submit(plan, context());
    await refuses(() => submit(plan, context()), "replay");
    expect(kinds()).toEqual(["execution_started", "execution_completed", "execution_denied"]);
  });
});

test("a signal that its grammar does not list is a bug, not a plan", async () => {
  const ecosystems = withFake(host, paths);
  const silent = { ...(await loadEcosystem("vscode", ecosystems)), signals: [] };
  const planning = openPlanning({ env: { HOME: directory } });
  try {
    await expect(makePlan(silent, "install", ["acme.tool@1.0.0"], planning)).rejects.toMatchObject({
      code: "internal",
      message: "vscode raises bundled-binary-risk, which its grammar does not list",
    });
  } finally {
    planning.close();
  }
});

test("planned, signed, run and recorded, in this order", async () => {
  const plan = await install();
  const heard: EventInput[] = [];
  const result = await submit(plan, context({ emit: (event) => heard.push(event) }));
  expect(result).toMatchObject({ tool: "vscode", state: "completed", exit_status: 0, code: null });
  expect(result.inverse).toEqual([
    { package: "acme.tool", architecture: "all", before: null, left: "1.0.0" },
  ]);
  expect(version()).toBe("1.0.0");
  expect(readResult(plan.execution_plan_id, paths)).toEqual(result);
  expect(heard.map(({ kind }) => kind).filter((kind) => kind !== "progress" && kind !== "alive")).toEqual([
    "checking",
    "started",
    "output",
  ]);
  expect(heard.filter(({ kind }) => kind === "progress").at(-1)).toMatchObject({ percent: 100 });
  const [start, end] = logged(paths);
  expect(start?.details).toMatchObject({ tool: "vscode", fake_settings_sha256: "1".repeat(64) });
  expect(end?.kind).toBe("execution_completed");
  expect(verifyAuditLog(paths.audit)).toMatchObject({ ok: true });
  expect(readFileSync(join(paths.used, "spent.ndjson"), "utf8")).toContain('"tool":"vscode"');
  expect(readdirSync(paths.archives)).toEqual([]);
});

test("a run that a break-glass key approved: its use is an event of its own, before the start", async () => {
  const plan = await install();
  await submit(plan, context(sealed()));
  expect(kinds()).toEqual(["break_glass_used", "execution_started", "execution_completed"]);
  expect(logged(paths)[0]).toMatchObject({
    execution_id: plan.execution_plan_id,
    details: {
      name: "alice",
      key_id: ALICE.keyId,
      operation: "vscode install acme.tool@1.0.0",
      reason: "looked at it",
    },
  });
  expect(openBreakGlass(paths.audit)).toMatchObject([
    { execution_id: plan.execution_plan_id, name: "alice" },
  ]);
});
test("a use of a break-glass key that can't be logged: nothing runs", async () => {
  const plan = await install();
  const audit = openAuditLog(paths.audit);
  const append: typeof audit.append = (event) => {
    if (event.kind === "break_glass_used") throw new AegisError("io", "played");
    return audit.append(event);
  };
  await refuses(() => submit(plan, context({ ...sealed(), audit: { ...audit, append } })), "io");
  expect(version()).toBeNull();
  expect(kinds()).toEqual(["execution_denied"]);
});

describe("planned again with an approval of the earlier plan", () => {
  /** alice's approval of a plan and its substance, as `aegis sign approve` writes it. */
  const approvalFor = (
    { operation_plan: plan, policy_result: policy }: ExecutionPlan,
    change: Parameters<typeof approvalOf>[1] = {},
  ) => {
    const substance = substanceOf(plan, policy, withFake(host, paths));
    return approvalOf(plan, { now: new Date(), substance, ...change });
  };
  const again = async (approvals: Approval[], target?: string) =>
    execute(forged(await install(target), { approvals }), context());

  const REFUSED: [what: string, attempt: () => Promise<unknown>, says: string][] = [
    ["another version", async () => again([approvalFor(await install("acme.tool@1.0.1"))]), "another plan"],
    [
      "a host that has changed, and was planned again",
      async () => {
        const approval = approvalFor(await install());
        writeFileSync(join(host.store, "acme.tool"), "0.9.0");
        return again([approval]);
      },
      "another plan",
    ],
    [
      "an approval of the plan alone",
      async () => {
        const { substance_hash: _, ...alone } = approvalFor(await install());
        const { signature: __, ...rest } = alone;
        return again([signDocument(rest, ALICE.seed, ALICE.keyId)]);
      },
      "another plan",
    ],
    [
      "a substance put in later",
      async () => {
        const earlier = await install("acme.tool@1.0.1");
        const { substance_hash } = approvalFor(await install());
        return again([
          { ...approvalFor(earlier), ...(substance_hash === undefined ? {} : { substance_hash }) },
        ]);
      },
      "signature is not valid",
    ],
    [
      "expired",
      async () => again([approvalFor(await install(), { now: new Date(Date.now() - 3_600_000) })]),
      "it expired at",
    ],
    [
      "by the signer's own key",
      async () => again([approvalFor(await install(), { key: SIGNER })]),
      "the key of the execution plan",
    ],
    [
      "by the same person as of this plan",
      async () => {
        const plan = await install();
        return execute(
          forged(plan, { approvals: [...plan.approvals, approvalFor(await install())] }),
          context(),
        );
      },
      "already approved",
    ],
  ];
  for (const [what, attempt, says] of REFUSED)
    test(`refused: ${what}`, () => refuses(attempt, "approval_invalid", says));

  test("the same change for the same reasons: runs once", async () => {
    const approval = approvalFor(await install());
    const later = await install();
    expect(approval.plan_hash).not.toBe(later.operation_plan_hash);
    expect(await again([approval])).toMatchObject({ state: "completed", code: null });
    expect(logged(paths)[0]?.details["approvals"]).toEqual([approvalHash(approval)]);
    // The host is as before, but the approval is used up.
    rmSync(join(host.store, "acme.tool"));
    await refuses(() => again([approval]), "replay");
    expect(version()).toBeNull();
  });
});

describe("as another user", () => {
  const nobody = userIds("nobody");
  const isRoot = process.getuid?.() === 0;
  test("one that doesn't exist: refused, and nothing is used up", async () => {
    host = { ...host, user: "no-such-user" };
    await refuses(
      async () => submit(await install(), context()),
      "unavailable",
      "user no-such-user, which doesn't exist on this host",
    );
    untouched();
  });
  needs(isRoot && nobody !== null, "root, and a user nobody").test(
    "the tool is that user, with no groups, capabilities or way to new privileges; the log says so",
    async () => {
      runAs("nobody");
      const plan = await install();
      expect(await submit(plan, context())).toMatchObject({ state: "completed", code: null });
      const said = readFileSync(join(paths.runs, plan.execution_plan_id, "stdout"), "utf8");
      const field = (name: string) => new RegExp(`^${name}:[\\t ]*(.*?)[\\t ]*$`, "m").exec(said)?.[1];
      const all = (id = -1) => [id, id, id, id].join("\t");
      expect([field("Uid"), field("Gid"), field("Groups")]).toEqual([all(nobody?.uid), all(nobody?.gid), ""]);
      expect(field("NoNewPrivs")).toBe("1");
      for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb"])
        expect([set, field(set)]).toEqual([set, "0".repeat(16)]);
      expect(statSync(join(host.store, "acme.tool")).uid).toBe(nobody?.uid ?? -1);
      expect(logged(paths)[0]?.details).toMatchObject({ runs_as: { name: "nobody", ...nobody } });
    },
  );
  needs(isRoot && nobody !== null, "root, and a user nobody").test(
    "it may not write what is root's",
    async () => {
      runAs("nobody");
      chownSync(host.store, 0, 0);
      expect(await submit(await install(), context())).toMatchObject({ state: "failed", exit_status: 1 });
      expect(version()).toBeNull();
    },
  );
});

describe("a run that did not go as planned", () => {
  const CASES: [mode: string, code: string, says: string, left: string | null][] = [
    ["fails", "execution_failed", "code ended with status 3", null],
    ["dies", "execution_failed", "code ended with a signal", null],
    ["other bytes", "hash_mismatch", "other bytes", null],
    ["no receipt", "execution_failed", "nothing vouches for the bytes", "1.0.0"],
    ["deviates", "execution_failed", "acme.tool:all is 9.9.9, expected 1.0.0", "9.9.9"],
  ];
  for (const [mode, code, says, left] of CASES) {
    test(mode, async () => {
      const plan = await install();
      host.mode(mode);
      const result = await submit(plan, context());
      expect(result).toMatchObject({ state: "failed", code });
      expect(result.message).toContain(says);
      expect(version()).toBe(left);
      expect(kinds()).toEqual(["execution_started", "execution_completed"]);
      await refuses(() => submit(plan, context()), "replay");
    });
  }
  test("something else changed during the run: done, with a message", async () => {
    const plan = await install();
    host.mode("besides");
    const result = await submit(plan, context());
    expect(result).toMatchObject({ state: "completed", code: "drift" });
    expect(result.message).toContain("other.thing:all");
  });
  test("a runner that is asked to stop during a run stops what may be stopped", async () => {
    const plan = await install();
    host.mode("waits");
    const controller = new AbortController();
    const emit = (event: EventInput) => {
      if (event.kind === "progress") controller.abort(new AegisError("unavailable", "being stopped"));
    };
    const result = await submit(plan, context({ emit, stop: controller.signal }));
    expect(result).toMatchObject({ state: "failed", code: "execution_failed" });
    expect(version()).toBeNull();
  });
});

describe("a runner that is killed", () => {
  /** Submits in a process of its own, and kills it when `until` says so. */
  async function killed(plan: ExecutionPlan, until: () => boolean): Promise<void> {
    const file = join(directory, "signed.json");
    writeFileSync(file, JSON.stringify(plan));
    const worker = Bun.spawn(
      [process.execPath, join(import.meta.dir, "execution-worker.ts"), directory, file, host.user ?? "root"],
      { stdout: "ignore", stderr: "inherit" },
    );
    while (!until() && worker.exitCode === null) await Bun.sleep(10);
    expect(worker.exitCode).toBeNull();
    worker.kill("SIGKILL");
    await worker.exited;
  }
  /** What its tool has said, once the tool is on record too: it may be faster than the runner that records it. */
  const statusOf = (plan: ExecutionPlan) => {
    const [file = "", record = ""] = ["status", "process.json"].map((name) =>
      join(paths.runs, plan.execution_plan_id, name),
    );
    return existsSync(file) && existsSync(record) ? readFileSync(file, "utf8") : "";
  };
  const recovery = () => ({ audit: openAuditLog(paths.audit), paths, ecosystems: withFake(host, paths) });

  test("its tool continues; the next runner waits for it, compares and records the end", async () => {
    const plan = await install();
    host.mode("waits");
    await killed(plan, () => statusOf(plan).includes("fetching"));
    await recoverInterrupted(recovery(), null);
    expect(kinds()).toEqual(["execution_started"]);
    let waited = 0;
    await recoverInterrupted(recovery(), () => {
      if (++waited === 1) writeFileSync(join(directory, "mode.go"), "");
    });
    expect(waited).toBeGreaterThan(0);
    expect(version()).toBe("1.0.0");
    const result = readResult(plan.execution_plan_id, paths);
    expect(result).toMatchObject({ tool: "vscode", state: "interrupted", not_as_planned: [] });
    expect(result?.message).toBe("the runner was interrupted; every package is as planned");
    expect(logged(paths).at(-1)).toMatchObject({
      kind: "execution_interrupted",
      details: { witness: "vouched", fake_state: "well" },
    });
    await refuses(() => submit(plan, context()), "replay");
    expect(verifyAuditLog(paths.audit)).toMatchObject({ ok: true });
  });

  needs(process.getuid?.() === 0 && userIds("nobody") !== null, "root, and a user nobody").test(
    "a tool that runs as another user is waited for, and ended, like root's",
    async () => {
      runAs("nobody");
      const plan = await install();
      host.mode("waits");
      await killed(plan, () => statusOf(plan).includes("fetching"));
      const run = join(paths.runs, plan.execution_plan_id);
      const { pid } = JSON.parse(readFileSync(join(run, "process.json"), "utf8"));
      const driver = await loadDriver({ tool: "vscode", argv: [] }, withFake(host, paths));
      expect(readFileSync(`/proc/${pid}/status`, "utf8")).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
      expect(isRunAlive(run, driver)).toBe(true);
      stopRecorded(run, driver);
      while (startTimeOf(pid) !== null) await Bun.sleep(10);
      expect(isRunAlive(run, driver)).toBe(false);
      await recoverInterrupted(recovery(), () => {});
      expect(readResult(plan.execution_plan_id, paths)?.state).toBe("interrupted");
      expect(version()).toBeNull();
    },
  );

  test("a version that can't run its tool leaves the run open, and says which version began it", async () => {
    const plan = await install();
    host.mode("waits");
    await killed(plan, () => statusOf(plan).includes("fetching"));
    const { vscode: _, ...others } = ECOSYSTEMS;
    const older = { ...recovery(), ecosystems: others };
    await refuses(() => recoverInterrupted(older, () => {}), "unavailable", "another version of Aegis");
    writeFileSync(join(directory, "mode.go"), "");
    await recoverInterrupted(recovery(), () => {});
    expect(readResult(plan.execution_plan_id, paths)?.state).toBe("interrupted");
  });

  test("what its tool did not do is told", async () => {
    const plan = await install();
    host.mode("waits");
    await killed(plan, () => statusOf(plan).includes("fetching"));
    const { pid } = JSON.parse(
      readFileSync(join(paths.runs, plan.execution_plan_id, "process.json"), "utf8"),
    );
    process.kill(pid, "SIGKILL");
    await recoverInterrupted(recovery(), () => {});
    expect(readResult(plan.execution_plan_id, paths)).toMatchObject({
      state: "interrupted",
      message: "the runner was interrupted; 1 of 1 packages are not as planned",
      not_as_planned: [{ package: "acme.tool", expected: "1.0.0", found: null }],
    });
  });
});

test("rolled back: the recorded inverse, as a separate plan", async () => {
  await submit(await install("acme.tool@1.0.0"), context());
  const upgrade = await install("acme.tool@2.0.0");
  await submit(upgrade, context());
  expect(version()).toBe("2.0.0");
  const back = await signed(host, paths, directory, "rollback", upgrade.execution_plan_id);
  expect(back.argv).toContain("acme.tool@1.0.0");
  await submit(back, context());
  expect(version()).toBe("1.0.0");
  expect(verifyAuditLog(paths.audit)).toMatchObject({ ok: true });
});
