#!/usr/bin/env bun
import { findCommand } from "./cmd.ts";
import { rewriteOldSpelling } from "./cmd-aliases.ts";
import { parseArgs } from "./cmd-args.ts";
import { printNote, printResult, processIo } from "./cmd-io.ts";
import { isWrapperName } from "./eco-names.ts";
import { AegisError, EXIT, type ExitStatus, messageOf } from "./errors.ts";
import { VERSION } from "./self.ts";
import { fit, jsonLine, paint, safe, terminalOf } from "./terminal.ts";

async function main(program: string, words: readonly string[], json: boolean): Promise<ExitStatus> {
  const io = processIo(json);
  const typed = rewriteOldSpelling(program, words);
  const [first] = typed;
  if (first === undefined || first === "--json") {
    throw new AegisError("usage", "no command given", "Type: aegis --help");
  }
  if (first === "--help" || first === "-h" || first === "--version") {
    const extra = typed.slice(1).find((word) => word !== "--json");
    if (extra !== undefined) {
      throw new AegisError("usage", `unexpected word ${safe(extra)}`, "Type: aegis <command> --help");
    }
    if (first === "--version") {
      io.result({ version: VERSION }, `aegis ${VERSION}`);
      return EXIT.ok;
    }
    const { showOverview } = await import("./cmd-help.ts");
    return showOverview(io);
  }
  const { name, load, rest } = findCommand(typed);
  const command = await load();
  const { values, help } = parseArgs(name, command.args, rest);
  if (help) {
    const { showHelp } = await import("./cmd-help.ts");
    return showHelp(name, command, io);
  }
  return command.run(values, io);
}

function fail(error: unknown, json: boolean): ExitStatus {
  const known =
    error instanceof AegisError
      ? error
      : new AegisError(
          "internal",
          `unexpected error: ${messageOf(error)}`,
          "Please report this with the command that you typed.",
        );
  if (json) {
    const { code, message, hint, details, origin } = known;
    const document = {
      error: {
        code,
        message,
        hint,
        ...(origin === "" ? {} : { said_by: origin }),
        ...(Object.keys(details).length > 0 ? { details } : {}),
      },
    };
    try {
      printResult(`${jsonLine(document)}\n`);
    } catch {
      // stdout is what failed; the exit status still says so.
    }
    return known.exit;
  }
  const terminal = terminalOf(process.stderr, process.env);
  // A service run by somebody else may answer anything, so its text is marked as its own.
  const [says, advises] = known.origin === "" ? ["", ""] : [`${known.origin} says: `, "its advice: "];
  const [first = "", ...rest] = fit(terminal, `error [${known.code}] ${says}${safe(known.message)}`, "  ");
  const said = first.slice(`error [${known.code}]`.length);
  const head = `${paint(terminal, "red", "error")} ${paint(terminal, "dim", `[${known.code}]`)}${said}`;
  const hint = known.hint === "" ? [] : fit(terminal, `${advises}${safe(known.hint)}`, "  ");
  const lines = [head, ...rest, ...hint.map((line, i) => (i === 0 ? `  ${line}` : line))];
  printNote(lines.map((line) => `${line}\n`).join(""));
  return known.exit;
}

const words = process.argv.slice(2);
// Without node:path, which would cost every start its loading time.
const program = process.argv0.slice(process.argv0.lastIndexOf("/") + 1);
const end = words.indexOf("--");
const json = !isWrapperName(program) && (end < 0 ? words : words.slice(0, end)).includes("--json");
let status: ExitStatus;
try {
  if (isWrapperName(program)) {
    const { runWrapped } = await import("./wrap.ts");
    status = await runWrapped(program);
  } else status = await main(program, words, json);
} catch (error) {
  status = fail(error, json);
}
// A shell loop around us ends only if we die by the signal itself, not by an exit status.
if (status === EXIT.stopped) process.kill(process.pid, "SIGINT");
process.exit(status);
