import type { PolicyReport } from "./report.ts";
import type { ReportAdvice } from "./report-advice.ts";
import { paint, plural, safe, type Terminal, table, wrap } from "./terminal.ts";

/** Limit on the rows of each table; the report itself has all. */
const SHOWN = 10;

/** A report for people: counts, patterns and candidate tests. No trailing newline. */
export function renderReport(report: PolicyReport, advice: ReportAdvice | null, terminal: Terminal): string {
  const unverified = report.plans_read - report.plans_verified;
  const candidates = report.candidate_policy_tests;
  const kept = candidates.filter(({ kind }) => kind === "keeps");
  const lines = [
    `${plural(report.plans_read, "signed plan")} read, ${report.plans_verified} verified`,
    ...(unverified === 0
      ? []
      : [paint(terminal, "red", `${plural(unverified, "plan")} NOT VERIFIED: fixtures, never evidence`)]),
    ...section(
      terminal,
      "Approved more than once, by the same person for the same rules",
      ["times", "operation", "rules", "approver", "median"],
      report.approval_patterns.map((row) => [
        marked(row.times, row.verified),
        row.operation,
        row.rules.join(" "),
        row.approver,
        duration(row.seconds_after_plan.median),
      ]),
    ),
    ...section(
      terminal,
      "Approvers",
      ["approvals", "approver", "key", "reasons", "fastest", ""],
      report.approvers.map((row) => [
        marked(row.approvals, row.verified),
        row.approver,
        row.key ?? "-",
        String(row.distinct_reasons),
        duration(row.seconds_after_plan.least),
        row.approves_alone ? "alone" : "",
      ]),
    ),
    ...section(
      terminal,
      "Packages approved more than once",
      ["times", "package", "changes", "approvers"],
      report.recurring_packages.map((row) => [
        marked(row.times, row.verified),
        `${row.tool} ${row.package}`,
        row.actions.join(" "),
        String(row.approvers),
      ]),
    ),
    ...section(
      terminal,
      "Reasons given more than once",
      ["times", "reason", "by"],
      report.recurring_reasons.map((row) => [
        marked(row.times, row.verified),
        row.reason,
        row.approvers.join(", "),
      ]),
    ),
    ...section(
      terminal,
      `Candidate policy tests: ${kept.length} that a decision stays, ${candidates.length - kept.length} of denials`,
      ["keep", "operation", "rules"],
      kept.map((one) => [one.expect.decision, one.case.operation, one.case.rules.join(" ")]),
    ),
  ];
  if (advice !== null) {
    lines.push("", paint(terminal, "yellow", `UNTRUSTED: comments by the model ${safe(advice.model)}`));
    for (const line of advice.text.split("\n")) {
      lines.push(...wrap(line, terminal.width - 2, "").map((part) => `| ${part}`));
    }
  }
  return [...lines, "", ...wrap(report.advice, terminal.width, "")].join("\n");
}

function section(terminal: Terminal, title: string, header: string[], rows: readonly string[][]): string[] {
  if (rows.length === 0) return [];
  const more = rows.length - SHOWN;
  return [
    "",
    paint(terminal, "bold", title),
    table(terminal, header, rows.slice(0, SHOWN)),
    ...(more > 0 ? [`and ${more} more`] : []),
  ];
}

function marked(count: number, verified: boolean): string {
  return verified ? String(count) : `${count} UNVERIFIED`;
}

function duration(seconds: number): string {
  if (Math.abs(seconds) < 120) return `${seconds} s`;
  return Math.abs(seconds) < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
