import { aptName, batches } from "./apt-argv.ts";
import { commandFailure } from "./apt-evidence.ts";
import { aptSettings, planningConfig } from "./apt-planning.ts";
import { inspectRepositories, type Repositories } from "./apt-repositories.ts";
import { parseSimulation, type Simulation } from "./apt-simulation.ts";
import type { AptSource } from "./apt-source.ts";
import { type AptDirs, readSources } from "./apt-sources.ts";
import type { Planning, PlanningOutput } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";

/* What planning asks apt: a simulation, what is known of packages, the sources. */

/** A simulation, with stanzas and version tables of every package in it. */
export interface Simulated {
  simulated: PlanningOutput;
  simulation: Simulation;
  show: PlanningOutput[];
  policy: PlanningOutput[];
}

/** Runs the simulation, then gets stanzas and version tables of every package in it. */
export async function simulate(
  argv: readonly string[],
  planning: Planning,
  config: string,
): Promise<Simulated> {
  const native = planning.host.architecture;
  const simulated = await planning.run(["apt-get", "-s", ...argv], {
    settings: aptSettings(config),
    keep: true,
  });
  const simulation = parseSimulation(simulated.stdout);
  const packages: { name: string; version: string | null }[] = [
    ...simulation.installations.map((i) => ({
      name: aptName(i.name, i.architecture, native),
      version: i.to,
    })),
    ...simulation.removals.map((r) => ({
      name: aptName(r.name, r.architecture ?? native, native),
      version: r.from,
    })),
  ];
  const exact = packages.flatMap(({ name, version }) => (version === null ? [] : [`${name}=${version}`]));
  const names = [...new Set(packages.map(({ name }) => name))];
  const [show, policy] = await Promise.all([
    askCache("show", exact, planning, config),
    askCache("policy", names, planning, config),
  ]);
  return { simulated, simulation, show, policy };
}

/** The host's settings for planning, or why they can't be used. */
export function freeze(
  dump: PlanningOutput,
  aptCache: string | undefined,
): { config: string; problems: string[] } {
  const problems = commandFailure(dump);
  if (problems.length > 0) return { config: "", problems };
  try {
    return { config: planningConfig(dump.stdout, aptCache), problems };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    return { config: "", problems: [`${error.message}. ${error.hint}`] };
  }
}

/** This host's configured sources. */
export async function gatherRepositories(
  dirs: AptDirs,
  planning: Planning,
): Promise<{ sources: AptSource[]; repositories: Repositories; problems: string[] }> {
  const { sources, problems } = readSources(dirs, planning.host.architecture, planning);
  const repositories = await inspectRepositories(sources, dirs, planning);
  return {
    sources,
    problems,
    repositories: { ...repositories, warnings: [...problems, ...repositories.warnings] },
  };
}

/** Asks apt-cache(8) about packages, as many calls as their names need. */
export function askCache(
  command: "show" | "policy",
  packages: readonly string[],
  planning: Planning,
  config: string,
): Promise<PlanningOutput[]> {
  return Promise.all(
    batches(packages).map((some) =>
      planning.run(["apt-cache", command, ...some], { settings: aptSettings(config) }),
    ),
  );
}

/** The output of several calls as one text. */
export function stdoutOf(outputs: readonly PlanningOutput[]): string {
  return outputs.map((output) => output.stdout).join("\n");
}
