import { canonicalJson } from "./canonical.ts";
import { decideNow } from "./cmd-decide.ts";
import { differingClaims } from "./cmd-request-view.ts";
import { defineSubcommand, type Io } from "./command.ts";
import type { Decision } from "./doc.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { resolveDocument } from "./doc-store.ts";
import { vulnerabilityChange } from "./doc-vulnerabilities.ts";
import { AegisError, EXIT } from "./errors.ts";
import { isLong, page } from "./sys-pager.ts";
import { GUTTER, paint, plural, quoteWord, safe, safeStart, type Terminal, wrap } from "./terminal.ts";

/* `plan diff`: what is different between two plans. */

/** Limit on the lines of one kind on the screen, and on the characters of each. */
const LISTED = 40;
const CHARACTERS = 300;

type Lists = Record<"only_in_first" | "only_in_second", string[]>;

/** A package that both plans change, each in another way. */
interface ChangedEntry {
  name: string;
  architecture: string;
  first: TransactionEntry;
  second: TransactionEntry;
}

export interface PlanDifference {
  /** Nothing but ids, times and raw output differs. */
  same: boolean;
  first: PlanWords;
  second: PlanWords;
  packages: {
    only_in_first: TransactionEntry[];
    only_in_second: TransactionEntry[];
    changed: ChangedEntry[];
  };
  fixes: Lists;
  leaves: Lists;
  introduces: Lists;
  services: Lists;
  reboot: Lists;
  held_back: Lists;
  unneeded: Lists;
  reasons: Lists;
  warnings: Lists;
  /** Other fields that differ, of those that an executor compares. */
  evidence: string[];
}

/** A plan in few words. */
interface PlanWords {
  plan_id: string;
  created_at: string;
  hostname: string;
  request: string;
  /** What the policy in force says now, without a review. Null where nothing is to do, or the policy can't be read. */
  decision: Decision | null;
  risk_score: number;
}

interface Decided {
  plan: OperationPlan;
  decision: Decision | null;
  reasons: readonly string[];
}

/** `aegis plan diff <a> <b>` */
export const planDiff = defineSubcommand({
  name: "plan diff",
  description:
    "Compare two plans: packages, decision and risk, vulnerabilities, services, hosts. Exit status 0, whether they differ or not.",
  args: {
    first: {
      type: "positional",
      required: true,
      complete: "document",
      description: "a plan, as for plan show",
    },
    second: {
      type: "positional",
      required: true,
      complete: "document",
      description: "the plan to compare it with",
    },
  },
  async run(values, io) {
    if (values.first === "-" && values.second === "-")
      throw new AegisError(
        "usage",
        "- names standard input twice",
        "Give one of the plans by its id or path.",
      );
    const first = await read(values.first, io);
    const second = await read(values.second, io);
    const difference = planDifference(first, second);
    const text = renderDifference(difference, io.terminal);
    if (!io.json && isLong(text, io.terminal) && (await page(text, io.terminal, io.env, 1))) return EXIT.ok;
    io.result(difference, text);
    return EXIT.ok;
  },
});

async function read(named: string, io: Io): Promise<Decided> {
  const { document: plan, hash } = await resolveDocument("plan", named, io);
  if (plan.nothing_to_do) return { plan, decision: null, reasons: [] };
  try {
    const { decision, reasons } = decideNow(plan, hash, io.env).result;
    return { plan, decision, reasons };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    io.note(`note: the policy's decision is unknown: ${safe(error.message)}`);
    return { plan, decision: null, reasons: [] };
  }
}

export function planDifference(first: Decided, second: Decided): PlanDifference {
  const [a, b] = [first.plan, second.plan];
  const [known, knownThen] = [vulnerabilityChange(b), vulnerabilityChange(a)];
  const of = (list: (change: typeof known) => readonly { package: string; name: string }[]) => {
    const words = (change: typeof known) => list(change).map((one) => `${one.package} ${one.name}`);
    return lists(words(knownThen), words(known));
  };
  const packages = packageDifference(a.transaction, b.transaction);
  const facts = {
    packages,
    fixes: of((change) => change.fixes),
    leaves: of((change) => change.leaves),
    introduces: of((change) => change.introduces),
    services: lists(unitsOf(a), unitsOf(b)),
    reboot: lists(a.outlook?.reboot?.reasons ?? [], b.outlook?.reboot?.reasons ?? []),
    held_back: lists(a.packages_held_back, b.packages_held_back),
    unneeded: lists(a.outlook?.unneeded ?? [], b.outlook?.unneeded ?? []),
    reasons: lists(first.reasons, second.reasons),
    warnings: lists(a.warnings, b.warnings),
    // Plans of two tools have nothing to compare field by field.
    evidence: a.tool === b.tool ? differingClaims(a, b) : ["tool"],
  };
  const [before, after] = [wordsOf(first), wordsOf(second)];
  const isSame = Object.values(facts).every((one) => Object.values(one).every((list) => list.length === 0));
  return {
    same:
      isSame &&
      facts.evidence.length === 0 &&
      before.decision === after.decision &&
      before.request === after.request,
    first: before,
    second: after,
    ...facts,
  };
}

function wordsOf({ plan, decision }: Decided): PlanWords {
  const { plan_id, created_at, host, ecosystem, operation, targets, risk_score } = plan;
  const request = [ecosystem, operation, ...targets].join(" ");
  return { plan_id, created_at, hostname: host.hostname, request, decision, risk_score };
}

