import { basename } from "node:path";
import { canonicalHash } from "./canonical.ts";
import { handOver, type NextStep, renderSteps } from "./cmd-next.ts";
import {
  minutesOf,
  noteOtherId,
  noteShorter,
  requestNumber,
  requireKey,
  signerName,
} from "./cmd-sign-args.ts";
import { signExecution } from "./cmd-sign-execution.ts";
import { type ArgsSpec, defineSubcommand, type Io, type Values } from "./command.ts";
import type { AiReview, Approval, ControlProof, ExecutionPlan, Hashed, PolicyResult } from "./doc.ts";
import { documentPath, type Found, referenceTo, resolveDocument, withPlanReference } from "./doc-store.ts";
import { AegisError, EXIT } from "./errors.ts";
import { APPROVAL_MINUTES, makeApproval } from "./exec-approval.ts";
import { mostMinutes } from "./exec-plan.ts";
import type { FoundSnapshot } from "./exec-snapshot.ts";
import { isLookedUp, knownOf, snapshotName, snapshotProof } from "./exec-snapshot-id.ts";
import type { SecretKey } from "./key.ts";
import { type Trust, userTrust, withOwnKey } from "./key-trust.ts";
import { unlockSecret } from "./key-unlock.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { ADMIN_GROUP, groupId } from "./sys-state.ts";
import { argvLines, safe } from "./terminal.ts";

const SIGN_ARGS = {
  document: {
    type: "positional",
    required: false,
    complete: "file",
    description: "the plan: its path, its full id, or -",
  },
  plan: { type: "string", valueHint: "plan", description: "the plan, as a flag" },
  request: {
    type: "string",
    valueHint: "number",
    description: "an approved request instead: its plan, decision and approvals",
  },
  policy: { type: "string", valueHint: "result", description: "policy result; else the plan's own, by id" },
  review: {
    type: "string",
    valueHint: "review",
    description: "the review the policy result took into account; else the plan's own, by id",
  },
  key: {
    type: "string",
    valueHint: "file",
    description: "secret key file that signs; else ~/.config/aegis/execution-key",
  },
  "secret-key-hex": { type: "string", valueHint: "hex", description: "the secret itself: others can see it" },
  "key-id": { type: "string", valueHint: "id", description: "the key's id in trusted-keys.toml" },
  signer: { type: "string", valueHint: "name", description: "who signs; else the name of the key" },
  approval: { type: "string", multiple: true, valueHint: "file", description: "a detached approval" },
  "approval-public-key-hex": {
    type: "string",
    multiple: true,
    valueHint: "hex",
    description: "public key of an approver that this machine does not trust yet",
  },
  "approval-reason": { type: "string", valueHint: "why", description: "approve in the same command" },
  "approval-key": {
    type: "string",
    valueHint: "file",
    description: "secret key file that approves; else ~/.config/aegis/approval-key",
  },
  "approval-secret-key-hex": {
    type: "string",
    valueHint: "hex",
    description: "the approver's secret itself: others can see it",
  },
  "approval-key-id": { type: "string", valueHint: "id", description: "the approval key's id" },
  approver: { type: "string", valueHint: "name", description: "who approves in the same command" },
  "snapshot-id": {
    type: "string",
    multiple: true,
    valueHint: "[provider:]id",
    description:
      "a snapshot made after the plan; provider btrfs, snapper, lvm or zfs, which the executor looks up",
  },
  "expires-in-minutes": { type: "string", valueHint: "n", description: "lifetime, as far as policy allows" },
  out: { type: "string", valueHint: "file", description: "write the execution plan here instead" },
  socket: { type: "string", default: SYSTEM.socket, valueHint: "path", description: "the executor's socket" },
} as const satisfies ArgsSpec;
type SignValues = Values<typeof SIGN_ARGS>;

