import { createHmac } from "node:crypto";
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { canonicalJson, sha256Hex } from "./canonical.ts";
import type { Host } from "./doc-plan.ts";
import type { CommandEvidence } from "./doc-plan-evidence.ts";
import type { CredentialsOf } from "./eco-credentials.ts";
import type { Planning, PlanningOutput, ToolSettings } from "./eco-planning.ts";
import { assertPlanningArgv } from "./eco-planning-argv.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { type Env, userPaths } from "./paths.ts";
import { registryAccess } from "./plan-registry.ts";
import { BOOT_ID, bootId } from "./sys-boot.ts";
import { md5Of, sizeOf, spaceOf } from "./sys-disk.ts";
import { hashFile, namesIn, readBytes, readText } from "./sys-files.ts";
import { ensureOwnDir } from "./sys-own-directory.ts";
import { identify, isSameProcess } from "./sys-process.ts";
import { type RunResult, resolveProgram, run, SYSTEM_PATH } from "./sys-spawn.ts";

/** Node's architecture names → dpkg's. */
const DPKG_ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: "amd64",
  arm64: "arm64",
  arm: "armhf",
  ia32: "i386",
  ppc64: "ppc64el",
  riscv64: "riscv64",
  s390x: "s390x",
};

/**
 * The identity of this host and boot, from files alone. `readText` returns a file's text, or null if unreadable. `boot`
 * is the unit's boot id, see {@link bootId}.
 * @throws AegisError `unavailable` if the machine id is missing or was never set: otherwise a plan could be applied to
 * any other host without one; or if the boot id is unknown: otherwise a plan could outlive the boot
 * @see machine-id(5), os-release(5), random(4)
 */
export function hostIdentity(
  readText: (path: string) => string | null,
  boot?: string,
): Host & { boot_id: string } {
  const machineId = (readText("/etc/machine-id") ?? "").trim();
  if (!/^[0-9a-f]{32}$/.test(machineId) || /^0+$/.test(machineId)) {
    throw new AegisError(
      "unavailable",
      "this host has no machine id (/etc/machine-id is missing or was never set), so plans can't be bound to it",
      "Run systemd-machine-id-setup as root, then try again.",
    );
  }
  const ownBoot = bootId(readText, boot);
  if (ownBoot === null) {
    throw new AegisError(
      "unavailable",
      `${BOOT_ID} can't be read, so plans can't be bound to this boot`,
      "Run aegis with a complete /proc (not with ProcSubset=pid).",
    );
  }
  const release = osRelease(readText("/etc/os-release") ?? readText("/usr/lib/os-release") ?? "");
  return {
    hostname: hostname(),
    // machine-id(5) asks to disclose only a keyed hash of the id.
    machine_id_hash: createHmac("sha256", machineId).update("aegis").digest("hex"),
    os_id: release.get("ID") ?? "linux",
    os_version: release.get("VERSION_ID") ?? "",
    architecture: dpkgArchitecture(readText("/var/lib/dpkg/arch")),
    boot_id: ownBoot,
  };
}

/** dpkg has a list of architectures, its own first, only on hosts with foreign ones. */
function dpkgArchitecture(list: string | null): string {
  const native = list?.split("\n")[0]?.trim() ?? "";
  return native !== "" ? native : (DPKG_ARCHITECTURES[process.arch] ?? process.arch);
}

/** The variables in an os-release file, unquoted. */
export function osRelease(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const match = /^([A-Z_]+)=(?:"([^"]*)"|'([^']*)'|(\S*))\s*$/.exec(line);
    if (match?.[1] !== undefined) values.set(match[1], match[2] ?? match[3] ?? match[4] ?? "");
  }
  return values;
}

const TIMEOUT_MS = 120_000;
const MAX_OUTPUT = 32 * 1024 * 1024;
/** Limit on all evidence in a plan, in bytes of canonical JSON; output that doesn't fit is recorded only as a digest. */
const MAX_EVIDENCE = 256 * 1024;
/** Output up to this size is kept even if not requested. */
const SMALL_OUTPUT = 4 * 1024;

export interface PlanningOptions {
  /** The environment whose registry settings and cache directory are used. */
  env: Env;
  now?: Date;
  /**
   * Makes apt build a new binary cache in the private directory. apt trusts the host's cache as long as a list has the
   * same size and time as when it was built, so the host's cache may contradict the lists.
   */
  ownCaches?: boolean;
  /** False where nobody reads a plan's outlook, and it need not be looked for. */
  outlook?: false;
  /** Overrides the host's identity, for tests. */
  host?: Host;
  /** Overrides starting programs, for tests. */
  spawn?: typeof run;
  /** Credentials of registries, beside those of the tools' own settings. */
  credentials?: CredentialsOf;
  /** What asks registries, for tests. */
  registry?: Pick<Planning, "get" | "packageFile">;
}

