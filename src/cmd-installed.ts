import { byCodeUnit } from "./canonical.ts";
import {
  type InstalledPackage,
  type InstalledRoot,
  installedLines,
  installedText,
} from "./cmd-installed-view.ts";
import { defineSubcommand, type Io } from "./command.ts";
import type { Tool } from "./doc-plan.ts";
import { vulnerabilityChange } from "./doc-vulnerabilities.ts";
import { ECOSYSTEMS, loadEcosystem } from "./eco-load.ts";
import { ECOSYSTEM_NAMES, isEcosystemName } from "./eco-names.ts";
import type { RecordedPackage } from "./eco-record.ts";
import { AegisError, EXIT, messageOf } from "./errors.ts";
import { lookAtManaged, type ManagedLook, type ManagedLooks } from "./monitor-managed.ts";
import { vulnerabilitiesOf } from "./osv.ts";
import { hasOsvSource, hasOsvSourceFor, NO_SOURCE } from "./osv-source.ts";
import { hostIdentity } from "./plan-world.ts";
import { namesIn, readBytes, readText } from "./sys-files.ts";
import { safe } from "./terminal.ts";

/** Deviations of one root in the document; its count is of all. */
const MOST_DEVIATIONS = 1000;

/** Names of the ecosystems with managed directories. docker has podman's tool and keeps its images itself. */
const MANAGED = Object.keys(ECOSYSTEM_NAMES)
  .filter(isEcosystemName)
  .filter((name) => name !== "docker" && ECOSYSTEMS[ECOSYSTEM_NAMES[name]]?.managed !== undefined);

export const auditInstalled = defineSubcommand({
  name: "installed",
  description: "List what managed directories hold, by whom, and whether it is what was signed",
  args: {
    ecosystem: {
      type: "positional",
      required: false,
      complete: MANAGED,
      description: `One of ${MANAGED.join(", ")}; by default all`,
    },
  },
  async run({ ecosystem }, io) {
    const tool = ecosystem === undefined ? null : await managedTool(ecosystem);
    const looks = await lookAtManaged(tool);
    const { roots, warnings } = await withFacts(looks, io);
    const document = {
      schema_version: "1.0",
      checked_at: new Date().toISOString(),
      vulnerabilities_known: hasOsvSource({ env: io.env, list: namesIn }),
      roots,
      executions: looks.executions,
      warnings,
    };
    if (io.terminal.interactive) io.result(document, installedText(document, io.terminal));
    else {
      io.result(document, installedLines(document));
      if (!io.json) for (const line of notes(roots, warnings)) io.note(line);
    }
    return roots.some(({ state }) => state === "deviating") ? EXIT.verification : EXIT.ok;
  },
});

/** @throws AegisError `usage` for one without a managed directory, `not_built` */
async function managedTool(name: string): Promise<Tool> {
  if (name === "apt")
    throw new AegisError(
      "usage",
      "apt has no managed directory: its packages are in dpkg's database",
      "For what is installed type: dpkg-query --list; for what Aegis changed: aegis audit show --system",
    );
  const refused = (what: string) =>
    new AegisError("usage", what, `With managed directories there are: ${MANAGED.join(", ")}.`);
  if (!isEcosystemName(name)) throw refused(`there is no ecosystem ${safe(name)}`);
  if (!MANAGED.includes(name)) throw refused(`${name} has no managed directory`);
  return (await loadEcosystem(name)).tool;
}

/** The roots with what is known of each package. */
async function withFacts(
  { roots, executions }: ManagedLooks,
  io: Io,
): Promise<{ roots: InstalledRoot[]; warnings: string[] }> {
  const warnings = new Set<string>();
  const by = new Map(executions.map((one) => [one.id, one]));
  const facts: InstalledRoot[] = [];
  for (const { packages, deviations, ...root } of roots) {
    const known = await knownVulnerabilities({ ...root, packages }, io, warnings);
    facts.push({
      ...root,
      packages: [...packages].sort(byPackage).map((one): InstalledPackage => {
        const execution = one.execution === null ? undefined : by.get(one.execution);
        return {
          ...one,
          signed_by: execution?.signed_by ?? null,
          approved_by: execution?.approved_by ?? [],
          vulnerabilities: known?.get(`${one.name} ${one.version}`) ?? null,
        };
      }),
      deviations: deviations.slice(0, MOST_DEVIATIONS).map(({ path, what }) => ({ path, what })),
      deviations_count: deviations.length,
    });
  }
  return { roots: facts, warnings: [...warnings] };
}

/** Packages by name, each followed by what is part of it. */
function byPackage(a: RecordedPackage, b: RecordedPackage): number {
  const keys = ({ name, version, part_of }: RecordedPackage) =>
    part_of === null ? [name, "", "", version] : [part_of, "part", name, version];
  const [first, second] = [keys(a), keys(b)];
  for (const [i, key] of first.entries()) {
    const order = byCodeUnit(key, second[i] ?? "");
    if (order !== 0) return order;
  }
  return 0;
}

type Known = Map<string, InstalledPackage["vulnerabilities"]>;

/** By `name version`; null where nothing could be looked up. Adds to `warnings` why. */
async function knownVulnerabilities(
  { tool, packages }: Pick<ManagedLook, "tool" | "packages">,
  io: Io,
  warnings: Set<string>,
): Promise<Known | null> {
  const grammar = tool === null ? undefined : ECOSYSTEMS[tool]?.grammar;
  if (grammar === undefined || packages.length === 0) return null;
  try {
    const list = (path: string) => namesIn(path).sort();
    const lookup = { env: io.env, host: hostIdentity(readText), now: new Date(), readText, readBytes, list };
    if (!hasOsvSourceFor(grammar, lookup)) {
      warnings.add(`Vulnerabilities are unknown: ${NO_SOURCE}`);
      return null;
    }
    const found = await vulnerabilitiesOf(grammar, packages, lookup);
    for (const warning of found.warnings) warnings.add(warning);
    const known: Known = new Map(packages.map(({ name, version }) => [`${name} ${version}`, []]));
    const rows = Map.groupBy(found.evidence, ({ package: name, version }) => `${name} ${version}`);
    for (const [key, vulnerability_evidence] of rows) {
      const { introduces, not_affected, unanswered } = vulnerabilityChange({
        transaction: [],
        vulnerability_evidence,
      });
      const list = [...introduces, ...not_affected].map(
        ({ name, also, package: _of, version: _version, ...facts }) => ({
          id: name,
          aliases: also,
          ...facts,
        }),
      );
      known.set(key, unanswered.length > 0 ? null : list);
    }
    return known;
  } catch (error) {
    warnings.add(`Vulnerabilities are unknown: ${messageOf(error)}.`);
    return null;
  }
}

/** What is said beside the lines of a pipe. */
function notes(roots: readonly InstalledRoot[], warnings: readonly string[]): string[] {
  const odd = roots.flatMap(({ path, state, problem, deviations, deviations_count: count }) => {
    const more = count > deviations.length ? [`${path}: and ${count - deviations.length} more`] : [];
    const isAtWork = state === "changing" ? [`${path}: an execution is changing it`] : [];
    const paths = state === "deviating" ? deviations : [];
    return [
      ...isAtWork,
      ...(problem === null ? [] : [`${path}: ${problem}`]),
      ...paths.map(
        (one) =>
          `${path}: not as signed: ${one.path === "" ? "the directory" : safe(one.path)} (${safe(one.what)})`,
      ),
      ...(state === "deviating" ? more : []),
    ];
  });
  return [...odd, ...warnings.map(safe)];
}
