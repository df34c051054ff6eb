import { canonicalJson } from "./canonical.ts";
import { columnsRow, fitColumns } from "./cmd-columns.ts";
import type { NextStep } from "./cmd-next.ts";
import type { DecidedPlan } from "./cmd-plan-again.ts";
import type { AiReview } from "./doc.ts";
import { vulnerabilitiesOfNewVersions } from "./doc-evidence.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import type { RequestState, RequestSummary } from "./doc-request.ts";
import { TABLE } from "./eco-table.ts";
import { claimsOf } from "./exec-substance.ts";
import { reviewIsSignedBy } from "./key-review-signature.ts";
import { vulnerabilityName } from "./policy-vulnerabilities.ts";
import { clip, GUTTER, paint, plural, safe, showArgv, type Terminal, wrap } from "./terminal.ts";

/** Lines of one kind of change that are listed. */
const LISTED = 12;
/** Characters of a reason in the inbox and in a message. */
const REASON_SHOWN = 500;

/** Who asked, by the kernel's word: `agent` or `uid 1001`. */
export function askerOf({ user, uid }: Pick<RequestSummary, "user" | "uid">): string {
  return user === null ? `uid ${uid}` : safe(user);
}

/** `apt install nginx`, with a bounded number of targets. */
export function askedFor({ ecosystem, operation, targets, targets_left_out: more }: RequestSummary): string {
  return `${showArgv([ecosystem, operation, ...targets])}${more > 0 ? ` and ${more} more` : ""}`;
}

