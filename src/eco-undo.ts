import { join } from "node:path";
import { sha256Hex } from "./canonical.ts";
import { CONTENT_KEPT, CONTENT_LEFT, CONTENT_REPLACED } from "./doc-evidence.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import type { ProvenanceEvidence } from "./doc-plan-evidence.ts";
import { type Content, parseResult, type Result, resultPath, type Undo } from "./doc-result.ts";
import { type Ecosystem, emptyFindings, type Findings } from "./eco.ts";
import type { ManagedStore } from "./eco-managed.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { STATE, type StatePaths } from "./sys-state.ts";
import { showArgv } from "./terminal.ts";

/*
 * Planning the rollback of a managed root: what an execution replaced comes back as it was. All of it is told by records that root
 * wrote and members of aegis-admin may read, and by the root itself, so that everybody who plans gets the same.
 */

/** What a rollback has to know of an ecosystem's managed root. */
interface ManagedRoot {
  /** Its name below `state`. */
  root: string;
  purl(name: string, version: string): string;
  /** Loads what says how the root is read, where it isn't one of plain files. */
  store?: () => Promise<ManagedStore | undefined>;
  state: string;
  paths: StatePaths;
}

const HERE = { state: SYSTEM.state, paths: STATE };
/** treeDigest of an empty directory. */
const EMPTY = sha256Hex("");

/** The signed argv of a rollback. It names no program: the supervisor (eco-build.ts) does this itself, by the digests of the plan. */
export function rollbackArgv(tool: string, root: string, execution: string): string[] {
  return ["aegis", "rollback", tool, join(SYSTEM.state, root), execution];
}

/** Whether an argv is one of {@link rollbackArgv}. */
export function isRollbackArgv(argv: readonly string[]): boolean {
  return argv[0] === "aegis";
}

/** An ecosystem with the rollback of its managed root. `at` names other directories, for tests. */
export function withRollback(
  ecosystem: Ecosystem,
  how: Pick<ManagedRoot, "root" | "purl" | "store">,
  at: Pick<ManagedRoot, "state" | "paths"> = HERE,
): Ecosystem {
  const managed = { ...how, ...at };
  return {
    ...ecosystem,
    gather: (operation, targets, planning) =>
      operation === "rollback"
        ? rollbackFindings(ecosystem, targets.targets[0] ?? "", planning, managed)
        : ecosystem.gather(operation, targets, planning),
    signedArgv(plan) {
      if (plan.operation !== "rollback") return ecosystem.signedArgv(plan);
      const [execution, ...others] = plan.exact_targets;
      if (execution === undefined || others.length > 0)
        throw new AegisError("invalid_document", "the plan names no single execution", "Plan again.");
      return rollbackArgv(ecosystem.tool, how.root, execution);
    },
  };
}

