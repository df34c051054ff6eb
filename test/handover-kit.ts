import { spawn } from "node:child_process";
import { join } from "node:path";
import {
  type ExecResult,
  type HostOptions,
  type Running,
  startHost,
  type ThrowawayHost,
} from "./throwaway.ts";
import { NAMESPACES } from "./throwaway-inside.ts";

/*
 * A throw-away host with the people of a hand-over: agent asks and has an execution key, as has ops; alice and bob approve with keys
 * of their own. All are members of aegis-admin, and use the compiled binary with keys in their places.
 */

export const AEGIS = "/usr/local/bin/aegis";
const BINARY = join(import.meta.dir, "../dist/aegis");

export type Person = "agent" | "alice" | "bob" | "ops";
const ROLES: Readonly<Record<Person, "execution" | "approval">> = {
  agent: "execution",
  alice: "approval",
  bob: "approval",
  ops: "execution",
};

interface Typed {
  env?: Record<string, string>;
  stdin?: string;
  timeoutMs?: number;
}

export interface Handover {
  readonly host: ThrowawayHost;
  /** `aegis …` as somebody; never throws for a status. */
  as(who: Person | "root", args: readonly string[], how?: Typed): Promise<ExecResult>;
  /** The same in the background. */
  start(who: Person, args: readonly string[], env?: Record<string, string>): Promise<Running>;
  /** `aegis sign approve …` on a terminal: types the beginning of the hash that it shows last. */
  approve(who: Person, args: readonly string[], how?: OnTerminal): Promise<Approved>;
  /** A stored plan's id. */
  plan(...args: readonly string[]): Promise<string>;
  startDaemon(env?: Record<string, string>): Promise<Running>;
  /** Events of the production log, oldest first. */
  audit(): { kind: string; actor: string | null; details: Record<string, unknown> }[];
  installed(name: string): Promise<boolean>;
}

interface OnTerminal {
  columns?: number;
  type?: string;
  env?: Record<string, string>;
  /** Typed when a security key's PIN is asked for. */
  pin?: string;
}

export interface Approved {
  status: number;
  /** All that the terminal showed, with line feeds. */
  screen: string;
}

/** Starts the host with keys trusted, and policy as given. `stop()` of the host ends all of it. */
export async function startHandover(policy = "", options: HostOptions = {}): Promise<Handover> {
  const host = await startHost({ binary: BINARY, ...options });
  await mustRun(host, [
    ...["sh", "-ec"],
    `sed -i 's/^aegis-admin:.*/aegis-admin:x:61003:alice,bob,agent,ops/; /^agent:/d; /^ops:/d' /etc/group
     sed -i '/^agent:/d; /^ops:/d' /etc/passwd
     for it in agent:61010 ops:61011; do user="\${it%:*}" id="\${it#*:}"
       echo "$user:x:$id:" >> /etc/group
       echo "$user:x:$id:$id::/home/$user:/bin/bash" >> /etc/passwd
       rm -rf "/home/$user"; install -d -m 0700 -o "$user" -g "$user" "/home/$user"
     done`,
  ]);
  const entries = (await makeKeys(host)).map(({ entry }) => entry);
  host.write("/etc/aegis/trusted-keys.toml", entries.join("\n"));
  host.write("/etc/aegis/policy.toml", policy);
  return peopleOn(host);
}

/** Everybody's key in its place; what keygen printed of each. */
export function makeKeys(host: ThrowawayHost): Promise<{ entry: string; public_path: string }[]> {
  return Promise.all(
    (Object.keys(ROLES) as Person[]).map(async (who) => {
      const made = ["sign", "keygen", "--role", ROLES[who], "--name", `${who}@example`, "--json"];
      return JSON.parse(await mustRun(host, commandOf(who, made)));
    }),
  );
}

async function mustRun(host: ThrowawayHost, argv: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await host.exec(argv);
  if (status !== 0) throw new Error(`${argv.join(" ")}: ${status}\n${stdout}${stderr}`);
  return stdout;
}

