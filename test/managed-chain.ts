import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { readTree, treeDigest } from "../src/eco-stage.ts";
import { namesIn } from "../src/sys-files.ts";
import { resolveProgram } from "../src/sys-spawn.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { processes } from "./e2e-running.ts";
import type { Registries } from "./managed-registries.ts";

/*
 * A throw-away host with npm, pip, Go and cargo, whose executor takes everything from the test's registries.
 */

export const TOOLS = ["npm", "pip", "go", "cargo"] as const;
export type ManagedToolName = (typeof TOOLS)[number];

const ROOTS = ["npm-global", "pip-packages", "go", "cargo", "bin"];
const GO = "/usr/local/go/bin/go";
/** What the tools' wrappers look for: text that runs in the sandbox, before and after the tool. */
const HOOKS = "/usr/share/aegis-test";

/** Debian's packages of cargo with what they need here, by its mirror; null where they can't be had. */
function cargoPackages(): string | null {
  const directory = mkdtempSync(join(tmpdir(), "aegis-cargo-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, "partial"));
  const options = ["-y", "--no-install-recommends", "--download-only", "-o", "Debug::NoLocking=1"];
  const archives = ["-o", `Dir::Cache::archives=${directory}`];
  const { status } = spawnSync("/usr/bin/apt-get", [...options, ...archives, "install", "cargo-web"], {
    cwd: directory,
  });
  const names = readdirSync(directory);
  return status === 0 && names.some((name) => name.startsWith("cargo-web_")) ? directory : null;
}

const cargo = cargoPackages();

/** Unpacks Debian's cargo into a throw-away host, where this machine can get it. */
export async function installCargo({ host }: Chain): Promise<void> {
  if (cargo === null) return;
  for (const deb of readdirSync(cargo).filter((name) => name.endsWith(".deb"))) {
    host.write(`/var/tmp/${deb}`, readFileSync(join(cargo, deb)));
    const unpack = ["dpkg-deb", "-x", `/var/tmp/${deb}`, "/"];
    const { status, stderr } = await host.exec(unpack, { timeoutMs: 120_000 });
    if (status !== 0) throw new Error(stderr);
  }
}

/** Which of the tools this machine has, or can get. */
export const AVAILABLE: Readonly<Record<ManagedToolName, boolean>> = {
  npm: resolveProgram("npm") !== null && resolveProgram("node") !== null,
  pip: spawnSync("/usr/bin/python3", ["-m", "pip", "--version"]).status === 0,
  go: existsSync(GO),
  cargo: cargo !== null,
};

/** The last event about an execution, with what it says. */
const Ended = v.pipe(
  v.looseObject({
    kind: v.string(),
    details: v.looseObject({ code: v.optional(v.nullable(v.string())), message: v.fallback(v.string(), "") }),
  }),
  v.transform(({ kind, details }) => ({ kind, ...details })),
);

/** A living process of this machine, with its id. */
function processOf(pid: number): [number, { uid: number; parent: number; command: string }][] {
  if (!Number.isInteger(pid)) return [];
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]);
    if (/^State:\s+[ZX]/m.test(status)) return [];
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
    return [[pid, { uid: field("Uid"), parent: field("PPid"), command }]];
  } catch {
    return []; // It has ended meanwhile.
  }
}

export class ManagedChain {
  private constructor(
    readonly chain: Chain,
    readonly registries: Registries,
  ) {}

