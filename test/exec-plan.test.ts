import { describe, expect, test } from "bun:test";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { type ControlProof, type PolicyResult, parseDocument } from "../src/doc.ts";
import type { ErrorCode } from "../src/errors.ts";
import { PREFLIGHT_CHECKS } from "../src/exec-embedded.ts";
import { buildExecutionPlan, type Ingredients } from "../src/exec-plan.ts";
import { snapshotProof } from "../src/exec-snapshot-id.ts";
import { command, entry, install, removal, review, update, upgrade } from "./policy-plans.ts";
import {
  ALICE,
  approvalOf,
  BOB,
  configOf,
  execution,
  ingredients,
  minutesFrom,
  NOW,
  refuses,
  SIGNER,
  STRANGER,
  snapshot,
} from "./signing-kit.ts";

const PLAN = install();
const UPGRADE = upgrade();

/** An approval of the upgrade that accepts these snapshots, and the proofs that the signer names. */
const accepting = (acceptedSnapshots: string[], proofs: ControlProof[]) => ({
  approvals: [approvalOf(UPGRADE, { acceptedSnapshots })],
  proofs,
});

/** Ingredients whose policy result was edited, its hash made to fit. */
function edited(change: Partial<PolicyResult>, given: Ingredients = ingredients()): Ingredients {
  const document = { ...given.policy.document, ...change };
  return { ...given, policy: { document, hash: canonicalHash(document) } };
}

/** A policy result that was made for one plan, with another. */
const withPlan = (given: Ingredients, plan = install()): Ingredients => ({
  ...given,
  plan: { document: plan, hash: canonicalHash(plan) },
});

const idle = install({ nothing_to_do: true, transaction: [] });
const aiReview = review({ plan_hash: canonicalHash(UPGRADE), red_flags: ["odd maintainer"] });

