import { aptName } from "./apt-argv.ts";
import type { Control, Decision } from "./doc.ts";
import { isFetched } from "./doc-plan.ts";
import type { PolicyConfig } from "./policy-config.ts";
import {
  type ArtifactTool,
  artifactSettings,
  atLeast,
  commandsThat,
  concerns,
  type Facts,
  isGrave,
  isIdle,
  isOperation,
  isPinned,
  isPublishedFor,
  isRequested,
  isTrustedReview,
  nameOf,
  needsCommands,
  packages,
  registries,
  scriptsThat,
  untrustedPackages,
  unverifiedTargets,
  vulnerabilities,
} from "./policy-facts.ts";
import { isCritical } from "./policy-packages.ts";
import { scanScript } from "./policy-scripts.ts";

/*
 * The policy as data. Adding a rule is one row. Every row is judged; the strictest decision wins, and reasons
 * are reported in the order of the table.
 */

export interface Rule {
  id: string;
  looks_at:
    | "targets"
    | "command"
    | "metadata"
    | "transaction"
    | "repositories"
    | "vulnerabilities"
    | "scripts"
    | "artifact"
    | "operation"
    | "review";
  /** Fixed, or as the configuration says. */
  decision: Decision | ((config: PolicyConfig) => Decision);
  reason: string;
  /** Said instead where the configuration makes a denial of it. */
  denial?: string;
  /** Needed besides the control that the decision itself brings. */
  control?: Control;
  /** Whether the rule applies, or a list of what it applies to: it applies when the list is not empty. */
  fires(facts: Facts): boolean | string[];
}

const SHELL_SAFE = /^[A-Za-z0-9_@%+=:,./~^-]*$/;

