import type { ArgsSpec, Values } from "./command.ts";
import { AegisError } from "./errors.ts";
import { safe } from "./terminal.ts";

/** Flags that every command takes. */
const GLOBAL_FLAGS = ["json", "help"] as const;
/** Flags that name a file to write. */
const OUTPUTS = ["out", "sbom"];

export interface Parsed<A extends ArgsSpec> {
  values: Values<A>;
  json: boolean;
  help: boolean;
}

/**
 * Strict parsing: every word is a declared flag, a flag's value, or a declared positional; anything else is an error.
 * A value may not begin with `-` unless it is written `--flag=value`; `--` ends the flags; `-` is a positional.
 * With `--help` nothing is demanded.
 * @throws AegisError `usage`
 */
export function parseArgs<A extends ArgsSpec>(command: string, spec: A, words: readonly string[]): Parsed<A> {
  const flags = new Map<string, string[] | true>();
  const positionals: string[] = [];
  const fail = (message: string) => new AegisError("usage", message, `Type: aegis ${command} --help`);

  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? "";
    if (word === "--") {
      positionals.push(...words.slice(i + 1));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      positionals.push(word);
      continue;
    }
    if (word === "-h") {
      flags.set("help", true);
      continue;
    }
    const equals = word.indexOf("=");
    const name = word.slice(2, equals < 0 ? undefined : equals);
    const kind = word.startsWith("--") ? kindOf(spec, name) : undefined;
    if (kind === undefined)
      throw fail(`unknown flag ${safe(equals < 0 ? word : word.slice(0, equals))}${suggest(spec, name)}`);
    if (kind === "boolean") {
      if (equals >= 0) throw fail(`--${name} takes no value`);
      if (flags.has(name)) throw fail(`--${name} is given twice`);
      flags.set(name, true);
      continue;
    }
    const next = words[i + 1];
    const value = equals >= 0 ? word.slice(equals + 1) : next;
    if (value === undefined || value === "" || (equals < 0 && value.startsWith("-") && value !== "-")) {
      throw fail(`--${name} needs a value`);
    }
    if (value === "-" && OUTPUTS.includes(name))
      throw fail(`--${name} needs a file; --json prints the document on standard output`);
    if (equals < 0) i++;
    const earlier = flags.get(name);
    if (Array.isArray(earlier) && kind !== "multiple") throw fail(`--${name} is given twice`);
    const options = spec[name]?.type === "enum" ? spec[name].options : undefined;
    if (options !== undefined && !options.includes(value)) {
      throw fail(`--${name} must be one of ${options.join(", ")}`);
    }
    flags.set(name, [...(Array.isArray(earlier) ? earlier : []), value]);
  }

  const help = flags.has("help");
  const values = assign(spec, flags, positionals, help ? null : fail);
  return { values: values as Values<A>, json: flags.has("json"), help };
}

function kindOf(spec: ArgsSpec, name: string): "boolean" | "single" | "multiple" | undefined {
  if (GLOBAL_FLAGS.some((flag) => flag === name)) return "boolean";
  if (!Object.hasOwn(spec, name)) return undefined;
  const arg = spec[name];
  if (arg === undefined || arg.type === "positional") return undefined;
  if (arg.type === "boolean") return "boolean";
  return arg.multiple === true ? "multiple" : "single";
}

function assign(
  spec: ArgsSpec,
  flags: ReadonlyMap<string, string[] | true>,
  positionals: readonly string[],
  fail: ((message: string) => AegisError) | null,
): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  let next = 0;
  for (const [name, arg] of Object.entries(spec)) {
    const fallback = arg.default;
    if (arg.type === "positional") {
      const taken = arg.multiple === true ? positionals.slice(next) : positionals.slice(next, next + 1);
      next += taken.length;
      if (taken.includes("") && fail !== null) throw fail(`<${name}> is empty`);
      if (taken.length === 0 && arg.required === true && fail !== null) throw fail(`<${name}> is missing`);
      values[name] = arg.multiple === true ? taken : (taken[0] ?? fallback);
      continue;
    }
    const given = flags.get(name);
    if (given === undefined && arg.required === true && fail !== null) throw fail(`--${name} is missing`);
    if (arg.type === "boolean") values[name] = given === true;
    else if (arg.multiple === true) values[name] = Array.isArray(given) ? given : [];
    else values[name] = Array.isArray(given) ? given[0] : fallback;
  }
  if (next < positionals.length && fail !== null)
    throw fail(`unexpected word ${safe(positionals[next] ?? "")}`);
  return values;
}

/** `; did you mean --json?` for a flag one or two letters off, else nothing. */
function suggest(spec: ArgsSpec, name: string): string {
  const known = [...GLOBAL_FLAGS, ...Object.keys(spec).filter((key) => spec[key]?.type !== "positional")];
  const near = nearest(name, known);
  return near === null ? "" : `; did you mean --${near}?`;
}

/** The known word at most two edits away, or null. */
export function nearest(word: string, known: readonly string[]): string | null {
  let best: string | null = null;
  let bestDistance = 3;
  for (const candidate of known) {
    const distance = editDistance(word.slice(0, 40), candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      row.push(Math.min((above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (above[j - 1] ?? 0) + change));
    }
  }
  return row[b.length] ?? 0;
}
