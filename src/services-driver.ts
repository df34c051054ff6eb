import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Comparison, HostState, RunAdvice, RunDriver, RunSubject } from "./eco-driver.ts";
import { AegisError } from "./errors.ts";
import { isOwnRunner } from "./services-grammar.ts";
import { createFileExclusive, readText } from "./sys-files.ts";
import { resolveProgram, SYSTEM_PATH } from "./sys-spawn.ts";
import { hasSystemd, lostConnection } from "./sys-systemd.ts";

/*
 * Runs signed restarts: systemctl(1) hands them to systemd and waits for their end. What became of them, systemd says.
 */

/** Ending systemctl ends the waiting alone: systemd goes on with what it was told. */
const LIMIT_MS = 30 * 60_000;
const ASK_MS = 30_000;
const MAX_ANSWER = 16 * 1024 * 1024;
/** A service that isn't ready before it says so (Type=notify) is watched for so long after its restart. */
const WATCHED_MS = 2000;
/** Created by whoever stops the waiting. */
const STOPPED = "stopped";

/** Limit on the units named in advice. */
const NAMED = 5;

const ENVIRONMENT = {
  ...{ PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8", HOME: "/nonexistent" },
  ...{ SYSTEMD_PAGER: "", SYSTEMD_COLORS: "0", SYSTEMD_URLIFY: "0" },
};

/** What tests replace. */
interface RestartHost {
  /** The state of every unit that systemd has loaded: what `systemctl show` prints. */
  show(): string;
  sleep(ms: number): Promise<void>;
  isBooted(): boolean;
}

/** `units` are those of the signed command. */
export function servicesDriver(units: readonly string[], host: Partial<RestartHost> = {}): RunDriver {
  const { show = showAll, sleep = Bun.sleep, isBooted = hasSystemd } = host;
  const observe = () => statesOf(show());
  return {
    user: "root",
    // No snapshot brings back what a process held in memory.
    roots: [],
    hold: () => Promise.resolve(null),
    async ready() {
      if (!isBooted()) throw new AegisError("unavailable", "systemd does not run this host");
    },
    async prepare(_plan, argv, { directory, archives }) {
      const program = resolveProgram(argv[0] ?? "");
      if (program === null) throw new AegisError("unavailable", `${argv[0]} is not installed`);
      for (const path of [directory, archives]) mkdirSync(path, { mode: 0o700 });
      return { directory, program, environment: ENVIRONMENT, cwd: "/", facts: { program } };
    },
    observe,
    progress: () => null,
    mayStop: (directory) => createFileExclusive(join(directory, STOPPED), ""),
    wasStopped: (directory) =>
      readText(join(directory, STOPPED)) === null
        ? null
        : "while it waited for systemd, which goes on with the restart",
    limitMs: () => LIMIT_MS,
    isAlive: () => false,
    settled: () => sleep(WATCHED_MS),
    witness: () => ({ verdict: "not_needed" }),
    compare: compareRestarts,
    watchBesides: () => () => [],
    async advice() {
      return adviceOn(units, observe());
    },
  };
}

/** @throws AegisError `io` */
function showAll(): string {
  const program = resolveProgram("systemctl");
  if (program === null) throw new AegisError("io", "systemctl is not installed");
  const args = ["show", "--property=Id,ActiveState,SubState,InvocationID", "--", "*"];
  for (let tries = 5; ; tries--) {
    const { status, stdout, stderr, error } = spawnSync(program, args, {
      ...{ env: ENVIRONMENT, cwd: "/", timeout: ASK_MS, maxBuffer: MAX_ANSWER, encoding: "utf8" },
    });
    if (status === 0) return stdout;
    const why = error?.message ?? (stderr ?? "").trim().split("\n")[0] ?? "";
    if (tries === 0 || !lostConnection(why))
      throw new AegisError("io", `systemd can't be asked about its units: ${why}`);
    // systemd is executing itself anew, and the answer comes afterwards.
    Bun.sleepSync(400);
  }
}

/** Unit → `active running 5d0b12d78a3f4c6c9e0f4b1c2d3e4f50`: its states, and systemd's name of this run of it. */
function statesOf(text: string): HostState {
  const states: Record<string, string> = {};
  for (const block of text.split("\n\n")) {
    const of = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(block)?.[1] ?? "";
    if (of("Id") !== "") states[of("Id")] = [of("ActiveState"), of("SubState"), of("InvocationID")].join(" ");
  }
  return states;
}

interface UnitRun {
  isActive: boolean;
  /** `active (running)` */
  words: string;
  run: string;
}

function runIn(states: HostState, unit: string): UnitRun {
  const [active = "", sub = "", run = ""] = (states[unit] ?? "").split(" ");
  return { isActive: active === "active", words: active === "" ? "gone" : `${active} (${sub})`, run };
}

function compareRestarts({ transaction }: RunSubject, before: HostState, after: HostState): Comparison {
  const planned = new Set(transaction.map(({ name }) => name));
  const difference = (unit: string, expected: string, found: string) => ({
    ...{ package: unit, architecture: "all", expected, found },
  });
  const notAsPlanned = transaction.flatMap(({ name }) => {
    const [old, now] = [runIn(before, name), runIn(after, name)];
    if (!now.isActive) return [difference(name, "active and started anew", now.words)];
    // Some kinds of unit, which have no processes, have no runs either.
    return now.run === old.run && now.run !== ""
      ? [difference(name, "started anew", "still in the run before")]
      : [];
  });
  // Many services end by themselves; one that is started anew, or has failed, somebody or something else has touched. How the run's own
  // unit ended is said of the run.
  const besides = Object.keys(before).flatMap((unit) => {
    const [old, now] = [runIn(before, unit), runIn(after, unit)];
    const isHurt = old.isActive && (now.words.startsWith("failed ") || (now.isActive && now.run !== old.run));
    if (planned.has(unit) || !isHurt || isOwnRunner(unit) || !/\.(?:service|socket)$/.test(unit)) return [];
    return [difference(unit, "untouched", now.isActive ? "started anew" : now.words)];
  });
  return { not_as_planned: notAsPlanned, changed_besides: besides, inverse: [] };
}

/** Why a unit failed stands in its journal, which may have secrets; root and the journal's readers have that. */
function adviceOn(units: readonly string[], states: HostState): RunAdvice {
  const down = units.filter((unit) => !runIn(states, unit).isActive);
  const options = down.slice(0, NAMED).flatMap((unit) => ["--unit", unit]);
  return {
    text: down.length === 0 ? "" : `to see why: ${["journalctl", ...options, "--lines", "30"].join(" ")}`,
    facts: { not_running: down.map((unit) => `${unit} ${runIn(states, unit).words}`).join(", ") },
  };
}
