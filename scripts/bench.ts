import { readFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { parseArgs } from "node:util";
import { sha256Hex } from "../src/canonical.ts";
import { table, terminalOf } from "../src/terminal.ts";
import { BINARY, type Line, type Measured } from "./bench-measure.ts";

/** By name; each is loaded only when it runs. `quick` gives fewer samples and smaller logs. */
const BENCHMARKS: Readonly<Record<string, (quick: boolean) => Promise<Line[]>>> = {
  startup: async (quick) => (await import("./bench-startup.ts")).startup(quick),
  plan: async (quick) => (await import("./bench-plan.ts")).plan(quick),
  upgrade: async (quick) => (await import("./bench-upgrade.ts")).upgrade(quick),
  npm: async (quick) => (await import("./bench-planning.ts")).planning("npm", quick),
  pip: async (quick) => (await import("./bench-planning.ts")).planning("pip", quick),
  go: async (quick) => (await import("./bench-planning.ts")).planning("go", quick),
  cargo: async (quick) => (await import("./bench-planning.ts")).planning("cargo", quick),
  install: async (quick) => (await import("./bench-install.ts")).installs(quick),
  policy: async (quick) => (await import("./bench-policy.ts")).policy(quick),
  feeds: async (quick) => (await import("./bench-feeds.ts")).feeds(quick),
  audit: async (quick) => (await import("./bench-audit.ts")).audit(quick),
  front: async (quick) => (await import("./bench-front.ts")).front(quick),
};

const NAMES = Object.keys(BENCHMARKS).join("|");

function options() {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        only: { type: "string" },
      },
    });
    if (values.only === undefined || Object.hasOwn(BENCHMARKS, values.only)) return values;
    throw new Error(`there is no benchmark ${values.only}`);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.stderr.write(`Usage: scripts/bench [--json] [--quick] [--only ${NAMES}]\n`);
    process.exit(2);
  }
}

function three(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function goalOf({ goal, unit }: Measured): string {
  if (goal === null) return "";
  return goal.of === "ratio" ? `≤ ${goal.at_most}×` : `≤ ${goal.at_most} ${unit}`;
}

function show(lines: readonly Line[]): string {
  const rows = lines.map((line) =>
    "not_measured" in line
      ? [line.name, "–", "–", "–", "", "not measured"]
      : [
          line.name,
          `${three(line.ours)} ${line.unit}`,
          `${three(line.reference)} ${line.unit}`,
          `${line.ratio.toFixed(2)}×`,
          goalOf(line),
          line.met === null ? "" : line.met ? "met" : "MISSED",
        ],
  );
  const notes = lines.map((line) =>
    "not_measured" in line
      ? `${line.name}: ${line.not_measured}`
      : `${line.name}: against ${line.against}${line.note === undefined ? "" : `; ${line.note}`}; samples: ${line.samples}`,
  );
  // Never truncated: a cut figure is useless.
  const paper = { ...terminalOf({}, {}), width: Number.POSITIVE_INFINITY };
  const missed = lines.filter((line) => "met" in line && line.met === false).length;
  return [
    table(paper, ["benchmark", "ours", "reference", "ratio", "goal", ""], rows),
    "",
    ...notes,
    "",
    missed === 0 ? "no goal missed" : `goals missed: ${missed}`,
  ].join("\n");
}

const { json, quick, only } = options();
const lines: Line[] = [];
for (const [name, run] of Object.entries(BENCHMARKS)) {
  if (only !== undefined && only !== name) continue;
  process.stderr.write(`measuring ${name}\n`);
  lines.push(...(await run(quick)));
}
const machine = {
  measured_at: new Date().toISOString(),
  binary_sha256: sha256Hex(readFileSync(BINARY)),
  bun: Bun.version,
  kernel: release(),
  cpu: cpus()[0]?.model ?? "unknown",
  cpus: cpus().length,
  quick,
};
process.stdout.write(`${json ? JSON.stringify({ ...machine, lines }) : show(lines)}\n`);
process.exit(0);