const REFUSED: [what: string, given: () => Ingredients, code: ErrorCode, says: string][] = [
  [
    "a plan edited by one byte after policy (PEER 9)",
    () => withPlan(ingredients(), { ...PLAN, warnings: ["x"] }),
    "policy_mismatch",
    "another plan",
  ],
  [
    "a policy result of another plan",
    () => withPlan(ingredients(UPGRADE)),
    "policy_mismatch",
    "another plan",
  ],
  [
    "a result that claims a milder decision (PEER 9)",
    () => edited({ decision: "allow", required_controls: [], approvals_required: 0 }),
    "policy_mismatch",
    "decides require_human",
  ],
  [
    "a result with one reason less",
    () => edited({ reasons: [] }),
    "policy_mismatch",
    "differs from the policy result",
  ],
  [
    "a result that is fresh for longer",
    () => edited({ evidence_fresh_until: "2036-01-01T00:00:00Z" }),
    "policy_mismatch",
    "",
  ],
  [
    "a result by other rules",
    () => edited({ evaluator_hash: "0".repeat(64) }),
    "evaluator_mismatch",
    "another version",
  ],
  [
    "a result under another configuration",
    () => ({ ...ingredients(), config: configOf('[apt]\ninstall = "allow"') }),
    "policy_mismatch",
    "another policy configuration",
  ],
  [
    "a denied plan",
    () => ingredients(upgrade({ transaction: [removal("hello")] })),
    "policy_denied",
    "packages would be removed",
  ],
  [
    "a denied plan that has no command either",
    () => ingredients(install({ exact_targets: [], transaction: [removal("hello")] })),
    "policy_denied",
    "packages would be removed",
  ],
  ["nothing to do", () => ingredients(idle), "nothing_to_do", "nothing to sign"],
  [
    "evidence that is out of date",
    () => ingredients(PLAN, { now: minutesFrom(NOW, 60) }),
    "expired",
    "evidence",
  ],
  ["no approval", () => ingredients(PLAN, { approvals: [] }), "approval_required", "1 human approval"],
  [
    "one approval where two are required",
    () => ingredients(PLAN, { toml: "[approvals]\nrequired = 2" }),
    "approval_required",
    "2 human approvals",
  ],
  [
    "an approval of another plan",
    () => ingredients(PLAN, { approvals: [approvalOf(UPGRADE)] }),
    "approval_invalid",
    "another plan",
  ],
  [
    "an approval by the signing key",
    () => ingredients(PLAN, { approvals: [approvalOf(PLAN, { key: SIGNER })] }),
    "approval_invalid",
    "with the key of the execution plan",
  ],
  [
    "an expired approval",
    () => ingredients(PLAN, { approvals: [approvalOf(PLAN, { now: minutesFrom(NOW, -61) })] }),
    "approval_invalid",
    "expired",
  ],
  [
    "no snapshot",
    () => ingredients(UPGRADE, { approvals: [] }),
    "snapshot_required",
    "requires a system snapshot",
  ],
  [
    "a snapshot that is only declared (PEER 9)",
    () => ingredients(UPGRADE, { approvals: [], proofs: [snapshotProof("anything", NOW)] }),
    "snapshot_required",
    "only declared",
  ],
  [
    "a snapshot that the signer made up, with an approval by somebody who never saw it",
    () => ingredients(UPGRADE, { proofs: [snapshotProof("anything", NOW)] }),
    "snapshot_required",
    "the snapshot anything is only declared: no approver accepted it",
  ],
  [
    "another snapshot than the approver accepted",
    () => ingredients(UPGRADE, accepting(["snap-1"], [snapshotProof("snap-10", NOW)])),
    "snapshot_required",
    "the snapshot snap-10 is only declared",
  ],
  [
    "two declared snapshots, one of them accepted",
    () => ingredients(UPGRADE, accepting(["snap-1"], [snapshot(), snapshotProof("snap-2", NOW)])),
    "snapshot_required",
    "the snapshot snap-2 is only declared",
  ],
  [
    "a snapshot accepted after the approval was signed",
    () => {
      const { approvals, proofs } = accepting(["other"], [snapshot()]);
      const changed = approvals.map((one) => ({ ...one, accepted_snapshots: ["snap-1"] }));
      return ingredients(UPGRADE, { approvals: changed, proofs });
    },
    "approval_invalid",
    "signature is not valid",
  ],
  [
    "an expired snapshot proof",
    () => ingredients(UPGRADE, { proofs: [snapshot({ expires_at: NOW.toISOString() })] }),
    "control_invalid",
    "expired",
  ],
  [
    "a review that the result did not see",
    () => ({ ...ingredients(UPGRADE), review: { document: aiReview, hash: canonicalHash(aiReview) } }),
    "policy_mismatch",
    "without this review",
  ],
  [
    "a result without the review that escalated it",
    () => ({ ...ingredients(UPGRADE, { aiReview }), review: null }),
    "policy_mismatch",
    "none is given",
  ],
  [
    "a review of another plan",
    () => {
      const other = review();
      return { ...ingredients(UPGRADE), review: { document: other, hash: canonicalHash(other) } };
    },
    "hash_mismatch",
    "another plan",
  ],
  ["a key that is not trusted", () => ingredients(PLAN, { key: STRANGER }), "key_untrusted", "unknown here"],
  [
    "an approval key that signs",
    () => ingredients(PLAN, { key: ALICE, approvals: [] }),
    "key_untrusted",
    "approval key",
  ],
];

describe("plans that are not signed", () => {
  for (const [what, given, code, says] of REFUSED) {
    test(what, () => refuses(() => buildExecutionPlan(given()), code, says));
  }
});