/** @throws AegisError `not_found`, `busy`, `drift`, `invalid_target`: what can't be undone, why, and what to type */
async function rollbackFindings(
  ecosystem: Ecosystem,
  id: string,
  planning: Planning,
  managed: ManagedRoot,
): Promise<Findings> {
  const { root, state, paths, store } = managed;
  const record = recordOf(id, ecosystem.tool, planning, paths);
  const base: Findings = {
    ...emptyFindings(rollbackArgv(ecosystem.tool, root, id)),
    ...{ exact_targets: [id], metadata_available: true },
  };
  const { content, inverse } = record;
  if (content === undefined || content.before === content.after || inverse === null) {
    const what = `Execution ${id} changed nothing in ${join(state, root)}: there is nothing to undo.`;
    return { ...base, nothing_to_do: true, warnings: [what] };
  }
  const records = recordsOf(ecosystem.tool, planning, paths);
  const now = (await planning.contentOf(join(state, root), await store?.())) ?? EMPTY;
  const byName = earlierByName(ecosystem, inverse);
  if (now !== content.after) throw changedSince(record, content, now, records, { managed, byName });
  const kept = join(state, "previous", root);
  const isKept = planning.list(kept);
  if (!isKept.includes(id)) {
    // After a rollback, and one of that.
    const same = records.findLast(
      (one) =>
        one.content.after === now &&
        one.content.before === content.before &&
        isKept.includes(one.execution_plan_id),
    );
    throw new AegisError(
      "not_found",
      `what execution ${id} replaced isn't kept any more: of each managed directory the last three contents are`,
      same === undefined
        ? byName
        : `A later execution made the same change, undo that: ${showArgv(["aegis", "plan", "rollback", same.execution_plan_id])}`,
    );
  }
  const transaction = inverse
    .flatMap((undo) => entriesOf(undo, inverse, ecosystem, planning, managed))
    .map((entry) => ({ ...entry, origin: entry.to_version === null ? null : join(kept, id) }));
  const vouched = vouchedFor(content.before, records);
  return {
    ...base,
    transaction,
    sbom_evidence: transaction.flatMap(({ purl }) => (purl === undefined ? [] : [{ purl, sha256: null }])),
    signature_or_checksum_status: vouched === null ? "unverified" : "kept-content-verified",
    warnings: [
      ...(transaction.length === 0 ? ["No package changes its version; their files do."] : []),
      ...(vouched === null
        ? [`What was in ${join(state, root)} before execution ${id} did not all come by executions.`]
        : []),
    ],
    provenance_evidence: [
      evidence(CONTENT_LEFT, content.after, true, `what execution ${id} left, which is there now`),
      evidence(
        CONTENT_REPLACED,
        content.before,
        vouched !== null,
        `what was there before: ${vouched ?? "nothing vouches for all of it"}`,
      ),
    ],
    rollback_plan: CONTENT_KEPT,
  };
}

function evidence(kind: string, subject: string, verified: boolean, detail: string): ProvenanceEvidence {
  return { kind, subject, verified, key: null, detail };
}

/** @throws AegisError `not_found`, `invalid_target` for another ecosystem's, `busy` for one that has not ended */
function recordOf(id: string, tool: string, planning: Planning, paths: StatePaths): Result {
  const text = planning.readText(resultPath(id, paths));
  if (text === null) {
    throw new AegisError(
      "not_found",
      `there is no outcome of execution ${id} that can be read here`,
      `Only root and members of ${paths.readers} may. Ids: aegis daemon status`,
    );
  }
  const record = readable(text);
  // A copy under another name would undo something other than what the plan says.
  if (record?.execution_plan_id !== id)
    throw new AegisError("not_found", `the outcome file of execution ${id} is not that execution's`);
  if (record.tool !== tool) {
    const typed = showArgv(["aegis", "plan", "rollback", id]);
    throw new AegisError("invalid_target", `execution ${id} is one of ${record.tool}`, `Type: ${typed}`);
  }
  if (record.state === "running")
    throw new AegisError(
      "busy",
      `execution ${id} is still running`,
      `Wait for its end: ${showArgv(["aegis", "apply", "--watch", id])}`,
    );
  return record;
}

type Exchange = Result & { content: Content };

/** The executions that exchanged the root of a tool, oldest first. */
function recordsOf(tool: string, planning: Planning, paths: StatePaths): Exchange[] {
  return planning
    .list(paths.results)
    .flatMap((name) => {
      const text = planning.readText(join(paths.results, name));
      // Most are of other tools: a glance is cheaper than their schema.
      const record = text?.includes('"content"') === true ? readable(text) : null;
      if (record?.content === undefined || record.tool !== tool) return [];
      return [{ ...record, content: record.content }];
    })
    .sort((a, b) =>
      `${a.started_at} ${a.execution_plan_id}` < `${b.started_at} ${b.execution_plan_id}` ? -1 : 1,
    );
}

function readable(text: string): Result | null {
  try {
    return parseResult(text);
  } catch {
    return null;
  }
}

/**
 * How a content came about, if nothing but executions made it, the first of them in an empty directory: each compared every file
 * with the signed ones. Null if the root had been filled or changed in another way.
 */
function vouchedFor(content: string, records: readonly Exchange[]): string | null {
  const seen = new Set<string>();
  const isVouched = (digest: string): boolean => {
    if (digest === EMPTY) return true;
    if (seen.has(digest)) return false;
    seen.add(digest);
    return records.some((one) => one.content.after === digest && isVouched(one.content.before));
  };
  if (!isVouched(content)) return null;
  const by = records.find((one) => one.content.after === content);
  return by === undefined
    ? "an empty directory"
    : `what execution ${by.execution_plan_id} left on ${by.started_at.slice(0, 10)}`;
}

