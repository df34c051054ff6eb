import {
  isFetched as hasFile,
  type OperationPlan,
  type RepositoryEvidence,
  type TransactionEntry,
} from "./doc-plan.ts";
import { nameOf } from "./policy-facts.ts";
import { isCritical } from "./policy-packages.ts";
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
  /** 0 for the distribution's own archive; higher is less trusted. */
  doubt: number;
}

const TRUST: Readonly<Record<RepositoryEvidence["trust"], string>> = {
  distribution: "trusted: the distribution's own",
  pinned: "third party, key pinned to it",
  weak: "third party, key NOT pinned to it",
  untrusted: "NOT trusted",
};
const BY_TRUST: readonly RepositoryEvidence["trust"][] = ["distribution", "pinned", "weak", "untrusted"];
const PINNED = BY_TRUST.indexOf("pinned");
const WEAK = BY_TRUST.indexOf("weak");
const UNTRUSTED = BY_TRUST.indexOf("untrusted");

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
    const doubt = doubtOf(source);
    const trust = source.signature_verified
      ? TRUST[BY_TRUST[doubt] ?? "untrusted"]
      : "NOT trusted: no verified signature";
    numbered.set(source.id, { label: `S${numbered.size + 1}`, source, trust, doubt });
  }
  return numbered;
}

/** The rank of a source's trust. A source whose signature apt does not check is untrusted. */
function doubtOf(source: RepositoryEvidence): number {
  const isChecked = source.signature_verified && !source.trusted_option && !source.allow_insecure;
  return isChecked ? BY_TRUST.indexOf(source.trust) : UNTRUSTED;
}

interface Context {
  tool: OperationPlan["tool"];
  asked: ReadonlySet<string>;
  held: ReadonlySet<string>;
  sources: ReadonlyMap<string, NumberedSource>;
}

/** What can be notable about a package, most serious first. */
const MARKS: readonly [what: string, test: (entry: TransactionEntry, context: Context) => boolean][] = [
  ["essential package removed", (e) => e.action === "remove" && e.essential],
  ["removed", (e) => e.action === "remove"],
  ["from a source without trust", (e, c) => isFetched(e, c) && worstDoubt(e, c) >= WEAK],
  ["no SHA-256 known", (e, c) => isFetched(e, c) && e.sha256 === null],
  ["takes over files of another package", (e) => e.takes_over !== undefined],
  ["downgraded", (e) => e.action === "downgrade"],
  ["kernel", (e, c) => isCritical("kernel", c.tool, e.name)],
  ["needed to boot", (e, c) => isCritical("boot loader", c.tool, e.name)],
  ["security-sensitive", (e, c) => isCritical("security-sensitive", c.tool, e.name)],
  ["from a third party", (e, c) => isFetched(e, c) && worstDoubt(e, c) === PINNED],
  ["on hold", (e, c) => c.held.has(e.name) || c.held.has(`${e.name}:${e.architecture}`)],
  ["essential package", (e) => e.action !== "remove" && e.essential],
  ["asked for by name", (e, c) => c.asked.has(e.name) || c.asked.has(nameOf(e))],
];

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
  const context: Context = {
    tool: plan.tool,
    asked: new Set(plan.targets.flatMap(namesOfTarget)),
    held: new Set(plan.packages_held_back),
    sources,
  };
  const marked = plan.transaction.map((entry) => {
    const marks = MARKS.flatMap(([what, test], rank) => (test(entry, context) ? [{ what, rank }] : []));
    return { entry, marks: marks.map(({ what }) => what), rank: marks[0]?.rank ?? MARKS.length };
  });
  const outstanding = marked.filter(({ marks }) => marks.length > 0).sort((a, b) => a.rank - b.rank);
  const ordinary = marked.filter(({ marks }) => marks.length === 0);
  const head = [...overview(plan, outstanding), ...(outstanding.length > 0 ? ["One by one:"] : [])];

  const left = room - head.join("\n").length - FRAME;
  const toDetail = ({ entry, marks }: Marked) => detail(entry, marks, context);
  const toName = ({ entry }: Marked) => ` ${word(entry.name)}`;
  const details = fitLines(outstanding, toDetail, Math.floor(left * DETAILS));
  const undetailed = outstanding.slice(details.lines.length);
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

interface Marked {
  entry: TransactionEntry;
  marks: string[];
}

/** Counts, and per mark the number of packages and the first names, so that one frequent mark can't crowd out the others. */
function overview(plan: OperationPlan, outstanding: readonly Marked[]): string[] {
  const lines = MARKS.flatMap(([what]) => {
    const found = outstanding.filter(({ marks }) => marks.includes(what)).map(({ entry }) => entry.name);
    return found.length === 0 ? [] : [`- ${what}: ${found.length} (${commaList(found, OVERVIEW_NAMES)})`];
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
function detail(entry: TransactionEntry, marks: readonly string[], context: Context): string {
  const { name, architecture, action, from_version, to_version, origin } = entry;
  const versions = [
    ...(from_version === null ? [] : [`from ${word(from_version, 60)}`]),
    ...(to_version === null ? [] : [`to ${word(to_version, 60)}`]),
  ];
  const what = `- ${action} ${word(name, 100)} (${word(architecture, 20)}) ${versions.join(" ")}`;
  const where = context.tool === "apt" ? offeredBy(entry, context) : `from ${word(origin ?? "unknown", 80)}`;
  const taken =
    entry.takes_over === undefined ? [] : [`files of ${commaList(entry.takes_over, OVERVIEW_NAMES)}`];
  return [what, ...(hasFile(entry) ? [where] : []), ...marks, ...taken].join("; ");
}

function offeredBy(entry: TransactionEntry, { sources }: Context): string {
  const labels = entry.sources.slice(0, 4).map((id) => sources.get(id)?.label ?? "an unknown source");
  const more = entry.sources.length > 4 ? ` and ${entry.sources.length - 4} more` : "";
  return `from ${labels.join(" and ") || "an unknown source"}${more}`;
}

function isFetched(entry: TransactionEntry, { tool }: Context): boolean {
  return tool === "apt" && hasFile(entry);
}

/** The least trusted source that offers the package, since apt may take it from any of them. */
function worstDoubt(entry: TransactionEntry, { sources }: Context): number {
  const doubts = entry.sources.map((id) => sources.get(id)?.doubt ?? UNTRUSTED);
  return doubts.length === 0 ? UNTRUSTED : Math.max(...doubts);
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
