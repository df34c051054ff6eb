import { isSecurityUpdate } from "./doc-evidence.ts";
import { isFetched, type OperationPlan, type TransactionEntry } from "./doc-plan.ts";
import { type Vulnerability, type VulnerabilityChange, vulnerabilityChange } from "./doc-vulnerabilities.ts";
import { byAttention } from "./plan-attention.ts";

/*
 * The packages of a plan by what matters to whoever decides, for the terminal's screen and for pages: data, no lines.
 */

/** The groups, most important first. */
const GROUPS = [
  { id: "removed", title: "Removed", obvious: ["removed"] },
  { id: "downgraded", title: "Downgraded", obvious: ["downgraded"] },
  { id: "doubtful", title: "Doubtful: source, hash, or files taken over", obvious: [] },
  { id: "boot", title: "Kernel and boot", obvious: ["kernel", "needed to boot"] },
  {
    id: "security-sensitive",
    title: "Security updates of sensitive packages",
    obvious: ["security-sensitive"],
  },
  { id: "security", title: "Other security updates", obvious: [] },
  { id: "sensitive", title: "Sensitive packages", obvious: ["security-sensitive"] },
  { id: "new", title: "New packages", obvious: [] },
  { id: "rest", title: "Other packages", obvious: [] },
] as const satisfies { id: string; title: string; obvious: readonly string[] }[];
type GroupId = (typeof GROUPS)[number]["id"];

/** Marks of the packages that are doubtful. */
const DOUBTFUL: readonly string[] = [
  "from a source without trust",
  "no SHA-256 known",
  "takes over files of another package",
];

/** A package that changes, and what is notable about it, the most serious first. */
export interface PlannedChange {
  entry: TransactionEntry;
  marks: string[];
  /** Of its source package, the worst first. */
  fixes: Vulnerability[];
  leaves: Vulnerability[];
  introduces: Vulnerability[];
}

export interface ChangeGroup {
  id: GroupId;
  title: string;
  changes: PlannedChange[];
}

/** What changes, grouped; empty groups are left out. `sensitive` adds to the security-sensitive packages. */
export function changeGroups(plan: OperationPlan, sensitive: readonly string[] = []): ChangeGroup[] {
  const { notable, ordinary } = byAttention(plan, sensitive);
  const known = vulnerabilityChange(plan);
  const all = [
    ...notable.map(({ entry, marks }) => {
      const isGrave = marks.some(({ isDanger }) => isDanger);
      return { entry, isGrave, marks: marks.map(({ what }) => what), ...knownOf(entry, known) };
    }),
    ...ordinary.map((entry) => ({
      entry,
      isGrave: false,
      marks: [] as string[],
      ...knownOf(entry, known),
    })),
  ];
  const groups = Map.groupBy(all, (one) => groupOf(one, plan));
  return GROUPS.flatMap(
    ({ id, title, obvious }: { id: GroupId; title: string; obvious: readonly string[] }) => {
      // What the group's title says needs no mark.
      const changes = (groups.get(id) ?? []).map(({ isGrave: _, ...one }) => ({
        ...one,
        marks: one.marks.filter((what) => !obvious.includes(what)),
      }));
      return changes.length === 0 ? [] : [{ id, title, changes }];
    },
  );
}

/** What is known of an entry's source package, which records are about; where it is unknown, of the package. */
function knownOf(entry: TransactionEntry, { fixes, leaves, introduces }: VulnerabilityChange) {
  const names = [(entry.to_source ?? entry.from_source)?.name ?? entry.name, entry.name];
  const of = (list: readonly Vulnerability[]) => list.filter((one) => names.includes(one.package));
  return { fixes: of(fixes), leaves: of(leaves), introduces: of(introduces) };
}

function groupOf(
  { entry, marks, isGrave, fixes }: PlannedChange & { isGrave: boolean },
  plan: OperationPlan,
): GroupId {
  if (entry.action === "remove") return "removed";
  if (entry.action === "downgrade") return "downgraded";
  if (marks.some((what) => DOUBTFUL.includes(what))) return "doubtful";
  if (plan.tool !== "apt") return "rest";
  if (marks.includes("kernel") || marks.includes("needed to boot")) return "boot";
  // A package that is new brings no fix to this host.
  const isFix = (isFetched(entry) && fixes.length > 0) || isSecurityUpdate(entry, plan.repository_evidence);
  if (entry.action !== "install" && isFix) return isGrave ? "security-sensitive" : "security";
  if (isGrave) return "sensitive";
  return entry.action === "install" ? "new" : "rest";
}

/** The mark of a package that a target names, which doesn't keep it from those that go along. */
export const ASKED = "asked for by name";

/** Packages of one source that go from one version to another are one row from this many on, and with vulnerabilities to name. */
const TOGETHER = 3;
const TOGETHER_NAMING = 2;

/**
 * Changes put together that differ in their names only: same source package, versions, origins and marks. In the order of their
 * first; each has at least one.
 */
export function together(changes: readonly PlannedChange[]): PlannedChange[][] {
  const sets = Map.groupBy(changes, ({ entry, marks }) => {
    const source = (entry.to_source ?? entry.from_source)?.name;
    const { action, from_version, to_version, sources, origin, archive } = entry;
    if (source === undefined) return entry;
    const others = marks.filter((what) => what !== ASKED);
    return JSON.stringify([source, action, from_version, to_version, sources, origin, archive, others]);
  });
  return [...sets.values()].flatMap((set) => {
    set.sort((a, b) => Number(b.marks.includes(ASKED)) - Number(a.marks.includes(ASKED)));
    const names = set.some(
      ({ fixes, leaves, introduces }) => fixes.length + leaves.length + introduces.length > 0,
    );
    return set.length < (names ? TOGETHER_NAMING : TOGETHER) ? set.map((one) => [one]) : [set];
  });
}