/** The root holds something else than the execution left: what it holds, and what can be done. */
function changedSince(
  { execution_plan_id: id, started_at }: Result,
  content: Content,
  now: string,
  records: readonly Exchange[],
  { managed: { root, state }, byName }: { managed: ManagedRoot; byName: string },
): AegisError {
  const at = join(state, root);
  const later = records.findLast((one) => one.content.after === now && one.started_at > started_at);
  const undo = (other: Exchange) => showArgv(["aegis", "plan", "rollback", other.execution_plan_id]);
  if (now === content.before) {
    const by = later === undefined ? "" : `, by execution ${later.execution_plan_id}`;
    return new AegisError(
      "drift",
      `execution ${id} is undone already: ${at} holds what was there before it${by}`,
      later === undefined ? byName : `To undo that in turn: ${undo(later)}`,
    );
  }
  if (later !== undefined) {
    return new AegisError(
      "drift",
      `execution ${later.execution_plan_id} came after ${id} and changed ${at} again`,
      `Undo that first: ${undo(later)}`,
    );
  }
  return new AegisError(
    "drift",
    `${at} is not what execution ${id} left: something other than an execution has changed it since`,
    byName,
  );
}

/** What to type where the earlier content can't be brought back: the earlier version, if there was one. */
function earlierByName({ tool, forms }: Ecosystem, inverse: readonly Undo[]): string {
  const sign = forms.exact.includes("==") ? "==" : "@";
  const known = inverse.find(({ package: key, before }) => before !== null && !/ /.test(`${key}${before}`));
  if (known === undefined) return "There was no earlier version. See: aegis daemon status";
  return `Install the earlier version by its name: ${showArgv(["aegis", "plan", tool, "install", `${known.package}${sign}${known.before}`])}`;
}

/** Versions of one key of the inventory: what there is too much of goes, what is missing comes back. */
function entriesOf(
  { package: key, before, left }: Undo,
  inverse: readonly Undo[],
  ecosystem: Ecosystem,
  { host }: Planning,
  { purl }: ManagedRoot,
): TransactionEntry[] {
  const [name = "", owner] = key.split(" ");
  const [then, now] = [before, left].map((versions) => versions?.split(" ") ?? []);
  const back = (then ?? []).filter((version) => !now?.includes(version));
  const gone = (now ?? []).filter((version) => !then?.includes(version));
  const versionOfOwner = inverse.find((one) => one.package === owner);
  const requiredBy =
    owner === undefined
      ? {}
      : { required_by: `${owner} ${versionOfOwner?.before ?? versionOfOwner?.left ?? ""}`.trim() };
  const entry = (
    action: TransactionEntry["action"],
    from: string | null,
    to: string | null,
  ): TransactionEntry => ({
    ...{ name, architecture: "all", action, from_version: from, to_version: to, origin: null, archive: null },
    ...{ sha256: null, size: null, essential: false, source: null, from_source: null, to_source: null },
    sources: [],
    ...(to === null ? {} : { purl: purl(name, to) }),
    ...requiredBy,
  });
  const [from, to] = [gone[0], back[0]];
  if (gone.length === 1 && back.length === 1 && from !== undefined && to !== undefined)
    return [entry(isNewer(ecosystem.osv(host)?.versioning, from, to) ? "upgrade" : "downgrade", from, to)];
  return [
    ...gone.map((one) => entry("remove", one, null)),
    ...back.map((one) => entry("install", null, one)),
  ];
}

/** Whether `to` is the newer version. Of versions that can't be compared it is not. */
function isNewer(
  versioning: NonNullable<ReturnType<Ecosystem["osv"]>>["versioning"] | undefined,
  from: string,
  to: string,
): boolean {
  if (versioning === undefined || !versioning.isVersion(from) || !versioning.isVersion(to)) return false;
  return versioning.compare(from, to) < 0;
}
