import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { NO_DATA } from "../src/doc-evidence.ts";
import { RISK_SIGNALS, type RiskSignal } from "../src/doc-signals.ts";
import { TABLE } from "../src/eco-table.ts";
import { riskScore } from "../src/plan-risk.ts";
import { DERIVED_SIGNALS, riskSignals, type SignalFacts } from "../src/plan-signals.ts";
import { entry, WEAK } from "./policy-plans.ts";

const SRC = join(import.meta.dir, "../src");

const CALM: SignalFacts = {
  tool: "apt",
  requires_root: false,
  network_access: false,
  metadata_available: true,
  transaction: [],
  packages_held_back: [],
  denied_targets: [],
  scripts: [],
  native_code_risk: false,
  binary_artifact_risk: false,
  mutable_reference: false,
  repository_evidence: [],
  vulnerability_evidence: [],
  raw_evidence: { commands: [] },
};

type Entry = SignalFacts["transaction"][number];
const change = (
  action: Entry["action"],
  name = "hello",
  sources: string[] = [],
): SignalFacts["transaction"] => [entry(name, { action, sources, from_version: "1", to_version: "2" })];
type Source = SignalFacts["repository_evidence"][number];
const source = (trust: Source["trust"]): SignalFacts["repository_evidence"] => [{ ...WEAK, trust }];
type Vulnerability = SignalFacts["vulnerability_evidence"][number];
const vulnerability = (
  severity: Vulnerability["severity"],
  applies_to: Vulnerability["applies_to"],
): SignalFacts["vulnerability_evidence"] => [
  {
    package: "hello",
    version: "2",
    matched_version: "2",
    applies_to,
    id: "CVE-1",
    aliases: [],
    severity,
    fixed_version: null,
    data_source: "osv",
    data_age_days: 1,
  },
];
type Outcome = SignalFacts["raw_evidence"]["commands"][number]["outcome"];
const command = (outcome: Outcome, name = "npm"): SignalFacts["raw_evidence"] => ({
  commands: [
    {
      argv: [name],
      status: null,
      outcome,
      stdout_sha256: null,
      stderr_sha256: null,
      stdout: null,
      stderr: null,
    },
  ],
});
const ID = "https://ppa.example/debian stable";

/** Changes to the calm facts, and the expected signals besides `no-root-required`. */
const CASES: [string, Partial<SignalFacts>, RiskSignal[]][] = [
  ["nothing", {}, []],
  ["network", { network_access: true }, ["network-operation"]],
  ["a fresh install is not an upgrade", { transaction: change("install") }, ["package-install"]],
  ["an upgrade is not an install", { transaction: change("upgrade") }, ["package-upgrade"]],
  ["a downgrade is not an upgrade", { transaction: change("downgrade") }, ["package-downgrade"]],
  ["removal", { transaction: change("remove") }, ["package-removal"]],
  ["held back", { packages_held_back: ["libxml2:i386"] }, ["package-held-back"]],
  ["kernel", { transaction: change("upgrade", "linux-image-amd64") }, ["package-upgrade", "kernel-change"]],
  ["sensitive", { transaction: change("upgrade", "openssl") }, ["package-upgrade", "security-sensitive"]],
  [
    "an npm package may be called openssl",
    { tool: "npm", transaction: change("install", "openssl") },
    ["package-install"],
  ],
  ["tool absent", { metadata_available: false, raw_evidence: command("missing") }, ["metadata-unavailable"]],
  [
    "tool failed",
    { metadata_available: false, raw_evidence: command("failed") },
    ["metadata-command-failed"],
  ],
  [
    "tool gave nonsense",
    { metadata_available: false, raw_evidence: command("ok") },
    ["metadata-command-failed"],
  ],
  ["a failed gpgv with metadata", { raw_evidence: command("failed", "gpgv") }, []],
  ["scripts", { scripts: [{ package: "a", name: "install", body: "x" }] }, ["lifecycle-scripts"]],
  ["native", { native_code_risk: true }, ["native-build-risk"]],
  ["binaries", { binary_artifact_risk: true }, ["binary-download-risk"]],
  ["mutable version", { tool: "npm", mutable_reference: true }, ["mutable-version"]],
  ["mutable tag", { tool: "container", mutable_reference: true }, ["mutable-tag"]],
  ["untrusted, about the sources", { repository_evidence: source("untrusted") }, ["untrusted-repository"]],
  ["weak, about the sources", { repository_evidence: source("weak") }, ["weakly-pinned-repository"]],
  ["distribution", { repository_evidence: source("distribution") }, []],
  [
    "untrusted, used",
    { repository_evidence: source("untrusted"), transaction: change("upgrade", "a1", [ID]) },
    ["package-upgrade", "untrusted-repository"],
  ],
  [
    "untrusted, not used",
    { repository_evidence: source("untrusted"), transaction: change("upgrade") },
    ["package-upgrade"],
  ],
  [
    "critical",
    { vulnerability_evidence: vulnerability("critical", "new") },
    ["vulnerability-critical", "vulnerability-known"],
  ],
  [
    "unknown severity is not none",
    { vulnerability_evidence: vulnerability("unknown", "new") },
    ["vulnerability-known"],
  ],
  [
    "a source that could not answer knows of none",
    { vulnerability_evidence: vulnerability("unknown", "new").map((v) => ({ ...v, id: NO_DATA })) },
    [],
  ],
  [
    "the new version is the fix",
    {
      vulnerability_evidence: vulnerability("critical", "new").map((v) => ({
        ...v,
        fixed_version: v.version,
      })),
    },
    [],
  ],
  [
    "of the new version, and called the old one's",
    { transaction: change("upgrade"), vulnerability_evidence: vulnerability("critical", "old") },
    ["package-upgrade", "vulnerability-critical", "vulnerability-known"],
  ],
  [
    "less trust than before",
    { transaction: [entry("a", { action: "install", trust_downgrade: "1.0.0 was signed by the registry" })] },
    ["package-install", "trust-downgrade"],
  ],
  [
    "a new publisher",
    { transaction: [entry("a", { action: "install", publisher_since: "2026-01-01T00:00:00Z" })] },
    ["package-install", "publisher-change"],
  ],
  ["fixed by the change", { vulnerability_evidence: vulnerability("critical", "old") }, []],
  [
    "denied",
    { metadata_available: false, denied_targets: [{ target: "x", signal: "url-denied" }] },
    ["url-denied"],
  ],
];

