import { fit, paint, plural, safe, type Terminal } from "./terminal.ts";

type Level = "ok" | "warn" | "fail";

/** One finding. `fix` is what to type or do; empty when all is well. */
export interface Finding {
  check: string;
  level: Level;
  message: string;
  fix: string;
}

/** All is well. */
export const ok = (check: string, message: string): Finding => ({ check, level: "ok", message, fix: "" });
/** Something to look at; `fix` says what to type or do. */
export const warn = (check: string, message: string, fix: string): Finding => ({
  check,
  level: "warn",
  message,
  fix,
});
/** Something that makes Aegis unfit or unsafe here. */
export const fail = (check: string, message: string, fix: string): Finding => ({
  check,
  level: "fail",
  message,
  fix,
});

const MARKS: Record<Level, { symbol: string; style: "green" | "yellow" | "red" }> = {
  ok: { symbol: "✓", style: "green" },
  warn: { symbol: "!", style: "yellow" },
  fail: { symbol: "✗", style: "red" },
};

/** Findings as lines for people, with their marks and a count at the end. */
export function findingLines(findings: readonly Finding[], terminal: Terminal): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.flatMap(({ check, level, message, fix }) => {
    const { symbol, style } = MARKS[level];
    // Mark, check, text: what doesn't fit goes on below the text.
    const indent = " ".repeat(width + 4);
    const told = fit(terminal, safe(message), indent).join("\n");
    const line = `${paint(terminal, style, symbol)} ${check.padEnd(width)}  ${told}`;
    const hint = fix === "" ? [] : fit(terminal, safe(fix), indent);
    return [line, ...hint.map((text) => indent + paint(terminal, "dim", text.trimStart()))];
  });
  const count = (level: Level) => findings.filter((finding) => finding.level === level).length;
  return [...lines, "", `${plural(count("fail"), "failure")}, ${plural(count("warn"), "warning")}`].join(
    "\n",
  );
}
