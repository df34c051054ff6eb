import { recordUserEvent } from "./audit-log.ts";
import { canonicalHash } from "./canonical.ts";
import { defineSubcommand } from "./command.ts";
import { EXIT } from "./errors.ts";
import { renderPlan } from "./plan-view.ts";
import { makePlan } from "./planner.ts";
import { openPlanning } from "./planning.ts";
import { saveDocument } from "./store.ts";
import { paint, safe } from "./terminal.ts";

/** `aegis plan <ecosystem> <operation> [target…]` */
export const plan = defineSubcommand({
  name: "plan",
  description: "Find out, read-only, what an operation would change on this host, and write a plan.",
  args: {
    ecosystem: { type: "positional", required: true, description: "apt or npm" },
    operation: { type: "positional", required: true, description: "what to do, e.g. install or upgrade" },
    targets: {
      type: "positional",
      required: false,
      multiple: true,
      description: "packages: name, apt's name=version and name:arch, npm's name@version",
    },
    out: { type: "string", valueHint: "file", description: "write the plan here instead" },
  },
  async run(values, io) {
    const planning = openPlanning({ env: io.env });
    let document: Awaited<ReturnType<typeof makePlan>>;
    try {
      document = await makePlan(values.ecosystem, values.operation, values.targets, planning);
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
