import { type ArtifactTool, isIdle, isOperation } from "./policy-facts.ts";
import type { Rule } from "./policy-rule.ts";

/*
 * What an operation needs by itself.
 */

/** An operation without a row here is not allowed. */
export const OPERATIONS: readonly Rule[] = [
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

/** What is neither forbidden nor foreseen is for a person to decide. */
export const UNDECIDED: Rule = {
  id: "undecided",
  looks_at: "operation",
  decision: "require_human",
  reason: "no rule allows this operation",
  fires: (f) => !OPERATIONS.some((rule) => rule.fires(f) === true),
};
