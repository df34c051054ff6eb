import { checkedTrust, doubtOf } from "./doc-evidence.ts";
import { isMark, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import { REPOSITORY_TRUST, type RepositoryEvidence } from "./doc-plan-evidence.ts";
import { GUTTER, paint, plural, safeStart, type Terminal, wrap } from "./terminal.ts";

/* Where a plan's packages come from, and how far that is trusted: the list above the table, and each row's letters. */

/** Descriptions of a source's trust. */
const TRUST: Readonly<Record<RepositoryEvidence["trust"], string>> = {
  distribution: "distribution",
  pinned: "third party, pinned key",
  snapshot: "distribution, a snapshot that has expired",
  weak: "third party, key not pinned",
  untrusted: "untrusted",
};
/** Limits on what is shown of a source's name, in characters, and on the names that it gives itself. */
const LABEL_SHOWN = 200;
const LABELS_SHOWN = 4;
const UNPACKED = "already unpacked on this host";
/** The rank of a source that the plan does not list. */
const UNKNOWN = REPOSITORY_TRUST.length;
const WEAK = REPOSITORY_TRUST.indexOf("weak");

/** Where packages come from: a source, a registry, or what this host has already. All text is safe. */
export interface Origin {
  /** What stands for it in the table if there are several. */
  key: string;
  words: string;
  isDoubtful: boolean;
  /** Names that it gives itself, which may be anything. */
  labels: string[];
}

/** The origins of a plan's packages by id, least trusted first. */
export function originsOf(plan: OperationPlan): Map<string, Origin> {
  const found = new Map<string, { doubt: number; words: string; labels: Set<string> }>();
  for (const entry of plan.transaction) {
    for (const [n, id] of originIds(entry, plan).entries()) {
      const one = found.get(id) ?? { ...judged(id, plan), labels: new Set<string>() };
      found.set(id, one);
      // apt prints the name that the first source gives itself.
      if (plan.tool === "apt" && n === 0 && entry.origin !== null) one.labels.add(labelOf(entry));
    }
  }
  const ordered = [...found].sort(([, a], [, b]) => b.doubt - a.doubt);
  return new Map(
    ordered.map(([id, { doubt, words, labels }], n) => {
      return [id, { key: letters(n), words, isDoubtful: doubt >= WEAK, labels: [...labels] }];
    }),
  );
}

function judged(id: string, plan: OperationPlan): { doubt: number; words: string } {
  if (id === UNPACKED) return { doubt: -1, words: UNPACKED };
  if (id === "")
    return {
      doubt: UNKNOWN,
      words: `from ${plan.tool === "apt" ? "(unknown source)" : "an unknown origin"}`,
    };
  const by = plan.tool === "services" ? "defined by" : "from";
  if (plan.tool !== "apt") return { doubt: 0, words: `${by} ${safeStart(id, LABEL_SHOWN)}` };
  const { doubt, words } = worstOf(id, plan.repository_evidence);
  return { doubt, words: `from ${safeStart(id, LABEL_SHOWN)} (${words})` };
}

/** An entry's origins. apt may fetch from any of its sources. */
export function originIds(entry: TransactionEntry, { tool }: OperationPlan): string[] {
  if (entry.action === "remove" || isMark(entry)) return [];
  if (entry.action === "configure") return [UNPACKED];
  const ids =
    tool === "apt"
      ? entry.sources
      : [[entry.origin, entry.archive].filter((part) => part !== null).join(" ")];
  return ids.length === 0 ? [""] : ids;
}

/** The name that a repository gives itself. */
function labelOf({ origin, archive }: TransactionEntry): string {
  return safeStart([origin, archive].filter((part) => part !== null).join(" "), LABEL_SHOWN);
}

/** A, B, … Z, AA, AB, … */
function letters(n: number): string {
  return `${n < 26 ? "" : letters(Math.floor(n / 26) - 1)}${String.fromCharCode(65 + (n % 26))}`;
}

/** A line for each origin, with its letter if there are several. */
export function legend(origins: ReadonlyMap<string, Origin>, terminal: Terminal): string[] {
  return [...origins.values()].flatMap(({ key, words, isDoubtful, labels }) => {
    const more = labels.length - LABELS_SHOWN;
    const quoted = labels.slice(0, LABELS_SHOWN).map((label) => `"${label.replaceAll('"', '\\"')}"`);
    const calls = labels.length === 0 ? "" : `, calls itself ${quoted.join(", ")}`;
    const text = `${origins.size > 1 ? `${key}: ` : ""}${words}${calls}${more > 0 ? ` and ${plural(more, "other name")}` : ""}`;
    return wrap(text, terminal.width, GUTTER).map((line) =>
      paint(terminal, isDoubtful ? "yellow" : "dim", line),
    );
  });
}

/** A source's trust, in words and as a rank; of several entries with this id, the least trusted. */
function worstOf(id: string, evidence: readonly RepositoryEvidence[]): { words: string; doubt: number } {
  const known = evidence.filter((source) => source.id === id);
  const [source] = known.toSorted((a, b) => doubtOf(b) - doubtOf(a));
  if (source === undefined) return { words: "unknown: no configured source", doubt: UNKNOWN };
  const why = safeStart(source.problems.join(", "), LABEL_SHOWN) || "no verified signature";
  const trust = checkedTrust(source);
  return { words: trust === "untrusted" ? `untrusted: ${why}` : TRUST[trust], doubt: doubtOf(source) };
}
