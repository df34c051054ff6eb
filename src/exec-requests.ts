import { existsSync, readdirSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { AuditLog } from "./audit-log.ts";
import { readEvents } from "./audit-read.ts";
import type { Approval } from "./doc.ts";
import { noticeOf, writeNotice } from "./doc-notice.ts";
import { isPending, type RequestEnd, type RequestState, type RequestSummary } from "./doc-request.ts";
import { readResult } from "./doc-result.ts";
import { AegisError, messageOf } from "./errors.ts";
import { approvalHash } from "./exec-approval.ts";
import {
  type FileChanges,
  type KeptRequest,
  type RequestAudit,
  RequestFiles,
  type RequestTexts,
} from "./exec-request-files.ts";
import { UsedRecord } from "./exec-used.ts";
import { AUDIT_FILE } from "./paths.ts";
import { awaitFileLock } from "./sys-file-lock.ts";
import type { StatePaths } from "./sys-state.ts";

/*
 * The requests that the runner keeps. Every change is written first, then audited, then answered, each durably and under one
 * lock. A change that was written and not audited is audited by the next process that opens the store: a runner may be killed at any moment.
 */

const LOCK = "requests";

export interface RequestWorld {
  paths: StatePaths;
  audit: AuditLog;
  now(): Date;
  /** Reports a problem that stops nothing. */
  warn(what: string, problem: string): void;
  /** Given by tests that stop between two of them. */
  disk?: FileChanges;
}

/** A change of a request. What isn't given stays. */
interface Changes {
  request: RequestSummary;
  approvals?: Approval[];
  texts?: RequestTexts;
  /** Hashes that may not run from now on. */
  void?: readonly string[];
}

/**
 * Opens the store, alone: audits what was not, ends what has expired or was run, and calls `action`.
 * @throws AegisError `io` if a file can't be read or written, errors of the log; the reason of `stop`; whatever `action` throws
 */
export function withRequests<T>(
  world: RequestWorld,
  stop: AbortSignal,
  action: (store: RequestStore) => T,
): Promise<T> {
  const use = () => {
    const store = new RequestStore(world);
    try {
      store.settle();
      return action(store);
    } finally {
      store.publish();
    }
  };
  return awaitFileLock(join(world.paths.lock, LOCK), use, stop);
}

/**
 * The same without an action, where there are requests at all: after a run has started, and when a run of a dead runner is closed.
 * Bookkeeping: a problem is reported, and left for the next process that opens the store.
 */
export async function settleRequests(world: RequestWorld, stop: AbortSignal): Promise<void> {
  try {
    if (readdirSync(world.paths.requests).length > 0) await withRequests(world, stop, () => {});
  } catch (error) {
    world.warn("the requests could not be brought up to date", messageOf(error));
  }
}

export class RequestStore {
  readonly #world: RequestWorld;
  readonly #files: RequestFiles;
  /** Those that wait, by number. */
  readonly #pending = new Map<number, KeptRequest>();

  /** Only for {@link withRequests}, which holds the lock. */
  constructor(world: RequestWorld) {
    this.#world = world;
    this.#files = new RequestFiles(world.paths, world.disk);
  }

  /** The requests that wait, newest first. */
  pending(): KeptRequest[] {
    return [...this.#pending.values()].sort((a, b) => b.request.number - a.request.number);
  }

  /** Those that ended, newest first. */
  ended(): KeptRequest[] {
    return this.#files.endedNumbers().map((number) => this.#files.readEnded(number));
  }

  /** @throws AegisError `not_found` */
  find(number: number): KeptRequest {
    const pending = this.#pending.get(number);
    if (pending !== undefined) return pending;
    if (this.#files.endedNumbers().includes(number)) return this.#files.readEnded(number);
    throw new AegisError("not_found", `there is no request ${number} here`, "See: aegis sign inbox --all");
  }

  texts(kept: KeptRequest): RequestTexts {
    return this.#files.readTexts(kept);
  }

  nextNumber(): number {
    return Math.max(0, ...this.#pending.keys(), ...this.#files.endedNumbers()) + 1;
  }

  /** Keeps a new request, durably. */
  add(
    given: Pick<KeptRequest, "request" | "submission" | "asked"> & { texts: RequestTexts },
    event: RequestAudit,
  ): KeptRequest {
    const { texts, ...facts } = given;
    this.#files.prune(this.#world.now());
    const base = {
      schema_version: "1.0" as const,
      approvals: [],
      void: [],
      documents: null,
      unaudited: null,
    };
    return this.#commit({ ...base, ...facts }, texts, event);
  }

  /** Changes a request that waits, durably. Its revision is counted here. */
  change(kept: KeptRequest, changes: Changes, event: RequestAudit): KeptRequest {
    const { approvals = kept.approvals, texts = null } = changes;
    const request = { ...changes.request, revision: kept.request.revision + 1 };
    const taken = [...kept.void, ...(changes.void ?? [])];
    return this.#commit({ ...kept, request, approvals, void: taken }, texts, event);
  }

  /**
   * Ends a request, durably. Its documents are dropped: the log has the facts. Unless it was run, its approvals are void, and with a
   * rejection its plans as well: every member of the group may have copies.
   */
  end(
    kept: KeptRequest,
    state: Exclude<RequestState, "open" | "approved">,
    end: Partial<Omit<RequestEnd, "at">>,
    event: RequestAudit,
  ): KeptRequest {
    const nothing = { by: null, uid: null, reason: null, execution_id: null };
    const at = this.#world.now().toISOString();
    const request = { ...kept.request, state, end: { at, ...nothing, ...end } };
    const { plan_hash, asked_plan_hash } = kept.request;
    const plans = state === "rejected" ? [plan_hash, asked_plan_hash] : [];
    const taken = state === "applied" ? [] : [...plans, ...kept.approvals.map(approvalHash)];
    return this.change(kept, { request, approvals: [], void: taken }, event);
  }

  /** Audits what was not, lets approvals lapse, and ends what has expired or was run. */
  settle(): void {
    this.#load();
    if (this.#pending.size === 0) return;
    for (const kept of this.pending()) if (kept.unaudited !== null) this.#audit(kept);
    this.#endRun();
    const now = this.#world.now();
    for (const kept of this.pending()) {
      if (Date.parse(kept.request.expires_at) <= now.getTime()) this.#expire(kept);
      else this.#lapse(kept, now);
    }
  }

  /** Those who wait are told. A request that was kept stays kept if that fails. */
  publish(): void {
    try {
      this.#files.publish(this.pending());
    } catch (error) {
      this.#world.warn("the states of the requests can't be published", messageOf(error));
    }
  }

  #load(): void {
    const ended = new Set(this.#files.endedNumbers());
    const numbers = this.#files.pendingNumbers();
    for (const number of numbers.filter((one) => !ended.has(one)))
      this.#pending.set(number, this.#files.readPending(number));
    // The runner that ended these was killed before it removed their files.
    for (const number of numbers.filter((one) => ended.has(one))) this.#audit(this.#files.readEnded(number));
    this.#files.sweep(this.#pending);
  }

  #expire(kept: KeptRequest): void {
    const details = { expires_at: kept.request.expires_at };
    this.end(kept, "expired", {}, { kind: "request_expired", actor: null, execution_id: null, details });
  }

  /** An approval that has expired counts no more, so that the request may need another one. */
  #lapse(kept: KeptRequest, now: Date): void {
    const isValid = (one: Approval) => Date.parse(one.expires_at) > now.getTime();
    const lapsed = kept.approvals.filter((one) => !isValid(one));
    if (lapsed.length === 0) return;
    const approvals = kept.approvals.filter(isValid);
    const request = withApprovals(kept.request, approvals);
    const details = { lapsed: lapsed.map(({ signer, approval_id }) => ({ name: signer, approval_id })) };
    const event = { kind: "request_lapsed", actor: null, execution_id: null, details } as const;
    this.change(kept, { request, approvals }, event);
  }

  /** A run that has used a request's plan, or an approval of it, has applied it. */
  #endRun(): void {
    const { paths } = this.#world;
    const uses = new UsedRecord(paths.used).read();
    for (const kept of this.pending()) {
      const hashes = kept.approvals.map(approvalHash);
      const use = uses.find(
        ({ operation_plan_hash, approvals }) =>
          operation_plan_hash === kept.request.plan_hash || approvals.some((one) => hashes.includes(one)),
      );
      // Without an outcome nothing was started. The plan is used up all the same, so the approver has to plan again.
      const result = use === undefined ? null : readResult(use.execution_plan_id, paths);
      if (result === null) continue;
      const { execution_plan_id: execution_id, actor, submitted_by_uid: uid } = result;
      const event = { kind: "request_applied", actor, execution_id, details: {} } as const;
      this.end(kept, "applied", { by: actor, uid, execution_id }, event);
    }
  }

  #commit(next: KeptRequest, texts: RequestTexts | null, event: RequestAudit): KeptRequest {
    const { number, revision, state } = next.request;
    const before = isPending(state) ? next.documents : null;
    const documents = texts === null ? before : this.#files.writeTexts(number, revision, texts);
    const after = this.#world.audit.head()?.sequence ?? 0;
    const kept = { ...next, documents, unaudited: { after, event } };
    this.#files.write(kept);
    return this.#audit(kept);
  }

  /** Audits a change unless the log has it, and notes that it has. */
  #audit(kept: KeptRequest): KeptRequest {
    const { request, unaudited } = kept;
    const { number, revision, state, plan_id, decision } = request;
    if (unaudited !== null && !this.#isAudited(kept)) {
      const { details, ...event } = unaudited.event;
      const about = { request: number, revision, state, ...details };
      this.#world.audit.append({ ...event, plan_id, decision, details: about });
    }
    const noted = { ...kept, unaudited: null };
    if (unaudited !== null) {
      this.#tell(request);
      this.#files.write(noted);
    }
    if (isPending(state)) this.#pending.set(number, noted);
    else {
      this.#pending.delete(number);
      this.#files.removePending(number);
    }
    this.#files.sweep(this.#pending);
    return noted;
  }

  /** Writes the notice of a change that was kept and audited. Nothing waits for it, and nothing fails with it. */
  #tell(request: RequestSummary): void {
    const { paths, now, warn } = this.#world;
    try {
      writeNotice(paths.notices, noticeOf(request, hostname(), now()));
    } catch (error) {
      warn("a notice of a request can't be written", messageOf(error));
    }
  }

  #isAudited({ request, unaudited }: KeptRequest): boolean {
    const { audit } = this.#world.paths;
    if (unaudited === null || !existsSync(join(audit, AUDIT_FILE))) return false;
    const { kind } = unaudited.event;
    return readEvents(audit, { kind, after: unaudited.after }).some(
      ({ details }) => details?.["request"] === request.number && details["revision"] === request.revision,
    );
  }
}

/** The summary with only these approvals, and the state that follows. */
export function withApprovals(request: RequestSummary, approvals: readonly Approval[]): RequestSummary {
  const ids = new Set(approvals.map(({ approval_id }) => approval_id));
  const left = request.approvals.filter(({ approval_id }) => ids.has(approval_id));
  return {
    ...request,
    approvals: left,
    state: left.length >= request.approvals_required ? "approved" : "open",
  };
}
