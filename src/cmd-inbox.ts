import { canonicalJson } from "./canonical.ts";
import { renderApproval, renderQuestion } from "./cmd-approve-view.ts";
import { unlockApprover } from "./cmd-approver.ts";
import { renderSteps } from "./cmd-next.ts";
import { changesSince, renderInbox, renderRequest, renderRequestReview } from "./cmd-request-view.ts";
import { pending } from "./cmd-requests.ts";
import { requestNumber, SSH_KEY_ARG } from "./cmd-sign-args.ts";
import { relayDecision, requestsOf } from "./cmd-via.ts";
import { type ArgsSpec, defineSubcommand, type Io } from "./command.ts";
import { type RequestSummary, requestHash } from "./doc-request.ts";
import { loadEcosystem } from "./eco-load.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { unsignedRejection } from "./exec-rejection.ts";
import { watchRequests, withdrawRequest } from "./front-requests.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { isLong, page } from "./sys-pager.ts";
import { safe } from "./terminal.ts";

const NUMBER = {
  type: "positional",
  required: true,
  complete: [],
  description: "the request's number: aegis sign inbox lists them",
} as const;
const SOCKET = {
  type: "string",
  default: SYSTEM.socket,
  valueHint: "path",
  description: "the executor's socket",
} as const;
const VIA = {
  type: "string",
  valueHint: "user@host",
  description: "the requests of that host, reached by ssh",
} as const;

const INBOX_ARGS = {
  all: { type: "boolean", description: "also requests that have ended" },
  wait: { type: "boolean", description: "where no request waits, wait for one" },
  via: VIA,
  socket: SOCKET,
} as const satisfies ArgsSpec;

/** `aegis sign inbox`: the requests that wait for a person. */
export const signInbox = defineSubcommand({
  name: "sign inbox",
  description: "List the requests that wait for a person: who asks for what, why, and what is still needed.",
  args: INBOX_ARGS,
  async run(values, io) {
    if (values.wait && values.via !== undefined) {
      throw new AegisError("usage", "--wait is for this host's requests", "Leave --via out.");
    }
    const requests = requestsOf(values, io);
    if (values.wait) await untilOneWaits(values.socket);
    const found = await requests.list(values.all);
    const first = found.requests.filter(({ state }) => state === "open").at(-1);
    const next = first === undefined ? [] : [{ who: "an approver", argv: approveArgv(first, values.via) }];
    io.result(
      found,
      `${renderInbox(found, new Date(), io.terminal)}\n${renderSteps(next, io.terminal)}`.trimEnd(),
    );
    return EXIT.ok;
  },
});

/** Waits until a request lacks an approval. */
async function untilOneWaits(socket: string): Promise<void> {
  const found = new AbortController();
  const stop = () => found.abort(new AegisError("stopped", "you stopped waiting"));
  process.once("SIGINT", stop);
  let open = false;
  const onState = ({ state }: { state: string }) => {
    if (state !== "open") return;
    open = true;
    found.abort();
  };
  try {
    await watchRequests(socket, { number: null, onState, signal: found.signal });
  } catch (error) {
    if (!open) throw error;
  } finally {
    process.removeListener("SIGINT", stop);
  }
}

const SHOW_ARGS = {
  request: NUMBER,
  again: { type: "boolean", description: "plan again on the request's host, read-only, and show that" },
  via: VIA,
  socket: SOCKET,
} as const satisfies ArgsSpec;

