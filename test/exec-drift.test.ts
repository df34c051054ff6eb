import { describe, expect, test } from "bun:test";
import { aptGrammar } from "../src/apt-grammar.ts";
import { canonicalHash } from "../src/canonical.ts";
import type { PolicyResult } from "../src/doc.ts";
import { NO_DATA } from "../src/doc-evidence.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { Claims } from "../src/eco-grammar.ts";
import { TABLE } from "../src/eco-table.ts";
import { AegisError, type ErrorCode } from "../src/errors.ts";
import {
  compareDecisions,
  compareVulnerabilities,
  compareWarnings,
  compareWithOwn,
} from "../src/exec-drift.ts";
import { decideOwn } from "../src/exec-replan.ts";
import { signReview } from "../src/key-review-signature.ts";
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
} from "./policy-plans.ts";
import { configOf, execution, REVIEWER, refuses } from "./signing-kit.ts";

const OWN = upgrade({
  transaction: [entry("hello"), entry("nginx", { sources: [DEBIAN.id] })],
  provenance_evidence: [{ kind: "apt-index", subject: "hello", verified: true, key: "k", detail: "d" }],
  risk_contributions: [{ name: "package-upgrade", points: 10 }],
});
const change = (index: number, fields: Parameters<typeof entry>[1]) => ({
  transaction: OWN.transaction.map((e, i) => (i === index ? { ...e, ...fields } : e)),
});

const BASH = { package: "bash", from: "5.2", to: "5.3" };
const CURL = { package: "curl", from: "7", to: "8" };
const OFFER = {
  source: "https://v.example/d stable",
  ...{ packages: 1, automatic: true, newer: [BASH], newer_left_out: 0 },
};

test.each<[what: string, signed: string | null, own: string | null, says: string | null]>([
  ["the same day", "2026-11-01", "2026-11-01", null],
  ["neither knows", null, null, null],
  ["recorded since the plan", null, "2026-11-01", null],
  ["known to be older by now", "2026-11-02", "2026-11-01", null],
  ["younger than the plan says", "2026-11-01", "2026-11-28", "by this host's record it was on 2026-11-28"],
  ["the record was lost", "2026-11-01", null, "by this host's record it was never seen"],
])("first sightings: %s", async (_what, signed, own, says) => {
  const plan = (day: string | null) =>
    upgrade({ ...OWN, ...(day === null ? {} : { first_seen: { "hello:amd64=1.0-2": day } }) });
  const compare = () => compareWithOwn(plan(signed), plan(own), TABLE.apt.grammar.claims);
  if (says === null) compare();
  else await refuses(compare, "drift", new RegExp(`${says}$`));
});

test.each<[what: string, signed: object | null, own: object | null, says: string | null]>([
  ["the same", {}, {}, null],
  ["it offers nothing newer", null, { newer: [] }, null],
  ["it told more", { newer: [BASH, CURL] }, {}, null],
  ["it could not be read again", {}, null, null],
  ["nothing was told", null, {}, "bash 5.2 -> 5.3"],
  ["of another source", { source: "https://v.example/d old" }, {}, "bash 5.2 -> 5.3"],
  ["of other packages", { newer: [CURL] }, {}, "bash 5.2 -> 5.3"],
  ["of another version", { newer: [{ ...BASH, to: "5.2.1" }] }, {}, "bash 5.2 -> 5.3"],
  ["that it isn't automatic", { automatic: false }, {}, "bash 5.2 -> 5.3"],
  ["that none is left out", {}, { newer_left_out: 1 }, "bash 5.2 -> 5.3"],
])("what a repository offers: %s", async (_what, signed, own, says) => {
  const plan = (offer: object | null) =>
    upgrade({ ...OWN, ...(offer === null ? {} : { outlook: { repository: [{ ...OFFER, ...offer }] } }) });
  const compare = () => compareWithOwn(plan(signed), plan(own), TABLE.apt.grammar.claims);
  if (says === null) compare();
  else await refuses(compare, "drift", new RegExp(`than the signed plan says: ${says}$`));
});

