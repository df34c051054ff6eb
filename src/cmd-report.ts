import { resolve } from "node:path";
import { type ArgsSpec, defineSubcommand, type Io, type Values } from "./command.ts";
import { assertNotInput } from "./doc-store.ts";
import { AegisError, EXIT } from "./errors.ts";
import { type BareKeys, bareKeys } from "./key-trusted-keys.ts";
import { SYSTEM } from "./paths.ts";
import { makeReport, type PolicyReport } from "./report.ts";
import type { ReportAdvice } from "./report-advice.ts";
import { type ReadPlan, readPlan } from "./report-plans.ts";
import { renderReport } from "./report-view.ts";
import { writeTyped } from "./sys-typed-file.ts";
import { safe } from "./terminal.ts";

const REPORT_ARGS = {
  plans: {
    type: "positional",
    required: false,
    multiple: true,
    complete: "document",
    description: "signed plans to read: path, id, latest, or -",
  },
  "execution-plan": {
    type: "string",
    multiple: true,
    valueHint: "file",
    description: "the same, as a flag",
  },
  "execution-public-key-hex": {
    type: "string",
    multiple: true,
    valueHint: "hex",
    description: "a signer's key",
  },
  "approval-public-key-hex": {
    type: "string",
    multiple: true,
    valueHint: "hex",
    description: "an approver's key",
  },
  out: { type: "string", valueHint: "file", description: "write the report here, as JSON" },
  lm: {
    type: "string",
    valueHint: "model",
    description: "a model that words the advice; else none is asked",
  },
  "api-base": { type: "string", valueHint: "url", description: "its endpoint; else AEGIS_AI_BASE_URL" },
  "api-key": {
    type: "string",
    valueHint: "key",
    description: "its key: others can see it; better AEGIS_AI_API_KEY",
  },
  "skip-model": { type: "boolean", description: "leave the model's wording out" },
  "skip-dspy": { type: "boolean", description: "the older name of --skip-model" },
  "allow-unverified-execution-signature": {
    type: "boolean",
    description: "for fixtures only: take plans that don't verify too, and mark them",
  },
} as const satisfies ArgsSpec;
type ReportValues = Values<typeof REPORT_ARGS>;

/** `aegis policy report`: patterns in signed plans. Advisory only: it reads, verifies and counts. */
export const policyReport = defineSubcommand({
  name: "policy report",
  description:
    "Report, advisory only, what recurs in signed plans and their approvals, and which tests that suggests.",
  args: REPORT_ARGS,
  async run(values, io) {
    const keys = keysOf(values);
    const settings = await modelOf(values, io);
    const plans = await readPlans(values, keys, io);
    const out = values.out === undefined ? null : resolve(values.out);
    if (out !== null) assertNotInput(out, plans);

    const report = makeReport(plans);
    let advice: ReportAdvice | null = null;
    let note = "no model was asked";
    if (settings !== null) {
      try {
        const { askAdvice } = await import("./report-advice.ts");
        io.note(`asking ${settings.model} at ${settings.baseUrl.host}`);
        advice = await askAdvice(report, settings, new AbortController().signal);
        note = "text by a model: not verified, not reproducible, never a reason to change anything";
      } catch (error) {
        if (!(error instanceof AegisError)) throw error;
        note = `the model gave no advice: ${safe(error.message)}`;
        io.note(`warning: ${note}; the rest of the report is unaffected`);
      }
    }
    const document = { ...report, dspy_analysis: advice, dspy_note: note };
    if (out !== null) writeTyped(out, `${JSON.stringify(document, null, 2)}\n`);
    io.result({ policy_report: document, path: out }, render(report, advice, out, io));
    return EXIT.ok;
  },
});

function render(report: PolicyReport, advice: ReportAdvice | null, out: string | null, io: Io): string {
  const text = renderReport(report, advice, io.terminal);
  return out === null ? text : `${text}\n\nWritten: ${safe(out)}`;
}

/** @throws AegisError `usage` without a signer's key, or with a key in both roles; `invalid_key` */
function keysOf(values: ReportValues): BareKeys {
  const keys = { execution: values["execution-public-key-hex"], approval: values["approval-public-key-hex"] };
  if (keys.execution.length === 0 && !values["allow-unverified-execution-signature"]) {
    throw new AegisError(
      "usage",
      "no key to verify the plans with",
      `Give --execution-public-key-hex <hex>, and --approval-public-key-hex <hex> for each approver. A host's keys are in ${SYSTEM.trustedKeys}.`,
    );
  }
  const trust = bareKeys(keys);
  const both = trust.find(({ role, publicKeyHex }) =>
    trust.some((other) => other.publicKeyHex === publicKeyHex && other.role !== role),
  );
  if (both !== undefined) {
    throw new AegisError(
      "usage",
      `key ${both.publicKeyHex.slice(0, 16)}… is given both as a signer's and as an approver's key`,
    );
  }
  return keys;
}

async function readPlans(values: ReportValues, keys: BareKeys, io: Io): Promise<ReadPlan[]> {
  const references = [...values.plans, ...values["execution-plan"]];
  if (references.length === 0) {
    throw new AegisError(
      "usage",
      "name at least one signed plan",
      "Type: aegis policy report <file>… --execution-public-key-hex <hex>",
    );
  }
  if (references.filter((reference) => reference === "-").length > 1) {
    throw new AegisError("usage", "only one plan can come from standard input");
  }
  const plans: ReadPlan[] = [];
  for (const reference of references) {
    const plan = await readPlan(reference, keys, values["allow-unverified-execution-signature"], io);
    if (plan.problem !== null) {
      io.note(
        `UNVERIFIED: ${safe(reference)}: ${safe(plan.problem)}. The report marks it; it proves nothing.`,
      );
    }
    plans.push(plan);
  }
  return plans;
}

/** The model to ask; null if none is named or it is skipped. */
async function modelOf(values: ReportValues, io: Io) {
  const { lm, "api-base": apiBase, "api-key": apiKey } = values;
  if (apiKey !== undefined) {
    io.note(
      "warning: every user of this host can read a key given by --api-key; set AEGIS_AI_API_KEY instead",
    );
  }
  if (values["skip-model"] || values["skip-dspy"]) return null;
  if (lm === undefined) {
    if (apiBase === undefined && apiKey === undefined) return null;
    throw new AegisError("usage", "--api-base and --api-key need a model", "Add --lm <model>.");
  }
  const { adviceSettings } = await import("./report-advice.ts");
  return adviceSettings({ lm, apiBase, apiKey }, io.env);
}
