import type { Finding, Level } from "./finding.ts";
import { paint, plural, safe, type Terminal } from "./terminal.ts";

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
    const line = `${paint(terminal, style, symbol)} ${check.padEnd(width)}  ${safe(message)}`;
    return fix === "" ? [line] : [line, `  ${" ".repeat(width)}  ${paint(terminal, "dim", safe(fix))}`];
  });
  const count = (level: Level) => findings.filter((finding) => finding.level === level).length;
  return [...lines, "", `${plural(count("fail"), "failure")}, ${plural(count("warn"), "warning")}`].join(
    "\n",
  );
}
