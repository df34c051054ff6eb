import type { AiReview } from "../src/doc.ts";
import type { Host, OperationPlan, TransactionEntry } from "../src/doc-plan.ts";
import type { RepositoryEvidence } from "../src/doc-plan-evidence.ts";
import { VERDICT } from "./model-server.ts";

/*
 * Plans as the planner writes them, for the policy's tests. Each satisfies its schema.
 */

export const HOST: Host = {
  hostname: "host",
  machine_id_hash: "c".repeat(64),
  os_id: "debian",
  os_version: "12",
  architecture: "amd64",
  boot_id: "0b6ffbe2-8c1f-4c57-9d3a-1f0c5d7e9a42",
};

export const DEBIAN: RepositoryEvidence = {
  id: "http://deb.debian.org/debian bookworm",
  uri: "http://deb.debian.org/debian",
  suite: "bookworm",
  components: ["main"],
  configured_in: "/etc/apt/sources.list:1",
  signed_by: "/usr/share/keyrings/debian-archive-keyring.gpg",
  trusted_option: false,
  allow_insecure: false,
  transport: "http",
  release_origin: "Debian",
  release_label: "Debian",
  release_suite: "stable",
  release_codename: "bookworm",
  release_date: "2026-01-01T00:00:00Z",
  release_valid_until: null,
  release_sha256: "d".repeat(64),
  signature_verified: true,
  key_fingerprints: ["B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"],
  trust: "distribution",
  problems: [],
};

/** A third-party source with a good signature whose key is not pinned to it. */
export const WEAK: RepositoryEvidence = {
  ...DEBIAN,
  id: "https://ppa.example/debian stable",
  uri: "https://ppa.example/debian",
  suite: "stable",
  signed_by: null,
  release_origin: "Debian",
  release_label: "Debian",
  key_fingerprints: ["A".repeat(40)],
  trust: "weak",
  problems: ["no Signed-By"],
};

export function entry(name: string, change: Partial<TransactionEntry> = {}): TransactionEntry {
  return {
    name,
    architecture: "amd64",
    action: "upgrade",
    from_version: "1.0-1",
    to_version: "1.0-2",
    origin: "Debian",
    archive: "bookworm",
    sha256: "e".repeat(64),
    size: 1000,
    essential: false,
    source: null,
    from_source: null,
    to_source: null,
    sources: [DEBIAN.id],
    ...change,
  };
}

export const removal = (name: string, change: Partial<TransactionEntry> = {}): TransactionEntry =>
  entry(name, {
    action: "remove",
    to_version: null,
    origin: null,
    archive: null,
    sha256: null,
    size: null,
    sources: [],
    ...change,
  });

export const command = (...argv: string[]): OperationPlan["raw_evidence"]["commands"][number] => ({
  argv,
  status: 0,
  outcome: "ok",
  stdout_sha256: "a".repeat(64),
  stderr_sha256: "b".repeat(64),
  stdout: null,
  stderr: null,
});

