import { table, terminalOf } from "../src/terminal.ts";
import type { Account } from "./soak-host.ts";
import type { Load, Valid } from "./soak-load.ts";
import { quantile, type Times } from "./soak-measure.ts";

/*
 * What scripts/soak prints.
 */

/** One line of the result. */
export interface Step {
  what: string;
  /** Requests of hostile clients, plans of others. */
  sent: number;
  /** How often each answer was given. */
  answers: Record<string, number>;
  account?: Account;
  problems?: string[];
  note?: string;
  measured?: Pick<Load, "unloaded" | "loaded" | "memory">;
}

export interface Outcome {
  seed: number;
  quick: boolean;
  steps: Step[];
  /** Invariants broken at the end; empty where the log verifies and nothing is left over. */
  faults: string[];
}

/** Highest ratio to the figure without load. */
const GOAL = { memory: 2, p99: 5 };

/** The result as text. A missed goal is reported but is not a failure. */
export function text({ seed, quick, steps, faults }: Outcome): string {
  const rows = steps.map(({ what, sent, answers, account }) => [
    what,
    String(sent),
    Object.entries(answers)
      .map(([answer, count]) => `${answer} ${count}`)
      .join(", "),
    account === undefined ? "" : String(account.ran),
    account === undefined ? "" : String(account.lost.length),
    account === undefined ? "" : String(account.twice.length),
  ]);
  // Never truncated: a cut figure is useless.
  const paper = { ...terminalOf({}, {}), width: Number.POSITIVE_INFINITY };
  const notes = steps.flatMap(({ what, note }) => (note === undefined ? [] : [`${what}: ${note}`]));
  const wrong = steps.flatMap(({ what, account, problems = [] }) =>
    [...(account?.lost ?? []), ...(account?.twice ?? []), ...problems].map((it) => `${what}: ${it}`),
  );
  return [
    table(paper, ["", "sent", "answers", "run", "lost", "run twice"], rows),
    "",
    ...notes,
    ...steps.flatMap(({ measured }) => (measured === undefined ? [] : measuredLines(measured))),
    "",
    ...wrong,
    ...faults,
    `seed ${seed}${quick ? ", quick" : ""}; ${faults.length === 0 ? "the log verifies, nothing is left over" : "NOT SOUND"}`,
  ].join("\n");
}

function measuredLines({ unloaded, loaded, memory }: NonNullable<Step["measured"]>): string[] {
  const ratio = memory.loaded / memory.idle;
  return [
    ...timeLines("a valid request (status)", "status", unloaded, loaded),
    ...timeLines("a valid request (an installation)", "apply", unloaded, loaded),
    `front's memory: started ${memory.started.toFixed(0)} MB, idle ${memory.idle.toFixed(0)} MB, most under load ${memory.loaded.toFixed(0)} MB: ${ratio.toFixed(2)}× idle (${verdict(ratio, GOAL.memory)}), ${(memory.loaded / memory.started).toFixed(2)}× just started`,
  ];
}

function timeLines(what: string, kind: keyof Valid, unloaded: Valid, loaded: Valid): string[] {
  const figures = ({ ms }: Times) =>
    `p50 ${quantile(ms, 0.5).toFixed(0)} ms, p99 ${quantile(ms, 0.99).toFixed(0)} ms`;
  const [calm, busy] = [unloaded[kind], loaded[kind]];
  const ratio = quantile(busy.ms, 0.99) / quantile(calm.ms, 0.99);
  return [
    `${what}: unloaded ${figures(calm)} (${calm.ms.length}), under load ${figures(busy)} (${busy.ms.length}, came again ${busy.again}): p99 ${ratio.toFixed(2)}× (${verdict(ratio, GOAL.p99)})`,
  ];
}

function verdict(ratio: number, goal: number): string {
  return `goal ≤ ${goal}×: ${ratio <= goal ? "met" : "MISSED"}`;
}
