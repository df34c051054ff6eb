import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { canonicalJson, isUuidPrefix, parseJson, UUID } from "./canonical.ts";
import { FIRST_TOOL, TOOLS } from "./doc-plan.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { writeFileAtomic } from "./sys-files.ts";
import { groupId, type Places, STATE } from "./sys-state.ts";

const nullableText = v.nullable(v.string());

/** One package that is not as the plan says it should be after the run. */
const Difference = v.strictObject({
  package: v.string(),
  architecture: v.string(),
  expected: nullableText,
  found: nullableText,
});
export type Difference = v.InferOutput<typeof Difference>;

/** One difference in words. */
export function describeDifference({ package: name, architecture, expected, found }: Difference): string {
  return `${name}:${architecture} is ${found ?? "not installed"}, expected ${expected ?? "not installed"}`;
}

/** One package that an execution changed: what undoes it. */
const Undo = v.strictObject({
  package: v.string(),
  architecture: v.string(),
  /** The version that was there before; null where there was none. */
  before: nullableText,
  /** The version that the execution left; null where it left none. */
  left: nullableText,
});
export type Undo = v.InferOutput<typeof Undo>;

/** What became of an execution: written by the runner, read by `apply`. */
export const ResultSchema = v.strictObject({
  schema_version: v.literal("1.0"),
  execution_plan_id: v.string(),
  plan_id: v.string(),
  /** The ecosystem that ran it. Files of versions that knew only one don't say. */
  tool: v.optional(v.picklist(TOOLS), FIRST_TOOL),
  argv: v.array(v.string()),
  /** `running` until the end; `interrupted` when the runner died and a later one compared. */
  state: v.picklist(["running", "completed", "failed", "interrupted"]),
  exit_status: v.nullable(v.number()),
  /** An error code of errors.ts, null when all went as planned. */
  code: nullableText,
  message: nullableText,
  /** The verified signer. Null in files of older versions, as is `turn_at`. */
  actor: v.optional(nullableText, null),
  /** When its turn came; between that and `started_at` it was checked and planned again. */
  turn_at: v.optional(nullableText, null),
  started_at: v.string(),
  ended_at: nullableText,
  submitted_by_uid: v.number(),
  /** Packages of the plan that are not in the planned state. */
  not_as_planned: v.array(Difference),
  /** Packages outside the plan that changed during the run. */
  changed_besides: v.array(Difference),
  /** What undoes it, by the host's own state before and after. Null until the end, and in files of older versions. */
  inverse: v.optional(v.nullable(v.array(Undo)), null),
});
export type Result = v.InferOutput<typeof ResultSchema>;

/**
 * Where an execution's outcome is.
 * @throws AegisError `usage` for what is no full id
 */
export function resultPath(id: string, places: Places = STATE): string {
  if (!UUID.test(id)) throw new AegisError("usage", "an execution is named by its full id");
  return join(places.results, `${id}.json`);
}

/** Writes an outcome: the executor's own, readable by those who may read outcomes. */
export function writeResult(result: Result, places: Places = STATE): void {
  // Where that group is missing only the owner reads it: root's group, or that of the tests' user.
  const gid = groupId(places.readers) ?? (places.owner === 0 ? 0 : -1);
  writeFileAtomic(resultPath(result.execution_plan_id, places), canonicalJson(result), 0o640, gid);
}

/**
 * The outcome of an execution, or null where there is none. Only a file that belongs to the executor is believed.
 * @throws AegisError `io` when it is there and can't be read, `refused` when it isn't the executor's
 */
export function readResult(id: string, places: Places = STATE): Result | null {
  const path = resultPath(id, places);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw new AegisError(
      "io",
      `can't read ${path}: ${messageOf(error)}`,
      `Only root and the group ${places.readers} may.`,
    );
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.uid !== places.owner || (stat.mode & 0o022) !== 0) {
      throw new AegisError("refused", `${path} is not a file that only the executor can write`);
    }
    return parseResult(readFileSync(fd, "utf8"));
  } finally {
    closeSync(fd);
  }
}

/** Parses the text of a result file. Throws what valibot or the JSON parser throws. */
export function parseResult(text: string): Result {
  return v.parse(ResultSchema, parseJson(text));
}

/**
 * The full id of the execution that is meant: `latest`, a full id, or a unique prefix of at least 8 characters.
 * @throws AegisError `not_found`, `usage`, `io` where the outcomes can't be listed
 */
export function findExecution(reference: string, places: Places = STATE): string {
  if (UUID.test(reference)) return reference;
  let ids: string[];
  try {
    ids = resultIds(places);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") {
      throw new AegisError(
        "io",
        `can't look for executions in ${places.results}: ${messageOf(error)}`,
        `Only root and the group ${places.readers} may.`,
      );
    }
    ids = [];
  }
  const matches = isUuidPrefix(reference) ? ids.filter((id) => id.startsWith(reference)) : [];
  if (reference === "latest" && ids.length > 0)
    matches.push(...recentResults(1, places).map((result) => result.execution_plan_id));
  const [only] = matches;
  const see = "See: aegis daemon status";
  if (only === undefined) {
    const what = reference === "latest" ? "no execution yet" : `no execution ${reference}`;
    throw new AegisError("not_found", `there is ${what} on this host`, see);
  }
  if (matches.length === 1) return only;
  throw new AegisError("usage", `${reference} is the beginning of ${matches.length} executions' ids`, see);
}

function resultIds(places: Places): string[] {
  return readdirSync(places.results).flatMap((name) =>
    name.endsWith(".json") && UUID.test(name.slice(0, -5)) ? [name.slice(0, -5)] : [],
  );
}

/**
 * The newest outcomes by the time they were written, at most `limit`, read from no more files than that. One that can't be
 * read is left out: it must not hide the others.
 */
export function recentResults(limit: number, places: Places = STATE): Result[] {
  return resultIds(places)
    .map((id) => ({ id, written: statSync(resultPath(id, places), { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => b.written - a.written)
    .slice(0, limit)
    .flatMap(({ id }) => {
      try {
        const result = readResult(id, places);
        return result === null ? [] : [result];
      } catch {
        return [];
      }
    })
    .sort((a, b) => (a.started_at < b.started_at ? 1 : -1));
}
