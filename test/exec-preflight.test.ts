import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import type { ExecutionPlan } from "../src/doc.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { isAllowedArgv } from "../src/eco-argv.ts";
import { loadEcosystem } from "../src/eco-load.ts";
import { AegisError, type ErrorCode } from "../src/errors.ts";
import { checkControls } from "../src/exec-approval.ts";
import { checkArgv, type PreflightContext, preflight, verifySubmission } from "../src/exec-preflight.ts";
import { signDocument } from "../src/key-sign.ts";
import { install, npm, removal, review, upgrade } from "./policy-plans.ts";
import {
  ALICE,
  approvalOf,
  BOB,
  configOf,
  context,
  execution,
  forged,
  ingredients,
  minutesFrom,
  NOW,
  refuses,
  SIGNER,
  STRANGER,
  snapshot,
  TRUST,
} from "./signing-kit.ts";

const GOOD = await execution();
const TEXT = canonicalJson(GOOD);
const LABEL = labelIn(TEXT, GOOD.signature.key_id);
const APT = await loadEcosystem("apt");
const verify = (text: string, change: Partial<PreflightContext> = {}) =>
  verifySubmission(text, context(change));

/** Where the id of the key stands in the signature, which follows all that names a key. */
function labelIn(text: string, id: string): { from: number; to: number } {
  const from = text.indexOf(id, text.lastIndexOf('"key_id"'));
  return { from, to: from + id.length };
}

/** The good plan with fields changed and its signature left as it was. */
const tampered = (change: object) => canonicalJson({ ...GOOD, ...change });
/** Embeds another plan, with its hash, as whoever holds the signing key could. */
const embedding = (plan: OperationPlan): Partial<ExecutionPlan> => ({
  operation_plan: plan,
  operation_plan_hash: canonicalHash(plan),
  policy_result: { ...GOOD.policy_result, plan_hash: canonicalHash(plan) },
  policy_result_hash: canonicalHash({ ...GOOD.policy_result, plan_hash: canonicalHash(plan) }),
});
const deciding = (change: Partial<ExecutionPlan["policy_result"]>): Partial<ExecutionPlan> => {
  const policy_result = { ...GOOD.policy_result, ...change };
  return {
    policy_result,
    policy_result_hash: canonicalHash(policy_result),
    policy_decision: policy_result.decision,
    evaluator_hash: policy_result.evaluator_hash,
    policy_config_hash: policy_result.policy_config_hash,
    required_controls: policy_result.required_controls,
  };
};

/** An execution plan as the family's 0.2.x tool signs it. */
const LEGACY = signDocument(
  {
    execution_plan_id: "legacy-1",
    operation_plan: { plan_id: "plan-1", tool: "apt", target: "hello" },
    policy_result: { decision: "allow" },
    argv: ["apt-get", "install", "-y", "hello"],
    signer_identity: "ops",
    created_at: "2026-01-02T03:09:00Z",
    expires_at: "2036-01-01T00:00:00Z",
  },
  SIGNER.seed,
  SIGNER.keyId,
);

const { policy_config_hash: _, ...UNBOUND } = GOOD;
/** As planned by a version that left the boot out. */
const { boot_id: __, ...ANY_BOOT } = GOOD.operation_plan.host;
const bootless = () => forged(GOOD, embedding({ ...GOOD.operation_plan, host: ANY_BOOT }));

const used = {
  usedBefore: (plan: ExecutionPlan) =>
    plan.execution_plan_id === GOOD.execution_plan_id ? "it was used" : null,
};
const later = (minutes: number) => ({ now: minutesFrom(NOW, minutes) });
const lasting = (minutes: number) => ({ expires_at: minutesFrom(NOW, minutes).toISOString() });
const denied = upgrade({ transaction: [removal("hello")] });
const idle = install({ nothing_to_do: true, transaction: [] });

