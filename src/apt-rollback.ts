import { aptName, batches, undoSubject } from "./apt-argv.ts";
import { parsePolicy } from "./apt-cache.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { type FoundKept, findKept, keptFiles } from "./apt-kept.ts";
import { aptSettings } from "./apt-planning.ts";
import type { PackageRequest } from "./apt-requested.ts";
import { RECORDED_INVERSE } from "./doc-evidence.ts";
import { parseResult, type Result, resultPath, type Undo } from "./doc-result.ts";
import type { Planning } from "./eco-planning.ts";

/*
 * Undoing an execution. Its record, which only root can write, says what it changed; what is left to undo follows from
 * that and dpkg's current state. No signed argv form both installs and removes, so a rollback that needs both takes two
 * plans: first the versions (apt may remove packages on the way that have to go anyway), then, with the same command
 * after applying that, the remaining removals.
 */

/** The request that undoes an execution. Obstacles are reported as its problems, never thrown. */
export async function rollbackRequest(
  id: string,
  installed: ReadonlyMap<string, DpkgPackage>,
  planning: Planning,
  config: string,
): Promise<PackageRequest> {
  const request: PackageRequest = {
    verb: null,
    packages: [],
    evidence: [],
    commands: [],
    problems: [],
    warnings: [],
  };
  const record = recordOf(id, planning);
  if (typeof record === "string") return { ...request, problems: [record] };
  const { inverse } = record;
  if (inverse === null) return { ...request, problems: [`execution ${id} has no record of how to undo it`] };
  if (inverse.length === 0)
    request.warnings.push(`execution ${id} changed no version: there is nothing to undo`);

  const native = planning.host.architecture;
  const marked = inverse.filter(({ held }) => held !== undefined);
  if (marked.length > 0) return { ...request, ...undoMarks(id, record, marked, installed, native) };
  const open = inverse.filter((undo) => versionNow(undo, installed) !== undo.before);
  request.evidence = open.map((undo) => ({
    kind: RECORDED_INVERSE,
    subject: undoSubject(undo.package, undo.architecture, undo.before),
    verified: true,
    key: null,
    detail: `execution ${id}, ended ${record.ended_at}, ${undo.before ?? "not installed"} -> ${undo.left ?? "not installed"}`,
  }));
  for (const undo of open) request.warnings.push(...changedSince(undo, installed, native));

  const restore = open.filter((undo) => undo.before !== null);
  const remove = open.filter((undo) => undo.before === null).map((undo) => nameOf(undo, native));
  if (restore.length === 0)
    return { ...request, verb: remove.length === 0 ? null : ["remove"], packages: remove };
  if (remove.length > 0) {
    request.warnings.push(
      `This restores versions. After applying it, plan the same rollback again to remove what is left: ${remove.join(" ")}`,
    );
  }
  const offers = await Promise.all(
    batches([...new Set(restore.map((undo) => nameOf(undo, native)))]).map((names) =>
      planning.run(["apt-cache", "policy", ...names], { settings: aptSettings(config) }),
    ),
  );
  const tables = parsePolicy(offers.map(({ stdout }) => stdout).join("\n"));
  const kept: FoundKept[] = [];
  const problems: string[] = [];
  const files = keptFiles(planning);
  for (const undo of restore) {
    const version = undo.before ?? "";
    if ((tables.get(nameOf(undo, native))?.versions.get(version) ?? []).length > 0) continue;
    const found = findKept({ name: undo.package, architecture: undo.architecture, version }, files, planning);
    if (typeof found === "string") problems.push(`${nameOf(undo, native)}=${version} ${found}`);
    else kept.push(found);
  }
  return {
    ...request,
    verb: ["install", "--allow-downgrades"],
    packages: restore.map((undo) => `${nameOf(undo, native)}=${undo.before}`),
    commands: offers.map(({ evidence }) => evidence),
    kept,
    problems,
  };
}

/** Undoes a change of holds, of packages that are still there: an execution either sets or takes off, and changes nothing else. */
function undoMarks(
  id: string,
  { ended_at }: Result,
  marked: readonly Undo[],
  installed: ReadonlyMap<string, DpkgPackage>,
  native: string,
): Pick<PackageRequest, "verb" | "packages" | "evidence" | "warnings"> {
  const there = marked.map((undo) => ({ undo, now: installed.get(`${undo.package}:${undo.architecture}`) }));
  const gone = there.filter(({ undo }) => versionNow(undo, installed) === null);
  const open = there.filter(
    ({ undo, now }) => versionNow(undo, installed) !== null && (now?.selection === "hold") !== undo.held,
  );
  const mark = open[0]?.undo.held === true ? "hold" : "unhold";
  return {
    verb: open.length === 0 ? null : [mark],
    packages: open.map(({ undo }) => nameOf(undo, native)),
    evidence: open.map(({ undo, now }) => ({
      kind: RECORDED_INVERSE,
      subject: undoSubject(undo.package, undo.architecture, now?.version ?? null),
      verified: true,
      key: null,
      detail: `execution ${id}, ended ${ended_at}, ${undo.held ? "on hold" : "not on hold"} before`,
    })),
    warnings: gone.map(
      ({ undo }) => `${nameOf(undo, native)} is no longer installed: there is no hold to change`,
    ),
  };
}

/** The record of a finished execution, or why there is none to use. */
export function recordOf(id: string, planning: Planning): Result | string {
  const text = planning.readText(resultPath(id));
  if (text === null) {
    return `can't read an outcome of execution ${id} (only root and members of aegis-admin may)`;
  }
  try {
    const record = parseResult(text);
    // A copy under another name would undo something other than what the plan says.
    if (record.execution_plan_id !== id)
      return `the outcome file of execution ${id} belongs to another execution`;
    return record.state === "running" ? `execution ${id} is still running` : record;
  } catch {
    return `the outcome of execution ${id} is malformed`;
  }
}

/** A warning if a package has changed since the execution. */
function changedSince(undo: Undo, installed: ReadonlyMap<string, DpkgPackage>, native: string): string[] {
  const now = versionNow(undo, installed);
  if (now === undo.left) return [];
  const words = (version: string | null) => version ?? "not installed";
  return [
    `${nameOf(undo, native)} has changed since: the execution left it ${words(undo.left)}, now it is ${words(now)}`,
  ];
}

function versionNow(undo: Undo, installed: ReadonlyMap<string, DpkgPackage>): string | null {
  const found = installed.get(`${undo.package}:${undo.architecture}`);
  return found === undefined || found.state === "config-files" ? null : found.version;
}

function nameOf(undo: Undo, native: string): string {
  return aptName(undo.package, undo.architecture, native);
}
