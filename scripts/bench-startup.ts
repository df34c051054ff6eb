import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alternate, BINARY, build, type Line, line, median, output } from "./bench-measure.ts";

/** `aegis --version` against an empty program in the same kind of executable. */
export function startup(quick: boolean): Line[] {
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  try {
    const empty = join(dir, "empty");
    writeFileSync(`${empty}.ts`, "export {};\n");
    build(`${empty}.ts`, empty);
    const rounds = quick ? 10 : 200;
    const [ours = [], reference = []] = alternate(rounds, 3, [
      () => output([BINARY, "--version"]),
      () => output([empty]),
    ]);
    return [
      line({
        name: "start-up: aegis --version",
        unit: "ms",
        ours: median(ours),
        reference: median(reference),
        against: "empty Bun executable",
        goal: { of: "ratio", at_most: 1.5 },
        samples: rounds,
      }),
    ];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
