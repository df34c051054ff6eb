import { defineSubcommand } from "./command.ts";
import { runChecks } from "./doctor-checks.ts";
import { EXIT } from "./errors.ts";
import type { Finding, Level } from "./finding.ts";
import { paint, plural, safe, type Terminal } from "./terminal.ts";

/** `aegis doctor`: is this host, and this user's part of it, fit for Aegis. */
export const doctor = defineSubcommand({
  name: "doctor",
  description:
    "Checks tools, directories, keys, policy, executor, audit logs and environment, read-only. Exits 8 when a check failed.",
  args: { skill: { type: "boolean", description: "print the rules for AI agents instead, as a skill" } },
  async run({ skill }, io) {
    if (skill) {
      const [{ skillText }, { loadPolicyConfig }] = await Promise.all([
        import("./skill.ts"),
        import("./policy-config.ts"),
      ]);
      const text = await skillText(loadPolicyConfig(io.env));
      io.result({ skill: text }, text);
      return EXIT.ok;
    }
    const findings = await runChecks(io.env);
    const failed = findings.filter(({ level }) => level === "fail").length;
    io.result({ healthy: failed === 0, findings }, render(findings, io.terminal));
    return failed === 0 ? EXIT.ok : EXIT.unavailable;
  },
});

const MARKS: Record<Level, { symbol: string; style: "green" | "yellow" | "red" }> = {
  ok: { symbol: "✓", style: "green" },
  warn: { symbol: "!", style: "yellow" },
  fail: { symbol: "✗", style: "red" },
};

function render(findings: readonly Finding[], terminal: Terminal): string {
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
