import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OperationPlan } from "../src/doc-plan.ts";
import { SYSTEM_PATH } from "../src/sys-spawn.ts";
import { alternate, BINARY, type Line, line, median, output } from "./bench-measure.ts";

const TARGET = "express@4.21.2";
const NAME = `plan npm install ${TARGET}`;

/**
 * `aegis plan npm install express@4.21.2` against `npm install --package-lock-only`, both with an empty cache. npm only resolves; Aegis
 * also fetches every package file, hashes it and looks into it.
 */
export function npmPlan(quick: boolean): Line[] {
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  try {
    const [home, policy] = [join(dir, "home"), join(dir, "policy.toml")];
    mkdirSync(home);
    writeFileSync(policy, '[npm]\napply = "require_human"\n');
    const env = { LC_ALL: "C.UTF-8", PATH: SYSTEM_PATH.join(":"), HOME: home };
    let serial = 0;
    const ours = () => {
      const own = join(dir, `aegis-${++serial}`);
      const places = { XDG_DATA_HOME: own, XDG_CACHE_HOME: own, AEGIS_POLICY_CONFIG: policy };
      return output([BINARY, "plan", "npm", "install", TARGET, "--json"], {
        cwd: home,
        env: { ...env, ...places },
      });
    };
    const bare = () => {
      const own = join(dir, `npm-${++serial}`);
      mkdirSync(own);
      writeFileSync(join(own, "package.json"), "{}");
      const argv = [
        "npm",
        "install",
        "--package-lock-only",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        TARGET,
      ];
      return output(argv, { cwd: own, env: { ...env, npm_config_cache: join(own, "cache") } });
    };
    const { plan }: { plan: OperationPlan } = JSON.parse(ours());
    if (!plan.metadata_available) return [{ name: NAME, not_measured: plan.warnings.join("; ") }];
    const rounds = quick ? 3 : 7;
    const [a = [], b = []] = alternate(rounds, 1, [ours, bare]);
    return [
      line({
        name: NAME,
        unit: "ms",
        ours: median(a),
        reference: median(b),
        against: `npm ${output(["npm", "--version"]).trim()} install --package-lock-only; no caches`,
        note: `${plan.transaction.length} packages, fetched, hashed and looked into`,
        goal: { of: "ratio", at_most: 1.3 },
        samples: rounds,
      }),
    ];
  } catch (error) {
    return [
      { name: NAME, not_measured: error instanceof Error ? error.message.slice(0, 300) : String(error) },
    ];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
