import { existsSync } from "node:fs";
import * as v from "valibot";
import { ResultSchema, readResult, recentResults, writeResult } from "../src/doc-result.ts";
import { ECOSYSTEMS } from "../src/eco-load.ts";
import { AegisError } from "../src/errors.ts";
import { queued, tryRunLock, waitForRunLock } from "../src/exec-lock.ts";
import { isRunAtWork } from "../src/exec-recover.ts";
import { prepareState, STATE } from "../src/sys-state.ts";

/*
 * One step of the tests of the runner's state. It runs on a throw-away host, where it may write to /var/lib/aegis.
 * Prints what the step returns as JSON, or the code and message of what it throws.
 */
const say = (line: string) => process.stdout.write(`${line}\n`);
const LIMITS = v.object({ uid: v.number(), all: v.number(), perUid: v.number() });
const STEPS: Record<string, (first: string, second: string) => unknown> = {
  prepare: () => null,
  read: (id) => readResult(id),
  recent: (limit) => recentResults(Number(limit)),
  write: (json) => writeResult(v.parse(ResultSchema, JSON.parse(json))),
  queued: () => queued(),
  atWork: () => isRunAtWork(STATE, ECOSYSTEMS),
  free: () => tryRunLock() !== null,
  /** Takes the run lock and holds it until /run/go-<execution> exists. */
  async hold(execution, limits) {
    const { uid, ...most } = v.parse(LIMITS, JSON.parse(limits));
    const lock = await waitForRunLock({ execution, uid }, most, (place) => say(`place ${place}`));
    say("locked");
    while (!existsSync(`/run/go-${execution}`)) await Bun.sleep(10);
    lock.release();
    return "released";
  },
};

const [step = "", first = "", second = ""] = process.argv.slice(2);
try {
  prepareState();
  say(JSON.stringify((await STEPS[step]?.(first, second)) ?? null));
} catch (error) {
  say(error instanceof AegisError ? `${error.code}: ${error.message}` : `fault: ${String(error)}`);
}
