import { randomUUID } from "node:crypto";
import { canonicalJson, parseJson } from "./canonical.ts";
import { parseDocument, SCHEMA_VERSION } from "./doc.ts";
import { bringsBack } from "./doc-evidence.ts";
import { isFetched, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import type { Targets } from "./eco-grammar.ts";
import { assertOperation } from "./eco-load.ts";
import type { Planning } from "./eco-planning.ts";
import { type Grammars, TABLE } from "./eco-table.ts";
import { AegisError } from "./errors.ts";
import { withVulnerabilities } from "./osv.ts";
import { riskScore } from "./plan-risk.ts";
import { riskSignals } from "./plan-signals.ts";

/**
 * Makes a plan: what the operation would do to this host, without doing it. Everything except `plan_id` depends only on
 * the arguments and `planning`. If a target is always denied no command runs.
 * `content` is the text of the file that the request brings with it, for operations that take one.
 * @throws AegisError `usage` (operation, number of targets, content), `invalid_target`, `not_found`
 */
export async function makePlan(
  ecosystem: Ecosystem,
  operation: string,
  args: readonly string[],
  planning: Planning,
  content?: string,
): Promise<OperationPlan> {
  assertOperation(ecosystem, operation, args.length);
  assertContent(ecosystem, operation, content);
  const parsed = ecosystem.parseTargets(operation, args);
  const targets = content === undefined ? parsed : { ...parsed, content };
  const denied = targets.denied.length > 0;
  const findings = denied
    ? deniedFindings(ecosystem, operation)
    : await withVulnerabilities(ecosystem, await ecosystem.gather(operation, targets, planning), planning);
  return assemble(ecosystem, operation, targets, findings, planning);
}

/** @throws AegisError `usage` where an operation needs a file's text and has none, or has one and takes none */
function assertContent({ tool, withContent = [] }: Ecosystem, operation: string, content?: string): void {
  const takes = withContent.includes(operation);
  if (takes === (content !== undefined)) return;
  const what = takes ? "needs the file to write: --stanza <file>" : "takes no file";
  const hint = takes
    ? `Type: aegis plan ${tool} ${operation} <name> --stanza <file> --key <file>`
    : "Leave --stanza out.";
  throw new AegisError("usage", `${tool} ${operation} ${what}`, hint);
}

/** The text that a plan's request brought with it, for planning the same again. */
export function contentOfPlan({ tool, operation, repository }: OperationPlan, grammars: Grammars = TABLE) {
  const takes = grammars[tool]?.grammar.withContent?.includes(operation) === true;
  return takes ? (repository?.after ?? undefined) : undefined;
}

function assemble(
  ecosystem: Ecosystem,
  operation: string,
  { targets, denied, targetType }: Targets,
  { signals, ...findings }: Findings,
  planning: Planning,
): OperationPlan {
  const { tool } = ecosystem;
  const facts = {
    ...findings,
    tool,
    denied_targets: denied,
    // With no packages it may be an update, or unknown: assume it uses the network.
    network_access:
      denied.length === 0 &&
      !bringsBack({ tool, operation }) &&
      !findings.nothing_to_do &&
      findings.repository?.after !== null &&
      (findings.transaction.length === 0 || findings.transaction.some(isFetched)),
  };
  const undeclared = signals.find((signal) => !ecosystem.signals.includes(signal));
  if (undeclared !== undefined) {
    throw new AegisError("internal", `${tool} raises ${undeclared}, which its grammar does not list`);
  }
  const risk_signals = riskSignals(facts, signals);
  const plan: OperationPlan = {
    ...facts,
    schema_version: SCHEMA_VERSION,
    plan_id: randomUUID(),
    created_at: planning.now.toISOString(),
    operation,
    ecosystem: ecosystem.name ?? tool,
    target_type: targetType,
    target: targets.join(" "),
    targets,
    host: planning.host,
    packages_installed: namesOf(findings.transaction, "install"),
    packages_upgraded: namesOf(findings.transaction, "upgrade"),
    packages_removed: namesOf(findings.transaction, "remove"),
    packages_downgraded: namesOf(findings.transaction, "downgrade"),
    scripts_detected: findings.scripts.length > 0,
    risk_signals,
    ...riskScore({ ...findings, risk_signals }),
  };
  // Round-trips through text, so that the result is exactly what is written, read and hashed.
  return parseDocument("plan", parseJson(canonicalJson(plan)));
}

/**
 * Names of the packages with this action; `name:arch` if the name occurs for several architectures. The files of an image share one.
 */
function namesOf(transaction: readonly TransactionEntry[], action: TransactionEntry["action"]): string[] {
  const entries = transaction.filter((entry, at) => {
    const isSame = (other: TransactionEntry) =>
      other.name === entry.name &&
      other.architecture === entry.architecture &&
      other.media_type !== undefined;
    return (
      entry.action === action && (entry.media_type === undefined || transaction.findIndex(isSame) === at)
    );
  });
  const counts = new Map<string, number>();
  for (const { name } of entries) counts.set(name, (counts.get(name) ?? 0) + 1);
  return entries.map(({ name, architecture }) => (counts.get(name) === 1 ? name : `${name}:${architecture}`));
}

/** Findings for a denied target: a record of the request, for policy to deny. */
function deniedFindings(ecosystem: Ecosystem, operation: string): Findings {
  return {
    ...emptyFindings([ecosystem.tool, operation]),
    mutable_reference: true,
    warnings: ["This kind of target is always denied; no command was run to examine it."],
  };
}
