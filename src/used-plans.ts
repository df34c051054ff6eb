import { sha256Hex } from "./canonical.ts";
import { AegisError, type ErrorCode } from "./errors.ts";

/** Plans remembered at once; the oldest go first, and cost the runner one look again. */
const LIMIT = 1000;
/** How the runner refuses a plan that is not in force. Use is checked before: such a plan was not used. */
const NOT_IN_FORCE: readonly ErrorCode[] = ["expired", "not_yet_valid"];

export interface UsedPlans {
  /**
   * Refuses what needs no runner. `outside` is what is wrong with the plan's lifetime, null for nothing: the runner is asked
   * once whether such a plan was used.
   * @throws AegisError `replay`, as the runner said it, for a plan that it has found used; `outside`, for one that it has
   * found unused
   */
  check(plan: string, outside: AegisError | null): void;
  /** Hears how the runner refused a plan. */
  learn(plan: string, refusal: AegisError): void;
}

/**
 * What the front knows of plans that were used: a used plan stays used, so the runner need not be started, and a line of the
 * log written, each time somebody submits it once more. These refusals are counted and reported like the front's others.
 */
export function rememberUsedPlans(): UsedPlans {
  /** The runner's refusal of a used plan; null for a plan that was not used, and can't be while it is not in force. */
  const known = new Map<string, AegisError | null>();
  return {
    check(plan, outside) {
      if (known.size === 0) return;
      const hash = sha256Hex(plan);
      const refusal = known.get(hash);
      if (refusal === undefined) return;
      if (refusal !== null) throw refusal;
      if (outside !== null) throw outside;
      // In force after all, the clock having been set: it may be used now.
      known.delete(hash);
    },
    learn(plan, refusal) {
      const { code, message, hint, details } = refusal;
      // A plan that only waits or runs is refused as `replay` too, and may yet be refused for a reason that passes.
      const isUsed = code === "replay" && details["used"] === true;
      if (!isUsed && !NOT_IN_FORCE.includes(code)) return;
      const [oldest] = known.keys();
      if (known.size >= LIMIT && oldest !== undefined) known.delete(oldest);
      known.set(sha256Hex(plan), isUsed ? new AegisError(code, message, hint, details) : null);
    },
  };
}
