import type { ArgDef } from "citty";
import type { Json } from "./canonical.ts";
import type { ExitStatus } from "./errors.ts";
import type { Env } from "./paths.ts";
import type { Terminal } from "./terminal.ts";

/** One argument: citty's definition, and `multiple` for a flag or last positional that may be given more than once. */
export type ArgSpec = ArgDef & { multiple?: true };
export type ArgsSpec = Readonly<Record<string, ArgSpec>>;

type Value<S extends ArgSpec> = S extends { multiple: true }
  ? string[]
  : S extends { type: "boolean" }
    ? boolean
    : S extends { required: true } | { default: string }
      ? string
      : string | undefined;

/** What the strict parser hands to a command: one typed value per declared argument, nothing else. */
export type Values<A extends ArgsSpec> = { -readonly [K in keyof A]: Value<A[K]> };

/** The process around a command: everything it may touch outside the domain. */
export interface Io {
  env: Env;
  /** `--json` was given. */
  json: boolean;
  /** How to render for standard output: colours, width, symbols. */
  terminal: Terminal;
  /** Standard input as text, capped. */
  readStdin(): Promise<string>;
  /** Writes the result. With `--json` prints `json` as one document, else `text`. Call once. */
  result(json: Json | object, text: string): void;
  /** Writes a line of progress or a note to standard error. */
  note(line: string): void;
}

export interface Subcommand<A extends ArgsSpec = ArgsSpec> {
  name: string;
  description: string;
  args: A;
  run(values: Values<A>, io: Io): Promise<ExitStatus>;
}

/** A subcommand with its arguments' types inferred. */
export function defineSubcommand<const A extends ArgsSpec>(command: Subcommand<A>): Subcommand<A> {
  return command;
}
