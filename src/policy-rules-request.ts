import { commandsThat, needsCommands } from "./policy-facts.ts";
import type { Rule } from "./policy-rule.ts";

/*
 * Rules about what was asked for, and about what planning found out about it.
 */

const SHELL_SAFE = /^[A-Za-z0-9_@%+=:,./~^-]*$/;

/** Requests that are denied whatever the package is. */
export const REQUEST_DENIED: readonly Rule[] = [
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
];

/** Nothing is known of the targets, for want of the tool. */
export const METADATA_MISSING: Rule = {
  id: "metadata-missing",
  looks_at: "metadata",
  decision: "require_human",
  reason: "the tool that knows about the targets is missing, or the plan holds no evidence of asking it",
  fires: (f) =>
    commandsThat(f, "missing").length > 0 || (needsCommands(f) && f.plan.raw_evidence.commands.length === 0),
};
