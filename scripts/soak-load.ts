import { randomBytes } from "node:crypto";
import { canonicalJson } from "../src/canonical.ts";
import { SYSTEM } from "../src/paths.ts";
import type { Job, JobReport } from "./soak-client.ts";
import { type Account, type SignedInstall, type Soak, settle } from "./soak-host.ts";
import { peakMb, resetPeak, type Times, timedApply, timedStatus } from "./soak-measure.ts";

/*
 * Hostile clients of every kind at once, each kind under separate uids, and what an honest client experiences meanwhile.
 */

export interface LoadSize {
  silent: number;
  slow: number;
  large: number;
  noise: number;
  half: number;
  denied: number;
  /** Valid requests before the load: asking for the status, and installing a package. */
  statuses: number;
  applies: number;
}

export interface Load {
  hostile: { kind: string; report: JobReport }[];
  unloaded: Valid;
  loaded: Valid;
  /** Memory of the front, in MB: just started; idle after the first requests; peak under load. */
  memory: { started: number; idle: number; loaded: number };
  account: Account;
}

/** Outcome of one client's valid requests. */
export interface Valid {
  status: Times;
  apply: Times;
}

/** The path for clients inside the host. */
const SOCKET = SYSTEM.socket;
/** Silent clients are two users, so that they can hold twice the connections of one. */
const SILENT_USERS = 2;
const AT_ONCE = { slow: 8, large: 4, noise: 8, half: 8, denied: 6 };

/** After this long without load the front counts as idle. */
const QUIET_MS = 3000;
const noTimes = (): Times => ({ ms: [], again: 0 });

/** Requests to deny, each for a different reason; the last was really signed by the trusted key. */
async function forgeries({ chain }: Soak, { path }: SignedInstall): Promise<string[]> {
  const plan = JSON.parse(chain.host.read(path));
  const badly = { ...plan, signature: { ...plan.signature, signature: randomBytes(64).toString("base64") } };
  const stranger = { ...plan, signature: { ...plan.signature, key_id: "stranger" } };
  const [created_at, expires_at] = [3, 2].map((days) =>
    new Date(Date.now() - days * 86_400_000).toISOString(),
  );
  const expired = await chain.forge({ ...plan, created_at, expires_at });
  return [
    canonicalJson(badly),
    canonicalJson(stranger),
    JSON.stringify(plan, null, 1),
    "{}",
    chain.host.read(expired),
  ];
}

/** Starts all hostile clients; resolves when all have ended. */
async function hostileClients(soak: Soak, size: LoadSize, requests: string[]): Promise<Load["hostile"]> {
  const socket = SOCKET;
  const silent = Math.ceil(size.silent / SILENT_USERS);
  const jobs: Job[] = [
    ...Array.from(
      { length: SILENT_USERS },
      (): Job => ({ socket, role: "silent", count: silent, at_once: silent }),
    ),
    ...(["slow", "large", "noise", "half"] as const).map(
      (role): Job => ({ socket, role, count: size[role], at_once: AT_ONCE[role] }),
    ),
    { socket, role: "denied", count: size.denied, at_once: AT_ONCE.denied, requests },
  ];
  return Promise.all(
    jobs.map(async (job, user) => ({ kind: job.role, report: await soak.client(user, job) })),
  );
}

/** Asks for the status again and again, and installs one package after the other, until `enough`. */
async function honestClient(
  { socket, chain }: Soak,
  installs: readonly SignedInstall[],
  answers: Record<string, string>,
  enough: (statuses: number) => boolean,
): Promise<Valid> {
  const valid: Valid = { status: noTimes(), apply: noTimes() };
  const ask = async () => {
    while (!enough(valid.status.ms.length)) await timedStatus(socket, valid.status);
  };
  const install = async () => {
    for (const { id, path } of installs)
      answers[id] = await timedApply(socket, chain.host.read(path), valid.apply);
  };
  await install();
  await ask();
  return valid;
}

/** Measures valid requests and the front's memory without load, then under all hostile clients at once. */
export async function underLoad(soak: Soak, size: LoadSize): Promise<Load> {
  const [model, ...installs] = await soak.installs(1 + 2 * size.applies);
  if (model === undefined) throw new Error("nothing is planned");
  const requests = await forgeries(soak, model);
  const front = soak.frontPid();
  await Bun.sleep(1000);
  resetPeak(front);
  const started = peakMb(front);
  const answers: Record<string, string> = { [model.id]: "never submitted" };

  const unloaded = await honestClient(
    soak,
    installs.slice(0, size.applies),
    answers,
    (done) => done >= size.statuses,
  );
  await Bun.sleep(QUIET_MS);
  resetPeak(front);
  const idle = peakMb(front);

  let over = false;
  const hostile = hostileClients(soak, size, requests).finally(() => {
    over = true;
  });
  // Wait until they have connected.
  await Bun.sleep(500);
  const loaded = await honestClient(soak, installs.slice(size.applies), answers, () => over);
  const reports = await hostile;
  return {
    hostile: reports,
    unloaded,
    loaded,
    memory: { started, idle, loaded: peakMb(front) },
    account: settle(soak, installs, answers),
  };
}

/** Submits plans all at once, each as another user, who retries on `busy`. */
export async function fullQueue(
  soak: Soak,
  users: number,
  count: number,
): Promise<{ report: JobReport; account: Account }> {
  const installs = await soak.installs(count);
  const share = Math.ceil(count / users);
  const reports = await Promise.all(
    Array.from({ length: users }, (_, user) => {
      const plans = installs.slice(user * share, (user + 1) * share).map(({ id, path }) => ({ id, path }));
      return soak.client(user, { socket: SOCKET, role: "queue", plans });
    }),
  );
  const report: JobReport = { sent: 0, answers: {}, outcomes: {} };
  for (const { sent, answers, outcomes } of reports) {
    report.sent += sent;
    Object.assign(report.outcomes, outcomes);
    for (const [answer, times] of Object.entries(answers))
      report.answers[answer] = (report.answers[answer] ?? 0) + times;
  }
  return { report, account: settle(soak, installs, report.outcomes) };
}
