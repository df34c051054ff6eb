import { NO_DATA, vulnerabilitiesOfNewVersions } from "./doc-evidence.ts";
import type { OperationPlan } from "./doc-plan.ts";
import {
  severityCounts,
  type Vulnerability,
  vulnerabilityChange,
  vulnerabilityText,
  worstFirst,
} from "./doc-vulnerabilities.ts";
import { plural, safe } from "./terminal.ts";

/* What a plan's screens say of vulnerabilities. */

/** Vulnerabilities and packages named on one line of facts. */
const NAMED = 4;

/**
 * What needs attention, one sentence each and the worst first: what the new versions have and is exploited or grave, versions that no
 * source answered for, and how many have no rating. `grave` counts the first ones.
 */
export function vulnerabilityAttention(plan: OperationPlan): { texts: string[]; grave: number } {
  const { introduces, leaves } = vulnerabilityChange(plan);
  const coming = [...introduces, ...leaves].sort(worstFirst);
  const grave = coming.filter(isGraveOne).map((one) => {
    const too = leaves.includes(one) ? ", as it has now" : "";
    return `${one.package} ${one.version} has ${vulnerabilityText(one)}${too}`;
  });
  const unanswered = vulnerabilitiesOfNewVersions(plan)
    .filter(({ id }) => id === NO_DATA)
    .map((row) => `${row.package} ${row.version}: no vulnerability data available from ${row.data_source}`);
  const unrated = introduces.filter((one) => one.severity === "unknown" && !isGraveOne(one));
  return {
    texts: [
      ...grave,
      ...unanswered,
      ...(unrated.length === 0
        ? []
        : [
            `${plural(unrated.length, "new vulnerability", "new vulnerabilities")} without a rating: ${byPackage(unrated)}`,
          ]),
    ],
    grave: grave.length,
  };
}

function isGraveOne({ severity, known_exploited }: Vulnerability): boolean {
  return known_exploited !== undefined || severity === "critical" || severity === "high";
}

/** Lines of what the transaction does about vulnerabilities, each with its label; none for what it does not do. Safe text. */
export function vulnerabilityFacts(plan: OperationPlan): [string, string][] {
  const { fixes, leaves, introduces, not_affected } = vulnerabilityChange(plan);
  const line = (label: string, list: readonly Vulnerability[]): [string, string] => {
    const shown = list.slice(0, NAMED).map((one) => `${one.package} ${vulnerabilityText(one)}`);
    const more = list.length - shown.length;
    const names = `${shown.join(", ")}${more > 0 ? `, and ${more} more (--json has all)` : ""}`;
    const count = plural(list.length, "vulnerability", "vulnerabilities");
    return [label, list.length === 0 ? "" : safe(`${count} (${severityCounts(list)}): ${names}`)];
  };
  // Where the fix is known, the plan brings it.
  const fixed = fixes.map((one) => ({ ...one, fixed_version: null }));
  const stated = plural(not_affected.length, "vulnerability", "vulnerabilities");
  return [
    line("Fixes", fixed),
    line("Leaves", leaves),
    line("Introduces", introduces),
    [
      "Unaffected",
      not_affected.length === 0
        ? ""
        : safe(`by ${stated}, as the distribution states: ${byPackage(not_affected)}`),
    ],
  ];
}

/** `linux 12, openssl 3 and 4 more packages` */
function byPackage(list: readonly Vulnerability[]): string {
  const counts = [...Map.groupBy(list, (one) => one.package)].map(([name, of]) => ({ name, n: of.length }));
  counts.sort((a, b) => b.n - a.n);
  const more = counts.length - NAMED;
  const shown = counts.slice(0, NAMED).map(({ name, n }) => `${name} ${n}`);
  return `${shown.join(", ")}${more > 0 ? ` and ${plural(more, "more package")}` : ""}`;
}
