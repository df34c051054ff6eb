/*
 * What a wrapper can do with a verb of a package manager, and how its table is written.
 */

/**
 * A verb that only looks. It is let through when it is the first word and each option behind it is listed: what stands in
 * front of a verb may swallow it (`apt -s search install x` installs), and most parsers take abbreviations
 * (`pip list --pyth x` runs x) or options that write files (`pip list --log x`).
 */
export interface LookVerb {
  options: readonly string[];
  /** What each other word must match; `verbs` are words of the table's verbs, `any` also those that change something. */
  words?: RegExp | "verbs" | "any";
}

export interface PlanVerb {
  /** What is typed behind `aegis plan`. */
  plan: readonly [ecosystem: string, operation: string];
  /** Options that change nothing about the plan. With any other one the wish can't be planned. */
  drop: readonly string[];
  /** Options that make of the call a simulation by the program itself: let through. */
  simulate: readonly string[];
  /** Options that mean something else where no target is named, and what can be planned of that. */
  alone?: Readonly<Record<string, readonly [ecosystem: string, operation: string]>>;
  /** Options that policy denies, with the signal that it gives as the reason. */
  denied?: Readonly<Record<string, string>>;
}

/** Let through, planned, or refused for a reason of its own. */
export type Verb = LookVerb | PlanVerb | { refuse: string; simulate: readonly string[] };

export interface Program {
  /** Options without a value that may stand before a verb that is planned. Single letters may be joined: `-qqy`. */
  flags: readonly string[];
  /** Options there that take the next word, or what follows `=`. */
  valued: readonly string[];
  /** By verb; two words win over one. An option can be a verb too. */
  verbs: Readonly<Record<string, Verb>>;
  /** Words that are let through when nothing else stands there. */
  alone: readonly string[];
  /** Whether the program is let through without any word. */
  bare: boolean;
  /** Words that are no verb name files to look at. */
  files?: true;
  /** Variables that a call is let through with, lest it do more than look. */
  environment?: Readonly<Record<string, string>>;
}

export const words = (text: string) => text.split(" ");
export const under = (first: string, text: string) => words(text).map((second) => `${first} ${second}`);
/** Verbs that only look, with the options that they may have. */
export const look = (options: string, ...verbs: string[]): Record<string, Verb> =>
  all({ options: words(options) }, verbs);
/** No word at all. */
export const NOTHING = /^(?!)/;
export const refuse = (why: string, text: string, simulate: readonly string[] = []): Record<string, Verb> =>
  all({ refuse: why, simulate }, words(text));
export const all = (verb: Verb, verbs: readonly string[]) =>
  Object.fromEntries(verbs.map((one) => [one, verb]));
