import { aptArgv, isMarkOperation, signedAptArgv } from "./apt-argv.ts";
import { parsePolicy, ShownPackages } from "./apt-cache.ts";
import { type DpkgPackage, readDpkgStatus } from "./apt-dpkg.ts";
import { dpkgHooks } from "./apt-dpkg-config.ts";
import {
  aptFindings,
  chainEvidence,
  commandFailure,
  failuresOf,
  PURGE_LOSS,
  rollbackPlan,
  sbomEvidence,
  unpinnable,
} from "./apt-evidence.ts";
import { FIRST_SEEN, firstSeenOf } from "./apt-first-seen.ts";
import { freeze, gatherRepositories, simulate, stdoutOf } from "./apt-gather.ts";
import { aptGrammar } from "./apt-grammar.ts";
import { markFindings } from "./apt-hold.ts";
import { keptFiles } from "./apt-kept.ts";
import { keptKernels, refuseManual, runningKernelEvidence } from "./apt-marks.ts";
import { lookAhead } from "./apt-outlook.ts";
import { withFiles } from "./apt-planning.ts";
import { gatherRepair } from "./apt-repair.ts";
import { gatherRepository } from "./apt-repository.ts";
import { isRepositoryArgv } from "./apt-repository-argv.ts";
import { repositoryFrom } from "./apt-repository-file.ts";
import {
  type PackageRequest,
  type Requested,
  refuseUnlocated,
  requestFor,
  resolveRequest,
} from "./apt-requested.ts";
import { rollbackRequest } from "./apt-rollback.ts";
import { securityRequest, withoutUnmet } from "./apt-security.ts";
import { servicesOutlook } from "./apt-services.ts";
import { aptDirs, DEFAULT_APT_DIRS } from "./apt-sources.ts";
import { heldBack, holdNotes, interruptions } from "./apt-state.ts";
import {
  buildTransaction,
  findSourceConflicts,
  type PackageFacts,
  warnedConflicts,
} from "./apt-transaction.ts";
import { isFetched, type TransactionEntry } from "./doc-plan.ts";
import type { Ecosystem, Findings } from "./eco.ts";
import type { Targets } from "./eco-grammar.ts";
import { HOST_SETTINGS, type Planning, type PlanningOutput } from "./eco-planning.ts";

/** Debian packages through apt-get(8). */
export const apt: Ecosystem = {
  ...aptGrammar,
  gather(operation, targets, planning) {
    if (operation === "update") return gatherSources(planning);
    if (operation === "repair") return gatherRepair(planning);
    return gatherRepository(operation, targets, planning) ?? gatherPackages(operation, targets, planning);
  },
  contentFrom: repositoryFrom,
  signedArgv: signedAptArgv,
  check: async () => (await import("./apt-dpkg-audit.ts")).dpkgFindings(),
  driver: async (argv) =>
    isRepositoryArgv(argv)
      ? (await import("./apt-repository-driver.ts")).aptRepositoryDriver
      : (await import("./apt-driver.ts")).aptDriver,
};

/** `update`: the sources it would refresh, from files below apt's default directories. apt itself is not run. */
async function gatherSources(planning: Planning): Promise<Findings> {
  const { repositories, problems } = await gatherRepositories(DEFAULT_APT_DIRS, planning);
  const { evidence } = repositories;
  return {
    ...aptFindings("update", [], repositories.commands, repositories.warnings),
    // An unreadable entry may be a source that apt reads without requiring a signature.
    metadata_available: problems.length === 0,
    signature_or_checksum_status:
      evidence.length > 0 && evidence.every((r) => r.signature_verified) ? "verified" : "unverified",
    repository_evidence: evidence,
  };
}

/**
 * `upgrade`, `install`, `remove`, `rollback` and holds. The host's settings come first, since all other commands run with
 * them. Independent commands run in parallel: the simulation and the sources, then stanzas and version tables of all
 * packages.
 * @throws AegisError `not_found` for a target unknown to apt
 */
