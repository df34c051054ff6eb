import { TOPIC_NAMES, TOPICS } from "./cmd-help-topics.ts";
import { COMMANDS, type CommandName, type Commands } from "./cmd-table.ts";
import type { ArgSpec, ArgsSpec } from "./command.ts";
import { BUILT, loadEcosystem } from "./eco-load.ts";

/*
 * What completion scripts are made of: commands, flags and what each takes, from the tables that the parser works with.
 */

/** What a flag's value can be: a file, one of some words, or anything; null for a flag without a value. */
type FlagValue = "file" | "any" | readonly string[] | null;

export interface FlagRow {
  name: string;
  description: string;
  value: FlagValue;
  multiple: boolean;
}

export interface PositionalRow {
  name: string;
  completes: NonNullable<ArgSpec["complete"]>;
  multiple: boolean;
}

export interface CommandRow {
  name: CommandName;
  summary: string;
  flags: FlagRow[];
  positionals: PositionalRow[];
}

/** Everything that a completion script is made of. */
export interface CompletionTable {
  commands: CommandRow[];
  /** First words of commands, and what each is. */
  first: [word: string, summary: string][];
  /** Second words of commands, by first word. */
  second: [first: string, rows: [word: string, summary: string][]][];
  topics: [topic: string, summary: string][];
  /** Operations that can be planned, by the name of their ecosystem; `rollback` has none. */
  operations: [ecosystem: string, operations: string[]][];
}

/**
 * The pipeline that prints apt's package names with a prefix, in the words of all three shells. The prefix is no option, and
 * names by which a repository could put a command on the command line are left out: apt takes any, and bash quotes none.
 */
export function packageNames(prefix: string): string {
  return `/usr/bin/apt-cache --no-generate pkgnames -- ${prefix} 2>/dev/null | LC_ALL=C /usr/bin/grep -x '[a-z0-9][a-z0-9+.-]*'`;
}

/** The pipeline that prints the services and sockets that run, in the words of all three shells; those with an escape are left out. */
export const UNIT_NAMES_PIPE =
  "/usr/bin/systemctl list-units --plain --no-legend --no-pager --full --type=service,socket --state=active 2>/dev/null | LC_ALL=C /usr/bin/grep -oE '^[A-Za-z0-9_:][A-Za-z0-9:_.@-]*[.](service|socket) ' | /usr/bin/tr -d ' '";

const HELP: FlagRow = { name: "help", description: "show help", value: null, multiple: false };
const JSON_FLAG: FlagRow = { ...HELP, name: "json", description: "print one JSON document" };
/** Value hints that stand for a file. */
const FILES: readonly unknown[] = ["file", "path", "plan", "result", "review", "directory"];

/** The table, from the commands themselves. */
export async function completionTable(load: Commands["load"]): Promise<CompletionTable> {
  const names = Object.keys(COMMANDS) as CommandName[];
  const commands = await Promise.all(
    names.map(async (name): Promise<CommandRow> => {
      const { args } = await load(name);
      return {
        name,
        summary: COMMANDS[name].summary,
        flags: flagsOf(args),
        positionals: positionalsOf(args),
      };
    }),
  );
  const firstWords = [...new Set(names.map((name) => name.split(" ")[0] ?? name))];
  const first = firstWords.map((word): [string, string] => [word, summaryOf(word, names)]);
  const second = firstWords.flatMap((word): CompletionTable["second"] => {
    const rows = names
      .filter((name) => name.startsWith(`${word} `))
      .map((name): [string, string] => [name.slice(word.length + 1), COMMANDS[name].summary]);
    return rows.length === 0 ? [] : [[word, rows]];
  });
  const operations = await Promise.all(
    BUILT.map(async (name): Promise<[string, string[]]> => {
      const ecosystem = await loadEcosystem(name);
      return [name, Object.keys(ecosystem.operations)];
    }),
  );
  const topics = TOPIC_NAMES.map((topic): [string, string] => [topic, TOPICS[topic].summary]);
  return { commands, first, second, topics, operations: [...operations, ["rollback", []]] };
}

function summaryOf(word: string, names: readonly CommandName[]): string {
  const own = names.find((name) => name === word);
  if (own !== undefined) return COMMANDS[own].summary;
  return names
    .filter((name) => name.startsWith(`${word} `))
    .map((name) => name.slice(word.length + 1))
    .join(", ");
}

function flagsOf(args: ArgsSpec): FlagRow[] {
  const own = Object.entries(args).flatMap(([name, arg]): FlagRow[] => {
    if (arg.type === "positional") return [];
    const { description = "", multiple = false } = arg;
    return [{ name, description, value: flagValue(arg), multiple }];
  });
  return [...own, JSON_FLAG, HELP];
}

function flagValue(arg: ArgSpec): FlagValue {
  if (arg.type === "boolean") return null;
  if (arg.type === "enum") return arg.options ?? [];
  return FILES.includes(arg.valueHint) ? "file" : "any";
}

function positionalsOf(args: ArgsSpec): PositionalRow[] {
  return Object.entries(args).flatMap(([name, { type, complete = "file", multiple = false }]) =>
    type === "positional" ? [{ name, completes: complete, multiple }] : [],
  );
}
