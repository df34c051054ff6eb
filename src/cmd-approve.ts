import { existsSync } from "node:fs";
import { basename } from "node:path";
import { recordUserEvent } from "./audit-log.ts";
import { subjectDetails } from "./audit-subject.ts";
import { renderApproval, renderQuestion, snapshotText } from "./cmd-approve-view.ts";
import { readAndDecide } from "./cmd-decide.ts";
import { writeAll } from "./cmd-io.ts";
import { handOver, type NextStep, renderSteps } from "./cmd-next.ts";
import { minutesOf, noteOtherId, noteShorter, requireKey, signerName } from "./cmd-sign-args.ts";
import { type ArgsSpec, defineSubcommand, type Io, type Values } from "./command.ts";
import { type Found, referenceTo, saveDocument } from "./doc-store.ts";
import { loadEcosystem } from "./eco-load.ts";
import { AegisError, EXIT, type ExitStatus } from "./errors.ts";
import { APPROVAL_MINUTES, MAX_LIFETIME_MINUTES, makeApproval } from "./exec-approval.ts";
import { assertPermitted } from "./exec-embedded.ts";
import { assertFresh } from "./exec-plan.ts";
import { acceptedSnapshot } from "./exec-snapshot-id.ts";
import { substanceOf } from "./exec-substance.ts";
import { checkSigner, findKey, userTrust, withOwnKey } from "./key-trust.ts";
import { unlockSecret } from "./key-unlock.ts";
import { isLong, page } from "./sys-pager.ts";
import { openScreen, type Screen } from "./sys-tty.ts";
import { MIN_WIDTH, safe, type Terminal, terminalOf } from "./terminal.ts";

/** Characters of the plan's hash that a person types. */
const CONFIRM_LENGTH = 8;

const APPROVE_ARGS = {
  plan: { type: "string", required: true, valueHint: "plan", description: "path, full id, or -" },
  review: { type: "string", valueHint: "review", description: "a review of this plan" },
  reason: { type: "string", required: true, valueHint: "why", description: "why this change is right" },
  key: {
    type: "string",
    valueHint: "file",
    description: "secret key file that approves; else ~/.config/aegis/approval-key",
  },
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
  "expires-in-minutes": { type: "string", valueHint: "n", description: "lifetime; 60, at most 1440" },
  confirm: {
    type: "string",
    valueHint: "hash",
    description: "the plan's whole hash, where a human who has read the plan elsewhere has no terminal here",
  },
  out: { type: "string", valueHint: "file", description: "write the approval here instead" },
} as const satisfies ArgsSpec;

/** `aegis sign approve`: a second person reads a plan and signs an approval, on any machine. */
export const signApprove = defineSubcommand({
  name: "sign approve",
  description: "Approve a plan as a second person: shows what it does, asks, and writes a detached approval.",
  args: APPROVE_ARGS,
  run: (values, io) => approve(values, io, openScreen),
});

/**
 * Reads the plan once, decides about it again, shows it on the terminal, asks, and signs. With `--confirm` it does not ask
 * and shows the plan on stderr. `open` opens the terminal, or returns null if there is none.
 * @throws AegisError `expired`, `nothing_to_do`, `policy_denied`, `refused`; errors of loading documents and keys
 */
export async function approve(
  values: Values<typeof APPROVE_ARGS>,
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
  const secret = await unlockSecret(
    "approval",
    { file: values.key, hex: values["approval-secret-key-hex"] },
    io.env,
    io.note,
  );
  const key = requireKey(secret, "approval", values["key-id"]);
  if (values["key-id"] !== undefined) noteOtherId(key, "--key-id", io.note);
  const trust = withOwnKey(userTrust({ execution: [], approval: [] }, io.env), "approval", key);
  const signer = signerName(values.signer, trust, key, "--signer");
  // Checked first, so that nobody reads a plan and types its hash for an approval that would not count.
  checkSigner(findKey(trust, "approval", key.keyId, now), signer);

  const view = (terminal: Terminal) => ({
    screen: renderApproval(plan.document, policy, config, terminal),
    question: renderQuestion(plan.document, policy, argv, terminal, snapshotText(policy, config, accepted)),
  });
  if (values.confirm === undefined) await askOn(open(), view, plan.hash, io);
  else {
    const { screen, question } = view(terminalOf(process.stderr, io.env));
    io.note(`${screen}\n\n${question}`);
    if (values.confirm !== plan.hash)
      throw new AegisError("refused", "--confirm is not this plan's full hash; nothing was approved");
  }

  noteShorter(asked, MAX_LIFETIME_MINUTES, io.note);
  const approval = makeApproval({
    planHash: plan.hash,
    substance: substanceOf(plan.document, policy),
    acceptedSnapshots: accepted,
    ...{ signer, reason: values.reason, key, now, minutes },
  });
  // Logged before it is written: without a log entry there is no approval.
  recordUserEvent(io.env, {
    kind: "approval_signed",
    actor: signer,
    plan_id: plan.document.plan_id,
    argv,
    decision: policy.decision,
    details: {
      approval_id: approval.approval_id,
      plan_hash: plan.hash,
      key_id: key.keyId,
      reason: approval.reason,
      accepted_snapshots: accepted,
      expires_at: approval.expires_at,
      ...subjectDetails(plan.document),
    },
  });
  const path = saveDocument("approval", approval, io.env, values.out);
  io.result(
    { approval, path, public_key_hex: key.publicKeyHex },
    [
      `Approved by ${safe(signer)} (key ${safe(key.keyId)}) until ${approval.expires_at}`,
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

/**
 * Shows the plan, through a pager if it is longer than the terminal, then asks. The first characters of the hash are enough
 * from a person who has just read the plan on this screen. A person who read it elsewhere gives the full hash (--confirm),
 * since two plans whose hashes begin alike are quickly made.
 * @throws AegisError `refused` unless the answer is the beginning of the plan's hash
 */
async function askOn(
  found: Screen | null,
  view: (terminal: Terminal) => { screen: string; question: string },
  planHash: string,
  { env }: Io,
): Promise<void> {
  if (found === null) {
    throw new AegisError(
      "refused",
      "there is no terminal to ask on; nothing was approved",
      "Approve on a terminal. A person who has read the plan elsewhere may add --confirm with its full hash.",
    );
  }
  const { columns, rows, output } = found;
  if (columns && columns < MIN_WIDTH) {
    throw new AegisError(
      "refused",
      `a terminal of ${columns} columns wraps lines in misleading places; nothing was approved`,
      `Make it at least ${MIN_WIDTH} columns wide.`,
    );
  }
  const terminal = terminalOf({ isTTY: true, columns: columns ?? 80, rows: rows ?? 0 }, env);
  const { screen, question } = view(terminal);
  const isPaged =
    isLong(`${screen}\n\n${question}`, terminal, 2) && (await page(screen, terminal, env, output));
  writeAll(output, `${isPaged ? "" : `${screen}\n\n`}${question}\n`);
  const answer = found.ask(`Type the first ${CONFIRM_LENGTH} characters of the plan's hash to approve it: `);
  if (answer === planHash.slice(0, CONFIRM_LENGTH)) return;
  throw new AegisError(
    "refused",
    answer === null
      ? "the answer was incomplete; nothing was approved"
      : "that is not the beginning of this plan's hash; nothing was approved",
  );
}
