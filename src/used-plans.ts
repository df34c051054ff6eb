import { sha256Hex } from "./canonical.ts";
import { AegisError } from "./errors.ts";

/** Plans remembered at once; the oldest go first, and cost the runner one look again. */
const LIMIT = 1000;

export interface UsedPlans {
  /** @throws AegisError `replay`, as the runner said it, for a plan that it has found used */
  check(plan: string): void;
  /** Hears how the runner refused a plan. */
  learn(plan: string, refusal: AegisError): void;
}

/**
 * What the front knows of plans that were used: a used plan stays used, so the runner need not be started, and a line of the
 * log written, each time somebody submits it once more. These refusals are counted and reported like the front's others.
 */
export function rememberUsedPlans(): UsedPlans {
  const refused = new Map<string, AegisError>();
  return {
    check(plan) {
      const refusal = refused.size === 0 ? undefined : refused.get(sha256Hex(plan));
      if (refusal !== undefined) throw refusal;
    },
    learn(plan, refusal) {
      // A plan that only waits or runs is refused as `replay` too, and may yet be refused for a reason that passes.
      if (refusal.code !== "replay" || refusal.details["used"] !== true) return;
      const [oldest] = refused.keys();
      if (refused.size >= LIMIT && oldest !== undefined) refused.delete(oldest);
      const { code, message, hint, details } = refusal;
      refused.set(sha256Hex(plan), new AegisError(code, message, hint, details));
    },
  };
}
