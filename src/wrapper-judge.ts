import type { WrapperName } from "./aliases.ts";
import { type PlanVerb, PROGRAMS, type Program, type Verb } from "./wrapper-table.ts";

export type Verdict =
  | { does: "pass" }
  | { does: "plan"; ecosystem: string; operation: string; targets: string[] }
  /** `what` is the verb, where there is one; `instead` is what could be planned, as words behind `aegis`. */
  | { does: "refuse"; what: string; why: string; instead: string[] | null };

const PASS: Verdict = { does: "pass" };
const refusal = (what: string, why: string, instead: string[] | null = null): Verdict => ({
  does: "refuse",
  what,
  why,
  instead,
});

/** What becomes of this call of a wrapped package manager. Whatever is not known is refused. */
export function judge(name: WrapperName, words: readonly string[]): Verdict {
  const program = PROGRAMS[name];
  const [first] = words;
  if (first === undefined)
    return program.bare ? PASS : refusal("", "without a verb it opens screens of its own");
  if (words.length === 1 && program.alone.includes(first)) return PASS;
  const found = findVerb(program, words);
  if (found === null) return PASS;
  if ("why" in found) return refusal("", found.why);
  const { verb, label, rest } = found;
  if (rest.length === 1 && rest[0] === "--help") return PASS;
  if ("simulate" in verb && simulates(program, verb.simulate, [...found.before, ...rest])) return PASS;
  if ("refuse" in verb) return refusal(label, verb.refuse);
  if ("pass" in verb) {
    const stops = rest.find((word) => verb.unless.includes(optionName(word)));
    return stops === undefined ? PASS : refusal(`${label} ${stops}`, "it does more than look");
  }
  return judgePlan(program, verb, label, found.before, rest);
}

interface Found {
  verb: Verb;
  label: string;
  /** The options before the verb, by name. */
  before: string[];
  rest: string[];
}

/** The verb and what is around it; null where words only name files. */
function findVerb(program: Program, words: readonly string[]): Found | { why: string } | null {
  const before: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? "";
    const name = word.startsWith("-") ? optionName(word) : word;
    const two = `${word} ${words[i + 1] ?? ""}`;
    for (const [label, length] of [
      [two, 2],
      [name, 1],
    ] as const) {
      const verb = Object.hasOwn(program.verbs, label) ? program.verbs[label] : undefined;
      if (verb === undefined) continue;
      const value = name === word ? [] : [word.slice(name.length + 1)];
      return { verb, label, before, rest: [...value, ...words.slice(i + length)] };
    }
    const option = knownOption(program, word);
    if (option !== null) {
      before.push(...option.names);
      if (!option.takesNext) continue;
      const value = words[++i];
      // Some programs take such a word for an option all the same (`npm --tag --prefix ls install x` installs).
      if (value === undefined || value.startsWith("-")) return { why: `${word} has no value` };
    } else if (program.files !== true || word.startsWith("-")) {
      return { why: `the wrapper does not know ${word}` };
    }
  }
  return program.files === true ? null : { why: "there is no verb" };
}

function judgePlan(
  program: Program,
  verb: PlanVerb,
  label: string,
  before: readonly string[],
  rest: readonly string[],
): Verdict {
  const [ecosystem, operation] = verb.plan;
  const targets: string[] = [];
  const options = [...before];
  let unknown: string | null = null;
  for (let i = 0; i < rest.length; i++) {
    const word = rest[i] ?? "";
    const signal = word.startsWith("-") ? verb.denied?.[optionName(word)] : undefined;
    if (signal !== undefined) return refusal(`${label} ${optionName(word)}`, `policy denies it (${signal})`);
    if (!word.startsWith("-")) {
      targets.push(word);
      continue;
    }
    const option = knownOption(program, word, verb.drop);
    if (option === null) unknown ??= word;
    else {
      options.push(...option.names);
      if (option.takesNext) i++;
    }
  }
  if (unknown !== null) return refusal(label, `the wrapper does not know ${unknown}`);
  const odd = options.find((name) => !verb.drop.includes(name));
  if (odd !== undefined) {
    const other = targets.length > 0 ? undefined : verb.alone?.[odd];
    const instead = ["plan", ...(other ?? [ecosystem, operation]), ...targets];
    return refusal(label, `a plan can't have ${odd}`, instead);
  }
  return { does: "plan", ecosystem, operation, targets };
}

/** What apt takes for the value of the flag in front of it, `-s no` for one (StringToBool, apt-pkg/contrib/strutl.cc). */
const SWITCH = /^\s*(?:\+?(?:0x[0-9a-f]*|\d+)|no|false|without|off|disable|yes|true|with|on|enable)?$/i;

/**
 * Whether a program that is asked to simulate will: every option is known, and none takes a value, since that could be
 * a setting that takes the asking back.
 */
function simulates(program: Program, simulate: readonly string[], words: readonly string[]): boolean {
  const options = words.filter((word) => word.startsWith("-")).map((word) => knownOption(program, word));
  const names = options.flatMap((option) => option?.names ?? []);
  const isPlain = !options.includes(null) && !names.some((name) => program.valued.includes(name));
  return isPlain && !words.some((word) => SWITCH.test(word)) && names.some((name) => simulate.includes(name));
}

interface Option {
  names: string[];
  takesNext: boolean;
}

/** One word as an option of the program, or null. */
function knownOption(program: Program, word: string, more: readonly string[] = []): Option | null {
  const flags = [...program.flags, ...more];
  if (flags.includes(word)) return { names: [word], takesNext: false };
  const name = optionName(word);
  if (program.valued.includes(name)) return { names: [name], takesNext: name === word };
  // Single letters joined: each must be a known flag.
  const letters = /^-[A-Za-z]{2,8}$/.test(word) ? [...word.slice(1)].map((letter) => `-${letter}`) : [];
  return letters.length > 0 && letters.every((letter) => flags.includes(letter))
    ? { names: letters, takesNext: false }
    : null;
}

/** `--prefix=x` → `--prefix`; any other word as it is. */
function optionName(word: string): string {
  const equals = word.startsWith("-") ? word.indexOf("=") : -1;
  return equals < 0 ? word : word.slice(0, equals);
}
