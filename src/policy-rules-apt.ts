import { aptName, madeSubject } from "./apt-argv.ts";
import {
  isOfDistribution,
  isSecurityUpdate,
  KEPT_FILE,
  RUNNING_KERNEL,
  releaseTime,
} from "./doc-evidence.ts";
import { isFetched, isMark, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import type { RepositoryEvidence } from "./doc-plan-evidence.ts";
import { SYSTEM } from "./paths.ts";
import type { PolicyConfig } from "./policy-config.ts";
import {
  changedPackages,
  entriesOfApt,
  isOperation,
  isRequested,
  MS_PER_DAY,
  nameOf,
  packages,
} from "./policy-facts.ts";
import { isCritical } from "./policy-packages.ts";
import type { Facts, Rule } from "./policy-rule.ts";
import { plural } from "./terminal.ts";

/*
 * Rules about the packages of an apt transaction and where they come from.
 */

/** Denied. The configuration can hand removals and downgrades to a person instead. */
export const APT_DENIED: readonly Rule[] = [
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
    reason: "packages would be downgraded other than to undo an execution",
    fires: (f) => packages(f, (e) => e.action === "downgrade" && !isRequested(f, e)),
  },
  {
    id: "apt-running-kernel-removal",
    looks_at: "transaction",
    decision: "deny",
    reason:
      "packages of the running kernel would be removed, and without its modules the host may not work or boot",
    fires: (f) => f.plan.provenance_evidence.filter((p) => p.kind === RUNNING_KERNEL).map((p) => p.subject),
  },
  {
    id: "apt-autoremove-else",
    looks_at: "transaction",
    decision: "deny",
    reason: "autoremove only removes, but this plan would do something else",
    fires: (f) => isOperation(f, "autoremove") && packages(f, (e) => e.action !== "remove"),
  },
  {
    id: "apt-configure-elsewhere",
    looks_at: "transaction",
    decision: "deny",
    reason:
      "a repair configures unpacked packages and does nothing else, and no other operation only configures",
    fires: (f) => packages(f, (e) => (e.action === "configure") !== isOperation(f, "repair")),
  },
  {
    id: "apt-hold-elsewhere",
    looks_at: "transaction",
    decision: "deny",
    reason: "a change of holds does nothing else, and no other operation but its rollback changes holds",
    fires: (f) => {
      const { operation, transaction } = f.plan;
      if (operation === "hold" || operation === "unhold") return packages(f, (e) => e.action !== operation);
      const isAlone = operation === "rollback" && transaction.every(isMark);
      return isAlone ? [] : packages(f, isMark);
    },
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
    reason: "a package file's SHA-256 is not known, so the file could not be verified before it is unpacked",
    fires: (f) => packages(f, (e) => isFetched(e) && e.sha256 === null),
  },
  {
    id: "apt-too-new",
    looks_at: "transaction",
    decision: "deny",
    reason:
      "a version has not been known for minimum_age_days, and is no security update of the distribution; wait, or name an older version",
    fires: tooNew,
  },
];

/**
 * Names of the packages whose version to be installed is offered by an untrusted source. One trusted source among several
 * is not enough, since apt may fetch from any of them and believes each source's hashes.
 */
function untrustedPackages(f: Facts): string[] {
  const trusted = new Map<string, boolean>();
  for (const source of f.plan.repository_evidence) {
    trusted.set(source.id, (trusted.get(source.id) ?? true) && isTrusted(source, f.config));
  }
  return packages(f, (e) => {
    const isVouchedFor = e.sources.length > 0 && e.sources.every((id) => trusted.get(id) === true);
    return isFetched(e) && !isVouchedFor && !isKeptByAegis(f, e);
  });
}

/** Whether a rollback brings the file back that an execution had verified and installed. */
function isKeptByAegis(f: Facts, entry: TransactionEntry): boolean {
  const subject = madeSubject(entry);
  const isSaid = f.plan.provenance_evidence.some(
    (p) => p.kind === KEPT_FILE && p.verified && p.subject === subject,
  );
  return isSaid && isRequested(f, entry) && entry.sources.length === 1 && entry.sources[0] === SYSTEM.kept;
}

/** Whether a source is trusted, by its pinned key or by the policy's URI and key. Its signature must have been verified. */
function isTrusted(source: RepositoryEvidence, config: PolicyConfig): boolean {
  if (!source.signature_verified) return false;
  const keys = source.key_fingerprints.map((key) => key.toUpperCase());
  const uri = withoutSlash(source.uri);
  const named = config.apt.trusted_origins.some(
    (origin) => withoutSlash(origin.uri) === uri && keys.includes(origin.fingerprint),
  );
  const isSnapshot =
    source.trust === "snapshot" && config.apt.snapshot_services.includes(source.snapshot?.service ?? "");
  const pinned = source.trust === "distribution" || source.trust === "pinned" || isSnapshot;
  return named || (pinned && !source.trusted_option && !source.allow_insecure);
}

function withoutSlash(uri: string): string {
  return uri.replace(/\/+$/, "");
}