const REFUSED: [what: string, action: () => unknown, code: ErrorCode, says: string][] = [
  // canonical, schema
  ["no JSON", () => verify("hello"), "not_canonical", "not valid JSON"],
  ["a pretty-printed body", () => verify(JSON.stringify(GOOD, null, 2)), "not_canonical", "byte-for-byte"],
  ["a trailing newline", () => verify(`${TEXT}\n`), "not_canonical", "byte-for-byte"],
  ["a duplicate key", () => verify(`{"argv":["rm"],${TEXT.slice(1)}`), "not_canonical", "byte-for-byte"],
  [
    "another spelling of a string",
    () => verify(TEXT.replace('"ops"', '"\\u006fps"')),
    "not_canonical",
    "byte-for-byte",
  ],
  ["a list", () => verify("[]"), "invalid_document", "execution plan"],
  ["an unknown field", () => verify(tampered({ note: "x" })), "invalid_document", "note"],
  ["a signed unknown field", () => verify(forged(GOOD, { note: "x" } as object)), "invalid_document", "note"],
  [
    "an unknown field deep inside",
    () => verify(tampered({ operation_plan: { ...GOOD.operation_plan, note: "x" } })),
    "invalid_document",
    "operation_plan.note",
  ],
  [
    "another major version",
    () => verify(tampered({ schema_version: "2.0" })),
    "invalid_document",
    "schema_version",
  ],
  ["a 0.2.x document", () => verify(canonicalJson(LEGACY)), "legacy_plan", "older tool"],
  [
    "a plan that binds no policy configuration",
    () => verify(canonicalJson(UNBOUND)),
    "legacy_plan",
    "older tool",
  ],
  // signature
  [
    "one byte changed",
    () => verify(TEXT.replace("hello=1.0-2", "hello=1.0-3")),
    "signature_invalid",
    "is not valid",
  ],
  ["an approval removed", () => verify(tampered({ approvals: [] })), "signature_invalid", "is not valid"],
  ["a later end", () => verify(tampered(lasting(31))), "signature_invalid", "is not valid"],
  ["a key nobody trusts", () => verify(forged(GOOD, {}, STRANGER)), "key_untrusted", "unknown here"],
  ["an approval key", () => verify(forged(GOOD, {}, ALICE)), "key_untrusted", "an approval key"],
  [
    "a trusted key's id on another key's signature",
    () => verify(forged(GOOD, {}, { ...STRANGER, keyId: SIGNER.keyId })),
    "signature_invalid",
    "is not valid",
  ],
  [
    "a revoked key",
    () => verify(TEXT, { trust: TRUST.map((k) => ({ ...k, revoked: true })) }),
    "key_untrusted",
    "revoked",
  ],
  [
    "a signer who is not the key's owner (PEER 20)",
    () =>
      verify(forged(GOOD, { signer_identity: "root" }), { trust: TRUST.map((k) => ({ ...k, name: "ops" })) }),
    "key_untrusted",
    "ops's",
  ],
  // use, which comes before lifetime
  ["a plan that was used", () => verify(TEXT, used), "replay", "it was used"],
  [
    "a plan that was used and has expired since",
    () => verify(TEXT, { ...used, ...later(30) }),
    "replay",
    "used",
  ],
  [
    "a used plan whose signature is broken: nothing is looked up for it",
    () =>
      verify(tampered({ approvals: [] }), {
        usedBefore: () => {
          throw new Error("was looked up");
        },
      }),
    "signature_invalid",
    "is not valid",
  ],
  // lifetime
  ["an expired plan", () => verify(TEXT, later(30)), "expired", "expired at"],
  ["a plan of the future", () => verify(TEXT, later(-1)), "not_yet_valid", "in the future"],
  [
    "a plan until 2036 (PEER 11)",
    () => verify(forged(GOOD, { expires_at: "2036-01-01T00:00:00Z" })),
    "expired",
    "longer than the 30",
  ],
  [
    "a minute longer than policy allows",
    () => verify(forged(GOOD, lasting(31))),
    "expired",
    "longer than the 30",
  ],
  [
    "longer than a day, whatever policy allows",
    () => verify(forged(GOOD, lasting(1441)), { config: configOf("[freshness]\nexecution_minutes = 1440") }),
    "expired",
    "longer than the 1440",
  ],
  [
    "signed when its evidence was out of date",
    () => verify(forged(GOOD, { created_at: minutesFrom(NOW, 70).toISOString(), ...lasting(90) }), later(75)),
    "expired",
    "evidence",
  ],
  [
    "signed before this installation",
    () => verify(TEXT, { installedAt: minutesFrom(NOW, 0.5) }),
    "expired",
    "installed",
  ],
  [
    "a clock behind the audit log",
    () => verify(TEXT, { newestAudited: minutesFrom(NOW, 2) }),
    "clock_behind",
    "audit log",
  ],
  // host
  ...(["hostname", "machine_id_hash", "os_version", "architecture"] as const).map(
    (field): [string, () => unknown, ErrorCode, string] => [
      `another host (${field})`,
      () => verify(TEXT, { host: { ...GOOD.operation_plan.host, [field]: "0".repeat(64) } }),
      "wrong_host",
      field,
    ],
  ),
  // boot
  [
    "planned in an earlier boot, though signed a minute ago",
    () => verify(TEXT, { host: { ...GOOD.operation_plan.host, boot_id: crypto.randomUUID() } }),
    "expired",
    "before this host last booted",
  ],
  ["planned by an older aegis, without a boot", () => verify(bootless()), "expired", "name the host's boot"],
  [
    "without a boot, on a host that knows none either",
    () => verify(bootless(), { host: ANY_BOOT }),
    "expired",
    "name the host's boot",
  ],
  // hashes
  [
    "another plan inside than was hashed",
    () => verify(forged(GOOD, { operation_plan: upgrade() })),
    "hash_mismatch",
    "operation_plan_hash",
  ],
  [
    "a policy result of another plan",
    () => verify(forged(GOOD, deciding({ plan_hash: "0".repeat(64) }))),
    "hash_mismatch",
    "policy_result.plan_hash",
  ],
  [
    "an edited policy result",
    () => verify(forged(GOOD, { policy_result: { ...GOOD.policy_result, reasons: [] } })),
    "hash_mismatch",
    "policy_result_hash",
  ],
  [
    "a milder decision outside",
    () => verify(forged(GOOD, { policy_decision: "allow" })),
    "hash_mismatch",
    "policy_decision",
  ],
  [
    "fewer controls outside",
    () => verify(forged(GOOD, { required_controls: [] })),
    "hash_mismatch",
    "required_controls",
  ],
  [
    "other targets outside",
    () => verify(forged(GOOD, { exact_targets: ["evil=1"] })),
    "hash_mismatch",
    "exact_targets",
  ],
  [
    "a review that no hash names",
    () => verify(forged(GOOD, { ai_review: review() })),
    "hash_mismatch",
    "ai_review_hash",
  ],
  [
    "a review that the policy result did not see",
    () => verify(forged(GOOD, { ai_review: review(), ai_review_hash: canonicalHash(review()) })),
    "hash_mismatch",
    "policy_result.ai_review_hash",
  ],
  // policy
  [
    "rules of another version",
    () => verify(forged(GOOD, deciding({ evaluator_hash: "0".repeat(64) }))),
    "evaluator_mismatch",
    "another version",
  ],
  [
    "a check nobody knows",
    () => verify(forged(GOOD, { required_preflight_checks: ["moon"] })),
    "evaluator_mismatch",
    "moon",
  ],
  [
    "a result that policy does not give",
    () => verify(forged(GOOD, deciding({ decision: "allow", required_controls: [], approvals_required: 0 }))),
    "policy_mismatch",
    "decides require_human",
  ],
  [
    "a denial",
    () => verify(forged(GOOD, deciding({ decision: "deny", policy_config_hash: "0".repeat(64) }))),
    "policy_denied",
    "",
  ],
  [
    "a plan that this host's configuration denies, allowed under another",
    () =>
      verify(
        forged(GOOD, {
          ...embedding(denied),
          ...(() => {
            const { document } = ingredients(denied, { toml: "[apt]\nallow_removals = true" }).policy;
            return {
              ...deciding(document),
              exact_targets: denied.exact_targets,
              operation_plan_id: denied.plan_id,
            };
          })(),
        }),
      ),
    "policy_denied",
    "removed",
  ],
  [
    "nothing to do",
    () => {
      const { document } = ingredients(idle).policy;
      return verify(forged(GOOD, { ...embedding(idle), ...deciding(document) }));
    },
    "nothing_to_do",
    "already",
  ],
];

