import { resolve } from "node:path";
import { hasLog, noLog, readEvents } from "./audit-read.ts";
import { verifyAuditLog } from "./audit-verify.ts";
import { chosenLog, WHICH_LOG } from "./cmd-audit.ts";
import { DAY_MS, type LogReport, OUTCOME_WORDS, reportOf, tally } from "./cmd-audit-figures.ts";
import { logPageText } from "./cmd-page-log.ts";
import { defineSubcommand } from "./command.ts";
import { AegisError, EXIT } from "./errors.ts";
import { writeTyped } from "./sys-typed-file.ts";
import { paint, plural, safe, type Terminal, wrap } from "./terminal.ts";

/*
 * `aegis audit report`: for people who answer for a host.
 */

const DAYS = 90;
/** Most events that are read, the newest. */
const MOST_EVENTS = 200_000;

export const auditReport = defineSubcommand({
  name: "report",
  description:
    "Sum up a period of the log: executions, refusals, approvals, packages, and whether it is whole",
  args: {
    days: {
      type: "string",
      valueHint: "n",
      default: String(DAYS),
      description: "how many days back, at most 3660",
    },
    html: { type: "string", valueHint: "file", description: "write it as one page, for a browser" },
    ...WHICH_LOG,
  },
  async run(values, io) {
    if (!/^[1-9]\d{0,3}$/.test(values.days) || Number(values.days) > 3660) {
      throw new AegisError(
        "usage",
        `--days ${safe(values.days)} is not a number from 1 to 3660`,
        `Type: aegis audit report --days ${DAYS}`,
      );
    }
    const path = chosenLog(values, io.env);
    if (!hasLog(path)) throw noLog(path);
    const now = new Date();
    const since = new Date(now.getTime() - Number(values.days) * DAY_MS).toISOString();
    const read = readEvents(path, { since, last: MOST_EVENTS + 1 });
    const events = read.slice(-MOST_EVENTS);
    const cut = read.length > events.length;
    // A shorter log is shown from its beginning.
    const from = cut || events.length > 0 ? (events[0]?.timestamp ?? since) : since;
    const report = reportOf(events, {
      path,
      from,
      until: now.toISOString(),
      cut,
      verification: verifyAuditLog(path),
    });
    if (values.html !== undefined) {
      writeTyped(resolve(values.html), logPageText(report));
    }
    const { days: _days, executions: _executions, ...summary } = report;
    const written = values.html === undefined ? [] : [`Page: ${safe(values.html)}`];
    io.result(summary, [...reportLines(report, io.terminal), ...written].join("\n"));
    return report.verification.ok ? EXIT.ok : EXIT.verification;
  },
});

/** The report for a terminal. */
function reportLines(report: LogReport, terminal: Terminal): string[] {
  const { verification, outcomes, refusals, approvers, packages, notable } = report;
  const some = (texts: readonly string[], most = 8) =>
    `${texts.slice(0, most).join(", ")}${texts.length > most ? `, and ${texts.length - most} more` : ""}`;
  const rows: [string, string][] = [
    ["Log", `${report.path} of ${report.host ?? "this host"}`],
    [
      "Period",
      `${report.from} to ${report.until}, ${plural(report.events, "event")}${report.cut ? ", the newest" : ""}`,
    ],
    ["Executions", OUTCOME_WORDS.map((word) => `${outcomes[word]} ${word}`).join(", ")],
    ["Refusals", some(Object.entries(refusals).map(([code, n]) => `${code} ${n}`))],
    ["Approvers", some(approvers.map(({ name, approvals }) => `${name} ${approvals}`))],
    [
      "Packages",
      packages.length === 0
        ? ""
        : `${packages.length} changed; most often ${some(packages.map(({ name, changes }) => `${name} ${changes}`))}`,
    ],
    [
      "Notable",
      some(Object.entries(tally(notable.map(({ kind }) => kind))).map(([kind, n]) => `${kind} ${n}`)),
    ],
  ];
  const intact = verification.ok
    ? paint(terminal, "green", "intact")
    : paint(terminal, "red", `${verification.status}: ${safe(verification.reason)} (aegis audit verify)`);
  return [
    ...rows.flatMap(([label, text]) =>
      text === ""
        ? []
        : [`${label.padEnd(12)}${wrap(safe(text), terminal.width, " ".repeat(12)).join("\n")}`],
    ),
    `${"Chain".padEnd(12)}${intact}`,
  ];
}
