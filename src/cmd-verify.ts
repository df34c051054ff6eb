import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { parseJson } from "./canonical.ts";
import { renderSteps } from "./cmd-next.ts";
import { defineSubcommand, type Io } from "./command.ts";
import type { ExecutionPlan } from "./doc.ts";
import { isLegacy, type LegacyExecution } from "./doc-legacy.ts";
import { type Found, MAX_DOCUMENT_BYTES, resolveDocument } from "./doc-store.ts";
import { AegisError, EXIT } from "./errors.ts";
import { checkControls } from "./exec-approval.ts";
import { checkHashes, checkPolicy } from "./exec-embedded.ts";
import { checkLifetime, checkSignature } from "./exec-preflight.ts";
import { knownOf, snapshotName } from "./exec-snapshot-id.ts";
import { verifyDocument } from "./key-sign.ts";
import { type Trust, userTrust } from "./key-trust.ts";
import { type LoadedPolicyConfig, loadPolicyConfig } from "./policy-config.ts";
import { readFileLimited } from "./sys-files.ts";
import { argvLines, paint, safe, type Terminal } from "./terminal.ts";

/** `aegis sign verify`: checks everything about a signed plan that can be checked away from its host. */
export const signVerify = defineSubcommand({
  name: "sign verify",
  description: "Verify an execution plan offline: who signed and approved what, and until when.",
  args: {
    document: {
      type: "positional",
      required: false,
      complete: "document",
      description: "path, id, beginning of an id, latest, or -",
    },
    "execution-plan": { type: "string", valueHint: "file", description: "the execution plan, as a flag" },
    "public-key-hex": {
      type: "string",
      multiple: true,
      valueHint: "hex",
      description: "key that may sign; else the keys this host trusts",
    },
    "approval-public-key-hex": {
      type: "string",
      multiple: true,
      valueHint: "hex",
      description: "key that may approve; else the keys this host trusts",
    },
  },
  async run(values, io) {
    const { document, "execution-plan": flag } = values;
    const reference = document ?? flag;
    if (reference === undefined || (document !== undefined && flag !== undefined)) {
      throw new AegisError("usage", "name one execution plan", "Type: aegis sign verify <execution-plan>");
    }
    const trust = userTrust(
      { execution: values["public-key-hex"], approval: values["approval-public-key-hex"] },
      io.env,
    );
    const found = await readSigned(reference, io);
    if ("legacy" in found) {
      const key = verifyLegacy(found.legacy, trust);
      const id = found.legacy.execution_plan_id;
      io.result(
        { verified: true, legacy: true, execution_plan_id: id, key, expires_at: found.legacy.expires_at },
        [
          paint(
            io.terminal,
            "yellow",
            `The signature is valid (key ${safe(key)}), but this is a legacy plan (0.2.x format).`,
          ),
          `Execution plan ${safe(id)}, valid until ${safe(found.legacy.expires_at)}. It is never executed.`,
        ].join("\n"),
      );
      return EXIT.ok;
    }
    const report = verifyExecution(found.document, trust, loadPolicyConfig(io.env), new Date());
    io.result({ ...report, execution_plan_hash: found.hash }, render(found, report, io.terminal));
    return EXIT.ok;
  },
});

/** Reads the execution plan; also one in the 0.2.x format, which today's schemas reject. */
async function readSigned(
  reference: string,
  io: Io,
): Promise<Found<"execution"> | { legacy: LegacyExecution }> {
  const stdin = reference === "-" ? await io.readStdin() : "";
  try {
    return await resolveDocument("execution", reference, { env: io.env, readStdin: async () => stdin });
  } catch (error) {
    if (!(error instanceof AegisError) || error.code !== "invalid_document") throw error;
    const path = resolve(reference);
    if (reference !== "-" && !existsSync(path)) throw error;
    const tree = parseJson(
      reference === "-" ? stdin : readFileLimited(path, MAX_DOCUMENT_BYTES).toString("utf8"),
    );
    if (isLegacy(tree)) return { legacy: tree };
    throw error;
  }
}

/** The id of the trusted key that signed. The old format's ids were free text, so it tries every key. */
function verifyLegacy(legacy: LegacyExecution, trust: Trust): string {
  const key = trust.find(
    (one) => one.role === "execution" && !one.revoked && verifyDocument(legacy, one.publicKeyHex),
  );
  if (key !== undefined) return key.ids[0] ?? key.publicKeyHex;
  throw new AegisError(
    "signature_invalid",
    "no trusted key has signed this legacy plan",
    "Give the signer's key: --public-key-hex <hex>",
  );
}

/** Verifies a plan and returns its facts. @throws AegisError of the first check that fails */
function verifyExecution(execution: ExecutionPlan, trust: Trust, config: LoadedPolicyConfig, now: Date) {
  const executionKey = checkSignature(execution, trust, now);
  checkLifetime(execution, { now, config, installedAt: null, newestAudited: null });
  checkHashes(execution);
  const reproduced = reproducesPolicy(execution, config);
  const approvers = checkControls({ execution, executionKey }, { trust, now, config: config.config });
  return {
    verified: true,
    legacy: false,
    execution_plan_id: execution.execution_plan_id,
    operation_plan_id: execution.operation_plan_id,
    signer: execution.signer_identity,
    key: executionKey.ids[0] ?? executionKey.publicKeyHex,
    approvals: approvers.map(({ signer, key, hash }) => ({ signer, key, hash })),
    decision: execution.policy_decision,
    policy_reproduced: reproduced,
    host: execution.operation_plan.host.hostname,
    argv: execution.argv,
    expires_at: execution.expires_at,
  };
}

/** Whether this version and configuration reach the same decision; another machine's may have other rules. */
function reproducesPolicy(execution: ExecutionPlan, config: LoadedPolicyConfig): boolean {
  if (execution.policy_config_hash !== config.hash) return false;
  try {
    checkPolicy(execution, config);
    return true;
  } catch (error) {
    if (error instanceof AegisError && error.code === "evaluator_mismatch") return false;
    throw error;
  }
}

function render(
  { document: execution, path }: Found<"execution">,
  report: ReturnType<typeof verifyExecution>,
  terminal: Terminal,
): string {
  const reasons = execution.approvals.map(
    ({ signer, reason, expires_at }) => `Approved by ${safe(signer)}: ${safe(reason)} (until ${expires_at})`,
  );
  return [
    paint(terminal, "green", `Verified: execution plan ${report.execution_plan_id}`),
    `Signed by   ${safe(report.signer)} (key ${safe(report.key)}) at ${execution.created_at}`,
    ...reasons,
    ...execution.control_proofs.map(
      (proof) => `Snapshot    ${safe(snapshotName(proof))} (${knownOf(proof, execution)})`,
    ),
    ...argvLines(report.argv, terminal),
    `Host        ${safe(report.host)}`,
    `Decision    ${report.decision}${report.policy_reproduced ? ", reproduced here" : " (not reproducible here: other rules or configuration)"}`,
    `Good until  ${report.expires_at}`,
    renderSteps([{ who: "a member of aegis-admin", argv: ["aegis", "apply", path ?? "-"] }], terminal),
  ].join("\n");
}