describe("refused submissions", () => {
  for (const [what, action, code, says] of REFUSED) test(what, () => refuses(action, code, says));

  test("any change to the text is refused", () => {
    fc.assert(
      fc.property(fc.nat(TEXT.length - 1), fc.string({ minLength: 1, maxLength: 1 }), (at, character) => {
        fc.pre(TEXT[at] !== character);
        // What a signature calls its key is not signed, and is free where the key was given in hex.
        fc.pre(at < LABEL.from || at >= LABEL.to);
        const text = TEXT.slice(0, at) + character + TEXT.slice(at + 1);
        expect(() => verify(text)).toThrow(AegisError);
      }),
      { numRuns: 200 },
    );
  });
});

describe("accepted submissions", () => {
  test("the good plan", () => {
    const submission = verify(TEXT, { newestAudited: NOW, installedAt: NOW });
    expect(submission).toMatchObject({ execution: GOOD, hash: canonicalHash(GOOD) });
    expect(submission.executionKey.publicKeyHex).toBe(SIGNER.publicKeyHex);
  });
  test("the whole preflight returns the approvers", () => {
    expect(preflight(TEXT, APT, context()).map(({ signer }) => signer)).toEqual(["alice"]);
  });
  test("made under another configuration, which this host's own also allows", () => {
    const other = configOf('[apt]\nupgrade = "require_human"');
    expect(verify(TEXT, { config: other }).execution.policy_decision).toBe("require_human");
  });
});

