import * as v from "valibot";
import type { CommandName } from "./cmd-table.ts";

/*
 * What a tool of an agent is: one command of this program, with the forms of its arguments and of its answer. Answers are small: texts
 * and lists are cut when they are taken over from what the command printed.
 */

/** Bounds of what an answer takes over: entries of a list, characters of a text. */
export const MAX_ITEMS = 40;
const MAX_CHARACTERS = 300;
const MINUTE = 60_000;

type Json = Readonly<Record<string, unknown>>;

/** One tool, with its argument types erased: see {@link agentTool}. */
export interface AgentTool {
  title: string;
  description: string;
  /** The command that it runs. */
  command: CommandName;
  /** It makes a document or a request of the user's own; the others only read. */
  writes: boolean;
  input: v.GenericSchema<unknown, Json>;
  /** The form of a good answer's `result`. */
  result: v.GenericSchema<unknown, Json>;
  /** Time limit, and the words after the command's name, for validated arguments. */
  call(given: Json): { timeoutMs: number; words: string[] };
  /**
   * `result` from the document that the command printed.
   * @throws ValiError if that has another form
   */
  pick(document: Json): Json;
}

/** Checks that arguments and command line of a tool fit, and hides their types. */
export function agentTool<
  I extends v.StrictObjectSchema<v.ObjectEntries, undefined>,
  D extends v.GenericSchema,
>(
  given: Pick<AgentTool, "title" | "description" | "command" | "writes" | "result"> & {
    input: I;
    timeoutMs?: (input: v.InferOutput<I>) => number;
    words: (input: v.InferOutput<I>) => string[];
    document: D;
    pick: (document: v.InferOutput<D>) => Json;
  },
): AgentTool {
  const { title, description, command, writes, result, input, document } = given;
  return {
    ...{ title, description, command, writes, result, input },
    call(values) {
      const checked = v.parse(input, values);
      return { timeoutMs: given.timeoutMs?.(checked) ?? MINUTE, words: given.words(checked) };
    },
    pick: (printed) => given.pick(v.parse(document, printed)),
  };
}

export const plainInt = v.pipe(v.number(), v.safeInteger());
export const plainText = v.string();
export const plainTexts = v.array(plainText);
/** A text of a document, cut; where the form of an answer is told, it is {@link plainText}. */
export const cutText = v.pipe(v.string(), v.transform(cut));
export const cutTexts = v.pipe(
  v.array(v.string()),
  v.transform((all) => all.slice(0, MAX_ITEMS).map(cut)),
);

function cut(value: string): string {
  return value.length <= MAX_CHARACTERS ? value : `${value.slice(0, MAX_CHARACTERS - 1)}…`;
}
