import { existsSync } from "node:fs";
import { join } from "node:path";
import { AUDIT_KINDS } from "./audit-event.ts";
import { hasLog, noLog, readEvents, tampered } from "./audit-read.ts";
import {
  type ExpectedHead,
  type LogFault,
  parseHead,
  showHead,
  type Verification,
  verifyAuditLog,
} from "./audit-verify.ts";
import { isUuidPrefix } from "./canonical.ts";
import { renderEvents } from "./cmd-audit-view.ts";
import { type ArgsSpec, defineSubcommand } from "./command.ts";
import { AegisError, type ErrorCode, EXIT } from "./errors.ts";
import { AUDIT_FILE, auditDir, type Env, SYSTEM } from "./paths.ts";
import { bytes, fit, paint, plural, safe } from "./terminal.ts";

const SYSTEM_FLAG = {
  system: { type: "boolean", description: `The production log in ${SYSTEM.auditDir}` },
} as const satisfies ArgsSpec;

/** Which log a command reads. */
export const WHICH_LOG = {
  ...SYSTEM_FLAG,
  path: {
    type: "string",
    valueHint: "file",
    description: "Another log: its directory, or one file by itself",
  },
} as const satisfies ArgsSpec;

/** The log that the flags name, by default the user's own. */
export function chosenLog(values: { system: boolean; path?: string | undefined }, env: Env): string {
  if (values.path === undefined) return values.system ? SYSTEM.auditDir : auditDir(env);
  if (!values.system) return values.path;
  throw new AegisError("usage", "--system and --path name different logs", "Give only one of them.");
}

export const auditPath = defineSubcommand({
  name: "path",
  description: "Print where the audit log is",
  args: SYSTEM_FLAG,
  async run(values, io) {
    const path = join(chosenLog(values, io.env), AUDIT_FILE);
    io.result({ path, exists: existsSync(path) }, safe(path));
    return EXIT.ok;
  },
});

export const auditShow = defineSubcommand({
  name: "show",
  description: "Show the newest events, newest last",
  args: {
    last: { type: "string", valueHint: "n", default: "20", description: "How many events at most" },
    kind: { type: "enum", options: [...AUDIT_KINDS], description: "Only events of this kind" },
    execution: {
      type: "string",
      valueHint: "id",
      description: "Only events of this execution (id or how it begins)",
    },
    ...WHICH_LOG,
  },
  async run(values, io) {
    if (!/^[1-9]\d{0,6}$/.test(values.last)) {
      throw new AegisError("usage", `--last ${values.last} is not a number from 1 to 9999999`);
    }
    const kind = AUDIT_KINDS.find((name) => name === values.kind);
    if (values.execution !== undefined && !isUuidPrefix(values.execution, 1)) {
      throw new AegisError(
        "usage",
        `--execution ${safe(values.execution)} is neither an execution id nor the beginning of one`,
        "List the ids: aegis daemon status; the beginning of one looks like 0b6ffbe2",
      );
    }
    const path = chosenLog(values, io.env);
    if (!hasLog(path)) throw noLog(path);
    const events = readEvents(path, { last: Number(values.last), kind, execution: values.execution });
    io.result({ path, events }, renderEvents(events, io.terminal));
    return EXIT.ok;
  },
});

export const auditVerify = defineSubcommand({
  name: "verify",
  description: "Check every event's hash, the chain and the numbering",
  args: {
    "expect-head": {
      type: "string",
      valueHint: "n:hash",
      description: "an event that was kept elsewhere, as verify prints it: it must be in the log still",
    },
    ...WHICH_LOG,
  },
  async run(values, io) {
    const path = chosenLog(values, io.env);
    const expected = expectedHead(values["expect-head"]);
    const result = verifyAuditLog(path, expected);
    if (!result.ok) throw faulty(result);
    const { events, first, head, files, torn_bytes } = result;
    const lines = [
      `${paint(io.terminal, "green", "intact")}  ${plural(events, "event")} in ${plural(files, "file")}  ${safe(path)}`,
    ];
    if (head !== null) {
      lines.push(`newest  event ${head.sequence} of ${head.timestamp}`, `head    ${showHead(head)}`);
    }
    if (expected !== null)
      lines.push(`since   event ${expected.sequence}: it is unchanged, and the log continues from it`);
    if (first !== null && first > 1) {
      lines.push(
        `This file begins with event ${first}; earlier events are in an older file and were not checked.`,
      );
    }
    if (torn_bytes > 0) {
      lines.push(
        `The last line is torn (${bytes(torn_bytes)}): a write was interrupted. The next event repairs and reports it.`,
      );
    }
    const advice =
      "A hash chain can't prove that its end was not cut off. Keep the head elsewhere, and check it next time: --expect-head <head>";
    lines.push(...fit(io.terminal, advice, ""));
    const kept = head === null ? null : showHead(head);
    io.result({ path, ...result, expect_head: kept }, lines.join("\n"));
    return EXIT.ok;
  },
});

function expectedHead(text: string | undefined): ExpectedHead | null {
  if (text === undefined) return null;
  const head = parseHead(text);
  if (head !== null) return head;
  throw new AegisError(
    "usage",
    `--expect-head ${safe(text)} is not an event's number and hash`,
    "It looks like 12:<64 hexadecimal digits>; aegis audit verify prints it as head.",
  );
}

/** Codes and hints for faults that are not tampering with existing entries. */
const LOST: Partial<Record<LogFault, { code: ErrorCode; hint: string }>> = {
  empty: {
    code: "log_empty",
    hint: "Compare with your copies. If nothing was ever recorded here, remove the file: the next event starts a new log.",
  },
  torn: {
    code: "log_torn",
    hint: "Compare with your copies. The next event repairs the line, reports it, and starts a new log.",
  },
  missing: {
    code: "log_missing",
    hint: "Restore it from your copies. Otherwise the next event starts a new log.",
  },
};

/** The error for a log that does not verify. */
function faulty({ status, file, line, sequence, reason }: Extract<Verification, { ok: false }>): AegisError {
  const lost = LOST[status];
  const details = { status, line, sequence };
  if (lost === undefined) return tampered(file, `${line === null ? "" : `line ${line}: `}${reason}`, details);
  return new AegisError(lost.code, `the audit log ${file} is ${status}: ${reason}`, lost.hint, {
    file,
    ...details,
  });
}

function notBuilt<const A extends ArgsSpec>(name: string, args: A) {
  return defineSubcommand<A>({
    name,
    description: "Not built yet",
    args,
    async run() {
      throw new AegisError("not_built", `aegis audit ${name} is not built yet`, "Type: aegis audit verify");
    },
  });
}

export const auditCheckpoint = notBuilt("checkpoint", WHICH_LOG);
export const auditProve = notBuilt("prove", {
  ...WHICH_LOG,
  sequence: { type: "string", valueHint: "n", description: "prove that this event is in the log" },
  since: { type: "string", valueHint: "file", description: "prove that the log extends this checkpoint" },
});
