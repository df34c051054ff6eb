import { chownSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { BUILD_FILES } from "./eco-build-receipt.ts";
import type { BuildRun } from "./eco-build-run.ts";
import type { ManagedTool, Route, SignedFile, Tree } from "./eco-managed.ts";
import { OUTPUT_FILES } from "./eco-run.ts";
import { type RegistryRoute, runSandbox, type SandboxEnd } from "./eco-sandbox.ts";
import { copyTree } from "./eco-stage-copy.ts";
import type { Account } from "./sys-account.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The tool of one build in its sandbox: what it finds there, and what it can write to.
 */

/** The port of the closed registry, in a network namespace where nothing else listens. */
const REGISTRY_PORT = 4873;
const HOME = "/build/home";
const SCRATCH = "/build/scratch";
/** Users of a tool that unpacks files of several: far above those of hosts, and of what useradd(8) hands out for containers. */
const USERS = { first: 700_000_000, count: 65_536 };
/** What else such a tool needs: podman a directory in memory and one in /run, and to see that there are no control groups. */
const FOR_UNPACKING = [
  { name: "run", to: "/run", writable: true },
  { name: "memory", to: "/dev/shm", writable: true },
  { name: "groups", to: "/sys/fs/cgroup", writable: false },
];

export interface ToolRun {
  tool: ManagedTool;
  /** The run's directory, and what it holds. */
  directory: string;
  given: BuildRun;
  /** The directory of the stage, which this makes. */
  stage: string;
  files: readonly SignedFile[];
}

/** As whom a tool works: the build's user, or user 0 of its own namespace. */
export function workerOf({ tool, given }: Pick<ToolRun, "tool" | "given">): Account {
  return tool.store === undefined ? given.account : { name: "unpack", uid: USERS.first, gid: USERS.first };
}

/** Makes the directories that the tool writes to: a copy of the root with this content, a home and scratch space. Returns the copy. */
export function layStage(run: ToolRun, root: string, content: Tree): string {
  const { stage, tool } = run;
  const worker = workerOf(run);
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(stage, { mode: 0o700 });
  const more = tool.store === undefined ? [] : FOR_UNPACKING.map(({ name }) => name);
  for (const name of ["home", "scratch", ...more]) {
    mkdirSync(join(stage, name), { mode: 0o700 });
    chownSync(join(stage, name), worker.uid, worker.gid);
  }
  const copy = join(stage, "root");
  copyTree(content, root, copy, worker);
  return copy;
}

/** Lets the tool work on the stage. `note` adds a line to the run's output. */
export async function runTool(
  run: ToolRun,
  note: (line: string) => void,
  stop: AbortSignal,
): Promise<SandboxEnd> {
  const { tool, directory, given, stage, files } = run;
  const { argv, program, aegis, registry, limits, unit } = given;
  const address = `http://127.0.0.1:${REGISTRY_PORT}`;
  const routes = await tool.routes(files, address);
  const settings = tool.settings({ registry: address, home: HOME, scratch: SCRATCH }, files);
  for (const [name, text] of Object.entries(settings.files ?? {}))
    writeHome(join(stage, "home"), name, text, workerOf(run));
  const file = (name: string) => join(directory, name);
  const from = (name: string) => join(stage, name);
  return await runSandbox(
    {
      ...{ aegis, root: file(BUILD_FILES.sandbox), network: false, account: workerOf(run), program, limits },
      ...(tool.store === undefined ? {} : { users: USERS }),
      args: argv.slice(1),
      binds: [
        { from: from("root"), to: `/var/lib/aegis/${tool.root}`, writable: true },
        { from: from("home"), to: HOME, writable: true },
        { from: from("scratch"), to: SCRATCH, writable: true },
        { from: from("scratch"), to: "/tmp", writable: true },
        ...(tool.store === undefined ? [] : FOR_UNPACKING).map(({ name, ...how }) => ({
          from: from(name),
          ...how,
        })),
      ],
      environment: {
        ...{ PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8", TERM: "dumb", HOME, TMPDIR: SCRATCH },
        ...settings.variables,
      },
      cwd: "/build/empty",
      input: null,
      files: {
        stdout: file(OUTPUT_FILES.stdout),
        stderr: file(OUTPUT_FILES.stderr),
        alive: file(BUILD_FILES.inside),
      },
      registry: {
        ...{ account: registry, port: REGISTRY_PORT, files: given.files },
        routes: Object.fromEntries([...routes].map(([path, route]) => [path, answerOf(route)])),
      },
    },
    unit,
    {
      missing: (path) => note(`the tool asked for ${path}, which the plan lacks: it was answered with 404`),
    },
    stop,
  );
}

function writeHome(home: string, name: string, text: string, { uid, gid }: Account): void {
  const parents = dirname(name)
    .split("/")
    .filter((word) => word !== ".");
  for (const [i] of parents.entries()) {
    const parent = join(home, ...parents.slice(0, i + 1));
    mkdirSync(parent, { recursive: true, mode: 0o755 });
    chownSync(parent, uid, gid);
  }
  writeFileSync(join(home, name), text, { mode: 0o644, flag: "wx" });
}

function answerOf(route: Route): RegistryRoute {
  return "file" in route ? { ...route, file: basename(route.file) } : route;
}