/**
 * Planning's real effects. Commands run directly, with a clean environment and an empty working directory and HOME,
 * since pip, cargo and npm would otherwise use files found there. Temporary files are in a private directory under the
 * cache's `tmp/`, which `close` removes.
 * @throws AegisError `unavailable` (host without a machine id), `io`
 */
export function openPlanning(options: PlanningOptions): Planning & { close(): void } {
  const { env } = options;
  const host = options.host ?? hostIdentity(readText);
  const spawn = options.spawn ?? run;
  const now = options.now ?? new Date();
  const directory = privateDirectory(env);
  let serial = 0;
  let room = MAX_EVIDENCE - byteLength({ commands: [] });

  /** The evidence of a command, with as much output as fits. */
  function record(argv: readonly string[], result: RunResult | null, keep: boolean): CommandEvidence {
    const evidence: CommandEvidence = {
      argv: [...argv],
      status: result?.status ?? null,
      outcome: commandOutcome(result),
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
    const { files = {}, workFiles = {}, variables = {} } = settings(home);
    const childEnv: Record<string, string> = {
      LANG: "C.UTF-8",
      LC_ALL: "C.UTF-8",
      PATH: SYSTEM_PATH.join(":"),
      HOME: home,
      PYTHONSAFEPATH: "1",
      ...variables,
    };
    for (const [place, texts] of [
      [home, files],
      [cwd, workFiles],
    ] as const)
      for (const [file, text] of Object.entries(texts)) {
        mkdirSync(dirname(join(place, file)), { recursive: true, mode: 0o700 });
        writeFileSync(join(place, file), text, { mode: 0o600 });
      }
    try {
      return await spawn(program, args, { env: childEnv, cwd, timeoutMs: TIMEOUT_MS, maxBytes: MAX_OUTPUT });
    } catch (error) {
      if (error instanceof AegisError && error.code === "unavailable") return null;
      throw error;
    }
  }

  return {
    now,
    env,
    host,
    ...(options.registry ?? registryAccess(join(userPaths(env).cache, "packages"), options.credentials)),
    hasCredentials: (url) => Object.keys(options.credentials?.(url) ?? {}).length > 0,
    ...(options.ownCaches === true ? { aptCache: join(directory, "pkgcache.bin") } : {}),
    readText,
    readBytes,
    hasProgram: (name) => resolveProgram(name) !== null,
    digestOf(path) {
      try {
        return lstatSync(path).isFile() ? hashFile(path) : null;
      } catch {
        return null;
      }
    },
    list: (path) => namesIn(path).sort(),
    ...(options.outlook === false ? {} : lookingAhead(host, now)),
    async run(argv, { settings, keep = false }): Promise<PlanningOutput> {
      assertPlanningArgv(argv);
      const result = await spawnOne(argv, settings);
      return {
        stdout: result?.stdout.toString() ?? "",
        stderr: result?.stderr.toString() ?? "",
        evidence: record(argv, result, keep),
      };
    },
    async contentOf(root, store) {
      if (!existsSync(root)) return null;
      // Only a rollback needs it.
      const { readRoot, treeDigest } = await import("./eco-stage.ts");
      try {
        return treeDigest(readRoot(root, store));
      } catch (error) {
        if (error instanceof AegisError) throw error;
        // The executor, which may read it, plans again.
        const { recordedContent } = await import("./eco-record.ts");
        const recorded = store === undefined ? null : recordedContent(dirname(root), basename(root));
        if (recorded !== null && errnoOf(error) === "EACCES") return recorded;
        throw new AegisError("io", `can't read all of ${root}: ${messageOf(error)}`, "Plan as root.");
      }
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

/** What only a plan's outlook needs. */
function lookingAhead({ boot_id = "" }: Host, now: Date): Pick<Planning, "running" | "disk"> {
  return {
    running: async () => {
      const { runningProcesses } = await import("./doc-processes.ts");
      return runningProcesses(boot_id, now);
    },
    disk: { md5: md5Of, size: sizeOf, space: spaceOf },
  };
}

/**
 * A new directory that only this user can enter. apt reads its settings there, including hooks: for root, nobody else
 * may be able to replace it.
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
      `can't create a working directory under ${parent}: ${messageOf(error)}`,
      "Check the directory's permissions and free space, or set XDG_CACHE_HOME.",
    );
  }
}

/** Removes directories left by killed planning processes; the name identifies the process. */
function sweep(parent: string): void {
  for (const name of readdirSync(parent)) {
    const [, pid, start, boot = ""] = /^plan-(\d+)-(\d+)-(?:([0-9a-f-]*)-)?/.exec(name) ?? [];
    if (pid === undefined || isSameProcess({ pid: Number(pid), start: Number(start), boot })) continue;
    rmSync(join(parent, name), { recursive: true, force: true });
  }
}

function commandOutcome(result: RunResult | null): CommandEvidence["outcome"] {
  if (result === null) return "missing";
  if (result.outcome !== "exited") return result.outcome;
  return result.status === 0 ? "ok" : "failed";
}

function byteLength(value: unknown): number {
  return Buffer.byteLength(canonicalJson(value));
}
