import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { AegisError, errnoOf } from "../src/errors.ts";
import { callExecutor } from "../src/front-client.ts";
import { MAX_MESSAGE } from "../src/wire.ts";
import { call, RawClient } from "../test/varlink-kit.ts";

/*
 * The clients of scripts/soak, as a separate program, since a client is identified by the uid of its process. It does one
 * job, given as JSON, prints the answers as JSON, and exits.
 */

/** A client's job. `requests` are sent round-robin. */
export type Job = {
  socket: string;
} & (
  | { role: "silent" | "slow" | "large" | "noise" | "half"; count: number; at_once: number }
  | { role: "denied"; count: number; at_once: number; requests: string[] }
  | { role: "queue"; plans: { id: string; path: string }[] }
);

export interface JobReport {
  sent: number;
  /** How often each answer was given: a code of errors.ts, a varlink error, `answered`, an errno of the system, or `hung up`. */
  answers: Record<string, number>;
  /** Of the queue: the outcome of each execution, a state or the code of its refusal. */
  outcomes: Record<string, string>;
}

const FOUR_MIB = 4 * 1024 * 1024;
const SLOW_PAUSE_MS = 100;
const RETRY_MS = 500;

/** The `count`th answer on a connection, in a word. */
async function answerOf(client: RawClient, count = 1): Promise<string> {
  try {
    const { error, parameters } = await client.reply(count);
    if (error === undefined) return "answered";
    return typeof parameters["code"] === "string" ? parameters["code"] : (error.split(".").at(-1) ?? error);
  } catch {
    return errors.get(client) ?? "hung up";
  }
}

/** The errno of a failed connection: `EAGAIN` where the backlog was full. */
const errors = new WeakMap<RawClient, string>();

function connected(socket: string): RawClient {
  const client = new RawClient(socket);
  client.socket.on("error", (error) => errors.set(client, errnoOf(error) || error.message));
  return client;
}

/** A request of 4 MiB and one byte, which is read to its end, or one over the limit of a message. */
function largeRequest(n: number): Buffer {
  if (n % 3 === 0) return Buffer.alloc(MAX_MESSAGE + 1, "x");
  const head = `{"method":"io.aegis.Executor.Apply","parameters":{"plan":"`;
  const [open, fill, close] = n % 3 === 1 ? ["", "[", ""] : ['{\\"schema_version\\":\\"', "x", '\\"}'];
  const around = `${head}${open}${close}"}}\0`.length;
  return Buffer.from(`${head}${open}${fill.repeat(FOUR_MIB + 2 - around)}${close}"}}\0`);
}

/** One hostile client, from connecting to the end; returns the answer. */
async function hostile(role: Exclude<Job["role"], "denied" | "queue">, socket: string, n: number) {
  const client = connected(socket);
  const whole = JSON.stringify({ method: "org.varlink.service.GetInfo" });
  if (role === "large") client.send(largeRequest(n));
  if (role === "noise") client.send(randomBytes(1 + ((n * 977) % 65_536))).send("\0");
  if (role === "half") {
    // Half of them are done sending and wait for the answer.
    client.send(n % 2 === 0 ? whole.slice(0, 20) : `${whole}\0`);
    client.socket.end();
  }
  if (role === "slow") {
    for (let i = 0; i < whole.length && client.messages.length === 0 && !client.socket.destroyed; i++) {
      client.send(whole.slice(i, i + 1));
      await Bun.sleep(SLOW_PAUSE_MS * 3);
    }
  }
  const answer = await answerOf(client);
  client.socket.destroy();
  return answer;
}

/** Runs `next` `count` times with bounded concurrency, passing how many were started before. */
async function times(
  count: number,
  atOnce: number,
  next: (n: number, lane: number) => Promise<string>,
): Promise<JobReport> {
  const report: JobReport = { sent: 0, answers: {}, outcomes: {} };
  const lane = async (_: unknown, number: number) => {
    while (report.sent < count) {
      const answer = await next(report.sent++, number);
      report.answers[answer] = (report.answers[answer] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, lane));
  return report;
}

/** Requests that must be denied, one after the other, on connections that are reused as long as they live. */
function denied({ socket, count, at_once, requests }: Extract<Job, { role: "denied" }>): Promise<JobReport> {
  const kept = new Map<number, { client: RawClient; sent: number }>();
  return times(count, at_once, async (n, lane) => {
    const known = kept.get(lane);
    const it =
      known === undefined || known.client.socket.destroyed ? { client: connected(socket), sent: 0 } : known;
    kept.set(lane, it);
    const plan = requests[n % requests.length] ?? "";
    it.client.send(call("Apply", { plan }, { more: true }));
    const answer = await answerOf(it.client, ++it.sent);
    if (it.client.socket.destroyed || answer === "busy") {
      it.client.socket.destroy();
      kept.delete(lane);
    }
    if (n + at_once >= count) it.client.socket.destroy();
    return answer;
  });
}

/** Submits every plan at once; retries on `busy`, as `aegis apply` does. */
async function queue({ socket, plans }: Extract<Job, { role: "queue" }>): Promise<JobReport> {
  const report: JobReport = { sent: 0, answers: {}, outcomes: {} };
  const submit = async ({ id, path }: { id: string; path: string }) => {
    const plan = readFileSync(path, "utf8");
    for (;;) {
      report.sent++;
      const outcome = await callExecutor(socket, "Apply", { plan }).then(
        (event) => event.outcome?.state ?? "no outcome",
        (error: unknown) => (error instanceof AegisError ? error.code : String(error)),
      );
      report.answers[outcome] = (report.answers[outcome] ?? 0) + 1;
      // An overloaded front may hang up without a reason.
      if (outcome !== "busy" && outcome !== "unavailable") {
        report.outcomes[id] = outcome;
        return;
      }
      await Bun.sleep(RETRY_MS);
    }
  };
  await Promise.all(plans.map(submit));
  return report;
}

if (import.meta.main) {
  const job: Job = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
  const report =
    job.role === "queue"
      ? await queue(job)
      : job.role === "denied"
        ? await denied(job)
        : await times(job.count, job.at_once, (n) => hostile(job.role, job.socket, n));
  process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exit(0);
}
