import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { openAuditLog } from "../src/audit-log.ts";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import type { ExecutionPlan } from "../src/doc.ts";
import { loadEcosystem } from "../src/eco-load.ts";
import { type ExecutionContext, execute } from "../src/exec.ts";
import { buildExecutionPlan } from "../src/exec-plan.ts";
import { makePlan } from "../src/plan.ts";
import { openPlanning } from "../src/plan-world.ts";
import { evaluate } from "../src/policy.ts";
import type { StatePaths } from "../src/sys-state.ts";
import { type FakeHost, makeFakeHost, withFake } from "./fake-ecosystem.ts";
import { approvalOf, configOf, SIGNER, TRUST } from "./signing-kit.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/** The policy of these tests: what the fake ecosystem installs needs a person. */
export const POLICY = configOf('[vscode]\napply = "require_human"');

/** An executor's directories below a given one, owned by the user who runs the test. */
export function statePathsIn(directory: string): StatePaths {
  const at = (name: string) => join(directory, "state", name);
  return {
    runs: at("runs"),
    results: at("results"),
    used: at("spent"),
    lock: at("lock"),
    archives: at("archives"),
    requests: at("requests"),
    proofs: at("proof"),
    run: at("run"),
    notices: at("notices"),
    audit: at("audit"),
    owner: process.getuid?.() ?? 0,
    readers: "no-such-group",
  };
}

export function makeStatePaths(paths: StatePaths): void {
  const { owner: _, readers: __, ...directories } = paths;
  for (const path of Object.values(directories)) mkdirSync(path, { recursive: true, mode: 0o700 });
}

/** A directory with the executor's state, and a host with an ecosystem that exists only in tests. */
export function makeExecutionHost(): {
  directory: string;
  host: FakeHost;
  paths: StatePaths;
  remove(): void;
} {
  const { path: directory, remove } = temporaryDirectory();
  const host = makeFakeHost(directory);
  const paths = statePathsIn(directory);
  makeStatePaths(paths);
  return { directory, host, paths, remove };
}

/** Plans, decides, approves and signs a change of the fake host: the document as it is submitted. */
export async function signed(
  host: FakeHost,
  paths: StatePaths,
  cache: string,
  operation: string,
  target: string,
): Promise<ExecutionPlan> {
  const ecosystems = withFake(host, paths);
  const planning = openPlanning({ env: { HOME: cache } });
  try {
    const plan = await makePlan(await loadEcosystem("vscode", ecosystems), operation, [target], planning);
    const now = new Date();
    const policy = evaluate({
      plan,
      planHash: canonicalHash(plan),
      config: POLICY.config,
      configHash: POLICY.hash,
      grammars: ecosystems,
    });
    return await buildExecutionPlan({
      plan: { document: plan, hash: canonicalHash(plan) },
      policy: { document: policy, hash: canonicalHash(policy) },
      review: null,
      approvals: [approvalOf(plan, { now })],
      proofs: [],
      signer: "ops",
      key: SIGNER,
      config: POLICY,
      trust: TRUST,
      now,
      ecosystems,
    });
  } finally {
    planning.close();
  }
}

/** The executor's dependencies in this test. */
export function contextOf(
  host: FakeHost,
  paths: StatePaths,
  cache: string,
  change: Partial<ExecutionContext> = {},
): ExecutionContext {
  return {
    paths,
    ecosystems: withFake(host, paths),
    openPlanning: () => openPlanning({ env: { HOME: cache } }),
    rules: () => ({ trust: TRUST, policy: { ...POLICY, source: "test" } }),
    audit: openAuditLog(paths.audit),
    caller: { uid: process.getuid?.() ?? 0, gid: 0, pid: 1 },
    aegis: "/nonexistent/aegis",
    isReplaced: () => false,
    emit: () => {},
    recorded: async () => {},
    stop: new AbortController().signal,
    ...change,
  };
}

export const submit = (plan: ExecutionPlan, context: ExecutionContext) =>
  execute(canonicalJson(plan), context);

/** The kinds of the events in the log, oldest first, with their details. */
export function logged(paths: StatePaths): { kind: string; details: Record<string, unknown> }[] {
  return readFileSync(join(paths.audit, "audit.ndjson"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}
