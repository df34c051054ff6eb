import { spawnSync } from "node:child_process";
import { join } from "node:path";

/*
 * Shared by the benchmarks: the form of a result, and sampling.
 */

export const ROOT = join(import.meta.dir, "..");
export const BINARY = join(ROOT, "dist/aegis");

export interface Measured {
  name: string;
  unit: "ms" | "MB" | "requests/s";
  /** Median of ours. */
  ours: number;
  /** Median of the reference. */
  reference: number;
  /** What the reference is. */
  against: string;
  /** Ours divided by the reference. */
  ratio: number;
  /** Upper limit; null where there is no goal. */
  goal: { of: "ratio" | "ours"; at_most: number } | null;
  met: boolean | null;
  /** Samples of each. */
  samples: number;
  note?: string;
}

/** A benchmark that can't run on this machine, and why. */
interface NotMeasured {
  name: string;
  not_measured: string;
}

export type Line = Measured | NotMeasured;

/** A line from two medians; ratio and `met` follow from them. */
export function line(what: Omit<Measured, "ratio" | "met">): Measured {
  const ratio = what.ours / what.reference;
  const reached = what.goal?.of === "ours" ? what.ours : ratio;
  return { ...what, ratio, met: what.goal === null ? null : reached <= what.goal.at_most };
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/**
 * Milliseconds of each action, by action. They are interleaved, so that a busy machine slows all of them. The first
 * `warmUps` rounds don't count.
 */
export function alternate(rounds: number, warmUps: number, actions: readonly (() => unknown)[]): number[][] {
  const samples = actions.map((): number[] => []);
  for (let round = -warmUps; round < rounds; round++) {
    for (const [i, action] of actions.entries()) {
      const start = performance.now();
      action();
      if (round >= 0) samples[i]?.push(performance.now() - start);
    }
  }
  return samples;
}

/**
 * Runs a program to its end and returns its standard output.
 * @throws Error with what it wrote to standard error when it fails
 */
export function output(
  [program = "", ...args]: readonly string[],
  options: { env?: Record<string, string>; cwd?: string } = {},
): string {
  const { status, stdout, stderr } = spawnSync(program, args, {
    ...options,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (status !== 0) throw new Error(`${[program, ...args].join(" ")}: exit ${status}\n${stderr}${stdout}`);
  return stdout;
}

/** Another program, built with the same switches as `dist/aegis`. */
export function build(entry: string, outfile: string): void {
  output([join(ROOT, "scripts/build"), entry, outfile]);
}
