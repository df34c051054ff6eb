import { existsSync } from "node:fs";
import { basename } from "node:path";
import { askOn } from "./cmd-approve-ask.ts";
import { renderApproval, renderQuestion, snapshotText } from "./cmd-approve-view.ts";
import { signApproval, unlockApprover } from "./cmd-approver.ts";
import { readAndDecide } from "./cmd-decide.ts";
import { handOver, type NextStep, renderSteps } from "./cmd-next.ts";
import { minutesOf, noteShorter, requestNumber, SSH_KEY_ARG } from "./cmd-sign-args.ts";
import { type ArgsSpec, defineSubcommand, type Io, type Values } from "./command.ts";
import { type Found, referenceTo, saveDocument } from "./doc-store.ts";
import { loadEcosystem } from "./eco-load.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { APPROVAL_MINUTES, MAX_LIFETIME_MINUTES } from "./exec-approval.ts";
import { assertPermitted } from "./exec-embedded.ts";
import { assertFresh } from "./exec-plan.ts";
import { acceptedSnapshot } from "./exec-snapshot-id.ts";
import { SYSTEM } from "./paths.ts";
import { openScreen, type Screen } from "./sys-tty.ts";
import { safe, type Terminal, terminalOf } from "./terminal.ts";

const APPROVE_ARGS = {
  request: {
    type: "positional",
    required: false,
    complete: [],
    description: "a request's number: aegis sign inbox lists them",
  },
  plan: { type: "string", valueHint: "plan", description: "a plan instead: path, full id, or -" },
  review: { type: "string", valueHint: "review", description: "with --plan: a review of it" },
  reason: { type: "string", valueHint: "why", description: "why this change is right; needed with --plan" },
  via: {
    type: "string",
    valueHint: "user@host",
    description: "the request is on that host, reached by ssh; your key stays here",
  },
  key: {
    type: "string",
    valueHint: "file",
    description: "secret key file that approves; else ~/.config/aegis/approval-key",
  },
  "ssh-key": SSH_KEY_ARG,
  "approval-secret-key-hex": {
    type: "string",
    valueHint: "hex",
    description: "the secret itself: others can see it",
  },
  "key-id": { type: "string", valueHint: "id", description: "the key's id in trusted-keys.toml" },
  signer: {
    type: "string",
    valueHint: "name",
    description: "who approves; else the name of the key",
  },
  "accept-snapshot": {
    type: "string",
    multiple: true,
    valueHint: "id",
    description: "a snapshot that you know of and the executor can't look up, by its id",
  },
  "expires-in-minutes": {
    type: "string",
    valueHint: "n",
    description: "lifetime, at most 1440; else 60, or until the request expires",
  },
  confirm: {
    type: "string",
    valueHint: "hash",
    description: "the plan's whole hash, where a person who has read the plan elsewhere has no terminal here",
  },
  out: { type: "string", valueHint: "file", description: "write the approval here instead" },
  approval: {
    type: "string",
    valueHint: "-",
    description:
      "hand over an approval that was signed elsewhere, from standard input: what --via types there",
  },
  socket: { type: "string", default: SYSTEM.socket, valueHint: "path", description: "the executor's socket" },
} as const satisfies ArgsSpec;

/** `aegis sign approve`: a second person reads a plan and signs an approval, on any machine. */
export const signApprove = defineSubcommand({
  name: "sign approve",
  description:
    "Approve a request or a plan as a second person: shows what it does, asks, and signs. A request is planned again first.",
  args: APPROVE_ARGS,
  run: (values, io) => approve(values, io, openScreen),
});

type ApproveValues = Values<typeof APPROVE_ARGS>;
/** Flags that mean something only with --plan, and only with a request. */
const OF_PLAN = ["review", "confirm", "out"] as const;
const OF_REQUEST = ["via", "approval"] as const;

/**
 * Approves a request by its number, or a plan by its file. `open` opens the terminal, or returns null if there is none.
 * @throws AegisError `usage`; as {@link approvePlan}, approveRequest and relayDecision
 */