function unitsOf({ outlook }: OperationPlan): string[] {
  return (outlook?.services?.units ?? []).map(({ unit }) => unit);
}

function lists(first: readonly string[], second: readonly string[]): Lists {
  const [inFirst, inSecond] = [new Set(first), new Set(second)];
  return {
    only_in_first: [...inFirst].filter((one) => !inSecond.has(one)),
    only_in_second: [...inSecond].filter((one) => !inFirst.has(one)),
  };
}

function packageDifference(
  first: readonly TransactionEntry[],
  second: readonly TransactionEntry[],
): PlanDifference["packages"] {
  // An image's files share name and architecture.
  const keyOf = (entry: TransactionEntry) =>
    JSON.stringify([entry.name, entry.architecture, entry.media_type === undefined ? null : entry.sha256]);
  const before = new Map(first.map((entry) => [keyOf(entry), entry]));
  const after = new Map(second.map((entry) => [keyOf(entry), entry]));
  return {
    only_in_first: first.filter((entry) => !after.has(keyOf(entry))),
    only_in_second: second.filter((entry) => !before.has(keyOf(entry))),
    changed: first.flatMap((one) => {
      const other = after.get(keyOf(one));
      if (other === undefined || canonicalJson(one) === canonicalJson(other)) return [];
      return [{ name: one.name, architecture: one.architecture, first: one, second: other }];
    }),
  };
}

/** The difference for people. No trailing newline. */
export function renderDifference(difference: PlanDifference, terminal: Terminal): string {
  const { first, second, packages, evidence } = difference;
  const own = (text: string) => wrap(text, terminal.width, GUTTER).join("\n");
  const head = [["First", first] as const, ["Second", second] as const].map(([which, plan]) =>
    own(
      `${which.padEnd(8)}${plan.plan_id}, made ${plan.created_at} on ${quoteWord(plan.hostname)}: ${safeStart(plan.request, CHARACTERS)}`,
    ),
  );
  if (difference.same)
    return [...head, "", own("The two plans are the same change for the same reasons.")].join("\n");
  const block = (title: string, items: readonly string[]): string[] => {
    if (items.length === 0) return [];
    const more = items.length - LISTED;
    const shown = items.slice(0, LISTED).flatMap((text) => {
      const [line = "", ...rest] = wrap(safeStart(text, CHARACTERS), terminal.width - 2, `  ${GUTTER}`);
      return [`  ${line}`, ...rest];
    });
    return [
      "",
      ...wrap(`${title} (${items.length})`, terminal.width, GUTTER).map((line) =>
        paint(terminal, "bold", line),
      ),
      ...shown,
      ...(more > 0 ? [`  and ${more} more (--json has all)`] : []),
    ];
  };
  const both = (what: string, { only_in_first, only_in_second }: Lists) => [
    ...block(`${what}, only in the second`, only_in_second),
    ...block(`${what}, only in the first`, only_in_first),
  ];
  const policy =
    first.decision === second.decision
      ? []
      : [
          own(
            `Policy  now ${second.decision ?? "unknown"} for the second, ${first.decision ?? "unknown"} for the first`,
          ),
        ];
  return [
    ...head,
    ...policy,
    ...(first.risk_score === second.risk_score
      ? []
      : [own(`Risk    ${second.risk_score} of 100 for the second, ${first.risk_score} for the first`)]),
    ...(first.hostname === second.hostname ? [] : ["Hosts   differ"]),
    ...block("Packages only in the second", packages.only_in_second.map(entryWords)),
    ...block("Packages only in the first", packages.only_in_first.map(entryWords)),
    ...block("Packages that change otherwise", packages.changed.map(changedWords)),
    ...both("Vulnerabilities introduced", difference.introduces),
    ...both("Vulnerabilities fixed", difference.fixes),
    ...both("Vulnerabilities left", difference.leaves),
    ...both("Services to restart", difference.services),
    ...both("Reasons to reboot", difference.reboot),
    ...both("Kept back", difference.held_back),
    ...both("No longer needed", difference.unneeded),
    ...both("Reasons of policy", difference.reasons),
    ...both("Warnings", difference.warnings),
    ...(evidence.length === 0
      ? []
      : [
          "",
          own(`${plural(evidence.length, "other field")} that the executor compares: ${evidence.join(", ")}`),
        ]),
  ].join("\n");
}

function entryWords({
  action,
  name,
  architecture,
  from_version: from,
  to_version: to,
}: TransactionEntry): string {
  return `${action} ${name}:${architecture} ${[from, to].filter((version) => version !== null).join(" → ")}`;
}

/** What differs first: the versions, or else what the fields say. */
function changedWords({ name, architecture, first, second }: ChangedEntry): string {
  const [before, after] = [entryWords(first), entryWords(second)];
  if (before !== after) return `${after}; in the first: ${before.replace(`${name}:${architecture} `, "")}`;
  const fields = Object.entries(second)
    .filter(
      ([field, value]) =>
        canonicalJson(value) !==
        canonicalJson(Object.entries(first).find(([one]) => one === field)?.[1] ?? null),
    )
    .map(([field]) => field);
  return `${after}: ${fields.length === 0 ? "fields that the second lacks" : fields.join(", ")}`;
}
