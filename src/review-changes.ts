import { checkedTrust, doubtOf } from "./doc-evidence.ts";
import { isFetched, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import type { RepositoryEvidence } from "./doc-plan-evidence.ts";
import { byAttention, MARKS, type Notable } from "./plan-attention.ts";
import { commaList, fitLines, type Section, word } from "./review-text.ts";
import { plural } from "./terminal.ts";

/*
 * The transaction and its sources as evidence. Notable packages come first, so that truncation drops the harmless ones.
 */

/** A source with its label in the prompt (`S1`) and its trust; of duplicate ids, the least trusted. */
export interface NumberedSource {
  label: string;
  source: RepositoryEvidence;
  trust: string;
}

const TRUST: Readonly<Record<RepositoryEvidence["trust"], string>> = {
  distribution: "trusted: the distribution's own",
  pinned: "third party, key pinned to it",
  snapshot: "the distribution's own as of an earlier day, its index has expired",
  weak: "third party, key NOT pinned to it",
  untrusted: "NOT trusted",
};

/**
 * All sources: those that offer a package of the transaction first, then the least trusted first. Of two sources with one
 * id, the less trusted counts.
 */
export function numberSources(plan: OperationPlan): Map<string, NumberedSource> {
  const used = new Set(plan.transaction.flatMap(({ sources }) => sources));
  const rank = (source: RepositoryEvidence) => (used.has(source.id) ? 0 : 1);
  const sorted = plan.repository_evidence.toSorted((a, b) => rank(a) - rank(b) || doubtOf(b) - doubtOf(a));
  const numbered = new Map<string, NumberedSource>();
  for (const source of sorted) {
    if (numbered.has(source.id)) continue;
    const trust = source.signature_verified
      ? TRUST[checkedTrust(source)]
      : "NOT trusted: no verified signature";
    numbered.set(source.id, { label: `S${numbered.size + 1}`, source, trust });
  }
  return numbered;
}

/** Limit, in characters, on the names in one line of the overview. */
const OVERVIEW_NAMES = 100;
/** Characters reserved for the lines that say what was left out. */
const FRAME = 300;
/** Share of the remaining room for package details; the rest is for names. */
const DETAILS = 0.7;

/**
 * What would change, in at most `room` characters: counts, an overview of what is notable, each notable package in detail,
 * and the others by name.
 */
export function changesSection(
  plan: OperationPlan,
  sources: ReadonlyMap<string, NumberedSource>,
  room: number,
): Section {
  const { notable, ordinary } = byAttention(plan);
  const head = [...overview(plan, notable), ...(notable.length > 0 ? ["One by one:"] : [])];

  const left = room - head.join("\n").length - FRAME;
  const toDetail = (one: Notable) => detail(one, plan.tool, sources);
  const toName = ({ name }: TransactionEntry) => ` ${word(name)}`;
  const details = fitLines(notable, toDetail, Math.floor(left * DETAILS));
  const undetailed = notable.slice(details.lines.length).map(({ entry }) => entry);
  const more = fitLines(undetailed, toName, left - details.chars);
  const others = fitLines(ordinary, toName, left - details.chars - more.chars);
  const unnamed = more.left + others.left;

  const lines = [...head, ...details.lines];
  const omitted: string[] = [];
  if (undetailed.length > 0) {
    omitted.push(`details of ${plural(undetailed.length, "package")} that stand out`);
    lines.push(`- NOT SHOWN: ${omitted.join("")}. By name:${more.lines.join(",")}`);
  }
  if (others.lines.length > 0) lines.push(`Nothing stands out about the others:${others.lines.join(",")}`);
  if (unnamed > 0) {
    omitted.push(`the names of ${plural(unnamed, "more package")}`);
    lines.push(`- NOT SHOWN: ${omitted.at(-1)}`);
  }
  return { lines, omitted };
}

/** Counts, and per mark the number of packages and the first names, so that one frequent mark can't crowd out the others. */
function overview(plan: OperationPlan, notable: readonly Notable[]): string[] {
  const lines = MARKS.flatMap((mark) => {
    const found = notable.filter(({ marks }) => marks.includes(mark)).map(({ entry }) => entry.name);
    return found.length === 0
      ? []
      : [`- ${mark.what}: ${found.length} (${commaList(found, OVERVIEW_NAMES)})`];
  });
  const held = plan.packages_held_back;
  return [
    `Packages that change: ${counts(plan)}.`,
    ...(held.length > 0 ? [`Kept back or on hold: ${commaList(held, OVERVIEW_NAMES)}.`] : []),
    ...(lines.length > 0 ? ["What stands out, the gravest first:", ...lines] : []),
  ];
}

function counts(plan: OperationPlan): string {
  const actions = Map.groupBy(plan.transaction, ({ action }) => action);
  const parts = [...actions].map(([action, entries]) => `${entries.length} to ${action}`);
  return parts.length === 0 ? "none" : `${plan.transaction.length} (${parts.join(", ")})`;
}

/** `- upgrade sudo from 1 to 2; from S1; security-sensitive` */
function detail(
  { entry, marks }: Notable,
  tool: OperationPlan["tool"],
  sources: ReadonlyMap<string, NumberedSource>,
): string {
  const { name, architecture, action, from_version, to_version, origin } = entry;
  const versions = [
    ...(from_version === null ? [] : [`from ${word(from_version, 60)}`]),
    ...(to_version === null ? [] : [`to ${word(to_version, 60)}`]),
  ];
  const what = `- ${action} ${word(name, 100)} (${word(architecture, 20)}) ${versions.join(" ")}`;
  const where = tool === "apt" ? offeredBy(entry, sources) : `from ${word(origin ?? "unknown", 80)}`;
  const taken =
    entry.takes_over === undefined ? [] : [`files of ${commaList(entry.takes_over, OVERVIEW_NAMES)}`];
  return [what, ...(isFetched(entry) ? [where] : []), ...marks.map((mark) => mark.what), ...taken].join("; ");
}

function offeredBy(entry: TransactionEntry, sources: ReadonlyMap<string, NumberedSource>): string {
  const labels = entry.sources.slice(0, 4).map((id) => sources.get(id)?.label ?? "an unknown source");
  const more = entry.sources.length > 4 ? ` and ${entry.sources.length - 4} more` : "";
  return `from ${labels.join(" and ") || "an unknown source"}${more}`;
}
