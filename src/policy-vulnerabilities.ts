import { isRuledOut, NO_DATA, vulnerabilitiesOfNewVersions, weightOf } from "./doc-evidence.ts";
import { SEVERITIES, type Severity, type VulnerabilityEvidence } from "./doc-plan-evidence.ts";
import type { Facts } from "./policy-rule.ts";

/* What the rules ask about vulnerabilities. */

/**
 * Vulnerabilities of the versions to be installed whose weight matches `test`, most severe first. `test` is also told whether the
 * version that is installed now has it.
 */
export function vulnerabilities(f: Facts, test: (weight: Severity, isOld: boolean) => boolean): string[] {
  return vulnerabilitiesOfNewVersions(f.plan)
    .filter((x) => test(weightOf(x), x.also_old === true))
    .map(vulnerabilityName);
}

/** `hello CVE-2026-0001 (high, exploited)` */
export function vulnerabilityName(x: VulnerabilityEvidence): string {
  const { package: name, id, severity, known_exploited } = x;
  if (id === NO_DATA) return `${name} (no data)`;
  const words = [
    severity,
    ...(known_exploited === undefined ? [] : ["exploited"]),
    ...(isRuledOut(x) ? ["not affected"] : []),
  ];
  return `${name} ${id} (${words.join(", ")})`;
}

/** Severities that a person has to decide about: high or worse, and unknown. */
export function isGrave(severity: Severity): boolean {
  return severity === "unknown" || atLeast(severity, "high");
}

export function atLeast(severity: Severity, limit: Severity): boolean {
  return SEVERITIES.indexOf(severity) >= SEVERITIES.indexOf(limit);
}
