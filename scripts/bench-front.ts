import { randomBytes, randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { canonicalHash, canonicalJson, parseCanonical } from "../src/canonical.ts";
import { type ExecutionPlan, SCHEMA_VERSION } from "../src/documents.ts";
import { keyId, publicKeyOf, signDocument } from "../src/ed25519.ts";
import { evaluate } from "../src/evaluate.ts";
import { startFront } from "../src/front.ts";
import { openLog } from "../src/log.ts";
import { loadPolicyConfig } from "../src/policy-config.ts";
import { checkSignature, readExecution } from "../src/preflight.ts";
import { loadTrust } from "../src/trust.ts";
import { install } from "../test/policy-plans.ts";
import { call, RawClient, startRunner } from "../test/varlink-kit.ts";

/*
 * How many requests with an invalid signature the front denies in a second, and what memory it takes. Every request is a
 * complete execution plan that passes all checks up to the signature.
 *
 *   bun scripts/bench-front.ts [--json] [--seconds 3] [--clients 8]
 */

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    seconds: { type: "string", default: "3" },
    clients: { type: "string", default: "8" },
    /** The front's process: socket and trusted key. For the benchmark itself only. */
    serve: { type: "string", multiple: true },
  },
});

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

async function serve(path: string, trustedKey: string): Promise<void> {
  await startFront({
    listen: { path },
    runner: { path: `${path}.runner` },
    verify(text) {
      const execution = readExecution(parseCanonical(text));
      const trust = loadTrust({ rootOnly: true, bare: { execution: [trustedKey], approval: [] } });
      checkSignature(execution, trust, new Date());
    },
    log: openLog({ AEGIS_LOG: "error" }),
  });
  process.stdout.write("ready\n");
}

interface Load {
  per_second: number;
  median_ms: number;
}

/** Keeps `clients` busy for `seconds`, each with one request after the other. */
async function load(
  seconds: number,
  clients: number,
  request: (client: number) => Promise<void>,
): Promise<Load> {
  const times: number[] = [];
  const start = performance.now();
  const end = start + seconds * 1000;
  await Promise.all(
    Array.from({ length: clients }, async (_, client) => {
      for (let now = performance.now(); now < end; ) {
        await request(client);
        const after = performance.now();
        times.push(after - now);
        now = after;
      }
    }),
  );
  times.sort((a, b) => a - b);
  const elapsed = (performance.now() - start) / 1000;
  return {
    per_second: Math.round(times.length / elapsed),
    median_ms: Number((times[times.length >> 1] ?? 0).toFixed(3)),
  };
}

async function expectDenial(client: RawClient, plan: string, count: number): Promise<void> {
  const code = await client.send(call("Apply", { plan }, { more: true })).refusal(count);
  if (code !== "signature_invalid") throw new Error(`expected signature_invalid, got ${code}`);
}

async function measure() {
  const directory = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  const path = join(directory, "front.sock");
  const trustedKey = publicKeyOf(randomBytes(32));
  const plan = forgedPlan(trustedKey);
  const runner = await startRunner(`${path}.runner`, () => {});
  const child = Bun.spawn([process.execPath, import.meta.path, "--serve", path, "--serve", trustedKey], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const residentKb = (field: "VmRSS" | "VmHWM") =>
    Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]);
  try {
    await child.stdout.getReader().read();
    await Bun.sleep(500);
    const idle_kb = residentKb("VmRSS");
    const seconds = Number(values.seconds);
    const clients = Number(values.clients);
    const kept = Array.from({ length: clients }, () => ({ client: new RawClient(path), count: 0 }));
    const on_kept_connections = await load(seconds, clients, async (i) => {
      const it = kept[i];
      if (it !== undefined) await expectDenial(it.client, plan, ++it.count);
    });
    for (const { client } of kept) client.socket.destroy();
    await Promise.all(kept.map(({ client }) => client.closed));
    await Bun.sleep(200);
    // One less at a time than allowed: a place is free again only when the front has seen its client go.
    const on_new_connections = await load(seconds, Math.max(1, clients - 4), async () => {
      const client = new RawClient(path);
      await expectDenial(client, plan, 1);
      client.socket.end();
      await client.closed;
    });
    await Bun.sleep(1500);
    const reported = runner.reports.flat().reduce((n, refusal) => n + refusal.count, 0);
    return {
      request_bytes: plan.length,
      seconds,
      clients,
      denied: { on_kept_connections, on_new_connections },
      reports: { messages: runner.reports.length, refusals: reported },
      resident: { idle_kb, peak_kb: residentKb("VmHWM"), after_kb: residentKb("VmRSS") },
    };
  } finally {
    child.kill();
    await child.exited;
    runner.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

const [path, trustedKey] = values.serve ?? [];
if (path !== undefined && trustedKey !== undefined) await serve(path, trustedKey);
else {
  const result = await measure();
  const { denied, resident, reports } = result;
  const line = (name: string, it: Load) =>
    `${name}: ${it.per_second} denied requests/s, median ${it.median_ms} ms\n`;
  process.stdout.write(
    values.json
      ? `${JSON.stringify(result)}\n`
      : line("kept connections", denied.on_kept_connections) +
          line("new connections", denied.on_new_connections) +
          `reports to the runner: ${reports.messages} for ${reports.refusals} refusals\n` +
          `resident: ${resident.idle_kb} kB idle, ${resident.peak_kb} kB at most, ${resident.after_kb} kB after\n`,
  );
  process.exit(0);
}
