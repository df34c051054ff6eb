import { type LogReport, OUTCOME_WORDS } from "./cmd-audit-figures.ts";
import { bullets, html, type Markup, pageText, rowsTable, section, terms, tile } from "./cmd-page.ts";
import { plural } from "./terminal.ts";

/* The report of a log as a page. */

/** Rows of one table. */
const MOST = 500;
const KINDS = { completed: "good", failed: "bad", interrupted: "warn", denied: "" } as const;

/** The page of a report. */
export function logPageText(report: LogReport): string {
  const { outcomes, executions, approvers, packages, notable, decisions, refusals } = report;
  return pageText(
    `Log of ${report.host ?? report.path}`,
    html`${[
      html`<h1>Log of ${report.host ?? report.path}</h1>`,
      terms([
        ["Log", html`<code>${report.path}</code>`],
        [
          "Period",
          `${minute(report.from)} to ${minute(report.until)} UTC${report.cut ? ", its newest events" : ""}`,
        ],
        ["Events", String(report.events)],
      ]),
      verified(report),
      html`<div class="tiles">${OUTCOME_WORDS.map((word) => tile(outcomes[word], word, KINDS[word]))}</div>`,
      section("Executions by day", chart(report.days), legend()),
      section(
        "Besides executions",
        rowsTable(
          ["Time (UTC)", "Event", "What"],
          notable.slice(0, MOST).map(({ at, kind, message }) => [minute(at), kind, message]),
        ),
        leftOut(notable.length),
      ),
      section(
        "Who approved",
        rowsTable(
          ["Approver", { number: "Executions" }],
          approvers.map(({ name, approvals }) => [name, approvals]),
        ),
      ),
      section("What policy decided", counts("Decision", decisions)),
      section("Why the executor refused", counts("Code", refusals)),
      section(
        "Packages that executions changed",
        rowsTable(
          ["Package", { number: "Changes" }, "Newest change", "Time (UTC)"],
          packages.slice(0, MOST).map(({ name, changes, last, at }) => [name, changes, last, minute(at)]),
        ),
        leftOut(packages.length),
      ),
      section(
        "Executions and refusals, the newest first",
        rowsTable(
          ["Time (UTC)", "Outcome", "What", { number: "Packages" }, "Asked", "Approved"],
          executions
            .slice(0, MOST)
            .map((one) => [
              minute(one.at),
              html`<span class="${KINDS[one.outcome]}">${one.outcome}${one.count > 1 ? ` (${one.count} times)` : ""}</span> ${one.code ?? ""}`,
              one.operation ?? "",
              one.packages ?? "",
              one.asked ?? "",
              one.approved ?? "",
            ]),
        ),
        leftOut(executions.length),
      ),
      html`<p class="dim">The log is the record; this page is what aegis audit report made of it at ${report.until}.</p>`,
    ]}`,
  );
}

function verified({ verification }: LogReport): Markup {
  if (!verification.ok) {
    const { file, line, reason, status } = verification;
    return html`<div class="box deny"><p class="bad"><b>The log is ${status}.</b> ${file}${line === null ? "" : `, line ${line}`}: ${reason}</p>
<p>Type: <code>aegis audit verify</code></p></div>`;
  }
  const { events, files, head } = verification;
  return html`<div class="box allow"><p class="good"><b>The chain is intact</b>: ${plural(events, "event")} in ${plural(files, "file")}.</p>
${
  head === null
    ? null
    : html`<p class="dim">Newest event ${head.sequence} of ${head.timestamp}, <code>${head.sequence}:${head.hash}</code>.
Only a head that was kept elsewhere proves that the end was not cut off.</p>`
}</div>`;
}

/** Bars by day, and by week where there are many days. */
function chart(days: LogReport["days"]): Markup {
  const step = Math.ceil(days.length / 100);
  const bars = Array.from({ length: Math.ceil(days.length / step) }, (_, n) => {
    const of = days.slice(n * step, (n + 1) * step);
    const sums = OUTCOME_WORDS.map((word) => of.reduce((sum, { outcomes }) => sum + outcomes[word], 0));
    return { from: of[0]?.day ?? "", until: of.at(-1)?.day ?? "", sums };
  });
  const most = Math.max(1, ...bars.map(({ sums }) => sums.reduce((a, b) => a + b, 0)));
  const [left, width, height] = [34, 900, 170];
  const slot = (width - left) / bars.length;
  const scale = (n: number) => (n / most) * height;
  const drawn = bars.flatMap(({ from, until, sums }, n) => {
    let below = 0;
    const title = `${from === until ? from : `${from} to ${until}`}: ${OUTCOME_WORDS.map((word, i) => `${sums[i]} ${word}`).join(", ")}`;
    return sums.map((sum, kind) => {
      const y = height + 10 - scale(below) - scale(sum);
      below += sum;
      return sum === 0
        ? null
        : html`<rect class="s${kind}" x="${fixed(left + n * slot + slot * 0.12)}" y="${fixed(y)}" width="${fixed(slot * 0.76)}" height="${fixed(scale(sum))}"><title>${title}</title></rect>`;
    });
  });
  const [first, last] = [bars[0]?.from ?? "", bars.at(-1)?.until ?? ""];
  return html`<svg viewBox="0 0 ${width} ${height + 32}" role="img" aria-label="Executions by day, at most ${most} in one bar">
<line class="axis" x1="${left}" y1="${height + 10}" x2="${width}" y2="${height + 10}"/>
<text x="${left - 6}" y="16" text-anchor="end">${most}</text>
<text x="${left - 6}" y="${height + 12}" text-anchor="end">0</text>
${drawn}
<text x="${left}" y="${height + 26}">${first}</text>
<text x="${width}" y="${height + 26}" text-anchor="end">${last === first ? "" : last}</text>
</svg>`;
}

function legend(): Markup {
  return html`<p class="dim">${OUTCOME_WORDS.map((word, n) => html`<span class="key s${n}"></span>${word} `)}</p>`;
}

function counts(head: string, of: Readonly<Record<string, number>>): Markup {
  return rowsTable(
    [head, { number: "Number" }],
    Object.entries(of).map(([word, n]) => [word, n]),
  );
}

function leftOut(length: number): Markup {
  return bullets(length > MOST ? [`${length - MOST} older ones are left out: aegis audit show --json`] : []);
}

function minute(time: string): string {
  return time.slice(0, 16).replace("T", " ");
}

function fixed(n: number): string {
  return n.toFixed(2);
}