async function gatherPackages(operation: string, targets: Targets, planning: Planning): Promise<Findings> {
  const native = planning.host.architecture;
  // First, or it would see planning's own processes.
  const running = await planning.running?.();
  const dump = await planning.run(["apt-config", "dump"], { settings: HOST_SETTINGS });
  const { config: own, problems } = freeze(dump, planning.aptCache);
  if (problems.length > 0) return aptFindings(operation, [], [dump.evidence], problems);
  const dirs = aptDirs(dump.stdout);
  const status = readDpkgStatus(dirs.status, planning);
  const installed = status?.packages ?? new Map<string, DpkgPackage>();
  const sources = operation === "security-upgrade" ? await gatherRepositories(dirs, planning) : null;
  const wanted =
    sources === null
      ? await requestOf(operation, targets.targets, installed, planning, own)
      : await securityRequest(installed, sources.repositories.evidence, planning, own);
  const { kept = [] } = wanted;
  const config = withFiles(own, kept);
  if (wanted.verb === null || wanted.problems.length > 0)
    return {
      ...findingsWithoutSimulation(operation, wanted, dump),
      repository_evidence: sources?.repositories.evidence ?? [],
    };
  const mark = wanted.verb[0] ?? "";
  if (isMarkOperation(mark)) {
    const commands = [dump.evidence, ...wanted.commands];
    if (status === null)
      return aptFindings(operation, wanted.packages, commands, [`${dirs.status} can't be read`]);
    return markFindings(operation, mark, wanted, installed, native, commands);
  }
  const [{ request, simulated, simulation, show, policy }, site] = await Promise.all([
    simulateRequest(wanted, planning, config),
    sources ?? gatherRepositories(dirs, planning),
  ]);
  if (operation !== "rollback") refuseUnlocated(simulated, targets.targets);
  const facts: PackageFacts = {
    shown: new ShownPackages(stdoutOf(show)),
    policy: parsePolicy(stdoutOf(policy)),
    installed,
    repositories: site.repositories.evidence,
    native,
    kept,
  };
  const transaction = buildTransaction(simulation, facts);
  const { hooks, problems: unreadable } = dpkgHooks(planning);
  const requested = resolveRequest(request, transaction, simulation, facts);
  const failures = [
    ...failuresOf(simulated, simulation),
    ...[...show, ...policy].flatMap(commandFailure),
    ...facts.shown.problems,
    ...unreadable,
  ];
  if (failures.length === 0)
    failures.push(...requested.problems, ...unpinnable(transaction, operation, requested));
  const release = (planning.readText("/proc/sys/kernel/osrelease") ?? "").trim();
  if (operation === "autoremove")
    failures.push(...refuseManual(transaction, planning.readText(dirs.extendedStates), native));
  const compared = await findSourceConflicts(
    failures.length === 0 ? transaction : [],
    site.sources,
    site.repositories.evidence,
    planning,
    config,
  );
  const held = heldBack(operation, simulation, installed, transaction, native);
  const ahead = await lookAhead(transaction, simulation, held, facts, dirs.status, planning, config);
  const commands = [
    dump.evidence,
    ...request.commands,
    simulated.evidence,
    ...site.repositories.commands,
    ...[...show, ...policy].map((output) => output.evidence),
    ...compared.commands,
  ];
  const warnings = [
    ...failures,
    ...interruptions(simulation, transaction, installed, status?.journal ?? []),
    ...request.warnings,
    ...requested.warnings,
    ...holdNotes(simulation),
    ...(operation === "purge" && transaction.length > 0 ? [PURGE_LOSS] : []),
    ...(operation === "autoremove" ? keptKernels(transaction, installed, release, native) : []),
    ...(status === null ? [`${dirs.status} can't be read`] : []),
    ...site.repositories.warnings,
    ...simulation.explanations,
    ...aptMessages(simulated.stderr),
    ...ahead.warnings,
  ];
  const base: Findings = {
    ...aptFindings(operation, request.packages, commands, warnings),
    repository_evidence: site.repositories.evidence,
    packages_held_back: held,
    ...(ahead.outlook === undefined ? {} : { outlook: ahead.outlook }),
    ...(hooks.length > 0 ? { host_hooks: hooks } : {}),
  };
  if (failures.length > 0) return base;

  const conflicts = distinct([...warnedConflicts(simulated.stderr, transaction), ...compared.conflicts]);
  const chain = chainEvidence(transaction, facts.repositories, conflicts);
  return {
    ...base,
    ...conclusions(operation, transaction, requested, facts, planning),
    metadata_available: true,
    command_preview: aptArgv(operation, requested.exact.length > 0 ? requested.exact : request.packages),
    signature_or_checksum_status:
      chain.length === 0 ? "not applicable" : chain.every((c) => c.verified) ? "verified" : "unverified",
    provenance_evidence: [
      ...request.evidence,
      ...runningKernelEvidence(transaction, release),
      ...conflicts,
      ...chain,
    ],
    sbom_evidence: sbomEvidence(transaction, planning.host),
    outlook: { ...ahead.outlook, ...servicesOutlook(transaction, installed, running, planning) },
  };
}

