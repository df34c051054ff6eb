import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { throwawayUnavailable } from "../test/throwaway.ts";
import { BINARY } from "./bench-measure.ts";
import { diskFaults, noEio } from "./soak-disk.ts";
import { withFewFiles } from "./soak-files.ts";
import { faults, type Soak, startSoak } from "./soak-host.ts";
import { killAtRandom } from "./soak-kills.ts";
import { fullQueue, underLoad } from "./soak-load.ts";
import { type Outcome, type Step, text } from "./soak-report.ts";

/*
 * scripts/soak: one host, one step after the other; each step's plans are counted, and the log is verified at the end.
 */

const FULL = {
  load: {
    silent: 1000,
    slow: 64,
    large: 200,
    noise: 1000,
    half: 1000,
    denied: 10_000,
    statuses: 200,
    applies: 10,
  },
  queue: { users: 10, plans: 200 },
  disk: 3,
};
const QUICK = {
  load: { silent: 100, slow: 4, large: 9, noise: 50, half: 50, denied: 200, statuses: 20, applies: 2 },
  queue: { users: 2, plans: 8 },
  disk: 1,
};
const STEPS = ["load", "queue", "files", "disk", "kill"] as const;
/** Packages for the disk faults. */
const SPARE_PACKAGES = 30;

function options() {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        applies: { type: "string" },
        seed: { type: "string", default: String(Date.now() % 1_000_000) },
        only: { type: "string" },
        binary: { type: "string", default: BINARY },
      },
    });
    const { only, quick } = values;
    const applies = Number(values.applies ?? (quick ? 20 : 200));
    const seed = Number(values.seed);
    const step = STEPS.find((name) => name === only);
    if (only !== undefined && step === undefined) throw new Error(`there is no step ${only}`);
    if (!Number.isInteger(applies) || applies < 1) throw new Error("--applies is a number of plans");
    if (!Number.isInteger(seed)) throw new Error("--seed is a number");
    return {
      ...values,
      binary: resolve(values.binary),
      applies,
      seed,
      steps: step === undefined ? STEPS : [step],
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.stderr.write(
      `Usage: scripts/soak [--json] [--quick] [--applies <n>] [--seed <n>] [--only ${STEPS.join("|")}] [--binary <file>]\n`,
    );
    process.exit(2);
  }
}

/** A seeded generator of numbers in [0, 1) (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const { json, quick, applies, seed, steps, binary } = options();
const size = quick ? QUICK : FULL;

const RUN: Readonly<Record<(typeof STEPS)[number], (soak: Soak) => Promise<Step[]>>> = {
  async load(soak) {
    const { hostile, account, ...measured } = await underLoad(soak, size.load);
    const steps = hostile.map(
      ({ kind, report }): Step => ({ what: kind, sent: report.sent, answers: report.answers }),
    );
    const sent = 2 * size.load.applies;
    return [...steps, { what: "valid, meanwhile", sent, answers: {}, account, measured }];
  },
  async queue(soak) {
    const { report, account } = await fullQueue(soak, size.queue.users, size.queue.plans);
    return [{ what: "valid, all at once", sent: size.queue.plans, answers: report.answers, account }];
  },
  async files(soak) {
    const { connections, cpuPercent, problems } = await withFewFiles(soak);
    const note = `the front took ${cpuPercent.toFixed(0)} % of a processor meanwhile`;
    return [{ what: "no open files left", sent: connections, answers: {}, problems, note }];
  },
  async disk(soak) {
    const missing = await noEio(soak);
    const done = await diskFaults(soak, size.disk);
    const steps = done.map(({ what, sent, answers, after, account, problems }): Step => {
      const note = `afterwards: ${Object.entries(after)
        .map(([answer, count]) => `${count} ${answer}`)
        .join(", ")}`;
      return { what, sent, answers, account, problems, note };
    });
    return missing === null ? steps : [...steps, { what: `EIO: SKIPPED, ${missing}`, sent: 0, answers: {} }];
  },
  async kill(soak) {
    const installs = await soak.installs(applies);
    const { submissions, kills, moments, outcomes, account } = await killAtRandom(
      soak,
      installs,
      randomFrom(seed),
    );
    const list = (counts: Record<string, number>) =>
      Object.entries(counts)
        .map(([name, count]) => `${name} ${count}`)
        .join(", ");
    const note = `killed: ${list(kills)}; while there was: ${list(moments)}; submissions: ${submissions}`;
    return [{ what: "SIGKILL at random", sent: applies, answers: outcomes, account, note }];
  },
};

const reason = throwawayUnavailable();
if (reason !== null) {
  process.stderr.write(`SKIPPED for want of a throw-away host: ${reason}\n`);
  process.exit(8);
}
process.stderr.write(`seed ${seed}\n`);
const packages = 1 + 2 * size.load.applies + size.queue.plans + SPARE_PACKAGES + applies;
const soak = await startSoak(binary, packages);
let outcome: Outcome;
try {
  const done: Step[] = [];
  for (const name of steps) {
    process.stderr.write(`${name}\n`);
    done.push(...(await RUN[name](soak)));
  }
  outcome = { seed, quick, steps: done, faults: await faults(soak) };
} finally {
  await soak.stop();
}
const bad = outcome.steps.some(
  ({ account, problems = [] }) =>
    problems.length > 0 || (account?.lost.length ?? 0) + (account?.twice.length ?? 0) > 0,
);
process.stdout.write(`${json ? JSON.stringify(outcome) : text(outcome)}\n`);
process.exit(bad || outcome.faults.length > 0 ? 1 : 0);
