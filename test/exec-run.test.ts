import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { type AuditLog, openAuditLog } from "../src/audit-log.ts";
import { verifyAuditLog } from "../src/audit-verify.ts";
import type { PolicyResult } from "../src/doc.ts";
import { readResult } from "../src/doc-result.ts";
import type { RunDriver } from "../src/eco-driver.ts";
import { AegisError, type ErrorCode } from "../src/errors.ts";
import { boundedDecision } from "../src/exec-outcome.ts";
import { RULES } from "../src/policy-rules.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { contextOf, logged, makeExecutionHost, signed, submit } from "./execution-kit.ts";
import { driverOf, type FakeHost, withFake } from "./fake-ecosystem.ts";
import { refuses } from "./signing-kit.ts";

const result = (reasons: string[], rules: string[] = []): PolicyResult => ({
  schema_version: "1.0",
  plan_id: "00000000-0000-4000-8000-000000000000",
  plan_hash: "0".repeat(64),
  decision: "require_human",
  reasons,
  required_controls: [],
  approvals_required: 1,
  rules,
  policy_version: "1",
  evaluator_hash: "0".repeat(64),
  policy_config_hash: "0".repeat(64),
  ai_review_hash: null,
  evidence_fresh_until: "2026-01-02T04:04:05Z",
});

test("a short decision of the executor is complete in the start event", () => {
  expect(boundedDecision(result(["a", "b"], ["x"]))).toEqual({
    decision: "require_human",
    rules: ["x"],
    reasons: ["a", "b"],
  });
});

test("every rule with the longest of reasons leaves room for the rest of the event's details", () => {
  const ids = RULES.map(({ id }) => id);
  const bounded = boundedDecision(
    result(
      ids.map((id) => `${id}: ${"package ".repeat(200)}`),
      ids,
    ),
  );
  expect(bounded).toMatchObject({ rules: ids, reasons_left_out: ids.length - bounded.reasons.length });
  // An event's details have 8,000 bytes; the approvals of a plan take up to 1,100 of them and must never be left out.
  expect(JSON.stringify(bounded).length).toBeLessThan(3500);
});

/*
 * Whole executions that fail somewhere, with an ecosystem that exists only here, and without root.
 */