export async function approve(values: ApproveValues, io: Io, open: () => Screen | null): Promise<ExitStatus> {
  const { request, plan, reason } = values;
  if ((request === undefined) === (plan === undefined)) {
    throw new AegisError(
      "usage",
      "name one request by its number, or one plan with --plan",
      "Requests: aegis sign inbox. Type: aegis sign approve <number>",
    );
  }
  const stray = (request === undefined ? OF_REQUEST : OF_PLAN).find((flag) => values[flag] !== undefined);
  if (stray !== undefined) {
    throw new AegisError("usage", `--${stray} is not for a ${request === undefined ? "plan" : "request"}`);
  }
  if (request !== undefined) {
    const number = requestNumber(request);
    if (values.approval !== undefined) {
      const { relayDecision } = await import("./cmd-via.ts");
      return relayDecision(number, values.approval, values.socket, io);
    }
    const { approveRequest } = await import("./cmd-approve-request.ts");
    return approveRequest(number, values, io, open);
  }
  if (reason === undefined) {
    throw new AegisError("usage", "--reason is missing", "Add: --reason <why>; the executor logs it.");
  }
  return approvePlan({ ...values, plan: plan ?? "", reason }, io, open);
}

/**
 * Reads the plan once, decides about it again, shows it on the terminal, asks, and signs. With `--confirm` it does not ask
 * and shows the plan on stderr.
 * @throws AegisError `expired`, `nothing_to_do`, `policy_denied`, `refused`; errors of loading documents and keys
 */
async function approvePlan(
  values: ApproveValues & { plan: string; reason: string },
  io: Io,
  open: () => Screen | null,
): Promise<ExitStatus> {
  const now = new Date();
  const asked = minutesOf(values["expires-in-minutes"]);
  const minutes = Math.min(asked ?? APPROVAL_MINUTES, MAX_LIFETIME_MINUTES);
  const { plan, review, config, result: policy } = await readAndDecide(values, io, { exact: true });
  assertFresh(plan.document, policy, now);
  assertPermitted(policy);
  const accepted = values["accept-snapshot"].map((id) => acceptedSnapshot(id, now));
  const argv = (await loadEcosystem(plan.document.tool)).signedArgv(plan.document);
  const approver = await unlockApprover(values, io, now);

  const view = (terminal: Terminal) => ({
    screen: renderApproval(plan.document, policy, config, terminal, { isOfAnother: true }),
    question: renderQuestion(plan.document, policy, argv, terminal, {
      snapshot: snapshotText(policy, config, accepted),
    }),
  });
  const elsewhere =
    "Approve on a terminal. A person who has read the plan elsewhere may add --confirm with its full hash.";
  if (values.confirm === undefined) await askOn(open(), view, plan.hash, elsewhere, io);
  else {
    const { screen, question } = view(terminalOf(process.stderr, io.env));
    io.note(`${screen}\n\n${question}`);
    if (values.confirm !== plan.hash)
      throw new AegisError("refused", "--confirm is not this plan's full hash; nothing was approved");
  }

  noteShorter(asked, MAX_LIFETIME_MINUTES, io.note);
  const approval = await signApproval(
    approver,
    { plan, policy, argv, accepted, reason: values.reason, now, minutes },
    io,
  );
  const path = saveDocument("approval", approval, io.env, values.out);
  io.result(
    { approval, path, public_key_hex: approver.key.publicKeyHex },
    [
      `Approved by ${safe(approver.signer)} (key ${safe(approver.key.keyId)}) until ${approval.expires_at}`,
      ...accepted.map((id) => `Accepts     snapshot ${safe(id)}, which nothing looks up`),
      `\nWritten: ${safe(path)}`,
      renderSteps(next(plan, review?.path, path, io), io.terminal),
    ].join("\n"),
  );
  return EXIT.ok;
}

/** The signer's next steps: by id in the account that has the plan, otherwise with the files handed over. */
function next(
  { document, path }: Found<"plan">,
  review: string | null | undefined,
  approval: string,
  { env }: Io,
): NextStep[] {
  if (referenceTo("plan", document.plan_id, path, env) === document.plan_id) {
    const argv = ["aegis", "sign", document.plan_id, "--approval", approval];
    return [{ who: "the signer, in this account", argv }];
  }
  const called = path === null ? `${document.plan_id}.json` : basename(path);
  const documents = ["--plan", called, "--policy", policyBeside(document.plan_id, path)];
  const reviewed = typeof review === "string" ? ["--review", basename(review)] : [];
  const argv = ["aegis", "sign", ...documents, ...reviewed, "--approval", basename(approval)];
  return [handOver([approval]), { who: "the signer, there", argv }];
}

/** The name of the plan's policy result: `x.policy` next to `x.plan` if it exists, otherwise its original name. */
function policyBeside(planId: string, plan: string | null): string {
  const made = `${planId}.policy.json`;
  if (plan === null) return made;
  const alike = plan.replace(/\.(?:plan|json)$/, "");
  const found = [`${alike}.policy`, `${alike}.policy.json`].find((file) => existsSync(file));
  return found === undefined ? made : basename(found);
}
