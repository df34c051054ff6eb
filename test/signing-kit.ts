import { expect } from "bun:test";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import type { AiReview, Approval, ControlProof, ExecutionPlan } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { AegisError, type ErrorCode } from "../src/errors.ts";
import { makeApproval } from "../src/exec-approval.ts";
import { buildExecutionPlan, type Ingredients } from "../src/exec-plan.ts";
import type { PreflightContext } from "../src/exec-preflight.ts";
import type { SecretKey } from "../src/key.ts";
import { keyId, publicKeyOf, signDocument } from "../src/key-sign.ts";
import { parseSshKey } from "../src/key-sshsig.ts";
import { loadTrust, type Trust } from "../src/key-trust.ts";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig, policyConfigHash } from "../src/policy-config.ts";
import { install } from "./policy-plans.ts";
import { type Forgery, sshPublicKey, sshSign } from "./ssh-token.ts";

/*
 * Signed documents for the tests of signing: one signer, two approvers, one stranger, one moment.
 */

/** Six minutes after the plans of policy-plans.ts were made. */
export const NOW = new Date("2026-01-02T03:10:00.000Z");
export const NOWHERE = {
  trustedKeys: "/nonexistent/trusted-keys.toml",
  daemonEnv: "/nonexistent/aegisd.env",
};

export const minutesFrom = (moment: Date, minutes: number) => new Date(moment.getTime() + minutes * 60_000);

function secret(byte: number): SecretKey {
  const seed = new Uint8Array(32).fill(byte);
  const publicKeyHex = publicKeyOf(seed);
  return { seed, publicKeyHex, keyId: keyId(publicKeyHex) };
}
export const SIGNER = secret(1);
export const ALICE = secret(2);
export const BOB = secret(3);
export const STRANGER = secret(4);
/** Signs reviews. */
export const REVIEWER = secret(5);

export const TRUST: Trust = loadTrust({
  rootOnly: false,
  bare: { execution: [SIGNER.publicKeyHex], approval: [ALICE.publicKeyHex, BOB.publicKeyHex] },
  files: NOWHERE,
});

export function configOf(toml = "") {
  const config = parsePolicyConfig(toml, "test");
  return { config, hash: policyConfigHash(config) };
}

export function approvalOf(
  plan: OperationPlan,
  change: Partial<Parameters<typeof makeApproval>[0]> = {},
): Approval {
  return makeApproval({
    planHash: canonicalHash(plan),
    signer: "alice",
    reason: "looked at it",
    key: ALICE,
    now: NOW,
    minutes: 60,
    ...change,
  });
}

/** An approval by the same key made into an OpenSSH key: in a security key, or with `application: null` in a file. */
export function sshApprovalOf(
  plan: OperationPlan,
  change: Partial<Parameters<typeof makeApproval>[0]> = {},
  forgery: Partial<Forgery> = {},
): Approval {
  const { key = ALICE } = change;
  const { signature: _, ...approval } = approvalOf(plan, change);
  const { fingerprint } = parseSshKey(sshPublicKey(key.seed, forgery));
  const blob = sshSign(key.seed, Buffer.from(canonicalJson(approval)), forgery);
  const signature = { algorithm: "sshsig" as const, key_id: fingerprint, signature: blob.toString("base64") };
  return { ...approval, signature };
}

export const snapshot = (change: Partial<ControlProof> = {}): ControlProof => ({
  control: "system snapshot",
  proof_type: "snapshot-id",
  value: "snap-1",
  created_at: NOW.toISOString(),
  expires_at: minutesFrom(NOW, 60).toISOString(),
  ...change,
});

/** The input of `aegis sign` for a plan: its policy result and an approval. */
export function ingredients(
  plan: OperationPlan = install(),
  change: Partial<Ingredients> & { toml?: string; aiReview?: AiReview } = {},
): Ingredients {
  const { toml, aiReview, ...rest } = change;
  const config = configOf(toml);
  const review = aiReview === undefined ? null : { document: aiReview, hash: canonicalHash(aiReview) };
  const planHash = canonicalHash(plan);
  const policy = evaluate({
    plan,
    planHash,
    config: config.config,
    configHash: config.hash,
    review: review ?? undefined,
  });
  return {
    plan: { document: plan, hash: planHash },
    policy: { document: policy, hash: canonicalHash(policy) },
    review,
    approvals: [approvalOf(plan)],
    proofs: [],
    signer: "ops",
    key: SIGNER,
    config,
    trust: TRUST,
    now: NOW,
    ...rest,
  };
}

/** A good execution plan. */
export const execution = (plan?: OperationPlan, change?: Parameters<typeof ingredients>[1]) =>
  buildExecutionPlan(ingredients(plan, change));

/** The text of a plan that the holder of the signing key has changed and signed again. */
export function forged(plan: ExecutionPlan, change: Partial<ExecutionPlan>, key = SIGNER): string {
  const { signature: _, ...rest } = { ...plan, ...change };
  return canonicalJson(signDocument(rest, key.seed, key.keyId));
}

export function context(change: Partial<PreflightContext> = {}): PreflightContext {
  return {
    trust: TRUST,
    now: minutesFrom(NOW, 1),
    host: install().host,
    config: configOf(),
    installedAt: null,
    newestAudited: null,
    usedBefore: null,
    ...change,
  };
}

/** Expects a refusal with this code and, where given, this in its message. Returns its hint. */
export async function refuses(
  action: () => unknown,
  code: ErrorCode,
  says: string | RegExp = "",
): Promise<string> {
  let thrown: unknown;
  try {
    await action();
  } catch (error) {
    thrown = error;
  }
  if (!(thrown instanceof AegisError)) throw new Error(`not refused: ${String(thrown)}`);
  expect({ code: thrown.code, message: thrown.message }).toEqual({
    code,
    message: expect.stringMatching(typeof says === "string" ? new RegExp(RegExp.escape(says)) : says),
  });
  return thrown.hint;
}