describe("signals", () => {
  for (const [name, facts, signals] of CASES) {
    test(name, () =>
      expect(riskSignals({ ...CALM, ...facts })).toEqual(inOrder(["no-root-required", ...signals])),
    );
  }
  test("root", () => expect(riskSignals({ ...CALM, requires_root: true })).toEqual(["requires-root"]));
});

function inOrder(signals: RiskSignal[]): RiskSignal[] {
  return RISK_SIGNALS.filter((signal) => signals.includes(signal));
}

describe("score", () => {
  test("is the sum of its contributions, at most 100", () => {
    const calm = riskScore({
      risk_signals: ["requires-root", "package-upgrade"],
      transaction: [],
      deprecated: null,
    });
    expect(calm).toEqual({
      risk_score: 8,
      risk_contributions: [
        { name: "requires-root", points: 5 },
        { name: "package-upgrade", points: 3 },
      ],
    });
    const all = riskScore({ risk_signals: [...RISK_SIGNALS], transaction: [], deprecated: "old" });
    expect(all.risk_score).toBe(100);
  });
  test("a denied target is 100 by itself", () => {
    expect(riskScore({ risk_signals: ["url-denied"], transaction: [], deprecated: null }).risk_score).toBe(
      100,
    );
  });
  test("removing an essential package weighs more than removing another", () => {
    const removal = change("remove");
    const essential = removal.map((entry) => ({ ...entry, essential: true }));
    const score = (transaction: SignalFacts["transaction"]) =>
      riskScore({ risk_signals: ["package-removal"], transaction, deprecated: null }).risk_score;
    expect(score(essential)).toBeGreaterThan(score(removal));
  });
});

/** Rooms that aren't named after their tool. */
const ROOM: Readonly<Record<string, string>> = { container: "image" };

describe("every signal can fire", () => {
  const built = Object.values(TABLE).flatMap(({ grammar }) => grammar.signals);
  const raised = new Set<string>([...DERIVED_SIGNALS, ...built]);
  test("from a plan's facts, a denied target, or an ecosystem whose grammar lists it", () => {
    expect(RISK_SIGNALS.filter((signal) => !signal.endsWith("-denied") && !raised.has(signal))).toEqual([]);
  });
  for (const [tool, { grammar }] of Object.entries(TABLE)) {
    test(`${tool}: what its grammar lists, its planning raises`, () => {
      const planning = readdirSync(SRC)
        .filter((name) => name === `${ROOM[tool] ?? tool}.ts` || name.startsWith(`${ROOM[tool] ?? tool}-`))
        .map((name) => readFileSync(join(SRC, name), "utf8"))
        .filter((text) => !/\boperations: \{/.test(text))
        .join("");
      expect(grammar.signals.filter((signal) => !planning.includes(`"${signal}"`))).toEqual([]);
    });
  }
});
