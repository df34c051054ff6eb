import { columnsRow, fitColumns } from "./cmd-columns.ts";
import { type ArgsSpec, defineSubcommand, type Io } from "./command.ts";
import type { Decision } from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { type Result, readResult } from "./doc-result.ts";
import { documentPath, newestDocuments, readStored } from "./doc-store.ts";
import { AegisError, EXIT, messageOf } from "./errors.ts";
import { callExecutor } from "./front-client.ts";
import { SYSTEM } from "./paths.ts";
import { clip, fit, GUTTER, paint, plural, safe, showArgv, type Terminal } from "./terminal.ts";
import type { Outcome, Status } from "./wire-executor.ts";

/* `plan list` and `apply list`: a line for each plan and each execution, the newest first. */

/** Limit on the characters of a request or a command in a list. */
const MOST_CHARACTERS = 300;
const LAST = { type: "string", valueHint: "n", default: "20", description: "how many at most" } as const;

/** @throws AegisError `usage` */
function lastOf(given: string): number {
  if (/^[1-9]\d{0,3}$/.test(given)) return Number(given);
  throw new AegisError("usage", `--last ${given} is not a number from 1 to 9999`);
}

/** A stored plan in a list. */
interface ListedPlan {
  plan_id: string;
  created_at: string;
  request: string;
  nothing_to_do: boolean;
  packages: number;
  risk_score: number;
  /** Of the policy result beside it; null if there is none. */
  decision: Decision | null;
  /** Until when that is good, and the plan with it. */
  fresh_until: string | null;
  path: string;
}

/** `aegis plan list`: this user's plans, and what policy decided about them. */
export const planList = defineSubcommand({
  name: "plan list",
  description: "List your plans, the newest first, with what policy decided.",
  args: { last: LAST },
  async run(values, io) {
    const { found, unreadable, left_out } = newestDocuments("plan", io.env, lastOf(values.last));
    const plans = found.map(({ document, path }) => listed(document, path ?? "", io));
    io.result({ plans, unreadable, left_out }, renderPlans(plans, unreadable, left_out, io.terminal));
    return EXIT.ok;
  },
});

function listed(plan: OperationPlan, path: string, { env }: Io): ListedPlan {
  const policy = readStored("policy", documentPath("policy", plan.plan_id, env));
  return {
    plan_id: plan.plan_id,
    created_at: plan.created_at,
    request: clip([plan.ecosystem, plan.operation, ...plan.targets].join(" "), MOST_CHARACTERS),
    nothing_to_do: plan.nothing_to_do,
    packages: plan.transaction.length,
    risk_score: plan.risk_score,
    decision: policy?.document.decision ?? null,
    fresh_until: policy?.document.evidence_fresh_until ?? null,
    path,
  };
}

const PLAN_HEADER = ["MADE (UTC)", "PLAN", "DECISION", "CHANGES", "REQUEST"];

function renderPlans(
  plans: readonly ListedPlan[],
  unreadable: readonly string[],
  leftOut: number,
  terminal: Terminal,
): string {
  const now = Date.now();
  const rows = plans.map((plan) => [
    minute(plan.created_at),
    plan.plan_id,
    decisionText(plan, now),
    `${plural(plan.packages, "change")}, risk ${plan.risk_score}`,
    safe(plan.request),
  ]);
  const lines =
    plans.length === 0
      ? ["No plans yet. Start with: aegis plan --help"]
      : terminal.interactive
        ? rows.flatMap(([time, id, decision, what, request]) =>
            entry([time, id, decision], `${request}  (${what})`, terminal),
          )
        : columns(PLAN_HEADER, rows);
  return [...lines, ...notes(unreadable, leftOut, terminal)].join("\n");
}

function decisionText({ nothing_to_do, decision, fresh_until }: ListedPlan, now: number): string {
  if (nothing_to_do) return "nothing to do";
  if (decision === null) return "–";
  return fresh_until !== null && Date.parse(fresh_until) <= now ? `${decision} (stale)` : decision;
}

/** An execution in a list. */
interface ListedExecution {
  execution_id: string;
  /** `signed` and `expired` have not run; `unknown`: this user may not read the outcome, and the executor didn't answer. */
  state: Result["state"] | "signed" | "waiting" | "expired" | "unknown";
  /** Whether the signed plan is in this user's store. */
  own: boolean;
  command: string | null;
  /** The verified signer, or of a plan that has not run whoever it names. */
  actor: string | null;
  signed_at: string | null;
  expires_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  exit_status: number | null;
  code: string | null;
  message: string | null;
}

const LIST_ARGS = {
  last: LAST,
  socket: { type: "string", default: SYSTEM.socket, valueHint: "path", description: "the executor's socket" },
} as const satisfies ArgsSpec;

