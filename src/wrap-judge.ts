import type { WrapperName } from "./eco-names.ts";
import { PROGRAMS } from "./wrap-table.ts";
import type { LookVerb, PlanVerb, Program, Verb } from "./wrap-verbs.ts";

export type WrapVerdict =
  | { does: "pass" }
  | { does: "plan"; ecosystem: string; operation: string; targets: string[] }
  /** `what` is the verb, if any; `instead` is what could be planned, as words after `aegis`. */
  | { does: "refuse"; what: string; why: string; instead: string[] | null };

const PASS: WrapVerdict = { does: "pass" };
const refusal = (what: string, why: string, instead: string[] | null = null): WrapVerdict => ({
  does: "refuse",
  what,
  why,
  instead,
});

/** Decides what to do with a call of a wrapped package manager. Anything unknown is refused. */
export function judge(name: WrapperName, words: readonly string[]): WrapVerdict {
  const program = PROGRAMS[name];
  const [first] = words;
  if (first === undefined)
    return program.bare ? PASS : refusal("", "without a verb it opens its full-screen interface");
  if (words.length === 1 && program.alone.includes(first)) return PASS;
  const found = findVerb(program, words);
  if (found === null) return PASS;
  if ("why" in found) return refusal("", found.why);
  const { verb, label, isFirst, rest } = found;
  if (rest.length === 1 && rest[0] === "--help" && isFirst && !label.startsWith("-")) return PASS;
  if ("options" in verb) {
    if (!isFirst) return refusal(label, `it is read-only only as the first word: ${name} ${label} …`);
    const why = whyNotReadOnly(program, verb, rest);
    return why === null ? PASS : refusal(label, why);
  }
  if (simulates(program, verb.simulate, found.before, rest)) return PASS;
  return "refuse" in verb ? refusal(label, verb.refuse) : judgePlan(program, verb, label, found.before, rest);
}

/** Why a read-only verb might change something with these words after it, or null. */
function whyNotReadOnly(program: Program, verb: LookVerb, rest: readonly string[]): string | null {
  for (const word of rest) {
    if (word.startsWith("-")) {
      if (!isListed(verb.options, word)) return `the wrapper does not know ${word} after it`;
    } else if (verb.words !== "any") {
      const isVerb = Object.keys(program.verbs).some((label) => label.split(" ").includes(word));
      const mayChange = verb.words === "verbs" ? !isVerb : changes(program, word);
      if (mayChange || (verb.words instanceof RegExp && !verb.words.test(word)))
        return `with ${word} after it, it may not be read-only`;
    }
  }
  return null;
}

/** Whether a word is a verb that is not read-only. */
function changes(program: Program, word: string): boolean {
  const verb = Object.hasOwn(program.verbs, word) ? program.verbs[word] : undefined;
  return verb !== undefined && !("options" in verb);
}

interface Found {
  verb: Verb;
  label: string;
  /** Whether the verb is the first word. */
  isFirst: boolean;
  /** The options before the verb, by name. */
  before: string[];
  rest: string[];
}

/** Finds the verb; null if the words only name files. */
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
      return { verb, label, isFirst: i === 0, before, rest: [...value, ...words.slice(i + length)] };
    }
    const option = knownOption(program, word);
    if (option !== null) {
      before.push(...option.names);
      if (!option.takesNext) continue;
      const value = words[++i];
      // Some programs still take a word like this for an option (`npm --tag --prefix ls install x` installs), and code looks
      // for `tunnel` anywhere.
      if (value === undefined || value.startsWith("-") || (program.files === true && changes(program, value)))
        return { why: `${word} has no value` };
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
): WrapVerdict {
  const [ecosystem, operation] = verb.plan;
  const targets: string[] = [];
  const options = [...before];
  const versions: string[] = [];
  let unknown: string | null = null;
  for (let i = 0; i < rest.length; i++) {
    const word = rest[i] ?? "";
    const signal = word.startsWith("-") ? verb.denied?.[optionName(word)] : undefined;
    if (signal !== undefined) return refusal(`${label} ${optionName(word)}`, `policy denies it (${signal})`);
    if (!word.startsWith("-")) {
      targets.push(word);
      continue;
    }
    const name = optionName(word);
    if (verb.version?.includes(name) === true) {
      versions.push(name === word ? (rest[++i] ?? "") : word.slice(name.length + 1));
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
  const unplannable = options.find((name) => !verb.drop.includes(name));
  if (unplannable !== undefined) {
    const other = targets.length > 0 ? undefined : verb.alone?.[unplannable];
    const instead = ["plan", ...(other ?? [ecosystem, operation]), ...targets];
    return refusal(label, `a plan can't have ${unplannable}`, instead);
  }
  if (versions.length === 0) return { does: "plan", ecosystem, operation, targets };
  const [[target = "", another], [version = "", second]] = [targets, versions];
  if (another !== undefined || second !== undefined || !/^[^@]+$/.test(target) || !/^[^@-]/.test(version))
    return refusal(label, "a version belongs to one package that has no other: <package>@<version>");
  return { does: "plan", ecosystem, operation, targets: [`${target}@${version}`] };
}

/** Words that apt takes as the value of the flag before them, as in `-s no` (StringToBool, apt-pkg/contrib/strutl.cc). */
const SWITCH = /^\s*(?:\+?(?:0x[0-9a-f]*|\d+)|no|false|without|off|disable|yes|true|with|on|enable)?$/i;

/**
 * Whether the call certainly only simulates: every option is known, none takes a value (a setting could switch simulation
 * off again), and there is no second verb that changes something.
 */
function simulates(
  program: Program,
  simulate: readonly string[],
  before: readonly string[],
  rest: readonly string[],
): boolean {
  const options = [...before, ...rest.filter((word) => word.startsWith("-"))].map((word) =>
    knownOption(program, word),
  );
  const names = options.flatMap((option) => option?.names ?? []);
  const isPlain = !options.includes(null) && !names.some((name) => program.valued.includes(name));
  const isOne = !rest.some((word) => SWITCH.test(word) || changes(program, word));
  return isPlain && isOne && names.some((name) => simulate.includes(name));
}

interface Option {
  names: string[];
  takesNext: boolean;
}

/** The word as an option of the program, or null. */
function knownOption(program: Program, word: string, more: readonly string[] = []): Option | null {
  const flags = [...program.flags, ...more];
  if (flags.includes(word)) return { names: [word], takesNext: false };
  const name = optionName(word);
  if (program.valued.includes(name)) return { names: [name], takesNext: name === word };
  const letters = joinedLetters(word);
  return letters.length > 0 && letters.every((letter) => flags.includes(letter))
    ? { names: letters, takesNext: false }
    : null;
}

/** Whether the option, or each of its joined letters, is listed. */
function isListed(options: readonly string[], word: string): boolean {
  if (options.includes(optionName(word))) return true;
  const letters = joinedLetters(word);
  return letters.length > 0 && letters.every((letter) => options.includes(letter));
}

/** `-qy` → `-q`, `-y`. */
function joinedLetters(word: string): string[] {
  return /^-[A-Za-z]{2,8}$/.test(word) ? [...word.slice(1)].map((letter) => `-${letter}`) : [];
}

/** `--prefix=x` → `--prefix`; other words unchanged. */
function optionName(word: string): string {
  const equals = word.startsWith("-") ? word.indexOf("=") : -1;
  return equals < 0 ? word : word.slice(0, equals);
}
