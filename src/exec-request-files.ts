import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson, sha256Hex } from "./canonical.ts";
import { Approval } from "./doc.ts";
import { count, sha256 } from "./doc-fields.ts";
import { isPending, RequestSummary } from "./doc-request.ts";
import { AegisError, messageOf } from "./errors.ts";
import { REQUESTS_STATE_FILE } from "./paths.ts";
import { readFileLimited, readText, writeFileAtomic } from "./sys-files.ts";
import type { StatePaths } from "./sys-state.ts";

/*
 * The files of the requests: `<number>.json` while a request waits, with its documents in `<number>.<revision>.documents`;
 * `<number>.ended.json` afterwards. The numbers with their states are in a file that everybody may read.
 */

/** Ended requests are kept until there are this many newer ones, and no longer than this. */
const KEPT_ENDED = 1000;
const KEPT_MS = 90 * 24 * 3600_000;
/** Longer than any signed document lives. */
const VOID_MS = 25 * 3600_000;
/** More than any file of ours: documents of 4 MiB, written as JSON texts again. */
const MAX_FILE = 32 * 1024 * 1024;

const REQUEST_KINDS = [
  "request_submitted",
  "request_approved",
  "request_lapsed",
  "request_rejected",
  "request_withdrawn",
  "request_expired",
  "request_applied",
] as const;

/** An event of a request, without what follows from the request. */
const RequestAuditSchema = v.strictObject({
  kind: v.picklist(REQUEST_KINDS),
  actor: v.nullable(v.string()),
  execution_id: v.nullable(v.string()),
  details: v.record(v.string(), v.unknown()),
});
export type RequestAudit = v.InferOutput<typeof RequestAuditSchema>;

const KeptRequestSchema = v.strictObject({
  schema_version: v.literal("1.0"),
  request: RequestSummary,
  /** Those that the summary names, in its order; none once it has ended. */
  approvals: v.array(Approval),
  /** SHA-256 of what was submitted, to know a repeated submission. */
  submission: sha256,
  /** SHA-256 of tool, operation and targets, which an approver's plan must have too. */
  asked: sha256,
  /**
   * What may not run any more: hashes of approvals that a newer plan or an end other than a run has taken away, and of the plans of a
   * rejected request. Copies of them that somebody kept still have good signatures.
   */
  void: v.optional(v.array(sha256), () => []),
  /** The revision in the name of the file with the documents, and its SHA-256; null once it has ended. */
  documents: v.nullable(v.strictObject({ revision: count, sha256 })),
  /** A change that the log may not have yet, and the log's newest event before it. */
  unaudited: v.nullable(v.strictObject({ after: count, event: RequestAuditSchema })),
});
export type KeptRequest = v.InferOutput<typeof KeptRequestSchema>;

/** The documents of a request, as canonical JSON. */
const RequestTextsSchema = v.strictObject({
  operation_plan: v.string(),
  policy_result: v.string(),
  review: v.nullable(v.string()),
});
export type RequestTexts = v.InferOutput<typeof RequestTextsSchema>;

/** How files are written, durably, and removed. */
export interface FileChanges {
  write(path: string, data: string, mode?: number): void;
  remove(path: string): void;
}
const ON_DISK: FileChanges = {
  write: writeFileAtomic,
  remove: (path) => rmSync(path, { force: true }),
};

/** The caller holds the lock of the store. */
export class RequestFiles {
  readonly #paths: Pick<StatePaths, "requests" | "run">;
  readonly #disk: FileChanges;

  constructor(paths: Pick<StatePaths, "requests" | "run">, disk: FileChanges = ON_DISK) {
    this.#paths = paths;
    this.#disk = disk;
  }

  /** Numbers of the files of requests that wait, and of those that ended; newest first. */
  pendingNumbers(): number[] {
    return this.#numbers(/^(\d+)\.json$/);
  }

  endedNumbers(): number[] {
    return this.#numbers(/^(\d+)\.ended\.json$/);
  }