const argv = (...words: string[]): ExecutionPlan => ({ ...GOOD, argv: words });
const BAD_ARGV: [what: string, plan: ExecutionPlan][] = [
  ["one more word", argv(...GOOD.argv, "evil=1")],
  ["one word less", argv(...GOOD.argv.slice(0, -1))],
  ["another version", argv("apt-get", "install", "-y", "hello=1.0-1")],
  ["no version", argv("apt-get", "install", "-y", "hello")],
  ["another program", argv("sh", "install", "-y", "hello=1.0-2")],
];

describe("argv", () => {
  for (const [what, plan] of BAD_ARGV) {
    test(`refused: ${what}`, () =>
      refuses(() => checkArgv(plan, APT), "argv_mismatch", "does not follow from the plan"));
  }
  test("refused: a command that no ecosystem may build", async () => {
    const broken = { ...APT, signedArgv: () => ["apt-get", "install", "-y", "--allow-unauthenticated"] };
    await refuses(
      () => checkArgv(argv(...broken.signedArgv()), broken),
      "argv_mismatch",
      "not on the allowlist",
    );
  });
  test("the good plan", () => checkArgv(GOOD, APT));
});

const ALLOWED: [argv: string, allowed: boolean][] = [
  ["apt-get update", true],
  ["apt-get upgrade -y -o Dpkg::Options::=--force-confold", true],
  ["apt-get install -y hello=1:2.10-3~deb12u1+b1 libc6:i386=2.36-9", true],
  [
    "npm install --global --prefix /var/lib/aegis/npm-global --ignore-scripts --no-audit --no-fund @a/b@1.0.0-rc.1+x",
    true,
  ],
  ["docker pull ubuntu@sha256:0123", true],
  ["apt-get update -o x=y", false],
  ["apt-get upgrade -y", false],
  ["apt-get install -y", false],
  ["apt-get install -y hello", false],
  ["apt-get install -y hello=1 -o=1", false],
  ["apt-get install -y ./evil.deb=1", false],
  ["apt-get install -y hello=1;id", false],
  ["apt-get install -y hello=1\n", false],
  ["apt-get remove -y hello=1", false],
  ["/usr/bin/apt-get update", false],
  ["npm install --global --prefix /var/lib/aegis/npm-global --no-audit --no-fund a@1.0.0", false],
  ["npm install --global --prefix /tmp --ignore-scripts --no-audit --no-fund a@1.0.0", false],
  ["docker pull --privileged", false],
  ["sh -c id", false],
  ["", false],
];

describe("the allowlist", () => {
  for (const [words, allowed] of ALLOWED) {
    test(`${allowed ? "allows" : "refuses"} ${JSON.stringify(words)}`, () => {
      expect(isAllowedArgv(words.split(" "))).toBe(allowed);
    });
  }
  test("allows what npm builds", async () => {
    expect(isAllowedArgv((await loadEcosystem("npm")).signedArgv(npm()))).toBe(true);
  });
});

