import {
  closeSync,
  constants,
  existsSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { readEvents } from "./audit-read.ts";
import { parseJson } from "./canonical.ts";
import { FIRST_TOOL } from "./doc-plan.ts";
import { AegisError, messageOf } from "./errors.ts";
import { RequestFiles } from "./exec-request-files.ts";
import { AUDIT_FILE } from "./paths.ts";
import { syncDirectory } from "./sys-files.ts";
import type { StatePaths } from "./sys-state.ts";

/** What one execution used up, permanently. */
const Use = v.strictObject({
  at: v.string(),
  /** The ecosystem of the plan. Missing in lines of versions that had only one. */
  tool: v.optional(v.string(), FIRST_TOOL),
  execution_plan_id: v.string(),
  operation_plan_hash: v.string(),
  /** Hashes of the plan's approvals. */
  approvals: v.array(v.string()),
  /** Sequence of the newest audit event at that time, from which to read the log; 0 if it was empty. */
  audit_sequence: v.number(),
});
export type Use = v.InferOutput<typeof Use>;

/** An on-disk name since the first version, so it can't change. */
const FILE = "spent.ndjson";

/**
 * The record of used plans and approvals: one fsynced line per execution, appended under the run lock before anything runs.
 * Read completely each time, without any cache.
 */
export class UsedRecord {
  readonly #path: string;
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.#path = join(directory, FILE);
  }

  /**
   * All uses on record.
   * @throws AegisError `refused` if a complete line can't be parsed: then nothing may run
   */
  read(): Use[] {
    let text: string;
    try {
      text = readFileSync(this.#path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
      throw new AegisError("io", `can't read ${this.#path}: ${messageOf(error)}`);
    }
    const lines = text.split("\n");
    // After the last newline is nothing, or a line whose append was interrupted: its plan never started.
    lines.pop();
    return lines.map((line, n) => {
      try {
        return v.parse(Use, parseJson(line));
      } catch {
        throw new AegisError(
          "refused",
          `${this.#path}: line ${n + 1} is damaged`,
          "Restore the file; without it a used plan could run again.",
        );
      }
    });
  }

  /** Appends uses durably: returns once they are on disk. */
  append(uses: readonly Use[]): void {
    if (uses.length === 0) return;
    const fd = openSync(this.#path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    try {
      const text = readFileSync(fd);
      const complete = text.lastIndexOf(0x0a) + 1;
      if (complete < fstatSync(fd).size) ftruncateSync(fd, complete);
      const lines = Buffer.from(uses.map((use) => `${JSON.stringify(use)}\n`).join(""));
      appendAt(fd, lines, complete);
    } finally {
      closeSync(fd);
    }
    syncDirectory(this.#directory);
  }
}

/** Writes durably. On failure it restores the file, if that is possible. */
function appendAt(fd: number, bytes: Uint8Array, offset: number): void {
  try {
    let done = 0;
    while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
    fdatasyncSync(fd);
  } catch (error) {
    try {
      ftruncateSync(fd, offset);
      fdatasyncSync(fd);
    } catch {
      // Then the plan may count as used although it does not run, which is safe.
    }
    throw new AegisError("io", `can't write the record of used plans: ${messageOf(error)}`);
  }
}

/**
 * Says why a plan and its approvals may not run, or returns null: they allow one run, and none once their request was rejected,
 * withdrawn or planned again as another change. Asks the log too, since the record may have been replaced by an older copy.
 * @throws AegisError `refused`, `log_tampered`, `io`
 */
export function whyUnusable(
  paths: Pick<StatePaths, "used" | "audit" | "requests" | "run">,
  use: Pick<Use, "execution_plan_id" | "operation_plan_hash" | "approvals">,
  now: Date,
): string | null {
  const record = new UsedRecord(paths.used).read();
  const used = alreadyUsed([...record, ...usesLost(record, paths.audit)], use);
  return used ?? new RequestFiles(paths).takenAway([use.operation_plan_hash, ...use.approvals], now);
}

/**
 * Says what of `use` was used before, or returns null. Approvals count too: one approval allows one run.
 */
export function alreadyUsed(
  record: readonly Use[],
  use: Pick<Use, "execution_plan_id" | "operation_plan_hash" | "approvals">,
): string | null {
  for (const earlier of record) {
    if (earlier.execution_plan_id === use.execution_plan_id)
      return `this execution plan was used at ${earlier.at}`;
    if (earlier.operation_plan_hash === use.operation_plan_hash) {
      return `its operation plan was used at ${earlier.at} by execution ${earlier.execution_plan_id}`;
    }
    if (use.approvals.some((hash) => earlier.approvals.includes(hash))) {
      return `one of its approvals was used at ${earlier.at} by execution ${earlier.execution_plan_id}`;
    }
  }
  return null;
}

/**
 * Uses in the audit log that are missing from `record`, for example because an older copy was restored. Append them with the
 * next use, since the log is read only from the position in the record's last line.
 * @throws AegisError `log_tampered`
 */
export function usesLost(record: readonly Use[], auditDir: string): Use[] {
  if (!existsSync(join(auditDir, AUDIT_FILE))) return [];
  const known = new Set(record.map((use) => use.execution_plan_id));
  const after = record.at(-1)?.audit_sequence ?? 0;
  return readEvents(auditDir, { kind: "execution_started", after }).flatMap(
    ({ details, timestamp, sequence }) => {
      const use = v.safeParse(LoggedUse, details);
      if (!use.success || known.has(use.output.execution_plan_id)) return [];
      return [{ ...use.output, at: timestamp, audit_sequence: sequence }];
    },
  );
}

const LoggedUse = v.object({
  tool: v.optional(v.string(), FIRST_TOOL),
  execution_plan_id: v.string(),
  operation_plan_hash: v.string(),
  approvals: v.array(v.string()),
});
