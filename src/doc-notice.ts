import { rmSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { DECISIONS } from "./doc.ts";
import { count, schemaVersion, short, timestamp } from "./doc-fields.ts";
import { REQUEST_STATES, type RequestSummary } from "./doc-request.ts";
import { messageOf } from "./errors.ts";
import { namesIn, readFileLimited, writeFileAtomic } from "./sys-files.ts";

/*
 * What people are told of a request. The runner writes one small file at each change; the notifier, an unprivileged service,
 * reads them and sends them on. They carry no authority: an approver reads the request itself.
 */

const MAX_BYTES = 16 * 1024;
/** The oldest are removed beyond this. Every notice has been sent or given up long before. */
const KEPT = 500;
const NAME = /^(\d{1,15})-(\d{1,9})\.json$/;

export const Notice = v.strictObject({
  schema_version: schemaVersion,
  number: count,
  revision: count,
  state: v.picklist(REQUEST_STATES),
  at: timestamp,
  host: short,
  user: short,
  /** `apt install nginx` */
  what: short,
  reason: v.pipe(v.string(), v.maxLength(500)),
  decision: v.picklist(DECISIONS),
  approvals: count,
  approvals_required: count,
  expires_at: timestamp,
  /** Of an ended request: who ended it, and why. */
  by: v.nullable(short),
  why: v.nullable(v.pipe(v.string(), v.maxLength(4096))),
});
export type Notice = v.InferOutput<typeof Notice>;

/** The notice of a request as it is now. */
export function noticeOf(request: RequestSummary, host: string, now: Date): Notice {
  const { number, revision, state, ecosystem, operation, targets, targets_left_out: more, end } = request;
  const names = [...targets, ...(more === 0 ? [] : [`and ${more} more`])].join(" ");
  return {
    schema_version: "1.0",
    ...{ number, revision, state, at: now.toISOString(), host },
    user: request.user ?? `uid ${request.uid}`,
    what: `${ecosystem} ${operation} ${names}`.trim().slice(0, 300),
    reason: request.reason,
    decision: request.decision,
    approvals: request.approvals.length,
    approvals_required: request.approvals_required,
    expires_at: request.expires_at,
    by: end?.by ?? null,
    why: end?.reason ?? null,
  };
}

/**
 * Writes a notice, readable by the directory's group, and removes the oldest.
 * @throws AegisError `io`
 */
export function writeNotice(directory: string, notice: Notice): void {
  const file = `${notice.number}-${notice.revision}.json`;
  writeFileAtomic(join(directory, file), `${JSON.stringify(notice)}\n`, 0o640);
  const surplus = noticeNames(directory).slice(0, -KEPT);
  for (const name of surplus) rmSync(join(directory, name), { force: true });
}

/** Names of the notices, oldest first. */
export function noticeNames(directory: string): string[] {
  const order = (name: string) => (NAME.exec(name) ?? []).slice(1).map(Number);
  return namesIn(directory)
    .filter((name) => NAME.test(name))
    .sort((a, b) => {
      const [[n = 0, r = 0], [m = 0, s = 0]] = [order(a), order(b)];
      return n - m || r - s;
    });
}

/** A notice, or why it can't be read. */
export function readNotice(directory: string, name: string): Notice | { problem: string } {
  try {
    const bytes = readFileLimited(join(directory, name), MAX_BYTES);
    return v.parse(Notice, parseJson(bytes.toString("utf8")));
  } catch (error) {
    return { problem: messageOf(error) };
  }
}