/** Rules that forbid, or ask for more than the operation itself does. */
const RESTRICTIONS: readonly Rule[] = [
  {
    id: "target-invalid",
    looks_at: "targets",
    decision: "deny",
    reason: "a target does not fit its ecosystem's grammar",
    fires: (f) => f.targets.invalid,
  },
  {
    id: "target-denied",
    looks_at: "targets",
    decision: "deny",
    reason: "target source or evidence is denied",
    fires: (f) => [...f.targets.denied, ...f.plan.denied_targets].map((d) => `${d.target} (${d.signal})`),
  },
  {
    id: "command-metacharacters",
    looks_at: "command",
    decision: "deny",
    reason: "command preview contains shell metacharacters",
    fires: (f) => !f.plan.command_preview.every((word) => SHELL_SAFE.test(word)),
  },
  {
    id: "metadata-command-failed",
    looks_at: "metadata",
    decision: "deny",
    reason: "a command that planning relies on failed",
    fires: (f) => commandsThat(f, "failed", "timeout", "truncated"),
  },
  {
    id: "metadata-not-understood",
    looks_at: "metadata",
    decision: "deny",
    reason: "the tool is there, but what it says of the targets is not usable",
    fires: (f) =>
      !f.plan.metadata_available && f.targets.denied.length === 0 && commandsThat(f, "missing").length === 0,
  },
  {
    id: "apt-essential-removal",
    looks_at: "transaction",
    decision: "deny",
    reason: "an essential or protected package would be removed",
    fires: (f) => packages(f, (e) => e.action === "remove" && e.essential),
  },
  {
    id: "apt-removal",
    looks_at: "transaction",
    decision: (config) => (config.apt.allow_removals ? "require_human" : "deny"),
    reason: "packages would be removed that nobody asked to remove",
    fires: (f) => packages(f, (e) => e.action === "remove" && !isRequested(f, e)),
  },
  {
    id: "apt-downgrade",
    looks_at: "transaction",
    decision: (config) => (config.apt.allow_downgrades ? "require_human" : "deny"),
    reason: "packages would be downgraded, and not to undo an execution",
    fires: (f) => packages(f, (e) => e.action === "downgrade" && !isRequested(f, e)),
  },
  {
    id: "apt-configure-elsewhere",
    looks_at: "transaction",
    decision: "deny",
    reason: "a repair only configures what is unpacked, and nothing else does; the plan says otherwise",
    fires: (f) => packages(f, (e) => (e.action === "configure") !== isOperation(f, "repair")),
  },
  {
    id: "apt-source-conflict",
    looks_at: "repositories",
    decision: "deny",
    reason: "package sources offer one version with different contents",
    fires: (f) =>
      f.plan.provenance_evidence.filter((p) => p.kind === "apt-source-conflict").map((p) => p.subject),
  },
  {
    id: "apt-repository-untrusted",
    looks_at: "repositories",
    decision: "deny",
    reason: "untrusted or weakly pinned package repository",
    fires: untrustedPackages,
  },
  {
    id: "apt-hash-unknown",
    looks_at: "transaction",
    decision: "deny",
    reason: "a package file's SHA-256 is not known, so it could not be checked before unpacking",
    fires: (f) => packages(f, (e) => isFetched(e) && e.sha256 === null),
  },
  {
    id: "vulnerability-denied",
    looks_at: "vulnerabilities",
    decision: "deny",
    reason: "a version to be installed has a vulnerability as severe as the policy denies",
    fires: (f) => vulnerabilities(f, (severity) => atLeast(severity, f.config.vulnerability.deny)),
  },
  {
    id: "script-downloads-and-runs",
    looks_at: "scripts",
    decision: "deny",
    reason: "a script combines a download with shell execution",
    fires: (f) => scriptsThat(f, (body) => scanScript(body).downloadAndExecute),
  },
  {
    id: "script-obfuscated",
    looks_at: "scripts",
    decision: "deny",
    reason: "a script is obfuscated",
    fires: (f) => scriptsThat(f, (body) => scanScript(body).obfuscated),
  },
  {
    id: "artifact-mutable",
    looks_at: "artifact",
    decision: "deny",
    reason: "a target is not pinned to one exact version",
    fires: (f) => artifactSettings(f) !== null && !isPinned(f),
  },
  {
    id: "artifact-unverified",
    looks_at: "artifact",
    decision: "deny",
    reason: "no signature or checksum of the artifact was verified",
    fires: (f) => artifactSettings(f) !== null && unverifiedTargets(f, () => true),
  },
  {
    id: "artifact-registry",
    looks_at: "artifact",
    decision: "deny",
    reason: "a registry is not in allowed_registries",
    fires: (f) => {
      const allowed = artifactSettings(f)?.allowed_registries;
      return allowed !== undefined && registries(f).filter((host) => !allowed.includes(host));
    },
  },
  {
    id: "artifact-too-new",
    looks_at: "artifact",
    decision: "deny",
    reason: "the version was published less than minimum_age_days ago, or nobody knows when",
    fires: (f) => {
      const days = artifactSettings(f)?.minimum_age_days ?? 0;
      return days > 0 && !isPublishedFor(f, days);
    },
  },
  {
    id: "artifact-provenance",
    looks_at: "artifact",
    decision: "deny",
    reason: "require_provenance is set and no attestation of how it was built was verified",
    fires: (f) =>
      artifactSettings(f)?.require_provenance === true &&
      unverifiedTargets(f, (kind) => kind.endsWith("-attestation")),
  },
  {
    id: "kernel-change",
    looks_at: "transaction",
    decision: "require_human",
    reason: "the kernel would change",
    control: "system snapshot",
    fires: (f) => packages(f, (e) => isCritical("kernel", f.plan.tool, e.name)),
  },
  {
    id: "bootloader-change",
    looks_at: "transaction",
    decision: "require_human",
    reason: "what the machine starts with would change",
    control: "system snapshot",
    fires: (f) => packages(f, (e) => isCritical("boot loader", f.plan.tool, e.name)),
  },
  {
    id: "security-sensitive",
    looks_at: "transaction",
    decision: "require_human",
    reason: "security-sensitive packages would change",
    fires: (f) =>
      packages(f, (e) =>
        isCritical("security-sensitive", f.plan.tool, e.name, f.config.apt.sensitive_packages),
      ),
  },
  {
    id: "apt-upgrade-installs",
    looks_at: "transaction",
    decision: "require_human",
    reason: "the upgrade would install new packages",
    fires: (f) => isOperation(f, "upgrade") && packages(f, (e) => e.action === "install"),
  },
  {
    id: "apt-held-change",
    looks_at: "transaction",
    decision: "require_human",
    reason: "packages on hold would change",
    fires: (f) => {
      const held = new Set(f.plan.packages_held_back);
      return packages(f, (e) => held.has(aptName(nameOf(e), e.architecture, f.plan.host.architecture)));
    },
  },
  {
    id: "apt-update-changes",
    looks_at: "transaction",
    decision: "deny",
    reason: "an update changes no package, but the plan says that it would change",
    fires: (f) => isOperation(f, "update") && packages(f, () => true),
  },
  {
    // Not a denial by the sources' trust: on a fresh host nothing is verified before the first update.
    id: "apt-update-unauthenticated",
    looks_at: "repositories",
    decision: "require_human",
    reason: "the update would read sources whose signature apt is told not to check",
    fires: (f) =>
      isOperation(f, "update") &&
      f.plan.repository_evidence.filter((s) => s.trusted_option || s.allow_insecure).map((s) => s.id),
  },
  {
    id: "lifecycle-scripts",
    looks_at: "scripts",
    decision: "require_human",
    reason: "the package carries scripts for the package manager to run",
    fires: (f) => f.plan.scripts_detected || f.plan.scripts.length > 0,
  },
  {
    id: "build-hooks",
    looks_at: "artifact",
    decision: "require_human",
    reason: "code of the package runs while it is built",
    fires: (f) => f.plan.build_hooks_detected,
  },
  {
    id: "native-code",
    looks_at: "artifact",
    decision: "require_human",
    reason: "the package compiles or loads native code",
    fires: (f) => f.plan.native_code_risk,
  },
  {
    id: "bundled-binaries",
    looks_at: "artifact",
    decision: "require_human",
    reason: "the package carries or downloads binaries",
    fires: (f) => f.plan.binary_artifact_risk,
  },
  {
    id: "metadata-missing",
    looks_at: "metadata",
    decision: "require_human",
    reason: "the tool that knows about the targets is missing, or the plan holds no evidence of asking it",
    fires: (f) =>
      commandsThat(f, "missing").length > 0 ||
      (needsCommands(f) && f.plan.raw_evidence.commands.length === 0),
  },
  {
    id: "vulnerability-grave",
    looks_at: "vulnerabilities",
    decision: "require_human",
    reason: "a version to be installed has a vulnerability of high or unknown severity, or nobody could say",
    fires: (f) => vulnerabilities(f, isGrave),
  },
];

