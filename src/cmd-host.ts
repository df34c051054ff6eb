import type { Commands } from "./cmd-table.ts";
import { defineSubcommand } from "./command.ts";
import type { ServiceState } from "./doctor-status.ts";
import { AegisError, EXIT, messageOf } from "./errors.ts";
import { fail, findingLines } from "./finding.ts";
import type { StepReport } from "./host-install.ts";
import { type SharedTexts, SYSTEM } from "./paths.ts";
import { fit, plural, safe, type Terminal, table } from "./terminal.ts";
import type { Status } from "./wire-executor.ts";

/** The steps of install and uninstall as lines. */
function stepLines(steps: readonly StepReport[], dryRun: boolean, terminal: Terminal): string[] {
  const open = steps.filter(({ done }) => done !== null);
  const mark = dryRun ? "·" : "✓";
  return [
    ...steps.flatMap(({ what, done }) =>
      fit(terminal, done === null ? `= ${what}: nothing to do` : `${mark} ${what}: ${safe(done)}`, "    "),
    ),
    "",
    open.length === 0
      ? "Nothing to do: this host is up to date."
      : `${plural(open.length, "step")} ${dryRun ? "to do; nothing was changed" : "done"}.`,
  ];
}

const DRY_RUN = { type: "boolean", description: "print every step, do nothing" } as const;

/** `aegis daemon install`: sets this machine up as a production host, or upgrades it to this version. */
export const daemonInstall = (commands: Commands) =>
  defineSubcommand({
    name: "install",
    description:
      "Sets this host up from the binary itself: accounts, directories, units, manual page, completion. Repeatable; upgrades an older installation when no run is under way.",
    args: {
      "dry-run": DRY_RUN,
      downgrade: {
        type: "boolean",
        description:
          "also when a newer version is installed; what that one wrote may mean nothing to this one",
      },
      feeds: {
        type: "boolean",
        description:
          "download vulnerability data twice a day, for plans to tell (aegis help environment: AEGIS_FEEDS_…); stays on until --no-feeds",
      },
      "no-feeds": {
        type: "boolean",
        description: "download no vulnerability data, and remove what there is",
      },
      wrappers: {
        type: "boolean",
        description:
          "also stand in for apt, npm, pip, docker and others: calls that would change something become plans (a guard rail, not a boundary)",
      },
    },
    async run({ "dry-run": dryRun, feeds, "no-feeds": noFeeds, wrappers, downgrade }, io) {
      if (feeds && noFeeds)
        throw new AegisError("usage", "--feeds and --no-feeds contradict each other", "Give one of them.");
      const chosen = feeds ? true : noFeeds ? false : null;
      const { install } = await import("./host-install.ts");
      const report = await install(
        { dryRun, wrappers, downgrade, feeds: chosen, shared: await sharedTexts(commands) },
        io,
      );
      const key = report.review_public_key_hex;
      const about = key === null ? [] : [`Public key of this host's reviewer: ${key}`];
      const said = [...about, ...report.next].flatMap((text) => fit(io.terminal, safe(text), "  "));
      io.result(report, [...stepLines(report.steps, dryRun, io.terminal), ...said].join("\n"));
      return EXIT.ok;
    },
  });

async function sharedTexts({ load }: Commands): Promise<SharedTexts> {
  const [{ manualPage }, { completionScript }] = await Promise.all([
    import("./cmd-help-man.ts"),
    import("./cmd-completion.ts"),
  ]);
  const [manual, bash, zsh, fish] = await Promise.all([
    manualPage(load),
    completionScript("bash", load),
    completionScript("zsh", load),
    completionScript("fish", load),
  ]);
  return { manual, bash, zsh, fish };
}

/** `aegis daemon uninstall`: removes the services and the program; keeps logs, configuration and used plans. */
export const daemonUninstall = defineSubcommand({
  name: "uninstall",
  description: "Takes the services and the program off this host. Logs, configuration and used plans stay.",
  args: { "dry-run": DRY_RUN },
  async run({ "dry-run": dryRun }, io) {
    const { uninstall } = await import("./host-install.ts");
    const report = await uninstall(dryRun, io.env);
    const kept = ["", "Kept:", ...report.kept.flatMap((what) => fit(io.terminal, `- ${what}`, "  "))];
    io.result(report, [...stepLines(report.steps, dryRun, io.terminal), ...kept].join("\n"));
    return EXIT.ok;
  },
});

/** `aegis daemon status`: what the executor is doing, and the state of this host's services. */
export const daemonStatus = defineSubcommand({
  name: "status",
  description:
    "Shows what the executor is running, what waits, how the latest executions ended, and how the services are. Exits 8 when something is wrong.",
  args: {
    socket: {
      type: "string",
      valueHint: "path",
      description: `ask the executor at this socket, and only that (${SYSTEM.socket})`,
    },
  },
  async run({ socket }, io) {
    const { callExecutor } = await import("./front-client.ts");
    if (socket !== undefined) {
      const status = await callExecutor(socket, "Status", {});
      io.result(status, executorLines(status, io.terminal).join("\n"));
      return EXIT.ok;
    }
    const { hostStatus } = await import("./doctor-status.ts");
    const { services, findings } = await hostStatus();
    let status: Status | null = null;
    try {
      status = await callExecutor(SYSTEM.socket, "Status", {});
    } catch (error) {
      findings.unshift(fail("executor", messageOf(error), error instanceof AegisError ? error.hint : ""));
    }
    const healthy = findings.every(({ level }) => level !== "fail");
    const lines = [
      ...(status === null ? [] : [...executorLines(status, io.terminal), ""]),
      ...(services.length === 0 ? [] : [serviceTable(io.terminal, services), ""]),
      findingLines(findings, io.terminal),
    ];
    io.result({ ...status, healthy, services, findings }, lines.join("\n"));
    return healthy ? EXIT.ok : EXIT.unavailable;
  },
});

function serviceTable(terminal: Terminal, services: readonly ServiceState[]): string {
  const rows = services.map(({ unit, active, enabled }) => [unit, active, enabled]);
  return table(terminal, ["unit", "active", "enabled"], rows);
}

function executorLines(status: Status, terminal: Terminal): string[] {
  return [
    `running  ${status.running === null ? "nothing" : safe(status.running)}`,
    `waiting  ${status.queued.length === 0 ? "nothing" : status.queued.map(safe).join(", ")}`,
    "",
    // With the full id, which `apply --watch` takes; the line still fits 80 columns.
    ...status.recent.flatMap(({ started_at, execution_id, state, exit_status, command, actor, message }) => [
      `${safe(started_at.slice(0, 19))}  ${safe(execution_id)}  ${state} ${exit_status ?? ""}`.trimEnd(),
      ...(command === null ? [] : indented(`${command}${signedBy(actor)}`, terminal)),
      ...(message === null ? [] : indented(message, terminal)),
    ]),
  ];
}

function signedBy(actor: string | null): string {
  return actor === null ? "" : `  signed by ${actor}`;
}

function indented(text: string, terminal: Terminal): string[] {
  const narrower = { ...terminal, width: terminal.width - 2 };
  return fit(narrower, safe(text), "").map((line) => `  ${line}`);
}
