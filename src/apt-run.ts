import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { batches } from "./apt-argv.ts";
import { checkAptConfig, runSettings } from "./apt-config.ts";
import { refuseDpkgConfig } from "./apt-dpkg-config.ts";
import { RUN_FILES } from "./apt-hook-receipt.ts";
import { bringKept } from "./apt-kept.ts";
import { markKey, parseAutoMarks } from "./apt-marks.ts";
import { parseAptDump, renderAptConfig } from "./apt-settings.ts";
import { DEFAULT_APT_DIRS } from "./apt-sources.ts";
import { canonicalJson, parseJson, sha256Hex } from "./canonical.ts";
import type { OperationPlan } from "./doc-plan.ts";
import type { PreparedRun, RunPlace } from "./eco-driver.ts";
import { AegisError } from "./errors.ts";
import { createFileExclusive, readText } from "./sys-files.ts";
import { resolveProgram, run, SYSTEM_PATH } from "./sys-spawn.ts";

/** File name of the frozen configuration in a run directory. */
export const APT_CONF = "apt.conf";

/** In a run directory, the packages whose mark apt may lose. */
const MARKS = "auto-marks.json";
/** apt's record of automatically installed packages; the host's settings may not name another one. */
const EXTENDED_STATES = DEFAULT_APT_DIRS.extendedStates;

/**
 * Time limits for downloads before dpkg starts. Indexes are smaller and fetched without human approval: a server that
 * sends a byte every few seconds must not block the queue for long.
 */
const DOWNLOAD_LIMIT_MS = { update: 10 * 60_000, other: 30 * 60_000 } as const;

/** The time a command may take before dpkg starts, in milliseconds. */
export function downloadLimit(argv: readonly string[]): number {
  return DOWNLOAD_LIMIT_MS[argv[1] === "update" ? "update" : "other"];
}

/**
 * Prepares an apt run: private directories, kept package files, the frozen configuration (dumped again and compared), and the
 * transaction for the hook.
 * @throws AegisError `refused`, `unavailable`, and as {@link bringKept}
 */
export async function prepareAptRun(
  plan: OperationPlan,
  argv: readonly string[],
  place: RunPlace,
): Promise<PreparedRun> {
  if (plan.operation !== "update") refuseDpkgConfig({ readText, list: listNames });
  const { directory, archives } = place;
  mkdirSync(directory, { mode: 0o700 });
  mkdirSync(archives, { mode: 0o755 });
  chmodSync(archives, 0o755);
  const program = resolveProgram(argv[0] ?? "");
  if (program === null) throw new AegisError("unavailable", `${argv[0]} is not installed`);
  const own = join(archives, "kept");
  mkdirSync(own, { mode: 0o755 });
  const kept = bringKept(plan.transaction, own);
  const settings = runSettings(parseAptDump(await aptDump(directory, null)), plan, place, kept);
  const text = renderAptConfig(settings);
  const file = join(directory, APT_CONF);
  writeFileSync(file, text, { mode: 0o644 });
  checkAptConfig(await aptDump(directory, file), settings);
  writeFileSync(join(directory, RUN_FILES.expected), canonicalJson(plan.transaction), { mode: 0o600 });
  const home = plan.operation === "repair" ? prepareRepair(directory) : {};
  if (argv.some((word) => RESTORING.includes(word))) rememberMarks(plan, place);
  // No hook is called, so nothing else would keep the runner from stopping it halfway.
  if (argv[0] === "apt-mark") createFileExclusive(join(directory, RUN_FILES.decision), "apt-mark");
  const environment = { ...aptEnvironment(), ...home, APT_CONFIG: file };
  return {
    directory,
    program,
    environment,
    cwd: "/",
    facts: { apt_config_sha256: sha256Hex(text) },
  };
}

/** Options with which apt is told versions of packages that may have come as dependencies. */
const RESTORING: readonly string[] = ["--only-upgrade", "--allow-downgrades"];

/**
 * Remembers which installed packages of the plan are marked as automatically installed: before apt 2.7 they lose the mark when
 * they are named with a version (measured: 2.4.5 and 2.6.1 do, 2.7.14, 3.0.4 and 3.2.0 don't), and autoremove keeps them for ever.
 */
