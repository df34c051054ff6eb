import {
  chownSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { canonicalJson, parseJson } from "./canonical.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { writeFileAtomic } from "./files.ts";
import { ADMIN_GROUP, groupId, STATE } from "./state.ts";

const nullableText = v.nullable(v.string());

/** One package that is not as the plan says it should be after the run. */
const Difference = v.strictObject({
  package: v.string(),
  architecture: v.string(),
  expected: nullableText,
  found: nullableText,
});
export type Difference = v.InferOutput<typeof Difference>;

/** What became of an execution: written by the runner, read by `apply`. */
export const ResultSchema = v.strictObject({
  schema_version: v.literal("1.0"),
  execution_plan_id: v.string(),
  plan_id: v.string(),
  argv: v.array(v.string()),
  /** `running` until the end; `interrupted` when the runner died and a later one compared. */
  state: v.picklist(["running", "completed", "failed", "interrupted"]),
  exit_status: v.nullable(v.number()),
  /** An error code of errors.ts, null when all went as planned. */
  code: nullableText,
  message: nullableText,
  started_at: v.string(),
  ended_at: nullableText,
  submitted_by_uid: v.number(),
  /** Packages of the plan that are not in the planned state. */
  not_as_planned: v.array(Difference),
  /** Packages outside the plan that changed during the run. */
  changed_besides: v.array(Difference),
});
export type Result = v.InferOutput<typeof ResultSchema>;

const ID = /^[0-9a-f-]{36}$/;

function resultPath(id: string): string {
  if (!ID.test(id)) throw new AegisError("usage", "an execution is named by its full id");
  return join(STATE.results, `${id}.json`);
}

/** Writes an outcome: root-owned, readable by the admin group. */
export function writeResult(result: Result): void {
  const path = resultPath(result.execution_plan_id);
  writeFileAtomic(path, canonicalJson(result), 0o640);
  chownSync(path, 0, groupId(ADMIN_GROUP) ?? 0);
}

/**
 * The outcome of an execution, or null where there is none. Only a file that belongs to root is believed.
 * @throws AegisError `io` when it is there and can't be read, `refused` when it isn't root's
 */
export function readResult(id: string): Result | null {
  const path = resultPath(id);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw new AegisError(
      "io",
      `can't read ${path}: ${messageOf(error)}`,
      `Only root and the group ${ADMIN_GROUP} may.`,
    );
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.uid !== 0 || (stat.mode & 0o022) !== 0) {
      throw new AegisError("refused", `${path} is not a file that only root can write`);
    }
    return v.parse(ResultSchema, parseJson(readFileSync(fd, "utf8")));
  } finally {
    closeSync(fd);
  }
}

/**
 * The newest outcomes by the time they were written, at most `limit`, read from no more files than that. One that can't be
 * read is left out: it must not hide the others.
 */
export function recentResults(limit: number): Result[] {
  const ids = readdirSync(STATE.results).flatMap((name) =>
    name.endsWith(".json") && ID.test(name.slice(0, -5)) ? [name.slice(0, -5)] : [],
  );
  return ids
    .map((id) => ({ id, written: statSync(resultPath(id), { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => b.written - a.written)
    .slice(0, limit)
    .flatMap(({ id }) => {
      try {
        const result = readResult(id);
        return result === null ? [] : [result];
      } catch {
        return [];
      }
    })
    .sort((a, b) => (a.started_at < b.started_at ? 1 : -1));
}
