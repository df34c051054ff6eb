import { describe, expect, test } from "bun:test";
import type { OperationPlan, TransactionEntry } from "../src/documents.ts";
import { renderPlan } from "../src/plan-view.ts";
import type { Terminal } from "../src/terminal.ts";

const entry = (name: string, change: Partial<TransactionEntry> = {}): TransactionEntry => ({
  name,
  architecture: "amd64",
  action: "upgrade",
  from_version: "1.0-1",
  to_version: "1.0-2",
  origin: "Debian",
  archive: "bookworm-security-with-a-suite-name-that-nobody-would-choose-for-an-archive-of-packages",
  sha256: null,
  size: 1_000,
  essential: false,
  source: null,
  sources: [],
  ...change,
});

const PLAN: OperationPlan = {
  schema_version: "1.0",
  plan_id: "00000000-0000-4000-8000-000000000000",
  created_at: "2026-11-22T00:00:00Z",
  tool: "apt",
  operation: "upgrade",
  ecosystem: "apt",
  target_type: "package",
  target: "",
  targets: [],
  exact_targets: [],
  target_version: null,
  source_registry: null,
  host: {
    hostname: "web1",
    machine_id_hash: "0".repeat(64),
    os_id: "debian",
    os_version: "12",
    architecture: "amd64",
  },
  metadata_available: true,
  command_preview: ["apt-get", "upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
  mutates_system: true,
  requires_root: true,
  network_access: true,
  nothing_to_do: false,
  transaction: [entry("openssl"), entry("libold", { action: "remove", to_version: null, size: null })],
  packages_installed: [],
  packages_upgraded: ["openssl"],
  packages_removed: ["libold"],
  packages_downgraded: [],
  packages_held_back: ["libxml2:i386"],
  denied_targets: [],
  scripts_detected: false,
  scripts: [],
  build_hooks_detected: false,
  native_code_risk: false,
  binary_artifact_risk: false,
  signature_or_checksum_status: "verified",
  mutable_reference: false,
  publisher_or_maintainer: null,
  published_at: null,
  deprecated: null,
  transitive_dependency_count: null,
  risk_signals: ["requires-root", "package-upgrade", "package-removal"],
  warnings: [],
  repository_evidence: [],
  vulnerability_evidence: [],
  provenance_evidence: [],
  sbom_evidence: [],
  rollback_plan: { inverse: [], unobtainable: [], notes: [] },
  risk_score: 33,
  risk_contributions: [{ name: "package-removal", points: 25 }],
  raw_evidence: { commands: [] },
};

const terminal = (width: number, colour = false): Terminal => ({ interactive: colour, colour, width });
const lines = (text: string) => text.split("\n");

describe("a plan for people", () => {
  for (const width of [80, 120]) {
    test(`no line is wider than ${width} columns`, () => {
      const long = "a-package-with-an-extraordinarily-long-name-as-some-font-packages-have";
      const plan: OperationPlan = {
        ...PLAN,
        transaction: [
          entry(long, { from_version: "1:2.3.4+dfsg-5ubuntu6.7", to_version: "1:2.3.4+dfsg-5ubuntu6.8" }),
        ],
        packages_held_back: Array.from({ length: 60 }, (_, i) => `held-package-${i}`),
        warnings: ["a warning of many words ".repeat(20)],
      };
      expect(
        Math.max(...lines(renderPlan(plan, terminal(width))).map((line) => line.length)),
      ).toBeLessThanOrEqual(width);
    });
  }

  test("130 packages: 130 rows, removals first", () => {
    const many = Array.from({ length: 129 }, (_, i) => entry(`package-${i}`));
    const text = renderPlan(
      { ...PLAN, transaction: [...many, entry("gone", { action: "remove" })] },
      terminal(80),
    );
    const rows = lines(text).filter((line) => /^[↑−]/.test(line));
    expect(rows.length).toBe(130);
    expect(rows[0]).toStartWith("−  gone");
    expect(text).toContain("130 packages: 1 to remove, 129 to upgrade; 130.0 kB to download");
  });

  test("each action has its own symbol and count", () => {
    const actions = ["install", "upgrade", "downgrade", "reinstall", "remove"] as const;
    const text = renderPlan(
      { ...PLAN, transaction: actions.map((action) => entry(action, { action })) },
      terminal(80),
    );
    for (const [symbol, action] of ["+", "↑", "↓", "↻", "−"].map((s, i) => [s, actions[i]])) {
      expect(text).toContain(`\n${symbol}  ${action}`);
    }
    expect(text).toContain(
      "5 packages: 1 to remove, 1 to downgrade, 1 to install, 1 to reinstall, 1 to upgrade",
    );
  });

  test("a foreign architecture is shown, the host's own and `all` are not", () => {
    const transaction = [
      entry("libc6", { architecture: "i386" }),
      entry("bash"),
      entry("doc", { architecture: "all" }),
    ];
    const text = renderPlan({ ...PLAN, transaction }, terminal(80));
    expect(text).toContain("libc6:i386");
    expect(text).not.toContain("bash:");
    expect(text).not.toContain("doc:");
  });

  test("held packages, risk and signals are told", () => {
    const text = renderPlan(PLAN, terminal(80));
    expect(text).toContain("Kept back  libxml2:i386");
    expect(text).toContain("33 of 100 (package-removal 25)");
    expect(text).toContain("Signals    requires-root, package-upgrade, package-removal");
  });

  test("what needs attention is told: denied targets, sources, vulnerabilities, warnings", () => {
    const id = "http://evil.example.com stable";
    const text = renderPlan(
      {
        ...PLAN,
        transaction: [entry("a1", { sources: [id] })],
        denied_targets: [{ target: "./x.deb", signal: "local-path-denied" }],
        repository_evidence: [
          {
            ...{ id, uri: "http://evil.example.com", suite: "stable", components: [], configured_in: "x" },
            ...{ signed_by: null, trusted_option: true, allow_insecure: false, transport: "http" },
            ...{ release_origin: null, release_label: null, release_suite: null, release_codename: null },
            ...{
              release_date: null,
              release_valid_until: null,
              release_sha256: null,
              signature_verified: false,
            },
            ...{ key_fingerprints: [], trust: "untrusted", problems: ["trusted=yes"] },
          },
        ],
        vulnerability_evidence: [
          {
            ...{
              package: "a1",
              version: "2",
              applies_to: "new",
              id: "CVE-2026-1",
              aliases: [],
              severity: "critical",
            },
            ...{ fixed_version: null, data_source: "osv", data_age_days: 0 },
          },
        ],
        warnings: ["the disk is full"],
      },
      terminal(120),
    );
    expect(text).toContain("! ./x.deb will be denied by policy (local-path-denied)");
    expect(text).toContain(`! Source ${id} is untrusted: trusted=yes`);
    expect(text).toContain("! a1 2 has CVE-2026-1 (severity critical)");
    expect(text).toContain("! the disk is full");
  });

  test("nothing to do says so, and shows no table", () => {
    const text = renderPlan({ ...PLAN, nothing_to_do: true, transaction: [] }, terminal(80));
    expect(text).toContain("Nothing to do: the host is as you want it.");
    expect(text).not.toContain("package  ");
  });

  test("an update lists the sources it would refresh", () => {
    const source = {
      id: "https://deb.debian.org/debian bookworm",
    } as OperationPlan["repository_evidence"][number];
    const text = renderPlan(
      { ...PLAN, operation: "update", transaction: [], repository_evidence: [source] },
      terminal(80),
    );
    expect(text).toContain("Sources    https://deb.debian.org/debian bookworm");
  });

  test("outside text can't reach the terminal raw, in any field", () => {
    const evil = "x\u001b]0;evil\u0007\u202e\u200b\ny";
    const text = renderPlan(
      {
        ...PLAN,
        targets: [evil],
        source_registry: evil,
        command_preview: [evil],
        host: { ...PLAN.host, hostname: evil },
        transaction: [entry(evil, { from_version: evil, to_version: evil, origin: evil, archive: evil })],
        packages_held_back: [evil],
        publisher_or_maintainer: evil,
        scripts: [{ package: evil, name: evil, body: evil }],
        denied_targets: [{ target: evil, signal: "url-denied" }],
        warnings: [evil],
      },
      terminal(200),
    );
    expect(text.replaceAll("\n", "")).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(lines(text)).not.toContain("y");
  });

  test("colour only where the terminal has it", () => {
    expect(renderPlan(PLAN, terminal(80))).not.toContain("\u001b");
    expect(renderPlan(PLAN, terminal(80, true))).toContain("\u001b[1m");
  });
});
