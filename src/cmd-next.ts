import { paint, showArgv, type Terminal } from "./terminal.ts";

/*
 * What comes next, and whose it is. The people of the chain have accounts of their own and can't read each other's files, so
 * no command for another person has a path in this one's home: who has the files hands them over first.
 */

export interface NextStep {
  /** Whose command it is, as it stands behind `Next`: `you`, `the approver, there`. */
  who: string;
  /** With `<…>` where only they know what to put. */
  argv: readonly string[];
}

/** Each step on a line of its own, to be copied whole. */
export function renderSteps(steps: readonly NextStep[], terminal: Terminal): string {
  return steps
    .map(({ who, argv }, i) =>
      paint(terminal, "bold", `${i === 0 ? "Next" : "Then"}, ${who}: ${argv.map(wordOf).join(" ")}`),
    )
    .join("\n");
}

/** Puts files where another account can read them: what Aegis writes is the owner's alone. Where that is, only people know. */
export function handOver(files: readonly string[]): NextStep {
  return { who: "you", argv: ["install", "-m", "640", "-t", "<directory they can read>", ...files] };
}

function wordOf(word: string): string {
  return /^<[a-z ]+>$/.test(word) ? word : showArgv([word]);
}
