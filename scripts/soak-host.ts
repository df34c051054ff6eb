import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalJson } from "../src/canonical.ts";
import { ADMIN_GROUP } from "../src/sys-state.ts";
import { type Chain, startChain } from "../test/e2e-kit.ts";
import { brokenInvariants, executorProcesses, gated, resultOf } from "../test/e2e-running.ts";
import type { Running } from "../test/throwaway.ts";
import type { PackageDefinition } from "../test/throwaway-packages.ts";
import { type Repository, startRepository } from "../test/throwaway-repo.ts";
import { build } from "./bench-measure.ts";
import type { Job, JobReport } from "./soak-client.ts";

/*
 * The host that scripts/soak works on: packages that count how often they are installed, plans for them, clients under
 * separate uids, and the invariants at the end.
 */

/** A package to install, and the signed plan for it. */
export interface SignedInstall {
  name: string;
  id: string;
  path: string;
}

export interface Soak {
  chain: Chain;
  /** Plans `count` installations, each of a package that no other plan installs. */
  installs(count: number): Promise<SignedInstall[]>;
  /** The same for a package that waits in its postinst, as `gated` of the tests does. */
  gated(): Promise<SignedInstall>;
  /** Runs soak-client to its end under a separate uid. `nobody` counts users from 0. */
  client(nobody: number, job: Job): Promise<JobReport>;
  /** The socket as this process reaches it. */
  socket: string;
  /** The supervisor started last. */
  daemon: Running;
  frontPid(): number;
  stop(): Promise<void>;
}

/** Outcomes of the plans that a step submitted. */
export interface Account {
  ran: number;
  /** Without a definite answer, or started without an end, or reported as done and not done. */
  lost: string[];
  /** Installed or started more than once. */
  twice: string[];
}

const CLIENT = "/usr/local/bin/soak-client";
const FIRST_UID = 62_000;
const COUNTS = "/var/lib/soak";
/** Slow enough that a run can be hit in each phase. */
const DOWNLOAD_MS = 150;
/** Packages that wait. */
const GATED = 4;
const SCRIPT_SECONDS = "0.1";

/** Two scripts that take a while; the last one counts. */
function counted(name: string): PackageDefinition {
  const preinst = `#!/bin/sh\nsleep ${SCRIPT_SECONDS}\n`;
  const postinst = `#!/bin/sh\nset -e\necho x >> ${COUNTS}/${name}\nsleep ${SCRIPT_SECONDS}\n`;
  return { name, version: "1.0", control: { preinst, postinst } };
}

/** A package that waits for its gate, then counts. */
function countedAtGate(name: string): PackageDefinition {
  const definition = gated(name);
  const postinst = `${definition.control?.["postinst"]}echo x >> ${COUNTS}/${name}\n`;
  return { ...definition, control: { postinst } };
}

/** The repository behind a server that delays each package. */
async function slowRepository(): Promise<Repository> {
  const repo = await startRepository();
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const path = decodeURIComponent(new URL(request.url).pathname).slice(1);
      if (path.startsWith("pool/")) await Bun.sleep(DOWNLOAD_MS);
      const bytes = repo.files().get(path);
      return bytes === undefined ? new Response("", { status: 404 }) : new Response(Buffer.from(bytes));
    },
  });
  const stop = async () => {
    await server.stop(true);
    await repo.stop();
  };
  return { ...repo, url: `http://127.0.0.1:${server.port}`, stop };
}

