import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import type { Targets } from "./eco-grammar.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { isOwnRunner, isRestartable, servicesGrammar } from "./services-grammar.ts";
import { definitionOf, filesOfUnit, namesOfUnits, type UnitFacts, Units } from "./services-units.ts";
import { restartRisk } from "./sys-unit-risk.ts";

const FRONT =
  "aegisd.service: clients of the executor lose their connection; runs go on, and aegis apply --watch shows them";
/** More units than this are no restart of a service but of the system. */
const MAX_UNITS = 200;
/** Limit on the names in one warning. */
const LISTED = 8;
/** States in which systemd restarts a unit with one that it depends on (job_collapse_type(), src/core/job.c). */
const RUNNING: readonly string[] = ["active", "activating", "reloading", "refreshing"];

/** systemd's services and sockets: `systemctl restart`, so that what a plan of packages replaced is not run any longer. */
export const services: Ecosystem = {
  ...servicesGrammar,
  gather: (_operation, targets, planning) => gather(targets, planning),
  check: () => Promise.resolve([]),
  driver: async ([, , ...units]) => (await import("./services-driver.ts")).servicesDriver(units),
  signedArgv({ exact_targets, metadata_available }: OperationPlan): string[] {
    if (exact_targets.length > 0 && metadata_available) return restartArgv(exact_targets);
    throw new AegisError("invalid_document", "the plan names no unit to restart", "Plan again.");
  },
};

function restartArgv(units: readonly string[]): string[] {
  return ["systemctl", "restart", ...units];
}

/**
 * @throws AegisError `unavailable` without systemd, or for a unit's file that can't be read; `not_found` for a unit that isn't there or
 * doesn't run; `refused` for one that can't be restarted; `drift` for one whose files systemd has yet to read
 */
async function gather({ targets }: Targets, planning: Planning): Promise<Findings> {
  if (!planning.list("/run/systemd").includes("system"))
    throw new AegisError(
      "unavailable",
      "systemd does not run this host, so it has no services that could be restarted",
      "In a container, restart the container.",
    );
  const units = new Units(planning);
  const asked = await units.facts(targets);
  const base = emptyFindings(restartArgv(targets));
  const failed = (why: string): Findings => ({
    ...base,
    warnings: [why],
    raw_evidence: { commands: units.commands },
  });
  if (typeof asked === "string") return failed(asked);
  for (const [i, facts] of asked.entries()) assertRestartable(facts, targets[i] ?? facts.Id);
  // An alias and the name that it stands for are one unit.
  const roots = [...new Map(asked.map((facts) => [facts.Id, facts])).values()];
  const all = await withDependants(roots, units);
  if (typeof all === "string") return failed(all);
  const beside = await besides(roots, all, units);
  if (typeof beside === "string") return failed(beside);
  const exact = roots.map(({ Id }) => Id);
  return {
    ...base,
    exact_targets: exact,
    command_preview: restartArgv(exact),
    metadata_available: true,
    transaction: all.map(({ facts, by }) => entryOf(facts, by, planning)),
    signature_or_checksum_status: "not applicable",
    warnings: [...all.flatMap(({ facts }) => remarksOn(facts)), ...beside],
    rollback_plan: {
      inverse: [],
      unobtainable: [],
      notes: [
        "A restart can't be undone: what a service held in memory, and the connections to it, are gone.",
      ],
    },
    raw_evidence: { commands: units.commands },
  };
}

/** @throws AegisError as {@link gather} */
function assertRestartable(facts: UnitFacts, asked: string): void {
  const { Id: id, LoadState, ActiveState, SubState } = facts;
  const called = id === asked || id === "" ? asked : `${id} (${asked})`;
  const refused = (why: string, hint: string) =>
    new AegisError("refused", `${called} can't be restarted: ${why}`, hint);
  if (LoadState === "not-found")
    throw new AegisError(
      "not_found",
      `this host has no unit ${asked}`,
      "See: systemctl list-units --type=service",
    );
  if (LoadState !== "loaded") throw refused(`its state is ${LoadState}`, `See: systemctl status ${asked}`);
  if (!isRestartable(id))
    throw refused("it is an alias of a unit that Aegis restarts none of", `See: systemctl status ${asked}`);
  if (ActiveState !== "active")
    throw new AegisError(
      "not_found",
      `${called} isn't running but ${ActiveState} (${SubState}), and what doesn't run is not started by a restart`,
      `See: systemctl status ${id}`,
    );
  if (facts.Transient === "yes")
    throw refused("a program made it at run time, and has to make it again", `See: systemctl status ${id}`);
  for (const forbidden of ["RefuseManualStop", "RefuseManualStart"] as const)
    if (facts[forbidden] === "yes")
      throw refused(`its unit file says so (${forbidden}=yes)`, `See: systemctl cat ${id}`);
  assertLoaded(facts);
}

/** @throws AegisError `drift`: systemd would restart what it has in memory, and not what stands in the files */
function assertLoaded({ Id, NeedDaemonReload }: UnitFacts): void {
  if (NeedDaemonReload !== "yes") return;
  throw new AegisError(
    "drift",
    `the files of ${Id} have changed since systemd read them, so a restart would not do what they say`,
    `Have root look at them (systemctl cat ${Id}), type systemctl daemon-reload, and plan again.`,
  );
}

interface Restarted {
  facts: UnitFacts;
  /** The unit that it is restarted with; null for one that was asked for. */
  by: string | null;
}

