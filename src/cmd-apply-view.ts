import { progressLine } from "./cmd-io.ts";
import type { Io } from "./command.ts";
import { describeDifference, type Result } from "./doc-result.ts";
import { paint, safe, safeLines } from "./terminal.ts";
import type { Event } from "./wire-executor.ts";

/** Percentage points between two lines of progress where there is no terminal. */
const STEP = 10;

/** Characters of a line of output; what is longer is cut. The rest of it comes from a service that may send without end. */
const MAX_LINE = 64 * 1024;

export interface ApplyView {
  show(event: Event): void;
  note(line: string): void;
  /** Ends the progress line. */
  end(): void;
  outcome(result: Result): string;
}

/**
 * Progress on standard error: one line that is drawn again on a terminal, plain lines elsewhere. The package manager's own
 * output is passed on escaped; with --json nothing of it is shown.
 */
export function applyView(io: Io): ApplyView {
  const { terminal, draw, wipe } = progressLine(io.env);
  let rest = "";
  let lastPercent = -STEP;

  const line = (text: string) => {
    wipe();
    io.note(text);
  };
  const bar = (percent: number, message: string) => {
    const width = 24;
    const done = Math.round((percent / 100) * width);
    const blocks = `${"#".repeat(done)}${".".repeat(width - done)}`;
    draw(`[${blocks}] ${String(percent).padStart(3)}% ${safe(message)}`);
  };
  const progress = (percent: number, message: string) => {
    if (terminal.interactive && !io.json) return bar(percent, message);
    // A new phase (downloading, then installing) starts from the beginning; a little less is only apt's guess getting better.
    if (percent <= lastPercent - STEP) lastPercent = -STEP;
    if (percent >= lastPercent + STEP || (percent === 100 && lastPercent !== 100)) {
      lastPercent = percent;
      line(`${String(percent).padStart(3)}% ${safe(message)}`);
    }
  };
  const output = (data: string) => {
    if (io.json) return;
    const lines = (rest + data).split("\n");
    // One character more than is shown says that there was more.
    rest = (lines.pop() ?? "").slice(0, MAX_LINE + 1);
    for (const text of lines) line(paint(terminal, "dim", `  ${safeLines(cut(text).trimEnd())}`));
  };

  return {
    show(event) {
      switch (event.kind) {
        case "queued":
          return line(
            event.place === 0 ? "waiting for the executor" : `waiting: ${event.place} before this one`,
          );
        case "checking":
          return line(safe(event.message ?? "checking"));
        case "started":
          return line(`started as execution ${safe(event.execution_id)}`);
        case "progress":
          return progress(event.percent ?? 0, event.message ?? "");
        case "output":
          return output(event.data ?? "");
        case "alive":
        case "finished":
          return;
      }
    },
    note: line,
    end() {
      if (rest !== "") output("\n");
      wipe();
    },
    outcome: (result) => outcomeText(result, io),
  };
}

function cut(text: string): string {
  return text.length > MAX_LINE ? `${text.slice(0, MAX_LINE)} … [cut]` : text;
}

function outcomeText(result: Result, io: Io): string {
  const good = result.state === "completed" && result.code === null;
  const mark = good
    ? paint(io.terminal, "green", "✓ done")
    : paint(
        io.terminal,
        result.state === "completed" ? "yellow" : "red",
        result.state === "completed" ? "! done, but" : `✗ ${result.state}`,
      );
  const lines = [`${mark}  execution ${safe(result.execution_plan_id)}${took(result)}`, ...parts(result)];
  if (result.message !== null) lines.push(`  ${safe(result.message)}`);
  for (const difference of result.not_as_planned)
    lines.push(`  not as planned: ${safe(describeDifference(difference))}`);
  for (const difference of result.changed_besides)
    lines.push(`  changed besides: ${safe(describeDifference(difference))}`);
  lines.push(
    "",
    good
      ? "The log of it: aegis audit show --system"
      : `Its output: /var/lib/aegis/runs/${safe(result.execution_plan_id)}/ (root)`,
  );
  return lines.join("\n");
}

/** How long it took from its turn on, in words; waiting for others is not counted. */
function took({ turn_at, started_at, ended_at }: Result): string {
  return ended_at === null ? "" : ` in ${seconds(turn_at ?? started_at, ended_at)}`;
}

/** What of that went by before anything ran. Files of older versions don't tell. */
function parts({ turn_at, started_at, ended_at }: Result): string[] {
  if (turn_at === null || ended_at === null) return [];
  const before = seconds(turn_at, started_at);
  return [`  ${before} to check it and plan again, ${seconds(started_at, ended_at)} to run it`];
}

function seconds(from: string, to: string): string {
  return `${((Date.parse(to) - Date.parse(from)) / 1000).toFixed(1)} s`;
}