/** Starts the host with `packages` on offer and the executor running. */
export async function startSoak(binary: string, packages: number): Promise<Soak> {
  const repo = await slowRepository();
  const chain = await startChain({ binary, repo });
  const { host } = chain;
  host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow"\n');
  host.write(`${COUNTS}/made`, "");
  await repo.publish([
    ...Array.from({ length: packages }, (_, n) => counted(`soak${n}`)),
    ...Array.from({ length: GATED }, (_, n) => countedAtGate(`gated${n}`)),
  ]);
  await host.aptUpdate();
  await installClient(chain);
  const daemon = await chain.startDaemon();

  let planned = 0;
  let jobs = 0;
  let waiting = 0;
  const signedInstall = async (name: string): Promise<SignedInstall> => {
    const { execution, path } = await chain.signed("apt", "install", name);
    return { name, id: execution.execution_plan_id, path };
  };
  return {
    chain,
    daemon,
    socket: host.path("/run/aegis/aegisd.sock"),
    async installs(count) {
      const made: SignedInstall[] = [];
      // Two at a time: a machine of two cores plans no faster with more.
      const lane = async () => {
        while (made.length < count) {
          const place = made.push({ name: "", id: "", path: "" }) - 1;
          made[place] = await signedInstall(`soak${planned++}`);
        }
      };
      await Promise.all([lane(), lane()]);
      return made;
    },
    gated: () => signedInstall(`gated${waiting++}`),
    async client(nobody, job) {
      const file = `/tmp/job-${jobs++}.json`;
      host.write(file, canonicalJson(job));
      const uid = String(FIRST_UID + nobody);
      const become = ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, `--groups=${adminGroup(chain)}`];
      // A flood uses up the processor as well; this measures the daemon, so the flood gets a low priority.
      const nice = job.role === "queue" ? [] : ["nice", "-n", "19"];
      const { status, stdout, stderr } = await host.exec([...nice, ...become, CLIENT, file], {
        timeoutMs: 3_600_000,
      });
      if (status !== 0) throw new Error(`soak-client ${job.role}: exit ${status}\n${stderr}`);
      return JSON.parse(stdout);
    },
    frontPid() {
      const [front] = executorProcesses(chain, "front");
      if (front === undefined) throw new Error("there is no front");
      return front.pid;
    },
    async stop() {
      await chain.stop();
      await repo.stop();
    },
  };
}

function adminGroup({ host }: Chain): string {
  return new RegExp(`^${ADMIN_GROUP}:[^:]*:(\\d+)`, "m").exec(host.read("/etc/group"))?.[1] ?? "";
}

async function installClient({ host }: Chain): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "aegis-soak-"));
  try {
    const program = join(directory, "client");
    build(join(import.meta.dir, "soak-client.ts"), program);
    host.write(CLIENT, readFileSync(program), 0o755);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** How often a package was configured: the larger of its own count and that of dpkg's log. */
function installations({ host }: Chain, name: string, dpkgLog: string): number {
  const path = host.path(`${COUNTS}/${name}`);
  const own = existsSync(path) ? readFileSync(path, "utf8").split("\n").length - 1 : 0;
  return Math.max(own, dpkgLog.split(` configure ${name}:`).length - 1);
}

/**
 * Outcomes of plans, once nothing runs any more. `answers` is what the clients were told, by execution: a
 * state or a code.
 */
export function settle(
  { chain }: Soak,
  installs: readonly SignedInstall[],
  answers: Readonly<Record<string, string>>,
): Account {
  const dpkgLog = chain.host.read("/var/log/dpkg.log");
  const events = chain.audit();
  const account: Account = { ran: 0, lost: [], twice: [] };
  for (const { name, id } of installs) {
    const kinds = events.filter((event) => event["execution_id"] === id).map(({ kind }) => kind);
    const count = (...wanted: string[]) => kinds.filter((kind) => wanted.includes(String(kind))).length;
    const installed = installations(chain, name, dpkgLog);
    const [started, ended] = [
      count("execution_started"),
      count("execution_completed", "execution_interrupted"),
    ];
    const state = resultOf(chain, id)?.state;
    const answer = answers[id] ?? "no answer";
    const closed = ended === 1 && state !== undefined && state !== "running";
    if (installed > 0) account.ran++;
    if (installed > 1 || started > 1)
      account.twice.push(`${name}: installed ${installed}, started ${started}`);
    const why =
      started > 0 && !closed
        ? `started, ended ${ended} times, result ${state}`
        : started === 0 && installed > 0
          ? "installed without a start in the log"
          : answer === "completed" && installed !== 1
            ? "said to be completed, and not installed"
            : answer === "no answer" && !closed
              ? "no answer and no outcome"
              : answer === "no end"
                ? "its client was still waiting after minutes"
                : answer.startsWith("refused: ")
                  ? "a valid plan was refused"
                  : null;
    if (why !== null) account.lost.push(`${name} (${id}), told ${answer}: ${why}`);
  }
  return account;
}

/** Broken invariants, once nothing runs: the log verifies, nothing is left over. */
export async function faults({ chain }: Soak): Promise<string[]> {
  return brokenInvariants(chain);
}
