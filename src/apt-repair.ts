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
 * Finishing what an interrupted dpkg left: `dpkg --configure -a`, as dpkg(1) has it. It configures what is unpacked, and
 * fetches, unpacks and removes nothing. What is half-done is read from dpkg's status file, which gives every user the same,
 * and so the executor the plan that was signed. Evidence is that dpkg is there, and `dpkg --audit` besides where it works.
 */

/** States that `dpkg --configure -a` brings to `installed`. */
const CONFIGURABLE: readonly string[] = [
  "unpacked",
  "half-configured",
  "triggers-awaited",
  "triggers-pending",
];
/** Of those, it passes over what is meant to go (measured with dpkg 1.21): these selections are meant to stay. */
const STAYING: readonly string[] = ["install", "hold"];

/** The plan of a repair: each half-done package that dpkg would finish, as one entry that is configured. */
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
        `${p.name}:${p.architecture} is ${p.state}, which configuring does not mend: plan its removal (${REMOVE} ${nameOf(p, native)}) or installation afterwards`,
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
 * An ordinary user may not look at dpkg's lock, and `dpkg --audit` gives up over that as soon as something is half-done. That
 * says nothing about dpkg, so it is no evidence.
 */
function mayNotAudit({ evidence, stderr }: PlanningOutput): boolean {
  return evidence.outcome === "failed" && /unable to check lock file .*: Permission denied\s*$/.test(stderr);
}

/** What configuring will fail at, and the way out. dpkg goes on with the others all the same. */
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
      ([one, unmet]) =>
        `${one.name}:${one.architecture} can't be configured, for want of: ${unmet.join(", ")}`,
    ),
    `Nothing else can be installed while these are half-done. The way out${others ? ", once this repair has configured the others" : " (this repair mends nothing)"}: ${REMOVE} ${names.join(" ")}; what they miss comes along when they are installed again`,
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
