import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseDocument } from "../src/doc.ts";
import { loadEcosystem } from "../src/eco-load.ts";
import { npm } from "../src/npm.ts";
import { makePlan } from "../src/plan.ts";
import { type FakePackage, fakeNpm, npmPlanning } from "./npm-kit.ts";

const readText = (path: string) => (path.startsWith("/etc/") ? null : readFileSync(path, "utf8"));
const list = (path: string) => readdirSync(path).sort();

const LODASH: FakePackage = { name: "lodash", version: "4.17.20" };
const planning = () => npmPlanning(fakeNpm([LODASH]));

const ID = "1b7b4a3e-7c9e-4f6a-9a44-af0c2d3e4f50";
const FAULTS: [string, string, string[], string][] = [
  ["constructor", "install", ["x"], "usage"],
  ["__proto__", "install", ["x"], "usage"],
  ["toString", "install", ["x"], "usage"],
  ["brew", "install", ["x"], "usage"],
  ["", "install", ["x"], "usage"],
  ["vscode", "install", ["x"], "invalid_target"],
  ["npm", "uninstall", ["x"], "usage"],
  ["npm", "constructor", ["x"], "usage"],
  ["npm", "install", [], "usage"],
  ["apt", "update", ["x"], "usage"],
  ["apt", "upgrade", ["x"], "usage"],
  ["apt", "install", [], "usage"],
  ["apt", "purge", [], "usage"],
  ["apt", "remove", [], "usage"],
  ["apt", "remove", ["hello=1.0"], "invalid_target"],
  ["apt", "remove", ["hello-"], "invalid_target"],
  ["apt", "rollback", [], "usage"],
  ["apt", "rollback", ["hello"], "invalid_target"],
  ["apt", "rollback", [ID, ID.replace("1", "2")], "invalid_target"],
  ["apt", "rollback", [ID.toUpperCase()], "invalid_target"],
  ["apt", "repair", ["x"], "usage"],
  ["npm", "install", ["-g"], "invalid_target"],
];

describe("refused before anything is run", () => {
  for (const [tool, operation, targets, code] of FAULTS) {
    test(`${tool} ${operation} ${targets.join(" ")}: ${code}`, async () => {
      const world = planning();
      const made = async () => makePlan(await loadEcosystem(tool), operation, targets, world);
      await expect(made()).rejects.toMatchObject({ code });
      expect(world.ran).toEqual([]);
    });
  }
});

test("every built ecosystem is loaded under its own name", async () => {
  for (const name of ["apt", "npm"]) expect((await loadEcosystem(name)).tool).toBe(name as "apt" | "npm");
});

test("a denied target: a plan is written, but nothing is run, even for the others", async () => {
  const world = planning();
  const plan = await makePlan(npm, "install", ["lodash", "https://example.com/x.tgz"], world);
  expect(world.ran).toEqual([]);
  expect(plan).toMatchObject({
    target: "lodash https://example.com/x.tgz",
    denied_targets: [{ target: "https://example.com/x.tgz", signal: "url-denied" }],
    exact_targets: [],
    transaction: [],
    metadata_available: false,
    network_access: false,
    risk_score: 100,
    raw_evidence: { commands: [] },
  });
  expect(plan.risk_signals).toContain("url-denied");
  expect(plan.command_preview).toEqual(["npm", "install"]);
});

test("the plan is a valid document with identity, lists and score", async () => {
  const plan = await makePlan(npm, "install", ["lodash@4.17.20"], planning());
  expect(parseDocument("plan", plan)).toEqual(plan);
  expect(plan).toMatchObject({
    schema_version: "1.0",
    created_at: "2026-11-22T01:02:03.004Z",
    tool: "npm",
    ecosystem: "npm",
    operation: "install",
    target_type: "package",
    target: "lodash@4.17.20",
    targets: ["lodash@4.17.20"],
    exact_targets: ["lodash@4.17.20"],
    packages_installed: ["lodash"],
    packages_upgraded: [],
    scripts_detected: false,
    risk_signals: ["requires-root", "network-operation", "package-install"],
    risk_score: 10,
    host: { hostname: "host" },
  });
});

test("known vulnerabilities of versions to be installed are in the plan, its signals and its score", async () => {
  const env = { AEGIS_OSV_DIR: join(import.meta.dir, "fixtures/osv") };
  const world = { ...planning(), env, readText, list };
  const plan = await makePlan(npm, "install", ["lodash@4.17.20"], world);
  expect(plan.vulnerability_evidence).toMatchObject([
    {
      package: "lodash",
      applies_to: "new",
      id: "GHSA-35jh-r3h4-6jhm",
      severity: "high",
      fixed_version: "4.17.21",
    },
  ]);
  expect(plan.risk_signals).toContain("vulnerability-known");
  expect(plan.risk_contributions).toContainEqual({ name: "vulnerability-known", points: 15 });
});

test("the same answers give the same plan, except for its id", async () => {
  const [a, b] = await Promise.all(
    [0, 1].map(() => makePlan(npm, "install", ["lodash@4.17.20"], planning())),
  );
  expect(a?.plan_id).not.toBe(b?.plan_id ?? "");
  expect({ ...a, plan_id: "" }).toEqual({ ...b, plan_id: "" } as typeof a & { plan_id: string });
});
