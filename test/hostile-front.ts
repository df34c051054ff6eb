import { openSync, readdirSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { messageOf } from "../src/errors.ts";
import { type Call, encodeMessage, MAX_REPLY, MessageDecoder, parseCall } from "../src/wire.ts";

/*
 * Stands where the front is, as its user, connected to the runner's socket, and tries what a compromised front would. First by
 * itself, with calls that it makes up; the outcomes are one line of JSON. Then as the one that clients talk to, one socket for
 * each lie, until it is killed.
 */

export interface HostilePlan {
  /** Calls to make up, by name: method, parameters, and the uid to claim; null for its own. */
  calls: Record<string, { method: string; parameters: object; uid: number | null }>;
  /** Connections to make at once, each claiming to be somebody. */
  flood: number;
  /** Where to listen; the name of each socket is the lie. */
  sockets: string;
  /** Of somebody else's: what they may not be put in the place of. */
  otherTexts: { operation_plan: string; policy_result: string };
}

export type HostileOutcomes = Record<string, string>;

const RUNNER = "/run/aegis/runner.sock";
const PROOFS = "/run/aegis/proof";
const own = process.getuid?.() ?? 0;
const plan: HostilePlan = JSON.parse(await Bun.file(process.argv[2] ?? "").text());
const outcomes: HostileOutcomes = {};

type Reply = { parameters?: Record<string, unknown>; error?: string; continues?: boolean };

/** Makes one call to the runner. `onEvent` gets what continues; resolves with the last reply. */
function ask(call: object, onEvent: (reply: Reply) => void = () => {}): Promise<Reply> {
  return new Promise((resolve) => {
    const decoder = new MessageDecoder(MAX_REPLY);
    const socket = connect({ path: RUNNER }, () => socket.write(encodeMessage(call)));
    socket.on("data", (chunk: Buffer) => {
      for (const text of decoder.push(chunk)) {
        const reply: Reply = JSON.parse(text);
        if (reply.continues === true) onEvent(reply);
        else {
          resolve(reply);
          socket.destroy();
        }
      }
    });
    socket.on("error", (error) => resolve({ error: messageOf(error) }));
    socket.on("close", () => resolve({ error: "closed" }));
  });
}

const callOf = (method: string, parameters: object, uid: number | null) => ({
  method: `io.aegis.Executor.${method}`,
  parameters: { ...parameters, caller: { uid: uid ?? own, gid: 0, pid: 1 } },
  more: true,
});

function wordsOf({ error, parameters }: Reply): string {
  if (error === undefined) return "done";
  return `${parameters?.["code"] ?? error}: ${parameters?.["message"] ?? ""}`;
}

/** What it gets when it tries to answer the proof itself. */
function forge(reply: Reply): string {
  const event = reply.parameters?.["event"] as { proof?: string } | undefined;
  try {
    writeFileSync(`${PROOFS}/${event?.proof}`, "x".repeat(64), { flag: "r+" });
    return "wrote it";
  } catch (error) {
    return messageOf(error).replace(/:.*/, "");
  }
}

for (const [name, { method, parameters, uid }] of Object.entries(plan.calls)) {
  let forged = "";
  const reply = await ask(callOf(method, parameters, uid), (event) => {
    forged = forge(event);
  });
  outcomes[name] = `${wordsOf(reply)}${forged === "" ? "" : ` (proof: ${forged})`}`;
}
for (const [name, deed] of [
  ["list the proofs", () => readdirSync(PROOFS)],
  ["make a proof", () => openSync(`${PROOFS}/${"0".repeat(32)}`, "wx")],
  ["read the requests", () => readdirSync("/var/lib/aegis/requests")],
  ["change the states", () => openSync("/run/aegis/requests.state", "r+")],
] as const) {
  try {
    deed();
    outcomes[name] = "did it";
  } catch (error) {
    outcomes[name] = messageOf(error).replace(/:.*/, "");
  }
}
const started = performance.now();
const flooded = await Promise.all(
  Array.from({ length: plan.flood }, (_, n) => ask(callOf("Withdraw", { number: 1 }, 50_000 + n))),
);
outcomes["flood"] = [...new Set(flooded.map((reply) => wordsOf(reply).replace(/\d{5}/, "N")))]
  .sort()
  .join("; ");
outcomes["flood took"] = `${Math.round((performance.now() - started) / 1000)} s`;

/** What is sent in the place of a client's call, and how its answer is changed. */
const LIES: Record<string, (call: Call) => { call: Call; times?: number; answer?: (reply: Reply) => Reply }> =
  {
    reason: (call) => ({ call: withParameters(call, { reason: "something harmless" }) }),
    plan: (call) => ({ call: withParameters(call, plan.otherTexts) }),
    number: (call) => ({ call: withParameters(call, { number: Number(call.parameters["number"]) + 1 }) }),
    // The client's one proof for two calls.
    twice: (call) => ({ call, times: 2 }),
    // Whoever reads a request is shown another reason.
    shown: (call) => ({
      call,
      answer: (reply) => {
        const [request] = (reply.parameters?.["requests"] ?? []) as object[];
        if (request === undefined) return reply;
        return {
          ...reply,
          parameters: { ...reply.parameters, requests: [{ ...request, reason: "harmless" }] },
        };
      },
    }),
    // A client that only reads is asked to prove a withdrawal.
    reading: () => ({
      call: {
        method: "io.aegis.Executor.Withdraw",
        parameters: { number: 1 },
        more: true,
        oneway: false,
        upgrade: false,
      },
    }),
    lost: (call) => ({ call, times: 0 }),
  };

function withParameters(call: Call, change: object): Call {
  return { ...call, parameters: { ...call.parameters, ...change } };
}

/** The uid that a client of the lie is known to have: everything else the hostile front says truly. */
function serve(lie: string, uid: number, client: Socket): void {
  const decoder = new MessageDecoder(MAX_REPLY);
  client.on("error", () => {});
  client.on("data", (chunk: Buffer) => {
    for (const text of decoder.push(chunk)) {
      const received = parseCall(text);
      const told = LIES[lie]?.(received) ?? { call: received };
      const { call, times = 1 } = told;
      const answer = (reply: Reply) => told.answer?.(reply) ?? reply;
      const method = call.method.slice(call.method.lastIndexOf(".") + 1);
      const one = () =>
        ask(callOf(method, call.parameters, uid), (event) => client.write(encodeMessage(event)));
      for (let n = 0; n < times; n++)
        void one().then((reply: Reply) => client.write(encodeMessage(answer(reply))));
      if (times === 0) client.end();
    }
  });
}

for (const lie of Object.keys(LIES)) {
  // `<lie>.<uid>`: SO_PEERCRED is not needed to lie.
  for (const uid of [61001, 61010]) {
    createServer((client) => serve(lie, uid, client)).listen({ path: `${plan.sockets}/${lie}.${uid}` });
  }
}
await Bun.sleep(100);
Bun.spawnSync(["/bin/sh", "-c", `chmod 666 ${plan.sockets}/*`]);
process.stdout.write(`${JSON.stringify(outcomes)}\n`);
