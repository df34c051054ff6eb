import { type Stats, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { canonicalJson, isUuidPrefix, UUID } from "./canonical.ts";
import type { Io } from "./command.ts";
import {
  type AiReview,
  type Approval,
  DOCUMENT_NAMES,
  type DocumentKind,
  type ExecutionPlan,
  type Hashed,
  type PolicyResult,
  readDocument,
} from "./doc.ts";
import type { OperationPlan } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";
import { type Env, userPaths } from "./paths.ts";
import { asTyped, namesIn, readFileLimited, writeFileAtomic } from "./sys-files.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";
import { writeTyped } from "./sys-typed-file.ts";
import { showArgv } from "./terminal.ts";

/** Size limit of a document; the executor's request limit of 4 MiB applies to every document. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

interface Documents {
  plan: OperationPlan;
  review: AiReview;
  policy: PolicyResult;
  approval: Approval;
  execution: ExecutionPlan;
}

const LOCATIONS = {
  plan: { directory: "plans", suffix: ".json" },
  review: { directory: "reviews", suffix: ".review.json" },
  policy: { directory: "policy", suffix: ".policy.json" },
  approval: { directory: "approvals", suffix: ".json" },
  execution: { directory: "executions", suffix: ".json" },
} as const satisfies Record<DocumentKind, { directory: keyof ReturnType<typeof userPaths>; suffix: string }>;

/** Path of the stored document of `kind` with this id. */
export function documentPath(kind: DocumentKind, id: string, env: Env): string {
  const { directory, suffix } = LOCATIONS[kind];
  return join(userPaths(env)[directory], `${id}${suffix}`);
}

/** The id a document is stored under; reviews and policy results use their plan's. */
function idOf<K extends DocumentKind>(kind: K, document: Documents[K]): string {
  if (kind === "approval" && "approval_id" in document) return document.approval_id;
  if (kind === "execution" && "execution_plan_id" in document) return document.execution_plan_id;
  if ("plan_id" in document) return document.plan_id;
  throw new AegisError("internal", `a ${DOCUMENT_NAMES[kind]} without an id`);
}

/**
 * Writes a document as canonical JSON, 0600, atomically, to `out` or the store. Returns its path. `text` is that JSON, for a caller that
 * has it already.
 * @throws AegisError `usage` for an `out` that can't be written, `io`, `refused` as ensureOwnDir
 */
export function saveDocument<K extends DocumentKind>(
  kind: K,
  document: Documents[K],
  env: Env,
  out?: string,
  text = canonicalJson(document),
): string {
  if (out !== undefined) {
    const path = resolve(out);
    writeTyped(path, text);
    return path;
  }
  const path = documentPath(kind, idOf(kind, document), env);
  ensureOwnDir(userPaths(env)[LOCATIONS[kind].directory]);
  writeFileAtomic(path, text);
  return path;
}

/** Whether this is a full document or execution id. */
export function isFullId(reference: string): boolean {
  return UUID.test(reference);
}

export interface Found<K extends DocumentKind> extends Hashed<Documents[K]> {
  /** The exact text read. */
  text: string;
  /** Null for standard input. */
  path: string | null;
}

/**
 * Refuses to overwrite an input document, under any name. Paths that can't be examined are left for the write to
 * report.
 * @throws AegisError `usage`
 */
export function assertNotInput(out: string, inputs: readonly { path: string | null }[]): void {
  const target = statOrUndefined(out);
  if (target === undefined) return;
  for (const { path } of inputs) {
    const input = path === null ? undefined : statOrUndefined(path);
    if (input?.ino === target.ino && input.dev === target.dev) {
      throw new AegisError("usage", `--out ${out} is an input of this command`, "Give another --out.");
    }
  }
}

function statOrUndefined(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/**
 * How the next command should name a document: by id if the store has it under that id, else by the path it was read
 * from; `<… file>` for standard input. Quoted for a shell and safe to print.
 */
export function referenceTo(kind: DocumentKind, id: string, path: string | null, env: Env): string {
  if (path === null) return `<${DOCUMENT_NAMES[kind]} file>`;
  return path === documentPath(kind, id, env) ? id : showArgv([path]);
}

/**
 * The same error with a hint that names the plan as the next command can find it: the error's author knew only the id,
 * and a plan passed as a file can't be found by id.
 */
export function withPlanReference(error: unknown, { document, path }: Found<"plan">, env: Env): unknown {
  if (!(error instanceof AegisError)) return error;
  const reference = referenceTo("plan", document.plan_id, path, env);
  const hint = error.hint.replaceAll(
    new RegExp(`(?<![\\w/.-])${document.plan_id}(?![\\w/.-])`, "g"),
    () => reference,
  );
  return hint === error.hint ? error : new AegisError(error.code, error.message, hint, error.details);
}

/**
 * Finds and reads a document by path, id, unique id prefix (≥ 8), `latest`, or `-` for standard input. With `exact`,
 * prefixes and `latest` are refused: they could match another document between reading and deciding.
 * @throws AegisError `usage`, `not_found`, `invalid_document`
 */
export async function resolveDocument<K extends DocumentKind>(
  kind: K,
  reference: string,
  io: Pick<Io, "env" | "readStdin">,
  options: { exact?: boolean } = {},
): Promise<Found<K>> {
  if (reference === "-") {
    const text = await io.readStdin();
    return { ...parse(kind, text, "standard input"), text, path: null };
  }
  const path = locate(kind, reference, io.env, options.exact === true);
  const text = readNamed(kind, path, options.exact === true, io.env);
  return { ...parse(kind, text, path), text, path };
}

function parse<K extends DocumentKind>(kind: K, text: string, source: string): Hashed<Documents[K]> {
  return readDocument(kind, text, source) as Hashed<Documents[K]>;
}

/** @throws AegisError `not_found`, explaining how to name documents, and as {@link readFileLimited} */
function readNamed(kind: DocumentKind, path: string, exact: boolean, env: Env): string {
  try {
    return readFileLimited(path, MAX_DOCUMENT_BYTES).toString("utf8");
  } catch (error) {
    if (!(error instanceof AegisError) || error.code !== "not_found") throw asTyped(error);
    const ways = exact ? "its path, its full id, or -" : "its path, its id, 8 characters of it, latest, or -";
    throw new AegisError(
      "not_found",
      error.message,
      `Name the ${DOCUMENT_NAMES[kind]} by ${ways}. Yours: ${listing(kind, env)}`,
    );
  }
}

/** What to type to see the stored documents of a kind. */
function listing(kind: DocumentKind, env: Env): string {
  if (kind === "plan") return "aegis plan list";
  return kind === "execution" ? "aegis apply list" : `ls ${userPaths(env)[LOCATIONS[kind].directory]}`;
}

function locate(kind: DocumentKind, reference: string, env: Env, exact: boolean): string {
  if (UUID.test(reference)) return documentPath(kind, reference, env);
  if (reference !== "latest" && !isUuidPrefix(reference)) return resolve(reference);
  const what = DOCUMENT_NAMES[kind];
  if (exact) {
    throw new AegisError(
      "usage",
      `name the ${what} by its path or full id: ${reference} could soon mean another one`,
      `Full ids: ${listing(kind, env)}`,
    );
  }
  if (reference === "latest") {
    const [newest] = newestFirst(kind, env);
    if (newest === undefined)
      throw new AegisError("not_found", `there is no ${what} yet`, "Start with: aegis plan --help");
    return documentPath(kind, newest, env);
  }
  const ids = storedIds(kind, env);
  const matches = ids.filter((id) => id.startsWith(reference));
  const [only] = matches;
  if (only === undefined) {
    throw new AegisError(
      "not_found",
      `there is no ${what} with an id starting with ${reference}`,
      `See: ${listing(kind, env)}`,
    );
  }
  if (matches.length > 1) {
    throw new AegisError(
      "usage",
      `${reference} is a prefix of ${matches.length} ids: ${matches.slice(0, 5).join(", ")}`,
      "Type more of the id.",
    );
  }
  return documentPath(kind, only, env);
}

function storedIds(kind: DocumentKind, env: Env): string[] {
  const { directory, suffix } = LOCATIONS[kind];
  return namesIn(userPaths(env)[directory]).flatMap((name) =>
    name.endsWith(suffix) && UUID.test(name.slice(0, -suffix.length)) ? [name.slice(0, -suffix.length)] : [],
  );
}

/** Ids of the stored documents, the last written first. */
function newestFirst(kind: DocumentKind, env: Env): string[] {
  return storedIds(kind, env)
    .map((id) => ({ id, mtime: statOrUndefined(documentPath(kind, id, env))?.mtimeMs ?? 0 }))
    .sort((a, b) => b.mtime - a.mtime)
    .map(({ id }) => id);
}

/**
 * The stored documents of a kind, the last written first, at most `limit`; only that many are read. `unreadable` are the paths of
 * those among them that can't be used, and `left_out` counts the older ones.
 */
export function newestDocuments<K extends DocumentKind>(
  kind: K,
  env: Env,
  limit: number,
): { found: Found<K>[]; unreadable: string[]; left_out: number } {
  const ids = newestFirst(kind, env);
  const found: Found<K>[] = [];
  const unreadable: string[] = [];
  for (const id of ids.slice(0, limit)) {
    const path = documentPath(kind, id, env);
    const one = readStored(kind, path);
    if (one === null) unreadable.push(path);
    else found.push(one);
  }
  return { found, unreadable, left_out: Math.max(0, ids.length - limit) };
}

/** The document at a path of the store, or null if there is none that can be used. */
export function readStored<K extends DocumentKind>(kind: K, path: string): Found<K> | null {
  try {
    const text = readFileLimited(path, MAX_DOCUMENT_BYTES).toString("utf8");
    return { ...parse(kind, text, path), text, path };
  } catch {
    return null;
  }
}
