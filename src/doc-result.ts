import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { canonicalJson, isUuidPrefix, parseJson, UUID } from "./canonical.ts";
import { sha256 } from "./doc-fields.ts";
import { Afterwards } from "./doc-outlook.ts";
import { FIRST_TOOL, TOOLS } from "./doc-plan.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { writeFileAtomic } from "./sys-files.ts";
import { groupId, STATE, type StatePaths } from "./sys-state.ts";

const nullableText = v.nullable(v.string());

/** A package, or a file by its path, whose state after the run differs from the plan. */
const Difference = v.strictObject({
  package: v.string(),
  architecture: v.string(),
  expected: nullableText,
  found: nullableText,
});
export type Difference = v.InferOutput<typeof Difference>;

/** A difference in words. */
export function describeDifference({ package: name, architecture, expected, found }: Difference): string {
  if (name.startsWith("/")) return `${name} is ${found ?? "absent"}, expected ${expected ?? "absent"}`;
  return `${name}:${architecture} is ${found ?? "not installed"}, expected ${expected ?? "not installed"}`;
}

/** A package an execution changed, and what reverts it. */
const Undo = v.strictObject({
  package: v.string(),
  architecture: v.string(),
  /** The previous version; null if it was not installed. */
  before: nullableText,
  /** The resulting version; null if it was removed. */
  left: nullableText,
  /** Whether it was on hold before; present only if this is what the execution changed. */
  held: v.optional(v.boolean()),
});
export type Undo = v.InferOutput<typeof Undo>;

/** A command that a managed root offers after a run. */
export const ExecutableSchema = v.strictObject({
  name: v.string(),
  /** Absolute, in the managed root. */
  path: v.string(),
  sha256: v.string(),
  /** Programs of the system with the same name. */
  shadows: v.array(v.string()),
});
export type Executable = v.InferOutput<typeof ExecutableSchema>;

/** What a run of a managed root found there and what it left, as treeDigest of eco-stage.ts. */
const Content = v.strictObject({ before: sha256, after: sha256 });
export type Content = v.InferOutput<typeof Content>;

/** A file below /etc/apt/sources.list.d; null where there was none, and is none now. */
const ChangedRepository = v.strictObject({
  name: v.string(),
  before: nullableText,
  after_sha256: v.nullable(sha256),
});
export type ChangedRepository = v.InferOutput<typeof ChangedRepository>;

/** The outcome of an execution, written by the executor and read by `apply`. */
export const ResultSchema = v.strictObject({
  schema_version: v.literal("1.0"),
  execution_plan_id: v.string(),
  plan_id: v.string(),
  /** The ecosystem that ran it. Missing in files of versions that had only one. */
  tool: v.optional(v.picklist(TOOLS), FIRST_TOOL),
  argv: v.array(v.string()),
  /** `running` until the end; `interrupted` if the executor died and a later one compared the state. */
  state: v.picklist(["running", "completed", "failed", "interrupted"]),
  exit_status: v.nullable(v.number()),
  /** Error code (errors.ts); null if all went as planned. */
  code: nullableText,
  message: nullableText,
  /** The verified signer. Null in files of older versions, like `turn_at`. */
  actor: v.optional(nullableText, null),
  /** When it left the queue. It is checked and planned again between this and `started_at`. */
  turn_at: v.optional(nullableText, null),
  started_at: v.string(),
  ended_at: nullableText,
  submitted_by_uid: v.number(),
  /** Packages of the plan that are not in the planned state. */
  not_as_planned: v.array(Difference),
  /** Packages outside the plan that changed during the run. */
  changed_besides: v.array(Difference),
  /** What reverts it, from the host's state before and after. Null until the end, and in files of older versions. */
  inverse: v.optional(v.nullable(v.array(Undo)), null),
  /** Commands of the managed root that it changed, all of them. Left out where the ecosystem has no managed root. */
  executables: v.optional(v.array(ExecutableSchema)),
  /** The repository's file that the run changed, with its text before, which a rollback brings back. */
  repository: v.optional(ChangedRepository),
  /** Of the managed root, if the run exchanged it, however it ended. */
  content: v.optional(Content),
  /** What still runs old code. Left out where nobody looked: of other ecosystems, of recovered runs, in files of older versions. */
  afterwards: v.optional(Afterwards),
});
export type Result = v.InferOutput<typeof ResultSchema>;

