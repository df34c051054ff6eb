import { readFileSync, writeFileSync } from "node:fs";
import { AegisError } from "../src/errors.ts";
import { callExecutor } from "../src/front-client.ts";

/*
 * What scripts/soak measures: the memory of a process, and how long valid requests take.
 */

const RETRY_MS = 500;
/** CLEAR_REFS_MM_HIWATER_RSS of proc_pid_clear_refs(5). */
const RESET_PEAK = "5";

/** Peak memory of a process since its start or {@link resetPeak}, in MB. */
export function peakMb(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  return (Number(/^VmHWM:\s+(\d+)/m.exec(text)?.[1]) * 1024) / 1e6;
}

export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, RESET_PEAK);
}

/** User and system time of a process so far, in clock ticks (proc_pid_stat(5), fields 14 and 15). */
export function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

export interface Times {
  /** Milliseconds of each request, retries included. */
  ms: number[];
  /** Retries after `busy` or a closed connection. */
  again: number;
}

/** Asks for the executor's status, retrying on `busy`, until it is answered. */
export async function timedStatus(socket: string, times: Times): Promise<void> {
  const start = performance.now();
  await untilTaken(() => callExecutor(socket, "Status", {}), times);
  times.ms.push(performance.now() - start);
}

/** Submits a plan until it is accepted, and waits for its end; returns the state or the code of the refusal. */
export async function timedApply(socket: string, plan: string, times: Times): Promise<string> {
  const start = performance.now();
  try {
    const { outcome } = await untilTaken(() => callExecutor(socket, "Apply", { plan }), times);
    times.ms.push(performance.now() - start);
    return outcome?.state ?? "no outcome";
  } catch (error) {
    if (error instanceof AegisError) return error.code;
    throw error;
  }
}

async function untilTaken<T>(ask: () => Promise<T>, times: Times): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const overloaded =
        error instanceof AegisError && (error.code === "busy" || error.details["errno"] === "ECONNRESET");
      if (!overloaded) throw error;
      times.again++;
      await Bun.sleep(RETRY_MS);
    }
  }
}

/** The value below which `share` of the values lie. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
