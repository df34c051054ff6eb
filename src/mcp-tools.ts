import * as v from "valibot";
import { RequestReason, RequestSummary } from "./doc-request.ts";
import { ECOSYSTEM_NAMES, type EcosystemName } from "./eco-names.ts";
import {
  type AgentTool,
  agentTool,
  cutText,
  cutTexts,
  MAX_ITEMS,
  plainInt,
  plainText,
  plainTexts,
} from "./mcp-tool.ts";
import { PlanSummary } from "./plan-summary.ts";

/*
 * The tools of an agent, as data: each is one command of this program. None approves, rejects or changes policy, and none signs but
 * for `request`, which with an execution key of the agent's account signs what a person has approved.
 */

const MINUTE = 60_000;
/** The longest wait for a person that one call may ask for, in minutes: until every request has expired. */
const MAX_WAIT = 7 * 24 * 60;

const ECOSYSTEMS = Object.keys(ECOSYSTEM_NAMES) as [EcosystemName, ...EcosystemName[]];
const described = (what: string, max: number) =>
  v.pipe(v.string(), v.minLength(1), v.maxLength(max), v.description(what));
const planId = v.pipe(v.string(), v.uuid(), v.description("plan_id, as the tool `plan` answered"));
const number = v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.description("number of the request"));
const path = v.string();
const planned = v.strictObject({ summary: PlanSummary, path, resource: v.string() });
const summarised = v.strictObject({ summary: PlanSummary, path });
/** The plan's summary, and where the whole is. */
const withResource = ({ summary, path: at }: v.InferOutput<typeof summarised>) => ({
  ...{ summary, path: at, resource: `aegis://plan/${summary.plan_id}` },
});

/** A request, without what the plan's summary says. */
const asked = v.omit(RequestSummary, ["risk_score", "asked_plan_hash", "planned_at"]);
const requested = v.object({ request: v.looseObject(RequestSummary.entries) });
const briefly = (request: v.InferOutput<typeof requested>["request"]) =>
  v.parse(v.object(asked.entries), request);

const minutes = v.optional(
  v.pipe(
    v.number(),
    v.safeInteger(),
    v.minValue(1),
    v.maxValue(MAX_WAIT),
    v.description("wait this long for the person's decision; left out, don't wait"),
  ),
);

/** Rows of lists; `long` is what cuts a plainText when a document is read, and plain where the form of an answer is told. */
const eventRow = (long: v.GenericSchema<string, string>, longs: v.GenericSchema<string[], string[]>) => ({
  ...{
    sequence: plainInt,
    timestamp: plainText,
    kind: plainText,
    actor: v.nullable(long),
    argv: v.nullable(longs),
  },
  ...{ plan_id: v.nullable(plainText), execution_id: v.nullable(plainText), decision: v.nullable(plainText) },
  exit_status: v.nullable(plainInt),
});
const findingRow = (long: v.GenericSchema<string, string>) => ({
  ...{ check: cutText, level: plainText, message: cutText, fix: long },
});

const executionRow = (long: v.GenericSchema<string, string>) => ({
  ...{ execution_id: plainText, state: plainText, own: v.boolean(), command: v.nullable(long) },
  ...{ actor: v.nullable(long), started_at: v.nullable(plainText), ended_at: v.nullable(plainText) },
  ...{ exit_status: v.nullable(plainInt), code: v.nullable(plainText), message: v.nullable(long) },
});

/** What an execution came to. */
const outcome = (long: v.GenericSchema<string, string>) => ({
  ...{
    execution_plan_id: plainText,
    state: plainText,
    started_at: plainText,
    ended_at: v.nullable(plainText),
  },
  ...{ exit_status: v.nullable(plainInt), code: v.nullable(plainText), message: v.nullable(long) },
});