/**
 * Path of an execution's outcome.
 * @throws AegisError `usage` if `id` is not a full id
 */
export function resultPath(id: string, paths: StatePaths = STATE): string {
  if (!UUID.test(id)) throw new AegisError("usage", "an execution must be named by its full id");
  return join(paths.results, `${id}.json`);
}

/** Writes an outcome, owned by the executor and readable by the group allowed to read outcomes. */
export function writeResult(result: Result, paths: StatePaths = STATE): void {
  // Without that group only the owner reads it: root's group, or the group of the user running the tests.
  const gid = groupId(paths.readers) ?? (paths.owner === 0 ? 0 : -1);
  writeFileAtomic(resultPath(result.execution_plan_id, paths), canonicalJson(result), 0o640, gid);
}

/**
 * The outcome of an execution, or null if there is none. Only a file owned by the executor is trusted.
 * @throws AegisError `io` if it exists but can't be read, `refused` if it isn't the executor's
 */
export function readResult(id: string, paths: StatePaths = STATE): Result | null {
  const path = resultPath(id, paths);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw new AegisError(
      "io",
      `can't read ${path}: ${messageOf(error)}`,
      `Only root and the group ${paths.readers} may.`,
    );
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.uid !== paths.owner || (stat.mode & 0o022) !== 0) {
      throw new AegisError("refused", `${path} is not a file that only the executor can write`);
    }
    return parseResult(readFileSync(fd, "utf8"));
  } finally {
    closeSync(fd);
  }
}

/** Parses a result file. Throws the errors of valibot or the JSON parser. */
export function parseResult(text: string): Result {
  return v.parse(ResultSchema, parseJson(text));
}

/**
 * Resolves `latest`, a full id, or a unique prefix of at least 8 characters to the full id of an execution.
 * @throws AegisError `not_found`, `usage`, `io` if the outcomes can't be listed
 */
export function findExecution(reference: string, paths: StatePaths = STATE): string {
  if (UUID.test(reference)) return reference;
  let ids: string[];
  try {
    ids = resultIds(paths);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") {
      throw new AegisError(
        "io",
        `can't list executions in ${paths.results}: ${messageOf(error)}`,
        `Only root and the group ${paths.readers} may.`,
      );
    }
    ids = [];
  }
  const matches = isUuidPrefix(reference) ? ids.filter((id) => id.startsWith(reference)) : [];
  if (reference === "latest" && ids.length > 0)
    matches.push(...recentResults(1, paths).map((result) => result.execution_plan_id));
  const [only] = matches;
  const see = "See: aegis daemon status";
  if (only === undefined) {
    const what = reference === "latest" ? "no execution yet" : `no execution ${reference}`;
    throw new AegisError("not_found", `there is ${what} on this host`, see);
  }
  if (matches.length === 1) return only;
  throw new AegisError("usage", `${reference} is a prefix of ${matches.length} execution ids`, see);
}

function resultIds(paths: StatePaths): string[] {
  return readdirSync(paths.results).flatMap((name) =>
    name.endsWith(".json") && UUID.test(name.slice(0, -5)) ? [name.slice(0, -5)] : [],
  );
}

/**
 * The newest outcomes by modification time, at most `limit`; only that many files are read. Unreadable ones are left
 * out so that they don't hide the others.
 */
export function recentResults(limit: number, paths: StatePaths = STATE): Result[] {
  return resultIds(paths)
    .map((id) => ({ id, written: statSync(resultPath(id, paths), { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => b.written - a.written)
    .slice(0, limit)
    .flatMap(({ id }) => {
      try {
        const result = readResult(id, paths);
        return result === null ? [] : [result];
      } catch {
        return [];
      }
    })
    .sort((a, b) => (a.started_at < b.started_at ? 1 : -1));
}