function rememberMarks({ transaction, host }: OperationPlan, { directory }: RunPlace): void {
  const marks = parseAutoMarks(readText(EXTENDED_STATES) ?? "");
  const keys = transaction
    .filter(({ from_version }) => from_version !== null)
    .map((one) => markKey(one, host.architecture));
  writeFileSync(join(directory, MARKS), JSON.stringify(keys.filter((key) => marks?.has(key))), {
    mode: 0o600,
  });
}

/** Marks those packages again. Returns which could not be. */
export async function restoreMarks(directory: string): Promise<string[]> {
  const remembered = readText(join(directory, MARKS));
  if (remembered === null) return [];
  const lost = () => {
    const marks = parseAutoMarks(readText(EXTENDED_STATES) ?? "");
    return v.parse(v.array(v.string()), parseJson(remembered)).filter((key) => marks?.has(key) !== true);
  };
  const names = lost();
  const program = resolveProgram("apt-mark");
  for (const some of names.length === 0 || program === null ? [] : batches(names)) {
    const env = { ...aptEnvironment(), APT_CONFIG: join(directory, APT_CONF) };
    await run(program ?? "", ["auto", ...some], { env, cwd: "/", timeoutMs: 60_000, maxBytes: 1 << 20 });
  }
  const left = names.length === 0 ? [] : lost();
  return left.length === 0
    ? []
    : [
        `packages are no longer marked as automatically installed: ${left.slice(0, 5).join(", ")}${left.length > 5 ? ` and ${left.length - 5} more` : ""}`,
      ];
}

function listNames(path: string): string[] {
  return existsSync(path) ? readdirSync(path).sort() : [];
}

/**
 * Extra preparation for a repair. Its command line has no room for options, so dpkg gets them from the configuration
 * file in its home directory, which it reads after the host's (dpkg(1), "FILES"). Old configuration files are kept,
 * since a question would end the run (standard input is closed), and nothing else is forced. The decision file is
 * created beforehand: nothing may stop the run once started.
 */
function prepareRepair(directory: string): { HOME: string } {
  const home = join(directory, "home");
  mkdirSync(home, { mode: 0o700 });
  const options = ["no-force-all", "force-security-mac", "force-confold"];
  writeFileSync(join(home, ".dpkg.cfg"), `${options.join("\n")}\n`, { mode: 0o600 });
  createFileExclusive(join(directory, RUN_FILES.decision), "repair");
  return { HOME: home };
}

function aptEnvironment(): Record<string, string> {
  return {
    PATH: SYSTEM_PATH.join(":"),
    LC_ALL: "C.UTF-8",
    HOME: "/root",
    TERM: "dumb",
    DEBIAN_FRONTEND: "noninteractive",
    // For ucf(1); dpkg has --force-confold for the same.
    UCF_FORCE_CONFFOLD: "1",
  };
}

async function aptDump(cwd: string, config: string | null): Promise<string> {
  const program = resolveProgram("apt-config");
  if (program === null) throw new AegisError("unavailable", "apt-config is not installed");
  const env = config === null ? aptEnvironment() : { ...aptEnvironment(), APT_CONFIG: config };
  const result = await run(program, ["dump"], { env, cwd, timeoutMs: 30_000, maxBytes: 8 << 20 });
  if (result.outcome !== "exited" || result.status !== 0)
    throw new AegisError("unavailable", "apt-config dump failed");
  return result.stdout.toString("utf8");
}

/**
 * Parses a line of APT::Status-Fd (apt's README.progress-reporting): `pmstatus:<package>:<percent>:<text>` and similar.
 * The package may contain a colon (`libc6:i386`). Null for lines without a percentage.
 */
export function parseStatusLine(line: string): { percent: number; message: string } | null {
  const [, kind, percent, message] =
    /^(pmstatus|dlstatus|pmerror):.+?:(\d+(?:\.\d+)?):(.*)$/.exec(line) ?? [];
  if (kind === undefined || percent === undefined || message === undefined) return null;
  return { percent: Math.min(100, Math.max(0, Number(percent))), message };
}