export const AGENT_TOOLS = {
  plan: agentTool({
    title: "Plan a change of packages",
    description:
      "Finds out, read-only, what a change would do to this host, and keeps the plan. Outcome `denied`: no approval can help, report the reasons and stop. Name exact versions where you can.",
    command: "plan",
    writes: true,
    input: v.strictObject({
      ecosystem: v.pipe(v.picklist(ECOSYSTEMS), v.description("the package manager")),
      operation: described(
        "such as install, upgrade, security-upgrade (apt), pull; rollback takes an execution's id",
        32,
      ),
      targets: v.pipe(
        v.optional(v.pipe(v.array(described("a package", 512)), v.maxLength(256)), []),
        v.description("packages, as the package manager writes them"),
      ),
    }),
    result: planned,
    timeoutMs: () => 10 * MINUTE,
    words: ({ ecosystem, operation, targets }) => ["--summary", "--", ecosystem, operation, ...targets],
    document: summarised,
    pick: withResource,
  }),
  policy: agentTool({
    title: "Ask policy about a plan",
    description:
      "Has the policy decide about a plan, and keeps the decision. Outcomes `approval_needed` and `snapshot_needed` are answers, not failures: a person is next (tool `request`).",
    command: "policy",
    writes: true,
    input: v.strictObject({
      plan_id: planId,
      review: v.pipe(
        v.optional(v.boolean(), false),
        v.description("with the review made by the tool `review`"),
      ),
    }),
    result: planned,
    words: ({ plan_id, review }) => ["--summary", ...(review ? ["--review", plan_id] : []), "--", plan_id],
    document: summarised,
    pick: withResource,
  }),
  review: agentTool({
    title: "Have the local model review a plan",
    description:
      "Asks the local model for its opinion of a plan, which can only make the decision stricter. Takes minutes.",
    command: "review",
    writes: true,
    input: v.strictObject({ plan_id: planId }),
    result: v.strictObject({
      risk: plainText,
      recommendation: plainText,
      summary: plainText,
      red_flags: plainTexts,
      required_controls: plainTexts,
      path,
    }),
    timeoutMs: () => 60 * MINUTE,
    words: ({ plan_id }) => ["--", plan_id],
    document: v.object({
      review: v.object({
        risk: plainText,
        recommendation: plainText,
        summary: cutText,
        red_flags: cutTexts,
        required_controls: cutTexts,
      }),
      path,
    }),
    pick: ({ review, path: at }) => ({ ...review, path: at }),
  }),
  request: agentTool({
    title: "Ask a person to approve a plan",
    description:
      "Hands a plan to the people who may approve it. With wait_minutes the call lasts until they decide; where this account has an execution key, what they approved is then signed and applied. A denied plan is never handed over.",
    command: "apply",
    writes: true,
    input: v.strictObject({
      plan_id: planId,
      reason: v.pipe(RequestReason, v.description("why the change is needed, for the person")),
      wait_minutes: minutes,
    }),
    result: v.strictObject({
      request: v.pipe(
        v.nullable(v.object(asked.entries)),
        v.description("the request, where it still waits"),
      ),
      approvers: plainTexts,
      execution: v.pipe(
        v.nullable(v.strictObject(outcome(plainText))),
        v.description("what ran, where it did"),
      ),
    }),
    timeoutMs: ({ wait_minutes = 0 }) => (wait_minutes + 120) * MINUTE,
    words: ({ plan_id, reason, wait_minutes }) => [
      ...["--request", plan_id, `--reason=${reason}`],
      ...(wait_minutes === undefined ? [] : ["--wait", "--wait-minutes", `${wait_minutes}`]),
    ],
    document: v.union([
      v.object({ request: v.looseObject(RequestSummary.entries), approvers: cutTexts }),
      v.object(outcome(cutText)),
    ]),
    pick: (document) =>
      "request" in document
        ? { request: briefly(document.request), approvers: document.approvers, execution: null }
        : { request: null, approvers: [], execution: document },
  }),
  request_status: agentTool({
    title: "Look at a request",
    description:
      "How far a request is: who has approved, what ended it. Ask again later, or use wait_minutes of the tool `request`.",
    command: "sign show",
    writes: false,
    input: v.strictObject({ number }),
    result: v.strictObject({ request: v.object(asked.entries) }),
    words: (given) => ["--", `${given.number}`],
    document: requested,
    pick: ({ request }) => ({ request: briefly(request) }),
  }),
  withdraw: agentTool({
    title: "Withdraw a request",
    description: "Ends a request of your own that is not needed any more.",
    command: "sign withdraw",
    writes: true,
    input: v.strictObject({ number }),
    result: v.strictObject({ request: v.object(asked.entries) }),
    words: (given) => ["--", `${given.number}`],
    document: requested,
    pick: ({ request }) => ({ request: briefly(request) }),
  }),
  executions: agentTool({
    title: "List executions",
    description:
      "What was run on this host lately, and your own signed plans, the newest first, with their outcome.",
    command: "apply list",
    writes: false,
    input: v.strictObject({
      last: v.pipe(
        v.optional(v.pipe(plainInt, v.minValue(1), v.maxValue(MAX_ITEMS)), 10),
        v.description("executions"),
      ),
    }),
    result: v.strictObject({
      executions: v.array(v.strictObject(executionRow(plainText))),
      executor_error: v.nullable(plainText),
    }),
    words: ({ last }) => ["--last", `${last}`],
    document: v.object({
      executions: v.array(v.object(executionRow(cutText))),
      executor_error: v.nullable(cutText),
    }),
    pick: (document) => document,
  }),
  audit: agentTool({
    title: "Read the audit log",
    description:
      "The newest events: of your own log (plans, decisions), or of the host's, where you may read it.",
    command: "audit show",
    writes: false,
    input: v.strictObject({
      system: v.pipe(v.optional(v.boolean(), false), v.description("the host's log")),
      last: v.pipe(
        v.optional(v.pipe(plainInt, v.minValue(1), v.maxValue(MAX_ITEMS)), 20),
        v.description("events"),
      ),
    }),
    result: v.strictObject({ path, events: v.array(v.strictObject(eventRow(plainText, plainTexts))) }),
    words: ({ system, last }) => [...(system ? ["--system"] : []), "--last", `${last}`],
    document: v.object({ path, events: v.array(v.object(eventRow(cutText, cutTexts))) }),
    pick: (document) => document,
  }),
  doctor: agentTool({
    title: "Check this host",
    description:
      "What Aegis needs of this host and of your account, and what is missing. Only what is not well is listed.",
    command: "doctor",
    writes: false,
    input: v.strictObject({}),
    result: v.strictObject({
      healthy: v.boolean(),
      well: plainInt,
      findings: v.array(v.strictObject(findingRow(plainText))),
    }),
    timeoutMs: () => 2 * MINUTE,
    words: () => [],
    document: v.object({ healthy: v.boolean(), findings: v.array(v.object(findingRow(cutText))) }),
    pick: ({ healthy, findings }) => {
      const bad = findings.filter(({ level }) => level !== "ok");
      return { healthy, well: findings.length - bad.length, findings: bad.slice(0, MAX_ITEMS) };
    },
  }),
  policy_rules: agentTool({
    title: "Read the policy's rules",
    description:
      "The rules in force here: what each decides and why. The configuration is the resource aegis://policy.",
    command: "policy rules",
    writes: false,
    input: v.strictObject({}),
    result: v.strictObject({ source: plainText, rules: plainTexts }),
    words: () => [],
    document: v.object({
      source: cutText,
      rules: v.array(v.object({ id: plainText, decision: plainText, reason: plainText })),
    }),
    pick: ({ source, rules }) => ({
      source,
      rules: rules.map(({ id, decision, reason }) => `${id}: ${decision}: ${reason}`),
    }),
  }),
} as const satisfies Record<string, AgentTool>;
