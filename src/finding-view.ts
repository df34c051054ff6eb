import type { Finding, Level } from "./finding.ts";
import { fit, paint, plural, safe, type Terminal } from "./terminal.ts";

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
