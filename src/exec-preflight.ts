import { canonicalJson, type Json, parseCanonical, sha256Hex } from "./canonical.ts";
import { type ExecutionPlan, parseDocument } from "./doc.ts";
import { isLegacy } from "./doc-legacy.ts";
import type { Host, OperationPlan } from "./doc-plan.ts";
import type { Ecosystem } from "./eco.ts";
import { isAllowedArgv } from "./eco-argv.ts";
import type { Grammars } from "./eco-table.ts";
import { AegisError } from "./errors.ts";
import { type Approver, checkControls, MAX_LIFETIME_MINUTES } from "./exec-approval.ts";
import { CheckSequence, SUBMISSION_CHECKS } from "./exec-checks.ts";
import { checkHashes, checkPolicy } from "./exec-embedded.ts";
import { verifyDocument } from "./key-sign.ts";
import { checkSigner, findSigner, type Trust } from "./key-trust.ts";
import type { TrustedKey } from "./key-trusted-keys.ts";
import type { LoadedPolicyConfig } from "./policy-config.ts";
import { showArgv } from "./terminal.ts";

const MINUTE = 60_000;

/** What the checks know besides the document. Null means that the caller can't know. */
export interface PreflightContext {
  trust: Trust;
  now: Date;
  host: Host;
  config: Pick<LoadedPolicyConfig, "config" | "hash">;
  /** When Aegis was installed: setting the clock back must not revive older plans. */
  installedAt: Date | null;
  /** Time of the newest event in the audit log. */
  newestAudited: Date | null;
  /** Says what of a plan was used before, or returns null. Read-only: it uses nothing up. */
  usedBefore: ((execution: ExecutionPlan) => string | null) | null;
  /** Other grammars than this program's own, for tests. */
  grammars?: Grammars | undefined;
}

/** An execution plan that has passed every check up to planning again. */
export interface Submission {
  execution: ExecutionPlan;
  /** SHA-256 of its canonical JSON, signature included. */
  hash: string;
  /** The verified key; `execution.signer_identity` is its name if it has one. */
  executionKey: TrustedKey;
}

/**
 * The checks of a submission alone (exec-checks.ts), in order; throws the error of the first that fails. Calls `signed` once
 * the signature is verified: later refusals may name the signer and ids. Use is checked before lifetime, so that the owner of
 * a plan that ran and has expired is told that it ran.
 * @throws AegisError `not_canonical`, `legacy_plan`, `invalid_document`; errors of the checks below
 */
export function verifySubmission(
  text: string,
  context: PreflightContext,
  signed: (execution: ExecutionPlan, key: TrustedKey) => void = () => {},
  checks = new CheckSequence(SUBMISSION_CHECKS),
): Submission {
  const tree = checks.make("canonical", () => parseCanonical(text));
  const execution = checks.make("schema", () => readExecution(tree));
  const executionKey = checks.make("signature", () => checkSignature(execution, context.trust, context.now));
  signed(execution, executionKey);
  checks.make("not-used-before", () => checkUnused(execution, context));
  checks.make("lifetime", () => checkLifetime(execution, context));
  checks.make("host", () => checkHost(execution.operation_plan, context.host));
  checks.make("boot", () => checkBoot(execution.operation_plan, context.host));
  checks.make("hashes", () => checkHashes(execution));
  checks.make("policy", () => checkPolicy(execution, context.config, context.grammars));
  return { execution, hash: sha256Hex(text), executionKey };
}

/**
 * The executor's checks that need neither planning nor the host's records; `aegis sign` makes them on its own result.
 * Returns the verified approvers.
 * @throws AegisError as {@link verifySubmission}, {@link checkArgv}, checkControls
 */
export function preflight(text: string, ecosystem: Ecosystem, context: PreflightContext): Approver[] {
  const checks = new CheckSequence([...SUBMISSION_CHECKS, "argv", "controls"]);
  const submission = verifySubmission(text, context, undefined, checks);
  checks.make("argv", () => checkArgv(submission.execution, ecosystem));
  return checks.make("controls", () =>
    checkControls(submission, { ...context, config: context.config.config }),
  );
}

/**
 * Parses an execution plan. Its schema allows no unknown field, so the parsed document has the tree's hash.
 * @throws AegisError `legacy_plan`, `invalid_document`
 */
export function readExecution(tree: Json): ExecutionPlan {
  if (isLegacy(tree)) {
    throw new AegisError(
      "legacy_plan",
      "this execution plan was made by an older tool: it binds no host, transaction or policy configuration",
      "Plan, decide and sign again with aegis.",
    );
  }
  return parseDocument("execution", tree);
}

/**
 * Proves who signed: a trusted execution key, valid now, under its owner's name.
 * @throws AegisError `key_untrusted`, `signature_invalid`
 */
