import { existsSync, rmSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { callExecutor } from "./front-client.ts";
import { makeDirectories, type Step } from "./host-steps.ts";
import { UNIT_NAMES, type UnitName } from "./host-units.ts";
import { trustsExecutionKey } from "./key-trust.ts";
import { MONITOR_STATE } from "./monitor-state.ts";
import { SYSTEM } from "./paths.ts";
import { namesIn } from "./sys-files.ts";
import { secondsOf, showUnits, systemd, UNIT_DIRECTORY, type UnitState } from "./sys-systemd.ts";

/*
 * The install steps that enable and start the services.
 */

/** A component: its socket or timer unit and the service behind it. */
interface Part {
  what: string;
  listener: UnitName | null;
  service: UnitName | null;
  /** Enabled but not started. */
  later?: true;
}

const RUNNER: Part = { what: "the runner's socket", listener: "aegis-runner.socket", service: null };
const FETCH: Part = { what: "the socket for downloads", listener: "aegis-fetch.socket", service: null };
const BUILD: Part = { what: "the socket for sandboxes", listener: "aegis-build.socket", service: null };
const UNPACK: Part = {
  what: "the socket for sandboxes that unpack",
  listener: "aegis-unpack.socket",
  service: null,
};
const RECOVERY: Part = { what: "recovery", listener: null, service: "aegis-recover.service", later: true };
const EXECUTOR: Part = { what: "the executor", listener: "aegisd.socket", service: "aegisd.service" };
const REVIEW: Part = {
  what: "the reviewer",
  listener: "aegis-reviewd.socket",
  service: "aegis-reviewd.service",
};
const NOTIFIER: Part = { what: "the notifier", listener: "aegis-notify.path", service: null };
const FEEDS: Part = { what: "the vulnerability data", listener: "aegis-feeds.timer", service: null };
const MONITOR: Part = { what: "the monitor", listener: "aegis-monitor.timer", service: null };

/**
 * Steps that reload systemd and bring each component up with the current units and program. `unitsWritten`: whether unit
 * files were written before this or, with `--dry-run`, would be. `feeds`: whether vulnerability data is downloaded; null for what was
 * chosen before.
 */
export function serviceSteps(unitsWritten: boolean, feeds: boolean | null): Step[] {
  return [
    {
      what: "systemd's view of the units",
      async needed() {
        // NeedDaemonReload can't tell: asking about a unit that systemd has not loaded yet loads it.
        if (unitsWritten) return "systemctl daemon-reload";
        const states = Object.values(await showUnits(UNIT_NAMES));
        const stale = states.some(
          ({ LoadState, NeedDaemonReload }) => LoadState === "not-found" || NeedDaemonReload === "yes",
        );
        return stale ? "systemctl daemon-reload" : null;
      },
      apply: () => systemd("systemctl", ["daemon-reload"]),
    },
    ...[RUNNER, FETCH, BUILD, UNPACK, RECOVERY, EXECUTOR, REVIEW, NOTIFIER, MONITOR].map(partStep),
    FIRST_LOOK,
    feedsStep(feeds),
  ];
}

/**
 * Off until it is chosen: it asks servers outside every day. The timer being enabled is the choice. Without it the data would grow old
 * and plans would go on to use it, so it is removed.
 */
function feedsStep(chosen: boolean | null): Step {
  const on = partStep(FEEDS);
  const isOn = async () => {
    const { "aegis-feeds.timer": timer } = await showUnits(["aegis-feeds.timer"]);
    return timer.UnitFileState === "enabled";
  };
  return {
    what: FEEDS.what,
    async needed() {
      if (chosen ?? (await isOn())) return on.needed();
      const left = namesIn(SYSTEM.feeds).length > 0 && chosen === false ? ["remove what was downloaded"] : [];
      const off = [...((await isOn()) ? ["disable aegis-feeds.timer"] : []), ...left];
      return off.length === 0 ? null : off.join(", ");
    },
    async apply() {
      if (chosen ?? (await isOn())) {
        await on.apply();
        // The first pass, for which the timer would wait for half a day. Nothing waits for it.
        await systemd("systemctl", ["start", "--no-block", "aegis-feeds.service"]);
        return;
      }
      await systemd("systemctl", ["disable", "--now", "aegis-feeds.timer"]);
      await systemd("systemctl", ["stop", "aegis-feeds.service"]);
      // By their names, which lead nowhere else: the directory belongs to an unprivileged account.
      for (const name of namesIn(SYSTEM.feeds)) rmSync(join(SYSTEM.feeds, name), { force: true });
    },
  };
}

/**
 * The monitor's first run sets the baseline, so it starts at once: later, it would include changes made until the timer
 * fires. Install neither waits for it nor fails with it, since the timer will run it too.
 */
const FIRST_LOOK: Step = {
  what: "the monitor's first look",
  async needed() {
    if (existsSync(MONITOR_STATE)) return null;
    const { "aegis-monitor.service": state } = await showUnits(["aegis-monitor.service"]);
    return ["active", "activating"].includes(state.ActiveState) ? null : "start aegis-monitor.service";
  },
  async apply() {
    try {
      await systemd("systemctl", ["start", "--no-block", "aegis-monitor.service"]);
    } catch (error) {
      if (!(error instanceof AegisError)) throw error;
    }
  },
};

function partStep(part: Part): Step {
  const units = [part.listener, part.service].filter((name) => name !== null);
  return {
    what: part.what,
    async needed() {
      if (part === EXECUTOR && !trustsExecutionKey()) return null;
      const states = await showUnits(units);
      const todo = units.flatMap((name) => {
        const problem = problemOf(name, states[name], part.later === true);
        return problem === null ? [] : [`${problem} ${name}`];
      });
      return todo.length === 0 ? null : todo.join(", ");
    },
    async apply() {
      await systemd("systemctl", ["enable", ...units]);
      if (part.later === true) return;
      // The service first: systemd does not recreate a socket while the service uses it.
      if (part.listener !== null && part.service !== null) await systemd("systemctl", ["stop", part.service]);
      // Stopping an older installation's unit removes ${SYSTEM.run}.
      await makeDirectories();
      for (const unit of units) await systemd("systemctl", ["restart", unit]);
      if (part === EXECUTOR) await answers();
    },
  };
}

/** The systemctl verb that a unit still needs, or null. */
function problemOf(name: UnitName, state: UnitState, later: boolean): string | null {
  if (state.UnitFileState !== "enabled") return "enable";
  if (later) return null;
  if (state.ActiveState !== "active") return "start";
  return isOutdated(name, state) ? "restart" : null;
}

/** Whether a unit started before its unit file or the program was replaced. */
export function isOutdated(name: UnitName, { ActiveEnterTimestamp, MainPID }: UnitState): boolean {
  const written = statSync(join(UNIT_DIRECTORY, name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  // An inactive unit has no timestamp: NaN, which makes this false.
  if (Math.floor(written / 1000) > secondsOf(ActiveEnterTimestamp)) return true;
  if (MainPID === "" || MainPID === "0") return false;
  const running = programOf(MainPID);
  const installed = statSync(SYSTEM.binary, { throwIfNoEntry: false });
  return (
    running !== undefined &&
    installed !== undefined &&
    (running.ino !== installed.ino || running.dev !== installed.dev)
  );
}

/** The executable of a process; undefined if there is none or only root may see it. */
function programOf(pid: string): Stats | undefined {
  try {
    return statSync(`/proc/${pid}/exe`, { throwIfNoEntry: false });
  } catch (error) {
    if (errnoOf(error) === "EACCES") return undefined;
    throw error;
  }
}

/** Checks that the front and, through it, the runner answer. */
async function answers(): Promise<void> {
  try {
    await callExecutor(SYSTEM.socket, "Status", {}, { silenceMs: 20_000 });
  } catch (error) {
    throw new AegisError(
      "unavailable",
      `the executor was started but does not answer: ${messageOf(error)}`,
      "Type: journalctl -b -u aegisd -u 'aegis-runner@*'",
    );
  }
}
