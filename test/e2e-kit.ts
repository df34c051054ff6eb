import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import type { ExecutionPlan, PolicyResult } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { AegisError } from "../src/errors.ts";
import { callExecutor } from "../src/front-client.ts";
import {
  type ExecResult,
  type HostOptions,
  type Running,
  startHost,
  type ThrowawayHost,
} from "./throwaway.ts";
import { type PackageKey, pick } from "./throwaway-packages.ts";

/*
 * The whole chain on a throw-away host, with the compiled binary, as its users go through it: root plans and signs, alice
 * approves with her key, and alice or root submits.
 */

const AEGIS = "/usr/local/bin/aegis";
const BINARY = join(import.meta.dir, "../dist/aegis");

/** Who plans and signs, and who approves. */
export interface Roles {
  signer: "root" | "alice";
  approver: "alice" | "bob";
}

export interface Planned {
  plan: OperationPlan;
  plan_hash: string;
}

export interface Chain {
  readonly host: ThrowawayHost;
  /** Public keys that the host trusts, in hex. */
  readonly keys: { execution: string; approval: string };
  /** `aegis …` with its exit status and output; never throws for a status. */
  aegis(
    args: readonly string[],
    options?: {
      user?: "root" | "alice" | "bob";
      stdin?: string;
      timeoutMs?: number;
      env?: Record<string, string>;
    },
  ): Promise<ExecResult>;
  /** `aegis … --json`, its one document parsed. */
  json(
    args: readonly string[],
    user?: "root" | "alice" | "bob",
  ): Promise<{ status: number | null; document: unknown }>;
  plan(...args: readonly string[]): Promise<Planned>;
  /** Policy on a stored plan; approval where it is required; signature. Returns the execution plan and its path. */
  sign(planned: Planned, extra?: readonly string[]): Promise<{ execution: ExecutionPlan; path: string }>;
  policy(planId: string): Promise<{ status: number | null; result: PolicyResult }>;
  /** The approver's approval of a plan; returns the file. */
  approve(planned: Planned, extra?: readonly string[]): Promise<string>;
  startDaemon(env?: Record<string, string>): Promise<Running>;
  /** Submits an execution plan. */
  apply(path: string, user?: "root" | "alice" | "bob"): Promise<ExecResult>;
  /** plan, policy, approve and sign in one call, without the daemon. */
  signed(...args: readonly string[]): Promise<{ execution: ExecutionPlan; path: string; planned: Planned }>;
  /** Events of the production log, oldest first. */
  audit(): Record<string, unknown>[];
  /** dpkg's `Status` of a package, `""` where dpkg does not know it. */
  dpkgStatus(name: string): Promise<string>;
  dpkgVersion(name: string): Promise<string>;
  /** Signs an arbitrary tree with the trusted execution key, as an attacker with a real key would; returns the file. */
  forge(execution: object, name?: string): Promise<string>;
  /** Publishes exactly these packages and updates the host's package lists. */
  offer(...keys: readonly PackageKey[]): Promise<void>;
  /** Edits a stored plan's file, as anyone who can write it could; policy and sign read the edited one. */
  edit(planned: Planned, change: Partial<OperationPlan>): Planned;
  /**
   * What the executor answers to a plan's bytes, without the client's own checks before: the code of the refusal or of
   * the outcome, null for success. `runner` bypasses the front, which the runner does not trust.
   */
  submit(text: string, to?: "front" | "runner"): Promise<string | null>;
  stop(): Promise<void>;
}

/** Starts a host with keys trusted in /etc/aegis/trusted-keys.toml. */
export async function startChain(options: HostOptions = {}): Promise<Chain> {
  return chainOn(await startHost({ binary: BINARY, ...options }), { signer: "root", approver: "alice" });
}

