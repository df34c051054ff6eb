import { existsSync, realpathSync } from "node:fs";
import { AegisError } from "./errors.ts";
import { type Subvolume, subvolumeOf } from "./exec-snapshot-btrfs.ts";
import { namesIn, readText, rootOnlyProblem } from "./sys-files.ts";
import { resolveProgram, run, SYSTEM_PATH } from "./sys-spawn.ts";

const TIMEOUT_MS = 10_000;
const MAX_OUTPUT = 1024 * 1024;
/** The device that a program needs. The executor's unit hides it, unless a drop-in says otherwise. */
const DEVICES: Readonly<Record<string, string>> = { lvs: "/dev/mapper/control", zfs: "/dev/zfs" };

/** The facts of a snapshot. */
export interface Snapshot {
  /** Truncated to the second, except for btrfs. */
  created: Date;
  /** What it is a snapshot of, for people. */
  of: string;
  /** The directories of `SnapshotHost.places` that its origin contains. */
  holds: readonly string[];
}

/** Read-only access to a host for look-ups. */
export interface SnapshotHost {
  /** Directories that a run changes; a snapshot must contain all of them to be a way back. */
  places: readonly string[];
  /** Output of a program in the system's directories. @throws AegisError `control_invalid` if it fails */
  run(program: string, args: readonly string[]): Promise<string>;
  /** A file's text, or null. */
  readText(path: string): string | null;
  list(directory: string): readonly string[];
  /** Why others than root could have changed a file, or null. */
  rootOnlyProblem(path: string): string | null;
  subvolumeOf(directory: string): Subvolume | null;
}

/** This machine. A run changes the directories `roots`. */
export function snapshotHost(roots: readonly string[]): SnapshotHost {
  return { ...LOOK_UPS_HERE, places: roots.map(realPath) };
}

const LOOK_UPS_HERE: Omit<SnapshotHost, "places"> = {
  async run(program, args) {
    const path = resolveProgram(program);
    if (path === null) throw cannotLookUp(`${program} is not installed`);
    const env = { LC_ALL: "C.UTF-8", TZ: "UTC", PATH: SYSTEM_PATH.join(":") };
    const result = await run(path, args, { env, cwd: "/", timeoutMs: TIMEOUT_MS, maxBytes: MAX_OUTPUT });
    if (result.outcome === "exited" && result.status === 0) return result.stdout.toString();
    const how = result.outcome === "exited" ? `status ${result.status}` : result.outcome;
    const lines = result.stderr.toString().trim().split("\n");
    const device = DEVICES[program];
    const hidden = device !== undefined && !existsSync(device);
    const why = hidden ? ` (${device} is hidden: see the drop-in: aegis help snapshots)` : "";
    throw cannotLookUp(`${program} says (${how}): ${lines.at(-1)?.trim().slice(0, 200) ?? ""}${why}`);
  },
  readText,
  list: namesIn,
  rootOnlyProblem,
  subvolumeOf,
};

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** The error of a failed look-up. `why` completes "the snapshot … is refused: …". */
export function cannotLookUp(why: string): AegisError {
  return new AegisError("control_invalid", why);
}

/** The file system of a path, by /proc/self/mountinfo (proc_pid_mountinfo(5)), or null. */
export function mountOf(
  path: string,
  mountinfo: string,
): { device: string; type: string; source: string } | null {
  let best: { point: string; device: string; type: string; source: string } | null = null;
  for (const line of mountinfo.split("\n")) {
    const [left = "", right = ""] = line.split(" - ", 2);
    const [, , device, , point] = left.split(" ");
    const [type, source] = right.split(" ");
    if (device === undefined || point === undefined || type === undefined || source === undefined) continue;
    const where = unescaped(point);
    const holds = where === "/" || path === where || path.startsWith(`${where}/`);
    // Of two mounts at one point, the later one hides the earlier.
    if (holds && where.length >= (best?.point.length ?? 0)) {
      best = { point: where, device, type, source: unescaped(source) };
    }
  }
  return best;
}

/** Undoes mountinfo's octal escapes for spaces and others. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
