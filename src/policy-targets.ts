import type { DeniedTarget, OperationPlan } from "./doc-plan.ts";
import { type Grammars, TABLE } from "./eco-table.ts";
import { EXECUTION } from "./eco-target.ts";
import { AegisError } from "./errors.ts";

/** A plan's targets as its ecosystem's grammar sees them, whatever the plan itself claims. */
export interface JudgedTargets {
  denied: DeniedTarget[];
  /** Why targets are invalid, one sentence each. */
  invalid: string[];
  /** Whether some target does not name an exact version, as far as the grammar can tell. */
  mutable: boolean;
}

/**
 * Parses a plan's targets again. A plan is only a claim: its `denied_targets` may have been removed, or targets added that
 * were never parsed.
 */
export function judgeTargets(plan: OperationPlan, grammars: Grammars = TABLE): JudgedTargets {
  const grammar = grammars[plan.tool]?.grammar;
  const judged: JudgedTargets = { denied: [], invalid: [], mutable: false };
  if (grammar === undefined) {
    judged.invalid.push(`${plan.tool} targets can't be checked by this version`);
    return judged;
  }
  try {
    const { targets, denied, targetType } = grammar.parseTargets(plan.operation, plan.targets);
    judged.denied = denied;
    if (targets.join("\n") !== plan.targets.join("\n")) judged.invalid.push("targets are not in normal form");
    const names = new Set(denied.map((d) => d.target));
    // An execution is one, whatever the ecosystem's versions look like.
    judged.mutable =
      targetType !== EXECUTION && targets.some((target) => !names.has(target) && !grammar.isExact(target));
  } catch (error) {
    if (!(error instanceof AegisError) || error.code !== "invalid_target") throw error;
    judged.invalid.push(error.message);
  }
  if (plan.target !== plan.targets.join(" ")) judged.invalid.push("target and targets differ");
  return judged;
}
