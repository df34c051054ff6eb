import * as v from "valibot";
import type { Json } from "./canonical.ts";
import { LegacyExecutionPlan } from "./doc.ts";

export type LegacyExecution = v.InferOutput<typeof LegacyExecutionPlan>;

/**
 * Whether a tree is an execution plan in the 0.2.x format: signed the same way, but without host, transaction or policy
 * configuration. Its signature can be checked, but it is never run.
 */
export function isLegacy(tree: Json): tree is LegacyExecution & { [key: string]: Json } {
  if (!v.is(LegacyExecutionPlan, tree)) return false;
  const { operation_plan: plan } = tree;
  return !("policy_config_hash" in tree && "host" in plan && "transaction" in plan);
}
