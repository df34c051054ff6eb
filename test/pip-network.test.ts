import { afterAll, expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pip } from "../src/pip.ts";
import { makePlan } from "../src/plan.ts";
import { openPlanning } from "../src/plan-world.ts";
import { needs } from "./needs.ts";
import { HOST } from "./policy-plans.ts";

/*
 * Real packages of the index that this machine's settings name. `scripts/agreement pip` compares many more with pip itself.
 */

const work = mkdtempSync(join(tmpdir(), "aegis-pip-network-"));
afterAll(() => rmSync(work, { recursive: true, force: true }));
const env = {
  HOME: join(work, "home"),
  PIP_CONFIG_FILE: "/dev/null",
  PIP_INDEX_URL: process.env.PIP_INDEX_URL ?? "",
  PIP_CERT: process.env.PIP_CERT ?? "",
};
mkdirSync(env.HOME);

const reachable = await fetch(`${env.PIP_INDEX_URL || "https://pypi.org/simple"}/six/`, {
  signal: AbortSignal.timeout(5000),
})
  .then(({ ok }) => ok)
  .catch(() => false);
const hasPip = Bun.spawnSync(["/usr/bin/python3", "-m", "pip", "--version"]).exitCode === 0;

needs(reachable && hasPip, "an index of Python packages and pip").test.each([
  ["requests==2.31.0", ["certifi", "charset-normalizer", "idna", "requests", "urllib3"]],
  ["flask==3.0.0", ["blinker", "click", "flask", "itsdangerous", "jinja2", "markupsafe", "werkzeug"]],
  ["six==1.16.0", ["six"]],
])("%s", async (target, names) => {
  const planning = openPlanning({ env, host: HOST });
  try {
    const plan = await makePlan(pip, "install", [target], planning);
    expect(plan.metadata_available ? [] : plan.warnings).toEqual([]);
    expect(plan.transaction.map(({ name }) => name)).toEqual(names);
    expect(
      plan.provenance_evidence.filter(({ kind, verified }) => kind === "pypi-sha256" && verified),
    ).toHaveLength(names.length);
    expect(pip.signedArgv(plan).at(-1)).toBe(target);
  } finally {
    planning.close();
  }
});
