import { writeSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { OperationPlan } from "./doc-plan.ts";
import { BUILD_FILES } from "./eco-build-receipt.ts";
import { AegisError } from "./errors.ts";
import { readText } from "./sys-files.ts";

/*
 * What the driver of a managed root tells the supervisor of its build, and what that tells of its progress.
 */

const AccountSchema = v.strictObject({ name: v.string(), uid: v.number(), gid: v.number() });
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

/** What `prepare` leaves for the supervisor, in a file that only root can write. */
export const BuildRun = v.strictObject({
  plan: OperationPlan,
  argv: v.pipe(v.array(v.string()), v.minLength(1)),
  program: v.string(),
  /** The aegis executable. */
  aegis: v.string(),
  /** The fetched files. */
  files: v.string(),
  /** The directory of managed roots. */
  state: v.string(),
  account: AccountSchema,
  registry: AccountSchema,
  /** The socket of systemd's unit for the sandbox; null for namespaces by hand. */
  unit: v.nullable(v.string()),
  limits: v.strictObject({ memory: count, tasks: count, disk: count, entries: count }),
});
export type BuildRun = v.InferOutput<typeof BuildRun>;

/** @throws AegisError `usage` for a directory that no run has prepared */
export function readBuildRun(directory: string): BuildRun {
  const text = readText(join(directory, BUILD_FILES.run));
  if (text !== null) return v.parse(BuildRun, parseJson(text));
  throw new AegisError(
    "usage",
    `${JSON.stringify(directory)} is no directory of a prepared run`,
    "The executor starts this itself, while it runs a signed plan; see: aegis apply --help",
  );
}

/** Steps as they are reported, with the percentage at which each begins. */
const STEPS = {
  copying: [2, "copying the managed directory"],
  building: [12, "installing, without a network"],
  comparing: [80, "comparing what was installed with the signed files"],
  exchanging: [95, "exchanging the managed directory"],
  done: [100, "done"],
} as const;

/** Reports progress, on the descriptor that eco-run.ts reads. */
export function reportStep(name: keyof typeof STEPS): void {
  const [percent, text] = STEPS[name];
  try {
    writeSync(3, `${percent} ${text}\n`);
  } catch {
    // A full disk stops the build elsewhere, with a reason.
  }
}