/** `aegis sign <plan>`: builds, checks and signs an execution plan. */
export const sign = defineSubcommand({
  name: "sign",
  description: "Build an execution plan from a plan and its policy result, and sign it.",
  args: SIGN_ARGS,
  async run(values, io) {
    const now = new Date();
    const minutes = minutesOf(values["expires-in-minutes"]);
    const documents = await readDocuments(values, io);
    const key = requireKey(
      await unlockSecret("signing", { file: values.key, hex: values["secret-key-hex"] }, io.env, io.note),
      "execution",
      values["key-id"],
    );
    if (values["key-id"] !== undefined) noteOtherId(key, "--key-id", io.note);
    let trust = withOwnKey(
      userTrust({ execution: [], approval: values["approval-public-key-hex"] }, io.env),
      "execution",
      key,
    );
    const signer = signerName(values.signer, trust, key, "--signer");
    const approvals = [...documents.approvals, ...(await readApprovals(values.approval, io))];
    const approver = await approverOf(values, io);
    if (approver !== null) {
      if (values["approval-key-id"] !== undefined) noteOtherId(approver.key, "--approval-key-id", io.note);
      trust = withOwnKey(trust, "approval", approver.key);
      approvals.push(approveNow(values, approver, trust, documents.plan.hash, now));
    }
    const config = loadPolicyConfig(io.env);
    noteShorter(minutes, mostMinutes(config.config), io.note);
    const { execution, snapshots, path } = await signExecution(
      {
        ...{ plan: documents.plan, policy: documents.policy, review: documents.review, approvals },
        proofs: values["snapshot-id"].map((id) => snapshotProof(id, now)),
        ...{ signer, key, minutes, config, trust, now },
      },
      io,
      values.out,
    ).catch((error) => {
      throw withPlanReference(error, documents.plan, io.env);
    });
    io.result(
      { execution_plan: execution, execution_plan_hash: canonicalHash(execution), path },
      [
        `Signed by ${safe(signer)} (key ${safe(key.keyId)}) for ${safe(execution.operation_plan.host.hostname)}`,
        ...argvLines(execution.argv, io.terminal),
        `Decision    ${execution.policy_decision}`,
        ...approvals.map((one) => `Approved by ${safe(one.signer)}: ${safe(one.reason)}`),
        ...execution.control_proofs.map((proof) => showSnapshot(proof, execution, snapshots)),
        `Good until  ${execution.expires_at}`,
        `\nWritten: ${safe(path)}`,
        renderSteps(next(execution.execution_plan_id, path, io), io.terminal),
      ].join("\n"),
    );
    return EXIT.ok;
  },
});

/** The next steps: apply if this user may submit, otherwise hand the file to somebody who may. */
function next(id: string, path: string, { env }: Io): NextStep[] {
  const gid = groupId(ADMIN_GROUP);
  const mayApply =
    process.geteuid?.() === 0 || (gid !== null && process.getgroups?.().includes(gid) === true);
  if (mayApply) {
    const reference = path === documentPath("execution", id, env) ? id : path;
    return [{ who: "you", argv: ["aegis", "apply", reference] }];
  }
  return [
    handOver([path]),
    { who: `a member of ${ADMIN_GROUP}, there`, argv: ["aegis", "apply", basename(path)] },
  ];
}

interface Documents {
  plan: Found<"plan">;
  policy: Hashed<PolicyResult>;
  review: Hashed<AiReview> | null;
  /** Those of a request. */
  approvals: Approval[];
}

/** The plan, its policy result and the review behind that: as named, else by the plan's id. */
async function readDocuments(values: SignValues, io: Io): Promise<Documents> {
  const named = [values.plan, values.document, values.request].filter((one) => one !== undefined);
  if (named.length !== 1) {
    throw new AegisError("usage", "name one plan, or one request", "Type: aegis sign <plan>");
  }
  if (values.request !== undefined) return requested(values, values.request, io);
  const references = [values.document, values.plan, values.policy, values.review, ...values.approval];
  if (references.filter((reference) => reference === "-").length > 1) {
    throw new AegisError("usage", "only one document can come from standard input");
  }
  const exact = { exact: true };
  const plan = await resolveDocument("plan", values.plan ?? values.document ?? "", io, exact);
  const own = (kind: "policy" | "review") => documentPath(kind, plan.document.plan_id, io.env);
  const policy = await resolveDocument("policy", values.policy ?? own("policy"), io, exact).catch((error) => {
    throw values.policy === undefined ? undecided(error, plan, io) : error;
  });
  const wantsReview = values.review !== undefined || policy.document.ai_review_hash !== null;
  const review = wantsReview
    ? await resolveDocument("review", values.review ?? own("review"), io, exact)
    : null;
  return { plan, policy, review, approvals: [] };
}