/** `3 min`, `5 h`, `2 d`, between two times in RFC 3339 or milliseconds; at least `0 min`. */
export function ageText(from: string | number, to: string | number): string {
  const minutes = Math.max(0, Math.round((Number(new Date(to)) - Number(new Date(from))) / 60_000));
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} d`;
}

/** What a request still needs, or how it ended. */
function stateText(request: RequestSummary): string {
  const { state, approvals, approvals_required: required, required_controls: controls, end } = request;
  const snapshot = controls.includes("system snapshot") ? " + snapshot" : "";
  if (state === "open") return `${approvals.length} of ${plural(required, "approval")}${snapshot}`;
  if (state === "approved") return `approved${snapshot}`;
  if (end === null || end.by === null) return state;
  // The log has the key.
  return `${state} by ${safe(clip(end.by.replace(/ \(key [^)]*\)$/, ""), 40))}`;
}

const STATE_STYLE = {
  open: "yellow",
  approved: "green",
  applied: "green",
  rejected: "red",
  expired: "dim",
  withdrawn: "dim",
} as const satisfies Record<RequestState, string>;

/** The inbox: each request's line, and below it why and until when. No trailing newline. */
export function renderInbox(
  { requests, left_out }: { requests: readonly RequestSummary[]; left_out: number },
  now: Date,
  terminal: Terminal,
): string {
  if (requests.length === 0) return "No request waits.";
  const header = ["no.", "who", "age", "state", "what"];
  const cells = requests.map((request) => [
    String(request.number),
    askerOf(request),
    ageText(request.submitted_at, now.getTime()),
    stateText(request),
    askedFor(request),
  ]);
  const widths = fitColumns([header, ...cells], terminal.width);
  const row = (of: readonly string[]) => columnsRow(of, widths, GUTTER.trim(), !terminal.interactive);
  const lines = [paint(terminal, "dim", row(header))];
  for (const [i, request] of requests.entries()) {
    const [first = "", ...rest] = row(cells[i] ?? []).split("\n");
    lines.push(paint(terminal, STATE_STYLE[request.state], first), ...rest);
    const left =
      request.end === null
        ? `${request.decision}; expires in ${ageText(now.getTime(), request.expires_at)}`
        : "";
    lines.push(...indented(`"${quoted(request.reason)}"${left === "" ? "" : ` (${left})`}`, 5, terminal));
  }
  if (left_out > 0) lines.push(`${plural(left_out, "older request")} left out.`);
  return lines.join("\n");
}

/** A start of outside text, for quotes. */
function quoted(text: string): string {
  return safe(clip(text, REASON_SHOWN)).replaceAll('"', '\\"');
}

/** Safe text, wrapped, every line indented; those after the first also with the gutter. */
function indented(text: string, by: number, terminal: Terminal): string[] {
  const indent = " ".repeat(by);
  return wrap(text, terminal.width - by, GUTTER).map((line) => indent + line);
}

/** The head of a request's screen: who asks for what, why, and how far it is. No trailing newline. */
export function renderRequest(request: RequestSummary, now: Date, terminal: Terminal): string {
  const { number, state, reason, submitted_at, expires_at, approvals, end } = request;
  const labelled = (label: string, text: string) =>
    wrap(text, terminal.width - 12, GUTTER.padStart(12 + GUTTER.length)).map((line, i) =>
      i === 0 ? `${label.padEnd(11)} ${line}` : line,
    );
  const outcome = end?.reason === null || end === null ? "" : `: ${safe(clip(end.reason, REASON_SHOWN))}`;
  return [
    paint(terminal, "bold", `Request ${number}`),
    ...labelled(
      "Asked by",
      `${askerOf(request)} (uid ${request.uid}), ${ageText(submitted_at, now.getTime())} ago`,
    ),
    ...labelled("For", askedFor(request)),
    ...labelled("Reason", `"${quoted(reason)}"`),
    ...labelled("State", `${stateText(request)}${outcome}`),
    ...approvals.flatMap((one) =>
      labelled("Approved by", `${safe(one.signer)} (key ${safe(one.key_id)}): ${safe(one.reason)}`),
    ),
    ...(end === null ? labelled("Expires", `${expires_at}, in ${ageText(now.getTime(), expires_at)}`) : []),
    ...(end?.execution_id ? labelled("Execution", end.execution_id) : []),
    ...(state === "rejected" || state === "withdrawn" ? labelled("Ended", end?.at ?? "") : []),
  ].join("\n");
}

/**
 * What the model said about the request's plan, for the approver. The requester hands the review over, and can have written it:
 * only a signature by one of `reviewers`, the policy's [review] public_keys, says that a model did. No trailing newline.
 */
export function renderRequestReview(
  review: AiReview,
  reviewers: readonly string[],
  terminal: Terminal,
): string {
  const { model, risk, recommendation, summary, red_flags: flags } = review;
  const more = flags.length - LISTED;
  const whose = reviewIsSignedBy(review, reviewers)
    ? "Review of the plan as asked, signed by the reviewer"
    : "Review as the requester hands it over, with no reviewer's signature that is known here";
  const text = `${whose}: risk ${risk}, ${recommendation}, by ${safe(clip(model, 60))}. It approves nothing.`;
  return [
    ...wrap(text, terminal.width, "  "),
    ...indented(safe(clip(summary, REASON_SHOWN)), 2, terminal),
    ...flags
      .slice(0, LISTED)
      .flatMap((flag) => indented(`red flag: ${safe(clip(flag, REASON_SHOWN))}`, 2, terminal)),
    ...(more > 0 ? [`  and ${plural(more, "more red flag")}`] : []),
  ].join("\n");
}

/**
 * What changed between the plan of a request, made at `planned`, and a newer one, for the approver. One sentence if a person who
 * has read one has read the other. No trailing newline.
 */
export function changesSince(
  then: DecidedPlan,
  now: DecidedPlan,
  planned: string,
  terminal: Terminal,
): string {
  const changes = listedChanges(then, now, terminal);
  if (changes.length === 0) {
    const text = `Planned again just now: the same change as planned at ${planned}.`;
    return wrap(text, terminal.width, "  ").join("\n");
  }
  return [
    paint(terminal, "yellow", `Changed since it was planned at ${planned}:`),
    ...changes.map((line) => `  ${line}`),
  ].join("\n");
}

function listedChanges(then: DecidedPlan, now: DecidedPlan, terminal: Terminal): string[] {
  const listed = (title: string, lines: readonly string[]) => {
    if (lines.length === 0) return [];
    const more = lines.length - LISTED;
    // The caller indents by two more.
    const within = { ...terminal, width: terminal.width - 2 };
    const shown = lines.slice(0, LISTED).flatMap((text) => indented(text, 2, within));
    return [title, ...shown, ...(more > 0 ? [`  and ${more} more`] : [])];
  };
  const [before, after] = [then.plan.document, now.plan.document];
  const [old, fresh] = [then.policy.document, now.policy.document];
  const without = (all: readonly string[], others: readonly string[]) =>
    all.filter((one) => !others.includes(one)).map(safe);
  const entries = (plan: OperationPlan) => plan.transaction.map(entryText);
  const known = (plan: OperationPlan) => vulnerabilitiesOfNewVersions(plan).map(vulnerabilityName);
  return [
    ...(old.decision === fresh.decision ? [] : [`Decision: ${fresh.decision}; it was ${old.decision}`]),
    ...listed("Changes that are new:", without(entries(after), entries(before))),
    ...listed("Changes that are gone:", without(entries(before), entries(after))),
    ...listed("Reasons that are new:", without(fresh.reasons, old.reasons)),
    ...listed("Reasons that are gone:", without(old.reasons, fresh.reasons)),
    ...listed("Vulnerabilities that are new:", without(known(after), known(before))),
    ...listed("Vulnerabilities that are gone:", without(known(before), known(after))),
    ...listed("Warnings that are new:", without(after.warnings, before.warnings)),
    ...listed("Warnings that are gone:", without(before.warnings, after.warnings)),
    ...listed(
      "Evidence that differs:",
      [differingClaims(before, after).join(", ")].filter((text) => text !== ""),
    ),
  ];
}

/** Names of the other fields that differ, of those that the executor compares. Both plans are of one tool. */
export function differingClaims(before: OperationPlan, after: OperationPlan): string[] {
  const { claims } = TABLE[after.tool].grammar;
  const [old, fresh] = [claimsOf(before, claims), claimsOf(after, claims)];
  const isSame = (field: string) => canonicalJson(old[field] ?? null) === canonicalJson(fresh[field] ?? null);
  const fields = Object.keys({ ...old, ...fresh }).filter((field) => !isSame(field));
  return canonicalJson(before.host) === canonicalJson(after.host) ? fields : ["host or boot", ...fields];
}

/** `upgrade nginx:amd64 1.0 → 1.1 sha256:0123456789ab` */
function entryText({
  action,
  name,
  architecture,
  from_version: from,
  to_version: to,
  sha256,
}: TransactionEntry) {
  const versions = [from, to].filter((version) => version !== null).join(" → ");
  return `${action} ${name}:${architecture} ${versions}${sha256 === null ? "" : ` sha256:${sha256.slice(0, 12)}`}`;
}

/**
 * The next steps of a request that waits. `signs`: whoever asked signs too, with a key of their own. `via` is where the request is, as
 * ssh reaches it; null for this host.
 */
export function requestSteps(
  { number, state, user, uid }: RequestSummary,
  signs: boolean,
  via: string | null = null,
): NextStep[] {
  const n = String(number);
  const where = via === null ? "on this host" : `on ${safe(via)}`;
  const approver = { who: `an approver, ${where}`, argv: ["aegis", "sign", "approve", n] };
  const asker = { who: askerOf({ user, uid }), argv: ["aegis", "apply", "--request", n, "--wait"] };
  const signer = { who: `the signer, ${where}`, argv: ["aegis", "sign", "--request", n] };
  return [...(state === "open" ? [approver] : []), signs ? asker : signer];
}
