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
  return handoverOn(await startHost({ binary: BINARY, ...options }), policy);
}

/** The people on a host that has aegis, alice and bob; makes the others, and trusts all their keys. */
export async function handoverOn(host: ThrowawayHost, policy: string): Promise<Handover> {
  const must = async (argv: readonly string[]) => {
    const { status, stdout, stderr } = await host.exec(argv);
    if (status !== 0) throw new Error(`${argv.join(" ")}: ${status}\n${stdout}${stderr}`);
    return stdout;
  };
  await must([
    ...["sh", "-ec"],
    `sed -i -E 's/^(aegis-admin:[^:]*:[0-9]+):.*/\\1:alice,bob,agent,ops/; /^agent:/d; /^ops:/d' /etc/group
     sed -i '/^agent:/d; /^ops:/d' /etc/passwd
     for it in agent:61010 ops:61011; do user="\${it%:*}" id="\${it#*:}"
       echo "$user:x:$id:" >> /etc/group
       echo "$user:x:$id:$id::/home/$user:/bin/bash" >> /etc/passwd
       rm -rf "/home/$user"; install -d -m 0700 -o "$user" -g "$user" "/home/$user"
     done`,
  ]);
  const loginOf = (who: Person | "root") => {
    const home = who === "root" ? "/root" : `/home/${who}`;
    const become = who === "root" ? [] : ["setpriv", `--reuid=${who}`, `--regid=${who}`, "--init-groups"];
    return [...become, "env", `--chdir=${home}`, `HOME=${home}`, `USER=${who}`, `LOGNAME=${who}`];
  };
  const command = (who: Person | "root", args: readonly string[], env: Record<string, string> = {}) => [
    ...loginOf(who),
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
    AEGIS,
    ...args,
  ];
  const as: Handover["as"] = (who, args, { env, ...how } = {}) =>
    host.exec(command(who, args, env), { timeoutMs: 120_000, ...how });

  const entries = await Promise.all(
    (Object.keys(ROLES) as Person[]).map(async (who) => {
      const made = ["sign", "keygen", "--role", ROLES[who], "--name", `${who}@example`, "--json"];
      return JSON.parse(await must(command(who, made))).entry;
    }),
  );
  host.write("/etc/aegis/trusted-keys.toml", entries.join("\n"));
  host.write("/etc/aegis/policy.toml", policy);
  const inside = /^\/proc\/(\d+)\/root/.exec(host.path("/"))?.[1] ?? "";

  return {
    host,
    as,
    start: (who, args, env) => host.spawn(command(who, args, env)),
    approve(who, args, { columns = 100, type, env, pin } = {}) {
      const typed = command(who, ["sign", "approve", ...args], { TERM: "xterm", ...env });
      const enter = [
        "nsenter",
        "--target",
        inside,
        ...NAMESPACES,
        "--no-fork",
        "sh",
        "-c",
        '"$@"; exit $?',
        "sh",
      ];
      const line = [...enter, ...typed].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
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