/**
 * The documents of an approved request, planned again where they are out of date.
 * @throws AegisError `usage`; `refused` for one that has ended; as signableDocuments
 */
async function requested(values: SignValues, typed: string, io: Io): Promise<Documents> {
  if (values.policy !== undefined || values.review !== undefined) {
    throw new AegisError(
      "usage",
      "a request has its own policy result and review",
      "Leave --policy and --review out.",
    );
  }
  const [{ pending }, { readRequest }, { signableDocuments }] = await Promise.all([
    import("./cmd-requests.ts"),
    import("./front-requests.ts"),
    import("./cmd-plan-again.ts"),
  ]);
  const found = pending(await readRequest(values.socket, requestNumber(typed)));
  const documents = await signableDocuments(found, io, new Date(), null);
  return { ...documents, plan: { ...documents.plan, text: "", path: null } };
}

function showSnapshot(
  proof: ControlProof,
  execution: ExecutionPlan,
  found: readonly FoundSnapshot[] | null,
): string {
  const one = found?.find(
    ({ proof_type, value }) => proof_type === proof.proof_type && value === proof.value,
  );
  const facts =
    one === undefined ? knownOf(proof, execution) : `found: of ${safe(one.of)}, made ${one.created_at}`;
  return `Snapshot    ${safe(snapshotName(proof))} (${facts})`;
}

function undecided(error: unknown, { document, path }: Found<"plan">, io: Io): unknown {
  if (!(error instanceof AegisError) || error.code !== "not_found") return error;
  const plan = referenceTo("plan", document.plan_id, path, io.env);
  return new AegisError(
    "not_found",
    "there is no policy result for this plan yet",
    `Type: aegis policy ${plan}; or give its file: --policy <file>`,
  );
}

async function readApprovals(references: readonly string[], io: Io): Promise<Approval[]> {
  const approvals: Approval[] = [];
  for (const reference of references) {
    approvals.push((await resolveDocument("approval", reference, io, { exact: true })).document);
  }
  return approvals;
}

/** The key and reason of an approval in the same command, or null if no --approval-reason is given. */
async function approverOf(values: SignValues, io: Io): Promise<{ key: SecretKey; reason: string } | null> {
  const file = values["approval-key"];
  const hex = values["approval-secret-key-hex"];
  const reason = values["approval-reason"];
  if (reason === undefined) {
    if (file ?? hex ?? values.approver ?? values["approval-key-id"]) {
      throw new AegisError("usage", "an approval needs a reason", "Add: --approval-reason <why>");
    }
    return null;
  }
  const secret = await unlockSecret("approval", { file, hex }, io.env, io.note);
  return { key: requireKey(secret, "approval", values["approval-key-id"], "--approval-key <file>"), reason };
}

function approveNow(
  values: SignValues,
  { key, reason }: { key: SecretKey; reason: string },
  trust: Trust,
  planHash: string,
  now: Date,
): Approval {
  // Without a name the approval goes under the key's id, never under the signer's name: nobody approves what they sign.
  const known = trust.find(({ publicKeyHex }) => publicKeyHex === key.publicKeyHex)?.name;
  const signer = values.approver ?? known ?? key.name ?? `key ${key.keyId}`;
  // Whoever approves in this command has the ids that it names before them.
  const proofs = values["snapshot-id"].map((id) => snapshotProof(id, now));
  const acceptedSnapshots = proofs.filter((proof) => !isLookedUp(proof)).map(({ value }) => value);
  return makeApproval({ planHash, acceptedSnapshots, signer, reason, key, now, minutes: APPROVAL_MINUTES });
}
