import type { AiReview, Control, Decision } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { PolicyConfig } from "./policy-config.ts";
import type { JudgedTargets } from "./policy-targets.ts";

/*
 * What a rule is, and what it may look at. The rules are in policy-rules-*.ts by subject, their order in policy-rules.ts.
 */

/** Everything a decision depends on. */
export interface Facts {
  plan: OperationPlan;
  config: PolicyConfig;
  targets: JudgedTargets;
  /** Of this very plan. */
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
  /** Fixed, or as the configuration says. */
  decision: Decision | ((config: PolicyConfig) => Decision);
  reason: string;
  /** Said instead where the configuration makes a denial of it. */
  denial?: string;
  /** Needed besides the control that the decision itself brings. */
  control?: Control;
  /** Whether the rule applies, or a list of what it applies to: it applies when the list is not empty. */
  fires(facts: Facts): boolean | string[];
}
