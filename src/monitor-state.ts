import { lstatSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { canonicalJson, parseJson } from "./canonical.ts";
import { AegisError } from "./errors.ts";
import { PositionSchema } from "./monitor-logs.ts";
import { ManagedSeenSchema } from "./monitor-managed-events.ts";
import { RepositoriesSchema } from "./monitor-repositories.ts";
import { SYSTEM } from "./paths.ts";
import { ensureDir, readFileLimited, writeFileAtomic } from "./sys-files.ts";

/** The monitor's own directory: root's, 0700. */
export const MONITOR_DIRECTORY = join(SYSTEM.state, "monitor");
/** Exists once the monitor has run. */
export const MONITOR_STATE = join(MONITOR_DIRECTORY, "state.json");
const MAX_BYTES = 32 * 1024 * 1024;

const StateSchema = v.strictObject({
  schema_version: v.literal("1.0"),
  /** When the packages were inspected, RFC 3339. */
  at: v.string(),
  /** The newest event that the monitor had written; the log has newer ones if this file is an older copy. */
  audit_sequence: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  dpkg_log: v.nullable(PositionSchema),
  /** The host's offset from UTC in minutes, east positive: how to read the local times of logs. */
  utc_offset: v.number(),
  /** `name:architecture` → version, from dpkg. */
  packages: v.record(v.string(), v.string()),
  repositories: RepositoriesSchema,
  /** Doctor's warnings and failures, one text each. */
  findings: v.array(v.string()),
  /** Deviations of managed roots. Missing in files of versions without them. */
  managed: v.optional(ManagedSeenSchema, {}),
});
/** What one run of the monitor saves for the next. */
export type MonitorState = v.InferOutput<typeof StateSchema>;

/** Creates the directory and checks that only root may enter it. @throws AegisError `io` */
export function prepareMonitorState(): void {
  ensureDir(MONITOR_DIRECTORY);
  const { mode, uid } = lstatSync(MONITOR_DIRECTORY);
  if (uid !== 0 || (mode & 0o077) !== 0) {
    throw new AegisError(
      "io",
      `${MONITOR_DIRECTORY} must belong to root, with no access for others`,
      `Type: chown root:root ${MONITOR_DIRECTORY} && chmod 700 ${MONITOR_DIRECTORY}`,
    );
  }
}

/** What the last run saved; null if there was none, or its file can't be read. */
export function readMonitorState(): MonitorState | null {
  try {
    return v.parse(StateSchema, parseJson(readFileLimited(MONITOR_STATE, MAX_BYTES).toString("utf8")));
  } catch {
    return null;
  }
}

/** @throws AegisError `io` */
export function writeMonitorState(state: MonitorState): void {
  writeFileAtomic(MONITOR_STATE, canonicalJson(state));
}