describe("an execution that fails", () => {
  let directory: string;
  let remove: () => void;
  let host: FakeHost;
  let paths: StatePaths;
  beforeEach(() => {
    ({ directory, remove, host, paths } = makeExecutionHost());
  });
  afterEach(() => remove());

  const install = () => signed(host, paths, directory, "install", "acme.tool@1.0.0");
  const context = (change?: Parameters<typeof contextOf>[3]) => contextOf(host, paths, directory, change);
  const driving = (change: Partial<RunDriver>) => ({ ecosystems: withFake(host, paths, change) });
  const kinds = () => logged(paths).map(({ kind }) => kind);
  const marker = () => existsSync(join(paths.lock, "current.json"));
  const usedFile = () => join(paths.used, "spent.ndjson");
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  const broken = () => {
    throw new AegisError("io", "the tool's state can't be read");
  };
  /** A log that refuses what `refused` says, and takes the rest. */
  const auditThat = (refused: (event: NewAuditEvent | "reserve") => boolean): AuditLog => {
    const log = openAuditLog(paths.audit);
    const refusing = <T>(what: NewAuditEvent | "reserve", action: () => T): T => {
      if (refused(what)) throw new AegisError("io", "the log can't be written");
      return action();
    };
    return {
      ...log,
      append: (event) => refusing(event, () => log.append(event)),
      reserve: (bytes) => refusing("reserve", () => log.reserve(bytes)),
    };
  };
  const isKind = (kind: string) => (what: NewAuditEvent | "reserve") =>
    what !== "reserve" && what.kind === kind;

  describe("before the start is in the log: refused, nothing run and nothing left", () => {
    type Change = () => Parameters<typeof contextOf>[3];
    const CASES: [what: string, code: ErrorCode, says: string, change: Change][] = [
      [
        "the tool isn't ready",
        "busy",
        "held",
        () => driving({ ready: fails(new AegisError("busy", "held")) }),
      ],
      ["its files can't be laid out", "io", "no space left under", () => driving({ prepare: fails(full) })],
      [
        "the driver's own fault",
        "io",
        "state can't be read",
        () => driving({ prepare: async () => broken() }),
      ],
      ["the host can't be looked at", "io", "state can't be read", () => driving({ observe: broken })],
      ["nor what else changes", "io", "state can't be read", () => driving({ watchBesides: broken })],
      [
        "what is planned from isn't root's",
        "refused",
        "of others",
        () => driving({ hold: fails(new AegisError("refused", "of others")) }),
      ],
      [
        "no room for the end event",
        "io",
        "the log can't",
        () => ({ audit: auditThat((what) => what === "reserve") }),
      ],
      [
        "the start can't be logged",
        "io",
        "the log can't",
        () => ({ audit: auditThat(isKind("execution_started")) }),
      ],
      [
        "the policy can't be read",
        "invalid_config",
        "line 1",
        () => ({
          rules() {
            throw new AegisError("invalid_config", "policy.toml can't be used: line 1");
          },
        }),
      ],
      [
        "planning isn't possible",
        "unavailable",
        "no cache",
        () => ({
          openPlanning() {
            throw new AegisError("unavailable", "no cache");
          },
        }),
      ],
    ];
    const fails = (error: unknown) => () => Promise.reject(error);
    for (const [what, code, says, change] of CASES) {
      test(what, async () => {
        const plan = await install();
        await refuses(() => submit(plan, context(change())), code, says);
        expect(readdirSync(host.store)).toEqual([]);
        for (const place of [paths.runs, paths.results, paths.archives])
          expect(readdirSync(place)).toEqual([]);
        expect(marker()).toBe(false);
        expect(kinds()).toEqual(["execution_denied"]);
        expect(existsSync(join(paths.audit, "audit.reserve"))).toBe(false);
        // The lock is free, and the next plan runs.
        const next = await install();
        expect(await submit(next, context())).toMatchObject({ state: "completed" });
      });
    }
    test("the record of used plans can't be written: the plan is not used up", async () => {
      const plan = await install();
      mkdirSync(usedFile());
      await refuses(() => submit(plan, context()), "io", "spent.ndjson");
      rmSync(usedFile(), { recursive: true });
      expect(await submit(plan, context())).toMatchObject({ state: "completed" });
    });
    test("the record of used plans is damaged: nothing runs", async () => {
      await submit(await install(), context());
      writeFileSync(usedFile(), `{"at":\n${readFileSync(usedFile(), "utf8")}`);
      const plan = await signed(host, paths, directory, "install", "acme.tool@2.0.0");
      const hint = await refuses(() => submit(plan, context()), "refused", "line 1 is damaged");
      expect(hint).toContain("Restore the file");
      expect(kinds().at(-1)).toBe("execution_denied");
      expect(readFileSync(join(host.store, "acme.tool"), "utf8")).toBe("1.0.0");
    });
    test("its last line is incomplete: that plan never ran, and the next one does", async () => {
      await submit(await install(), context());
      writeFileSync(usedFile(), '{"at":"2026-', { flag: "a" });
      const plan = await signed(host, paths, directory, "install", "acme.tool@2.0.0");
      expect(await submit(plan, context())).toMatchObject({ state: "completed" });
      for (const line of readFileSync(usedFile(), "utf8").trimEnd().split("\n")) JSON.parse(line);
    });
    test("an older record was restored: the log still knows the plan", async () => {
      const plan = await install();
      await submit(plan, context());
      rmSync(usedFile());
      await refuses(() => submit(plan, context()), "replay", "was used at");
    });
    test("the log can't be written: the client is told", async () => {
      const plan = await install();
      await refuses(
        () => submit(plan, context({ audit: auditThat(() => true) })),
        "io",
        "the log can't be written",
      );
      expect(readdirSync(host.store)).toEqual([]);
      expect(marker()).toBe(false);
      expect(await submit(plan, context())).toMatchObject({ state: "completed" });
    });
  });

  describe("after its start: an outcome, and never run again", () => {
    const once = (action: () => never) => {
      let calls = 0;
      return <T>(otherwise: T): T => (++calls === 1 ? action() : otherwise);
    };
    type Change = () => Parameters<typeof contextOf>[3];
    const CASES: [what: string, says: string, change: Change][] = [
      [
        "its program isn't there",
        "can't start /nonexistent/tool",
        () =>
          driving({
            prepare: async (...given) => ({
              ...(await driverOf(host, paths).prepare(...given)),
              program: "/nonexistent/tool",
            }),
          }),
      ],
      [
        "the witness can't be read",
        "state can't be read",
        () => {
          const first = once(broken);
          return driving({ witness: (...given) => first(driverOf(host, paths).witness(...given)) });
        },
      ],
      [
        "the host can't be compared",
        "state can't be read",
        () => {
          const first = once(broken);
          return driving({ compare: (...given) => first(driverOf(host, paths).compare(...given)) });
        },
      ],
      ["its progress can't be read", "state can't be read", () => driving({ progress: broken })],
      [
        "the end can't be logged",
        "the log can't be written",
        () => ({ audit: auditThat(isKind("execution_completed")) }),
      ],
    ];
    for (const [what, says, change] of CASES) {
      test(what, async () => {
        const plan = await install();
        await expect(submit(plan, context(change()))).rejects.toThrow(says);
        expect(kinds()).toEqual(["execution_started", "execution_interrupted"]);
        const result = readResult(plan.execution_plan_id, paths);
        expect(result).toMatchObject({ state: "interrupted", code: "interrupted" });
        expect(result?.message).toContain(`the run broke off: `);
        expect(result?.message).toContain(says);
        expect(marker()).toBe(false);
        expect(verifyAuditLog(paths.audit)).toMatchObject({ ok: true });
        await refuses(() => submit(plan, context()), "replay");
      });
    }
    const UNCLOSED: [what: string, change: Change, undo: () => void][] = [
      ["the witness can't be read, nor later", () => driving({ witness: broken }), () => {}],
      [
        "nothing can be logged any more",
        () => {
          let started = false;
          return {
            audit: auditThat((what) => {
              if (what === "reserve") return false;
              const refused = started;
              started ||= what.kind === "execution_started";
              return refused;
            }),
          };
        },
        () => {},
      ],
      [
        "outcomes can't be written",
        () => ({
          emit(event) {
            if (event.kind !== "checking") return;
            rmSync(paths.results, { recursive: true });
            writeFileSync(paths.results, "");
          },
        }),
        () => {
          rmSync(paths.results);
          mkdirSync(paths.results, { mode: 0o700 });
        },
      ],
    ];
    for (const [what, change, undo] of UNCLOSED) {
      test(`${what}: told, and closed by whoever comes next`, async () => {
        const plan = await install();
        await refuses(() => submit(plan, context(change())), "io", "how it ended can't be written down");
        expect(marker()).toBe(true);
        expect(kinds()).toEqual(["execution_started"]);
        undo();
        const next = await signed(host, paths, directory, "install", "acme.tool@2.0.0");
        expect(await submit(next, context())).toMatchObject({ state: "completed" });
        expect(kinds()).toEqual([
          ...["execution_started", "execution_interrupted"],
          ...["execution_started", "execution_completed"],
        ]);
        await refuses(() => submit(plan, context()), "replay");
        expect(readResult(plan.execution_plan_id, paths)).toMatchObject({ state: "interrupted" });
        expect(marker()).toBe(false);
      });
    }
    test("other changed files are named, the first five of them", async () => {
      const items = ["a", "b", "c", "d", "e", "f", "g"];
      const watchBesides = () => () => [
        { what: "units changed", items },
        { what: "none", items: [] },
      ];
      const result = await submit(await install(), context(driving({ watchBesides })));
      expect(result).toMatchObject({
        state: "completed",
        code: "drift",
        message: "done as planned, but units changed: a, b, c, d, e and 2 more",
      });
    });
    test("also where the run failed", async () => {
      const plan = await install();
      host.mode("fails");
      const watchBesides = () => () => [{ what: "units changed", items: ["a"] }];
      const advice = () => Promise.resolve({ text: "try again", facts: {} });
      expect(await submit(plan, context(driving({ watchBesides, advice })))).toMatchObject({
        state: "failed",
        code: "execution_failed",
        message: "units changed: a; code ended with status 3; try again",
      });
    });
    test("a run whose tool succeeded is judged by what the host has come to since, with advice where that isn't as planned", async () => {
      const plan = await install();
      const settled = async () => writeFileSync(join(host.store, "acme.tool"), "0.0.1");
      const advice = () => Promise.resolve({ text: "look there", facts: {} });
      const result = await submit(plan, context(driving({ settled, advice })));
      expect(result).toMatchObject({ state: "failed", code: "execution_failed", exit_status: 0 });
      expect(result.message).toMatch(/^not as planned: acme\.tool:all is 0\.0\.1, expected .*; look there$/);
    });
    test("one whose tool failed is judged at once", async () => {
      const plan = await install();
      host.mode("fails");
      const settled = () => Promise.reject(new Error("waited"));
      expect(await submit(plan, context(driving({ settled })))).toMatchObject({
        state: "failed",
        exit_status: 3,
      });
    });
    const afterwards = (units: string[], reasons: string[]) => ({
      services: {
        units: units.map((unit) => ({ unit, packages: ["acme.tool"], risky: null })),
        seen_at: "2026-01-02T03:04:05Z",
        unseen: 0,
      },
      reboot: { reasons },
    });
    test("what still runs old code is in the result and, if there is any, in the log", async () => {
      const names = Array.from({ length: 30 }, (_, n) => `unit${n}.service`);
      const found = afterwards(names, ["x".repeat(500)]);
      const looking = driving({ watchRunning: () => async () => found });
      const result = await submit(await install(), context(looking));
      expect(result).toMatchObject({ state: "completed", code: null, afterwards: found });
      const details = logged(paths).at(-1)?.details;
      expect(details).toMatchObject({ runs_old_code: names.slice(0, 20), units_with_old_code: 30 });
      expect(JSON.stringify(details?.["reboot_needed"]).length).toBeLessThan(220);
      const none = driving({ watchRunning: () => async () => afterwards([], []) });
      const next = await signed(host, paths, directory, "install", "acme.tool@2.0.0");
      expect(await submit(next, context(none))).toMatchObject({ state: "completed" });
      expect(Object.keys(logged(paths).at(-1)?.details ?? {})).not.toContain("runs_old_code");
    });
    test("that it can't be found out, before or after, fails no run", async () => {
      const late = driving({ watchRunning: () => async () => broken() });
      expect(await submit(await install(), context(late))).toMatchObject({ state: "completed", code: null });
      const next = await signed(host, paths, directory, "install", "acme.tool@2.0.0");
      const result = await submit(next, context(driving({ watchRunning: broken })));
      expect(result).toMatchObject({ state: "completed", code: null });
      expect("afterwards" in result).toBe(false);
    });
    test("where the process that ended is Aegis's own, the tool isn't blamed", async () => {
      const plan = await install();
      host.mode("dies");
      const witness = () => ({ verdict: "absent", reason: "the store is as it was" }) as const;
      expect(await submit(plan, context(driving({ isSupervised: true, witness })))).toMatchObject({
        state: "failed",
        message: "Aegis's own process, which supervises code, ended with a signal; the store is as it was",
      });
    });
    test("a run that takes longer than its driver allows is stopped", async () => {
      const plan = await install();
      host.mode("waits");
      const result = await submit(plan, context(driving({ limitMs: () => 300 })));
      expect(result).toMatchObject({ state: "failed", code: "execution_failed" });
      expect(result.message).toContain("code was stopped before it began");
    });
    test("where its driver forbids that it goes on", async () => {
      const plan = await install();
      host.mode("waits");
      let asked = 0;
      const mayStop = () => {
        if (++asked === 2) writeFileSync(join(directory, "mode.go"), "");
        return false;
      };
      expect(await submit(plan, context(driving({ limitMs: () => 1, mayStop })))).toMatchObject({
        state: "completed",
      });
      expect(asked).toBeGreaterThan(1);
    });
    test("processes that the tool left running are waited for", async () => {
      let left = 3;
      const result = await submit(await install(), context(driving({ isAlive: () => left-- > 0 })));
      expect(result).toMatchObject({ state: "completed" });
      expect(left).toBeLessThan(0);
    });
  });
});
