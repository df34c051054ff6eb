import { readFileSync } from "node:fs";
import { join } from "node:path";
import { actionOf, parseSimulation } from "../src/apt-simulation.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { entry } from "./policy-plans.ts";

/** The rows of a recorded `apt-get -s upgrade` of 136 packages (test/fixtures/apt/README.md). */
export function recordedUpgrade(): TransactionEntry[] {
  const text = readFileSync(join(import.meta.dir, "fixtures/apt/bookworm/upgrade.txt"), "utf8");
  return parseSimulation(text).installations.map((one) =>
    entry(one.name, {
      architecture: one.architecture,
      action: actionOf(one),
      from_version: one.from,
      to_version: one.to,
      size: 1_500_000,
    }),
  );
}
