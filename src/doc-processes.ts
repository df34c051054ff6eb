import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { canonicalJson, parseJson } from "./canonical.ts";
import { count, short, text, timestamp } from "./doc-fields.ts";
import { SYSTEM } from "./paths.ts";
import { readFileLimited, writeFileAtomic } from "./sys-files.ts";
import { lookAtProcesses, type ProcessLook } from "./sys-processes.ts";
import { ADMIN_GROUP, groupId } from "./sys-state.ts";

/*
 * What the monitor last saw of the running processes, for those who can't look into other users' processes, and since when a service has
 * run old code. It says what runs on this host, which `ps` tells everybody, and which files of packages it executes, which it doesn't: so
 * root and the admin group may read it. It is in /run, since no process outlives the boot.
 */

const PROCESSES_FILE = join(SYSTEM.run, "processes.json");
const MAX_BYTES = 16 * 1024 * 1024;

const Seen = v.strictObject({
  unit: short,
  files: v.pipe(v.array(text), v.maxLength(20_000)),
  old: v.pipe(
    v.array(
      v.strictObject({
        path: text,
        processes: v.pipe(v.array(v.strictObject({ pid: count, start: count })), v.maxLength(20_000)),
      }),
    ),
    v.maxLength(20_000),
  ),
  /** When it was first seen to run old code. */
  since: v.optional(timestamp),
});

const ProcessesSchema = v.strictObject({
  schema_version: v.literal("1.0"),
  seen_at: timestamp,
  /** The boot that it is about. */
  boot_id: short,
  unseen: count,
  units: v.pipe(v.array(Seen), v.maxLength(20_000)),
  /** Why only a reboot brings new code, and when that was first seen. */
  reboot: v.pipe(v.array(v.strictObject({ reason: text, since: timestamp })), v.maxLength(16)),
});
/** One look at this host's processes, by root. */
export type SeenProcesses = v.InferOutput<typeof ProcessesSchema>;

/**
 * The last look in this boot; null if there was none, or its file is not root's or not for this user to read. `boot` is this boot's id.
 */
export function readProcesses(boot: string, path = PROCESSES_FILE, owner = 0): SeenProcesses | null {
  try {
    refuseForeign(path, owner);
    const seen = v.parse(ProcessesSchema, parseJson(readFileLimited(path, MAX_BYTES).toString("utf8")));
    return seen.boot_id === boot ? seen : null;
  } catch {
    return null;
  }
}

/** Nobody else may say what runs here. Only root can put another file in its place afterwards. */
function refuseForeign(path: string, owner: number): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.uid !== owner || (stat.mode & 0o022) !== 0) throw new Error("not root's");
  } finally {
    closeSync(fd);
  }
}

/** @throws AegisError `io` */
export function writeProcesses(seen: SeenProcesses, path = PROCESSES_FILE): void {
  writeFileAtomic(path, canonicalJson(seen), 0o640, groupId(ADMIN_GROUP) ?? -1);
}

/** The effects of {@link runningProcesses}, for tests. */
interface Looking {
  isRoot: boolean;
  look(): ProcessLook;
  recorded(boot: string): SeenProcesses | null;
}

const LOOKING: Looking = {
  isRoot: process.getuid?.() === 0,
  look: () => lookAtProcesses(),
  recorded: (boot) => readProcesses(boot),
};

/** What runs now as far as this user can see; what root last saw where that is more. */
export function runningProcesses(
  boot: string,
  now: Date,
  { isRoot, look, recorded }: Looking = LOOKING,
): SeenProcesses | (ProcessLook & { seen_at: string }) {
  // Others than root hardly see anything, so that a look would be for nothing.
  const record = isRoot ? null : recorded(boot);
  if (record !== null) return record;
  const own = { ...look(), seen_at: now.toISOString() };
  return own.unseen === 0 ? own : (recorded(boot) ?? own);
}
