import { fstatSync } from "node:fs";
import { parseCanonical } from "./canonical.ts";
import { AegisError, messageOf } from "./errors.ts";
import { type FrontOptions, startFront } from "./front.ts";
import type { Log } from "./log.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { checkLifetime, checkSignature, readExecution } from "./preflight.ts";
import { stopSignal } from "./stop-signal.ts";
import { loadTrust } from "./trust.ts";
import type { BareKeys } from "./trusted-keys.ts";

/**
 * The front as a process: serves until a signal asks it to stop. What it checks of a plan is what costs little and needs
 * no privilege; the runner checks everything again.
 */
export async function runFront(listen: FrontOptions["listen"], bare: BareKeys, log: Log): Promise<void> {
  const front = await startFront({
    listen,
    runner: { path: SYSTEM.runnerSocket },
    verify: (plan) => checkCheaply(plan, bare),
    log,
  });
  await Promise.race([stopSignal(), parentEnd()]);
  await front.close().catch((error: unknown) => log.warn("closing", { problem: messageOf(error) }));
}

/** A supervisor holds the other end of our standard input. Started by systemd we have none (StandardInput=null). */
function parentEnd(): Promise<void> {
  const stat = fstatSync(0);
  return new Promise((resolve) => {
    if (!stat.isFIFO() && !stat.isSocket()) return;
    const stop = () => resolve();
    process.stdin.on("end", stop).on("error", stop).resume();
  });
}

/** Throws what is wrong with the plan, and returns what is wrong with its lifetime only: that comes after its use. */
function checkCheaply(text: string, bare: BareKeys): AegisError | null {
  const execution = readExecution(parseCanonical(text));
  const now = new Date();
  checkSignature(execution, loadTrust({ rootOnly: true, bare }), now);
  const config = loadPolicyConfig({}, { system: true });
  try {
    checkLifetime(execution, { now, config, installedAt: null, newestAudited: null });
    return null;
  } catch (error) {
    if (error instanceof AegisError) return error;
    throw error;
  }
}
