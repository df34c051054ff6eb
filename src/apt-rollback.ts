import { aptName, batches, undoSubject } from "./apt-argv.ts";
import { parsePolicy } from "./apt-cache.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { aptSettings } from "./apt-planning.ts";
import type { Wish } from "./apt-requested.ts";
import { RECORDED_INVERSE } from "./doc-evidence.ts";
import { parseResult, type Result, resultPath, type Undo } from "./doc-result.ts";
import type { Planning } from "./eco-planning.ts";

/*
 * Undoing an execution: its own record, which only root can write, says what it changed; what is left to undo follows from
 * that and from dpkg's state now. apt can't be asked to install and to remove in one of the signed argv forms, so a
 * rollback that needs both is two plans: the versions first (apt may take away on the way what has to go anyway), then,
 * planned by the same words once that has been applied, what is left to remove.
 */

/** What is wished for to undo an execution. Whatever stands in the way is a problem of the wish, never an exception. */
export async function rollbackWish(
  id: string,
  installed: ReadonlyMap<string, DpkgPackage>,
  planning: Planning,
  config: string,
): Promise<Wish> {
  const wish: Wish = { verb: null, packages: [], evidence: [], commands: [], problems: [], warnings: [] };
  const record = readRecord(id, planning);
  if (typeof record === "string") return { ...wish, problems: [record] };
  const { inverse } = record;
  if (inverse === null) return { ...wish, problems: [`execution ${id} has no record of what undoes it`] };
  if (inverse.length === 0)
    wish.warnings.push(`execution ${id} changed no version: there is nothing to undo`);

  const native = planning.host.architecture;
  const open = inverse.filter((undo) => versionNow(undo, installed) !== undo.before);
  wish.evidence = open.map((undo) => ({
    kind: RECORDED_INVERSE,
    subject: undoSubject(undo.package, undo.architecture, undo.before),
    verified: true,
    key: null,
    detail: `execution ${id}, ended ${record.ended_at}, ${undo.before ?? "not installed"} -> ${undo.left ?? "not installed"}`,
  }));
  for (const undo of open) wish.warnings.push(...changedSince(undo, installed, native));

  const restore = open.filter((undo) => undo.before !== null);
  const remove = open.filter((undo) => undo.before === null).map((undo) => nameOf(undo, native));
  if (restore.length === 0)
    return { ...wish, verb: remove.length === 0 ? null : ["remove"], packages: remove };
  if (remove.length > 0) {
    wish.warnings.push(
      `This restores versions. When it has been applied, plan the same rollback again for what is then left to remove: ${remove.join(" ")}`,
    );
  }
  const offers = await Promise.all(
    batches([...new Set(restore.map((undo) => nameOf(undo, native)))]).map((names) =>
      planning.run(["apt-cache", "policy", ...names], { settings: aptSettings(config) }),
    ),
  );
  const tables = parsePolicy(offers.map(({ stdout }) => stdout).join("\n"));
  const gone = restore.filter(
    (undo) => (tables.get(nameOf(undo, native))?.versions.get(undo.before ?? "") ?? []).length === 0,
  );
  return {
    ...wish,
    verb: ["install", "--allow-downgrades"],
    packages: restore.map((undo) => `${nameOf(undo, native)}=${undo.before}`),
    commands: offers.map(({ evidence }) => evidence),
    problems: gone.map(
      (undo) =>
        `${nameOf(undo, native)}=${undo.before} is no longer to be had: no configured source offers that version any more`,
    ),
  };
}

/** The record of an execution that has ended, or why there is none to go by. */
function readRecord(id: string, planning: Planning): Result | string {
  const text = planning.readText(resultPath(id));
  if (text === null) {
    return `no outcome of an execution ${id} can be read (only root and members of aegis-admin may)`;
  }
  try {
    const record = parseResult(text);
    // A copy under another name would undo something else than what people read in the plan.
    if (record.execution_plan_id !== id) return `the outcome of execution ${id} is of another execution`;
    return record.state === "running" ? `execution ${id} is still running` : record;
  } catch {
    return `the outcome of execution ${id} can't be understood`;
  }
}

/** Says what became of a package since the execution left it. */
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
