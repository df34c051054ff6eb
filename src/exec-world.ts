import type { AuditLog } from "./audit-log.ts";
import { openProductionLog } from "./audit-production.ts";
import { registryCredentials } from "./eco-credentials.ts";
import { ECOSYSTEMS } from "./eco-load.ts";
import type { ExecutionContext, ExecutorWorld } from "./exec.ts";
import { loadTrust } from "./key-trust.ts";
import type { BareKeys } from "./key-trusted-keys.ts";
import { executorPlanningEnv } from "./plan-env.ts";
import { openPlanning } from "./plan-world.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { readText } from "./sys-files.ts";
import { prepareState, STATE } from "./sys-state.ts";

/** The executor that a runner serves, and how it opens what lasts longer than one run. */
export interface RunnerWorld extends ExecutorWorld {
  /** Makes the directories that are missing. @throws AegisError `io` for one that isn't root's */
  prepare(): void;
  openLog(): AuditLog;
  rules: ExecutionContext["rules"];
}

/** This host's executor. `bare` are keys given to a daemon that was started by hand, beside those of /etc/aegis. */
export function thisHost(bare: BareKeys): RunnerWorld {
  return {
    paths: STATE,
    ecosystems: ECOSYSTEMS,
    openPlanning: () =>
      openPlanning({
        ...{ env: executorPlanningEnv(readText), ownCaches: true, credentials: registryCredentials() },
        outlook: false,
      }),
    prepare: prepareState,
    openLog: openProductionLog,
    rules: () => ({
      trust: loadTrust({ rootOnly: true, bare }),
      policy: loadPolicyConfig({}, { system: true }),
    }),
  };
}
