import type { OperationPlan } from "./operation-plan.ts";
import { renderChanges } from "./plan-changes.ts";
import { NO_DATA, newVulnerabilities, usedSources } from "./signals.ts";
import { paint, plural, safe, showArgv, type Terminal, wrap } from "./terminal.ts";

/** Characters of a script that are shown. */
const SCRIPT_SHOWN = 300;

/** What a plan would do, for people: every package that changes, then what to think about. No trailing newline. */
export function renderPlan(plan: OperationPlan, terminal: Terminal): string {
  const { host } = plan;
  const wish = [plan.tool, plan.operation, ...plan.targets].map(safe).join(" ");
  const where = safe(`${host.hostname} (${host.os_id} ${host.os_version}, ${host.architecture})`);
  const blocks = [
    wrap(`Plan: ${wish}`, terminal.width, "  ")
      .map((line) => paint(terminal, "bold", line))
      .join("\n"),
    lines(terminal, [
      ["Host", where],
      ["Command", showArgv(plan.command_preview)],
      // apt's packages stand under their sources.
      ["From", plan.source_registry === null || plan.tool === "apt" ? "" : safe(plan.source_registry)],
    ]),
    renderChanges(plan, terminal),
    lines(terminal, facts(plan)),
    attention(plan, terminal),
  ];
  return blocks.filter((block) => block !== "").join("\n\n");
}

function facts(plan: OperationPlan): [string, string][] {
  const sources = plan.operation === "update" ? plan.repository_evidence.map(({ id }) => id) : [];
  const parts = plan.risk_contributions.map(({ name, points }) => `${safe(name)} ${points}`);
  return [
    ["Sources", sources.map(safe).join(", ")],
    ["Kept back", plan.packages_held_back.map(safe).join(", ")],
    ["Published", safe(plan.published_at?.slice(0, 10) ?? "")],
    ["Publisher", safe(plan.publisher_or_maintainer ?? "")],
    [
      "Checksums",
      plan.tool === "apt" || plan.transaction.length === 0 ? "" : safe(plan.signature_or_checksum_status),
    ],
    ["Scripts", plan.scripts.map(scriptText).join("; ")],
    ["Signals", plan.risk_signals.join(", ")],
    ["Risk", `${plan.risk_score} of 100${parts.length > 0 ? ` (${parts.join(", ")})` : ""}`],
  ];
}

function scriptText({ package: name, name: script, body }: OperationPlan["scripts"][number]): string {
  const hidden = body.length - SCRIPT_SHOWN;
  const more = hidden > 0 ? ` … (${plural(hidden, "more character")}; see --json)` : "";
  return safe(`${name} ${script}: ${body.slice(0, SCRIPT_SHOWN)}`) + more;
}

/** Everything that someone should read before going on, one item a paragraph. */
function attention(plan: OperationPlan, terminal: Terminal): string {
  const denied = plan.denied_targets.map(
    ({ target, signal }) => `${target} will be denied by policy (${signal})`,
  );
  const repositories = usedSources(plan)
    .filter(({ trust }) => trust === "weak" || trust === "untrusted")
    .map(({ id, trust, problems }) => `Source ${id} is ${trust}: ${problems.join(", ")}`);
  const vulnerabilities = newVulnerabilities(plan)
    .filter(({ severity }) => severity !== "none")
    .map((v) =>
      v.id === NO_DATA
        ? `${v.package} ${v.version}: no vulnerability data could be had from ${v.data_source}`
        : `${v.package} ${v.version} has ${v.id} (severity ${v.severity})`,
    );
  const items = [...denied, ...repositories, ...vulnerabilities, ...plan.warnings];
  const shown = items.map((item) => {
    return `${paint(terminal, "yellow", "!")} ${wrap(safe(item), terminal.width, "  ").join("\n")}`;
  });
  return shown.join("\n");
}

/** `label  text` with the text wrapped under itself; empty texts are left out. All text must be safe. */
function lines(terminal: Terminal, items: readonly [string, string][]): string {
  const indent = 11;
  return items
    .filter(([, text]) => text !== "")
    .map(([label, text]) => {
      const head = paint(terminal, "dim", label.padEnd(indent));
      return `${head}${wrap(text, terminal.width, " ".repeat(indent)).join("\n")}`;
    })
    .join("\n");
}
