import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { AegisError, messageOf } from "../src/errors.ts";
import { callExecutor } from "../src/front-client.ts";
import { tryFlock } from "../src/sys-ffi.ts";
import { encodeMessage } from "../src/wire.ts";

/*
 * Replaces aegisd.service in a test: a compromised front, with the front's user, sandbox and socket. It tries what an attacker
 * would, prints the outcome of each attempt, and then lies to every client.
 */

export interface Task {
  /** Plans to hand to the runner, by name. */
  plans: Record<string, string>;
  /** Submitted first, in this order, without waiting for any to end. */
  ordered: string[];
  /** Pid of a live process of root's. */
  victim: number;
  /** An open TCP port of this machine. */
  port: number;
}

/** Outcome of one attempt: `did it`, or why not. */
export type Attempts = Record<string, string>;

const RUNNER = "/run/aegis/runner.sock";
const [, , path = ""] = process.argv;
const task: Task = JSON.parse(readFileSync(path, "utf8"));
const attempts: Attempts = {};

async function attempt(name: string, deed: () => unknown): Promise<void> {
  try {
    const said = await deed();
    attempts[name] = typeof said === "string" ? said : "did it";
  } catch (error) {
    const code = error instanceof AegisError ? error.code : (error as { code?: string }).code;
    attempts[name] = code ?? messageOf(error);
  }
}

/** The code that the runner refuses a plan with, or how it ended. */
async function submit(plan: string, parameters: object, onEvent = () => {}): Promise<string> {
  const { outcome } = await callExecutor(RUNNER, "Apply", { plan, ...parameters }, { onEvent });
  return `${outcome?.state} ${outcome?.code ?? ""}`.trim();
}

/** Sends bytes to the runner's socket and waits for its end of the connection. */
function raw(bytes: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(RUNNER, () => socket.end(bytes));
    socket.on("data", (chunk) => {
      answer += chunk.toString();
    });
    socket.on("error", reject).on("close", () => resolve(/"error":"([^"]*)"/.exec(answer)?.[1] ?? "closed"));
  });
}

/** Withdraws in somebody's name, and tries to answer the runner's question who that is. */
async function change(given: object, uid: number): Promise<string> {
  const parameters = { ...given, caller: { uid, gid: 0, pid: 1 } };
  const message = Buffer.from(
    encodeMessage({ method: "io.aegis.Executor.Withdraw", parameters, more: true }),
  );
  let answer = "";
  let written = "";
  await new Promise((resolve, reject) => {
    const socket = connect(RUNNER, () => socket.write(message));
    socket.on("data", (chunk) => {
      answer += chunk.toString();
      const [, proof] = /"proof":"([0-9a-f]{32})"/.exec(answer) ?? [];
      if (proof === undefined || written !== "") return;
      try {
        writeFileSync(`/run/aegis/proof/${proof}`, "x".repeat(64), { flag: "r+" });
        written = " wrote the proof";
      } catch (error) {
        written = ` ${(error as { code?: string }).code}`;
      }
    });
    socket.on("error", reject).on("close", resolve);
  });
  return `${/"code":"(\w+)"/.exec(answer)?.[1] ?? answer}${written}`;
}

function reach(where: string | number): Promise<void> {
  return new Promise((resolve, reject) => {
    const target = typeof where === "string" ? { path: where } : { port: where, host: "127.0.0.1" };
    const socket = connect(target, () => {
      socket.destroy();
      resolve();
    });
    socket.on("error", reject);
  });
}

