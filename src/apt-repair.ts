import { aptName } from "./apt-argv.ts";
import { unconfigurable } from "./apt-depends.ts";
import { type DpkgPackage, readDpkgStatus } from "./apt-dpkg.ts";
import { dpkgHooks } from "./apt-dpkg-config.ts";
import { aptFindings, commandFailure } from "./apt-evidence.ts";
import { DEFAULT_APT_DIRS } from "./apt-sources.ts";
import { REMOVE } from "./apt-state.ts";
import { byCodeUnit } from "./canonical.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import type { Findings } from "./eco.ts";
import { HOST_SETTINGS, type Planning, type PlanningOutput } from "./eco-planning.ts";

/*
 * Finishing an interrupted dpkg run: `dpkg --configure -a` (dpkg(1)). It configures unpacked packages, and fetches,
 * unpacks and removes nothing. Unfinished packages are read from dpkg's status file, the same for every user, so the
 * executor gets the signed plan. Evidence is the presence of dpkg, and `dpkg --audit` if it works.
 */

/** States that `dpkg --configure -a` turns into `installed`. */
const CONFIGURABLE: readonly string[] = [
  "unpacked",
  "half-configured",
  "triggers-awaited",
  "triggers-pending",
];
/** It skips packages selected for removal (measured with dpkg 1.21); these selections are kept. */
const STAYING: readonly string[] = ["install", "hold"];

/** The plan of a repair: one `configure` entry for each unfinished package that dpkg would finish. */
export async function gatherRepair(planning: Planning): Promise<Findings> {
  const [version, audit] = await Promise.all([
    planning.run(["dpkg", "--version"], { settings: HOST_SETTINGS }),
    planning.run(["dpkg", "--audit"], { settings: HOST_SETTINGS, keep: true }),
  ]);
  const asked = mayNotAudit(audit) ? [version] : [version, audit];
  const status = readDpkgStatus(DEFAULT_APT_DIRS.status, planning);
  const { hooks, problems } = dpkgHooks(planning);
  const failures = [
    ...problems,
    ...asked.flatMap(commandFailure),
    ...(status === null ? [`${DEFAULT_APT_DIRS.status} can't be read`] : []),
  ];
  const packages = [...(status?.packages.values() ?? [])];
  const isHalfDone = ({ state }: DpkgPackage) => state !== "installed" && state !== "config-files";
  const isFinished = ({ state, selection }: DpkgPackage) =>
    CONFIGURABLE.includes(state) && STAYING.includes(selection);
  const native = planning.host.architecture;
  const left = packages
    .filter((p) => isHalfDone(p) && !isFinished(p))
    .map(
      (p) =>
        `${p.name}:${p.architecture} is ${p.state}, which configuring does not fix: plan its removal (${REMOVE} ${nameOf(p, native)}) or installation afterwards`,
    );
  const finished = packages.filter(isFinished);
  const warnings = [...failures, ...left, ...unmetWarnings(finished, packages, native)];
  if (status !== null && status.journal.length > 0) warnings.push("dpkg merges its journal first");
  const commands = asked.map(({ evidence }) => evidence);
  const findings = aptFindings("repair", [], commands, warnings);
  if (failures.length > 0) return findings;
  const transaction = finished.map(configured).sort(byName);
  return {
    ...findings,
    ...(hooks.length > 0 ? { host_hooks: hooks } : {}),
    metadata_available: true,
    transaction,
    nothing_to_do: transaction.length === 0 && status?.journal.length === 0,
    signature_or_checksum_status: "not applicable",
    rollback_plan: {
      inverse: [],
      unobtainable: [],
      notes: ["What a repair finishes is not undone by Aegis."],
    },
  };
}

/**
 * An ordinary user can't check dpkg's lock, and `dpkg --audit` then fails as soon as a package is unfinished. That says
 * nothing about dpkg, so it is not evidence.
 */
function mayNotAudit({ evidence, stderr }: PlanningOutput): boolean {
  return evidence.outcome === "failed" && /unable to check lock file .*: Permission denied\s*$/.test(stderr);
}

/** Packages whose configuration will fail, and what to do. dpkg still configures the others. */
function unmetWarnings(
  finished: readonly DpkgPackage[],
  packages: readonly DpkgPackage[],
  native: string,
): string[] {
  const failing = [...unconfigurable(finished, packages, native)];
  if (failing.length === 0) return [];
  const names = failing.map(([one]) => nameOf(one, native)).sort();
  const others = failing.length < finished.length;
  return [
    ...failing.map(
      ([one, unmet]) => `${one.name}:${one.architecture} can't be configured; missing: ${unmet.join(", ")}`,
    ),
    `Nothing else can be installed until these are finished. What to do${others ? " after this repair has configured the others" : " (this repair fixes nothing)"}: ${REMOVE} ${names.join(" ")}; installing them again brings their dependencies`,
  ];
}

function nameOf({ name, architecture }: DpkgPackage, native: string): string {
  return aptName(name, architecture, native);
}

function configured({ name, architecture, version, essential, source }: DpkgPackage): TransactionEntry {
  return {
    name,
    architecture,
    action: "configure",
    from_version: version,
    to_version: version,
    origin: null,
    archive: null,
    sha256: null,
    size: null,
    essential,
    source: null,
    from_source: source,
    to_source: source,
    sources: [],
  };
}

function byName(a: TransactionEntry, b: TransactionEntry): number {
  return byCodeUnit(a.name, b.name) || byCodeUnit(a.architecture, b.architecture);
}
