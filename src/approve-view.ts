import type { PolicyResult } from "./documents.ts";
import type { OperationPlan } from "./operation-plan.ts";
import { isBootloaderPackage, isKernelPackage, isSensitivePackage } from "./package-names.ts";
import { renderPlan } from "./plan-view.ts";
import type { PolicyConfig } from "./policy-config.ts";
import { paint, safe, showArgv, type Terminal } from "./terminal.ts";

/** What an approver must see: the packages that deserve a second look, the plan, the command, the decision. No trailing newline. */
export function renderQuestion(
  plan: OperationPlan,
  policy: PolicyResult,
  argv: readonly string[],
  config: PolicyConfig,
  terminal: Terminal,
): string {
  const risky = riskyPackages(plan, config);
  return [
    ...(risky.length === 0
      ? []
      : [paint(terminal, "yellow", "Look at these first:"), ...risky.map((line) => `  ${safe(line)}`), ""]),
    renderPlan(plan, terminal),
    "",
    paint(terminal, "bold", `Policy: ${policy.decision}`),
    ...policy.rules.map((rule) => `  ${safe(rule)}`),
    ...policy.reasons.map((reason) => `  ${safe(reason)}`),
    "",
    `Will run on ${safe(plan.host.hostname)}: ${showArgv(argv)}`,
    `Plan ${plan.plan_id}, made ${plan.created_at}`,
    `Hash ${policy.plan_hash}`,
  ].join("\n");
}

/** Packages whose change can take a host down or open it, each with why. */
function riskyPackages(plan: OperationPlan, config: PolicyConfig): string[] {
  return plan.transaction.flatMap((entry) => {
    const why = [
      ...(entry.action === "remove" || entry.action === "downgrade" ? [entry.action] : []),
      ...(entry.essential ? ["essential"] : []),
      ...(isKernelPackage(entry.name) ? ["kernel"] : []),
      ...(isBootloaderPackage(entry.name) ? ["boot loader"] : []),
      ...(isSensitivePackage(entry.name, config.apt.sensitive_packages) ? ["security-sensitive"] : []),
    ];
    const to = entry.to_version ?? "removed";
    return why.length === 0
      ? []
      : [`${entry.name} ${entry.from_version ?? "–"} → ${to}  (${why.join(", ")})`];
  });
}
