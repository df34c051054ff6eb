import { units } from "./policy-facts.ts";
import type { Rule } from "./policy-rule.ts";
import { isUnitNamed, restartRisk } from "./sys-unit-risk.ts";

/*
 * Rules about units that would be restarted, those included that are restarted because they depend on others.
 */

/** Denied, unless the configuration leaves them to a person. */
export const RESTARTS_DENIED: Rule = {
  id: "services-never-restarted",
  looks_at: "transaction",
  decision: "deny",
  reason:
    "units would be restarted that others can't do without until the next boot or login; [services] permitted_units leaves them to a person",
  fires: (f) =>
    units(
      f,
      (unit) => restartRisk(unit)?.isNever === true && !isUnitNamed(unit, f.config.services.permitted_units),
    ),
};

/** For a person to decide. */
export const RESTARTS_RISKY: Rule = {
  id: "services-risky",
  looks_at: "transaction",
  decision: "require_human",
  reason:
    "restarting these may cut off whoever is connected, or what relies on them; the plan's warnings say how",
  fires: (f) =>
    units(f, (unit) => restartRisk(unit) !== null || isUnitNamed(unit, f.config.services.sensitive_units)),
};