/** The words that run the binary as somebody, as after a login. */
export function commandOf(
  who: Person | "root",
  args: readonly string[],
  env: Record<string, string> = {},
): string[] {
  const home = who === "root" ? "/root" : `/home/${who}`;
  const become = who === "root" ? [] : ["setpriv", `--reuid=${who}`, `--regid=${who}`, "--init-groups"];
  const set = { HOME: home, USER: who, LOGNAME: who, ...env };
  const pairs = Object.entries(set).map(([name, value]) => `${name}=${value}`);
  return [...become, "env", `--chdir=${home}`, ...pairs, AEGIS, ...args];
}

/** The words that run a command inside, from outside. */
export function enter(host: ThrowawayHost): string[] {
  const inside = /^\/proc\/(\d+)\/root/.exec(host.path("/"))?.[1] ?? "";
  return ["nsenter", "--target", inside, ...NAMESPACES, "--no-fork", "sh", "-c", '"$@"; exit $?', "sh"];
}

/** What the people do on a host where they have accounts and keys. */
export function peopleOn<Host extends ThrowawayHost>(host: Host): Handover & { readonly host: Host } {
  const as: Handover["as"] = (who, args, { env, ...how } = {}) =>
    host.exec(commandOf(who, args, env), { timeoutMs: 120_000, ...how });
  return {
    host,
    as,
    start: (who, args, env) => host.spawn(commandOf(who, args, env)),
    approve(who, args, { columns = 100, type, env, pin } = {}) {
      const typed = commandOf(who, ["sign", "approve", ...args], { TERM: "xterm", ...env });
      const line = [...enter(host), ...typed].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
      return onPseudoTerminal(`stty columns ${columns} rows 200; ${line}`, type, pin);
    },
    async plan(...args) {
      const { status, stdout, stderr } = await as("agent", ["plan", ...args, "--json"]);
      if (status !== 0) throw new Error(`plan ${args.join(" ")}: ${status}\n${stderr}${stdout}`);
      return JSON.parse(stdout).plan.plan_id;
    },
    async startDaemon(env = {}) {
      const daemon = await host.spawn([AEGIS, "daemon", "--executor"], { env });
      for (let n = 0; (await as("root", ["daemon", "status", "--json"])).status !== 0; n++) {
        if (n > 100) throw new Error(`the executor did not come up: ${daemon.stderr()}`);
        await Bun.sleep(50);
      }
      return daemon;
    },
    audit: () =>
      host
        .read("/var/log/aegis/audit.ndjson")
        .split("\n")
        .slice(0, -1)
        .map((text) => JSON.parse(text)),
    async installed(name) {
      const { stdout } = await host.exec(["dpkg-query", "-W", "-f", "${Status}", name]);
      return stdout === "install ok installed";
    },
  };
}

/** The number of the request, once the command that waits for it has said it. */
export async function submitted(waiting: Running): Promise<number> {
  for (let n = 0; n < 400; n++) {
    const number = /request (\d+) waits for/.exec(waiting.stderr())?.[1];
    if (number !== undefined) return Number(number);
    await Bun.sleep(25);
  }
  throw new Error(`no request: ${waiting.stderr()}${waiting.stdout()}`);
}

/** A plan of the agent's, and its one command: asks, and waits for the decision. */
export async function ask(people: Handover, plan: readonly string[]) {
  const id = await people.plan(...plan);
  const words = ["apply", "--request", id, "--reason", "web server", "--wait"];
  const waiting = await people.start("agent", words);
  return { id, waiting, number: await submitted(waiting) };
}

const QUESTION = "characters of the plan's hash to approve it: ";

/** Runs a shell command on a terminal of its own, and answers its question once that is shown. */
function onPseudoTerminal(command: string, type?: string, pin?: string): Promise<Approved> {
  const child = spawn("/usr/bin/script", ["-qec", `${command}; echo "@status $?"`, "/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let text = "";
  let answered = false;
  let unlocked = pin === undefined;
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    if (!unlocked && text.includes("Enter PIN")) {
      unlocked = true;
      child.stdin.write(`${pin}\n`);
    }
    if (answered || !text.includes(QUESTION)) return;
    answered = true;
    const hash = [...text.matchAll(/Hash ([0-9a-f]{64})/g)].at(-1)?.[1] ?? "";
    child.stdin.write(`${type ?? hash.slice(0, 8)}\n`);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => {
      const status = Number(/@status (\d+)/.exec(text)?.[1] ?? Number.NaN);
      resolve({ status, screen: text.replaceAll("\r\n", "\n") });
    });
  });
}