/** The chain on a host that has aegis; makes the keys and trusts them. */
export async function chainOn(host: ThrowawayHost, { signer, approver }: Roles): Promise<Chain> {
  const home = (user: string) => (user === "root" ? "/root" : `/home/${user}`);
  const [signKey, approveKey] = [`${home(signer)}/keys/sign`, `${home(approver)}/keys/approve`];
  const aegis: Chain["aegis"] = (args, how = {}) =>
    host.exec([AEGIS, ...args], { timeoutMs: 120_000, ...how });
  const must = async (args: readonly string[], user: "root" | "alice" | "bob" = signer, also = 0) => {
    const result = await aegis([...args, "--json"], { user });
    if (![0, also].includes(result.status ?? -1)) {
      throw new Error(`aegis ${args.join(" ")}: exit ${result.status}\n${result.stdout}${result.stderr}`);
    }
    return JSON.parse(result.stdout);
  };

  await host.exec(["mkdir", "-p", dirname(signKey)], { user: signer });
  await host.exec(["mkdir", "-p", dirname(approveKey)], { user: approver });
  await must(["sign", "keygen", "--out", signKey]);
  await must(["sign", "keygen", "--out", approveKey], approver);
  const publicKey = (path: string): string => JSON.parse(host.read(`${path}.pub`)).public_key_hex;
  const keys = { execution: publicKey(signKey), approval: publicKey(approveKey) };
  host.write("/etc/aegis/trusted-keys.toml", trustedKeys(keys, approver));

  const chain: Chain = {
    host,
    keys,
    aegis,
    async json(args, user = "root") {
      const { status, stdout } = await aegis([...args, "--json"], { user });
      return { status, document: JSON.parse(stdout) };
    },
    // A plan that policy can only deny is written too.
    plan: (...args) => must(["plan", ...args], signer, 3),
    async policy(planId) {
      const { status, stdout } = await aegis(["policy", planId, "--json"], { user: signer });
      return { status, result: JSON.parse(stdout).policy_result };
    },
    async approve({ plan, plan_hash }, extra = []) {
      const file = `/tmp/plan-${plan.plan_id}.json`;
      host.write(file, canonicalJson(plan));
      const out = `/tmp/approval-${crypto.randomUUID()}.json`;
      await must(
        [
          "sign",
          "approve",
          "--plan",
          file,
          "--reason",
          "needed",
          "--key",
          approveKey,
          "--signer",
          `${approver}@example`,
          "--confirm",
          plan_hash,
          "--out",
          out,
          ...extra,
        ],
        approver,
      );
      // The signer has to read it.
      await host.exec(["chmod", "644", out], { user: approver });
      return out;
    },
    async sign(planned, extra = []) {
      const { result } = await chain.policy(planned.plan.plan_id);
      const needsSnapshot = result.required_controls.includes("system snapshot");
      const snapshot = needsSnapshot ? ["--snapshot-id", "snap-1"] : [];
      const accepted = needsSnapshot ? ["--accept-snapshot", "snap-1"] : [];
      const approvals = result.required_controls.includes("human approval")
        ? ["--approval", await chain.approve(planned, accepted)]
        : [];
      const path = `/tmp/execution-${crypto.randomUUID()}.json`;
      await must([
        "sign",
        planned.plan.plan_id,
        "--key",
        signKey,
        "--signer",
        "ops@example",
        ...approvals,
        ...snapshot,
        "--out",
        path,
        ...extra,
      ]);
      // Alice has to read it.
      await host.exec(["chmod", "644", path], { user: signer });
      return { execution: JSON.parse(host.read(path)), path };
    },
    async signed(...args) {
      const planned = await chain.plan(...args);
      return { ...(await chain.sign(planned)), planned };
    },
    async startDaemon(env = {}) {
      const daemon = await host.spawn([AEGIS, "daemon", "--executor"], { env });
      for (let n = 0; ; n++) {
        const { status } = await aegis(["daemon", "status", "--json"]);
        if (status === 0) return daemon;
        if (n > 100) throw new Error("the executor did not come up");
        await Bun.sleep(50);
      }
    },
    apply: (path, user = "root") => aegis(["apply", path], { user, timeoutMs: 180_000 }),
    audit() {
      const path = host.path("/var/log/aegis/audit.ndjson");
      const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n") : [];
      // The text after the last newline is being written, or torn.
      return lines.slice(0, -1).map((line) => JSON.parse(line));
    },
    async dpkgStatus(name) {
      const { stdout } = await host.exec(["dpkg-query", "-W", "-f", "${Status}", name]);
      return stdout;
    },
    async dpkgVersion(name) {
      const { stdout } = await host.exec(["dpkg-query", "-W", "-f", "${Version}", name]);
      return stdout;
    },
    async forge(execution, name = crypto.randomUUID()) {
      const { signDocument } = await import("../src/key-sign.ts");
      const seed = Buffer.from(JSON.parse(host.read(signKey)).secret_key_hex, "hex");
      const { signature: _, ...body } = { signature: null, ...execution };
      const path = `/tmp/forged-${name}.json`;
      host.write(path, canonicalJson(signDocument(body, seed, "ops")));
      return path;
    },
    async offer(...keys) {
      await host.repo.publish(pick(...keys));
      await host.aptUpdate();
    },
    edit({ plan }, change) {
      const edited = { ...plan, ...change };
      host.write(
        `${home(signer)}/.local/share/aegis/plans/${plan.plan_id}.json`,
        canonicalJson(edited),
        0o600,
      );
      return { plan: edited, plan_hash: canonicalHash(edited) };
    },
    async submit(text, to = "front") {
      const socket = host.path(`/run/aegis/${to === "front" ? "aegisd" : "runner"}.sock`);
      try {
        const { outcome } = await callExecutor(socket, "Apply", { plan: text });
        return outcome?.code ?? null;
      } catch (error) {
        if (error instanceof AegisError) return error.code;
        throw error;
      }
    },
    stop: () => host.stop(),
  };
  return chain;
}

function trustedKeys(keys: { execution: string; approval: string }, approver: string): string {
  const entry = (id: string, role: string, hex: string, name: string) =>
    `[[key]]\nid = "${id}"\nname = "${name}"\npublic_key_hex = "${hex}"\nrole = "${role}"\n`;
  return `${entry("ops", "execution", keys.execution, "ops@example")}\n${entry(approver, "approval", keys.approval, `${approver}@example`)}`;
}
