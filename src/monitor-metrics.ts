import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import type { AuditEvent, AuditKind } from "./audit-event.ts";
import { readEvents } from "./audit-read.ts";
import { canonicalJson, parseJson } from "./canonical.ts";
import type { SeenProcesses } from "./doc-processes.ts";
import { isPending, type RequestState } from "./doc-request.ts";
import { AegisError } from "./errors.ts";
import { type FeedAge, feedAges } from "./feeds-state.ts";
import { MONITOR_DIRECTORY } from "./monitor-state.ts";
import { METRICS_FILE, REQUESTS_STATE_FILE, SYSTEM } from "./paths.ts";
import { VERSION } from "./self.ts";
import { readFileLimited, readText, writeFileAtomic } from "./sys-files.ts";

/*
 * Figures of this host in Prometheus's text format, for the textfile collector of its node exporter. The file is in a directory of
 * Aegis's own: the exporter's belongs to its account on Debian, and an administrator links the file from there.
 * @see https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */

/** One metric with its samples. Values are seconds and bytes, as Prometheus recommends. */
export interface Metric {
  name: string;
  help: string;
  type: "gauge" | "counter";
  samples: readonly { labels?: Readonly<Record<string, string>>; value: number }[];
}

/** The metrics as text. Label values may hold anything; a backslash, a quote and a line feed are escaped. */
export function metricsText(metrics: readonly Metric[]): string {
  const escaped = (text: string) => text.replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`));
  return metrics
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, help, type, samples }) => {
      const lines = samples.map(({ labels = {}, value }) => {
        const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
        return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}\n`;
      });
      return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
    })
    .join("");
}

const OUTCOMES = ["completed", "failed", "interrupted", "denied"] as const;
type Outcome = (typeof OUTCOMES)[number];
const COUNTED_KINDS = [
  "execution_completed",
  "execution_interrupted",
  "execution_denied",
  "unmanaged_change",
] as const satisfies readonly AuditKind[];

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const CountsSchema = v.strictObject({
  /** The newest event that is counted. */
  sequence: count,
  completed: count,
  failed: count,
  interrupted: count,
  denied: count,
  unmanaged: count,
});
type Counts = v.InferOutput<typeof CountsSchema>;
const NOTHING: Counts = { sequence: 0, completed: 0, failed: 0, interrupted: 0, denied: 0, unmanaged: 0 };

function outcomeOf({ kind, details }: AuditEvent): Outcome | "unmanaged" {
  if (kind === "unmanaged_change") return "unmanaged";
  if (kind === "execution_denied") return "denied";
  if (kind === "execution_interrupted") return "interrupted";
  return details?.state === "completed" ? "completed" : "failed";
}

/** The counts with the events after them. Those of another log, which is shorter, are counted from the beginning. */
function countEvents(before: Counts, auditDir: string): Counts {
  const newest = readEvents(auditDir, { last: 1 })[0]?.sequence ?? 0;
  const from = before.sequence <= newest ? before : NOTHING;
  const counts = { ...from };
  for (const event of readEvents(auditDir, { kind: COUNTED_KINDS, after: from.sequence })) {
    const { count: runs } = event.details ?? {};
    const isMany =
      event.kind === "execution_denied" && typeof runs === "number" && Number.isSafeInteger(runs);
    counts[outcomeOf(event)] += isMany ? Math.max(1, runs) : 1;
    counts.sequence = Math.max(counts.sequence, event.sequence);
  }
  return counts;
}

/** What the monitor knows at the end of a run. */
export interface MetricFacts {
  /** Texts of doctor's warnings and failures, each beginning with its level. */
  findings: readonly string[];
  now: Date;
  /** Further metrics, of what others look after. */
  more: readonly Metric[];
}

/** The age of vulnerability data, for {@link MetricFacts}. None where feeds are off, and none of a state that can't be read: doctor says so. */
export function feedMetrics(now: Date, directory: string = SYSTEM.feeds): Metric[] {
  let ages: FeedAge[];
  try {
    ages = feedAges(now, directory);
  } catch (error) {
    if (error instanceof AegisError) return [];
    throw error;
  }
  const dated = ages.flatMap(({ feed, age_days: days }) =>
    days === null ? [] : [{ labels: { feed }, value: days * 86_400 }],
  );
  return [
    {
      name: "aegis_feed_age_seconds",
      help: "Age of the newest date in a feed of vulnerability data, in whole days.",
      type: "gauge",
      samples: dated,
    },
    {
      name: "aegis_feed_failed",
      help: "Whether the last attempt to download a feed failed.",
      type: "gauge",
      samples: ages.map(({ feed, problem }) => ({ labels: { feed }, value: problem === null ? 0 : 1 })),
    },
  ];
}

