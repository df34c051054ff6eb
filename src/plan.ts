import { recordUserEvent } from "./audit-log.ts";
import { canonicalHash } from "./canonical.ts";
import { defineSubcommand } from "./command.ts";
import { AegisError, EXIT } from "./errors.ts";
import { renderPlan } from "./plan-view.ts";
import { makePlan } from "./planner.ts";
import { openPlanning } from "./planning.ts";
import { findExecution } from "./results.ts";
import { saveDocument } from "./store.ts";
import { paint, safe } from "./terminal.ts";

/** `aegis plan <ecosystem> <operation> [target…]` */
export const plan = defineSubcommand({
  name: "plan",
  description: "Find out, read-only, what an operation would change on this host, and write a plan.",
  args: {
    ecosystem: { type: "positional", required: true, description: "apt or npm; or rollback" },
    operation: {
      type: "positional",
      required: true,
      description: "what to do, e.g. install, upgrade, remove or repair; of a rollback the execution",
    },
    targets: {
      type: "positional",
      required: false,
      multiple: true,
      description: "packages: name, apt's name=version and name:arch, npm's name@version",
    },
    out: { type: "string", valueHint: "file", description: "write the plan here instead" },
  },
  async run(values, io) {
    const wish = wishOf(values.ecosystem, values.operation, values.targets);
    const planning = openPlanning({ env: io.env });
    let document: Awaited<ReturnType<typeof makePlan>>;
    try {
      document = await makePlan(wish.ecosystem, wish.operation, wish.targets, planning);
    } finally {
      planning.close();
    }
    const planHash = canonicalHash(document);
    const path = saveDocument("plan", document, io.env, values.out);
    recordUserEvent(io.env, {
      kind: "plan_created",
      plan_id: document.plan_id,
      argv: document.command_preview,
      details: { plan_hash: planHash, risk_score: document.risk_score },
    });
    const reference = values.out === undefined ? document.plan_id.slice(0, 8) : safe(path);
    const end = document.nothing_to_do
      ? ""
      : `\n${paint(io.terminal, "bold", `Next: aegis policy ${reference}`)}`;
    io.result(
      { plan: document, path, plan_hash: planHash },
      `${renderPlan(document, io.terminal)}\n\nWritten: ${safe(path)}${end}`,
    );
    return EXIT.ok;
  },
});

/**
 * `rollback <execution>` is short for `apt rollback <full id>`: apt's executions are the ones that can be undone.
 * @throws AegisError `usage`, `not_found`, `io`
 */
function wishOf(ecosystem: string, operation: string, targets: readonly string[]) {
  if (ecosystem === "rollback") {
    if (targets.length === 0)
      return { ecosystem: "apt", operation: "rollback", targets: [findExecution(operation)] };
    throw new AegisError("usage", "a rollback is of one execution", "Type: aegis plan rollback <execution>");
  }
  const [reference] = targets;
  if (ecosystem !== "apt" || operation !== "rollback" || reference === undefined || targets.length > 1)
    return { ecosystem, operation, targets };
  return { ecosystem, operation, targets: [findExecution(reference)] };
}
