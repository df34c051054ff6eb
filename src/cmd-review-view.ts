import { progressLine } from "./cmd-io.ts";
import { requestText } from "./cmd-plan-view.ts";
import type { Io } from "./command.ts";
import type { AiReview } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { clip, GUTTER, paint, plural, safe, showArgv, type Terminal, wrap } from "./terminal.ts";

const RISK_STYLE = { low: "green", medium: "yellow", high: "red", deny: "red" } as const;
/** Limit on each of the model's texts, in characters; the file has all of it. */
const SHOWN = 1200;
/** Limit on the entries of a list. */
const LISTED = 12;

interface ReviewFiles {
  /** How to name the plan on a command line. */
  plan: string;
  review: string;
  reply: string;
  /** Whether --out was given, so that policy needs the review's path. */
  isOut: boolean;
  /** How the model was asked, for people. */
  by: string;
}

/** A review for people. The model's text is escaped and indented. No trailing newline. */
export function renderReview(
  plan: OperationPlan,
  review: AiReview,
  files: ReviewFiles,
  terminal: Terminal,
): string {
  const lines = [
    ...wrap(`Review: ${requestText(plan, terminal)}`, terminal.width, GUTTER).map((line) =>
      paint(terminal, "bold", line),
    ),
    "",
    ...wrap(`Model           ${safe(review.model)}, ${safe(files.by)}`, terminal.width, GUTTER),
    `Risk            ${paint(terminal, RISK_STYLE[review.risk], review.risk)}`,
    `Recommendation  ${review.recommendation}`,
    `Supply chain    ${review.supply_chain_risk}`,
    `Privilege       ${review.privilege_risk}`,
    `Persistence     ${review.persistence_risk}`,
    `Availability    ${review.availability_risk}`,
    `Rollback        ${review.rollback_difficulty}`,
    "",
    ...quoted(review.summary, terminal),
    ...list("red flag", review.red_flags, terminal),
    ...list("requested control", review.required_controls, terminal, "requested controls"),
    "",
    "A model's opinion: it can only make the decision stricter.",
    `Written: ${safe(files.review)}`,
    `Full answer: ${safe(files.reply)}`,
    paint(
      terminal,
      "bold",
      `Next, you: aegis policy ${files.plan} --review ${files.isOut ? showArgv([files.review]) : review.plan_id}`,
    ),
  ];
  return lines.join("\n");
}

function list(one: string, entries: readonly string[], terminal: Terminal, many?: string): string[] {
  if (entries.length === 0) return [];
  const shown = entries.slice(0, LISTED).flatMap((entry) => quoted(entry, terminal, "· "));
  const more = entries.length - LISTED;
  return ["", plural(entries.length, one, many), ...shown, ...(more > 0 ? [`  and ${more} more`] : [])];
}

/** The model's text, wrapped and indented, so that none of it begins a line. */
function quoted(text: string, terminal: Terminal, mark = ""): string[] {
  const lines = wrap(safe(clip(text, SHOWN)), terminal.width - 4, "  ");
  return lines.map((line, i) => `  ${i === 0 ? mark : " ".repeat(mark.length)}${line}`);
}

export interface ReviewProgress {
  /** Says what is being waited for, and the time limit. */
  show(doing: string, limitMs: number | null): void;
  end(): void;
}

/** On a terminal, a line with the elapsed time, updated every second; elsewhere one line per stage. */
export function reviewProgress(io: Io): ReviewProgress {
  const { terminal, draw, wipe } = progressLine(io.env);
  const start = Date.now();
  let line = "";
  let timer: ReturnType<typeof setInterval> | undefined;
  const tick = () => draw(`${duration(Date.now() - start)}  ${line}`);
  return {
    show(doing, limitMs) {
      const text = limitMs === null ? safe(doing) : `${safe(doing)}, ${duration(limitMs)} at most`;
      if (text === line) return;
      line = text;
      if (io.json) return;
      if (!terminal.interactive) return io.note(line);
      timer ??= setInterval(tick, 1000);
      tick();
    },
    end() {
      clearInterval(timer);
      wipe();
    },
  };
}

/** `0:07`, `12:30`, `1:00:00`. */
function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60].map((n) => String(n).padStart(2, "0"));
  const hours = Math.floor(seconds / 3600);
  return hours > 0 ? `${hours}:${parts.join(":")}` : parts.join(":").replace(/^0/, "");
}