describe("plans that are signed", () => {
  test("an approved install, complete and valid by its schema", async () => {
    const plan = await execution();
    expect(parseDocument("execution", plan)).toEqual(plan);
    expect(plan).toMatchObject({
      policy_decision: "require_human",
      required_controls: ["human approval"],
      argv: ["apt-get", "install", "-y", "hello=1.0-2"],
      exact_targets: ["hello=1.0-2"],
      operation_plan_hash: canonicalHash(PLAN),
      required_preflight_checks: [...PREFLIGHT_CHECKS],
      signer_identity: "ops",
      signature: { key_id: SIGNER.keyId },
      ai_review: null,
    });
  });
  test("the argv comes from the plan's targets, not from its preview", async () => {
    const plan = await execution(install({ command_preview: ["apt-get", "install", "-y", "evil=1"] }));
    expect(plan.argv).toEqual(["apt-get", "install", "-y", "hello=1.0-2"]);
  });
  test("an update needs no control", async () => {
    expect((await execution(update(), { approvals: [] })).argv).toEqual(["apt-get", "update"]);
  });
  test("a declared snapshot counts if policy accepts it", async () => {
    const toml = "[snapshot]\naccept_declared = true";
    const plan = await execution(UPGRADE, {
      toml,
      approvals: [],
      proofs: [snapshotProof("zfs:tank@a", NOW)],
    });
    expect(plan.control_proofs).toMatchObject([{ proof_type: "zfs-snapshot", value: "tank@a" }]);
  });
  test("a snapshot that the executor looks up needs no human", async () => {
    const proofs = [snapshotProof("btrfs:/.snapshots/42", NOW)];
    expect((await execution(UPGRADE, { approvals: [], proofs })).approvals).toEqual([]);
  });
  test("a declared snapshot counts if an approver accepted this id", async () => {
    const plan = await execution(UPGRADE, accepting(["snap-0", "snap-1"], [snapshot()]));
    expect(plan.policy_decision).toBe("allow_with_snapshot");
    expect(plan.approvals[0]?.accepted_snapshots).toEqual(["snap-0", "snap-1"]);
  });
  test("it counts if one of two approvers did", async () => {
    const bob = approvalOf(UPGRADE, { key: BOB, signer: "bob" });
    const approvals = [bob, ...accepting(["snap-1"], []).approvals];
    expect((await execution(UPGRADE, { approvals, proofs: [snapshot()] })).approvals).toHaveLength(2);
  });
  test("two approvals if two are required", async () => {
    const approvals = [approvalOf(PLAN), approvalOf(PLAN, { key: BOB, signer: "bob" })];
    const plan = await execution(PLAN, { toml: "[approvals]\nrequired = 2", approvals });
    expect(plan.approvals.map(({ signer }) => signer)).toEqual(["alice", "bob"]);
  });
  test("the review that escalated is embedded, so that the decision can be reproduced", async () => {
    const plan = await execution(UPGRADE, { aiReview, ...accepting(["snap-1"], [snapshot()]) });
    expect(plan).toMatchObject({ policy_decision: "require_human", ai_review: aiReview });
    expect(plan.ai_review_hash).toBe(canonicalHash(aiReview));
  });
  test("a foreign architecture and a sensitive package", async () => {
    const plan = install({
      target: "libssl3:i386",
      targets: ["libssl3:i386"],
      exact_targets: ["libssl3:i386=3.0.1-1+deb12u1"],
      transaction: [entry("libssl3", { architecture: "i386", action: "install", from_version: null })],
      raw_evidence: { commands: [command("apt-get", "-s", "install", "libssl3:i386")] },
    });
    expect((await execution(plan)).argv.at(-1)).toBe("libssl3:i386=3.0.1-1+deb12u1");
  });
});

const LIFETIMES: [
  what: string,
  minutes: number | undefined,
  change: Partial<Ingredients> & { toml?: string },
  lasts: number,
][] = [
  ["what policy allows, where nobody says", undefined, {}, 30],
  ["what is wished for", 5, {}, 5],
  ["no longer than policy allows (PEER 11)", 5_000_000, {}, 30],
  [
    "a day at most",
    5_000_000,
    {
      toml: "[freshness]\nplan_minutes = 1440\nexecution_minutes = 1440",
      approvals: [approvalOf(PLAN, { minutes: 1440 })],
    },
    1440,
  ],
  ["no longer than its approval", undefined, { approvals: [approvalOf(PLAN, { minutes: 7 })] }, 7],
  [
    "no longer than its snapshot",
    undefined,
    { proofs: [snapshot({ expires_at: minutesFrom(NOW, 3).toISOString() })] },
    3,
  ],
];

