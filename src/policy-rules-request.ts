import { commandsThat, needsCommands } from "./policy-facts.ts";
import type { Rule } from "./policy-rule.ts";

/*
 * Rules about the request itself, and about whether planning found enough to decide about it.
 */

const SHELL_SAFE = /^[A-Za-z0-9_@%+=:,./~^-]*$/;

/** Denied, whatever the package is. */
export const REQUEST_DENIED: readonly Rule[] = [
  {
    id: "target-invalid",
    looks_at: "targets",
    decision: "deny",
    reason: "a target is not valid in its ecosystem",
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
    reason: "a command that planning depends on failed",
    fires: (f) => commandsThat(f, "failed", "timeout", "truncated"),
  },
  {
    id: "metadata-not-understood",
    looks_at: "metadata",
    decision: "deny",
    reason: "planning got no usable answer about the targets; the plan's warnings say why",
    fires: (f) =>
      !f.plan.metadata_available && f.targets.denied.length === 0 && commandsThat(f, "missing").length === 0,
  },
];

/** For a person to decide: planning could not ask the package manager. */
export const METADATA_MISSING: Rule = {
  id: "metadata-missing",
  looks_at: "metadata",
  decision: "require_human",
  reason: "the package manager is missing, or the plan has no evidence that it was asked",
  fires: (f) =>
    commandsThat(f, "missing").length > 0 || (needsCommands(f) && f.plan.raw_evidence.commands.length === 0),
};
