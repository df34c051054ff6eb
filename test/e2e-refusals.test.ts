import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { canonicalHash, canonicalJson, sha256Hex } from "../src/canonical.ts";
import type { Approval, ExecutionPlan, PolicyResult } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { ErrorCode } from "../src/errors.ts";
import { publicKeyOf, signDocument } from "../src/key-sign.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { npm } from "./policy-plans.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { RawClient } from "./varlink-kit.ts";

/*
 * What the executor must refuse, each with its own code and an audit event. Most cases are documents that whoever holds
 * a trusted signing key could make; they start from one good plan, which is run at the very end.
 */

/** A key that nobody enrolled, one that was and is revoked, and where the trusted ones lie. */
const STRANGER = Buffer.alloc(32, 7);
const REVOKED = Buffer.alloc(32, 8);
const SIGN_KEY = "/root/keys/sign";
const APPROVE_KEY = "/home/alice/keys/approve";
const TRUSTED = "/etc/aegis/trusted-keys.toml";
const POLICY = "/etc/aegis/policy.toml";

const hours = (n: number) => new Date(Date.now() + n * 3_600_000).toISOString();
const flip = (base64: string) => (base64.startsWith("A") ? "B" : "A") + base64.slice(1);

/** An execution plan with its parts changed as the holder of the signing key could: every embedded hash agrees. */
function remade(
  execution: ExecutionPlan,
  change: { plan?: Partial<OperationPlan>; policy?: Partial<PolicyResult>; own?: Partial<ExecutionPlan> },
): ExecutionPlan {
  const operation_plan = { ...execution.operation_plan, ...change.plan };
  const operation_plan_hash = canonicalHash(operation_plan);
  const policy_result = { ...execution.policy_result, plan_hash: operation_plan_hash, ...change.policy };
  return {
    ...execution,
    operation_plan,
    operation_plan_hash,
    operation_plan_id: operation_plan.plan_id,
    exact_targets: operation_plan.exact_targets,
    rollback_plan: operation_plan.rollback_plan,
    policy_result,
    policy_result_hash: canonicalHash(policy_result),
    policy_decision: policy_result.decision,
    policy_version: policy_result.policy_version,
    evaluator_hash: policy_result.evaluator_hash,
    policy_config_hash: policy_result.policy_config_hash,
    required_controls: policy_result.required_controls,
    ...change.own,
  };
}

