import { canonicalHash } from "./canonical.ts";
import type { ExecutionPlan } from "./documents.ts";
import { parseEnvironmentFile } from "./environment-file.ts";
import { AegisError } from "./errors.ts";
import { evaluate, strictness } from "./evaluate.ts";
import { type Env, SYSTEM } from "./paths.ts";
import { makePlan } from "./planner.ts";
import { openPlanning, readText } from "./planning.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";
import { compareDecisions, compareWithOwn } from "./replan.ts";

/** What the executor plans with: nothing of whoever submitted, and this host's own vulnerability data. */
function planningEnv(): Env {
  const settings = parseEnvironmentFile(readText(SYSTEM.daemonEnv) ?? "", SYSTEM.daemonEnv);
  return {
    HOME: "/root",
    XDG_CACHE_HOME: "/var/cache",
    AEGIS_OSV_DIR: settings.get("AEGIS_OSV_DIR"),
    AEGIS_OSV_URL: settings.get("AEGIS_OSV_URL"),
  };
}

/**
 * Plans the signed wish again with the planner's own code, as root, and judges that plan by this host's own policy. The
 * change must be the same, and the decision at most as strict as what was signed.
 * @throws AegisError as {@link compareWithOwn} and {@link compareDecisions}; `not_built` for what can't be run yet
 */
export async function planAgain(execution: ExecutionPlan, policy: LoadedPolicyConfig): Promise<void> {
  const signed = execution.operation_plan;
  if (signed.tool !== "apt") {
    throw new AegisError(
      "not_built",
      `this version runs apt plans only, not ${signed.tool}`,
      "Wait for a version whose release notes name it.",
    );
  }
  const planning = openPlanning({ env: planningEnv() });
  try {
    const own = await makePlan(signed.tool, signed.operation, signed.targets, planning);
    compareWithOwn(signed, own);
    const { config, hash } = policy;
    const result = evaluate({ plan: own, planHash: canonicalHash(own), config, configHash: hash });
    compareDecisions(execution.policy_result, result, strictness);
  } finally {
    planning.close();
  }
}