/** The request to apt: the targets as given, or for a rollback those from the execution's record. */
async function requestOf(
  operation: string,
  targets: readonly string[],
  installed: ReadonlyMap<string, DpkgPackage>,
  planning: Planning,
  config: string,
): Promise<PackageRequest> {
  if (operation !== "rollback") return requestFor([operation], targets);
  return rollbackRequest(targets[0] ?? "", installed, planning, config);
}

/** How often packages that stand in the way of others are left out. */
const ATTEMPTS = 5;

/** Simulates a request; of security upgrades without those that apt can't install, which the request then says. */
async function simulateRequest(wanted: PackageRequest, planning: Planning, config: string) {
  let request = wanted;
  for (let n = 0; ; n++) {
    const done = await simulate([...(request.verb ?? []), ...request.packages], planning, config);
    const fewer = n < ATTEMPTS ? withoutUnmet(request, done.simulated, done.simulation) : null;
    if (fewer === null) return { request, ...done };
    request = fewer;
  }
}

/** Findings without running apt: nothing is left to undo, or there is a problem. */
function findingsWithoutSimulation(
  operation: string,
  request: PackageRequest,
  dump: PlanningOutput,
): Findings {
  const commands = [dump.evidence, ...request.commands];
  const isDone = request.problems.length === 0;
  return {
    ...aptFindings(operation, request.packages, commands, [...request.problems, ...request.warnings]),
    metadata_available: isDone,
    nothing_to_do: isDone,
    provenance_evidence: request.evidence,
  };
}

/** Findings derived from the transaction. */
function conclusions(
  operation: string,
  transaction: TransactionEntry[],
  { exact, chosen }: Requested,
  facts: PackageFacts,
  planning: Planning,
) {
  const { shown, policy } = facts;
  const only = chosen.length === 1 ? chosen[0] : undefined;
  const origins = [...new Set(transaction.flatMap((entry) => entry.sources[0] ?? []))];
  const incoming = transaction.filter((entry) => entry.action !== "remove");
  return {
    transaction,
    exact_targets: exact,
    nothing_to_do: transaction.length === 0,
    target_version: only?.to_version ?? null,
    publisher_or_maintainer:
      (only && shown.find(only.name, only.architecture, only.to_version)?.maintainer) ?? null,
    source_registry: origins.length === 1 ? (origins[0] ?? null) : null,
    transitive_dependency_count: operation === "install" ? incoming.length - exact.length : null,
    rollback_plan: rollbackPlan(transaction, policy, facts, operation, keptFiles(planning)),
    ...firstSeenOf(transaction, transaction.some(isFetched) ? planning.readText(FIRST_SEEN) : null),
  };
}

/** apt's errors and warnings. Its notices differ between root and others, so they are left out. */
function aptMessages(stderr: string): string[] {
  return stderr.split("\n").filter((line) => /^[EW]: /.test(line));
}

function distinct<T extends { subject: string }>(items: readonly T[]): T[] {
  return [...new Map(items.map((item) => [item.subject, item])).values()];
}
