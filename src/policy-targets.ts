import type { DeniedTarget, OperationPlan } from "./doc-plan.ts";
import { type Grammars, TABLE } from "./eco-table.ts";
import { AegisError } from "./errors.ts";

/** What a plan's targets are by their ecosystem's grammar, whatever the plan itself says of them. */
export interface JudgedTargets {
  denied: DeniedTarget[];
  /** Why targets are none, one sentence each. */
  invalid: string[];
  /** Some target leaves open which version it means, where its grammar can tell. */
  mutable: boolean;
}

/**
 * Judges a plan's targets again. A plan is a claim by whoever wrote it: its own `denied_targets` may have
 * been taken out, or its targets put in without ever having been parsed.
 */
export function judgeTargets(plan: OperationPlan, grammars: Grammars = TABLE): JudgedTargets {
  const grammar = grammars[plan.tool]?.grammar;
  const judged: JudgedTargets = { denied: [], invalid: [], mutable: false };
  if (grammar === undefined) {
    judged.invalid.push(`${plan.tool} targets can't be checked by this version`);
    return judged;
  }
  try {
    const { targets, denied } = grammar.parseTargets(plan.operation, plan.targets);
    judged.denied = denied;
    if (targets.join("\n") !== plan.targets.join("\n"))
      judged.invalid.push("targets are not as a plan writes them");
    const names = new Set(denied.map((d) => d.target));
    judged.mutable = targets.some((target) => !names.has(target) && !grammar.isExact(target));
  } catch (error) {
    if (!(error instanceof AegisError) || error.code !== "invalid_target") throw error;
    judged.invalid.push(error.message);
  }
  if (plan.target !== plan.targets.join(" ")) judged.invalid.push("target and targets differ");
  return judged;
}