interface MetricPaths {
  auditDir: string;
  run: string;
  counts: string;
  file: string;
}
const PATHS: MetricPaths = {
  auditDir: SYSTEM.auditDir,
  run: SYSTEM.run,
  counts: join(MONITOR_DIRECTORY, "metrics.json"),
  file: METRICS_FILE,
};

/** Writes the file, readable by everybody. @throws AegisError `io`, `log_tampered` */
export function writeMetrics(facts: MetricFacts, paths: MetricPaths = PATHS): void {
  const counts = countEvents(readCounts(paths.counts), paths.auditDir);
  writeFileAtomic(paths.counts, canonicalJson(counts));
  writeFileAtomic(paths.file, metricsText(metricsOf(facts, counts, paths)), 0o644);
}

function metricsOf({ findings, now, more }: MetricFacts, counts: Counts, paths: MetricPaths): Metric[] {
  const gauge = (name: string, help: string, value: number): Metric => {
    return { name, help, type: "gauge", samples: [{ value }] };
  };
  const files = readdirSync(paths.auditDir).filter((name) =>
    /^audit(?:-\d{16})?\.ndjson(?:\.\w+)?$/.test(name),
  );
  const bytes = files.map(
    (name) => statSync(join(paths.auditDir, name), { throwIfNoEntry: false })?.size ?? 0,
  );
  const level = (name: string) => findings.filter((text) => text.startsWith(`${name} `)).length;
  return [
    {
      ...gauge("aegis_info", "The version of Aegis on this host.", 1),
      samples: [{ labels: { version: VERSION }, value: 1 }],
    },
    gauge(
      "aegis_monitor_timestamp_seconds",
      "When the monitor last looked at this host, in Unix time.",
      Math.floor(now.getTime() / 1000),
    ),
    {
      name: "aegis_executions_total",
      help: "Executions by outcome: completed, failed, interrupted, denied.",
      type: "counter",
      samples: OUTCOMES.map((outcome) => ({ labels: { outcome }, value: counts[outcome] })),
    },
    {
      name: "aegis_unmanaged_changes_total",
      help: "Events of package changes that no execution explains.",
      type: "counter",
      samples: [{ value: counts.unmanaged }],
    },
    gauge("aegis_requests_pending", "Requests that wait for a person.", pendingRequests(paths.run)),
    {
      ...gauge("aegis_findings", "What aegis doctor warns of and calls a failure.", 0),
      samples: ["warn", "fail"].map((name) => ({ labels: { level: name }, value: level(name) })),
    },
    gauge(
      "aegis_audit_log_bytes",
      "Size of the audit log, all of its files.",
      bytes.reduce((sum, size) => sum + size, 0),
    ),
    gauge(
      "aegis_audit_log_files",
      "Files of the audit log: one, and one more for each rotation.",
      files.length,
    ),
    ...more,
  ];
}

/** Units that run old code, and reasons for a reboot; nothing if nobody could look. */
export function processMetrics(seen: Pick<SeenProcesses, "units" | "reboot"> | null): Metric[] {
  if (seen === null) return [];
  const gauge = (name: string, help: string, value: number): Metric => {
    return { name, help, type: "gauge", samples: [{ value }] };
  };
  const old = seen.units.filter((unit) => unit.old.length > 0).length;
  return [
    gauge("aegis_units_with_old_code", "Units that run code which is no longer on disk.", old),
    gauge(
      "aegis_reboot_needed",
      "Reasons why only a reboot brings new code; 0 if there is none.",
      seen.reboot.length,
    ),
  ];
}

/** Of the file that the runner writes and everybody may read. */
function pendingRequests(directory: string): number {
  const lines = (readText(join(directory, REQUESTS_STATE_FILE)) ?? "").split("\n");
  return lines.filter((line) => isPending((line.split(" ")[2] ?? "") as RequestState)).length;
}

/** Those of the last run; none if its file is missing or not one of ours, so that all is counted again. */
function readCounts(path: string): Counts {
  try {
    return v.parse(CountsSchema, parseJson(readFileLimited(path, 4096).toString("utf8")));
  } catch {
    return NOTHING;
  }
}
