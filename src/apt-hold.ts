import { aptArgv, aptName, type Mark } from "./apt-argv.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { aptFindings } from "./apt-evidence.ts";
import type { PackageRequest } from "./apt-requested.ts";
import { REPAIR } from "./apt-state.ts";
import { formatAptTarget, parseAptTarget } from "./apt-target.ts";
import { byCodeUnit } from "./canonical.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import type { CommandEvidence } from "./doc-plan-evidence.ts";
import type { Findings } from "./eco.ts";
import { AegisError } from "./errors.ts";

/*
 * Putting packages on hold and taking them off (apt-mark(8)). A hold is the package's selection in dpkg's status file, which
 * every user reads alike, so the plan rests on that file alone: apt would take an unknown name for a pattern, and put packages on
 * hold that aren't installed.
 */

/**
 * The plan of a change of holds.
 * @throws AegisError `not_found` for a package that isn't installed
 */
export function markFindings(
  operation: string,
  mark: Mark,
  request: PackageRequest,
  installed: ReadonlyMap<string, DpkgPackage>,
  native: string,
  commands: readonly CommandEvidence[],
): Findings {
  const targets = request.packages.map((text) => ({ text, found: findNamed(text, installed, native) }));
  const missing = targets.flatMap(({ text, found }) => (found.length === 0 ? [text] : []));
  if (missing.length > 0) throw notInstalled(missing);
  const chosen = targets.flatMap(({ found }) => found.slice(0, 1));
  const problems = chosen
    .filter(({ state }) => state !== "installed")
    .map((one) => `${nameOf(one, native)} is ${one.state}: finish it first with \`${REPAIR}\``);
  const done = chosen.filter(({ selection }) => (selection === "hold") === (mark === "hold"));
  const entries = [...new Set(chosen)].filter((one) => !done.includes(one)).map((one) => entryOf(one, mark));
  const exact = entries
    .sort((a, b) => byCodeUnit(a.name, b.name) || byCodeUnit(a.architecture, b.architecture))
    .map((one) => nameOf(one, native));
  const warnings = [
    ...problems,
    ...request.warnings,
    ...done.map((one) => `${nameOf(one, native)} is ${mark === "hold" ? "on hold already" : "not on hold"}`),
    ...targets.flatMap(({ found: [one, ...others] }) =>
      one === undefined || others.length === 0
        ? []
        : [
            `${nameOf(one, native)} only, not ${others.map(({ architecture }) => architecture).join(", ")}: name those with their architecture`,
          ],
    ),
    ...(mark === "hold" && exact.length > 0
      ? [`No upgrade changes a package on hold, a security update neither: ${exact.join(" ")}`]
      : []),
  ];
  const findings = aptFindings(operation, exact, [...commands], warnings);
  if (problems.length > 0) return findings;
  return {
    ...findings,
    metadata_available: true,
    command_preview: aptArgv(operation, exact, mark),
    transaction: entries,
    exact_targets: exact,
    nothing_to_do: entries.length === 0,
    signature_or_checksum_status: "not applicable",
    provenance_evidence: request.evidence,
    rollback_plan: {
      inverse: [],
      unobtainable: [],
      notes:
        entries.length === 0
          ? []
          : [`A rollback ${mark === "hold" ? "takes them off hold" : "puts them on hold"} again.`],
    },
  };
}

/** Installed packages that a target names, the one that is meant first: of the host's architecture, or the only one. */
function findNamed(text: string, installed: ReadonlyMap<string, DpkgPackage>, native: string): DpkgPackage[] {
  const { name, architecture } = parseAptTarget(text);
  const all = [...installed.values()].filter((one) => one.name === name && one.state !== "config-files");
  const isOwn = (one: DpkgPackage) => one.architecture === native || one.architecture === "all";
  if (architecture !== null)
    return all
      .filter((one) => (architecture === native ? isOwn(one) : one.architecture === architecture))
      .slice(0, 1);
  const own = all.filter(isOwn);
  return own.length > 0 || all.length === 1 ? [...own, ...all.filter((one) => !isOwn(one))] : [];
}

function notInstalled(names: readonly string[]): AegisError {
  return new AegisError(
    "not_found",
    `no package of exactly this name is installed: ${names.join(", ")}`,
    `Check the spelling: dpkg-query --list '*${formatAptTarget({ ...parseAptTarget(names[0] ?? ""), architecture: null })}*'`,
    { packages: names },
  );
}

function nameOf({ name, architecture }: Pick<DpkgPackage, "name" | "architecture">, native: string): string {
  return aptName(name, architecture, native);
}

function entryOf(
  { name, architecture, version, essential, source }: DpkgPackage,
  mark: Mark,
): TransactionEntry {
  return {
    name,
    architecture,
    action: mark,
    from_version: version,
    to_version: version,
    origin: null,
    archive: null,
    sha256: null,
    size: null,
    essential,
    source: source.name,
    from_source: source,
    to_source: source,
    sources: [],
  };
}
