import { ACTION_WORDS, type Action, changeTable, shownName } from "./cmd-plan-table.ts";
import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { bytes, GUTTER, paint, plural, quoteWord, type Terminal, wrap } from "./terminal.ts";

const IN_ORDER = [
  "remove",
  "downgrade",
  "install",
  "reinstall",
  "upgrade",
  "configure",
  "hold",
  "unhold",
  "restart",
] as const satisfies Action[];

/** Every package that changes, by what matters, and a count; empty if none changes. */
export function renderChanges(
  plan: OperationPlan,
  terminal: Terminal,
  sensitive: readonly string[] = [],
): string {
  if (plan.nothing_to_do) {
    // A repair only configures; the warnings list what it can't fix.
    if (plan.operation === "repair") return "Nothing to configure.";
    return paint(terminal, "green", "Nothing to do: the host already is in that state.");
  }
  if (plan.transaction.length === 0) return "";
  const total = wrap(changeTotal(plan), terminal.width, "  ");
  return [changeTable(plan, terminal, sensitive), "", ...total].join("\n");
}

/** How many packages change, and how: `3 packages: 1 to remove, 2 to upgrade; 1.2 MB to download`. */
export function changeTotal({
  transaction,
  operation,
}: Pick<OperationPlan, "transaction" | "operation">): string {
  const counts = IN_ORDER.flatMap((action) => {
    const n = transaction.filter((entry) => entry.action === action).length;
    return n === 0 ? [] : [`${n} ${todoOf(action, operation)}`];
  });
  const size = transaction.reduce((sum, entry) => sum + (entry.size ?? 0), 0);
  const total = [
    plural(transaction.length, transaction.every(({ action }) => action === "restart") ? "unit" : "package"),
    ...(counts.length > 0 ? [counts.join(", ")] : []),
  ].join(": ");
  return size > 0 ? `${total}; ${bytes(size)} to download` : total;
}

/** The names of all packages that change, by action, most serious last, which is nearest to the question below. */
export function changedNames(plan: OperationPlan, terminal: Terminal): string[] {
  const native = plan.host.architecture;
  return IN_ORDER.toReversed().flatMap((action) => {
    const entries = plan.transaction.filter((entry) => entry.action === action);
    if (entries.length === 0) return [];
    const { symbol } = ACTION_WORDS[action];
    const todo = todoOf(action, plan.operation);
    const names = entries.map((entry) => quoteWord(shownName(entry, native)) + taking(entry)).join(" ");
    const [first = "", ...rest] = wrap(
      `${symbol} ${entries.length} ${todo}: ${names}`,
      terminal.width,
      GUTTER,
    );
    const style = ACTION_WORDS[action].order < 2 ? "yellow" : null;
    return [style === null ? first : paint(terminal, style, first), ...rest];
  });
}

/** What happens to packages; a purge takes more than a removal. */
function todoOf(action: Action, operation: string): string {
  return action === "remove" && operation === "purge" ? "to purge" : ACTION_WORDS[action].todo;
}

/** ` (takes over files of coreutils)`, for a package that may. */
function taking({ takes_over = [] }: TransactionEntry): string {
  return takes_over.length === 0 ? "" : ` (takes over files of ${takes_over.map(quoteWord).join(", ")})`;
}