/** Versions that nothing proves to be old enough. What an execution had installed before, its rollback may bring back. */
function tooNew(f: Facts): string[] {
  const days = f.config.apt.minimum_age_days;
  const { plan } = f;
  if (days === 0) return [];
  const now = Date.parse(plan.created_at);
  return entriesOfApt(f).flatMap((entry) => {
    if (!isFetched(entry) || isSecurityUpdate(entry, plan.repository_evidence) || isRequested(f, entry))
      return [];
    const { since, how } = knownSince(entry, plan, now);
    const age = since === null ? null : Math.floor((now - since) / MS_PER_DAY);
    if (age !== null && age >= days) return [];
    const told = age === null ? how : `${how}: ${plural(Math.max(0, age), "day")} of ${days}`;
    return [`${nameOf(entry)} ${entry.to_version} (${told})`];
  });
}

/**
 * The latest moment at which a file may have appeared, the earlier of two: the end of the day on which the monitor first saw it, and
 * the date of the distribution's own Release files that lead to it. Only the distribution's: others could date their own back. A day
 * still to come proves nothing, since a clock is wrong.
 */
function knownSince(
  entry: TransactionEntry,
  { first_seen, repository_evidence }: OperationPlan,
  now: number,
): { since: number | null; how: string } {
  const day = first_seen?.[madeSubject(entry)] ?? null;
  const seen = day === null ? null : Date.parse(day);
  const isToCome = seen !== null && seen > now;
  const dates = repository_evidence
    .filter((one) => entry.sources.includes(one.id) && isOfDistribution(one))
    .flatMap((one) => releaseTime(one.release_date ?? "") ?? []);
  const ends = seen === null || isToCome ? dates : [...dates, seen + MS_PER_DAY];
  const since = ends.length === 0 ? null : Math.min(...ends);
  if (isToCome && since === null)
    return { since, how: `first seen on ${day}, still to come: a clock is or was wrong` };
  const isSeen = seen !== null && since === seen + MS_PER_DAY;
  if (since === null) return { since, how: "nothing tells since when it is known" };
  return {
    since,
    how: isSeen ? `first seen ${day}` : `in an index of ${new Date(since).toISOString().slice(0, 10)}`,
  };
}

function isSensitive({ plan, config }: Facts, { name }: TransactionEntry): boolean {
  return isCritical("security-sensitive", plan.tool, name, config.apt.sensitive_packages);
}

const UPGRADES = ["upgrade", "full-upgrade", "security-upgrade"] as const;

/** Mostly for a person to decide. */
export const APT_SENSITIVE: readonly Rule[] = [
  {
    id: "kernel-change",
    looks_at: "transaction",
    decision: "require_human",
    reason: "the kernel would change",
    control: "system snapshot",
    fires: (f) => changedPackages(f, (e) => isCritical("kernel", f.plan.tool, e.name)),
  },
  {
    id: "bootloader-change",
    looks_at: "transaction",
    decision: "require_human",
    reason: "the boot loader, the initramfs or firmware would change",
    control: "system snapshot",
    fires: (f) => changedPackages(f, (e) => isCritical("boot loader", f.plan.tool, e.name)),
  },
  {
    id: "security-sensitive",
    looks_at: "transaction",
    decision: "require_human",
    reason: "security-sensitive packages would change",
    fires: (f) => changedPackages(f, (e) => isSensitive(f, e)),
  },
  {
    id: "apt-hold-sensitive",
    looks_at: "transaction",
    decision: "require_human",
    reason: "security updates of security-sensitive packages, kernels or boot loaders would stop",
    fires: (f) =>
      packages(
        f,
        (e) =>
          e.action === "hold" &&
          (isSensitive(f, e) ||
            isCritical("kernel", f.plan.tool, e.name) ||
            isCritical("boot loader", f.plan.tool, e.name)),
      ),
  },
  {
    id: "apt-upgrade-installs",
    looks_at: "transaction",
    decision: "require_human",
    reason: "the upgrade would install new packages",
    fires: (f) =>
      UPGRADES.some((operation) => isOperation(f, operation)) && packages(f, (e) => e.action === "install"),
  },
  {
    id: "apt-security-other",
    looks_at: "transaction",
    decision: "require_human",
    reason: "the security upgrade would also change packages in versions that no security pocket offers",
    fires: (f) =>
      isOperation(f, "security-upgrade") &&
      packages(f, (e) => isFetched(e) && !isSecurityUpdate(e, f.plan.repository_evidence)),
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
    reason: "an update changes no packages, but this plan would",
    fires: (f) => isOperation(f, "update") && packages(f, () => true),
  },
  {
    // Looks at the options only: on a fresh host no source is verified before the first update.
    id: "apt-update-unauthenticated",
    looks_at: "repositories",
    decision: "require_human",
    reason: "the update would read sources whose signatures apt is told not to check",
    fires: (f) =>
      isOperation(f, "update") &&
      f.plan.repository_evidence.filter((s) => s.trusted_option || s.allow_insecure).map((s) => s.id),
  },
];