/** What an operation needs by itself. An operation without a row here is not allowed. */
const OPERATIONS: readonly Rule[] = [
  {
    id: "nothing-to-do",
    looks_at: "operation",
    decision: "allow",
    reason: "the host is already as asked for",
    fires: isIdle,
  },
  {
    id: "apt-install",
    looks_at: "operation",
    decision: (config) => config.apt.install,
    reason: "apt install changes the system",
    denial: "the policy denies apt install ([apt] install)",
    fires: (f) => isOperation(f, "install") && !isIdle(f),
  },
  {
    id: "apt-upgrade",
    looks_at: "operation",
    decision: (config) => config.apt.upgrade,
    reason: "apt upgrade changes the system",
    denial: "the policy denies apt upgrade ([apt] upgrade)",
    fires: (f) => isOperation(f, "upgrade") && !isIdle(f),
  },
  {
    id: "apt-update",
    looks_at: "operation",
    decision: (config) => config.apt.update,
    reason: "apt update reads the package lists again",
    denial: "the policy denies apt update ([apt] update)",
    fires: (f) => isOperation(f, "update"),
  },
  {
    id: "apt-remove",
    looks_at: "operation",
    decision: "require_human",
    reason: "apt remove takes packages off the system",
    fires: (f) => isOperation(f, "remove") && !isIdle(f),
  },
  {
    id: "apt-rollback",
    looks_at: "operation",
    decision: "require_human",
    reason: "a rollback undoes an execution",
    fires: (f) => isOperation(f, "rollback") && !isIdle(f),
  },
  {
    id: "apt-repair",
    looks_at: "operation",
    decision: "require_human",
    reason: "a repair runs the maintainer scripts that were left over",
    fires: (f) => isOperation(f, "repair") && !isIdle(f),
  },
  artifactRule("npm"),
  artifactRule("pip"),
  artifactRule("container"),
  artifactRule("nuget"),
  artifactRule("vscode"),
  artifactRule("go"),
  artifactRule("cargo"),
];

function artifactRule(tool: ArtifactTool): Rule {
  return {
    id: `${tool}-apply`,
    looks_at: "operation",
    decision: (config) => config[tool].apply,
    reason: `artifacts are applied as [${tool}] apply says`,
    denial: `the policy denies ${tool} artifacts ([${tool}] apply)`,
    fires: (f) => f.plan.tool === tool && !isIdle(f),
  };
}

/** A review only ever adds to what the other rules say. */
const REVIEW: readonly Rule[] = [
  {
    id: "review-missing",
    looks_at: "review",
    decision: "require_human",
    reason: "the policy requires a review signed by one of its [review] public_keys",
    fires: (f) => f.config.review.required && !isTrustedReview(f),
  },
  {
    id: "review-denies",
    looks_at: "review",
    decision: "deny",
    reason: "the review advises against it",
    fires: (f) => f.review?.risk === "deny" || f.review?.recommendation === "deny",
  },
  {
    id: "review-wants-human",
    looks_at: "review",
    decision: "require_human",
    reason: "the review calls for a person",
    fires: (f) => f.review !== null && concerns(f.review),
  },
  {
    id: "review-wants-snapshot",
    looks_at: "review",
    decision: "allow_with_snapshot",
    reason: "the review calls for a snapshot",
    fires: (f) =>
      f.review?.recommendation === "approve_with_snapshot" ||
      f.review?.required_controls.includes("system snapshot") === true,
  },
];

/** What is neither forbidden nor foreseen is for a person to decide. */
const UNDECIDED: Rule = {
  id: "undecided",
  looks_at: "operation",
  decision: "require_human",
  reason: "no rule allows this operation",
  fires: (f) => !OPERATIONS.some((rule) => rule.fires(f) === true),
};

/** Every rule, in the order in which reasons are reported. */
export const RULES: readonly Rule[] = [...RESTRICTIONS, ...OPERATIONS, UNDECIDED, ...REVIEW];
