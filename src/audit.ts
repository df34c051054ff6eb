import { existsSync } from "node:fs";
import { join } from "node:path";
import { AUDIT_KINDS, type AuditEvent } from "./audit-event.ts";
import { readEvents, tampered } from "./audit-read.ts";
import { verifyAuditLog } from "./audit-verify.ts";
import { type ArgsSpec, defineSubcommand } from "./command.ts";
import { AegisError, EXIT } from "./errors.ts";
import { AUDIT_FILE, auditDir, type Env, SYSTEM } from "./paths.ts";
import { bytes, paint, plural, safe, showArgv, table } from "./terminal.ts";

const SYSTEM_FLAG = {
  system: { type: "boolean", description: `The production log in ${SYSTEM.auditDir}` },
} as const satisfies ArgsSpec;

const WHICH = {
  ...SYSTEM_FLAG,
  path: {
    type: "string",
    valueHint: "file",
    description: "Another log: its directory, or one file by itself",
  },
} as const satisfies ArgsSpec;

/** The log that the flags name; without them the one that this user's commands write. */
function chosen(values: { system: boolean; path?: string | undefined }, env: Env): string {
  if (values.path === undefined) return values.system ? SYSTEM.auditDir : auditDir(env);
  if (!values.system) return values.path;
  throw new AegisError("usage", "--system and --path name two different logs", "Give one of them.");
}

export const auditPath = defineSubcommand({
  name: "path",
  description: "Print where the audit log is",
  args: SYSTEM_FLAG,
  async run(values, io) {
    const path = join(chosen(values, io.env), AUDIT_FILE);
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
    ...WHICH,
  },
  async run(values, io) {
    if (!/^[1-9]\d{0,6}$/.test(values.last)) {
      throw new AegisError("usage", `--last ${values.last} is not a number from 1 to 9999999`);
    }
    const kind = AUDIT_KINDS.find((name) => name === values.kind);
    const path = chosen(values, io.env);
    const events = readEvents(path, { last: Number(values.last), kind, execution: values.execution });
    const rows = events.map((event) => [
      String(event.sequence),
      // Month to second, UTC: the year and the rest are in --json.
      event.timestamp.slice(5, 19).replace("T", " "),
      event.kind,
      event.actor ?? "-",
      summaryOf(event),
    ]);
    const text =
      rows.length === 0 ? "no such events" : table(io.terminal, ["#", "TIME", "KIND", "ACTOR", "WHAT"], rows);
    io.result({ path, events }, text);
    return EXIT.ok;
  },
});

/** One line about what an event says, the most telling facts first. */
function summaryOf(event: AuditEvent): string {
  const { code, message } = event.details ?? {};
  return [
    event.decision,
    typeof code === "string" ? code : null,
    event.exit_status === null ? null : `exit ${event.exit_status}`,
    event.argv === null ? null : showArgv(event.argv),
    event.argv === null && typeof message === "string" ? message : null,
    event.execution_id === null ? null : `execution ${event.execution_id}`,
    event.execution_id === null && event.plan_id !== null ? `plan ${event.plan_id}` : null,
  ]
    .filter((part) => part !== null)
    .join("  ");
}

export const auditVerify = defineSubcommand({
  name: "verify",
  description: "Check every event's hash, the chain and the numbering",
  args: WHICH,
  async run(values, io) {
    const path = chosen(values, io.env);
    const result = verifyAuditLog(path);
    if (!result.ok) {
      const { ok: _, file, line, sequence, reason } = result;
      throw tampered(file, `line ${line}: ${reason}`, { line, sequence });
    }
    const { events, first, head, files, torn_bytes } = result;
    const lines = [
      `${paint(io.terminal, "green", "intact")}  ${plural(events, "event")} in ${plural(files, "file")}  ${safe(path)}`,
    ];
    if (head !== null) {
      lines.push(`newest  event ${head.sequence} of ${head.timestamp}`, `hash    ${head.hash}`);
    }
    if (first !== null && first > 1) {
      lines.push(
        `This file begins with event ${first}; what came before is in an older file and was not looked at.`,
      );
    }
    if (torn_bytes > 0) {
      lines.push(
        `The last line is torn (${bytes(torn_bytes)}): a write was interrupted. The next event repairs it and says so.`,
      );
    }
    lines.push(
      "A chain can't show that its end was cut off: keep the newest number and hash somewhere else.",
    );
    io.result({ path, ...result }, lines.join("\n"));
    return EXIT.ok;
  },
});

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

export const auditCheckpoint = notBuilt("checkpoint", WHICH);
export const auditProve = notBuilt("prove", {
  ...WHICH,
  sequence: { type: "string", valueHint: "n", description: "prove that this event is in the log" },
  since: { type: "string", valueHint: "file", description: "prove that the log extends this checkpoint" },
});
