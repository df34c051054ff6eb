import { renderUsage } from "citty";
import type { ArgSpec, ArgsSpec, Subcommand } from "./command.ts";
import type { Terminal } from "./terminal.ts";

/** The help text of one command, by citty: wrapped to the terminal, with colour only where it wants it. */
export async function usageOf(name: string, command: Subcommand, terminal: Terminal): Promise<string> {
  const args: ArgsSpec = {
    ...Object.fromEntries(Object.entries(command.args).map(([key, arg]) => [key, withoutChoices(arg)])),
    json: { type: "boolean", description: "print one JSON document" },
    help: { type: "boolean", description: "print this text" },
  };
  const usage = await renderUsage({
    meta: { name: `aegis ${name}`, description: command.description },
    args,
  });
  const text = terminal.colour ? usage : Bun.stripANSI(usage);
  return text
    .split("\n")
    .map((line) => wrap(line.trimEnd(), terminal.width))
    .join("\n");
}

/** Choices go where they can be wrapped: citty writes them all into the first column. */
function withoutChoices(arg: ArgSpec): ArgSpec {
  if (arg.type !== "enum") return arg;
  const { options = [], ...rest } = arg;
  return {
    ...rest,
    type: "string",
    valueHint: arg.valueHint ?? "one of",
    description: `${arg.description ?? ""}: ${options.join(", ")}`,
  };
}

/** One line cut at spaces; what follows stands below the second column, or below the first word where there is none. */
function wrap(line: string, width: number): string {
  const [first = "", ...rest] = Bun.wrapAnsi(line, width, { trim: false }).split("\n");
  if (rest.length === 0) return first;
  const indent = Bun.stringWidth(/^\s*\S.*? {4}(?=\S)|^\s*/.exec(line)?.[0] ?? "");
  const below = Bun.wrapAnsi(rest.map((part) => part.trim()).join(" "), width - indent).split("\n");
  return [first, ...below.map((part) => " ".repeat(indent) + part)].map((part) => part.trimEnd()).join("\n");
}
