import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openAuditLog } from "../src/audit-log.ts";
import { canonicalJson } from "../src/canonical.ts";
import type { ExecutionPlan } from "../src/doc.ts";
import type { HostState, RunDriver } from "../src/eco-driver.ts";
import { AegisError } from "../src/errors.ts";
import { type ExecutionContext, execute } from "../src/exec.ts";
import { ALL_CHECKS, CHECKS, type CheckName, CheckSequence, SUBMISSION_CHECKS } from "../src/exec-checks.ts";
import { PREFLIGHT_CHECKS } from "../src/exec-embedded.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { contextOf, logged, makeExecutionHost, signed, submit } from "./execution-kit.ts";
import { type FakeHost, withFake } from "./fake-ecosystem.ts";
import { ALICE, configOf, forged, refuses, STRANGER, snapshot, TRUST } from "./signing-kit.ts";

test("the order of the checks", () => {
  expect(ALL_CHECKS).toEqual([
    ...(["same-program", "nothing-open"] as const),
    ...(["canonical", "schema", "signature", "not-used-before", "lifetime", "host", "boot"] as const),
    ...(["hashes", "policy", "plan-again", "argv", "controls", "snapshots"] as const),
    ...(["tool-ready", "account", "laid-out", "host-observed", "room-reserved"] as const),
    ...(["marked", "used-up", "start-logged"] as const),
  ]);
  expect(SUBMISSION_CHECKS).toEqual(ALL_CHECKS.slice(2, 11));
});
test("the checks that a signed plan requires are in the same order", () => {
  expect(ALL_CHECKS.filter((name) => PREFLIGHT_CHECKS.some((one) => one === name))).toEqual([
    ...PREFLIGHT_CHECKS,
  ]);
});
test("each says what it proves and what it stops, and no two say the same", () => {
  const said = CHECKS.flatMap(({ proves, stops }) => [proves, stops]);
  expect(said.filter((text) => text.length < 20)).toEqual([]);
  expect(new Set(said).size).toBe(2 * CHECKS.length);
});

describe("a sequence of checks", () => {
  const through = (checks: CheckSequence, ...names: CheckName[]) => {
    for (const name of names) checks.make(name, () => {});
  };
  const CASES: [what: string, names: CheckName[]][] = [
    ["begins with its first", ["schema"]],
    ["leaves none out", ["canonical", "signature"]],
    ["makes none twice", ["canonical", "canonical"]],
    ["never goes back", ["canonical", "schema", "canonical"]],
    ["ends", [...SUBMISSION_CHECKS, "plan-again"]],
  ];
  for (const [what, names] of CASES) {
    test(what, async () => {
      await refuses(() => through(new CheckSequence(SUBMISSION_CHECKS), ...names), "internal", "is due");
    });
  }
  test("a check out of order is not made", async () => {
    let made = false;
    const late = () => new CheckSequence().wait("used-up", async () => (made = true));
    await refuses(late, "internal", "out of order: same-program is due");
    expect(made).toBe(false);
  });
  test("a check is not made after one that refused, nor beside one that isn't done", async () => {
    const refused = new CheckSequence(SUBMISSION_CHECKS);
    const no = () => {
      throw new AegisError("io", "no");
    };
    await refuses(() => refused.make("canonical", no), "io");
    await refuses(() => through(refused, "schema"), "internal", "canonical has not passed");
    const busy = new CheckSequence();
    const first = busy.wait("same-program", () => Bun.sleep(0));
    await refuses(() => busy.wait("nothing-open", async () => {}), "internal", "same-program has not passed");
    await first;
    await busy.wait("nothing-open", async () => {});
  });
  test("knows which one refused, and none between two", async () => {
    const checks = new CheckSequence();
    const fails = () => {
      throw new AegisError("io", "no");
    };
    expect(checks.current).toBeNull();
    expect(checks.make("same-program", () => checks.current)).toBe("same-program");
    expect(checks.current).toBeNull();
    await refuses(() => checks.wait("nothing-open", async () => fails()), "io");
    expect(checks.current).toBe("nothing-open");
  });
});