/** `aegis apply list`: this host's executions and this user's signed plans, with how they ended. */
export const applyList = defineSubcommand({
  name: "apply list",
  description:
    "List executions, the newest first, with their outcome: the executor's latest and all of your own.",
  args: LIST_ARGS,
  async run(values, io) {
    const last = lastOf(values.last);
    const { found, unreadable, left_out } = newestDocuments("execution", io.env, last);
    let status: Status | null = null;
    let executor: string | null = null;
    try {
      status = await callExecutor(values.socket, "Status", {}, { silenceMs: 10_000 });
    } catch (error) {
      executor = messageOf(error);
    }
    const now = new Date();
    const own = found.map(({ document }): ListedExecution => {
      const { execution_plan_id: id, created_at, expires_at, argv, signer_identity } = document;
      const base = { ...NOTHING, execution_id: id, own: true, signed_at: created_at, expires_at };
      const outcome = outcomeOf(id, status);
      if (outcome !== null && outcome !== "unknown") return { ...base, ...fromOutcome(outcome) };
      const signed = { ...base, command: clip(showArgv(argv), MOST_CHARACTERS), actor: signer_identity };
      if (status?.queued.includes(id) === true) return { ...signed, state: "waiting" };
      if (outcome === "unknown") return { ...signed, state: "unknown" };
      return { ...signed, state: Date.parse(expires_at) <= now.getTime() ? "expired" : "signed" };
    });
    const others = (status?.recent ?? [])
      .filter(({ execution_id }) => !own.some((one) => one.execution_id === execution_id))
      .map((outcome): ListedExecution => ({ ...NOTHING, own: false, ...fromOutcome(outcome) }));
    const executions = [...own, ...others].sort((a, b) => timeOf(b) - timeOf(a)).slice(0, last);
    io.result(
      { executions, unreadable, left_out, executor_error: executor },
      renderExecutions(executions, { unreadable, leftOut: left_out, executor }, io.terminal),
    );
    return EXIT.ok;
  },
});

const NOTHING = {
  ...{
    execution_id: "",
    state: "unknown" as const,
    command: null,
    actor: null,
    signed_at: null,
    expires_at: null,
  },
  ...{ started_at: null, ended_at: null, exit_status: null, code: null, message: null },
};

/** From the file that root wrote, else from the executor's answer; null if it has not run. */
function outcomeOf(id: string, status: Status | null): Outcome | "unknown" | null {
  const told = status?.recent.find(({ execution_id }) => execution_id === id);
  if (told !== undefined) return told;
  try {
    const result = readResult(id);
    return result === null
      ? null
      : { ...result, execution_id: id, command: showArgv(result.argv), ended_at: result.ended_at ?? null };
  } catch {
    return "unknown";
  }
}

function fromOutcome({
  execution_id,
  state,
  exit_status,
  code,
  message,
  command,
  actor,
  started_at,
  ended_at,
}: Outcome) {
  const shown = command === null ? null : clip(command, MOST_CHARACTERS);
  return { execution_id, state, exit_status, code, message, command: shown, actor, started_at, ended_at };
}

function timeOf({ started_at, signed_at }: ListedExecution): number {
  return Date.parse(started_at ?? signed_at ?? "") || 0;
}

function renderExecutions(
  executions: readonly ListedExecution[],
  {
    unreadable,
    leftOut,
    executor,
  }: { unreadable: readonly string[]; leftOut: number; executor: string | null },
  terminal: Terminal,
): string {
  const cells = executions.map((one) => [
    minute(one.started_at ?? one.signed_at ?? ""),
    one.execution_id,
    [one.state, ...(one.code === null ? [] : [one.code])].map(safe).join(": "),
    safe([one.command ?? "–", ...(one.actor === null ? [] : [`signed by ${one.actor}`])].join("  ")),
  ]);
  const lines =
    executions.length === 0
      ? ["No executions yet."]
      : terminal.interactive
        ? cells.flatMap(([time, id, state, what]) => entry([time, id, state], what ?? "", terminal))
        : columns(["WHEN (UTC)", "EXECUTION", "OUTCOME", "COMMAND"], cells);
  const silent = executor === null ? [] : [`Only your own are listed: ${safe(executor)}`];
  return [
    ...lines,
    ...silent.flatMap((text) => fit(terminal, text, "  ")),
    ...notes(unreadable, leftOut, terminal),
  ].join("\n");
}

/** On a terminal: when, what with its full id, and how it stands; below it the request or the command. */
function entry(
  [time = "", id = "", state = ""]: readonly (string | undefined)[],
  what: string,
  terminal: Terminal,
): string[] {
  return [
    ...fit(terminal, `${time}  ${id}  ${state}`, "  ").map((line) =>
      line.replace(id, (text) => paint(terminal, "bold", text)),
    ),
    ...fit({ ...terminal, width: terminal.width - 2 }, what, GUTTER).map((line) => `  ${line}`),
  ];
}

/** In a pipe each row is one full line, for grep. */
function columns(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = fitColumns([header, ...rows], 10_000);
  return [header, ...rows].map((cells) => columnsRow(cells, widths, GUTTER, false));
}

function notes(unreadable: readonly string[], leftOut: number, terminal: Terminal): string[] {
  return [
    ...unreadable.map((path) => `Can't be read as a document: ${safe(path)}`),
    ...(leftOut === 0 ? [] : [`… and ${plural(leftOut, "older one")}: --last <n>`]),
  ].flatMap((text) => fit(terminal, text, "  "));
}

function minute(time: string): string {
  return safe(time.slice(0, 16).replace("T", " "));
}
