import { progressLine } from "./cmd-io.ts";
import type { Io } from "./command.ts";
import { describeDifference, type Result } from "./doc-result.ts";
import { fit, paint, plural, safe, safeLines, type Terminal } from "./terminal.ts";
import type { Event } from "./wire-executor.ts";

/** Percentage points between two progress lines if there is no terminal. */
const STEP = 10;

/** Limit on a line of output, in characters: the service may send a line without end. */
const MAX_LINE = 64 * 1024;

export interface ApplyView {
  show(event: Event): void;
  note(line: string): void;
  /** Ends the progress line. */
  end(): void;
  outcome(result: Result): string;
}

/**
 * Shows progress on stderr: one line that is redrawn on a terminal, plain lines elsewhere. The package manager's output is
 * escaped, and left out with --json.
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
    // A new phase (download, then install) starts over; a small step back is only apt correcting its estimate.
    if (percent <= lastPercent - STEP) lastPercent = -STEP;
    if (percent >= lastPercent + STEP || (percent === 100 && lastPercent !== 100)) {
      lastPercent = percent;
      line(`${String(percent).padStart(3)}% ${safe(message)}`);
    }
  };
  const output = (data: string) => {
    if (io.json) return;
    const lines = (rest + data).split("\n");
    // Keeps one character more than is shown, so that `cut` can tell that the line was longer.
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
  for (const { name, shadows } of result.executables ?? []) {
    const also = shadows.length === 0 ? "" : `, which is also the name of ${shadows.join(" and ")}`;
    lines.push(`  command: ${safe(name)}${safe(also)}`);
  }
  for (const difference of result.not_as_planned)
    lines.push(`  not as planned: ${safe(describeDifference(difference))}`);
  for (const difference of result.changed_besides)
    lines.push(`  changed besides: ${safe(describeDifference(difference))}`);
  lines.push(...afterwardsLines(result.afterwards, io.terminal));
  const { content } = result;
  const { repository } = result;
  if ((content !== undefined && content.before !== content.after) || repository !== undefined)
    lines.push(`  to undo it: aegis plan rollback ${safe(result.execution_plan_id)}`);
  if (good && repository?.after_sha256 != null) lines.push("  next, for its index: aegis plan apt update");
  lines.push(
    "",
    good
      ? "Its log: aegis audit show --system"
      : `Its output: /var/lib/aegis/runs/${safe(result.execution_plan_id)}/ (root)`,
  );
  return lines.join("\n");
}

/** Most units in one line. */
const UNITS = 12;

/** What is left to do: units on old code, by how they get the new, and why to reboot. */
function afterwardsLines(afterwards: Result["afterwards"], terminal: Terminal): string[] {
  if (afterwards === undefined) return [];
  const { units, unseen } = afterwards.services;
  const { reasons } = afterwards.reboot;
  const isOrdinary = ({ unit, risky }: (typeof units)[number]) => risky === null && unit.endsWith(".service");
  const ordinary = units.filter(isOrdinary);
  const others = units.filter((one) => !isOrdinary(one));
  const named = (texts: readonly string[], separator: string) =>
    texts.length <= UNITS
      ? texts.join(separator)
      : `${texts.slice(0, UNITS).join(separator)}${separator}and ${texts.length - UNITS} more (--json has all)`;
  const owners = (of: typeof units) => named([...new Set(of.flatMap(({ packages }) => packages))], ", ");
  const texts = [
    ...(ordinary.length === 0
      ? []
      : [
          `still run the old ${owners(ordinary)}: ${named(
            ordinary.map(({ unit }) => unit),
            ", ",
          )}`,
          ordinary.length > UNITS
            ? "restart them: aegis plan services restart <unit>…"
            : `restart them: aegis plan services restart ${ordinary.map(({ unit }) => unit).join(" ")}`,
        ]),
    ...(others.length === 0
      ? []
      : [
          `still run the old ${owners(others)}, to be restarted with care: ${named(
            others.map(({ unit, risky }) => (risky === null ? unit : `${unit} (${risky})`)),
            "; ",
          )}`,
        ]),
    ...(unseen === 0 || units.length > 0
      ? []
      : [`${plural(unseen, "process", "processes")} could not be looked into; they may run old code`]),
    ...reasons.map((reason) => `reboot needed: ${reason}`),
  ];
  const mark = paint(terminal, "yellow", "!");
  return texts.map((text) => `  ${mark} ${fit(terminal, safe(text), "    ").join("\n")}`);
}

/** How long the execution took, without waiting for others. */
function took({ turn_at, started_at, ended_at }: Result): string {
  return ended_at === null ? "" : ` in ${seconds(turn_at ?? started_at, ended_at)}`;
}

/** The time before and during the run; unknown in files of older versions. */
function parts({ turn_at, started_at, ended_at }: Result): string[] {
  if (turn_at === null || ended_at === null) return [];
  const before = seconds(turn_at, started_at);
  return [`  ${before} to check it and plan again, ${seconds(started_at, ended_at)} to run it`];
}

function seconds(from: string, to: string): string {
  return `${((Date.parse(to) - Date.parse(from)) / 1000).toFixed(1)} s`;
}
