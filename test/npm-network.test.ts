import { expect } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compare } from "../scripts/npm-compare.ts";
import { needs } from "./needs.ts";

/*
 * Against the real registry and this machine's npm. `scripts/agreement npm` does the same with some hundred packages.
 */

const isReachable = spawnSync("npm", ["view", "left-pad@1.3.0", "version"], { timeout: 20_000 }).status === 0;
const online = needs(isReachable, "npm with a registry that answers");

for (const target of ["express@4.21.2", "chalk", "@isaacs/cliui@8.0.2", "esbuild@0.25.0", "sharp@0.34.0"]) {
  online.test(
    `${target}: the packages that npm would install`,
    async () => {
      const home = mkdtempSync(join(tmpdir(), "aegis-npm-"));
      try {
        mkdirSync(join(home, "prefix/lib"), { recursive: true });
        const { only, refusal } = await compare(target, home);
        expect({ only, refusal }).toEqual({ only: { ours: [], npms: [] }, refusal: null });
      } finally {
        rmSync(home, { recursive: true, force: true });
      }
    },
    120_000,
  );
}
