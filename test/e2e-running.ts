import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import * as v from "valibot";
import type { AuditEvent } from "../src/audit-event.ts";
import { type Result, ResultSchema } from "../src/doc-result.ts";
import type { Chain } from "./e2e-kit.ts";
import type { Running } from "./throwaway.ts";
import type { PackageDefinition } from "./throwaway-packages.ts";

/*
 * Shared by tests of a running executor: its processes, packages that wait for a signal to go on, and the invariants that
 * hold whatever happened before.
 */

export const AEGIS = "/usr/local/bin/aegis";

/** A process of a throw-away host, as this machine sees it. */
export interface Process {
  pid: number;
  uid: number;
  /** Z for a zombie. */
  state: string;
  name: string;
  argv: string[];
}

/** All processes of the host. */
export function processes({ host }: Pick<Chain, "host">): Process[] {
  const namespace = readlinkSync(`${host.path("/").replace(/\/root.*$/, "")}/ns/pid`);
  return readdirSync("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      if (readlinkSync(`/proc/${pid}/ns/pid`) !== namespace) return [];
      const field = (name: string) =>
        new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
      return [
        { pid: Number(pid), uid: Number(field("Uid")), state: field("State"), name: field("Name"), argv },
      ];
    } catch {
      return []; // It has ended meanwhile.
    }
  });
}

/** Processes of aegis in one of the executor's roles. The front is the one that is not root. */
export function executorProcesses(
  chain: Pick<Chain, "host">,
  role: "front" | "runner" | "supervisor",
): Process[] {
  return processes(chain).filter(({ argv, uid, state }) => {
    if (state === "Z" || argv[0] !== AEGIS) return false;
    if (role === "runner") return argv.includes("--runner");
    return argv.includes("--executor") && (uid !== 0) === (role === "front");
  });
}

/** Kills the processes in order. One that has ended already is not an error. */
export function kill(victims: readonly Process[]): void {
  for (const { pid } of victims) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }
}

/** Polls until there is a result; the test's time limit ends the wait otherwise. */
export async function eventually<T>(look: () => T | false | null | undefined, pauseMs = 20): Promise<T> {
  for (;;) {
    const found = look();
    if (found !== false && found !== null && found !== undefined) return found;
    await Bun.sleep(pauseMs);
  }
}

/**
 * The same as a busy loop, to react at once; for ten seconds at most. Nothing can be downloaded meanwhile, since this
 * process serves the repository.
 */
export function spinUntil(look: () => boolean): void {
  const end = Date.now() + 10_000;
  while (!look()) if (Date.now() > end) throw new Error("it did not come");
}

/** A package whose installation reports that it runs, then waits for `openGate`, for a minute at most. */
export function gated(name: string): PackageDefinition {
  const wait = `for n in $(seq 600); do [ -e /run/${name}.go ] && break; sleep 0.1; done`;
  const postinst = `#!/bin/sh\necho "said by ${name}"\ntouch /run/${name}.here\n${wait}\n`;
  return { name, version: "1.0", control: { postinst } };
}

/** Waits until a gated package is being configured. */
export async function atGate({ host }: Chain, name: string): Promise<void> {
  await eventually(() => existsSync(host.path(`/run/${name}.here`)));
}

export function openGate({ host }: Chain, name: string): void {
  host.write(`/run/${name}.go`, "");
}

/** Plain packages, for plans that have to differ. */
export function plain(prefix: string, count: number): PackageDefinition[] {
  return Array.from({ length: count }, (_, n) => ({ name: `${prefix}${n}`, version: "1.0" }));
}

/** `aegis apply` (or another command line) in the background. */
export function submit(chain: Chain, path: string, user: "root" | "alice" = "alice"): Promise<Running> {
  return chain.host.spawn([AEGIS, "apply", path], { user });
}

/** The result file of an execution as it is on disk, or null. */
export function resultOf({ host }: Pick<Chain, "host">, id: string): Result | null {
  const path = host.path(`/var/lib/aegis/results/${id}.json`);
  return existsSync(path) ? v.parse(ResultSchema, JSON.parse(readFileSync(path, "utf8"))) : null;
}

/** Kinds of the audited events of one execution, oldest first. */
export function kindsOf(chain: Chain, id: string): unknown[] {
  return chain
    .audit()
    .filter((event) => event["execution_id"] === id)
    .map((event) => event["kind"]);
}

/** Newest audited event of a kind. */
export function lastEvent(chain: Chain, kind: AuditEvent["kind"]): Record<string, unknown> | undefined {
  return chain
    .audit()
    .filter((event) => event["kind"] === kind)
    .at(-1);
}

/** Waits until nothing runs any more and returns the broken invariants; they hold whatever was killed before. */
export async function brokenInvariants(chain: Pick<Chain, "host" | "audit" | "aegis">): Promise<string[]> {
  const busy = ({ argv }: Process) => argv.includes("--runner") || argv.includes("--recover");
  await eventually(() => !processes(chain).some(busy));
  const { host } = chain;
  const problems: string[] = [];
  const verified = await chain.aegis(["audit", "verify", "--path", "/var/log/aegis"]);
  if (verified.status !== 0) problems.push(`audit verify: ${verified.stdout}${verified.stderr}`);
  const events = chain.audit();
  const count = (kinds: readonly string[]) => {
    const counts = new Map<unknown, number>();
    for (const { kind, execution_id } of events) {
      if (kinds.includes(String(kind))) counts.set(execution_id, (counts.get(execution_id) ?? 0) + 1);
    }
    return counts;
  };
  const started = count(["execution_started"]);
  const ended = count(["execution_completed", "execution_interrupted"]);
  for (const [id, times] of started) {
    if (times !== 1) problems.push(`${id} was started ${times} times`);
    if (ended.get(id) !== 1) problems.push(`${id} has ${ended.get(id) ?? 0} end events`);
    const state = resultOf(chain, String(id))?.state;
    if (state === undefined || state === "running") problems.push(`${id} has the result ${state}`);
  }
  for (const [id, times] of ended) if (times !== 1) problems.push(`${id} ended ${times} times`);
  const { stdout } = await host.exec(["dpkg", "--audit"]);
  if (stdout !== "") problems.push(`dpkg --audit: ${stdout}`);
  const left = (directory: string, allowed: RegExp) =>
    readdirSync(host.path(directory))
      .filter((name) => !allowed.test(name))
      .map((name) => `${directory}/${name} is left over`);
  problems.push(
    ...left("/var/cache/aegis/archives", /^$/),
    ...left("/var/lib/aegis/lock", /^(?:run|parse|report|refused|trusted-keys|requests?|request\.\d+)$/),
  );
  problems.push(...left("/var/lib/aegis/results", /^[0-9a-f-]{36}\.json$/));
  problems.push(...left("/var/log/aegis", /^(?:audit\.ndjson|lock|audit\.reserve|reviewd)$/));
  const zombies = () =>
    processes(chain).flatMap(({ state, name, pid }) => (state === "Z" ? [`zombie ${name} ${pid}`] : []));
  const dead = zombies();
  // A process that has just ended is about to be reaped.
  if (dead.length > 0) await Bun.sleep(1000);
  const still = zombies();
  problems.push(...dead.filter((zombie) => still.includes(zombie)));
  return problems;
}