/** The units, and all those that systemd restarts with them, by name. A text says why it could not be found out. */
async function withDependants(roots: readonly UnitFacts[], units: Units): Promise<Restarted[] | string> {
  const found = new Map<string, Restarted>(roots.map((facts) => [facts.Id, { facts, by: null }]));
  const asked = [...found.keys()];
  for (let next = [...roots]; next.length > 0; ) {
    const by = new Map(
      next.flatMap((facts) =>
        namesOfUnits(facts, "RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf").map((name) => [
          name,
          facts.Id,
        ]),
      ),
    );
    const names = [...by.keys()].filter((name) => !found.has(name)).sort();
    const shown = await units.facts(names);
    if (typeof shown === "string") return shown;
    next = shown.filter(({ ActiveState }) => RUNNING.includes(ActiveState));
    for (const facts of next) {
      found.set(facts.Id, { facts, by: by.get(facts.Id) ?? null });
      assertLoaded(facts);
      if (isOwnRunner(facts.Id) || found.size > MAX_UNITS)
        throw new AegisError(
          "refused",
          isOwnRunner(facts.Id)
            ? `${facts.Id}, which would do it, would be restarted with ${by.get(facts.Id)}`
            : `more than ${MAX_UNITS} other units would be restarted with ${asked.join(" ")}`,
          "Restart it by hand, when nothing else is going on.",
        );
    }
  }
  const others = [...found.values()].filter(({ by }) => by !== null);
  return [
    ...[...found.values()].filter(({ by }) => by === null),
    ...others.sort((a, b) => (a.facts.Id < b.facts.Id ? -1 : 1)),
  ];
}

/**
 * What else the restart of these units starts, one sentence each. A text says why it could not be found out.
 * @throws AegisError `refused` for what it would stop, or fail on
 */
async function besides(
  roots: readonly UnitFacts[],
  all: readonly Restarted[],
  units: Units,
): Promise<string[] | string> {
  const restarted = new Set(all.map(({ facts }) => facts.Id));
  const told: string[] = [];
  for (const root of roots) {
    const [conflicting, triggered, needed] = [
      namesOfUnits(root, "Conflicts", "ConflictedBy"),
      root.Id.endsWith(".socket") ? namesOfUnits(root, "Triggers") : [],
      namesOfUnits(root, "Requires", "BindsTo", "Wants", "Upholds"),
    ].map((names) => [...new Set(names)].sort()) as [string[], string[], string[]];
    const shown = await units.facts([...conflicting, ...triggered, ...needed]);
    if (typeof shown === "string") return shown;
    const runs = (names: readonly string[], at: number) =>
      shown
        .slice(at, at + names.length)
        .filter(({ ActiveState }) => RUNNING.includes(ActiveState))
        .map(({ Id }) => Id);
    const [stopped] = runs(conflicting, 0);
    if (stopped !== undefined)
      throw new AegisError(
        "refused",
        `${root.Id} can't be restarted: ${stopped}, which runs, would be stopped for it (Conflicts=)`,
        `See: systemctl cat ${root.Id}`,
      );
    const [open] = runs(triggered, conflicting.length).filter((unit) => !restarted.has(unit));
    if (open !== undefined)
      throw new AegisError(
        "refused",
        `${root.Id} can't be restarted: ${open} holds it open, and systemd doesn't make it again as long as that runs`,
        `Type: aegis plan services restart ${open}`,
      );
    const idle = shown
      .slice(conflicting.length + triggered.length)
      .filter(({ Id, LoadState, ActiveState }) => {
        return LoadState === "loaded" && isRestartable(Id) && ["inactive", "failed"].includes(ActiveState);
      })
      .map(({ Id }) => Id);
    if (idle.length > 0)
      told.push(`${root.Id} may also start what it needs and what doesn't run: ${some(idle)}`);
  }
  return told;
}

/** What a person should know of one unit's restart. */
function remarksOn(facts: UnitFacts): string[] {
  const { Id, Type, SubState } = facts;
  const risk = restartRisk(Id);
  const [, ...more] = filesOfUnit(facts);
  return [
    ...(risk === null ? [] : [`${Id}: ${risk.effect}`]),
    ...(Id === "aegisd.service" ? [FRONT] : []),
    ...(Type === "oneshot" && SubState === "exited"
      ? [`${Id} has done its work and isn't running: a restart does it again`]
      : []),
    ...(more.length === 0 ? [] : [`${Id} is changed or made by: ${some(more)}`]),
  ];
}

function some(names: readonly string[]): string {
  const more = names.length - LISTED;
  return `${names.slice(0, LISTED).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** The run that ends is its old version: with another one since, somebody has restarted it already. */
function entryOf(facts: UnitFacts, by: string | null, { readText }: Planning): TransactionEntry {
  const { Id, FragmentPath, SourcePath, InvocationID, ActiveEnterTimestamp } = facts;
  return {
    ...{ name: Id, architecture: "all", action: "restart" },
    from_version: runOf(ActiveEnterTimestamp, InvocationID),
    to_version: null,
    origin: [FragmentPath, SourcePath].find((path) => path !== "") ?? null,
    archive: null,
    sha256: definitionOf(facts, readText),
    ...{ size: null, essential: false, source: null, from_source: null, to_source: null, sources: [] },
    ...(by === null ? {} : { required_by: by }),
  };
}

/** `2026-11-30 19:41:02 UTC (5d0b12d7)`: since when, and the beginning of systemd's name of the run, which is random. */
function runOf(since: string, invocation: string): string {
  const [, time = "an unknown time"] = /^[A-Z][a-z]{2} (.+)$/.exec(since) ?? [];
  return invocation === "" ? time : `${time} (${invocation.slice(0, 8)})`;
}
