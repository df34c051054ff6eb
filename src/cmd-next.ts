import { paint, showArgv, type Terminal } from "./terminal.ts";

/*
 * The next commands, and who types them. Planner, approver and signer have separate accounts and can't read each other's
 * files, so a command for another person never has a path in this user's home: the files are handed over first.
 */

export interface NextStep {
  /** Who types it, as printed after `Next`: `you`, `the approver, there`. */
  who: string;
  /** With a placeholder `<…>` for what only that person knows. */
  argv: readonly string[];
}

/** One line per step, ready to copy. */
export function renderSteps(steps: readonly NextStep[], terminal: Terminal): string {
  return steps
    .map(({ who, argv }, i) =>
      paint(terminal, "bold", `${i === 0 ? "Next" : "Then"}, ${who}: ${argv.map(wordOf).join(" ")}`),
    )
    .join("\n");
}

/** The step that makes files readable for another account: Aegis writes them readable for their owner only. */
export function handOver(files: readonly string[]): NextStep {
  return { who: "you", argv: ["install", "-m", "640", "-t", "<directory they can read>", ...files] };
}

function wordOf(word: string): string {
  return /^<[a-z ]+>$/.test(word) ? word : showArgv([word]);
}