  /** A host with the tools, wrapped, and without an executor yet. */
  static async start(registries: Registries): Promise<ManagedChain> {
    const chain = await startChain();
    const { host } = chain;
    for (const user of ["aegis-build", "aegis-fetch"])
      await host.exec(["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", user]);
    await installCargo(chain);
    const programs = { npm: "/usr/bin/npm", python3: "/usr/bin/python3", go: GO, cargo: "/usr/bin/cargo" };
    for (const [name, program] of Object.entries(programs)) {
      const run = (when: string) => `[ -r ${HOOKS}/${when} ] && . ${HOOKS}/${when}`;
      const lines = [
        "#!/bin/bash",
        `case " $* " in *" install "*) ;; *) exec ${program} "$@" ;; esac`,
        run("before"),
        `${program} "$@"; status=$?`,
        run("after"),
        "exit $status",
      ];
      if (existsSync(host.path(program)))
        host.write(`/usr/local/bin/${name}`, `${lines.join("\n")}\n`, 0o755);
    }
    host.write("/etc/aegis/aegisd.env", registries.settings);
    const made = new ManagedChain(chain, registries);
    made.allowRegistries([registries.host]);
    return made;
  }

  allowRegistries(hosts: readonly string[]): void {
    const settings = `apply = "require_human"\nallowed_registries = ${JSON.stringify(hosts)}\n`;
    const policy = TOOLS.map((tool) => `[${tool}]\n${settings}`).join("\n");
    this.chain.host.write("/etc/aegis/policy.toml", `${policy}allow_build_scripts = true\n`);
  }

  /** Lets the next installations run this in their sandbox, as the user of the tool, before or after the tool itself; `go` is theirs. */
  hook(when: "before" | "after" | "go", text: string): void {
    this.chain.host.write(`${HOOKS}/${when}`, text);
  }

  calm(): void {
    this.registries.calm();
    // The executor's cache of what it planned from, too.
    for (const path of [HOOKS, "/var/cache/aegis/packages"])
      rmSync(this.chain.host.path(path), { recursive: true, force: true });
  }

  /** The last event about an execution. */
  ended(id: string): v.InferOutput<typeof Ended> {
    const events = this.chain.audit().filter((event) => event["execution_id"] === id);
    return v.parse(Ended, events.at(-1));
  }

  /** Whether a tool is at work in its sandbox. */
  isBuilding(): boolean {
    return this.#processesOf("aegis-build").length > 0;
  }

  /** Processes of a user in the host, also those in namespaces of their own. */
  #processesOf(user: string): string[] {
    const { host } = this.chain;
    const uid = Number(new RegExp(`^${user}:x:(\\d+):`, "m").exec(host.read("/etc/passwd"))?.[1]);
    const init = Number(/^\/proc\/(\d+)\//.exec(host.path("/"))?.[1]);
    const all = new Map(readdirSync("/proc").flatMap((pid) => processOf(Number(pid))));
    const isInside = (pid: number): boolean => {
      const parent = all.get(pid)?.parent ?? 0;
      // What a test starts inside is its own child; orphans become children of the host's first process.
      return [init, process.pid].includes(parent) || (parent > 1 && isInside(parent));
    };
    return [...all].flatMap(([pid, one]) => (one.uid === uid && isInside(pid) ? [one.command] : []));
  }

  /** What is in the managed roots that aren't empty, by their names. */
  installed(): Record<string, string> {
    const { host } = this.chain;
    return Object.fromEntries(
      ROOTS.filter((root) => namesIn(host.path(`/var/lib/aegis/${root}`)).length > 0).map((root) => {
        const path = host.path(`/var/lib/aegis/${root}`);
        // Its links are absolute, which no tree of a managed root may have.
        if (root === "bin") return [root, readdirSync(path).sort().join(" ")];
        return [root, treeDigest(readTree(path, 0))];
      }),
    );
  }

  /** What runs left that they should not: stages, fetched files, processes of their users. */
  leftOver(): string[] {
    const { host } = this.chain;
    const within = (directory: string) => namesIn(host.path(directory)).map((one) => `${directory}/${one}`);
    const supervisors = processes(this.chain).filter(
      ({ argv, state }) => argv.includes("--build") && state !== "Z",
    );
    return [
      ...within("/var/lib/aegis/stage"),
      ...within("/var/cache/aegis/archives"),
      ...supervisors.map(({ argv }) => argv.join(" ")),
      ...this.#processesOf("aegis-build"),
      ...this.#processesOf("aegis-fetch"),
    ];
  }
}
