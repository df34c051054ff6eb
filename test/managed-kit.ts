import { afterAll, beforeAll } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import type { OperationPlan, TransactionEntry } from "../src/doc-plan.ts";
import type { HostState, PreparedRun, RunDriver } from "../src/eco-driver.ts";
import type { ManagedTool } from "../src/eco-managed.ts";
import { type ManagedHost, managedDriver } from "../src/eco-managed-driver.ts";
import { startRun } from "../src/eco-run.ts";
import { judgeRun } from "../src/exec-outcome.ts";
import { unitText } from "../src/host-units.ts";
import { SYSTEM } from "../src/paths.ts";
import { type Account, commandAs } from "../src/sys-account.ts";
import { resolveProgram } from "../src/sys-spawn.ts";
import { userIds } from "../src/sys-state.ts";
import { tar, tarEntry } from "./archive-kit.ts";
import { needs } from "./needs.ts";
import { install } from "./policy-plans.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

/*
 * Managed runs with real processes, real namespaces and a registry of the test's own, in a temporary directory. Needs root.
 */

/** Some user of the system that nothing runs as. */
const USER = "games";
const missing = ["unshare", "setpriv", "prlimit", "bash"].filter((name) => resolveProgram(name) === null);

export const managed = needs(
  process.getuid?.() === 0 && missing.length === 0 && userIds(USER) !== null,
  `root, util-linux and a user ${USER}: managed runs make namespaces`,
);

export function buildUser(): Account {
  const ids = userIds(USER);
  if (ids === null) throw new Error(`there is no user ${USER}`);
  return { name: USER, ...ids };
}

/** Compiles the doors of Aegis with the fake tool; the path of the executable. */
export function compileAegis(directory: string): string {
  const path = join(directory, "aegis");
  const args = ["build", "--compile", "--minify", "--splitting", "--format=esm"];
  const entry = join(import.meta.dir, "managed-entry.ts");
  const { status, stderr } = spawnSync(process.execPath, [...args, entry, "--outfile", path], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`can't compile: ${stderr}`);
  return path;
}

/** Compiles it once for the tests of a group; call what this returns in them. */
export function compiledAegis(): () => string {
  let place: { path: string; remove(): void };
  let aegis = "";
  beforeAll(() => {
    place = temporaryDirectory();
    aegis = compileAegis(place.path);
  });
  afterAll(() => place.remove());
  return () => aegis;
}

export type RegistryTrick = (bytes: Uint8Array, request: Request) => Response | Promise<Response>;

/** A package of a test. */
export interface TestPackage {
  name: string;
  version?: string;
  bytes: string | Uint8Array;
}

export interface RunOutcome {
  status: number | null;
  stdout: string;
  stderr: string;
  result: Awaited<ReturnType<typeof judgeRun>>;
}

/** A directory with managed roots, and a registry. */
export class ManagedTest {
  readonly directory: string;
  readonly aegis: string;
  readonly driver: RunDriver;
  readonly account = buildUser();
  readonly state: string;
  readonly root: string;
  /** What the registry answers for a package; by default its bytes. */
  trick: RegistryTrick | null = null;
  /** Paths that the registry was asked for. */
  readonly asked: string[] = [];
  readonly progress: [number, string][] = [];
  readonly #remove: () => void;
  readonly #server: ReturnType<typeof Bun.serve>;
  readonly #tool: ManagedTool;
  #packages: readonly TestPackage[] = [];
  #runs = 0;

