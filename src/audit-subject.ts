import type { NewAuditEvent } from "./audit-event.ts";
import { canonicalHash } from "./canonical.ts";
import type { AiReview } from "./doc.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { clip } from "./terminal.ts";

/*
 * What an event says of the plan or the review it is about. It stands in the log itself, because the document's file may be gone
 * by the time somebody reads it.
 */

/** Bytes that the package list may take of an event's details, which have 8000. */
const PACKAGES_ROOM = 3500;
const OPERATION_ROOM = 500;
/** What people look for first comes first, and is the last to be left out. */
const ORDER = ["remove", "downgrade", "install", "upgrade", "reinstall", "configure"] as const;

type LoggedPackages = Partial<Record<TransactionEntry["action"], string[]>>;

export interface Subject {
  /** `apt install nginx`. */
  operation: string;
  /** Names with the new version (the old one of a removal); without versions where those leave no room. */
  packages: LoggedPackages;
  /** How many there are, listed or not. */
  packages_count: number;
}

/** The members of an event's details that say what a plan does. */
export function subjectDetails(
  plan: Pick<OperationPlan, "tool" | "operation" | "targets" | "transaction" | "host">,
): Subject {
  const { tool, operation, targets, transaction, host } = plan;
  const entries = ORDER.flatMap((action) => transaction.filter((entry) => entry.action === action));
  const named = entries.map((entry) => ({ ...entry, text: nameOf(entry, host.architecture) }));
  const versioned = named.map((entry) => ({
    ...entry,
    text: `${entry.text} ${entry.to_version ?? entry.from_version ?? ""}`.trimEnd(),
  }));
  const all = listed(versioned, PACKAGES_ROOM);
  return {
    operation: clip([tool, operation, ...targets].join(" "), OPERATION_ROOM),
    packages: byAction(all.length === versioned.length ? all : listed(named, PACKAGES_ROOM)),
    packages_count: entries.length,
  };
}

/**
 * The event of a review that was made, in the log of the user who asked and in the reviewer's. `details` are added to what the
 * review says of itself; its recommendation is the event's decision too, which `audit show` shows as its outcome.
 */
export function reviewCompleted(review: AiReview, details: object): NewAuditEvent {
  const { plan_id, plan_hash, model, prompt_hash, risk, recommendation, signature } = review;
  return {
    kind: "review_completed",
    plan_id,
    decision: recommendation,
    details: {
      plan_hash,
      ai_review_hash: canonicalHash(review),
      prompt_hash,
      model,
      risk,
      recommendation,
      key_id: signature?.key_id ?? null,
      ...details,
    },
  };
}

/** As many of the entries, from the first on, as fit into `room` bytes of JSON. */
function listed<E extends { text: string }>(entries: readonly E[], room: number): E[] {
  let left = room - 100;
  return entries.filter(({ text }) => {
    left -= text.length + 3;
    return left >= 0;
  });
}

function byAction(entries: readonly { action: TransactionEntry["action"]; text: string }[]): LoggedPackages {
  const groups: LoggedPackages = {};
  for (const { action, text } of entries) {
    const group = groups[action];
    if (group === undefined) groups[action] = [text];
    else group.push(text);
  }
  return groups;
}

/** The architecture is named where it is a foreign one. */
function nameOf({ name, architecture }: TransactionEntry, own: string): string {
  return architecture === own || architecture === "all" ? name : `${name}:${architecture}`;
}