describeOnThrowaway("what the executor refuses", () => {
  let chain: Chain;
  let good: ExecutionPlan;
  let goodText: string;
  let other: ExecutionPlan;
  const sent: string[] = [];

  const seedOf = (path: string) => Buffer.from(JSON.parse(chain.host.read(path)).secret_key_hex, "hex");
  const signed = (body: object, seed = seedOf(SIGN_KEY), id = "ops") => {
    const { signature: _, ...rest } = { signature: null, ...body };
    return canonicalJson(signDocument(rest, seed, id));
  };
  const approval = (change: Partial<Approval>, seed = seedOf(APPROVE_KEY), id = "alice"): Approval => {
    const [first] = good.approvals;
    if (first === undefined) throw new Error("the good plan has no approval");
    const { signature: _, ...rest } = { ...first, ...change };
    return signDocument(rest, seed, id);
  };
  /** The newest event of the runner's own; what the front reports comes when it will. */
  const last = () =>
    chain
      .audit()
      .filter(({ kind }) => kind !== "requests_refused")
      .at(-1) ?? {};
  const refusalsReported = () =>
    chain
      .audit()
      .filter(({ kind }) => kind === "requests_refused")
      .flatMap(({ details }) => Object(details).refusals as { code: string; count: number; uid: number }[]);

  beforeAll(async () => {
    chain = await startChain();
    await chain.offer("hello-aegis=1.0", "app=1.0", "libapp=1.0");
    const old = `id = "old"\nname = "ops@example"\npublic_key_hex = "${publicKeyOf(REVOKED)}"\nrole = "execution"\nrevoked = true\n`;
    chain.host.write(TRUSTED, `${chain.host.read(TRUSTED)}\n[[key]]\n${old}`);
    await chain.startDaemon();
    good = (await chain.signed("apt", "install", "hello-aegis")).execution;
    goodText = canonicalJson(good);
    other = (await chain.signed("apt", "install", "app")).execution;
  });
  afterAll(() => chain.stop());

  /** What the front can tell from the bytes, its keys and the clock; the runner refuses it too, and by itself. */
  const CHEAP: [what: string, text: () => string, code: ErrorCode][] = [
    ["no JSON", () => "{garbage", "not_canonical"],
    ["a pretty-printed body", () => JSON.stringify(good, null, 2), "not_canonical"],
    ["a trailing newline", () => `${goodText}\n`, "not_canonical"],
    ["a duplicate key", () => `{"argv":["apt-get","update"],${goodText.slice(1)}`, "not_canonical"],
    ["another spelling of a string", () => goodText.replace('"apt-get"', '"\\u0061pt-get"'), "not_canonical"],
    ["an unknown field, signed", () => signed({ ...good, note: "x" }), "invalid_document"],
    [
      "an unknown field deep inside, signed",
      () => signed({ ...good, operation_plan: { ...good.operation_plan, note: "x" } }),
      "invalid_document",
    ],
    ["a missing field, signed", () => signed(without("argv")), "invalid_document"],
    [
      "another major schema version, signed",
      () => signed({ ...good, schema_version: "2.0" }),
      "invalid_document",
    ],
    ["a 0.2.x document", () => signed(legacy()), "legacy_plan"],
    [
      "today's plan without its policy configuration",
      () => signed(without("policy_config_hash")),
      "legacy_plan",
    ],
    [
      "one byte edited",
      () => goodText.replace('"reason":"needed"', '"reason":"Needed"'),
      "signature_invalid",
    ],
    [
      "one byte of the argv edited",
      () => goodText.replaceAll("hello-aegis=1.0", "hello-aegis=1.1"),
      "signature_invalid",
    ],
    [
      "another signature",
      () =>
        canonicalJson({
          ...good,
          signature: { ...good.signature, signature: flip(good.signature.signature) },
        }),
      "signature_invalid",
    ],
    ["a stranger's key under a trusted id", () => signed(good, STRANGER), "signature_invalid"],
    ["a stranger's key", () => signed(good, STRANGER, "stranger"), "key_untrusted"],
    ["a revoked key", () => signed(good, REVOKED, "old"), "key_untrusted"],
    ["the approver's key", () => signed(good, seedOf(APPROVE_KEY), "alice"), "key_untrusted"],
    [
      "a trusted key under another person's name",
      () => signed({ ...good, signer_identity: "root@example" }),
      "key_untrusted",
    ],
    [
      "an expired plan",
      () => signed({ ...good, created_at: hours(-0.4), expires_at: hours(-0.1) }),
      "expired",
    ],
    [
      "a plan that lasts for ten years (PEER 11)",
      () => signed({ ...good, expires_at: hours(87_600) }),
      "expired",
    ],
    ["a plan that lasts for 25 hours", () => signed({ ...good, expires_at: hours(25) }), "expired"],
    [
      "evidence that was out of date when it was signed",
      () =>
        signed(
          remade(good, { plan: { created_at: hours(-3) }, policy: { evidence_fresh_until: hours(-2) } }),
        ),
      "expired",
    ],
    [
      "a plan of tomorrow",
      () => signed({ ...good, created_at: hours(24), expires_at: hours(24.4) }),
      "not_yet_valid",
    ],
  ];

  const legacy = () => ({
    execution_plan_id: "legacy-1",
    operation_plan: { plan_id: "plan-1", tool: "apt", target: "hello-aegis" },
    policy_result: { decision: "allow" },
    argv: ["apt-get", "install", "-y", "hello-aegis"],
    signer_identity: "ops@example",
    created_at: hours(-0.1),
    expires_at: hours(87_600),
  });
  const without = (field: keyof ExecutionPlan) =>
    Object.fromEntries(Object.entries(good).filter(([name]) => name !== field));

  describe("by the front, and by the runner itself", () => {
    test.each(CHEAP)("%s", async (_, text, code) => {
      const body = text();
      // Whether an expired plan was used the runner is asked once; the front knows it from then on.
      if (["expired", "not_yet_valid"].includes(code)) expect(await chain.submit(body)).toBe(code);
      expect(await chain.submit(body)).toBe(code);
      sent.push(code);
      expect(await chain.submit(body, "runner")).toBe(code);
      const event = last();
      expect(event).toMatchObject({
        kind: "execution_denied",
        decision: "deny",
        details: { code, request_sha256: sha256Hex(body) },
      });
      // What an unverified document says is not written down, no name above all (PEER 20).
      const named = ["expired", "not_yet_valid"].includes(code);
      expect(event["actor"]).toBe(named ? "ops@example (key ops)" : null);
      expect(event["execution_id"]).toBe(named ? good.execution_plan_id : null);
      expect(event["argv"]).toEqual(named ? good.argv : null);
    });

    test("an invalid signature with an invented name: the name does not reach the log (PEER 20)", async () => {
      const body = signed({ ...good, signer_identity: "ceo@example", argv: ["rm", "-rf"] }, STRANGER);
      expect(await chain.submit(body)).toBe("signature_invalid");
      sent.push("signature_invalid");
      expect(await chain.submit(body, "runner")).toBe("signature_invalid");
      expect(chain.host.read("/var/log/aegis/audit.ndjson")).not.toContain("ceo@example");
    });

    test.each([
      ["no JSON", "{garbage"],
      ["no object", "[]"],
      ["no method", "{}"],
    ])("a request that is %s is answered (PEER 14)", async (_, request) => {
      const client = new RawClient(chain.host.path("/run/aegis/aegisd.sock"));
      client.send(`${request}\0`);
      expect(await client.refusal()).toBe("protocol");
      sent.push("protocol");
      await client.closed;
    });

    test("all of it is in the log, counted, with the kernel's word on who it was (PEER 14)", async () => {
      const tally = (codes: readonly string[]) => {
        const counts = new Map<string, number>();
        for (const code of codes) counts.set(code, (counts.get(code) ?? 0) + 1);
        return Object.fromEntries([...counts].sort());
      };
      const reported = () => refusalsReported().flatMap(({ code, count }) => Array(count).fill(code));
      while (reported().length < sent.length) await Bun.sleep(50);
      expect(tally(reported())).toEqual(tally(sent));
      expect(refusalsReported().every(({ uid }) => uid === 0)).toBe(true);
    });
  });

  /** What a holder of the signing key could make, and only the runner can tell. */
  const COSTLY: [what: string, text: () => string | Promise<string>, code: ErrorCode][] = [
    ["another plan inside", () => signed({ ...good, operation_plan: other.operation_plan }), "hash_mismatch"],
    [
      "a policy result of another plan",
      () =>
        signed({ ...good, policy_result: other.policy_result, policy_result_hash: other.policy_result_hash }),
      "hash_mismatch",
    ],
    [
      "a policy result that allows",
      () =>
        signed(
          remade(good, {
            policy: {
              decision: "allow",
              required_controls: [],
              approvals_required: 0,
              rules: [],
              reasons: [],
            },
            own: { approvals: [] },
          }),
        ),
      "policy_mismatch",
    ],
    [
      "a result under a configuration that allows it",
      () =>
        signed(
          remade(good, {
            policy: {
              policy_config_hash: "0".repeat(64),
              decision: "allow",
              required_controls: [],
              approvals_required: 0,
            },
            own: { approvals: [] },
          }),
        ),
      "policy_mismatch",
    ],
    [
      "a result under a configuration that wants no human",
      () =>
        signed(
          remade(good, {
            policy: { policy_config_hash: "0".repeat(64), required_controls: [], approvals_required: 0 },
            own: { approvals: [] },
          }),
        ),
      "approval_required",
    ],
    [
      "a result by other rules",
      () => signed(remade(good, { policy: { evaluator_hash: "0".repeat(64) } })),
      "evaluator_mismatch",
    ],
    [
      "a check that this version does not have",
      () => signed({ ...good, required_preflight_checks: [...good.required_preflight_checks, "moon-phase"] }),
      "evaluator_mismatch",
    ],
    [
      "an argv with one more word",
      () => signed({ ...good, argv: [...good.argv, "app=1.0"] }),
      "argv_mismatch",
    ],
    [
      "an argv with one more option",
      () => signed({ ...good, argv: [...good.argv, "--allow-unauthenticated"] }),
      "argv_mismatch",
    ],
    ["another argv", () => signed({ ...good, argv: ["apt-get", "update"] }), "argv_mismatch"],
    ["no approval", () => signed({ ...good, approvals: [] }), "approval_required"],
    [
      "the same approval twice",
      () => signed({ ...good, approvals: [...good.approvals, ...good.approvals] }),
      "approval_invalid",
    ],
    [
      "two approvals by one key",
      () =>
        signed({ ...good, approvals: [...good.approvals, approval({ approval_id: crypto.randomUUID() })] }),
      "approval_invalid",
    ],
    [
      "an approval of another plan",
      () => signed({ ...good, approvals: other.approvals }),
      "approval_invalid",
    ],
    [
      "an approval of another plan, rewritten",
      () =>
        signed({
          ...good,
          approvals: other.approvals.map((a) => ({ ...a, plan_hash: good.operation_plan_hash })),
        }),
      "approval_invalid",
    ],
    [
      "an approval by the signing key",
      () => signed({ ...good, approvals: [approval({ signer: "ops@example" }, seedOf(SIGN_KEY), "ops")] }),
      "approval_invalid",
    ],
    [
      "an approval by the signing key under the approver's id",
      () => signed({ ...good, approvals: [approval({}, seedOf(SIGN_KEY))] }),
      "approval_invalid",
    ],
    [
      "an approval by a stranger",
      () => signed({ ...good, approvals: [approval({}, STRANGER, "stranger")] }),
      "approval_invalid",
    ],
    [
      "an approval under another name",
      () => signed({ ...good, approvals: [approval({ signer: "bob@example" })] }),
      "approval_invalid",
    ],
    [
      "an expired approval",
      () => signed({ ...good, approvals: [approval({ approved_at: hours(-2), expires_at: hours(-1) })] }),
      "approval_invalid",
    ],
    [
      "an approval of tomorrow",
      () => signed({ ...good, approvals: [approval({ approved_at: hours(1), expires_at: hours(2) })] }),
      "approval_invalid",
    ],
    [
      "an approval that lasts for a month",
      () => signed({ ...good, approvals: [approval({ expires_at: hours(720) })] }),
      "approval_invalid",
    ],
  ];

  describe("by the runner", () => {
    test.each(COSTLY)("%s", async (_, text, code) => {
      const body = await text();
      expect(await chain.submit(body)).toBe(code);
      // The signature is good, so the log says whose it is; of approvers it says nothing before they are verified.
      expect(last()).toMatchObject({
        kind: "execution_denied",
        actor: "ops@example (key ops)",
        execution_id: good.execution_plan_id,
        decision: "deny",
        details: { code, request_sha256: sha256Hex(body) },
      });
    });

    test("a plan of another host", async () => {
      const machineId = chain.host.read("/etc/machine-id");
      chain.host.write("/etc/machine-id", `${"0123456789abcdef".repeat(2)}\n`);
      expect(await chain.submit(goodText)).toBe("wrong_host");
      chain.host.write("/etc/machine-id", machineId);
      expect(last()).toMatchObject({ kind: "execution_denied", details: { code: "wrong_host" } });
    });

    test("a plan that was signed before its key was revoked", async () => {
      const trusted = chain.host.read(TRUSTED);
      chain.host.write(TRUSTED, trusted.replace('role = "execution"', 'role = "execution"\nrevoked = true'));
      expect(await chain.submit(goodText, "runner")).toBe("key_untrusted");
      chain.host.write(TRUSTED, trusted);
    });

    test("an approval by a revoked key or one of the other role, before anybody is asked", async () => {
      const planned = await chain.plan("apt", "install", "app");
      const approve = (key: string) =>
        chain.aegis(["sign", "approve", "--plan", planned.plan.plan_id, "--reason", "r", "--key", key]);
      const trusted = chain.host.read(TRUSTED);
      chain.host.write("/root/approve", chain.host.read(APPROVE_KEY), 0o600);
      // No terminal is here: whoever is refused for that was about to be asked.
      expect((await approve("/root/approve")).stderr).toContain("no terminal");
      const other = await approve(SIGN_KEY);
      expect([other.status, other.stderr]).toEqual([6, expect.stringContaining("it is an execution key")]);
      chain.host.write(TRUSTED, trusted.replace('role = "approval"', 'role = "approval"\nrevoked = true'));
      const revoked = await approve("/root/approve");
      expect([revoked.status, revoked.stderr]).toEqual([6, expect.stringContaining("it has been revoked")]);
      expect(other.stderr + revoked.stderr).not.toContain("Hash ");
      chain.host.write(TRUSTED, trusted);
    });

    test("a plan that was signed before policy became stricter", async () => {
      chain.host.write(POLICY, "[approvals]\nrequired = 2\n");
      expect(await chain.submit(goodText)).toBe("approval_required");
      chain.host.write(POLICY, '[apt]\ninstall = "deny"\n');
      expect(await chain.submit(goodText)).toBe("policy_denied");
      await chain.host.exec(["rm", POLICY]);
    });

    test("everything, where others than root can write what it trusts", async () => {
      for (const [path, text] of [
        [TRUSTED, chain.host.read(TRUSTED)],
        [POLICY, "[apt]\n"],
      ] as const) {
        chain.host.write(path, text, 0o666);
        expect(await chain.submit(goodText, "runner")).toBe("invalid_config");
        chain.host.write(path, text);
      }
      await chain.host.exec(["rm", POLICY]);
    });

    test("an npm plan without its closure, even one that policy allows: npm never installs", async () => {
      const calls = "/tmp/npm-was-called";
      chain.host.write("/usr/local/bin/npm", `#!/bin/sh\necho "$@" >> ${calls}\n`, 0o755);
      const plan = npm({
        plan_id: crypto.randomUUID(),
        created_at: new Date().toISOString(),
        host: good.operation_plan.host,
      });
      const wish = chain.edit({ plan, plan_hash: "" }, {});
      expect((await chain.policy(plan.plan_id)).status).toBe(3);
      await expect(chain.sign(wish)).rejects.toThrow("policy_denied");
      chain.host.write(POLICY, '[npm]\napply = "allow"\n');
      const { execution, path } = await chain.sign(wish);
      expect(execution.policy_decision).toBe("allow");
      expect((await chain.apply(path)).stderr).toContain("[drift]");
      expect(last()).toMatchObject({ kind: "execution_denied", details: { code: "drift" } });
      await chain.host.exec(["rm", POLICY]);
      expect(await chain.submit(chain.host.read(path))).toBe("policy_denied");
      expect((await chain.host.exec(["grep", "-w", "install", calls])).stdout).toBe("");
    });
  });

  describe("by the whole command", () => {
    const status = async (text: string, user: "root" | "alice" | "bob" = "alice") => {
      const path = `/tmp/body-${crypto.randomUUID()}.json`;
      chain.host.write(path, text);
      const { status, stderr, stdout } = await chain.apply(path, user);
      expect(stdout).toBe("");
      return [status, /\[([a-z_]+)\]/.exec(stderr)?.[1]];
    };

    test.each<[what: string, text: () => string, exit: number, code: ErrorCode]>([
      [
        "an edited plan",
        () => goodText.replaceAll("hello-aegis=1.0", "hello-aegis=1.1"),
        6,
        "signature_invalid",
      ],
      ["a pretty-printed plan", () => JSON.stringify(good, null, 2), 6, "not_canonical"],
      ["a plan with a line break at its end", () => `${goodText}\n`, 6, "not_canonical"],
      [
        "an expired plan",
        () => signed({ ...good, created_at: hours(-0.4), expires_at: hours(-0.1) }),
        6,
        "expired",
      ],
      [
        "an argv with one more word",
        () => signed({ ...good, argv: [...good.argv, "app=1.0"] }),
        6,
        "argv_mismatch",
      ],
      ["a plan without its approval", () => signed({ ...good, approvals: [] }), 4, "approval_required"],
    ])("%s: exit status and code", async (_, text, exit, code) => {
      expect(await status(text())).toEqual([exit, code]);
    });

    test("nobody outside the group gets to submit", async () => {
      expect(await status(goodText, "bob")).toEqual([8, "unavailable"]);
    });

    test("with --json a refusal is one document, with what, why and what next", async () => {
      const path = `/tmp/body-${crypto.randomUUID()}.json`;
      chain.host.write(path, signed({ ...good, argv: [...good.argv, "app=1.0"] }));
      const { status, document } = await chain.json(["apply", path]);
      expect(status).toBe(6);
      expect(document).toMatchObject({ error: { code: "argv_mismatch" } });
      expect(Object(document).error.message).toContain("app=1.0");
      expect(Object(document).error.hint).toContain("apt-get install -y hello-aegis=1.0");
    });
  });

  describe("after all that, once", () => {
    test("the good plan runs; the same plan, signed again with the same approval, does not", async () => {
      expect(await chain.dpkgStatus("hello-aegis")).toBe("");
      expect(chain.audit().some(({ kind }) => kind === "execution_started")).toBe(false);
      expect(await chain.submit(goodText)).toBeNull();
      expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
      expect(await chain.submit(goodText)).toBe("replay");
      // A new id, the same plan and approval; and the same approval signed by the approver with another key id.
      const again = signed({ ...good, execution_plan_id: crypto.randomUUID() });
      expect(await chain.submit(again)).toBe("replay");
      expect(last()).toMatchObject({ kind: "execution_denied", details: { code: "replay" } });
    });

    test("nor later: once it is longer than allowed, it is a replay still, and not expired", async () => {
      chain.host.write(POLICY, "[freshness]\nexecution_minutes = 1\n");
      const again = signed({ ...good, execution_plan_id: crypto.randomUUID() });
      expect(await chain.submit(again)).toBe("replay");
      expect(await chain.submit(again, "runner")).toBe("replay");
      chain.host.write("/tmp/again.json", signed({ ...good, execution_plan_id: crypto.randomUUID() }));
      const client = await chain.apply("/tmp/again.json");
      expect([client.status, client.stderr]).toEqual([6, expect.stringContaining("error [replay]")]);
      await chain.host.exec(["rm", POLICY]);
    });

    test("nor when the record of used plans is gone: the log knows", async () => {
      await chain.host.exec(["rm", "-r", "/var/lib/aegis/spent"]);
      expect(await chain.submit(goodText)).toBe("replay");
      expect(await chain.submit(signed({ ...good, execution_plan_id: crypto.randomUUID() }))).toBe("replay");
    });

    test("and the log of it all is whole", async () => {
      expect((await chain.aegis(["audit", "verify", "--path", "/var/log/aegis"])).status).toBe(0);
      const kinds = chain.audit().map(({ kind }) => kind);
      expect(kinds.filter((kind) => kind === "execution_started")).toHaveLength(1);
      expect(kinds.filter((kind) => kind === "execution_completed")).toHaveLength(1);
    });
  });
});