describe("controls at the executor", () => {
  const controls = (change: Partial<ExecutionPlan>, toml = "", now = minutesFrom(NOW, 1)) => {
    const { config } = configOf(toml);
    const [executionKey] = TRUST;
    if (executionKey === undefined) throw new Error("no key");
    return checkControls({ execution: { ...GOOD, ...change }, executionKey }, { trust: TRUST, now, config });
  };
  const wantsSnapshot = {
    policy_result: { ...GOOD.policy_result, required_controls: ["system snapshot" as const] },
  };
  const REFUSED_CONTROLS: [what: string, action: () => unknown, code: ErrorCode, says: string][] = [
    ["a removed approval", () => controls({ approvals: [] }), "approval_required", "1 human approval"],
    [
      "one where this host requires two",
      () => controls({}, "[approvals]\nrequired = 2"),
      "approval_required",
      "2 human",
    ],
    [
      "one where the signed result requires two",
      () => controls({ policy_result: { ...GOOD.policy_result, approvals_required: 2 } }),
      "approval_required",
      "2 human",
    ],
    [
      "an approval of another plan",
      () => controls({ approvals: [approvalOf(upgrade())] }),
      "approval_invalid",
      "another plan",
    ],
    [
      "an approval that has expired meanwhile",
      () => controls({}, "", minutesFrom(NOW, 60)),
      "approval_invalid",
      "expired",
    ],
    [
      "a bad approval where none is needed",
      () => controls({ ...wantsSnapshot, approvals: [approvalOf(upgrade())] }),
      "approval_invalid",
      "another plan",
    ],
    ["a removed snapshot", () => controls(wantsSnapshot), "snapshot_required", "requires a system snapshot"],
    [
      "a declared snapshot without a human",
      () => controls({ ...wantsSnapshot, approvals: [], control_proofs: [snapshot()] }),
      "snapshot_required",
      "only declared",
    ],
    [
      "a snapshot of the future",
      () => controls({ control_proofs: [snapshot({ created_at: "2036-01-01T00:00:00Z" })] }),
      "control_invalid",
      "future",
    ],
    [
      "a snapshot that has expired",
      () => controls({ control_proofs: [snapshot({ expires_at: NOW.toISOString() })] }),
      "control_invalid",
      "expired",
    ],
    [
      "a snapshot that is older than the plan",
      () => controls({ control_proofs: [snapshot({ created_at: "2020-01-01T00:00:00Z" })] }),
      "control_invalid",
      "older than the plan",
    ],
    [
      "a snapshot id that is an option of lvs",
      () => controls({ control_proofs: [snapshot({ proof_type: "lvm-snapshot", value: "--config=a/b" })] }),
      "control_invalid",
      "is not a valid lvm id",
    ],
    [
      "a snapshot id that leads elsewhere",
      () => controls({ control_proofs: [snapshot({ proof_type: "btrfs-snapshot", value: "/a/../b" })] }),
      "control_invalid",
      "is not a valid btrfs id",
    ],
    [
      "a snapshot that lasts for years",
      () => controls({ control_proofs: [snapshot({ expires_at: "2036-01-01T00:00:00Z" })] }),
      "control_invalid",
      "longer than a day",
    ],
    [
      "an approval under the signer's own name, by another key of theirs",
      () => controls({ signer_identity: "alice" }),
      "approval_invalid",
      "can't approve it as well",
    ],
    [
      "an approver who signs reviews",
      () => controls({}, `[review]\npublic_keys = ["${ALICE.publicKeyHex}"]`),
      "key_untrusted",
      `key ${ALICE.keyId} is listed in [review] public_keys`,
    ],
    [
      "a signer who signs reviews",
      () => controls({}, `[review]\npublic_keys = ["${BOB.publicKeyHex}", "${SIGNER.publicKeyHex}"]`),
      "key_untrusted",
      `key ${SIGNER.keyId} is listed in [review] public_keys`,
    ],
    [
      "a proof that a human approved",
      () => controls({ control_proofs: [snapshot({ control: "human approval" })] }),
      "control_invalid",
      "does not prove",
    ],
  ];
  for (const [what, action, code, says] of REFUSED_CONTROLS)
    test(`refused: ${what}`, () => refuses(action, code, says));
  test("an approval", () => expect(controls({})).toMatchObject([{ signer: "alice", key: ALICE.keyId }]));
});
