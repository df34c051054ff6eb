import { parse, TomlError } from "smol-toml";
import * as v from "valibot";

/** Nesting limit; our files have at most four levels. */
const MAX_DEPTH = 16;

/**
 * The checked settings in a TOML text, or a problem in words: where, and what is allowed there. Dates with an offset
 * become Temporal.ZonedDateTime, integers beyond 2^53 are errors, and `__proto__` is an ordinary key, unknown to every
 * schema.
 */
export function readToml<S extends v.GenericSchema>(
  text: string,
  schema: S,
): { settings: v.InferOutput<S>; problem: null } | { settings: null; problem: string } {
  const { tree, problem } = parseToml(text);
  if (problem !== null) return { settings: null, problem };
  const result = v.safeParse(schema, tree, { abortEarly: true });
  if (result.success) return { settings: result.output, problem: null };
  const [issue] = result.issues;
  return { settings: null, problem: issueText(issue, keysOf(issue), schema) };
}

/** A mistake in a TOML text. Line and column count from 1, the column in UTF-16 code units; null where it has no place. */
export interface TomlProblem {
  line: number | null;
  column: number | null;
  message: string;
}

/** Mistakes that are reported of one text. */
const MOST_PROBLEMS = 50;

/** Every mistake in a TOML text as far as `schema` can tell, in the order of the text; a syntax error hides the others. */
export function tomlProblems(text: string, schema: v.GenericSchema): TomlProblem[] {
  const { tree, problem } = parseToml(text);
  if (problem !== null) {
    const [, line, column, message] = /^line (\d+), column (\d+): (.*)$/s.exec(problem) ?? [];
    return [{ line: Number(line ?? 1), column: Number(column ?? 1), message: message ?? problem }];
  }
  const { issues = [] } = v.safeParse(schema, tree);
  return issues
    .flatMap((issue) => allKeysOf(issue, schema).map((keys) => ({ issue, keys })))
    .slice(0, MOST_PROBLEMS)
    .map(({ issue, keys }) => ({ ...placeOf(keys, text), message: issueText(issue, keys, schema) }))
    .sort((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0));
}

/**
 * Where a key, or if it is missing the table around it, is written. What a file begins with is TOML too wherever a statement ends,
 * so the key is in the statement that ends the first such beginning that has it.
 */
function placeOf(keys: readonly unknown[], text: string): Pick<TomlProblem, "line" | "column"> {
  const lines = text.split("\n");
  /** The shortest beginning of at least `n` lines that is TOML. */
  const beginning = (n: number): { end: number; tree: unknown } => {
    for (let end = n; ; end++) {
      const { tree, problem } = parseToml(lines.slice(0, end).join("\n"));
      if (problem === null || end >= lines.length) return { end, tree };
    }
  };
  if (keys.length === 0) return { line: null, column: null };
  if (!has(beginning(lines.length).tree, keys)) return placeOf(keys.slice(0, -1), text);
  let [without, first] = [0, lines.length];
  while (first - without > 1) {
    const middle = Math.floor((without + first) / 2);
    if (has(beginning(middle).tree, keys)) first = middle;
    else without = middle;
  }
  const statement = lines.slice(first - 1, beginning(first).end);
  const name = keys.findLast((key) => typeof key === "string") ?? "";
  const word = new RegExp(`(?<![\\w-])${RegExp.escape(name)}(?![\\w-])`, "g");
  const found = statement.flatMap((line, n) => [...line.matchAll(word)].map(({ index }) => ({ n, index })));
  const [only] = found;
  if (only !== undefined && found.length === 1) return { line: first + only.n, column: only.index + 1 };
  return { line: first, column: (statement[0]?.search(/\S/) ?? 0) + 1 };
}

function has(tree: unknown, keys: readonly unknown[]): boolean {
  const [key, ...rest] = keys;
  if (key === undefined) return true;
  if (typeof tree !== "object" || tree === null || !Object.hasOwn(tree, String(key))) return false;
  return has(Object.entries(tree).find(([name]) => name === String(key))?.[1], rest);
}

/** A TOML text as a tree that no schema has checked, or a problem in words. */
export function parseToml(text: string): { tree: unknown; problem: null } | { tree: null; problem: string } {
  try {
    return { tree: parse(text, { useLegacyDate: false, maxDepth: MAX_DEPTH }), problem: null };
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    return { tree: null, problem: syntaxProblem(error) };
  }
}