const STATE = "/var/lib/aegis";
const LOG = "/var/log/aegis";
const ID = "11111111-1111-4111-8111-111111111111";
await attempt("read the log", () => readFileSync(`${LOG}/audit.ndjson`));
await attempt("add to the log", () => appendFileSync(`${LOG}/audit.ndjson`, "{}\n"));
await attempt("hold the log's lock", () => lock(`${LOG}/lock/append`));
await attempt("list the locks", () => void readdirSync(`${STATE}/lock`));
await attempt("hold the run lock", () => lock(`${STATE}/lock/run`));
await attempt("jump the queue", () => writeFileSync(`${STATE}/lock/q.0.1.1.${ID}.0`, ""));
await attempt("forget what was used", () => writeFileSync(`${STATE}/spent/spent.ndjson`, ""));
await attempt("write a result", () => writeFileSync(`${STATE}/results/${ID}.json`, "{}"));
await attempt("plant a package", () => writeFileSync("/var/cache/aegis/archives/x.deb", ""));
await attempt("trust its own key", () => appendFileSync("/etc/aegis/trusted-keys.toml", "[[key]]\n"));
await attempt("loosen the policy", () => writeFileSync("/etc/aegis/policy.toml", ""));
await attempt("replace the program", () => writeFileSync("/usr/local/bin/aegis", ""));
await attempt("remove the runner's socket", () => unlinkSync(RUNNER));
await attempt("make a socket of its own", () => mkdirSync("/run/aegis/more"));
await attempt("write a unit", () => writeFileSync("/run/systemd/system/x.service", ""));
await attempt("read root's home", () => void readdirSync("/root"));
await attempt("read the reviewer's key", () => readFileSync("/etc/aegis/review-key"));
await attempt("signal root's process", () => process.kill(task.victim, "SIGKILL"));
await attempt("see root's process", () => readFileSync(`/proc/${task.victim}/cmdline`));
await attempt("become root", () => process.setuid?.(0));
await attempt("start a program", () => {
  const { exitCode } = Bun.spawnSync(["/bin/sh", "-c", "exit 0"]);
  if (exitCode !== 0) throw new Error(`exit ${exitCode}`);
});
await attempt("ask systemd", () => reach("/run/systemd/private"));
await attempt("speak on D-Bus", () => reach("/run/dbus/system_bus_socket"));
await attempt("fill the disk", () => writeFileSync("/tmp/much", "x"));
await attempt("use the network", () => reach(task.port));

await attempt("send noise", () => raw(Buffer.from(Array.from({ length: 4096 }, (_, n) => n % 256))));
await attempt("call what is not there", () => {
  return raw(Buffer.from(encodeMessage({ method: "io.aegis.Executor.Run", parameters: { argv: ["id"] } })));
});
const inOrder: Promise<void>[] = [];
for (const name of task.ordered) {
  // The next one is sent as soon as the runner has this one.
  await new Promise<void>((next) => {
    inOrder.push(attempt(name, () => submit(task.plans[name] ?? "", {}, next)));
  });
}
await Promise.all(inOrder);
for (const [name, plan] of Object.entries(task.plans)) {
  if (task.ordered.includes(name)) continue;
  await attempt(name, () => submit(plan, { caller: { uid: 0, gid: 0, pid: 1 } }));
}
await attempt("withdraw in root's name", () => change({ number: 1 }, 0));
await attempt("withdraw in its own name", () => change({ number: 1 }, process.getuid?.() ?? 0));
await attempt("fill the disk with reports", async () => {
  const refusals = Array.from({ length: 256 }, () => ({ code: "x".repeat(64), count: 1, uid: 0 }));
  const message = Buffer.from(
    encodeMessage({ method: "io.aegis.Executor.Report", parameters: { refusals } }),
  );
  await Promise.all(Array.from({ length: 6 }, () => raw(message)));
});

process.stdout.write(`${JSON.stringify(attempts)}\n`);

// From here on it tells every client that all went well.
createServer((client) => {
  client.on("error", () => {});
  client.on("data", (chunk: Buffer) => {
    const id = /execution_plan_id\\?":\\?"([0-9a-f-]{36})/.exec(chunk.toString())?.[1] ?? ID;
    const at = new Date().toISOString();
    const outcome = { execution_id: id, state: "completed", exit_status: 0, started_at: at, ended_at: at };
    client.end(encodeMessage({ parameters: { event: { execution_id: id, kind: "finished", outcome } } }));
  });
}).listen({ fd: 3 });

function lock(file: string): string {
  const fd = openSync(file, "r");
  const got = tryFlock(fd);
  closeSync(fd);
  return got ? "did it" : "somebody holds it";
}
