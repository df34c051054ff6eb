import { doubtOf } from "./doc-evidence.ts";
import { isFetched, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import { REPOSITORY_TRUST } from "./doc-plan-evidence.ts";
import { nameOf } from "./policy-facts.ts";
import { isCritical } from "./policy-packages.ts";
import { restartRisk } from "./sys-unit-risk.ts";

/*
 * Which packages of a plan are notable, and why, for those who judge it: the model and the approver.
 */

/** A notable package and why, the most serious reason first. */
export interface Notable {
  entry: TransactionEntry;
  marks: Mark[];
}

interface Mark {
  what: string;
  /** Whether the approver is told to look at the package first. */
  isDanger: boolean;
}

interface Context {
  tool: OperationPlan["tool"];
  asked: ReadonlySet<string>;
  held: ReadonlySet<string>;
  sensitive: readonly string[];
  /** By id of the source; of two sources with one id, the less trusted counts. */
  doubts: ReadonlyMap<string, number>;
}

const PINNED = REPOSITORY_TRUST.indexOf("pinned");
const WEAK = REPOSITORY_TRUST.indexOf("weak");
const UNTRUSTED = REPOSITORY_TRUST.indexOf("untrusted");

const danger = (what: string, holds: (entry: TransactionEntry, context: Context) => boolean) => ({
  what,
  holds,
  isDanger: true,
});
const remark = (what: string, holds: (entry: TransactionEntry, context: Context) => boolean) => ({
  what,
  holds,
  isDanger: false,
});

/** What can be notable about a package, most serious first. */
export const MARKS = [
  danger("essential package removed", (e) => e.action === "remove" && e.essential),
  danger("removed", (e) => e.action === "remove"),
  danger("from a source without trust", (e, c) => isDownloaded(e, c) && worstDoubt(e, c) >= WEAK),
  danger("no SHA-256 known", (e, c) => isDownloaded(e, c) && e.sha256 === null),
  danger("takes over files of another package", (e) => e.takes_over !== undefined),
  danger("downgraded", (e) => e.action === "downgrade"),
  danger("kernel", (e, c) => isCritical("kernel", c.tool, e.name)),
  danger("needed to boot", (e, c) => isCritical("boot loader", c.tool, e.name)),
  danger("security-sensitive", (e, c) => isCritical("security-sensitive", c.tool, e.name, c.sensitive)),
  danger("its restart may cut off others", (e) => e.action === "restart" && restartRisk(e.name) !== null),
  danger("restarted with another", (e) => e.action === "restart" && e.required_by !== undefined),
  remark("from a third party", (e, c) => isDownloaded(e, c) && worstDoubt(e, c) === PINNED),
  danger("on hold", (e, c) => c.held.has(e.name) || c.held.has(`${e.name}:${e.architecture}`)),
  danger("essential package", (e) => e.action !== "remove" && e.essential),
  remark("asked for by name", (e, c) => c.asked.has(e.name) || c.asked.has(nameOf(e))),
];

/**
 * The notable packages, most serious first, and the others. `sensitive` adds to the security-sensitive packages, see
 * {@link isCritical}.
 */
export function byAttention(
  plan: OperationPlan,
  sensitive: readonly string[] = [],
): { notable: Notable[]; ordinary: TransactionEntry[] } {
  const doubts = new Map<string, number>();
  for (const source of plan.repository_evidence) {
    doubts.set(source.id, Math.max(doubtOf(source), doubts.get(source.id) ?? 0));
  }
  const context: Context = {
    tool: plan.tool,
    asked: new Set(plan.targets.flatMap(namesOfTarget)),
    held: new Set(plan.packages_held_back),
    sensitive,
    doubts,
  };
  const marked = plan.transaction.map((entry) => {
    const holding = MARKS.flatMap((mark, rank) => (mark.holds(entry, context) ? [{ mark, rank }] : []));
    return { entry, marks: holding.map(({ mark }) => mark), rank: holding[0]?.rank ?? MARKS.length };
  });
  return {
    notable: marked.filter(({ marks }) => marks.length > 0).sort((a, b) => a.rank - b.rank),
    ordinary: marked.filter(({ marks }) => marks.length === 0).map(({ entry }) => entry),
  };
}

function isDownloaded(entry: TransactionEntry, { tool }: Context): boolean {
  return tool === "apt" && isFetched(entry);
}

/** The least trusted source that offers the package, since apt may take it from any of them. */
function worstDoubt(entry: TransactionEntry, { doubts }: Context): number {
  const found = entry.sources.map((id) => doubts.get(id) ?? UNTRUSTED);
  return found.length === 0 ? UNTRUSTED : Math.max(...found);
}

/** Names a target may have in the transaction: `nginx` for `nginx:amd64=1.22`, `left-pad` for `left-pad@1.3.0`. */
function namesOfTarget(target: string): string[] {
  return [
    target,
    target.replace(/=.*$/, ""),
    target.replace(/[:=].*$/, ""),
    target.replace(/(?<=.)@.*$/, ""),
  ];
}
