import { afterAll, beforeAll, expect, test } from "bun:test";
import { canonicalJson } from "../src/canonical.ts";
import type { AiReview } from "../src/doc.ts";
import { signReview } from "../src/key-review-signature.ts";
import { buildPrompt } from "../src/review-prompt.ts";
import { type Chain, type Planned, startChain } from "./e2e-kit.ts";
import { review } from "./policy-plans.ts";
import { REVIEWER, STRANGER } from "./signing-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * A host whose policy requires a review: what a review does from policy to the executor, which has only its own plan and
 * its own configuration to judge by.
 */

describeOnThrowaway("[review] required = true", () => {
  let chain: Chain;
  const policy = (...publicKeys: string[]) =>
    chain.host.write(
      "/etc/aegis/policy.toml",
      `[review]\nrequired = true\npublic_keys = ${JSON.stringify(publicKeys)}\n`,
    );
  const reviewed = (
    { plan, plan_hash }: Planned,
    by: typeof REVIEWER | null,
    change: Partial<AiReview> = {},
  ) => {
    const prompt_hash = buildPrompt(plan).hash;
    const document = review({ plan_id: plan.plan_id, plan_hash, prompt_hash, ...change });
    const path = `/tmp/review-${plan.plan_id}.json`;
    chain.host.write(path, canonicalJson(by === null ? document : signReview(document, by)));
    return path;
  };
  /** `aegis policy --review`, then `aegis sign` without any approval. */
  const signed = async (planned: Planned, path: string) => {
    const { plan_id } = planned.plan;
    const decided = await chain.json(["policy", plan_id, "--review", path]);
    const out = `/tmp/execution-${plan_id}.json`;
    const key = ["--key", "/root/keys/sign", "--signer", "ops@example"];
    const result = await chain.aegis(["sign", plan_id, "--review", path, ...key, "--out", out]);
    await chain.host.exec(["chmod", "644", out]);
    return { status: decided.status, signed: result.status, stderr: result.stderr, out };
  };

  beforeAll(async () => {
    chain = await startChain();
    policy(REVIEWER.publicKeyHex);
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  test("without one, or with one that no reviewer signed, a human is needed", async () => {
    const planned = await chain.plan("apt", "update");
    expect((await chain.policy(planned.plan.plan_id)).result.rules).toContain("review-missing");
    for (const by of [null, STRANGER]) {
      expect(await signed(planned, reviewed(planned, by))).toMatchObject({ status: 4, signed: 4 });
    }
  });

  test("signed by the reviewer, an update runs with nobody's approval", async () => {
    const planned = await chain.plan("apt", "update");
    const { status, signed: code, stderr, out } = await signed(planned, reviewed(planned, REVIEWER));
    expect([status, code], stderr).toEqual([0, 0]);
    const applied = await chain.apply(out, "alice");
    expect(applied.status, applied.stderr).toBe(0);
  });

  test("a model that was shown a nicer story than the host's own has reviewed something else", async () => {
    const planned = await chain.plan("apt", "update");
    const { out } = await signed(planned, reviewed(planned, REVIEWER, { prompt_hash: "a".repeat(64) }));
    const applied = await chain.apply(out, "alice");
    expect([applied.status, applied.stderr]).toEqual([
      9,
      expect.stringContaining("the model saw other evidence"),
    ]);
  });

  test("signed by the reviewer, it still only escalates", async () => {
    const planned = await chain.plan("apt", "update");
    const denied = reviewed(planned, REVIEWER, { recommendation: "deny" });
    expect(await signed(planned, denied)).toMatchObject({ status: 3, signed: 3 });
    const doubted = reviewed(planned, REVIEWER, { red_flags: ["x"] });
    expect(await signed(planned, doubted)).toMatchObject({ status: 4, signed: 4 });
  });

  test("the executor judges by its own configuration: a reviewer that is not named any more counts no more", async () => {
    const planned = await chain.plan("apt", "update");
    const { out } = await signed(planned, reviewed(planned, REVIEWER));
    policy(STRANGER.publicKeyHex);
    try {
      const applied = await chain.apply(out, "alice");
      expect([applied.status, applied.stderr]).toEqual([
        6,
        expect.stringContaining("stricter than what was signed"),
      ]);
    } finally {
      policy(REVIEWER.publicKeyHex);
    }
  });

  test("a key that signs plans can't review as well", async () => {
    policy(REVIEWER.publicKeyHex, chain.keys.execution);
    try {
      const planned = await chain.plan("apt", "update");
      const { signed: code, stderr } = await signed(planned, reviewed(planned, REVIEWER));
      expect([code, stderr]).toEqual([6, expect.stringContaining("is listed in [review] public_keys")]);
      const { document } = await chain.json(["doctor"]);
      expect(JSON.stringify(document)).toContain("is trusted as an execution key and also listed");
    } finally {
      policy(REVIEWER.publicKeyHex);
    }
  });
});