describe("each check refuses, under its own name, and nothing has run", () => {
  let directory: string;
  let remove: () => void;
  let host: FakeHost;
  let paths: StatePaths;
  beforeEach(() => {
    ({ directory, remove, host, paths } = makeExecutionHost());
  });
  afterEach(() => remove());

  /** What is submitted, if not the plan itself, and what differs for the executor. */
  type Case = (plan: ExecutionPlan) => { text?: string; change?: Partial<ExecutionContext> };
  const no = (): never => {
    throw new AegisError("io", "it can't be done");
  };
  const driving = (change: Partial<RunDriver>) => ({
    change: { ecosystems: withFake(host, paths, change) },
  });
  const onHost = (plan: ExecutionPlan, change: object) => {
    const { operation_plan } = plan;
    return {
      text: forged(plan, {
        operation_plan: { ...operation_plan, host: { ...operation_plan.host, ...change } },
      }),
    };
  };
  const ruled = (toml: string, trust = TRUST) => ({
    change: { rules: () => ({ trust, policy: { ...configOf(toml), source: "test" } }) },
  });
  const log = () => openAuditLog(paths.audit);

  const CASES: Record<CheckName, Case> = {
    "same-program": () => ({ change: { isReplaced: () => true } }),
    "nothing-open": () => {
      writeFileSync(join(paths.lock, "current.json"), "no marker");
      return {};
    },
    canonical: (plan) => ({ text: `${canonicalJson(plan)}\n` }),
    schema: (plan) => ({ text: forged(plan, { note: "x" } as object) }),
    signature: (plan) => ({ text: forged(plan, {}, STRANGER) }),
    "not-used-before": (plan) => {
      const { execution_plan_id, operation_plan_hash } = plan;
      const use = { at: plan.created_at, execution_plan_id, operation_plan_hash };
      const line = JSON.stringify({ ...use, approvals: [], audit_sequence: -1 });
      writeFileSync(join(paths.used, "spent.ndjson"), `${line}\n`);
      return {};
    },
    lifetime: (plan) => ({ text: forged(plan, { expires_at: plan.created_at }) }),
    host: (plan) => onHost(plan, { hostname: "another" }),
    boot: (plan) => onHost(plan, { boot_id: "00000000-0000-4000-8000-000000000000" }),
    hashes: (plan) => ({ text: forged(plan, { operation_plan_hash: "0".repeat(64) }) }),
    policy: () => ruled('[vscode]\napply = "deny"'),
    "plan-again": () => {
      writeFileSync(join(host.store, "acme.tool"), "0.9.0");
      return {};
    },
    argv: (plan) => ({ text: forged(plan, { argv: ["apt-get", "update"] }) }),
    controls: () => {
      const known = TRUST.filter(({ publicKeyHex }) => publicKeyHex !== ALICE.publicKeyHex);
      return ruled('[vscode]\napply = "require_human"', known);
    },
    snapshots: (plan) => {
      const times = { created_at: plan.created_at, expires_at: plan.expires_at };
      const proof = snapshot({ proof_type: "lvm-snapshot", value: "none/there", ...times });
      return { text: forged(plan, { control_proofs: [proof] }) };
    },
    "tool-ready": () => driving({ ready: async () => no() }),
    account: () => driving({ user: "no-such-user" }),
    "laid-out": () => driving({ prepare: async () => no() }),
    "host-observed": () => driving({ observe: no }),
    "room-reserved": () => ({ change: { audit: { ...log(), reserve: no } } }),
    // The marker holds what was observed; this can't be written.
    marked: () => driving({ observe: () => ({ toJSON: no }) as unknown as HostState }),
    "used-up": () => {
      const observe = () => {
        mkdirSync(join(paths.used, "spent.ndjson"));
        return {};
      };
      return driving({ observe });
    },
    "start-logged": () => {
      const { append, ...rest } = log();
      const audit = {
        ...rest,
        append: (event: Parameters<typeof append>[0]) =>
          event.kind === "execution_started" ? no() : append(event),
      };
      return { change: { audit } };
    },
  };
  for (const name of ALL_CHECKS) {
    test(name, async () => {
      const plan = await signed(host, paths, directory, "install", "acme.tool@1.0.0");
      const { text = canonicalJson(plan), change } = CASES[name](plan);
      const before = readdirSync(host.store);
      const context = contextOf(host, paths, directory, change);
      await expect(execute(text, context)).rejects.toBeInstanceOf(AegisError);
      expect(logged(paths)).toMatchObject([{ kind: "execution_denied", details: { check: name } }]);
      expect(readdirSync(host.store)).toEqual(before);
      for (const place of [paths.runs, paths.results, paths.archives]) {
        expect(readdirSync(place)).toEqual([]);
      }
      if (name !== "nothing-open") expect(existsSync(join(paths.lock, "current.json"))).toBe(false);
    });
  }
  test("without these faults the same plan runs", async () => {
    const plan = await signed(host, paths, directory, "install", "acme.tool@1.0.0");
    const result = await submit(plan, contextOf(host, paths, directory));
    expect(result).toMatchObject({ state: "completed" });
  });
  test("a refusal between two checks names no check", async () => {
    const plan = await signed(host, paths, directory, "install", "acme.tool@1.0.0");
    const stop = AbortSignal.abort(new AegisError("unavailable", "being stopped"));
    await refuses(() => submit(plan, contextOf(host, paths, directory, { stop })), "unavailable");
    expect(logged(paths)).toMatchObject([{ kind: "execution_denied", details: { check: null } }]);
  });
});
