import { fit, paint, plural, safe, type Terminal } from "./terminal.ts";

type Level = "ok" | "warn" | "fail";

/** The result of one check. `fix` is what to type or do; empty if nothing is wrong. */
export interface Finding {
  check: string;
  level: Level;
  message: string;
  fix: string;
}

/** Nothing is wrong. */
export const ok = (check: string, message: string): Finding => ({ check, level: "ok", message, fix: "" });
/** A possible problem; `fix` says what to type or do. */
export const warn = (check: string, message: string, fix: string): Finding => ({
  check,
  level: "warn",
  message,
  fix,
});
/** A fault that makes Aegis unusable or unsafe on this host. */
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

/** Findings as text for people, one marked line each, and the counts. */
export function findingLines(findings: readonly Finding[], terminal: Terminal): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.flatMap(({ check, level, message, fix }) => {
    const { symbol, style } = MARKS[level];
    // Continuation lines align with the message, after mark and check.
    const indent = " ".repeat(width + 4);
    const text = fit(terminal, safe(message), indent).join("\n");
    const line = `${paint(terminal, style, symbol)} ${check.padEnd(width)}  ${text}`;
    const hint = fix === "" ? [] : fit(terminal, safe(fix), indent);
    return [line, ...hint.map((part) => indent + paint(terminal, "dim", part.trimStart()))];
  });
  const count = (level: Level) => findings.filter((finding) => finding.level === level).length;
  return [...lines, "", `${plural(count("fail"), "failure")}, ${plural(count("warn"), "warning")}`].join(
    "\n",
  );
}
