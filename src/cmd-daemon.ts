import { defineSubcommand } from "./command.ts";
import { AegisError, EXIT } from "./errors.ts";
import { type Env, SYSTEM } from "./paths.ts";
import {
  DAEMON_VARIABLES,
  FEEDS_VARIABLES,
  REVIEWER_VARIABLES,
  withEnvironmentFile,
} from "./sys-environment-file.ts";

const MODES = [
  "executor",
  "reviewer",
  "runner",
  "recover",
  "monitor",
  "processes",
  "notify",
  "feeds",
  "mcp",
  "hook",
  "build",
  "repository",
  "confined",
] as const;

/** `aegis daemon --executor`, `--reviewer` and the processes that the executor starts. */
export const daemon = defineSubcommand({
  name: "daemon",
  description:
    "Runs a service; to set a host up: aegis daemon install, uninstall, status. --runner, --recover, --hook, --build, --repository and --confined are started by the executor itself.",
  args: {
    executor: {
      type: "boolean",
      description: "the executor: as root with its front as a child, else the front alone",
    },
    reviewer: { type: "boolean", description: "the reviewer: as any user but root" },
    runner: { type: "boolean", description: "one request of the executor, on standard input, as root" },
    recover: { type: "boolean", description: "close a run that was interrupted, as root" },
    monitor: { type: "boolean", description: "one look at what changed besides aegis, as root" },
    processes: { type: "boolean", description: "one look at which processes run old code, as root" },
    notify: { type: "boolean", description: "post and mail what has changed of requests, then end" },
    feeds: { type: "boolean", description: "download what is new of vulnerability data, then end" },
    mcp: {
      type: "boolean",
      description: "the tools of an AI agent, by the Model Context Protocol on standard input and output",
    },
    hook: { type: "string", valueHint: "tool", description: "what a tool calls back during a run, as root" },
    build: { type: "string", valueHint: "directory", description: "the build of a run, as root" },
    repository: {
      type: "string",
      valueHint: "directory",
      description: "the change of a repository's file of a run, as root",
    },
    confined: { type: "string", valueHint: "role", description: "a process inside a sandbox" },
    run: { type: "string", valueHint: "directory", description: "the run that --hook is called for" },
    socket: {
      type: "string",
      valueHint: "path",
      description: `where clients connect (${SYSTEM.socket}; of the reviewer ${SYSTEM.reviewerSocket})`,
    },
    key: {
      type: "string",
      valueHint: "file",
      description: "the key that signs reviews; without it, one is made on first use",
    },
    "public-key-hex": {
      type: "string",
      multiple: true,
      valueHint: "hex",
      description: "also trust this execution key",
    },
    "approval-public-key-hex": {
      type: "string",
      multiple: true,
      valueHint: "hex",
      description: "also trust this approval key",
    },
  },
  async run(values, io) {
    const chosen = MODES.filter((mode) => values[mode] !== false && values[mode] !== undefined);
    const [mode] = chosen;
    if (mode === undefined || chosen.length > 1) {
      throw new AegisError(
        "usage",
        "name one service",
        "Type: aegis daemon --executor, --reviewer or --mcp; or: aegis daemon status",
      );
    }
    const bare = { execution: values["public-key-hex"], approval: values["approval-public-key-hex"] };
    if (mode === "reviewer" ? bare.execution.length + bare.approval.length > 0 : values.key !== undefined) {
      const why =
        "--key belongs to --reviewer, and --public-key-hex and --approval-public-key-hex to the executor";
      throw new AegisError("usage", why, "Type: aegis daemon --help");
    }
    if ((mode === "hook") !== (values.run !== undefined)) {
      throw new AegisError("usage", "--hook and --run go together", "Type: aegis daemon --help");
    }
    switch (mode) {
      case "hook": {
        const { loadHook } = await import("./eco-load.ts");
        const hook = await loadHook(values.hook ?? "");
        return hook(values.run ?? "", await io.readStdin(), io.note) === 0 ? EXIT.ok : EXIT.internal;
      }
      case "build": {
        const [{ superviseBuild }, { loadManaged }] = await Promise.all([
          import("./eco-build.ts"),
          import("./eco-load.ts"),
        ]);
        return (await superviseBuild(values.build ?? "", loadManaged)) === 0 ? EXIT.ok : EXIT.internal;
      }
      case "repository": {
        const { writeRepository } = await import("./apt-repository-write.ts");
        return writeRepository(values.repository ?? "", io.note) === 0 ? EXIT.ok : EXIT.internal;
      }
      case "confined": {
        const { runConfined } = await import("./eco-confined.ts");
        return await runConfined(values.confined ?? "", () => io.readStdin());
      }
      case "executor": {
        const { openLog } = await import("./log.ts");
        const log = openLog(executorEnv(io.env));
        if (process.getuid?.() !== 0 && io.env.LISTEN_FDS === "1") {
          const { runFront } = await import("./front.ts");
          await runFront({ fd: 3 }, bare, log);
        } else {
          const { supervise } = await import("./front-supervisor.ts");
          await supervise({ socket: values.socket ?? SYSTEM.socket, bare, log });
        }
        return EXIT.ok;
      }
      case "runner": {
        const [{ serveRunner }, { openLog }] = await Promise.all([
          import("./exec-runner.ts"),
          import("./log.ts"),
        ]);
        await serveRunner({ bare, log: openLog(executorEnv(io.env)) });
        return EXIT.ok;
      }
      case "recover": {
        const [{ recoverRuns }, { openLog }] = await Promise.all([
          import("./exec-runner.ts"),
          import("./log.ts"),
        ]);
        await recoverRuns(openLog(executorEnv(io.env)));
        return EXIT.ok;
      }
      case "monitor": {
        const [{ runMonitor }, { runChecks }, { openLog }] = await Promise.all([
          import("./monitor.ts"),
          import("./doctor.ts"),
          import("./log.ts"),
        ]);
        await runMonitor(io.env, openLog(executorEnv(io.env)), runChecks);
        return EXIT.ok;
      }
      case "processes": {
        const { recordProcesses } = await import("./apt-processes.ts");
        recordProcesses();
        return EXIT.ok;
      }
      case "notify": {
        const [{ runNotifier }, { openLog }] = await Promise.all([import("./notify.ts"), import("./log.ts")]);
        await runNotifier(openLog(executorEnv(io.env)));
        return EXIT.ok;
      }
      case "feeds": {
        const [{ runFeeds }, { openLog }] = await Promise.all([import("./feeds.ts"), import("./log.ts")]);
        const env = withEnvironmentFile(io.env, SYSTEM.feedsEnv, FEEDS_VARIABLES);
        await runFeeds(env, openLog(env));
        return EXIT.ok;
      }
      case "mcp": {
        const { serveMcp } = await import("./mcp.ts");
        await serveMcp(io.env);
        return EXIT.ok;
      }
      case "reviewer": {
        const [{ runReviewer }, { openLog }] = await Promise.all([
          import("./review-daemon.ts"),
          import("./log.ts"),
        ]);
        const path = values.socket ?? SYSTEM.reviewerSocket;
        const service = io.env.LISTEN_FDS === "1";
        const env = service ? withEnvironmentFile(io.env, SYSTEM.reviewerEnv, REVIEWER_VARIABLES) : io.env;
        await runReviewer(service ? { fd: 3 } : { path }, values.key, env, openLog(env));
        return EXIT.ok;
      }
    }
  },
});

/** The executor's file may also set how it logs. A faulty file is reported to clients that submit a plan. */
function executorEnv(env: Env): Env {
  try {
    return withEnvironmentFile(env, SYSTEM.daemonEnv, DAEMON_VARIABLES);
  } catch {
    return env;
  }
}
