import * as v from "valibot";
import { canonicalHash, canonicalJson, type Json, parseJson } from "./canonical.ts";
import type { DecidedPlan } from "./cmd-plan-again.ts";
import { type AnyDecision, pending, type Requests, requestsHere } from "./cmd-requests.ts";
import type { Io } from "./command.ts";
import { parseDocument } from "./doc.ts";
import { askedOtherwise, Rejection, RequestSummary } from "./doc-request.ts";
import { AegisError, EXIT, type ExitStatus, isErrorCode } from "./errors.ts";
import { assertSameEvaluator } from "./exec-embedded.ts";
import { decideRequest, type FoundRequest } from "./front-requests.ts";
import { SYSTEM } from "./paths.ts";
import { evaluate } from "./policy.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { runFed } from "./sys-spawn.ts";
import { safe } from "./terminal.ts";

/*
 * Requests of another host, by ssh. The key stays here: the far end plans, and hands over what was signed here. Nothing it says is
 * believed that can be checked against the rest; what can't is bound to its host, whose executor plans once more.
 */

const SSH = "/usr/bin/ssh";
/** No terminal there, and no way back from there to this machine's agent, display or ports, whatever the user's configuration says. */
const SSH_FLAGS = ["-T", "-a", "-x", "-o", "ClearAllForwardings=yes"];
/** `user@host` or a name of the user's ssh configuration; never an option, and nothing that a shell would read. */
const DESTINATION = /^(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*@)?[A-Za-z0-9_](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?$/;
/** Planning there takes as long as here. */
const TIME_MS = 10 * 60_000;
const MAX_BYTES = 16 * 1024 * 1024;
/** What ssh needs of the user's environment: their files, their agent, a way to ask them. */
const PASSED = [
  ...["HOME", "USER", "LOGNAME", "PATH", "LANG", "LC_ALL", "TERM", "XDG_RUNTIME_DIR"],
  ...["SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "WAYLAND_DISPLAY"],
];

/** A decision on its way to the far end, whose half hands it to the runner. */
const Relayed = v.strictObject({
  request_hash: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  approval: v.optional(v.unknown()),
  operation_plan: v.optional(v.unknown()),
  policy_result: v.optional(v.unknown()),
  rejection: v.optional(v.unknown()),
});

/** The requests that a command's flags mean: this host's, or with --via another's. */
export function requestsOf({ via, socket }: { via?: string | undefined; socket: string }, io: Io): Requests {
  return via === undefined ? requestsHere(socket, io) : requestsVia(via, io);
}

/**
 * The requests of the host that `ssh <destination>` reaches.
 * @throws AegisError `usage` for a destination that isn't one
 */
export function requestsVia(destination: string, io: Io, program = SSH): Requests {
  if (!DESTINATION.test(destination) || destination.length > 255) {
    throw new AegisError(
      "usage",
      `--via takes user@host, which ${safe(destination)} is not`,
      "Ports, jumps and keys belong in ~/.ssh/config, under a name: --via <name>",
    );
  }
  const ask = (words: readonly string[], input = "") => askFarEnd(program, destination, words, input, io);
  return {
    via: destination,
    async list(all) {
      const answer = await ask(["inbox", ...(all ? ["--all"] : [])]);
      const { requests, left_out } = read(
        v.object({ requests: v.array(RequestSummary), left_out: v.number() }),
        answer,
      );
      return { requests, left_out };
    },
    read: async (number) => foundIn(await ask(["show", String(number)]), number),
    async readAgain(number) {
      io.note(`planning again on ${safe(destination)}, read-only`);
      const answer = await ask(["show", String(number), "--again"]);
      const found = pending(foundIn(answer, number));
      const { again } = read(v.object({ again: Again }), answer);
      const planned = { plan: hashed("plan", again.plan), policy: hashed("policy", again.policy_result) };
      checkPlanned(found, planned, io);
      return { ...found, again: planned };
    },
    async decide(decision) {
      const [verb, flag] = "approval" in decision ? ["approve", "--approval"] : ["reject", "--rejection"];
      const answer = await ask([verb, String(decision.number), flag, "-"], JSON.stringify(relayed(decision)));
      return read(v.object({ request: RequestSummary }), answer).request;
    },
  };
}

const Again = v.object({ plan: v.unknown(), policy_result: v.unknown() });
const Shown = v.object({
  request: RequestSummary,
  plan: v.unknown(),
  policy_result: v.unknown(),
  review: v.unknown(),
  approvals: v.pipe(v.array(v.unknown()), v.maxLength(16)),
});

/** The words for the far end are fixed ones and a number: sshd hands them to a shell as one line. */
async function askFarEnd(
  program: string,
  destination: string,
  words: readonly string[],
  input: string,
  io: Io,
): Promise<Json> {
  const line = [SYSTEM.binary, "sign", ...words, "--json"].join(" ");
  const env: Record<string, string> = {};
  for (const name of PASSED) {
    const value = io.env[name];
    if (value !== undefined) env[name] = value;
  }
  const done = await runFed(program, [...SSH_FLAGS, "--", destination, line], {
    env,
    input,
    timeoutMs: TIME_MS,
    maxBytes: MAX_BYTES,
    onErrorLine: (text) => io.note(`${safe(destination)}: ${safe(text)}`),
  });
  if (done.outcome !== "exited") {
    const why =
      done.outcome === "timeout" ? `didn't answer within ${TIME_MS / 60_000} minutes` : "answered too much";
    throw new AegisError("timeout", `${safe(destination)} ${why}`);
  }
  let answer: Json;
  try {
    answer = parseJson(done.stdout.toString("utf8"));
  } catch {
    throw new AegisError(
      "unavailable",
      `ssh to ${safe(destination)} gave no answer of aegis (status ${done.status ?? "none"})`,
      `Try: ssh ${safe(destination)} ${SYSTEM.binary} sign inbox`,
    );
  }
  const refusal = v.safeParse(Refusal, answer);
  if (!refusal.success) return answer;
  const { code, message, hint } = refusal.output.error;
  throw new AegisError(isErrorCode(code) ? code : "refused", message, hint, {}, safe(destination));
}

const Refusal = v.object({
  error: v.object({ code: v.string(), message: v.string(), hint: v.optional(v.string(), "") }),
});

function read<S extends v.GenericSchema>(schema: S, answer: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, answer, { abortEarly: true });
  if (result.success) return result.output;
  const where = v.getDotPath(result.issues[0]) ?? "(answer)";
  throw new AegisError(
    "protocol",
    `the other host's answer is malformed: ${safe(where)}`,
    "Is its aegis of the same version?",
  );
}

function hashed<K extends "plan" | "policy" | "review">(kind: K, tree: unknown) {
  return { document: parseDocument(kind, tree, `the other host's ${kind}`), hash: canonicalHash(tree) };
}

function foundIn(answer: Json, number: number): FoundRequest {
  const { request, plan, policy_result, review, approvals } = read(Shown, answer);
  if (request.number !== number) throw contradiction("it answered with another request");
  if (plan === null) return { request, documents: null };
  const documents = {
    plan: hashed("plan", plan),
    policy: hashed("policy", policy_result),
    review: review === null ? null : hashed("review", review),
    approvals: approvals.map((one) => parseDocument("approval", one, "the other host's approval")),
  };
  if (documents.plan.hash !== request.plan_hash) throw contradiction("its plan is not the request's");
  return { request, documents };
}

/**
 * Checks what the far end says about the newer plan against the rest: it is for the same request and host, and the decision is about
 * this plan, by the rules that this version has. Where the policy's configuration is also this machine's, the decision is reproduced.
 * @throws AegisError `hash_mismatch`, `evaluator_mismatch`
 */
function checkPlanned(
  { request, documents }: ReturnType<typeof pending>,
  { plan, policy }: DecidedPlan,
  io: Io,
): void {
  const asked = documents.plan.document;
  const other = askedOtherwise(plan.document, asked);
  if (other !== undefined)
    throw contradiction(`the plan made again has another ${other} than request ${request.number}`);
  const isElsewhere = (["hostname", "machine_id_hash"] as const).some(
    (field) => plan.document.host[field] !== asked.host[field],
  );
  if (isElsewhere) throw contradiction("the plan made again is of another host than the request's");
  if (policy.document.plan_hash !== plan.hash || policy.document.plan_id !== plan.document.plan_id)
    throw contradiction("its decision is about another plan");
  const { config, hash } = loadPolicyConfig(io.env);
  const own = evaluate({ plan: plan.document, planHash: plan.hash, config, configHash: hash });
  assertSameEvaluator(policy.document, own);
  if (policy.document.policy_config_hash !== hash) {
    io.note(
      "note: that host's policy configuration is not this machine's, so its decision can't be reproduced here",
    );
    if (own.decision !== policy.document.decision)
      io.note(`note: by this machine's configuration the decision would be ${own.decision}`);
  } else if (canonicalJson(own) !== canonicalJson(policy.document)) {
    throw contradiction(
      `policy decides ${own.decision} about its plan, and it says ${policy.document.decision}`,
    );
  }
}

function contradiction(what: string): AegisError {
  return new AegisError(
    "hash_mismatch",
    `the other host contradicts itself: ${what}; nothing was approved`,
    "Look at that host, and approve there: aegis sign show <number>",
  );
}

function relayed(decision: AnyDecision): v.InferInput<typeof Relayed> {
  const { request_hash } = decision;
  if (!("approval" in decision)) return { request_hash, rejection: JSON.parse(decision.rejection) };
  const { approval, newer } = decision;
  const documents =
    newer === null
      ? {}
      : { operation_plan: JSON.parse(newer.operation_plan), policy_result: JSON.parse(newer.policy_result) };
  return { request_hash, approval: JSON.parse(approval), ...documents };
}

/**
 * The far end's half: hands a decision from standard input to the runner. This account is who decides, as the kernel says, and the
 * runner verifies the rest.
 * @throws AegisError `usage`, `invalid_document`; as decideRequest
 */
export async function relayDecision(
  number: number,
  from: string,
  socket: string,
  io: Io,
): Promise<ExitStatus> {
  if (from !== "-")
    throw new AegisError("usage", "a decision that was signed elsewhere comes from standard input: -");
  const given = read(Relayed, parseJson(await io.readStdin()));
  const { request_hash, approval, operation_plan, policy_result, rejection } = given;
  const document = (kind: "approval" | "plan" | "policy", tree: unknown) =>
    canonicalJson(parseDocument(kind, tree, `the ${kind}`));
  const decision: AnyDecision =
    rejection === undefined
      ? {
          ...{ number, request_hash, approval: document("approval", approval) },
          newer:
            operation_plan === undefined
              ? null
              : {
                  operation_plan: document("plan", operation_plan),
                  policy_result: document("policy", policy_result),
                  review: null,
                },
        }
      : { number, request_hash, rejection: canonicalJson(read(Rejection, rejection)) };
  const request = await decideRequest(socket, decision);
  io.result({ request }, `Request ${number} is ${request.state}.`);
  return EXIT.ok;
}
