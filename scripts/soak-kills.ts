import { EXIT } from "../src/errors.ts";
import { SYSTEM } from "../src/paths.ts";
import type { Chain } from "../test/e2e-kit.ts";
import { AEGIS, executorProcesses, kill, type Process, processes, resultOf } from "../test/e2e-running.ts";
import type { Running } from "../test/throwaway.ts";
import { type Account, type SignedInstall, type Soak, settle } from "./soak-host.ts";

/*
 * SIGKILL at random moments to any process of Aegis while plans are applied. apt and dpkg are spared: killing those leaves
 * packages half-done, which Aegis can't prevent.
 */

const VICTIMS = ["front", "runner", "supervisor", "client"] as const;
type Victim = (typeof VICTIMS)[number];
/** Concurrent clients. */
const CLIENTS = 3;
const MEAN_PAUSE_MS = 450;
/** A plan without an outcome after this many submissions counts as lost. */
const TRIES = 60;
const RETRY_MS = 300;
/** Plans between two progress lines. */
const PROGRESS = 20;
const KILLED = 128 + 9;
/** Exit statuses of `aegis apply` that a retry does not change: denied, not verified, drifted. */
const DEFINITE: readonly number[] = [EXIT.denied, EXIT.verification, EXIT.drift];

export interface Kills {
  submissions: number;
  kills: Record<Victim, number>;
  /** Phases in which a process was killed, counted. */
  moments: Record<string, number>;
  /** Outcomes of the plans, counted. */
  outcomes: Record<string, number>;
  account: Account;
}

/** Applies every plan while processes are killed, until each has a definite answer. `random` gives [0, 1). */
export async function killAtRandom(
  soak: Soak,
  installs: readonly SignedInstall[],
  random: () => number,
): Promise<Kills> {
  const { chain } = soak;
  const counts: Pick<Kills, "submissions" | "kills" | "moments"> = {
    submissions: 0,
    kills: { front: 0, runner: 0, supervisor: 0, client: 0 },
    moments: {},
  };
  const answers: Record<string, string> = {};
  const left = [...installs];
  const lane = async (user: "root" | "alice") => {
    for (let install = left.shift(); install !== undefined; install = left.shift()) {
      answers[install.id] = await untilAnswered(chain, install, user, () => counts.submissions++);
      const done = Object.keys(answers).length;
      if (done % PROGRESS === 0) process.stderr.write(`  ${done} of ${installs.length}\n`);
    }
  };
  let over = false;
  const killer = async () => {
    while (!over) {
      await Bun.sleep(-Math.log(1 - random()) * MEAN_PAUSE_MS);
      const victim = VICTIMS[Math.floor(random() * VICTIMS.length)] ?? "runner";
      const found = find(chain, victim);
      const one = found[Math.floor(random() * found.length)];
      if (over || one === undefined) continue;
      const moment = momentOf(chain);
      kill([one]);
      counts.kills[victim]++;
      counts.moments[moment] = (counts.moments[moment] ?? 0) + 1;
      if (victim === "supervisor") {
        await soak.daemon.exited;
        soak.daemon = await startAgain(chain);
      }
    }
  };
  const killing = killer();
  await Promise.all(Array.from({ length: CLIENTS }, (_, n) => lane(n === 0 ? "root" : "alice")));
  over = true;
  await killing;
  const outcomes: Record<string, number> = {};
  for (const answer of Object.values(answers)) outcomes[answer] = (outcomes[answer] ?? 0) + 1;
  return { ...counts, outcomes, account: settle(soak, installs, answers) };
}

/** Submits a plan, retrying without a definite answer, until it has an outcome or is refused for good. */
async function untilAnswered(
  chain: Chain,
  { id, path }: SignedInstall,
  user: "root" | "alice",
  submitted: () => void,
): Promise<string> {
  const outcome = () => {
    const state = resultOf(chain, id)?.state;
    return state === "running" ? undefined : state;
  };
  for (let n = 0; n < TRIES; n++) {
    submitted();
    const ended = await chain.apply(path, user).catch(() => null);
    if (ended === null) return "no end";
    const { status, stderr } = ended;
    if (status === 0) return "completed";
    if (status === 6 && stderr.includes("[replay]")) {
      // It runs, or was used up: then there is an outcome, or its runner died before starting it.
      const watched = await chain.aegis(["apply", "--watch", id], { user }).catch(() => null);
      if (watched === null) return "no end";
      if (outcome() === undefined && watched.stderr.includes("[not_found]") && isUsed(chain, id))
        return "replay";
    }
    const state = status === KILLED ? undefined : outcome();
    if (state !== undefined) return state;
    if (DEFINITE.includes(status) && !stderr.includes("[replay]")) return `refused: ${stderr.trim()}`;
    await Bun.sleep(RETRY_MS);
  }
  return "no answer";
}

function isUsed({ host }: Chain, id: string): boolean {
  return host.read("/var/lib/aegis/spent/spent.ndjson").includes(id);
}

function find(chain: Chain, victim: Victim): Process[] {
  if (victim !== "client") return executorProcesses(chain, victim);
  return processes(chain).filter(({ argv }) => argv[0] === AEGIS && argv[1] === "apply");
}

/** The current phase, judged by the running processes. */
function momentOf(chain: Chain): string {
  const running = processes(chain);
  const is = (...names: string[]) => running.some(({ name, state }) => state !== "Z" && names.includes(name));
  if (is("dpkg", "dpkg-deb")) return "dpkg";
  if (running.some(({ argv }) => argv[0]?.endsWith("/http"))) return "download";
  if (is("apt-get")) return "apt";
  return executorProcesses(chain, "runner").length > 0 ? "runner" : "idle";
}

/** Restarts it as an administrator would, until it serves: the previous front may still be exiting. */
async function startAgain(chain: Chain): Promise<Running> {
  for (;;) {
    const daemon = await chain.host.spawn([AEGIS, "daemon", "--executor"]);
    let ended = false;
    void daemon.exited.then(() => {
      ended = true;
    });
    while (!ended) {
      if (daemon.stderr().includes("executor ready")) return daemon;
      // Its output may get lost; that it serves is seen.
      if ((await chain.aegis(["daemon", "status", "--socket", SYSTEM.socket])).status === 0) return daemon;
      await Bun.sleep(20);
    }
    if (!daemon.stderr().includes("[exists]")) throw new Error(`the daemon ended: ${daemon.stderr()}`);
    await Bun.sleep(50);
  }
}
