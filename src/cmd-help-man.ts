import { commandSections } from "./cmd-help-commands.ts";
import type { Block } from "./cmd-help-text.ts";
import { TOPIC_NAMES, TOPICS } from "./cmd-help-topics.ts";
import { COMMANDS, type CommandName, type Commands } from "./cmd-table.ts";
import type { ArgSpec, ArgsSpec, Subcommand } from "./command.ts";
import { VERSION } from "./self.ts";

/*
 * aegis(1), in the macros of man(7), from the same tables and texts as `--help`. The same version gives the same bytes, so it
 * carries no date.
 */

/** The whole manual page, with a line feed at its end. */
export async function manualPage(load: Commands["load"]): Promise<string> {
  const names = Object.keys(COMMANDS) as CommandName[];
  const commands = await Promise.all(names.map(async (name) => commandPart(name, await load(name))));
  const topics = await Promise.all(
    TOPIC_NAMES.map(async (topic) => {
      const { summary, load: loadTopic } = TOPICS[topic];
      const about = `${summary[0]?.toUpperCase()}${summary.slice(1)}.`;
      return [
        `.SH ${quoted(topic.toUpperCase())}`,
        ...blockLines(about),
        ...(await loadTopic()).flatMap(blockLines),
      ];
    }),
  );
  return [
    `.\\" Made by: aegis help --man`,
    `.TH AEGIS 1 "" "aegis ${VERSION}" "User Commands"`,
    ".SH NAME",
    "aegis \\- package changes that are planned, judged, signed and logged",
    ".SH SYNOPSIS",
    ".nf",
    ...names.map((name) => `\\fBaegis ${name}\\fR [options]`),
    ".fi",
    ".SH DESCRIPTION",
    ...blockLines(
      "Lets administrators and AI agents change packages on Ubuntu and Debian servers without a root shell. A request becomes a read-only plan; a deterministic policy judges it; a person approves and a key signs it; a root executor plans again, compares, and runs exactly what was signed; a tamper-evident log keeps everything. Every command takes `--help` and `--json`.",
    ),
    ".SH COMMANDS",
    ...commands.flat(),
    ...topics.flat(),
    ".SH SEE ALSO",
    ".BR apt (8),",
    ".BR dpkg (1),",
    ".BR systemctl (1)",
    "",
  ]
    .filter((line, i, lines) => !(line === ".PP" && /^\.S[HS] /.test(lines[i - 1] ?? "")))
    .join("\n");
}

function commandPart(name: CommandName, { args, description }: Subcommand): string[] {
  const sections = commandSections(name).filter(({ title }) => title !== "See also");
  return [
    `.SS ${quoted(synopsis(name, args))}`,
    ...blockLines(description),
    ...Object.entries(args).flatMap(argLines),
    ...sections.flatMap(({ title, blocks }) => [
      ...(title === "Description" ? [] : [".PP", `${text(title)}:`]),
      ...blocks.flatMap(blockLines),
    ]),
  ];
}

function synopsis(name: string, args: ArgsSpec): string {
  const words = Object.entries(args).flatMap(([key, { type, required, multiple }]) => {
    if (type !== "positional") return [];
    const word = `${key}${multiple === true ? "…" : ""}`;
    return [required === true ? `<${word}>` : `[${word}]`];
  });
  return ["aegis", name, ...words].join(" ");
}

function argLines([name, arg]: [string, ArgSpec]): string[] {
  const { description = "" } = arg;
  if (arg.type === "positional") return [".TP", `\\fI${text(name)}\\fR`, sentence(description)];
  const choices = arg.type === "enum" ? `: ${(arg.options ?? []).join(", ")}` : "";
  const fallback = arg.default === undefined ? "" : ` (default: ${arg.default})`;
  const hint = arg.type === "enum" ? (arg.valueHint ?? "word") : arg.valueHint;
  const value = hint === undefined ? "" : `=\\fI${text(hint)}\\fR`;
  return [".TP", `\\fB\\-\\-${text(name)}\\fR${value}`, sentence(`${description}${choices}${fallback}`)];
}

function blockLines(block: Block): string[] {
  if (typeof block === "string") return [".PP", sentence(block)];
  if ("lines" in block) return [".PP", ".RS 4", ".nf", ...block.lines.map(sentence), ".fi", ".RE"];
  if ("items" in block) return block.items.flatMap((item) => [".IP \\(bu 2", sentence(item)]);
  return block.terms.flatMap(([term, meaning]) =>
    meaning === "" ? [".PP", sentence(term)] : [".TP", sentence(term), sentence(meaning)],
  );
}

/** Text at the beginning of a line, where a dot or an apostrophe would be a request. */
function sentence(words: string): string {
  const shown = inline(words);
  return /^[.']/.test(shown) ? `\\&${shown}` : shown;
}

/** Words in backticks in bold. */
function inline(words: string): string {
  return words
    .split("`")
    .map((part, i) => (i % 2 === 0 ? text(part) : `\\fB${text(part)}\\fR`))
    .join("");
}

/** groff_char(7): `-`, `'`, `^`, `~` and the grave accent stand for typographic signs unless they are escaped. */
function text(words: string): string {
  return words
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("'", "\\(aq")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti")
    .replace(
      /[^\x20-\x7e]/g,
      (c) => `\\[u${(c.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}]`,
    );
}

/** One argument of a macro. */
function quoted(words: string): string {
  return `"${text(words).replaceAll('"', "\\(dq")}"`;
}
