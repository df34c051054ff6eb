import { UUID } from "./canonical.ts";
import type { DeniedTarget } from "./doc-plan.ts";
import type { RiskSignal } from "./doc-signals.ts";
import type { Grammar, Targets } from "./eco-grammar.ts";
import { AegisError } from "./errors.ts";

/*
 * What no target may be, whatever its ecosystem: an option, or text that a shell or a terminal would act on.
 */

/** The target type of a rollback. */
export const EXECUTION = "execution";

/** Why a text is no target of any ecosystem; null if it may be one. `max` in characters. */
export function targetProblem(target: string, max: number): string | null {
  if (target === "") return "it is empty";
  if (target.length > max) return `it is longer than ${max} characters`;
  if (target.startsWith("-")) return "it would be read as an option";
  if (/[\s\p{C}\p{Z}]/u.test(target)) return "it contains white space or control characters";
  if (/["'`$;|<>(){}[\]*!\\]/.test(target)) return "it contains shell metacharacters";
  return null;
}

/** The hint for a target with another tool's sign before its version; `otherwise` for one that is wrong in another way. */
export function hintOnSign(target: string, sign: "@" | "==", otherwise: string): string {
  const [, name, version] =
    /^(@?[A-Za-z0-9][\w./-]{0,200}?)(?:={1,3}|@)(v?\d[\w.+-]{0,100})$/.exec(target) ?? [];
  const meant = `${name}${sign}${version}`;
  return name === undefined || meant === target
    ? otherwise
    : `The version stands after ${sign} here: ${meant}`;
}

/**
 * The one execution that a rollback takes.
 * @throws AegisError `invalid_target`
 */
export function parseExecution(given: readonly string[]): Targets {
  const [id = ""] = given;
  if (given.length === 1 && UUID.test(id)) return { targets: [id], denied: [], targetType: EXECUTION };
  throw new AegisError(
    "invalid_target",
    "a rollback takes one execution, named by its full id",
    "Ids: aegis daemon status. Type: aegis plan rollback <execution>",
  );
}

/** How an ecosystem with a managed root reads targets: `parse` for everything but its rollback. */
export function orExecution(parse: Grammar["parseTargets"]): Grammar["parseTargets"] {
  return (operation, given) => (operation === "rollback" ? parseExecution(given) : parse(operation, given));
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
