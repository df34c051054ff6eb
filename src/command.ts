import type { ArgDef } from "citty";
import type { Json } from "./canonical.ts";
import type { ExitStatus } from "./errors.ts";
import type { Env } from "./paths.ts";
import type { Terminal } from "./terminal.ts";

/** What a shell completes a positional with: file names (for a document also `latest`), words, or what the words before allow. */
type Completes = "file" | "document" | "ecosystem" | "operation" | "package" | "help" | readonly string[];

/**
 * citty's argument definition, plus `multiple` for a flag or last positional that may be repeated, and `complete` for a
 * positional. A flag is completed by its options or its value hint.
 */
export type ArgSpec = ArgDef & { multiple?: true; complete?: Completes };
export type ArgsSpec = Readonly<Record<string, ArgSpec>>;

type Value<S extends ArgSpec> = S extends { multiple: true }
  ? string[]
  : S extends { type: "boolean" }
    ? boolean
    : S extends { required: true } | { default: string }
      ? string
      : string | undefined;

/** The parsed arguments of a command: one typed value per declared argument, nothing else. */
export type Values<A extends ArgsSpec> = { -readonly [K in keyof A]: Value<A[K]> };

/** A command's access to the process it runs in: environment, terminal, standard streams. */
export interface Io {
  env: Env;
  /** `--json` was given. */
  json: boolean;
  /** Format of standard output: colours and size. */
  terminal: Terminal;
  /** Standard input as text, capped. */
  readStdin(): Promise<string>;
  /** Writes the result: `json` as one document with `--json`, else `text`. Call once. */
  result(json: Json | object, text: string): void;
  /** Writes a line to standard error: progress or a remark. */
  note(line: string): void;
}

export interface Subcommand<A extends ArgsSpec = ArgsSpec> {
  name: string;
  description: string;
  args: A;
  run(values: Values<A>, io: Io): Promise<ExitStatus>;
}

/** Infers the argument types of a subcommand. */
export function defineSubcommand<const A extends ArgsSpec>(command: Subcommand<A>): Subcommand<A> {
  return command;
}
