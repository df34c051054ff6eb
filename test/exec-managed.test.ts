import { afterAll, afterEach, beforeAll, beforeEach, expect } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import type { ExecutionPlan } from "../src/doc.ts";
import type { CommandEvidence } from "../src/doc-plan-evidence.ts";
import { readResult } from "../src/doc-result.ts";
import { type Ecosystem, emptyFindings } from "../src/eco.ts";
import { ECOSYSTEMS, type Ecosystems } from "../src/eco-load.ts";
import { buildExecutionPlan } from "../src/exec-plan.ts";
import { npm } from "../src/npm.ts";
import { npmManaged } from "../src/npm-managed.ts";
import { npmGrammar } from "../src/npm-target.ts";
import { makePlan } from "../src/plan.ts";
import { openPlanning } from "../src/plan-world.ts";
import { evaluate } from "../src/policy.ts";
import { resolveProgram } from "../src/sys-spawn.ts";
import { contextOf, logged, makeStatePaths, statePathsIn, submit } from "./execution-kit.ts";
import { compileAegis, ManagedTest, managed, npmTarball } from "./managed-kit.ts";
import { needs } from "./needs.ts";
import { approvalOf, configOf, refuses, SIGNER, TRUST } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/*
 * Whole executions of npm through the executor: planned again, run in namespaces, exchanged, logged. Planning is a table of this test.
 */

const TARGET = "app@1.0.0";
const PACKAGES = [
  npmTarball(
    "app",
    "1.0.0",
    { bin: { app: "cli.js" }, dependencies: { lib: "*" } },
    { "cli.js": "#!/usr/bin/env node\n" },
  ),
  npmTarball("lib", "1.2.0", {}, {}),
];

managed.describe("npm through the executor", () => {
  const real = needs(resolveProgram("npm") !== null, "npm, which installs here");
  let aegis: string;
  let compiled: { path: string; remove(): void };
  let at: ManagedTest;
  let places: ReturnType<typeof statePathsIn>;
  beforeAll(() => {
    compiled = temporaryDirectory();
    aegis = compileAegis(compiled.path);
  });
  afterAll(() => compiled.remove());
  beforeEach(() => {
    at = new ManagedTest(aegis, npmManaged);
    places = statePathsIn(at.directory);
    makeStatePaths(places);
  });
  afterEach(() => at.close());

  const policyNow = () =>
    configOf(`[npm]\napply = "require_human"\nallowed_registries = ["127.0.0.1:${at.port}"]`);
  const ASKED: CommandEvidence = {
    ...{ argv: ["npm", "--version"], status: 0, outcome: "ok", stdout_sha256: null, stderr_sha256: null },
    ...{ stdout: null, stderr: null },
  };

  function ecosystems(): Ecosystems {
    const { transaction } = at.plan(PACKAGES);
    const planned: Ecosystem = {
      ...npm,
      gather: (_, { targets }) =>
        Promise.resolve({
          ...emptyFindings(["npm", "install"]),
          ...{
            exact_targets: [...targets],
            metadata_available: true,
            transaction,
            published_at: "2020-01-01T00:00:00Z",
          },
          ...{
            source_registry: `http://127.0.0.1:${at.port}/`,
            signature_or_checksum_status: "signature-verified",
          },
          command_preview: npm.signedArgv({ ...at.plan(PACKAGES), exact_targets: [...targets] }),
          raw_evidence: { commands: [ASKED] },
          provenance_evidence: transaction.map(({ name, to_version }) => ({
            ...{
              kind: "npm-registry-signature",
              subject: `${name}@${to_version}`,
              verified: true,
              key: "test",
            },
            detail: "",
          })),
        }),
      driver: () => Promise.resolve(at.driver),
    };
    return { ...ECOSYSTEMS, npm: { grammar: npmGrammar, load: () => Promise.resolve(planned) } };
  }

  async function signed(): Promise<ExecutionPlan> {
    const all = ecosystems();
    const planning = openPlanning({ env: { HOME: at.directory } });
    try {
      const load = all.npm?.load;
      if (load === undefined) throw new Error("unreachable");
      const plan = await makePlan(await load(), "install", [TARGET], planning);
      const planHash = canonicalHash(plan);
      const current = policyNow();
      const { config, hash: configHash } = current;
      const policy = evaluate({ plan, planHash, config, configHash, grammars: all });
      const now = new Date();
      return await buildExecutionPlan({
        ...{
          plan: { document: plan, hash: planHash },
          policy: { document: policy, hash: canonicalHash(policy) },
        },
        ...{ review: null, approvals: [approvalOf(plan, { now })], proofs: [], signer: "ops", key: SIGNER },
        ...{ config: current, trust: TRUST, now, ecosystems: all },
      });
    } finally {
      planning.close();
    }
  }

  const context = (
    emit: (event: { kind: string; message?: string | null | undefined }) => void = () => {},
  ) => {
    const nowhere = { store: at.directory, tool: "/nonexistent", mode: () => {} };
    return contextOf(nowhere, places, at.directory, {
      ...{ ecosystems: ecosystems(), aegis, emit },
      rules: () => ({ trust: TRUST, policy: { ...policyNow(), source: "test" } }),
    });
  };

  real.test(
    "a plan is run once, its bytes vouched for, its command listed, and the log tells it",
    async () => {
      const plan = await signed();
      const messages: string[] = [];
      const executor = context(({ message }) => void messages.push(message ?? ""));
      const result = await submit(plan, executor);
      expect(result).toMatchObject({
        state: "completed",
        code: null,
        not_as_planned: [],
        changed_besides: [],
      });
      expect(result.executables).toMatchObject([{ name: "app", path: join(at.root, "bin/app") }]);
      expect(readResult(result.execution_plan_id, places)).toEqual(result);
      expect(messages.some((one) => /^fetched \d+ of \d+ bytes$/.test(one))).toBe(true);
      expect(messages).toContain("installing, without a network");
      expect(logged(places).map(({ kind }) => kind)).toEqual(["execution_started", "execution_completed"]);
      expect(logged(places)[0]?.details).toMatchObject({ runs_as: { name: at.account.name } });
      expect(logged(places)[1]?.details).toMatchObject({
        managed_root: { root: "npm-global", files: 3, tree_sha256: result.content?.after },
      });
      expect(readdirSync(places.archives)).toEqual([]);
      await refuses(() => submit(plan, { ...executor }), "replay");
    },
  );

  real.test("a byte that the registry changed since the plan: refused, with nothing used up", async () => {
    const plan = await signed();
    at.trick = (bytes) => new Response(Buffer.from(bytes).fill(0, 40, 41));
    await refuses(() => submit(plan, context()), "evidence_mismatch");
    expect(logged(places).map(({ kind }) => kind)).toEqual(["execution_denied"]);
    expect(existsSync(join(places.used, "spent.ndjson"))).toBe(false);
    expect(existsSync(join(at.root, "lib"))).toBe(false);
    at.trick = null;
    expect(await submit(plan, context())).toMatchObject({ state: "completed" });
  });
});
