import type { DeniedTarget } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";
import type { Targets } from "./eco-grammar.ts";
import type { AegisError } from "./errors.ts";

/*
 * What no target may be, whatever its ecosystem: an option, or text that a shell or a terminal would act on.
 */

/** Why a text is no target of any ecosystem; null if it may be one. `max` in characters. */
export function targetProblem(target: string, max: number): string | null {
  if (target === "") return "it is empty";
  if (target.length > max) return `it is longer than ${max} characters`;
  if (target.startsWith("-")) return "it would be read as an option";
  if (/[\s\p{C}\p{Z}]/u.test(target)) return "it contains white space or control characters";
  if (/["'`$;|<>(){}[\]*!\\]/.test(target)) return "it contains shell metacharacters";
  return null;
}

/** How an ecosystem reads the one target that its operations take. */
interface SingleTarget {
  targetType: string;
  problemOf(target: string): string | null;
  /** Forms that are always denied; the first that matches counts. */
  sources: readonly (readonly [RegExp, RiskSignal])[];
  /** @throws AegisError `invalid_target` for what the ecosystem's grammar doesn't allow */
  split(target: string): unknown;
  invalid(target: string, reason: string): AegisError;
  /** Why there is one only. */
  single: string;
}

/**
 * Sorts the target of an ecosystem that takes one at a time into what its registry can answer and what is always denied.
 * @throws AegisError `invalid_target`
 */
export function parseSingleTarget(given: readonly string[], grammar: SingleTarget): Targets {
  const targets = [...new Set(given)];
  const denied: DeniedTarget[] = [];
  for (const target of targets) {
    const reason = grammar.problemOf(target);
    if (reason !== null) throw grammar.invalid(target, reason);
    const signal = grammar.sources.find(([shape]) => shape.test(target))?.[1];
    if (signal === undefined) grammar.split(target);
    else denied.push({ target, signal });
  }
  const [, second] = targets;
  if (second !== undefined) throw grammar.invalid(second, grammar.single);
  return { targets, denied, targetType: grammar.targetType };
}
