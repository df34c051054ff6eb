import {
  type CommandRow,
  type CompletionTable,
  type FlagRow,
  type PositionalRow,
  packageNames,
  UNIT_NAMES_PIPE,
} from "./cmd-completion-table.ts";
import { VERSION } from "./self.ts";

/** Completion for fish 3.1 or later. */
export function fishScript(table: CompletionTable): string {
  const pairs = table.second.flatMap(([first, rows]) => rows.map(([word]) => `${first} ${word}`));
  const flags = table.commands.flatMap((command) => command.flags);
  const valued = [...new Set(flags.filter(({ value }) => value !== null).map(({ name }) => `--${name}`))];
  const words = [
    ...table.first.map((row) => candidate("__aegis_none", row)),
    "complete -c aegis -n __aegis_none -l help -d 'show help'",
    "complete -c aegis -n __aegis_none -l version -d 'print the version'",
    ...table.second.flatMap(([first, rows]) =>
      rows.map((row) => candidate(`__aegis_at ${quote(first)} 0`, row)),
    ),
  ];
  return `# Completion of aegis ${VERSION} for fish. Made by: aegis completion fish

# The command that has been typed, then the plain words behind it, one a line.
function __aegis_typed
    set -l words (commandline -opc)
    set -e words[1]
    set -q words[1]; or return 1
    set -l name $words[1]
    set -e words[1]
    if set -q words[1]; and contains -- "$name $words[1]" ${pairs.map(quote).join(" ")}
        set name "$name $words[1]"
        set -e words[1]
    end
    echo $name
    set -l skip
    for word in $words
        if set -q skip[1]
            set -e skip[1]
        else if contains -- $word ${valued.join(" ")}
            set skip 1
        else if not string match -q -- '--*' $word
            echo $word
        end
    end
end

# No command yet.
function __aegis_none
    test (count (commandline -opc)) -eq 1
end

# This command is typed.
function __aegis_in
    set -l typed (__aegis_typed)
    test "$typed[1]" = $argv[1]
end

# This command is typed with so many plain words behind it; with a third word also more.
function __aegis_at
    set -l typed (__aegis_typed)
    test "$typed[1]" = $argv[1]; or return 1
    set -l n (math (count $typed) - 1)
    test $n -eq $argv[2]; or begin
        set -q argv[3]; and test $n -gt $argv[2]
    end
end

# The plain words behind the command begin with these.
function __aegis_words
    set -l typed (__aegis_typed)
    set -e typed[1]
    for i in (seq (count $argv))
        test "$typed[$i]" = "$argv[$i]"; or return 1
    end
end

complete -c aegis -f
${words.join("\n")}
${table.commands.flatMap((command) => linesOf(command, table)).join("\n")}
`;
}

function linesOf({ name, flags, positionals }: CommandRow, table: CompletionTable): string[] {
  return [
    ...flags.map((flag) => flagLine(name, flag)),
    ...positionals.flatMap((positional, i) => positionalLines(name, positional, i, table)),
  ];
}

function flagLine(command: string, { name, description, value }: FlagRow): string {
  const takes =
    value === null
      ? ""
      : value === "file"
        ? " -r -F"
        : value === "any"
          ? " -x"
          : ` -x -a ${quote(value.join(" "))}`;
  return `complete -c aegis -n ${quote(`__aegis_in ${quote(command)}`)} -l ${name}${takes} -d ${quote(description)}`;
}

function positionalLines(
  command: string,
  { completes, multiple }: PositionalRow,
  index: number,
  table: CompletionTable,
): string[] {
  const at = `__aegis_at ${quote(command)} ${index}${multiple ? " +" : ""}`;
  const line = (condition: string, rest: string) => `complete -c aegis -n ${quote(condition)} ${rest}`;
  const offer = (condition: string, words: readonly string[]) =>
    words.length === 0 ? [] : [line(condition, `-a ${quote(words.join(" "))}`)];
  if (typeof completes !== "string") return offer(at, completes);
  switch (completes) {
    case "file":
      return [line(at, "-F")];
    case "document":
      return [line(at, "-F"), ...offer(at, ["latest"])];
    case "ecosystem":
      return offer(
        at,
        table.operations.map(([name]) => name),
      );
    case "operation":
      return table.operations.flatMap(([name, operations]) =>
        offer(`${at}; and __aegis_words ${name}`, operations),
      );
    case "package":
      return [
        ...["install", "remove", "purge", "hold", "unhold"].map((operation) =>
          line(
            `${at}; and __aegis_words apt ${operation}`,
            `-a ${quote(`(${packageNames("(commandline -ct)")})`)}`,
          ),
        ),
        line(`${at}; and __aegis_words services restart`, `-a ${quote(`(${UNIT_NAMES_PIPE})`)}`),
      ];
    case "help": {
      const first = `__aegis_at ${quote(command)} 0`;
      return [
        ...[...table.first, ...table.topics].map((row) => candidate(first, row)),
        ...table.second.flatMap(([word, rows]) =>
          offer(
            `__aegis_at ${quote(command)} 1; and __aegis_words ${word}`,
            rows.map(([second]) => second),
          ),
        ),
      ];
    }
  }
}

function candidate(condition: string, [word, summary]: readonly [string, string]): string {
  return `complete -c aegis -n ${quote(condition)} -a ${quote(word)} -d ${quote(summary)}`;
}

/** fish(1), Quotes: within single quotes only \\' and \\\\ are escapes. */
function quote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