const BASE: OperationPlan = {
  schema_version: "1.0",
  plan_id: "11111111-2222-4333-8444-555555555555",
  created_at: "2026-01-02T03:04:05.000Z",
  tool: "apt",
  operation: "upgrade",
  ecosystem: "apt",
  target_type: "package",
  target: "",
  targets: [],
  exact_targets: [],
  target_version: null,
  source_registry: null,
  host: HOST,
  metadata_available: true,
  command_preview: ["apt-get", "upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
  mutates_system: true,
  requires_root: true,
  network_access: true,
  nothing_to_do: false,
  transaction: [entry("hello")],
  packages_installed: [],
  packages_upgraded: ["hello"],
  packages_removed: [],
  packages_downgraded: [],
  packages_held_back: [],
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
  risk_signals: ["requires-root", "network-operation", "package-upgrade"],
  warnings: [],
  repository_evidence: [DEBIAN],
  vulnerability_evidence: [],
  provenance_evidence: [],
  sbom_evidence: [],
  rollback_plan: { inverse: [], unobtainable: [], notes: [] },
  risk_score: 10,
  risk_contributions: [],
  raw_evidence: { commands: [command("apt-get", "-s", "upgrade")] },
};

export function upgrade(change: Partial<OperationPlan> = {}): OperationPlan {
  return { ...BASE, ...change };
}

export function install(change: Partial<OperationPlan> = {}): OperationPlan {
  return {
    ...BASE,
    operation: "install",
    target: "hello",
    targets: ["hello"],
    exact_targets: ["hello=1.0-2"],
    command_preview: ["apt-get", "install", "-y", "hello=1.0-2"],
    transaction: [entry("hello", { action: "install", from_version: null })],
    raw_evidence: { commands: [command("apt-get", "-s", "install", "hello")] },
    ...change,
  };
}

export function update(change: Partial<OperationPlan> = {}): OperationPlan {
  return {
    ...BASE,
    operation: "update",
    command_preview: ["apt-get", "update"],
    transaction: [],
    packages_upgraded: [],
    raw_evidence: { commands: [] },
    ...change,
  };
}

/** An execution. */
const RUN = "1b7b4a3e-7c9e-4f6a-9a44-af0c2d3e4f50";
const asked = (targets: string[]) => ({ target: targets.join(" "), targets });

/** `apt remove` of these targets. */
export const remove = (targets: string[], transaction: TransactionEntry[]): OperationPlan => ({
  ...install({ transaction, command_preview: ["apt-get", "remove", "-y", ...targets] }),
  ...asked(targets),
  operation: "remove",
  exact_targets: targets,
});

/** Evidence that the record of an execution asks for these changes. */
export const undoing = (...subjects: string[]) => ({
  provenance_evidence: subjects.map((subject) => ({
    kind: "apt-recorded-inverse",
    subject,
    verified: true,
    key: null,
    detail: "",
  })),
});

/** A rollback with evidence of what the record asks for. */
export const rollback = (transaction: TransactionEntry[], ...subjects: string[]): OperationPlan => ({
  ...install({ transaction, ...undoing(...subjects) }),
  ...asked([RUN]),
  operation: "rollback",
});

/** A rollback of npm's managed root, with what its record says of the content that comes back. */
export const restoring = (change: Partial<OperationPlan> = {}, verified = true): OperationPlan => ({
  ...npm({
    transaction: [
      entry("left-pad", {
        ...{ action: "downgrade", from_version: "1.3.0", to_version: "1.2.0", sha256: null, size: null },
        ...{ origin: null, archive: null, source: null, sources: [] },
      }),
    ],
    source_registry: null,
    published_at: null,
    raw_evidence: { commands: [] },
    provenance_evidence: [
      { kind: "managed-content-left", subject: "a".repeat(64), verified: true, key: null, detail: "" },
      { kind: "managed-content-replaced", subject: "b".repeat(64), verified, key: null, detail: "" },
    ],
  }),
  ...asked([RUN]),
  operation: "rollback",
  exact_targets: [RUN],
  ...change,
});

/** A package that dpkg left unpacked. */
export const configured = entry("hello", {
  action: "configure",
  from_version: "1.0-2",
  sha256: null,
  size: null,
  sources: [],
});
export const repair = (transaction: TransactionEntry[]): OperationPlan => ({
  ...install({ transaction, command_preview: ["dpkg", "--configure", "-a"] }),
  ...asked([]),
  operation: "repair",
  exact_targets: [],
  raw_evidence: { commands: [command("dpkg", "--audit")] },
});

/** `apt hold` or `unhold` of these packages. */
export const marking = (
  operation: "hold" | "unhold",
  transaction: TransactionEntry[] = [marked("hello", operation)],
): OperationPlan => ({
  ...install({ transaction, command_preview: ["apt-mark", operation, "hello"] }),
  ...{ operation, exact_targets: ["hello"] },
  raw_evidence: { commands: [command("apt-config", "dump")] },
});
export const marked = (name: string, action: "hold" | "unhold"): TransactionEntry =>
  entry(name, { action, from_version: "1.0-2", sha256: null, size: null, sources: [] });

/** A restart of units; `others` are restarted with the first. */
export function restart(units: readonly string[], others: readonly string[] = []): OperationPlan {
  const of = (name: string, change: Partial<TransactionEntry> = {}) =>
    entry(name, {
      ...{ architecture: "all", action: "restart", to_version: null },
      ...{ from_version: "2026-01-01 19:41:02 UTC (5d0b12d7)", origin: `/usr/lib/systemd/system/${name}` },
      ...{ archive: null, size: null, source: null, from_source: null, to_source: null, sources: [] },
      ...change,
    });
  return {
    ...install({
      transaction: [
        ...units.map((name) => of(name)),
        ...others.map((name) => of(name, { required_by: units[0] ?? "" })),
      ],
      command_preview: ["systemctl", "restart", ...units],
    }),
    ...asked([...units]),
    ...{ tool: "services", ecosystem: "services", operation: "restart", target_type: "unit" },
    exact_targets: [...units],
    repository_evidence: [],
    provenance_evidence: [],
    raw_evidence: { commands: [command("systemctl", "show", ...units)] },
  };
}

const IMAGE_DIGEST = `sha256:${"a".repeat(64)}`;
export const IMAGE = `docker.io/library/app@${IMAGE_DIGEST}`;

/** A pull of an image whose files were all compared with their digests. */
export function pull(change: Partial<OperationPlan> = {}): OperationPlan {
  return {
    ...npm(),
    tool: "container",
    ecosystem: "podman",
    operation: "pull",
    target_type: "image",
    target: IMAGE,
    targets: [IMAGE],
    exact_targets: [IMAGE],
    target_version: IMAGE_DIGEST,
    source_registry: "docker.io",
    command_preview: ["podman", "pull", IMAGE],
    transaction: [
      entry("docker.io/library/app", {
        ...{ architecture: "amd64", action: "install", from_version: null, to_version: IMAGE_DIGEST },
        ...{ origin: "docker.io", archive: null, sha256: "a".repeat(64), sources: [] },
      }),
    ],
    image: {
      ...{ platform: "linux/amd64", user: "app", starts_as_root: false, entrypoint: ["/app"], command: [] },
      ...{ exposed_ports: [], volumes: [], labels: {}, created: null },
    },
    published_at: null,
    provenance_evidence: [{ kind: "image-digest", subject: IMAGE, verified: true, key: null, detail: "" }],
    raw_evidence: { commands: [command("podman", "--version")] },
    ...change,
  };
}

export function npm(change: Partial<OperationPlan> = {}): OperationPlan {
  return {
    ...BASE,
    tool: "npm",
    ecosystem: "npm",
    operation: "install",
    target: "left-pad@1.3.0",
    targets: ["left-pad@1.3.0"],
    exact_targets: ["left-pad@1.3.0"],
    target_version: "1.3.0",
    source_registry: "https://registry.npmjs.org/",
    command_preview: [
      "npm",
      "install",
      "--global",
      "--prefix",
      "/var/lib/aegis/npm-global",
      "left-pad@1.3.0",
    ],
    transaction: [
      entry("left-pad", {
        architecture: "all",
        action: "install",
        from_version: null,
        to_version: "1.3.0",
        origin: "registry.npmjs.org",
        archive: null,
        sha256: null,
        sources: [],
      }),
    ],
    published_at: "2018-04-09T01:10:45.000Z",
    repository_evidence: [],
    provenance_evidence: [
      { kind: "npm-integrity", subject: "left-pad@1.3.0", verified: true, key: "k", detail: "sha512-…" },
      { kind: "npm-registry-signature", subject: "left-pad@1.3.0", verified: true, key: "k", detail: "" },
    ],
    raw_evidence: { commands: [command("npm", "view", "left-pad@1.3.0", "--json")] },
    ...change,
  };
}

export function vulnerability(
  change: Partial<OperationPlan["vulnerability_evidence"][number]> = {},
): OperationPlan["vulnerability_evidence"][number] {
  return {
    package: "hello",
    version: "1.0-2",
    matched_version: null,
    applies_to: "new",
    id: "CVE-2026-0001",
    aliases: [],
    severity: "critical",
    fixed_version: null,
    data_source: "osv",
    data_age_days: 1,
    ...change,
  };
}

/** A favourable review of the plan whose hash is all zeros. */
export function review(change: Partial<AiReview> = {}): AiReview {
  return {
    schema_version: "1.0",
    plan_id: BASE.plan_id,
    plan_hash: "0".repeat(64),
    model: "m",
    prompt_hash: "f".repeat(64),
    created_at: "2026-01-02T03:05:00Z",
    ...VERDICT,
    summary: "fine",
    ...change,
  };
}
