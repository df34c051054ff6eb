import type { NewAuditEvent } from "./audit-event.ts";
import { canonicalHash } from "./canonical.ts";
import type { AiReview } from "./doc.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import type { ConfiguredRepository } from "./doc-repository.ts";
import { clip } from "./terminal.ts";

/*
 * An event's description of the plan or review it is about. It is stored in the log, since the document's file may be
 * gone by the time the log is read.
 */

/** Limit on the package list, in bytes, of the 8000 for an event's details. */
const PACKAGES_ROOM = 3500;
const OPERATION_ROOM = 500;
/** Most important actions first; the last are dropped first. */
const ORDER = [
  "remove",
  "downgrade",
  "install",
  "upgrade",
  "reinstall",
  "configure",
  "hold",
  "unhold",
  "restart",
] as const;

type LoggedPackages = Partial<Record<TransactionEntry["action"], string[]>>;

export interface Subject {
  /** `apt install nginx`. */
  operation: string;
  /** Names with the new version (the old one for a removal); without versions if there is no room. */
  packages: LoggedPackages;
  /** Total number of packages, listed or not. */
  packages_count: number;
  /** The file that is written or removed, and the key that comes with it. Left out where there is none. */
  repository?: Readonly<Record<"path" | "before_sha256" | "after_sha256" | "key", string | null>>;
}

/** Members of an event's details that describe what a plan does. */
export function subjectDetails(
  plan: Pick<OperationPlan, "tool" | "operation" | "targets" | "transaction" | "host" | "repository">,
): Subject {
  const { tool, operation, targets, transaction, host, repository } = plan;
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
    ...(repository === undefined ? {} : { repository: repositorySubject(repository) }),
  };
}

function repositorySubject({ path, before_sha256, after_sha256, key }: ConfiguredRepository) {
  return { path: clip(path, OPERATION_ROOM), before_sha256, after_sha256, key: key?.fingerprint ?? null };
}

/**
 * The event of a completed review, for the log of the user who requested it and for the reviewer's. `details` are added
 * to the review's own fields. Its recommendation is also the event's decision, which `audit show` displays as the
 * outcome.
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

/** The leading entries that fit into `room` bytes of JSON. */
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

/** The name, with its architecture if foreign. */
function nameOf({ name, architecture }: TransactionEntry, own: string): string {
  return architecture === own || architecture === "all" ? name : `${name}:${architecture}`;
}
