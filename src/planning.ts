import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalJson, sha256Hex } from "./canonical.ts";
import type { Planning, PlanningOutput, ToolSettings } from "./ecosystem.ts";
import { AegisError, messageOf } from "./errors.ts";
import { readFileLimited } from "./files.ts";
import { hostIdentity } from "./host.ts";
import type { CommandEvidence, Host } from "./operation-plan.ts";
import { type Env, userPaths } from "./paths.ts";
import { assertPlanningArgv } from "./planning-argv.ts";
import { identify, isSameProcess } from "./processes.ts";
import { type RunResult, resolveProgram, run, SYSTEM_PATH } from "./subprocess.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";

const TIMEOUT_MS = 120_000;
const MAX_OUTPUT = 32 * 1024 * 1024;
const MAX_FILE = 64 * 1024 * 1024;
/** Cap on all evidence of a plan, in bytes of canonical JSON; output that doesn't fit stands only as its digest. */
const MAX_EVIDENCE = 256 * 1024;
/** Output up to this size is kept although nobody asked for it. */
const SMALL_OUTPUT = 4 * 1024;

export interface PlanningOptions {
  /** Whose registry settings and cache directory count. */
  env: Env;
  now?: Date;
  /**
   * Apt builds its binary cache anew, inside the private directory. It believes the host's as long as a list has the size and
   * time that it was built from, so the host's may say what no list says any more.
   */
  ownCaches?: boolean;
  /** Another host's identity, for tests. */
  host?: Host;
  /** What starts programs, for tests. */
  spawn?: typeof run;
}

/**
 * The real effects of planning. Commands run directly, with an environment of their own and an empty working directory
 * and HOME, because pip, cargo and npm otherwise obey files they find there. Everything temporary is in one private
 * directory under the cache's `tmp/`, which `close` removes.
 * @throws AegisError `unavailable` (host without a machine id), `io`
 */
export function openPlanning(options: PlanningOptions): Planning & { close(): void } {
  const { env } = options;
  const host = options.host ?? hostIdentity(readText);
  const spawn = options.spawn ?? run;
  const directory = privateDirectory(env);
  let serial = 0;
  let room = MAX_EVIDENCE - byteLength({ commands: [] });

  /** The evidence of one command, with the output text that still fits. */
  function record(argv: readonly string[], result: RunResult | null, keep: boolean): CommandEvidence {
    const evidence: CommandEvidence = {
      argv: [...argv],
      status: result?.status ?? null,
      outcome: outcomeOf(result),
      stdout_sha256: result === null ? null : sha256Hex(result.stdout),
      stderr_sha256: result === null ? null : sha256Hex(result.stderr),
      stdout: null,
      stderr: null,
    };
    room -= byteLength(evidence) + 1;
    for (const stream of ["stdout", "stderr"] as const) {
      if (result === null || (!keep && result[stream].length > SMALL_OUTPUT)) continue;
      const text = result[stream].toString();
      const cost = byteLength(text);
      if (cost > room) continue;
      room -= cost;
      evidence[stream] = text;
    }
    return evidence;
  }

  async function spawnOne(
    argv: readonly string[],
    settings: (home: string) => ToolSettings,
  ): Promise<RunResult | null> {
    const [name = "", ...args] = argv;
    const program = resolveProgram(name);
    if (program === null) return null;
    const own = join(directory, `run-${++serial}`);
    const [home, cwd] = [join(own, "home"), join(own, "work")];
    for (const path of [own, home, cwd]) mkdirSync(path, { mode: 0o700 });
    const { files = {}, variables = {} } = settings(home);
    const childEnv: Record<string, string> = {
      LANG: "C.UTF-8",
      LC_ALL: "C.UTF-8",
      PATH: SYSTEM_PATH.join(":"),
      HOME: home,
      PYTHONSAFEPATH: "1",
      ...variables,
    };
    for (const [file, text] of Object.entries(files)) writeFileSync(join(home, file), text, { mode: 0o600 });
    try {
      return await spawn(program, args, { env: childEnv, cwd, timeoutMs: TIMEOUT_MS, maxBytes: MAX_OUTPUT });
    } catch (error) {
      if (error instanceof AegisError && error.code === "unavailable") return null;
      throw error;
    }
  }

  return {
    now: options.now ?? new Date(),
    env,
    host,
    ...(options.ownCaches === true ? { aptCache: join(directory, "pkgcache.bin") } : {}),
    readText,
    list,
    async run(argv, { settings, keep = false }): Promise<PlanningOutput> {
      assertPlanningArgv(argv);
      const result = await spawnOne(argv, settings);
      return {
        stdout: result?.stdout.toString() ?? "",
        stderr: result?.stderr.toString() ?? "",
        evidence: record(argv, result, keep),
      };
    },
    temporary(name, data) {
      if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
        throw new AegisError("internal", `not a name for a temporary file: ${name}`);
      }
      const path = join(directory, `${++serial}-${name}`);
      writeFileSync(path, data, { mode: 0o600, flag: "wx" });
      return path;
    },
    close() {
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/**
 * A fresh directory that only this user can enter. apt reads its settings there, with their hooks: as root nobody else may be
 * able to put another directory in its place.
 */
function privateDirectory(env: Env): string {
  const parent = join(userPaths(env).cache, "tmp");
  try {
    ensureOwnDir(parent);
    sweep(parent);
    const { pid, start, boot } = identify(process.pid);
    return mkdtempSync(join(parent, `plan-${pid}-${start}-${boot}-`));
  } catch (error) {
    if (error instanceof AegisError && error.code === "refused") throw error;
    throw new AegisError(
      "io",
      `can't make a working directory under ${parent}: ${messageOf(error)}`,
      "Check the directory's permissions and free space, or set XDG_CACHE_HOME.",
    );
  }
}

/** Removes what a planning left that was killed: its directory names its process. */
function sweep(parent: string): void {
  for (const name of readdirSync(parent)) {
    const [, pid, start, boot = ""] = /^plan-(\d+)-(\d+)-(?:([0-9a-f-]*)-)?/.exec(name) ?? [];
    if (pid === undefined || isSameProcess({ pid: Number(pid), start: Number(start), boot })) continue;
    rmSync(join(parent, name), { recursive: true, force: true });
  }
}

/** The text of a regular file of the host, or null where it is not there, can't be read, or is larger than 64 MiB. */
export function readText(path: string): string | null {
  try {
    return readFileLimited(path, MAX_FILE).toString();
  } catch {
    return null;
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

function outcomeOf(result: RunResult | null): CommandEvidence["outcome"] {
  if (result === null) return "missing";
  if (result.outcome !== "exited") return result.outcome;
  return result.status === 0 ? "ok" : "failed";
}

function byteLength(value: unknown): number {
  return Buffer.byteLength(canonicalJson(value));
}
