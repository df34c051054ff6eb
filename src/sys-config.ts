import * as v from "valibot";
import { AegisError, messageOf } from "./errors.ts";
import { readFileLimited, rootOnlyProblem } from "./sys-files.ts";

const MAX_CONFIG_BYTES = 256 * 1024;

/**
 * The text of a configuration file, or null where there is none. With `rootOnly` a file that others than root can write is
 * an error.
 * @throws AegisError `invalid_config`, `invalid_document`, `io`
 */
export function readConfig(path: string, rootOnly: boolean): string | null {
  let text: string;
  try {
    text = readFileLimited(path, MAX_CONFIG_BYTES).toString("utf8");
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return null;
    throw error;
  }
  // Safe after reading: a path that only root can change has not been changed by anyone else in between.
  const problem = rootOnly ? rootOnlyProblem(path) : null;
  if (problem !== null) {
    throw new AegisError("invalid_config", problem, `Type: chown root ${path} && chmod go-w ${path}`);
  }
  return text;
}

/** Lines of a file in which the place of a mistake is looked for; it is parsed as often as that at the most. */
const SEARCHED_LINES = 400;

/** The settings in a TOML 1.0 text, checked, or what is wrong with it, for people: where, and what may stand there. */
export function readToml<S extends v.GenericSchema>(
  text: string,
  schema: S,
): { settings: v.InferOutput<S>; problem: null } | { settings: null; problem: string } {
  let tree: unknown;
  try {
    tree = Bun.TOML.parse(text);
  } catch (error) {
    const line = mistakenLine(text);
    const what = messageOf(error).replace(/^TOML Parse error: /, "");
    return { settings: null, problem: line === null ? what : `line ${line}: ${what}` };
  }
  const result = v.safeParse(schema, tree, { abortEarly: true });
  if (result.success) return { settings: result.output, problem: null };
  return { settings: null, problem: issueText(result.issues[0], schema) };
}

/** The parser doesn't tell: the line behind the longest beginning of the text that is a TOML text of its own. */
function mistakenLine(text: string): number | null {
  const lines = text.split("\n");
  if (lines.length > SEARCHED_LINES) return null;
  for (let n = lines.length - 1; n > 0; n--) {
    try {
      Bun.TOML.parse(lines.slice(0, n).join("\n"));
      return n + 1;
    } catch {
      // The mistake stands further up.
    }
  }
  return 1;
}

/** What a schema has against a setting. Its own words are for programmers. */
function issueText(issue: v.BaseIssue<unknown>, schema: v.GenericSchema): string {
  const keys = (issue.path ?? []).map(({ key }) => key);
  const where = keys
    .map((key, n) => {
      if (typeof key === "number") return `, entry ${key + 1}`;
      return `${n === 0 ? "" : typeof keys[n - 1] === "number" ? ", " : "."}${String(key)}`;
    })
    .join("");
  return `${where || "the file"}: ${whatIsWrong(issue, schema, keys)}`;
}

function whatIsWrong(issue: v.BaseIssue<unknown>, schema: v.GenericSchema, keys: readonly unknown[]): string {
  const { type, kind, expected, received, message } = issue;
  if (type === "strict_object" && expected === "never") {
    const known = settingsAt(schema, keys.slice(0, -1));
    return `unknown key${known.length === 0 ? "" : `; there are: ${known.join(", ")}`}`;
  }
  if (type === "strict_object" && expected !== "Object") return "missing";
  if (type === "picklist")
    return `${received} is none of ${expected?.replace(/[()]/g, "").replaceAll(" | ", ", ")}`;
  const wanted = kind === "schema" ? WANTED[type] : undefined;
  return wanted === undefined ? message : `${received} is not ${wanted}`;
}

const WANTED: Readonly<Record<string, string>> = {
  string: "a text in quotes",
  number: "a number",
  boolean: "true or false",
  array: "a list",
  strict_object: "a table",
};

/** The names that may stand at a place of a schema. */
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