/** The parser's message without its excerpt, or a more helpful one. */
function syntaxProblem({ line, column, message }: TomlError): string {
  const [first = ""] = message.split("\n", 1);
  const theirs = first.replace(/^Invalid TOML document: /, "");
  const what = CLEARER.find(([pattern]) => pattern.test(theirs))?.[1] ?? theirs;
  return `line ${line}, column ${column}: ${what}`;
}

/** Clearer messages for some syntax errors. */
const CLEARER: readonly [theirs: RegExp, ours: string][] = [
  [/^invalid value$/, "not a value: a text needs quotes, and a list ends with ]"],
  [
    /^(?:incomplete key-value|illegal character in key|unexpected end of key)/,
    "not a name: a setting is written name = value, a table [name]",
  ],
  [/^trying to redefine/, "this name has been used before"],
  [/^integer value cannot/, "a number this large can't be kept exactly"],
  [/Temporal/, "there is no such date or time"],
];

/** The path of a schema violation. */
function keysOf({ path }: v.BaseIssue<unknown>): unknown[] {
  return (path ?? []).map(({ key }) => key);
}

/** The same; of a table's unknown keys, of which valibot reports the first alone, the paths of all. */
function allKeysOf(issue: v.BaseIssue<unknown>, schema: v.GenericSchema): unknown[][] {
  const keys = keysOf(issue);
  const { input: table } = issue.path?.at(-1) ?? {};
  if (!isUnknownKey(issue) || typeof table !== "object" || table === null) return [keys];
  const around = keys.slice(0, -1);
  const known = settingsAt(schema, around);
  return Object.keys(table)
    .filter((key) => !known.includes(key))
    .map((key) => [...around, key]);
}

function isUnknownKey({ type, expected }: v.BaseIssue<unknown>): boolean {
  return type === "strict_object" && expected === "never";
}

/** A schema violation in words; valibot's are for programmers. */
function issueText(issue: v.BaseIssue<unknown>, keys: readonly unknown[], schema: v.GenericSchema): string {
  const where = keys
    .map((key, n) => {
      if (typeof key === "number") return `, entry ${key + 1}`;
      return `${n === 0 ? "" : typeof keys[n - 1] === "number" ? ", " : "."}${String(key)}`;
    })
    .join("");
  return `${where || "the file"}: ${violation(issue, schema, keys)}`;
}

function violation(issue: v.BaseIssue<unknown>, schema: v.GenericSchema, keys: readonly unknown[]): string {
  const { type, kind, expected, received, requirement, input, message } = issue;
  if (isUnknownKey(issue)) {
    const known = settingsAt(schema, keys.slice(0, -1));
    return `unknown key${known.length === 0 ? "" : `; known keys: ${known.join(", ")}`}`;
  }
  if (type === "strict_object" && expected !== "Object") return "missing";
  if (type === "picklist")
    return `${received} is not one of ${expected?.replace(/[()]/g, "").replaceAll(" | ", ", ")}`;
  const bound = BOUNDS[type];
  if (bound !== undefined) {
    const allowed = `${bound} ${String(requirement)}`;
    if (typeof input === "number") return `it must be ${allowed}, and is ${received}`;
    const unit = Array.isArray(input) ? "entries" : "characters";
    return `it must have ${allowed} ${unit}, and has ${received}`;
  }
  const wanted = kind === "schema" || type === "integer" ? WANTED[type] : undefined;
  return wanted === undefined ? message : `${received} is not ${wanted}`;
}

const WANTED: Readonly<Record<string, string>> = {
  string: "a text in quotes",
  number: "a number",
  integer: "a whole number",
  boolean: "true or false",
  array: "a list",
  strict_object: "a table",
};

/** Of numbers, and of how much lists and texts hold. */
const BOUNDS: Readonly<Record<string, string>> = {
  min_value: "at least",
  max_value: "at most",
  min_length: "at least",
  max_length: "at most",
};

/** The names allowed at a position in a schema. */
function settingsAt(schema: unknown, keys: readonly unknown[]): string[] {
  if (typeof schema !== "object" || schema === null) return [];
  if ("wrapped" in schema) return settingsAt(schema.wrapped, keys);
  if ("pipe" in schema && Array.isArray(schema.pipe) && schema.pipe[0] !== schema)
    return settingsAt(schema.pipe[0], keys);
  const [first, ...rest] = keys;
  if ("item" in schema) return settingsAt(schema.item, rest);
  if (!("entries" in schema) || typeof schema.entries !== "object" || schema.entries === null) return [];
  if (keys.length === 0) return Object.keys(schema.entries);
  const entry = Object.entries(schema.entries).find(([name]) => name === first);
  return settingsAt(entry?.[1], rest);
}
