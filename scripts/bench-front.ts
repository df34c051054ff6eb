import { randomBytes, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { type ExecutionPlan, SCHEMA_VERSION } from "../src/doc.ts";
import { keyId, publicKeyOf, signDocument } from "../src/key-sign.ts";
import { evaluate } from "../src/policy.ts";
import { loadPolicyConfig } from "../src/policy-config.ts";
import { install } from "../test/policy-plans.ts";
import { throwawayUnavailable } from "../test/throwaway.ts";
import { call, RawClient, REFUSED } from "../test/varlink-kit.ts";
import {
  type Resident,
  resident,
  type Server,
  startBare,
  startDaemon,
  startSources,
} from "./bench-front-servers.ts";
import { type Line, line, median } from "./bench-measure.ts";

/*
 * How many requests with an invalid signature the daemon denies per second, and its memory use. Every request is a
 * complete execution plan that passes all checks up to the signature. Where a throw-away host is possible it is the built
 * `aegis daemon --executor`, its runners and audit log included; elsewhere a front from the sources. The reference is a
 * server that answers the same requests without looking at them.
 */

/** The limit per uid. */
const CLIENTS = 8;
/** Below the limit: a slot is freed only once the front has noticed that its client has gone. */
const NEW_CLIENTS = 4;

/** An execution plan signed by a key that is not the one it names. */
function forgedPlan(trustedKey: string): string {
  const now = new Date();
  const plan = install();
  const planHash = canonicalHash(plan);
  const { config, hash } = loadPolicyConfig({});
  const policy = evaluate({ plan, planHash, config, configHash: hash });
  const execution: Omit<ExecutionPlan, "signature"> = {
    schema_version: SCHEMA_VERSION,
    execution_plan_id: randomUUID(),
    operation_plan_id: plan.plan_id,
    policy_decision: policy.decision,
    policy_version: policy.policy_version,
    evaluator_hash: policy.evaluator_hash,
    policy_config_hash: policy.policy_config_hash,
    argv: ["apt-get", "install", "-y", "hello=1.0-2"],
    exact_targets: plan.exact_targets,
    required_preflight_checks: [],
    required_controls: policy.required_controls,
    rollback_plan: plan.rollback_plan,
    signer_identity: "bench",
    created_at: now.toISOString(),
    expires_at: new Date(now.getTime() + 3_600_000).toISOString(),
    approvals: [],
    operation_plan_hash: planHash,
    policy_result_hash: canonicalHash(policy),
    operation_plan: plan,
    policy_result: policy,
    control_proofs: [],
    ai_review_hash: null,
    ai_review: null,
  };
  return canonicalJson(signDocument(execution, randomBytes(32), keyId(trustedKey)));
}

/** Runs `clients` for `seconds`, each sending one request after the other; returns requests per second. */
async function load(
  seconds: number,
  clients: number,
  request: (client: number) => Promise<void>,
): Promise<number> {
  let done = 0;
  const start = performance.now();
  const end = start + seconds * 1000;
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      while (performance.now() < end) {
        await request(client);
        done++;
      }
    }),
  );
  return done / ((performance.now() - start) / 1000);
}

async function expectDenial(client: RawClient, plan: string, count: number): Promise<void> {
  const code = await client.send(call("Apply", { plan }, { more: true })).refusal(count);
  if (code !== "signature_invalid") throw new Error(`expected signature_invalid, got ${code}`);
}

async function onKeptConnections(path: string, plan: string, seconds: number): Promise<number> {
  const kept = Array.from({ length: CLIENTS }, () => ({ client: new RawClient(path), count: 0 }));
  const rate = await load(seconds, CLIENTS, async (i) => {
    const it = kept[i];
    if (it !== undefined) await expectDenial(it.client, plan, ++it.count);
  });
  for (const { client } of kept) client.socket.destroy();
  await Promise.all(kept.map(({ client }) => client.closed));
  await Bun.sleep(200);
  return rate;
}

function onNewConnections(path: string, plan: string, seconds: number): Promise<number> {
  return load(seconds, NEW_CLIENTS, async () => {
    const client = new RawClient(path);
    await expectDenial(client, plan, 1);
    client.socket.end();
    await client.closed;
  });
}

export async function front(quick: boolean): Promise<Line[]> {
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  const servers: Server[] = [];
  try {
    const trustedKey = publicKeyOf(randomBytes(32));
    const plan = forgedPlan(trustedKey);
    const ours =
      throwawayUnavailable() === null ? await startDaemon(trustedKey) : await startSources(dir, trustedKey);
    servers.push(ours);
    const answer = {
      error: REFUSED,
      parameters: { code: "signature_invalid", message: "refused", hint: "", details: {} },
    };
    const bare = await startBare(dir, answer);
    servers.push(bare);
    await Bun.sleep(1000);

    const [rounds, seconds] = quick ? [1, 1] : [5, 2];
    const started = (server: Server) => {
      const rates: { kept: number[]; fresh: number[] } = { kept: [], fresh: [] };
      return { server, idle: resident(server, "VmRSS"), ...rates };
    };
    const [a, b] = [started(ours), started(bare)];
    for (let round = 0; round < rounds; round++) {
      for (const { server, kept, fresh } of [a, b]) {
        kept.push(await onKeptConnections(server.path, plan, seconds));
        fresh.push(await onNewConnections(server.path, plan, seconds));
      }
    }
    const rate = (name: string, of: "kept" | "fresh", note: string) =>
      line({
        name: `denied requests: ${name}`,
        unit: "requests/s",
        ours: median(a[of]),
        reference: median(b[of]),
        against: bare.what,
        goal: null,
        samples: rounds,
        note,
      });
    const memory = (name: string, own: Resident, reference: Resident) =>
      line({
        name: `daemon's resident memory: ${name}`,
        unit: "MB",
        ours: own.mb,
        reference: reference.mb,
        against: bare.what,
        goal: null,
        samples: 1,
        note: own.parts,
      });
    return [
      rate("kept connections", "kept", `${ours.what}; ${plan.length} bytes each`),
      rate("a connection each", "fresh", ours.what),
      memory("idle", a.idle, b.idle),
      memory("most under that load", resident(ours, "VmHWM"), resident(bare, "VmHWM")),
    ];
  } finally {
    for (const server of servers) await server.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
