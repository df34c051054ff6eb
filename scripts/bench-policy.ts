import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chainEvidence, sbomEvidence } from "../src/apt-evidence.ts";
import { canonicalJson } from "../src/canonical.ts";
import { readDocument } from "../src/doc.ts";
import { evaluate } from "../src/policy.ts";
import { loadPolicyConfig } from "../src/policy-config.ts";
import { DEBIAN, entry, upgrade } from "../test/policy-plans.ts";
import { build, type Line, line, median, output } from "./bench-measure.ts";

/*
 * Policy on an upgrade of 2,000 packages. Each sample is a separate process, compiled as Aegis is, because
 * `aegis policy` decides once per process, before the JIT has warmed up.
 */

const PACKAGES = 2000;

interface Sample {
  decide_ms: number;
  whole_ms: number;
  /** `JSON.parse` of the same text. */
  parse_ms: number;
}

export function policy(quick: boolean): Line[] {
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  try {
    const program = join(dir, "policy");
    build(import.meta.path, program);
    const rounds = quick ? 5 : 25;
    const samples = Array.from({ length: rounds }, (): Sample => JSON.parse(output([program])));
    const of = (field: keyof Sample) => median(samples.map((sample) => sample[field]));
    const common = {
      unit: "ms",
      reference: of("parse_ms"),
      against: "JSON.parse of the plan",
      goal: { of: "ours", at_most: 50 },
      samples: rounds,
    } as const;
    return [
      line({ ...common, name: "policy on 2,000 packages: the decision", ours: of("decide_ms") }),
      line({
        ...common,
        name: "policy on 2,000 packages: from text to decision",
        ours: of("whole_ms"),
        goal: null,
        note: "schema and hash of the whole plan included",
      }),
    ];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function sample(): Sample {
  const transaction = Array.from({ length: PACKAGES }, (_, i) => entry(`package-${i}`));
  const text = canonicalJson(
    upgrade({
      transaction,
      packages_upgraded: transaction.map(({ name }) => name),
      provenance_evidence: chainEvidence(transaction, [DEBIAN], []),
      sbom_evidence: sbomEvidence(transaction, { os_id: "debian", os_version: "12" }),
    }),
  );
  const { config, hash: configHash } = loadPolicyConfig({});
  const start = performance.now();
  JSON.parse(text);
  const parsed = performance.now();
  const { document: plan, hash: planHash } = readDocument("plan", text);
  const read = performance.now();
  const { decision } = evaluate({ plan, planHash, config, configHash });
  const end = performance.now();
  if (decision !== "allow_with_snapshot") throw new Error(`an ordinary upgrade was decided ${decision}`);
  return { decide_ms: end - read, whole_ms: end - parsed, parse_ms: parsed - start };
}

if (import.meta.main) process.stdout.write(`${JSON.stringify(sample())}\n`);
