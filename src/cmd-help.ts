import { nearest } from "./cmd-args.ts";
import { renderSections } from "./cmd-help-text.ts";
import { isTopic, TOPIC_NAMES, TOPICS, type Topic } from "./cmd-help-topics.ts";
import { COMMANDS, type CommandName, type Commands, type FoundCommand } from "./cmd-table.ts";
import { defineSubcommand, type Io, type Subcommand } from "./command.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { VERSION } from "./self.ts";
import { paint, safe, type Terminal } from "./terminal.ts";

/** `aegis help [command or topic]` */
export const help = (commands: Commands) =>
  defineSubcommand({
    name: "help",
    description: "Show the help of a command or a topic, through PAGER where it is longer than the terminal.",
    args: {
      words: {
        type: "positional",
        required: false,
        multiple: true,
        complete: "help",
        description: "a command or a topic",
      },
      man: { type: "boolean", description: "print the manual page aegis(1), with everything in it" },
    },
    async run({ words, man }, io) {
      if (man) {
        if (words.length > 0) throw new AegisError("usage", "--man takes no words", "Type: aegis help --man");
        const { manualPage } = await import("./cmd-help-man.ts");
        const text = await manualPage(commands.load);
        // A manual page ends with the one line feed that io.result adds.
        io.result({ man: text }, text.trimEnd());
        return EXIT.ok;
      }
      const [first] = words;
      if (first === undefined) return showOverview(io);
      if (isTopic(first) && words.length === 1) return showTopic(first, io);
      const { name, load, rest } = findWords(words, commands);
      const [extra] = rest;
      if (extra !== undefined) throw unknown(extra);
      return showHelp(name, await load(), io);
    },
  });

/** The command that words name; a topic's name nearly typed is suggested too. @throws AegisError `usage` */
function findWords(words: readonly string[], commands: Commands): FoundCommand {
  try {
    return commands.find(words);
  } catch (error) {
    const near = nearest(words[0] ?? "", TOPIC_NAMES);
    if (near === null || words.length > 1) throw error;
    throw new AegisError(
      "usage",
      `no command or topic ${safe(words[0] ?? "")}`,
      `Did you mean: aegis help ${near}?`,
    );
  }
}

function unknown(word: string): AegisError {
  return new AegisError("usage", `unexpected word ${safe(word)}`, "Type: aegis help");
}

/** Every command and every topic. */
export function showOverview(io: Io): Promise<ExitStatus> {
  const of = (rows: Readonly<Record<string, { summary: string }>>) =>
    Object.fromEntries(Object.entries(rows).map(([name, { summary }]) => [name, summary]));
  const document = { commands: of(COMMANDS), topics: of(TOPICS) };
  return show(document, (terminal) => overview(terminal), io);
}

function overview(terminal: Terminal): string {
  const rows = (prefix: string, table: Readonly<Record<string, { summary: string }>>) => {
    const width = Math.max(...Object.keys(table).map((name) => name.length));
    return Object.entries(table).map(([name, { summary }]) => `  ${prefix}${name.padEnd(width)}  ${summary}`);
  };
  return [
    `aegis ${VERSION}: package changes that are planned, judged, signed and logged`,
    "",
    ...rows("aegis ", COMMANDS),
    "",
    paint(terminal, "bold", "Topics (aegis help <topic>)"),
    ...rows("", TOPICS),
    "",
    "Start with:  aegis plan apt install <package>",
    "Every command takes --help and --json.",
  ].join("\n");
}

/** The long help of a command: usage, flags, and what else belongs to it. */
export async function showHelp(name: CommandName, command: Subcommand, io: Io): Promise<ExitStatus> {
  // The overview needs none of it.
  const [{ usageOf }, { commandSections }] = await Promise.all([
    import("./cmd-usage.ts"),
    import("./cmd-help-commands.ts"),
  ]);
  const text = async (terminal: Terminal) =>
    [await usageOf(name, command, terminal), renderSections(commandSections(name), terminal)]
      .filter((part) => part !== "")
      .map((part) => part.trimEnd())
      .join("\n\n");
  return show("usage", text, io);
}

async function showTopic(topic: Topic, io: Io): Promise<ExitStatus> {
  const { summary, load } = TOPICS[topic];
  const section = {
    title: topic,
    blocks: [`${summary[0]?.toUpperCase()}${summary.slice(1)}.`, ...(await load())],
  };
  return show("help", (terminal) => renderSections([section], terminal), io);
}

/** Shows text, a screenful at a time where it is long. With `--json`: the document, or the text under this key. */
async function show(
  json: string | object,
  render: (terminal: Terminal) => Promise<string> | string,
  io: Io,
): Promise<ExitStatus> {
  const { terminal } = io;
  const text = await render(io.json ? { ...terminal, colour: false } : terminal);
  if (!io.json && terminal.interactive) {
    const { isLong, page } = await import("./sys-pager.ts");
    if (isLong(text, terminal) && (await page(text, terminal, io.env, 1))) return EXIT.ok;
  }
  io.result(typeof json === "string" ? { [json]: text } : json, text);
  return EXIT.ok;
}
