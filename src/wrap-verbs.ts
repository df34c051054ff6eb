/*
 * What a wrapper can do with a package manager's verb, and helpers to write its table.
 */

/**
 * A read-only verb. It passes if it is the first word and every option after it is listed: an option before the verb may
 * take it as its value (`apt -s search install x` installs), and most parsers accept abbreviations (`pip list --pyth x`
 * runs x) and options that write files (`pip list --log x`).
 */
export interface LookVerb {
  options: readonly string[];
  /**
   * What every other word must match. `verbs`: a verb of the table; `any`: any word. Without it, any word but a verb that
   * changes something.
   */
  words?: RegExp | "verbs" | "any";
}

export interface PlanVerb {
  /** The arguments of `aegis plan`. */
  plan: readonly [ecosystem: string, operation: string];
  /** Options that don't affect the plan. A call with any other option can't be planned. */
  drop: readonly string[];
  /** Options with which the program only simulates: the call passes. */
  simulate: readonly string[];
  /** Options that mean another operation if no target is named, and how to plan that. */
  alone?: Readonly<Record<string, readonly [ecosystem: string, operation: string]>>;
  /** Options with the version of the one target, which stands behind its `@` in a plan. */
  version?: readonly string[];
  /** Options that policy denies, with the signal that names the reason. */
  denied?: Readonly<Record<string, string>>;
}

/** A verb that passes, is planned, or is refused with a reason. */
export type Verb = LookVerb | PlanVerb | { refuse: string; simulate: readonly string[] };

export interface Program {
  /** Options without a value that may precede a planned verb. Single letters may be joined: `-qqy`. */
  flags: readonly string[];
  /** Options there that take a value, as the next word or after `=`. */
  valued: readonly string[];
  /** By verb; two-word verbs win over one-word verbs. An option can be a verb too. */
  verbs: Readonly<Record<string, Verb>>;
  /** Words that pass if they are the only word. */
  alone: readonly string[];
  /** Whether a call without any word passes. */
  bare: boolean;
  /** Whether words that are no verb name files to open. */
  files?: true;
  /** Variables set for a call that passes, so that it stays read-only. */
  environment?: Readonly<Record<string, string>>;
}

export const words = (text: string) => text.split(" ");
export const under = (first: string, text: string) => words(text).map((second) => `${first} ${second}`);
/** Read-only verbs with their allowed options. */
export const look = (options: string, ...verbs: string[]): Record<string, Verb> =>
  all({ options: words(options) }, verbs);
/** Matches no word. */
export const NOTHING = /^(?!)/;
export const refuse = (why: string, text: string, simulate: readonly string[] = []): Record<string, Verb> =>
  all({ refuse: why, simulate }, words(text));
export const all = (verb: Verb, verbs: readonly string[]) =>
  Object.fromEntries(verbs.map((one) => [one, verb]));
