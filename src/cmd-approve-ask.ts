import { writeAll } from "./cmd-io.ts";
import type { Io } from "./command.ts";
import { AegisError } from "./errors.ts";
import { isLong, page } from "./sys-pager.ts";
import type { Screen } from "./sys-tty.ts";
import { MIN_WIDTH, type Terminal, terminalOf } from "./terminal.ts";

/** Characters of the plan's hash that a person types. */
const CONFIRM_LENGTH = 8;

/**
 * Shows the plan, through a pager if it is longer than the terminal, then asks. The first characters of the hash are enough
 * from a person who has just read the plan on this screen. A person who read it elsewhere gives the full hash (--confirm),
 * since two plans whose hashes begin alike are quickly made. `elsewhere` is the hint where there is no terminal.
 * @throws AegisError `refused` unless the answer is the beginning of the plan's hash
 */
export async function askOn(
  found: Screen | null,
  view: (terminal: Terminal) => { screen: string; question: string },
  planHash: string,
  elsewhere: string,
  { env }: Io,
): Promise<void> {
  if (found === null) {
    throw new AegisError("refused", "there is no terminal to ask on; nothing was approved", elsewhere);
  }
  const { columns, rows, output } = found;
  if (columns && columns < MIN_WIDTH) {
    throw new AegisError(
      "refused",
      `a terminal of ${columns} columns wraps lines in misleading places; nothing was approved`,
      `Make it at least ${MIN_WIDTH} columns wide.`,
    );
  }
  const terminal = terminalOf({ isTTY: true, columns: columns ?? 80, rows: rows ?? 0 }, env);
  const { screen, question } = view(terminal);
  const isPaged =
    isLong(`${screen}\n\n${question}`, terminal, 2) && (await page(screen, terminal, env, output));
  writeAll(output, `${isPaged ? "" : `${screen}\n\n`}${question}\n`);
  const answer = found.ask(`Type the first ${CONFIRM_LENGTH} characters of the plan's hash to approve it: `);
  if (answer === planHash.slice(0, CONFIRM_LENGTH)) return;
  throw new AegisError(
    "refused",
    answer === null
      ? "the answer was incomplete; nothing was approved"
      : "that is not the beginning of this plan's hash; nothing was approved",
  );
}