  constructor(aegis: string, tool: ManagedTool, host: Partial<ManagedHost> = {}) {
    const { path, remove } = temporaryDirectory();
    chmodSync(path, 0o755);
    this.directory = path;
    this.#remove = remove;
    this.aegis = aegis;
    this.#tool = tool;
    this.state = join(path, "state");
    this.root = join(this.state, tool.root);
    for (const name of ["state", "runs", "archives"]) mkdirSync(join(path, name), { mode: 0o755 });
    this.driver = managedDriver(tool, { state: this.state, user: USER, ...host });
    this.#server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      idleTimeout: 30,
      fetch: (request) => {
        const { pathname } = new URL(request.url);
        this.asked.push(pathname);
        const found = this.#packages.find((_, i) => pathname === `/file/${i}`);
        if (found === undefined) return new Response("", { status: 404 });
        const bytes = Buffer.from(found.bytes);
        return this.trick?.(bytes, request) ?? new Response(bytes);
      },
    });
  }

  get port(): number {
    return this.#server.port ?? 0;
  }

  plan(packages: readonly TestPackage[], change: Partial<OperationPlan> = {}): OperationPlan {
    this.#packages = packages;
    const transaction = packages.map(({ name, version = "1.0.0", bytes }, i): TransactionEntry => {
      const data = Buffer.from(bytes);
      const digest = (algorithm: string, encoding: "hex" | "base64") =>
        createHash(algorithm).update(data).digest(encoding);
      return {
        ...{ name, architecture: "all", action: "install", from_version: null, to_version: version },
        ...{ origin: null, archive: null, sha256: digest("sha256", "hex"), size: data.length },
        ...{ essential: false, source: null, from_source: null, to_source: null, sources: [] },
        ...{
          url: `http://127.0.0.1:${this.port}/file/${i}`,
          integrity: `sha512-${digest("sha512", "base64")}`,
        },
      };
    });
    return { ...install(), tool: this.#tool.tool, transaction, ...change };
  }

  /** The id of the next execution. */
  get execution(): string {
    return `0b7b4a3e-7c9e-4f6a-9a44-${String(this.#runs).padStart(12, "0")}`;
  }

  runDirectory(execution = this.execution): string {
    return join(this.directory, "runs", execution);
  }

  prepare(
    plan: OperationPlan,
    argv: readonly string[],
    stop = new AbortController().signal,
  ): Promise<PreparedRun> {
    this.#runs++;
    const place = {
      ...{ directory: this.runDirectory(), archives: join(this.directory, "archives", this.execution) },
      ...{ aegis: this.aegis, account: this.account },
    };
    const progress = (percent: number, message: string) => void this.progress.push([percent, message]);
    return this.driver.prepare(plan, argv, place, { stop, alive() {}, progress });
  }

  /** Prepares, runs and judges. `tick` is called five times a second. */
  async run(
    packages: readonly TestPackage[],
    argv: readonly string[],
    change: Partial<OperationPlan> = {},
    tick: () => void = () => {},
    stop = new AbortController().signal,
  ): Promise<RunOutcome> {
    const plan = this.plan(packages, change);
    const before: HostState = this.driver.observe();
    const prepared = await this.prepare(plan, argv);
    const text = { stdout: "", stderr: "" };
    const status = await startRun(prepared, argv, this.driver, this.account, stop, {
      progress: (percent, message) => void this.progress.push([percent, message]),
      output: (stream, data) => {
        text[stream] += data;
      },
      overdue() {},
      tick,
    });
    const subject = { argv, transaction: plan.transaction };
    const result = await judgeRun(this.driver, prepared.directory, subject, status, before);
    return { status, ...text, result };
  }

  /** Files of the root, with their text. */
  installed(): Record<string, string> {
    if (!existsSync(this.root)) return {};
    const names = readdirSync(this.root, { recursive: true, withFileTypes: true });
    return Object.fromEntries(
      names
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
        .map((path) => [path.slice(this.root.length + 1), readFileSync(path, "utf8")]),
    );
  }

  /** What runs have left: stages, and processes that belong to them. */
  leftOver(): string[] {
    const stages = join(this.state, "stage");
    const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
    return [
      ...(existsSync(stages) ? readdirSync(stages) : []),
      ...mounts.filter((line) => line.includes(this.directory)),
      ...processesOf(this.account.uid),
    ];
  }

  /** Puts a file into the root, as an earlier run would have. */
  place(path: string, text: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text, { mode: 0o644 });
  }

  close(): void {
    void this.#server.stop(true);
    this.#remove();
  }
}

/** Stand-ins for the units that confine, which start what theirs would, and a way to end them. */
export async function standInUnits(
  directory: string,
  aegis: string,
): Promise<{ units: { build: string; fetch: string }; stop(): void }> {
  const commandOf = (name: "aegis-build@.service" | "aegis-fetch@.service") =>
    (/^ExecStart=(.*)$/m.exec(unitText(name))?.[1] ?? "")
      .split(" ")
      .map((word) => (word === SYSTEM.binary ? aegis : word));
  // What systemd does by PrivateNetwork= and User=.
  const build = commandOf("aegis-build@.service").map((word) =>
    word === "--mount" ? ["--mount", "--net"] : word,
  );
  const [program = "", ...args] = commandOf("aegis-fetch@.service");
  const fetch = commandAs(buildUser(), program, args).flat();
  const start = (name: string, argv: readonly string[]) => standInUnit(join(directory, `${name}.sock`), argv);
  const [one, other] = [await start("build", build.flat()), await start("fetch", fetch)];
  return {
    units: { build: one.path, fetch: other.path },
    stop() {
      one.stop();
      other.stop();
    },
  };
}

/** Starts a program for each connection to a socket that root alone can reach. */
export async function standInUnit(
  path: string,
  argv: readonly string[],
): Promise<{ path: string; stop(): void }> {
  const script = join(import.meta.dir, "managed-units.ts");
  const child = spawn(process.execPath, [script, path, ...argv], { stdio: ["ignore", "pipe", "ignore"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return { path, stop: () => void child.kill("SIGKILL") };
}

/** Command lines of a user's processes. */
export function processesOf(uid: number): string[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const status = readFileSync(`/proc/${name}/status`, "utf8");
      if (/^State:\s+[ZX]/m.test(status)) return [];
      const isOf = new RegExp(`^Uid:\\s+${uid}\\s`, "m").test(status);
      return isOf ? [readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ")] : [];
    } catch {
      return [];
    }
  });
}

/** Processes whose command line ends like this. */
export function pidsOf(end: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim().endsWith(end);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** A shell script as the command line of the fake tool: it has `get <name>` for the closed registry, and `$R`, the managed root. */
export function script(text: string): string[] {
  const get = `get() { exec 9<>/dev/tcp/127.0.0.1/4873; printf 'GET /%s HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' "$1" >&9; sed '1,/^\\r$/d' <&9; exec 9>&-; }`;
  return ["bash", "-c", `${get}\nR=/var/lib/aegis/fake\n${text}`];
}

/** A tarball as npm makes them. */
export function npmTarball(
  name: string,
  version: string,
  manifest: object,
  files: Record<string, string> = {},
): TestPackage {
  const all = { "package.json": JSON.stringify({ name, version, ...manifest }), ...files };
  const entries = Object.entries(all).map(([path, body]) => tarEntry(`package/${path}`, body));
  return { name, version, bytes: gzipSync(tar(...entries)) };
}