export function checkSignature(execution: ExecutionPlan, trust: Trust, now: Date): TrustedKey {
  const key = findSigner(trust, "execution", execution, now);
  if (!verifyDocument(execution, key.publicKeyHex)) {
    throw new AegisError(
      "signature_invalid",
      `the signature is not valid: the execution plan is not what key ${execution.signature.key_id} signed`,
      "Sign again; a signed plan can't be edited.",
    );
  }
  checkSigner(key, execution.signer_identity);
  return key;
}

/**
 * Proves that neither the plan nor any of its approvals was used before: each allows one run.
 * @throws AegisError `replay`
 */
function checkUnused(execution: ExecutionPlan, { usedBefore }: Pick<PreflightContext, "usedBefore">): void {
  const used = usedBefore === null ? null : usedBefore(execution);
  if (used === null) return;
  throw new AegisError("replay", used, "A signed plan runs once. Plan, decide and sign again.", {
    used: true,
  });
}

/**
 * Proves that the plan is valid now, and that the clock has not been set back.
 * @throws AegisError `not_yet_valid`, `expired`, `clock_behind`
 */
export function checkLifetime(
  execution: ExecutionPlan,
  context: Pick<PreflightContext, "now" | "config" | "installedAt" | "newestAudited">,
): void {
  const { now, config, installedAt, newestAudited } = context;
  const again = "Sign again: aegis sign --help";
  const created = Date.parse(execution.created_at);
  const expires = Date.parse(execution.expires_at);
  const longest = Math.min(config.config.freshness.execution_minutes, MAX_LIFETIME_MINUTES);
  if (created > now.getTime()) {
    throw new AegisError(
      "not_yet_valid",
      `it was signed at ${execution.created_at}, which is in the future (now ${now.toISOString()})`,
      "Compare the clocks of both machines.",
    );
  }
  if (expires <= now.getTime()) {
    throw new AegisError("expired", `the execution plan expired at ${execution.expires_at}`, again);
  }
  if (expires - created > longest * MINUTE) {
    throw new AegisError(
      "expired",
      `it was signed to last until ${execution.expires_at}, longer than the ${longest} minutes allowed`,
      `Sign again with --expires-in-minutes ${longest} or less.`,
    );
  }
  if (Date.parse(execution.policy_result.evidence_fresh_until) < created) {
    throw new AegisError("expired", "its evidence was out of date when it was signed", "Plan again.");
  }
  if (installedAt !== null && created < installedAt.getTime()) {
    throw new AegisError("expired", "it was signed before aegis was installed on this host", again);
  }
  if (newestAudited !== null && now < newestAudited) {
    throw new AegisError(
      "clock_behind",
      `the clock says ${now.toISOString()}, but the audit log has an event of ${newestAudited.toISOString()}`,
      "Correct the clock; see timedatectl.",
    );
  }
}

/**
 * Proves that the plan was made on this host.
 * @throws AegisError `wrong_host`
 */
export function checkHost({ host: planned }: OperationPlan, host: Host): void {
  const fields = ["machine_id_hash", "hostname", "os_id", "os_version", "architecture"] as const;
  const other = fields.find((field) => planned[field] !== host[field]);
  if (other === undefined) return;
  throw new AegisError(
    "wrong_host",
    `the plan was made on ${planned.hostname}, this is ${host.hostname} (${other} differs)`,
    "Plan on the host to be changed, and sign that plan.",
    { field: other },
  );
}

/**
 * Proves that the host has not booted since the plan was made, whatever the clock says. Made after the host check, since
 * another host's boot id means nothing. Not by btime in /proc/stat, which in a container is the outer machine's and changes
 * when the clock is set.
 * @throws AegisError `expired`
 */
export function checkBoot(plan: OperationPlan, host: Host): void {
  const planned = plan.host.boot_id;
  if (planned !== undefined && planned === host.boot_id) return;
  throw new AegisError(
    "expired",
    planned === undefined
      ? "its plan was made by an older aegis and does not name the host's boot"
      : "its plan was made before this host last booted",
    "Plan, decide and sign again.",
  );
}

/**
 * Proves that the signed argv follows from the plan, and that it is on the allowlist.
 * @throws AegisError `argv_mismatch`
 */
export function checkArgv(execution: ExecutionPlan, ecosystem: Ecosystem): void {
  const derived = ecosystem.signedArgv(execution.operation_plan);
  if (canonicalJson(derived) !== canonicalJson(execution.argv)) {
    throw new AegisError(
      "argv_mismatch",
      `the signed command does not follow from the plan: ${showArgv(execution.argv)}`,
      `It should be: ${showArgv(derived)}`,
    );
  }
  if (!isAllowedArgv(execution.argv)) {
    throw new AegisError(
      "argv_mismatch",
      `this command is not on the allowlist: ${showArgv(execution.argv)}`,
    );
  }
}
