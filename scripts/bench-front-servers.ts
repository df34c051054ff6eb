import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseCanonical } from "../src/canonical.ts";
import { checkSignature, readExecution } from "../src/exec-preflight.ts";
import { startFront } from "../src/front.ts";
import { keyId } from "../src/key-sign.ts";
import { loadTrust } from "../src/key-trust.ts";
import { openLog } from "../src/log.ts";
import { SYSTEM } from "../src/paths.ts";
import { startHost, throwawayUnavailable } from "../test/throwaway.ts";
import { startRunner } from "../test/varlink-kit.ts";
import { BINARY, build } from "./bench-measure.ts";

/*
 * The servers that scripts/bench-front.ts compares, and their memory use.
 */

/** A listening server and its processes. */
export interface Server {
  what: string;
  path: string;
  processes: { name: string; pid: number }[];
  stop(): Promise<unknown>;
}

/** The built daemon on a throw-away host. */
export async function startDaemon(trustedKey: string): Promise<Server> {
  const host = await startHost({ binary: BINARY });
  try {
    host.write(
      "/etc/aegis/trusted-keys.toml",
      `[[key]]\nid = "${keyId(trustedKey)}"\nname = "bench"\npublic_key_hex = "${trustedKey}"\nrole = "execution"\n`,
    );
    const daemon = await host.spawn(["/usr/local/bin/aegis", "daemon", "--executor"]);
    const ended = daemon.exited.then(() => {
      throw new Error(`the daemon ended: ${daemon.stderr()}`);
    });
    ended.catch(() => {}); // Once it is serving, its clients notice if it exits.
    const front = await Promise.race([ended, frontOf(daemon.pid)]);
    const path = host.path(SYSTEM.socket);
    if (!existsSync(path)) throw new Error("the daemon has no socket");
    return {
      what: "built aegis daemon --executor on a throw-away host",
      path,
      processes: [
        { name: "front", pid: front },
        { name: "supervisor", pid: daemon.pid },
      ],
      stop: () => host.stop(),
    };
  } catch (error) {
    await host.stop();
    throw error;
  }
}

/** Waits for the daemon's unprivileged child. */
async function frontOf(daemon: number): Promise<number> {
  for (;;) {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      const [parent, uid] = [status(pid, "PPid"), status(pid, "Uid")];
      if (parent === daemon && uid > 0) return Number(pid);
    }
    await Bun.sleep(50);
  }
}

/** The first number of a field in /proc/<pid>/status (proc_pid_status(5)); NaN where the process has ended. */
function status(pid: number | string, field: string): number {
  try {
    const text = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)?.[1]);
  } catch {
    return Number.NaN;
  }
}

/** A front run from the sources, with a fake runner. */
export async function startSources(dir: string, trustedKey: string): Promise<Server> {
  const path = join(dir, "front.sock");
  const runner = await startRunner(`${path}.runner`, () => {});
  const server = await startProgram("front", path, [process.execPath, import.meta.path, path, trustedKey]);
  return {
    ...server,
    what: `front from the sources (${throwawayUnavailable()})`,
    stop: async () => {
      await server.stop();
      runner.close();
    },
  };
}

export async function startBare(dir: string, answer: object): Promise<Server> {
  const program = join(dir, "bare");
  build(join(import.meta.dir, "bench-bare-server.ts"), program);
  const path = join(dir, "bare.sock");
  return startProgram("bare socket server", path, [program, path, JSON.stringify(answer)]);
}

async function startProgram(what: string, path: string, argv: string[]): Promise<Server> {
  const child = Bun.spawn(argv, { stdout: "pipe", stderr: "inherit" });
  await child.stdout.getReader().read();
  return {
    what,
    path,
    processes: [{ name: what, pid: child.pid }],
    stop: () => {
      child.kill();
      return child.exited;
    },
  };
}

/** The front's process, for {@link startSources}. */
async function serve(path: string, trustedKey: string): Promise<void> {
  await startFront({
    listen: { path },
    runner: { path: `${path}.runner` },
    states: "/nonexistent",
    verify(text) {
      const execution = readExecution(parseCanonical(text));
      const trust = loadTrust({ rootOnly: true, bare: { execution: [trustedKey], approval: [] } });
      checkSignature(execution, trust, new Date());
      return null;
    },
    log: openLog({ AEGIS_LOG: "error" }),
  });
  process.stdout.write("ready\n");
}

export interface Resident {
  mb: number;
  parts: string;
}

/** Sum over the server's processes; shared pages of the executable are counted once per process. */
export function resident({ processes }: Server, field: "VmRSS" | "VmHWM"): Resident {
  const each = processes.map(({ name, pid }) => ({ name, mb: (status(pid, field) * 1024) / 1e6 }));
  return {
    mb: each.reduce((sum, { mb }) => sum + mb, 0),
    parts: each.map(({ name, mb }) => `${name} ${mb.toFixed(0)}`).join(" + "),
  };
}

const [path, trustedKey] = process.argv.slice(2);
if (import.meta.main && path !== undefined && trustedKey !== undefined) await serve(path, trustedKey);