test("what the executor can't plan itself is refused with its reason", async () => {
  const signed = npm();
  const own = npm({
    ...{ metadata_available: false, transaction: [] },
    warnings: [...signed.warnings, "a zip is not the one"],
  });
  const compare = (a: OperationPlan, b: OperationPlan) => () =>
    compareWithOwn(a, b, TABLE.npm.grammar.claims);
  await refuses(compare(signed, own), "drift", /doesn't find what was signed: a zip is not the one$/);
  compare(own, own)();
});

describe("a registry that the executor doesn't know", () => {
  const transaction = npm().transaction.map((e) => ({ ...e, url: "https://npm.example/left-pad.tgz" }));
  const own = npm({ source_registry: "https://registry.npmjs.org/ https://npm.example/", transaction });
  const compare = (registry: string | null) => () =>
    compareWithOwn({ ...own, source_registry: registry }, own, TABLE.npm.grammar.claims);

  test("of packages that the host's own sources offer: a change of the host, as before", () =>
    refuses(
      () =>
        compareWithOwn(
          { ...OWN, source_registry: "http://one.example/" },
          upgrade({ ...OWN, ...change(0, { sources: ["other"] }), source_registry: "http://two.example/" }),
          TABLE.apt.grammar.claims,
        ),
      "drift",
    ));

  test.each(["https://evil.example/", "https://registry.npmjs.org/ https://evil.example/"])(
    "%s: refused, with what to configure",
    async (registry) => {
      const hint = await refuses(
        compare(registry),
        "evidence_mismatch",
        "packages come from https://evil.example/, which this host's executor doesn't know: it takes them from https://registry.npmjs.org/ https://npm.example/",
      );
      expect(hint).toContain("/etc/aegis/aegisd.env (aegis help environment)");
    },
  );

  test("those that it knows, and what is no address, are compared like everything else", async () => {
    compare("https://registry.npmjs.org/ https://npm.example/")();
    await refuses(compare("https://npm.example/"), "evidence_mismatch");
    await refuses(compare(null), "evidence_mismatch");
  });
});

describe("another change than was signed is drift", () => {
  const CASES: [name: string, signed: Partial<OperationPlan>, says: string][] = [
    [
      "a package more now",
      { transaction: OWN.transaction.slice(0, 1) },
      "signed nothing; now it would be upgrade nginx:amd64 1.0-1 -> 1.0-2 sha256:eeeeeeeeeeee",
    ],
    [
      "a package less now",
      { transaction: [...OWN.transaction, entry("old")] },
      "signed upgrade old:amd64 1.0-1 -> 1.0-2 sha256:eeeeeeeeeeee; now it would be nothing",
    ],
    [
      "a removal now",
      { transaction: [...OWN.transaction, removal("old")] },
      "signed remove old:amd64 1.0-1; now",
    ],
    ["another new version", change(0, { to_version: "1.0-1.1" }), "hello:amd64 1.0-1 -> 1.0-1.1"],
    ["another old version", change(0, { from_version: "0.9" }), "hello:amd64 0.9 -> 1.0-2"],
    ["another architecture", change(0, { architecture: "i386" }), "hello:i386"],
    ["another action", change(0, { action: "downgrade" }), "downgrade hello"],
    ["other bytes of the same version", change(0, { sha256: "f".repeat(64) }), "sha256:ffffffffffff"],
    ["another size", change(0, { size: 1001 }), "hello"],
    ["another source", change(0, { sources: ["http://other stable"] }), "hello"],
    ["another origin", change(0, { origin: "Other" }), "hello"],
    ["essential or not", change(0, { essential: true }), "hello"],
    [
      "another order",
      { transaction: OWN.transaction.toReversed() },
      "signed nothing; now it would be nothing",
    ],
    ["nothing at all was signed", { transaction: [] }, "signed nothing; now it would be upgrade hello"],
  ];
  for (const [name, signed, says] of CASES)
    test(name, () =>
      refuses(() => compareWithOwn({ ...OWN, ...signed }, OWN, aptGrammar.claims), "drift", says),
    );

  const hook = (command: string) => ({ host_hooks: [{ configured_in: "/etc/dpkg/dpkg.cfg.d/zz", command }] });
  const HOOKS: [name: string, signed: Partial<OperationPlan>, own: Partial<OperationPlan>, says: string][] = [
    [
      "a hook that is there now",
      {},
      hook("pre-invoke=x"),
      "what dpkg's configuration starts has changed since the plan: signed nothing; now it would be pre-invoke=x (/etc",
    ],
    [
      "a hook that is gone",
      hook("pre-invoke=x"),
      {},
      "signed pre-invoke=x (/etc/dpkg/dpkg.cfg.d/zz); now it would be nothing",
    ],
    ["another hook", hook("pre-invoke=x"), hook("pre-invoke=y"), "now it would be pre-invoke=y"],
  ];
  for (const [name, signed, own, says] of HOOKS) {
    test(name, () =>
      refuses(
        () => compareWithOwn({ ...OWN, ...signed }, { ...OWN, ...own }, aptGrammar.claims),
        "drift",
        says,
      ),
    );
  }
  test("the same hook is not drift", () => {
    expect(
      compareWithOwn({ ...OWN, ...hook("x") }, { ...OWN, ...hook("x") }, aptGrammar.claims),
    ).toBeUndefined();
  });

  test("many differences are counted in the message, and listed in the details", () => {
    const many = Array.from({ length: 8 }, (_, i) => entry(`p${i}`));
    try {
      compareWithOwn(install({ transaction: [] }), install({ transaction: many }), aptGrammar.claims);
      throw new Error("not refused");
    } catch (error) {
      if (!(error instanceof AegisError)) throw error;
      expect(error.message).toEndWith("p4:amd64 1.0-1 -> 1.0-2 sha256:eeeeeeeeeeee and 3 more");
      expect(error.hint).toBe("Plan again: aegis plan apt install hello");
      expect(error.details["only_signed"]).toEqual([]);
      expect(error.details["only_now"]).toHaveLength(8);
    }
  });
});

describe("another description of the same change is refused", () => {
  const CASES: [field: keyof OperationPlan, signed: Partial<OperationPlan>][] = [
    ["tool", { tool: "npm" }],
    ["operation", { operation: "install" }],
    ["targets", { targets: ["x"] }],
    ["exact_targets", { exact_targets: ["hello=1.0-2"] }],
    ["command_preview", { command_preview: ["apt-get", "upgrade"] }],
    ["nothing_to_do", { nothing_to_do: true }],
    ["requires_root", { requires_root: false }],
    ["packages_installed", { packages_installed: ["x"] }],
    ["packages_upgraded", { packages_upgraded: [] }],
    ["packages_removed", { packages_removed: ["x"] }],
    ["packages_downgraded", { packages_downgraded: ["x"] }],
    ["packages_held_back", { packages_held_back: ["x"] }],
    ["denied_targets", { denied_targets: [{ target: "x", signal: "url-denied" }] }],
    ["scripts_detected", { scripts_detected: true }],
    ["scripts", { scripts: [{ package: "hello", name: "postinst", body: "true" }] }],
    ["metadata_available", { metadata_available: false }],
    ["risk_signals", { risk_signals: ["requires-root"] }],
    ["risk_score", { risk_score: 5 }],
    ["risk_contributions", { risk_contributions: [] }],
    ["repository_evidence", { repository_evidence: [] }],
    ["repository_evidence", { repository_evidence: [{ ...DEBIAN, trust: "pinned" }] }],
    ["repository_evidence", { repository_evidence: [{ ...DEBIAN, signature_verified: false }] }],
    ["repository_evidence", { repository_evidence: [{ ...DEBIAN, signed_by: null }] }],
    ["repository_evidence", { repository_evidence: [{ ...DEBIAN, key_fingerprints: [] }] }],
    ["repository_evidence", { repository_evidence: [{ ...DEBIAN, problems: ["expired"] }] }],
    ["repository_evidence", { repository_evidence: [{ ...DEBIAN, trusted_option: true }] }],
    ["repository_evidence", { repository_evidence: [{ ...DEBIAN, allow_insecure: true }] }],
    ["repository_evidence", { repository_evidence: [{ ...DEBIAN, uri: "http://other.example/debian" }] }],
    ["provenance_evidence", { provenance_evidence: [] }],
    [
      "provenance_evidence",
      { provenance_evidence: OWN.provenance_evidence.map((p) => ({ ...p, verified: false })) },
    ],
    [
      "provenance_evidence",
      { provenance_evidence: OWN.provenance_evidence.map((p) => ({ ...p, key: "other" })) },
    ],
    [
      "provenance_evidence",
      { provenance_evidence: OWN.provenance_evidence.map((p) => ({ ...p, detail: "checked by Aegis" })) },
    ],
    ["rollback_plan", { rollback_plan: { inverse: ["x:amd64-"], unobtainable: [], notes: [] } }],
    ["sbom_evidence", { sbom_evidence: [{ purl: "pkg:deb/x", sha256: null }] }],
  ];
  for (const [field, signed] of CASES) {
    test(`${field}: ${JSON.stringify(signed[field])?.slice(0, 60)}`, () =>
      refuses(
        () => compareWithOwn({ ...OWN, ...signed }, OWN, aptGrammar.claims),
        "evidence_mismatch",
        new RegExp(`\\b${field}|risk_`),
      ));
  }

  const SAME: [name: string, signed: Partial<OperationPlan>][] = [
    ["nothing differs", {}],
    ["id and time", { plan_id: "00000000-0000-4000-8000-000000000000", created_at: "2026-02-02T00:00:00Z" }],
    ["raw output", { raw_evidence: { commands: [] } }],
    [
      "the dates of an index that was fetched again",
      {
        repository_evidence: [
          { ...DEBIAN, release_date: "2026-01-02T00:00:00Z", release_sha256: "9".repeat(64) },
        ],
      },
    ],
    ["vulnerability data", { vulnerability_evidence: [vulnerability({ severity: "none" })] }],
  ];
  for (const [name, signed] of SAME)
    test(`passes: ${name}`, () => compareWithOwn({ ...OWN, ...signed }, OWN, aptGrammar.claims));
  test("passes: the plans of every kind against themselves", () => {
    for (const plan of [upgrade(), install(), npm()])
      compareWithOwn(plan, structuredClone(plan), aptGrammar.claims);
  });
});

describe("this host's decision compared with the signed one", () => {
  const result = (
    decision: PolicyResult["decision"],
    controls: PolicyResult["required_controls"] = [],
  ): PolicyResult => ({
    schema_version: "1.0",
    plan_id: OWN.plan_id,
    plan_hash: "0".repeat(64),
    decision,
    reasons: [`because of ${decision}`],
    required_controls: controls,
    approvals_required: 1,
    rules: [],
    policy_version: "1",
    evaluator_hash: "a".repeat(64),
    policy_config_hash: "b".repeat(64),
    ai_review_hash: null,
    evidence_fresh_until: "2026-01-02T04:04:05Z",
  });
  const SNAPSHOT = result("allow_with_snapshot", ["system snapshot"]);
  const HUMAN = result("require_human", ["human approval"]);
  const BOTH = result("require_human", ["human approval", "system snapshot"]);
  const CASES: [
    name: string,
    signed: PolicyResult,
    own: PolicyResult,
    code: ErrorCode | null,
    says: string,
  ][] = [
    [
      "other rules",
      result("allow"),
      { ...result("allow"), evaluator_hash: "c".repeat(64) },
      "evaluator_mismatch",
      "another version of the rules",
    ],
    [
      "other rules that deny",
      result("allow"),
      { ...result("deny"), evaluator_hash: "c".repeat(64) },
      "evaluator_mismatch",
      "",
    ],
    ["denied here", HUMAN, result("deny"), "policy_denied", "denies the plan: because of deny"],
    ["denied here and there", result("deny"), result("deny"), "policy_denied", ""],
    [
      "a human here, nothing signed",
      result("allow"),
      HUMAN,
      "policy_mismatch",
      "(require_human, signed allow): because of require_human",
    ],
    ["a human here, a snapshot signed", SNAPSHOT, HUMAN, "policy_mismatch", "stricter"],
    ["a snapshot here, nothing signed", result("allow"), SNAPSHOT, "policy_mismatch", "stricter"],
    [
      "the snapshot is missing from what was signed",
      HUMAN,
      BOTH,
      "snapshot_required",
      "also requires: system snapshot",
    ],
    [
      "the human is missing from what was signed",
      { ...BOTH, required_controls: ["system snapshot"] },
      BOTH,
      "approval_required",
      "also requires: human approval",
    ],
    [
      "a rule here that was not signed, as strict",
      { ...HUMAN, rules: ["apt-install"] },
      { ...HUMAN, rules: ["apt-install", "vulnerability-grave"] },
      "drift",
      "vulnerability-grave (a version to be installed has a vulnerability of high",
    ],
    [
      "the same, and a person was asked for by a review alone",
      { ...HUMAN, rules: ["apt-upgrade", "review-wants-human"] },
      { ...HUMAN, rules: ["apt-upgrade", "security-sensitive"] },
      "drift",
      "security-sensitive (",
    ],
    [
      "a rule here that was not signed, where nothing was asked for",
      { ...result("allow"), rules: ["apt-update"] },
      { ...result("allow"), rules: ["apt-update", "nothing-to-do"] },
      "drift",
      "nothing-to-do (",
    ],
    [
      "a rule here that was not signed, less strict than what was signed",
      { ...HUMAN, rules: ["apt-install"] },
      { ...HUMAN, rules: ["apt-install", "apt-upgrade"] },
      null,
      "",
    ],
    [
      "fewer rules here",
      { ...HUMAN, rules: ["apt-install", "vulnerability-grave"] },
      { ...HUMAN, rules: ["apt-install"] },
      null,
      "",
    ],
    ["the same", BOTH, BOTH, null, ""],
    ["more lenient here", BOTH, result("allow"), null, ""],
    ["more lenient here, fewer controls", BOTH, HUMAN, null, ""],
    [
      "another configuration, the same decision",
      HUMAN,
      { ...HUMAN, policy_config_hash: "d".repeat(64) },
      null,
      "",
    ],
  ];
  for (const [name, signed, own, code, says] of CASES) {
    test(name, () => {
      const compare = () => compareDecisions(signed, own, configOf().config);
      return code === null ? compare() : refuses(compare, code, says);
    });
  }
});

describe("vulnerabilities that the executor knows and the approver was not shown (S4)", () => {
  const policy = { ...configOf(), source: "" };
  const grave = vulnerability({ severity: "high" });
  const own = install({ vulnerability_evidence: [grave] });
  const soothed = { warnings: ["All versions were checked: no known vulnerability."] };
  const decided = (plan: OperationPlan) => decideOwn(plan, policy);

  test("the evidence removed, a reassuring text added, and a person required by another rule", async () => {
    const signed = decided(install({ vulnerability_evidence: [], ...soothed }));
    expect([signed.decision, decided(own).decision]).toEqual(["require_human", "require_human"]);
    const hint = await refuses(
      () => compareDecisions(signed, decided(own), policy.config),
      "drift",
      "vulnerability-grave",
    );
    expect(hint).toContain("sign again");
  });

  const noise = (count: number) =>
    Array.from({ length: count }, (_, n) =>
      vulnerability({ package: `p${n}`, version: "1.0", id: NO_DATA, severity: "unknown" }),
    );
  const TOLD: [what: string, evidence: OperationPlan["vulnerability_evidence"], untold: string | null][] = [
    ["nothing", [], "hello CVE-2026-0001 (high)"],
    ["another one of the package", [{ ...grave, id: "CVE-2026-0002" }], "hello CVE-2026-0001 (high)"],
    ["less grave", [{ ...grave, severity: "unknown" }], "hello CVE-2026-0001 (high)"],
    ["as fixed by this version", [{ ...grave, fixed_version: grave.version }], "hello CVE-2026-0001 (high)"],
    ["it as one that the old version has, too", [{ ...grave, also_old: true }], "hello CVE-2026-0001 (high)"],
    ["it", [grave], null],
    ["it and more", [grave, { ...grave, id: "CVE-2026-0002" }], null],
    ["it, from older data", [{ ...grave, data_age_days: 9, data_source: "other", aliases: ["x"] }], null],
  ];
  for (const [what, vulnerability_evidence, untold] of TOLD) {
    test(`the plan tells ${what}: ${untold === null ? "passes" : "refused"}`, () => {
      const compare = () => compareVulnerabilities(install({ vulnerability_evidence }), own);
      return untold === null ? compare() : refuses(compare, "drift", untold);
    });
  }
  const exploited = { known_exploited: { cve: "CVE-2026-0001", since: "2026-01-01" } };
  const ruledOut = { status: "not_affected", justification: null, author: "x", authentic: true } as const;
  const low = vulnerability({ severity: "low", ...exploited });
  const LISTED: typeof TOLD = [
    ["nothing", [], "hello CVE-2026-0001 (low, exploited)"],
    [
      "it, but not that it is exploited",
      [vulnerability({ severity: "low" })],
      "hello CVE-2026-0001 (low, exploited)",
    ],
    [
      "it as critical instead",
      [vulnerability({ severity: "critical" })],
      "hello CVE-2026-0001 (low, exploited)",
    ],
    ["it as ruled out", [{ ...low, vex: ruledOut }], "hello CVE-2026-0001 (low, exploited)"],
    ["another one as exploited", [{ ...low, id: "CVE-2026-0002" }], "hello CVE-2026-0001 (low, exploited)"],
    ["it", [low], null],
    ["it, with somebody's word", [{ ...low, vex: { ...ruledOut, authentic: false } }], null],
  ];
  for (const [what, vulnerability_evidence, untold] of LISTED) {
    test(`an exploited one, and the plan tells ${what}: ${untold === null ? "passes" : "refused"}`, () => {
      const compare = () =>
        compareVulnerabilities(
          install({ vulnerability_evidence }),
          install({ vulnerability_evidence: [low] }),
        );
      return untold === null ? compare() : refuses(compare, "drift", untold);
    });
  }
  test("the plan tells it, and has other records that soften it on the screen: refused", () => {
    const advisory = { ...grave, id: "DSA-1-1", aliases: ["CVE-2026-0001"] };
    const softer = ["UBUNTU-CVE-2026-0001", "UBUNTU-CVE-2026-0009"].map((id) =>
      vulnerability({ ...grave, id, aliases: [], severity: "low" }),
    );
    const wider = { ...advisory, aliases: ["CVE-2026-0001", "CVE-2026-0009"] };
    const host = install({ vulnerability_evidence: [advisory] });
    compareVulnerabilities(host, host);
    return refuses(
      () => compareVulnerabilities(install({ vulnerability_evidence: [wider, ...softer] }), host),
      "drift",
      "hello CVE-2026-0001 (high)",
    );
  });
  test("a plan may tell as brought by the change what the old version has, too", () => {
    compareVulnerabilities(install({ vulnerability_evidence: [grave] }), {
      ...own,
      vulnerability_evidence: [{ ...grave, also_old: true }],
    });
  });
  test("a plan may tell of exploitation that this host's list lacks", () => {
    compareVulnerabilities(install({ vulnerability_evidence: [{ ...grave, ...exploited }] }), own);
  });
  test("the distribution's word counts for each side by itself", () => {
    const stated = install({ vulnerability_evidence: [{ ...grave, vex: ruledOut }] });
    compareVulnerabilities(install(), stated);
    return refuses(() => compareVulnerabilities(stated, own), "drift", "hello CVE-2026-0001 (high)");
  });
  const MADE_UP: [what: string, evidence: OperationPlan["vulnerability_evidence"]][] = [
    ["another package's", [grave, { ...grave, package: "nginx" }]],
    ["another version's", [grave, { ...grave, version: "0" }]],
    ["it as of the version that is installed now", [{ ...grave, applies_to: "old" }]],
    ["one of a version that is not installed now", [grave, { ...grave, applies_to: "old", version: "0" }]],
    ["nobody's word about packages that stay", [...noise(8), { ...grave, applies_to: "old" }]],
  ];
  for (const [what, vulnerability_evidence] of MADE_UP) {
    test(`the plan tells ${what}: refused`, () =>
      refuses(
        () => compareVulnerabilities(install({ vulnerability_evidence }), own),
        "evidence_mismatch",
        "the plan's vulnerability_evidence",
      ));
  }
  test("a reason names the most serious one, whatever its position in the plan", () => {
    const { reasons } = decided(install({ vulnerability_evidence: [...noise(9), grave] }));
    expect(reasons.join("\n")).toContain("hello CVE-2026-0001 (high), ");
  });
  test("installed versions may have vulnerabilities too", () => {
    const vulnerability_evidence = [{ ...grave, applies_to: "old" as const, version: "1.0-1" }];
    compareVulnerabilities(upgrade({ vulnerability_evidence }), upgrade());
  });
  test("a vulnerability that needs no person need not be in the plan", () => {
    const minor = install({ vulnerability_evidence: [{ ...grave, severity: "medium" }] });
    compareVulnerabilities(install(), minor);
  });
});

describe("warnings that planning again repeats", () => {
  const own = install({
    warnings: ["kept back: x", "W: apt says this to root", "Vulnerabilities: 3 days old."],
  });
  const CASES: [what: string, warnings: string[], passes: boolean][] = [
    ["one more", [...own.warnings, "Policy: allow (checked by Aegis)"], false],
    ["400 more", [...own.warnings, ...Array.from({ length: 400 }, (_, i) => `remark ${i}`)], false],
    ["one left out", own.warnings.slice(1), false],
    ["another in its place", ["kept back: y", ...own.warnings.slice(1)], false],
    [
      "apt's own words to a user, another age of the data",
      ["kept back: x", "W: apt says this to alice"],
      true,
    ],
    ["a dpkg that was half-done then", ["kept back: x", "dpkg was interrupted earlier (x)"], true],
    ["the same", own.warnings, true],
  ];
  for (const [what, warnings, passes] of CASES)
    test(`${what}: ${passes ? "passes" : "refused"}`, () => {
      const compare = () => compareWarnings(install({ warnings }), own, aptGrammar.claims);
      return passes ? compare() : refuses(compare, "evidence_mismatch", "the plan's warnings");
    });
});

describe("what an ecosystem says of its own plans", () => {
  const same = { fields: [], ofRepositories: [], warnings: [] };
  const claims = (change: Partial<Claims> = {}): Claims => ({
    hostFacts: () => [],
    mayDiffer: same,
    ...change,
  });
  const CASES: [what: string, signed: Partial<OperationPlan>, claims: Claims, code: ErrorCode | null][] = [
    ["a field that it does not name", { deprecated: "no" }, claims(), "evidence_mismatch"],
    [
      "one that it names",
      { deprecated: "no" },
      claims({ mayDiffer: { ...same, fields: ["deprecated"] } }),
      null,
    ],
    [
      "another than it names",
      { publisher_or_maintainer: "x" },
      claims({ mayDiffer: { ...same, fields: ["deprecated"] } }),
      "evidence_mismatch",
    ],
    [
      "a repository's date that it does not name",
      { repository_evidence: [{ ...DEBIAN, release_date: "2026-01-02T00:00:00Z" }] },
      claims(),
      "evidence_mismatch",
    ],
    [
      "the transaction, whatever it names",
      { transaction: [] },
      claims({ mayDiffer: { ...same, fields: ["transaction"] as never } }),
      "drift",
    ],
    [
      "a fact of the host",
      { publisher_or_maintainer: "x" },
      claims({
        hostFacts: ({ publisher_or_maintainer: by }) => [{ what: "who", items: by === null ? [] : [by] }],
      }),
      "drift",
    ],
    // What it forgets is a field like any other, also where only the signed plan has it.
    [
      "hooks of the host that it forgets",
      { host_hooks: [{ configured_in: "/etc/x", command: "y" }] },
      claims(),
      "evidence_mismatch",
    ],
  ];
  for (const [what, signed, ofIt, code] of CASES) {
    test(`${what}: ${code ?? "passes"}`, () => {
      const compare = () => compareWithOwn({ ...OWN, ...signed }, OWN, ofIt);
      return code === null ? compare() : refuses(compare, code);
    });
  }
  test("a warning that it does not name", async () => {
    const own = install({ warnings: [] });
    const signed = install({ warnings: ["W: apt says this to alice"] });
    await refuses(() => compareWarnings(signed, own, claims()), "evidence_mismatch");
  });
  for (const [tool, { grammar }] of Object.entries(TABLE)) {
    test(`${tool}: no beginning that every warning has`, () => {
      expect(grammar.claims.mayDiffer.warnings.filter((text) => text.length < 3)).toEqual([]);
    });
  }
});

test("where a review is required, the signed plan's own review is enough: the new plan can have none", async () => {
  const toml = `[review]\nrequired = true\npublic_keys = ["${REVIEWER.publicKeyHex}"]`;
  const policy = { ...configOf(toml), source: "" };
  const aiReview = signReview(review({ plan_hash: canonicalHash(update()) }), REVIEWER);
  const signed = await execution(update(), { toml, aiReview, approvals: [] });
  expect(signed.policy_decision).toBe("allow");
  compareDecisions(signed.policy_result, decideOwn(update(), policy), policy.config);
  expect(decideOwn(upgrade(), policy).decision).toBe("allow_with_snapshot");
});
