import { bringsBack } from "./doc-evidence.ts";
import { TOOLS } from "./doc-plan.ts";
import { type AptOperation, type ArtifactTool, isIdle, isOperation } from "./policy-facts.ts";
import type { Rule } from "./policy-rule.ts";

/*
 * Rules about the operation: what each one requires even if no other rule fires.
 */

/** An operation without a row here is left to a person. */
export const OPERATIONS: readonly Rule[] = [
  {
    id: "nothing-to-do",
    looks_at: "operation",
    decision: "allow",
    reason: "the host is already in the requested state",
    fires: isIdle,
  },
  byConfiguration("install", "apt install changes the system"),
  byConfiguration("upgrade", "apt upgrade changes the system"),
  {
    ...byPerson("security-upgrade", "a security upgrade changes the system"),
    decision: (config) => config.apt.upgrade,
    denial: "the policy denies upgrades ([apt] upgrade)",
  },
  byConfiguration("update", "apt update downloads the package lists again"),
  byPerson("remove", "apt remove removes packages from the system"),
  byPerson("full-upgrade", "a full upgrade may install and remove packages to upgrade others"),
  byPerson("autoremove", "autoremove removes packages that nobody named"),
  byPerson("purge", "a purge deletes configuration and data, which no rollback brings back"),
  byPerson("rollback", "a rollback undoes an earlier execution"),
  byPerson("repair", "a repair runs maintainer scripts that have not finished"),
  byPerson("hold", "a hold keeps security updates of a package away"),
  byPerson("unhold", "somebody put these packages on hold for a reason"),
  byPerson("add-repository", "a repository would be added, from which later plans may install packages"),
  byPerson("remove-repository", "a repository would be removed, and its packages get no updates any more"),
  {
    id: "managed-rollback",
    looks_at: "operation",
    decision: "require_human",
    reason: "a rollback brings back what an execution replaced in a managed directory",
    fires: (f) => bringsBack(f.plan) && !isIdle(f),
  },
  ...TOOLS.filter((tool) => tool !== "apt" && tool !== "services").map(artifactRule),
  {
    id: "services-restart",
    looks_at: "operation",
    decision: (config) => config.services.restart,
    reason: "a restart ends what services are doing, and starts them anew",
    denial: "the policy denies restarts of services ([services] restart)",
    fires: (f) => f.plan.tool === "services" && !isIdle(f),
  },
];

function byConfiguration(operation: "install" | "upgrade" | "update", reason: string): Rule {
  return {
    ...byPerson(operation, reason),
    decision: (config) => config.apt[operation],
    denial: `the policy denies apt ${operation} ([apt] ${operation})`,
  };
}

/** Always for a person to decide. */
function byPerson(operation: AptOperation, reason: string): Rule {
  return {
    id: `apt-${operation}`,
    looks_at: "operation",
    decision: "require_human",
    reason,
    fires: (f) => isOperation(f, operation) && !isIdle(f),
  };
}

function artifactRule(tool: ArtifactTool): Rule {
  return {
    id: `${tool}-apply`,
    looks_at: "operation",
    decision: (config) => config[tool].apply,
    reason: `[${tool}] apply decides about ${tool} packages`,
    denial: `the policy denies ${tool} packages; [${tool}] apply = "require_human" leaves them to a person`,
    fires: (f) => f.plan.tool === tool && !bringsBack(f.plan) && !isIdle(f),
  };
}

/** An operation that no rule above covers is for a person to decide. */
export const UNDECIDED: Rule = {
  id: "undecided",
  looks_at: "operation",
  decision: "require_human",
  reason: "no rule allows this operation",
  fires: (f) => !OPERATIONS.some((rule) => rule.fires(f) === true),
};