describe("lifetime", () => {
  for (const [what, minutes, change, lasts] of LIFETIMES) {
    test(what, async () => {
      const plan = await execution(PLAN, { minutes, ...change });
      expect(plan.expires_at).toBe(minutesFrom(NOW, lasts).toISOString());
    });
  }
});

const SNAPSHOTS: [given: string, proof: [type: string, value: string] | null][] = [
  ["btrfs:/.snapshots/42", ["btrfs-snapshot", "/.snapshots/42"]],
  ["lvm:vg/root-snap", ["lvm-snapshot", "vg/root-snap"]],
  ["snapper:42", ["snapper-snapshot", "42"]],
  ["snap-0abc", ["snapshot-id", "snap-0abc"]],
  ["arn:aws:ec2:eu::snapshot/snap-1", ["snapshot-id", "arn:aws:ec2:eu::snapshot/snap-1"]],
  ["snapper:home/7", ["snapper-snapshot", "home/7"]],
  ["zfs:rpool/ROOT/ubuntu@before", ["zfs-snapshot", "rpool/ROOT/ubuntu@before"]],
  ["btrfs", ["snapshot-id", "btrfs"]],
  ["https://www.googleapis.com/compute/v1/s", ["snapshot-id", "https://www.googleapis.com/compute/v1/s"]],
  ["none", ["snapshot-id", "none"]],
  ["btrfs:relative", null],
  ["btrfs:/a/../b", null],
  ["btrfs:/a/./b", null],
  ["btrfs:/a//b", null],
  ["btrfs:/a/", null],
  ["btrfs:/", null],
  ["btrfs:-r", null],
  ["snapper:0", null],
  ["snapper:../1", null],
  ["snapper:a/../1", null],
  ["snapper:-1", null],
  ["lvm:vg", null],
  ["lvm:-o/x", null],
  ["lvm:../x", null],
  ["lvm:vg/..", null],
  ["lvm:vg/lv/x", null],
  ["zfs:rpool/ROOT", null],
  ["zfs:-r@x", null],
  ["zfs:a@b@c", null],
  ["zfs:", null],
  ["a b", null],
  ["a\nb", null],
  ["\u202eabc", null],
  ["x".repeat(257), null],
];

describe("--snapshot-id", () => {
  for (const [given, proof] of SNAPSHOTS) {
    test(`${JSON.stringify(given.slice(0, 40))}: ${proof?.join(" ") ?? "refused"}`, async () => {
      if (proof === null) await refuses(() => snapshotProof(given, NOW), "control_invalid");
      else expect(snapshotProof(given, NOW)).toMatchObject({ proof_type: proof[0], value: proof[1] });
    });
  }
});

test("refused with the list of providers: an unknown provider, or none before the colon", async () => {
  for (const given of ["constructor:x", "vmware:", "vmware:vm-1", ":x", "Btrfs:/x", "btrfs :/x"]) {
    if (given.includes(" ")) await refuses(() => snapshotProof(given, NOW), "control_invalid");
    else {
      const hint = await refuses(() => snapshotProof(given, NOW), "usage", `--snapshot-id ${given}`);
      expect(hint).toContain("Providers: btrfs, snapper, lvm, zfs.");
    }
  }
});

test("two plans from the same ingredients have their own ids", async () => {
  const [a, b] = [await execution(), await execution()];
  expect(a.execution_plan_id).not.toBe(b.execution_plan_id);
  expect(canonicalJson(a.operation_plan)).toBe(canonicalJson(b.operation_plan));
});