  readPending(number: number): KeptRequest {
    return read(this.#path(number));
  }

  readEnded(number: number): KeptRequest {
    return read(this.#endedPath(number));
  }

  write(kept: KeptRequest): void {
    const { number, state } = kept.request;
    this.#disk.write(isPending(state) ? this.#path(number) : this.#endedPath(number), JSON.stringify(kept));
  }

  removePending(number: number): void {
    this.#disk.remove(this.#path(number));
  }

  /** Writes the documents of a revision and returns what refers to them. */
  writeTexts(number: number, revision: number, texts: RequestTexts): KeptRequest["documents"] {
    const written = JSON.stringify(texts);
    this.#disk.write(this.#textsPath(number, revision), written);
    return { revision, sha256: sha256Hex(written) };
  }

  /** @throws AegisError `io` if they are not what was kept */
  readTexts({ request: { number }, documents }: KeptRequest): RequestTexts {
    const bytes =
      documents === null ? null : readFileLimited(this.#textsPath(number, documents.revision), MAX_FILE);
    if (bytes === null || sha256Hex(bytes) !== documents?.sha256)
      throw new AegisError("io", `the documents of request ${number} are not what was kept`);
    return v.parse(RequestTextsSchema, JSON.parse(bytes.toString()));
  }

  /** Removes temporary files, and documents that none of the requests refers to. */
  sweep(pending: ReadonlyMap<number, KeptRequest>): void {
    for (const name of readdirSync(this.#paths.requests)) {
      const [, number, revision] = /^(\d+)\.(\d+)\.documents$/.exec(name) ?? [];
      const isTemporary = /^\..*\.tmp$/.test(name);
      if (number === undefined && !isTemporary) continue;
      if (isTemporary || pending.get(Number(number))?.documents?.revision !== Number(revision))
        this.#disk.remove(join(this.#paths.requests, name));
    }
  }

  /** Removes old ones. Never the newest, so that its number isn't used again, nor one whose documents could still be signed. */
  prune(now: Date): void {
    for (const [place, number] of this.endedNumbers().entries()) {
      const path = this.#endedPath(number);
      const age = now.getTime() - statSync(path).mtimeMs;
      const isOld =
        age > KEPT_MS || (place >= KEPT_ENDED && (age > VOID_MS || this.readEnded(number).void.length === 0));
      if (place > 0 && isOld) this.#disk.remove(path);
    }
  }

  /**
   * Says which request has taken away a plan or an approval with one of these hashes, or returns null. Needs no lock: a request that
   * ends meanwhile is found among those that ended.
   * @throws AegisError `io`
   */
  takenAway(hashes: readonly string[], now: Date): string | null {
    const isLate = (number: number) => {
      const stat = statSync(this.#endedPath(number), { throwIfNoEntry: false });
      return stat !== undefined && now.getTime() - stat.mtimeMs <= VOID_MS;
    };
    const takes = (path: string) => {
      const kept = readIfThere(path);
      return kept?.void.some((hash) => hashes.includes(hash)) ? kept.request : null;
    };
    for (const number of this.pendingNumbers()) {
      if (takes(this.#path(number)) !== null)
        return `an approval of it no longer counts: request ${number} was planned again since, and is another change`;
    }
    for (const number of this.endedNumbers().filter(isLate)) {
      const request = takes(this.#endedPath(number));
      if (request !== null)
        return `request ${number}, which it or an approval of it belongs to, has ended: ${request.state}`;
    }
    return null;
  }

  /**
   * Writes `number revision state` of every request, for those who wait: the front reads it, and wakes them when it is replaced.
   */
  publish(pending: readonly KeptRequest[]): void {
    const path = join(this.#paths.run, REQUESTS_STATE_FILE);
    const before = readText(path) ?? "";
    // What has ended doesn't change, so it isn't read again.
    const known = new Map(before.split("\n").map((line) => [Number.parseInt(line, 10), line]));
    const ended = this.endedNumbers().map((number) => {
      const line = known.get(number) ?? "";
      return ENDED.test(line) ? line : lineOf(this.readEnded(number));
    });
    const lines = [...pending.map(lineOf), ...ended].sort(
      (a, b) => Number.parseInt(b, 10) - Number.parseInt(a, 10),
    );
    const now = lines.map((line) => `${line}\n`).join("");
    if (now !== before) this.#disk.write(path, now, 0o644);
  }

  #path(number: number): string {
    return join(this.#paths.requests, `${number}.json`);
  }

  #endedPath(number: number): string {
    return join(this.#paths.requests, `${number}.ended.json`);
  }

  #textsPath(number: number, revision: number): string {
    return join(this.#paths.requests, `${number}.${revision}.documents`);
  }

  #numbers(pattern: RegExp): number[] {
    return readdirSync(this.#paths.requests)
      .map((name) => Number(pattern.exec(name)?.[1] ?? 0))
      .filter((number) => number > 0)
      .sort((a, b) => b - a);
  }
}

const ENDED = /^\d+ \d+ (?:applied|rejected|expired|withdrawn)$/;

function lineOf({ request: { number, revision, state } }: KeptRequest): string {
  return `${number} ${revision} ${state}`;
}

/** Null for one that has gone, because its request has ended meanwhile or is an old one. */
function readIfThere(path: string): KeptRequest | null {
  try {
    return read(path);
  } catch (error) {
    if (!existsSync(path)) return null;
    throw error;
  }
}

/** @throws AegisError `io` */
function read(path: string): KeptRequest {
  try {
    return v.parse(KeptRequestSchema, parseJson(readFileLimited(path, MAX_FILE).toString()));
  } catch (error) {
    throw new AegisError(
      "io",
      `the request in ${path} can't be read: ${messageOf(error)}`,
      "No request is handled until then. Restore the file, or move it away as root: then the request is lost.",
    );
  }
}
