import { DEFAULT_APT_DIRS } from "./apt-dirs.ts";
import { aptFindings, commandFailure } from "./apt-findings.ts";
import { type DpkgPackage, readDpkgStatus } from "./dpkg-status.ts";
import type { Findings, Planning } from "./ecosystem.ts";
import type { TransactionEntry } from "./operation-plan.ts";

/*
 * Finishing what an interrupted dpkg left: `dpkg --configure -a`, as dpkg(1) has it. It configures what is unpacked, and
 * fetches, unpacks and removes nothing.
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
  const audit = await planning.run(["dpkg", "--audit"], { keep: true });
  const status = readDpkgStatus(DEFAULT_APT_DIRS.status, planning);
  const failures = [
    ...commandFailure(audit),
    ...(status === null ? [`${DEFAULT_APT_DIRS.status} can't be read`] : []),
  ];
  const packages = [...(status?.packages.values() ?? [])];
  const isHalfDone = ({ state }: DpkgPackage) => state !== "installed" && state !== "config-files";
  const isFinished = ({ state, selection }: DpkgPackage) =>
    CONFIGURABLE.includes(state) && STAYING.includes(selection);
  const left = packages
    .filter((p) => isHalfDone(p) && !isFinished(p))
    .map(
      (p) =>
        `${p.name}:${p.architecture} is ${p.state}, which configuring does not mend: plan its installation or removal afterwards`,
    );
  const warnings = [...failures, ...left];
  if (status !== null && status.journal.length > 0) warnings.push("dpkg merges its journal first");
  const findings = aptFindings("repair", [], [audit.evidence], warnings);
  if (failures.length > 0) return findings;
  const transaction = packages.filter(isFinished).map(configured).sort(byName);
  return {
    ...findings,
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

function configured({ name, architecture, version, essential }: DpkgPackage): TransactionEntry {
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
    sources: [],
  };
}

/** Code unit order of name, then architecture. */
function byName(a: TransactionEntry, b: TransactionEntry): number {
  const [x, y] = [`${a.name} ${a.architecture}`, `${b.name} ${b.architecture}`];
  return x < y ? -1 : x > y ? 1 : 0;
}
