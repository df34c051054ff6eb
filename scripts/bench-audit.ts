import {
  closeSync,
  fdatasyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { encodeLine, GENESIS_HASH, type NewAuditEvent } from "../src/audit-event.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { verifyAuditLog } from "../src/audit-verify.ts";
import { alternate, type Line, line, median, output, ROOT } from "./bench-measure.ts";

/*
 * The audit log's speed, relative to what the machine itself can do, measured in the same run:
 *
 *   append   at 100, 10,000 and 1,000,000 events, against a bare write(2) + fdatasync(2) of lines as long (goals: flat
 *            within 10 %, at most twice the bare loop). The four are interleaved, so that a busy disk slows all of them.
 *   verify   1,000,000 events against sha256sum of the same file (goal: at most 3 times).
 *
 * Runs below dist/, on the disk that holds the checkout.
 */

const sample: NewAuditEvent = {
  kind: "execution_completed",
  actor: "anna@example.org",
  plan_id: crypto.randomUUID(),
  execution_id: crypto.randomUUID(),
  argv: ["apt-get", "install", "-y", "nginx=1.22.1-9+deb12u3"],
  decision: "require_human",
  exit_status: 0,
  stdout_sha256: "5".repeat(64),
  stderr_sha256: "e".repeat(64),
  details: { packages: 1, seconds: 12 },
};

/** Fills a log with `n` events quickly: one buffered write, no sync between. */
function fill(path: string, n: number): void {
  const fd = openSync(path, "w", 0o600);
  let previous_hash = GENESIS_HASH;
  let pending = "";
  for (let sequence = 1; sequence <= n; sequence++) {
    const timestamp = new Date(Date.UTC(2026, 0, 1) + sequence * 1000).toISOString();
    const at = { sequence, event_id: crypto.randomUUID(), timestamp, host: "server", previous_hash };
    const { event, line } = encodeLine(sample, at);
    previous_hash = event.event_hash;
    pending += line;
    if (pending.length > 1 << 20 || sequence === n) {
      writeSync(fd, pending);
      pending = "";
    }
  }
  fdatasyncSync(fd);
  closeSync(fd);
}

export function audit(quick: boolean): Line[] {
  const parent = join(ROOT, "dist");
  mkdirSync(parent, { recursive: true });
  const dir = mkdtempSync(join(parent, ".bench-audit-"));
  try {
    const lengths = quick ? [100, 10_000, 50_000] : [100, 10_000, 1_000_000];
    const logs = lengths.map((length) => {
      const logDir = join(dir, String(length));
      const log = openAuditLog(logDir, { rotateAt: Number.POSITIVE_INFINITY });
      const path = join(logDir, "audit.ndjson");
      fill(path, length);
      return { length, log, path };
    });
    return [...appendLines(dir, logs, quick ? 100 : 400), verifyLine(logs.at(-1), quick ? 2 : 3)];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

interface FilledLog {
  length: number;
  log: ReturnType<typeof openAuditLog>;
  path: string;
}

function appendLines(dir: string, logs: readonly FilledLog[], rounds: number): Line[] {
  const first = logs[0];
  if (first === undefined) return [];
  const bytes = Buffer.alloc(Math.round(statSync(first.path).size / first.length), "x");
  const fd = openSync(join(dir, "bare"), "a", 0o600);
  const [bare = [], ...ours] = alternate(rounds, 5, [
    () => {
      writeSync(fd, bytes);
      fdatasyncSync(fd);
    },
    ...logs.map(
      ({ log }) =>
        () =>
          log.append(sample),
    ),
  ]);
  closeSync(fd);
  const medians = ours.map(median);
  const appends = logs.map(({ length }, i) =>
    line({
      name: `audit append at ${length.toLocaleString("en")} events`,
      unit: "ms",
      ours: medians[i] ?? Number.NaN,
      reference: median(bare),
      against: `bare write + fdatasync of ${bytes.length} bytes`,
      goal: { of: "ratio", at_most: 2 },
      samples: rounds,
    }),
  );
  const flat = line({
    name: "audit append: slowest length",
    unit: "ms",
    ours: Math.max(...medians),
    reference: Math.min(...medians),
    against: "fastest length",
    goal: { of: "ratio", at_most: 1.1 },
    samples: rounds,
  });
  return [...appends, flat];
}

function verifyLine(longest: FilledLog | undefined, rounds: number): Line {
  const { path, length } = longest ?? { path: "", length: 0 };
  const [ours = [], sha256sum = []] = alternate(rounds, 0, [
    () => {
      if (!verifyAuditLog(path).ok) throw new Error("the log does not verify");
    },
    () => output(["sha256sum", path]),
  ]);
  return line({
    name: `audit verify of ${length.toLocaleString("en")} events`,
    unit: "ms",
    ours: median(ours),
    reference: median(sha256sum),
    against: "sha256sum of the same file",
    goal: { of: "ratio", at_most: 3 },
    samples: rounds,
  });
}
