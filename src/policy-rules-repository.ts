import { repositoryArgv, repositoryPath } from "./apt-repository-argv.ts";
import { canonicalRepository } from "./apt-repository-file.ts";
import { canonicalJson, sha256Hex } from "./canonical.ts";
import { checkedTrust } from "./doc-evidence.ts";
import { type ConfiguredRepository, groupedFingerprint } from "./doc-repository.ts";
import { isIdle, isOperation } from "./policy-facts.ts";
import type { Facts, Rule } from "./policy-rule.ts";

/*
 * Rules about a repository that would be added, replaced or removed. The file in the plan is read again: what the plan says of it may
 * have been changed.
 */

/** Names by which the distributions' own archives go. */
const DISTRIBUTIONS = /\b(?:debian|ubuntu)\b/i;

export const REPOSITORY_DENIED: readonly Rule[] = [
  {
    id: "apt-repository-form",
    looks_at: "repositories",
    decision: "deny",
    reason: "the plan's repository is not one file as Aegis writes it, described as it is",
    fires: formProblems,
  },
  {
    id: "apt-repository-key",
    looks_at: "repositories",
    decision: "deny",
    reason: "the repository's key has expired or was revoked",
    fires: (f) => {
      const key = ownKey(f);
      if (key === null) return [];
      const isOver = key.expires_at !== null && Date.parse(key.expires_at) <= Date.parse(f.plan.created_at);
      return key.revoked || isOver ? [groupedFingerprint(key.fingerprint)] : [];
    },
  },
  {
    id: "apt-repository-unverified",
    looks_at: "repositories",
    decision: "deny",
    reason:
      "the repository's index is not signed by the key that comes with it, or not to be trusted for another reason",
    fires: (f) =>
      added(f)
        .filter((one) => one.release_sha256 !== null && checkedTrust(one) === "untrusted")
        .map(({ id }) => id),
  },
];

export const REPOSITORY_SENSITIVE: readonly Rule[] = [
  {
    id: "apt-repository-unseen",
    looks_at: "repositories",
    decision: "require_human",
    reason: "the repository's index could not be fetched, so whether its key fits is not known",
    fires: (f) =>
      added(f)
        .filter(({ release_sha256 }) => release_sha256 === null)
        .map(({ id }) => id),
  },
  {
    id: "apt-repository-plain-http",
    looks_at: "repositories",
    decision: "require_human",
    reason:
      "the repository is fetched without encryption: others see what this host installs, and can withhold updates",
    fires: (f) =>
      added(f)
        .filter(({ transport }) => transport !== "https")
        .map(({ id }) => id),
  },
  {
    id: "apt-repository-impersonates",
    looks_at: "repositories",
    decision: "require_human",
    reason: "the repository calls itself the distribution's, and is signed by another key",
    fires: (f) =>
      added(f)
        .filter(({ trust, release_origin, release_label }) => {
          const names = `${release_origin ?? ""} ${release_label ?? ""}`;
          return trust !== "distribution" && DISTRIBUTIONS.test(names);
        })
        .map(({ id }) => id),
  },
  {
    id: "apt-repository-key-changes",
    looks_at: "repositories",
    decision: "require_human",
    reason: "a repository of this name is configured, and its key would change",
    fires: ({ plan: { repository: r } }) =>
      r !== undefined &&
      r.before !== null &&
      r.after !== null &&
      (r.previous_key === null || r.previous_key.fingerprint !== r.key?.fingerprint),
  },
  {
    id: "apt-repository-key-weak",
    looks_at: "repositories",
    decision: "require_human",
    reason: "the repository's key is weak by today's measure",
    fires: (f) => ownKey(f)?.weak ?? [],
  },
];

/** The sources that a plan adds. */
function added(f: Facts) {
  return isOperation(f, "add-repository") && !isIdle(f) ? f.plan.repository_evidence : [];
}

/** The key in the file itself. */
function ownKey({ plan: { repository } }: Facts) {
  if (repository?.after == null) return null;
  return canonicalRepository(repository.name, repository.after)?.key.key ?? null;
}

/** What is wrong with the part of the plan that says what is written. */
function formProblems(f: Facts): string[] {
  const { repository: change, operation, tool, targets, command_preview, transaction } = f.plan;
  const adds = isOperation(f, "add-repository");
  const removes = isOperation(f, "remove-repository");
  if (change === undefined) {
    const isMissing = (adds || removes) && !isIdle(f) && f.plan.metadata_available;
    return isMissing ? ["it has none"] : [];
  }
  const isUndone = isOperation(f, "rollback");
  if (!adds && !removes && !isUndone) return [`${tool} ${operation} changes no repository`];
  const file = change.after === null ? null : canonicalRepository(change.name, change.after);
  return [
    ...(transaction.length > 0 ? ["it changes packages too"] : []),
    ...((isUndone ? [] : [change.name]).every((name) => targets.length === 1 && targets[0] === name)
      ? []
      : ["it is of another name than was asked for"]),
    ...(change.path === repositoryPath(change.name) ? [] : ["it is written elsewhere"]),
    ...(describes(change) ? [] : ["its digests or keys are not those of its text"]),
    ...(adds && file === null ? ["its text is not as Aegis writes it"] : []),
    ...(removes && change.after !== null ? ["a removal leaves a file"] : []),
    ...(isArgvOf(change, command_preview) ? [] : ["its command is another"]),
  ];
}

function describes(change: ConfiguredRepository): boolean {
  const digest = (text: string | null) => (text === null ? null : sha256Hex(text));
  const keyIn = (text: string | null) =>
    text === null ? null : (canonicalRepository(change.name, text)?.key.key ?? null);
  return (
    digest(change.before) === change.before_sha256 &&
    digest(change.after) === change.after_sha256 &&
    canonicalJson(keyIn(change.before)) === canonicalJson(change.previous_key) &&
    canonicalJson(keyIn(change.after)) === canonicalJson(change.key)
  );
}

function isArgvOf(change: ConfiguredRepository, preview: readonly string[]): boolean {
  if (change.before_sha256 === null && change.after_sha256 === null) return false;
  return repositoryArgv(change).join("\n") === preview.join("\n");
}
