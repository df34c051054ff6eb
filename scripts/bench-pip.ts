import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { OperationPlan } from "../src/doc-plan.ts";
import { SYSTEM_PATH } from "../src/sys-spawn.ts";
import { alternate, BINARY, type Line, line, median, output } from "./bench-measure.ts";

/*
 * `aegis plan pip install` against `pip install --dry-run` of the same package, both without a cache, from the index that PIP_INDEX_URL
 * names. Aegis does more: it fetches every wheel, holds it against its RECORD and looks into it.
 */

const TARGET = "flask==3.0.0";
const NAME = `plan pip install ${TARGET}`;

export function planPip(quick: boolean): Line[] {
  const dir = mkdtempSync(join(tmpdir(), "aegis-bench-"));
  try {
    const home = join(dir, "home");
    mkdirSync(home);
    // A plan that the policy denies ends with another exit status.
    writeFileSync(join(dir, "policy.toml"), '[pip]\napply = "require_human"\n');
    const passed = ["PIP_INDEX_URL", "PIP_CERT"].flatMap((name) =>
      process.env[name] === undefined ? [] : [[name, process.env[name]]],
    );
    const env = {
      ...{ LC_ALL: "C.UTF-8", PATH: SYSTEM_PATH.join(":"), HOME: home, PIP_CONFIG_FILE: "/dev/null" },
      AEGIS_POLICY_CONFIG: join(dir, "policy.toml"),
      ...Object.fromEntries(passed),
    };
    let round = 0;
    const ours = () =>
      output([BINARY, "plan", "pip", "install", TARGET, "--json"], {
        cwd: home,
        env: { ...env, XDG_DATA_HOME: `${dir}/data`, XDG_CACHE_HOME: `${dir}/cache-${round++}` },
      });
    const { plan: made }: { plan: OperationPlan } = JSON.parse(ours());
    if (!made.metadata_available) return [{ name: NAME, not_measured: made.warnings.join("; ") }];
    const options = [
      "--dry-run",
      "--ignore-installed",
      "--only-binary",
      ":all:",
      "--no-cache-dir",
      "--quiet",
    ];
    const pip = () =>
      output(
        [
          "/usr/bin/python3",
          "-m",
          "pip",
          "install",
          ...options,
          "--disable-pip-version-check",
          "--target",
          `${dir}/target`,
          TARGET,
        ],
        { cwd: home, env },
      );
    const rounds = quick ? 3 : 7;
    const [a = [], b = []] = alternate(rounds, 1, [ours, pip]);
    return [
      line({
        name: NAME,
        unit: "ms",
        ours: median(a),
        reference: median(b),
        against: `pip install --dry-run of the same ${made.transaction.length} packages`,
        goal: { of: "ratio", at_most: 1.3 },
        samples: rounds,
      }),
    ];
  } catch (error) {
    return [{ name: NAME, not_measured: error instanceof Error ? error.message : String(error) }];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
