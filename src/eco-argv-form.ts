/*
 * One matcher for the two lists of commands: those that planning may spawn (eco-planning-argv.ts) and those that the executor
 * may run (eco-argv.ts). The lists are separate, so that a mistake in one can't widen the other.
 */

/**
 * One element of a form: a literal word, a word that matches a pattern, an option with a value, repeated at least once, or one
 * to `max` words that match a pattern, up to the end of the argv.
 */
export type FormPart = string | RegExp | { pairs: readonly [string, RegExp] } | { many: RegExp; max: number };

/** A command line, word by word. A pattern must be anchored at both ends. */
export type ArgvForm = readonly FormPart[];

/** Longest word that any form accepts, in UTF-16 code units. */
const MAX_WORD = 1024;
const MAX_WORDS = 4000;

/** One or more words at the end: the targets. */
export const oneOrMore = (many: RegExp): FormPart => ({ many, max: MAX_WORDS });

/** Whether an argv matches a form completely. Pure; words are never split or unescaped. */
export function matchesForm(form: ArgvForm, argv: readonly string[]): boolean {
  let at = 0;
  for (const part of form) {
    if (typeof part === "string" || part instanceof RegExp) {
      if (!matchesWord(part, argv[at])) return false;
      at++;
    } else if ("pairs" in part) {
      const [option, value] = part.pairs;
      const start = at;
      while (argv[at] === option && matchesWord(value, argv[at + 1])) at += 2;
      if (at === start) return false;
    } else {
      const rest = argv.slice(at);
      if (rest.length === 0 || rest.length > part.max) return false;
      if (!rest.every((word) => matchesWord(part.many, word))) return false;
      at = argv.length;
    }
  }
  return at === argv.length;
}

function matchesWord(expected: string | RegExp, word: string | undefined): boolean {
  if (word === undefined || word.length > MAX_WORD) return false;
  return typeof expected === "string" ? word === expected : expected.test(word);
}
