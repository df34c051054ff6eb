import type { AiReview, Control, Decision } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { PolicyConfig } from "./policy-config.ts";
import type { JudgedTargets } from "./policy-targets.ts";

/*
 * The type of a rule and its input. The rules are in policy-rules-*.ts by subject, their order in policy-rules.ts.
 */

/** Everything a decision depends on. */
export interface Facts {
  plan: OperationPlan;
  config: PolicyConfig;
  targets: JudgedTargets;
  /** A review of this plan. */
  review: AiReview | null;
}

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
  /** Fixed, or set by the configuration. */
  decision: Decision | ((config: PolicyConfig) => Decision);
  reason: string;
  /** The reason if the configuration makes the decision a denial. */
  denial?: string;
  /** Required in addition to the decision's own control. */
  control?: Control;
  /** Whether the rule applies, or what it applies to; an empty list means that it does not. */
  fires(facts: Facts): boolean | string[];
}
