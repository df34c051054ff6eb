import { existsSync } from "node:fs";
import { join } from "node:path";
import { AegisError } from "./errors.ts";
import { resolveProgram, run, SYSTEM_PATH } from "./sys-spawn.ts";

/* systemd, driven through its own programs: systemctl(1), systemd-sysusers(8), systemd-tmpfiles(8). */

/** Directory of the administrator's units; they override those of packages in /usr/lib. */
export const UNIT_DIRECTORY = "/etc/systemd/system";

/** Stopping waits for a service to finish its work. */
const LIMIT_MS = 120_000;

/** Whether systemd runs this host (sd_booted(3)). */
export function hasSystemd(): boolean {
  return existsSync("/run/systemd/system");
}

/** Whether the executor is installed as a service, running or not. */
export function isInstalled(): boolean {
  return hasSystemd() && existsSync(join(UNIT_DIRECTORY, "aegisd.service"));
}

/**
 * The oldest systemd Aegis was tested on, Ubuntu 22.04's. 247 (Debian 11) ignores NoExecPaths= and ExecPaths= with a
 * warning, and a compromised front could start programs there; by its NEWS, 248 added both.
 */
const OLDEST = 249;

/** @throws AegisError `unavailable` if systemd does not run this host, or is too old for the units */
export async function requireSystemd(): Promise<void> {
  const version = hasSystemd() ? /^systemd (\d+)/.exec(await systemd("systemctl", ["--version"]))?.[1] : null;
  if (version !== null && Number(version ?? 0) >= OLDEST) return;
  throw new AegisError(
    "unavailable",
    version === null
      ? "systemd does not run this host, so there is nothing to install services into"
      : `systemd ${version ?? "of unknown version"} is too old: before 248 it ignores NoExecPaths=, which keeps services from starting programs, and ${OLDEST} is the oldest version tested`,
    "Start the services by hand: aegis daemon --executor as root, aegis daemon --reviewer as another user",
  );
}

/** systemctl's errors while systemd re-executes itself, as its own upgrade does. */
const LOST = /disconnected|Connection reset|Connection refused|not connected|Connection terminated/i;

/** Whether an error of systemctl's says that the connection was lost, and that the call may be made again. */
export function lostConnection(error: string): boolean {
  return LOST.test(error);
}
const RETRIES = 5;
const RETRY_MS = 400;

/**
 * Runs one of systemd's programs and returns its output. Retries when systemd's re-execution cut the connection: every
 * call made here may be repeated.
 * @throws AegisError `unavailable` with its error output, if it fails or isn't installed
 */
export async function systemd(
  name: string,
  args: readonly string[],
  retries: number = RETRIES,
): Promise<string> {
  const program = resolveProgram(name);
  if (program === null) throw new AegisError("unavailable", `${name} is not installed`);
  const env = { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8", SYSTEMD_PAGER: "", SYSTEMD_COLORS: "0" };
  const { status, outcome, stdout, stderr } = await run(program, args, {
    env,
    cwd: "/",
    timeoutMs: LIMIT_MS,
    maxBytes: 1 << 20,
  });
  if (outcome === "exited" && status === 0) return stdout.toString("utf8");
  const said = stderr.toString("utf8").trim().split("\n").slice(0, 5).join("; ");
  if (outcome === "exited" && retries > 0 && lostConnection(said)) {
    await Bun.sleep(RETRY_MS);
    return systemd(name, args, retries - 1);
  }
  const how = outcome === "exited" ? `status ${status}` : outcome;
  throw new AegisError(
    "unavailable",
    `${name} ${args.join(" ")} failed (${how}): ${said}`,
    "Check: systemctl --failed; journalctl -b -u 'aegis*'",
  );
}

/** Properties of a unit, by systemd's names. */
export type UnitState = Readonly<Record<(typeof PROPERTIES)[number], string>>;

const PROPERTIES = [
  "LoadState",
  "ActiveState",
  "UnitFileState",
  "DropInPaths",
  "NeedDaemonReload",
  "MainPID",
  "Result",
  "ActiveEnterTimestamp",
] as const;

/** Units with a pending stop job, and whether the whole host is shutting down. */
export interface Stopping {
  units: string[];
  hostToo: boolean;
}

/**
 * Units matching the patterns that are stopping and have a job. If the job was cancelled, nobody is waiting, and the
 * unit ends when its work does.
 * @throws AegisError `unavailable`
 */
export async function stoppingUnits(
  patterns: readonly string[],
  ask: (args: readonly string[]) => Promise<string> = (args) => systemd("systemctl", args),
): Promise<Stopping> {
  const text = await ask(["show", "--property=Id,ActiveState,Job", "--", ...patterns]);
  const units = text.split("\n\n").flatMap((block) => {
    const id = /^Id=(.+)$/m.exec(block)?.[1];
    const stopping = /^ActiveState=deactivating$/m.test(block) && /^Job=\d+$/m.test(block);
    return id !== undefined && stopping ? [id] : [];
  });
  if (units.length === 0) return { units, hostToo: false };
  return { units, hostToo: /^SystemState=stopping$/m.test(await ask(["show", "--property=SystemState"])) };
}

/**
 * A timestamp like `Sun 2026-11-22 05:54:36 UTC` in seconds since 1970, or NaN. `--timestamp=unix` would be simpler,
 * but systemd 249 doesn't know it.
 */
export function secondsOf(timestamp: string): number {
  const [, day, time] = /^[A-Z][a-z]{2} (\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}) UTC$/.exec(timestamp) ?? [];
  return day === undefined ? Number.NaN : Date.parse(`${day}T${time}Z`) / 1000;
}

/**
 * The state of each unit, from one systemctl call. For timestamps see {@link secondsOf}.
 * @throws AegisError `unavailable`
 */
export async function showUnits<N extends string>(names: readonly N[]): Promise<Record<N, UnitState>> {
  // A template has no state; an instance does.
  const asked = names.map((name) => name.replace("@.", "@any."));
  const args = ["show", "--timestamp=utc", `--property=${PROPERTIES.join(",")}`, "--", ...asked];
  const text = await systemd("systemctl", args);
  const blocks = text.trimEnd().split("\n\n");
  const states = names.map((name, i): [N, UnitState] => {
    const values = new Map(
      (blocks[i] ?? "").split("\n").map((line) => {
        const at = line.indexOf("=");
        return [line.slice(0, at), line.slice(at + 1)];
      }),
    );
    return [
      name,
      Object.fromEntries(PROPERTIES.map((property) => [property, values.get(property) ?? ""])) as UnitState,
    ];
  });
  return Object.fromEntries(states) as Record<N, UnitState>;
}
