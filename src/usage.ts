import { renderUsage } from "citty";
import type { Subcommand } from "./command.ts";
import type { Terminal } from "./terminal.ts";

/** The help text of one command, by citty, with colour only where the terminal wants it. */
export async function usageOf(name: string, command: Subcommand, terminal: Terminal): Promise<string> {
  const args = {
    ...command.args,
    json: { type: "boolean", description: "print one JSON document" },
    help: { type: "boolean", description: "print this text" },
  } as const;
  const usage = await renderUsage({
    meta: { name: `aegis ${name}`, description: command.description },
    args,
  });
  return terminal.colour ? usage : usage.replace(/\u001b\[[0-9;]*m/g, "");
}
