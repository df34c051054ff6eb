import { existsSync } from "node:fs";
import { AegisError } from "./errors.ts";
import { resolveProgram, run, SYSTEM_PATH } from "./subprocess.ts";

/* systemd, spoken to by its own programs: systemctl(1), systemd-sysusers(8), systemd-tmpfiles(8). */

/** Stopping waits for a service that ends its work first. */
const LIMIT_MS = 120_000;

/** Whether systemd runs this host (sd_booted(3)). */
export function hasSystemd(): boolean {
  return existsSync("/run/systemd/system");
}

/**
 * Runs one of systemd's programs and returns what it printed.
 * @throws AegisError `unavailable` with what it said, when it fails or isn't there
 */
export async function systemd(name: string, args: readonly string[]): Promise<string> {
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
  const how = outcome === "exited" ? `status ${status}` : outcome;
  throw new AegisError(
    "unavailable",
    `${name} ${args.join(" ")} failed (${how}): ${said}`,
    "Look: systemctl --failed; journalctl -b -u 'aegis*'",
  );
}

/** What systemd knows of a unit; the names are its own. */
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

/**
 * The state of each unit, in the order asked for, by one call. Timestamps are `@<seconds>`, or empty.
 * @throws AegisError `unavailable`
 */
export async function showUnits<N extends string>(names: readonly N[]): Promise<Record<N, UnitState>> {
  // Of a template only an instance has a state.
  const asked = names.map((name) => name.replace("@.", "@any."));
  const args = ["show", "--timestamp=unix", `--property=${PROPERTIES.join(",")}`, "--", ...asked];
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