/** `aegis sign show <number>`: what an approver sees. */
export const signShow = defineSubcommand({
  name: "sign show",
  description: "Show a request as its approver sees it, through PAGER (else less -R) where it is long.",
  args: SHOW_ARGS,
  async run(values, io) {
    const number = requestNumber(values.request);
    const requests = requestsOf(values, io);
    const found = values.again
      ? await requests.readAgain(number)
      : { ...(await requests.read(number)), again: null };
    const { request, documents, again } = found;
    const shown = again ?? documents;
    const document = {
      request,
      request_hash: requestHash(request),
      plan: documents?.plan.document ?? null,
      policy_result: documents?.policy.document ?? null,
      review: documents?.review?.document ?? null,
      approvals: documents?.approvals ?? [],
      again: again === null ? null : { plan: again.plan.document, policy_result: again.policy.document },
    };
    const { terminal } = io;
    const parts = [renderRequest(request, new Date(), terminal)];
    if (shown !== null && !io.json) {
      const argv = (await loadEcosystem(shown.plan.document.tool)).signedArgv(shown.plan.document);
      const { config } = loadPolicyConfig(io.env);
      const { plan, policy } = shown;
      if (documents?.review)
        parts.push(renderRequestReview(documents.review.document, config.review.public_keys, terminal));
      parts.push(
        renderApproval(plan.document, policy.document, config, terminal, { isOfAnother: again === null }),
      );
      if (documents !== null && again !== null)
        parts.push(changesSince(documents, again, request.planned_at, terminal));
      parts.push(renderQuestion(plan.document, policy.document, argv, terminal));
    }
    const next =
      request.state === "open" ? [{ who: "an approver", argv: approveArgv(request, values.via) }] : [];
    const text = [...parts, renderSteps(next, terminal)].filter((part) => part !== "").join("\n\n");
    if (!io.json && isLong(text, terminal) && (await page(text, terminal, io.env, 1))) return EXIT.ok;
    io.result(document, text);
    return EXIT.ok;
  },
});

function approveArgv({ number }: RequestSummary, via: string | undefined): string[] {
  return ["aegis", "sign", "approve", String(number), ...(via === undefined ? [] : ["--via", via])];
}

const REJECT_ARGS = {
  request: NUMBER,
  reason: { type: "string", valueHint: "why", description: "why not: the requester reads it" },
  key: {
    type: "string",
    valueHint: "file",
    description: "approval key file; else ~/.config/aegis/approval-key",
  },
  "ssh-key": SSH_KEY_ARG,
  "key-id": { type: "string", valueHint: "id", description: "the key's id in trusted-keys.toml" },
  signer: { type: "string", valueHint: "name", description: "who rejects; else the name of the key" },
  via: { ...VIA, description: "the request is on that host, reached by ssh; your key stays here" },
  rejection: {
    type: "string",
    valueHint: "-",
    description:
      "hand over a rejection that was signed elsewhere, from standard input: what --via types there",
  },
  socket: SOCKET,
} as const satisfies ArgsSpec;

/** `aegis sign reject <number>`: ends a request with a signed no. */
export const signReject = defineSubcommand({
  name: "sign reject",
  description:
    "Reject a request: signed with an approval key, logged, and told to the requester with the reason.",
  args: REJECT_ARGS,
  async run(values, io) {
    const number = requestNumber(values.request);
    if (values.rejection !== undefined) {
      return relayDecision(number, values.rejection, values.socket, io);
    }
    const { reason } = values;
    if (reason === undefined) throw new AegisError("usage", "--reason is missing", "Add: --reason <why>");
    const requests = requestsOf(values, io);
    const now = new Date();
    const { signer, key, sign } = await unlockApprover(values, io, now);
    const { request } = pending(await requests.read(number));
    const rejection = await sign(
      unsignedRejection({ request: number, requestHash: requestHash(request), signer, reason, now }),
    );
    const decision = { number, request_hash: requestHash(request), rejection: canonicalJson(rejection) };
    return tell(await requests.decide(decision), `Rejected by ${safe(signer)} (key ${safe(key.keyId)}).`, io);
  },
});

const WITHDRAW_ARGS = {
  request: NUMBER,
  reason: { type: "string", valueHint: "why", description: "why it is no longer needed" },
  socket: SOCKET,
} as const satisfies ArgsSpec;

/** `aegis sign withdraw <number>`: ends an own request. */
export const signWithdraw = defineSubcommand({
  name: "sign withdraw",
  description: "End a request of this account's own; root may end anybody's.",
  args: WITHDRAW_ARGS,
  async run(values, io) {
    const number = requestNumber(values.request);
    const request = await withdrawRequest(values.socket, { number, reason: values.reason ?? null });
    return tell(request, "Withdrawn.", io);
  },
});

function tell(request: RequestSummary, done: string, io: Io): ExitStatus {
  io.result({ request }, `${done}\n\n${renderRequest(request, new Date(), io.terminal)}`);
  return EXIT.ok;
}
