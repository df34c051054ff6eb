import { normalName } from "./pip-target.ts";
import { comparePython, contains, isPythonVersion, parseSpecifiers, type Specifier } from "./pip-version.ts";

/*
 * Requirements as wheels state them, with their environment markers:
 * https://packaging.python.org/en/latest/specifications/dependency-specifiers/ (PEP 508).
 */

/** The variables of markers, as `pip inspect` tells them. */
export type MarkerEnvironment = Readonly<Record<string, string>>;

export interface Requirement {
  /** Normalised. */
  name: string;
  /** Normalised, sorted. */
  extras: string[];
  specifiers: Specifier[];
  /** What `name @ url` names; no index vouches for it. */
  url: string | null;
  /** Whether it holds in an environment, with one of these extras asked for (none: no extra). */
  applies(environment: MarkerEnvironment, extras: readonly string[]): boolean;
}

const SHAPE =
  /^\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?\s*(?:@\s*(\S+)(?:\s+;(.*)|\s*)|([^;@]*)(?:;(.*))?)$/s;
const VARIABLE =
  /^(?:os_name|sys_platform|platform_(?:machine|python_implementation|release|system|version)|python_(?:full_)?version|implementation_(?:name|version)|extra)$/;
/** Spellings from before PEP 508, which wheels still have. */
const OLD_NAMES: Readonly<Record<string, string>> = {
  "os.name": "os_name",
  "sys.platform": "sys_platform",
  "platform.version": "platform_version",
  "platform.machine": "platform_machine",
  "platform.python_implementation": "platform_python_implementation",
  python_implementation: "platform_python_implementation",
};
const TOKEN = /\s*(?:(===|~=|==|!=|<=|>=|<|>|\(|\))|"([^"]*)"|'([^']*)'|([A-Za-z_][A-Za-z0-9_.]*))/y;

/** A requirement, or null for a text that is none. */
export function parseRequirement(text: string): Requirement | null {
  const [whole, name = "", listed = "", url, clauses = "", urlMarker, marker] = reorder(SHAPE.exec(text));
  if (whole === undefined) return null;
  const extras = listed
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "");
  const specifiers = parseSpecifiers(clauses.trim().replace(/^\((.*)\)$/s, "$1"));
  const condition = parseMarker(urlMarker ?? marker ?? "");
  if (specifiers === null || condition === null || !extras.every((one) => /^[A-Za-z0-9._-]+$/.test(one)))
    return null;
  return {
    name: normalName(name),
    extras: [...new Set(extras.map(normalName))].sort(),
    specifiers,
    url: url ?? null,
    applies: (environment, asked) =>
      (asked.length === 0 ? [""] : asked).some((extra) => condition({ ...environment, extra })),
  };
}

function reorder(match: RegExpExecArray | null): (string | undefined)[] {
  if (match === null) return [];
  const [whole, name, extras, url, urlMarker, clauses, marker] = match;
  return [whole, name, extras, url, clauses, urlMarker, marker];
}

type Condition = (environment: MarkerEnvironment) => boolean;
type Operand = { variable: string } | { text: string };

/** A marker as a condition; null where it isn't valid. An empty one always holds. */
export function parseMarker(text: string): Condition | null {
  if (text.trim() === "") return () => true;
  const tokens = tokensOf(text);
  let at = 0;
  const word = () => tokens?.[at]?.word;
  const either = (): Condition | null => {
    const parts = [both()];
    while (word() === "or") {
      at++;
      parts.push(both());
    }
    return all(parts, (found) => (environment) => found.some((one) => one(environment)));
  };
  const both = (): Condition | null => {
    const parts = [single()];
    while (word() === "and") {
      at++;
      parts.push(single());
    }
    return all(parts, (found) => (environment) => found.every((one) => one(environment)));
  };
  const single = (): Condition | null => {
    if (word() === "(") {
      at++;
      const inner = either();
      const isClosed = word() === ")";
      at++;
      return isClosed ? inner : null;
    }
    const left = operandOf(tokens?.[at++]);
    let operator = tokens?.[at++]?.word;
    if (operator === "not" && tokens?.[at++]?.word === "in") operator = "not in";
    const right = operandOf(tokens?.[at++]);
    if (left === null || right === null || operator === undefined || !OPERATORS.has(operator)) return null;
    const comparison = operator;
    return (environment) => compareOperands(left, comparison, right, environment);
  };
  const condition = tokens === null ? null : either();
  return at === tokens?.length ? condition : null;
}

const OPERATORS = new Set(["===", "~=", "==", "!=", "<=", ">=", "<", ">", "in", "not in"]);

function all(parts: (Condition | null)[], make: (found: Condition[]) => Condition): Condition | null {
  const found = parts.filter((one) => one !== null);
  return found.length === parts.length ? make(found) : null;
}

interface Token {
  word?: string;
  text?: string;
}

function tokensOf(text: string): Token[] | null {
  const tokens: Token[] = [];
  let at = 0;
  while (text.slice(at).trim() !== "") {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) return null;
    const [, symbol, double, single, word] = match;
    const quoted = double ?? single;
    tokens.push(quoted === undefined ? { word: symbol ?? word ?? "" } : { text: quoted });
    at = TOKEN.lastIndex;
  }
  return tokens;
}

function operandOf(token: Token | undefined): Operand | null {
  if (token?.text !== undefined) return { text: token.text };
  const variable = OLD_NAMES[token?.word ?? ""] ?? token?.word ?? "";
  return VARIABLE.test(variable) ? { variable } : null;
}

/** Compares as versions where both sides are some, else as texts: "Environment Markers". */
function compareOperands(
  left: Operand,
  operator: string,
  right: Operand,
  environment: MarkerEnvironment,
): boolean {
  const isExtra = [left, right].some((one) => "variable" in one && one.variable === "extra");
  const read = (one: Operand) => {
    const value = "text" in one ? one.text : (environment[one.variable] ?? "");
    return isExtra ? normalName(value) : value;
  };
  const [a, b] = [read(left), read(right)];
  if (operator === "in") return b.includes(a);
  if (operator === "not in") return !b.includes(a);
  const [specifier, ...others] = parseSpecifiers(`${operator}${b}`) ?? [];
  if (specifier !== undefined && others.length === 0 && isPythonVersion(a)) return contains(specifier, a);
  switch (operator) {
    case "==":
    case "===":
      return a === b;
    case "!=":
      return a !== b;
    case "<":
    case "<=":
    case ">":
    case ">=":
      return ordered(operator, a < b ? -1 : a > b ? 1 : 0);
    default:
      return false;
  }
}

function ordered(operator: "<" | "<=" | ">" | ">=", order: number): boolean {
  if (order === 0) return operator.endsWith("=");
  return operator.startsWith("<") === order < 0;
}

/** Whether a `Requires-Python` admits this Python. One that can't be read admits every Python, as pip has it. */
export function admitsPython(requires: string | null, pythonFullVersion: string): boolean {
  const specifiers = requires === null ? [] : parseSpecifiers(requires);
  return specifiers === null || specifiers.every((one) => contains(one, pythonFullVersion));
}

/** The newest of these, by version. */
export function newestFirst<T extends { version: string }>(items: readonly T[]): T[] {
  return items.toSorted((a, b) => comparePython(b.version, a.version));
}
