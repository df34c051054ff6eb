import { describe, expect, test } from "bun:test";
import type { OperationPlan, TransactionEntry } from "../src/doc-plan.ts";
import { cyclonedx } from "../src/plan-sbom.ts";
import { npm, upgrade } from "./policy-plans.ts";

/*
 * Documents of real plans (apt, Go) were valid by the schema of CycloneDX 1.6, with ajv 8; what it asks for is asserted here.
 */

const HASH = "ab".repeat(32);
const closure = (...entries: [name: string, version: string, requiredBy?: string][]): OperationPlan => {
  const [template] = npm().transaction;
  const transaction = entries.map(([name, version, requiredBy]): TransactionEntry => {
    if (template === undefined) throw new Error("unreachable");
    const purl = `pkg:npm/${name}@${version}`;
    const own = { name, to_version: version, sha256: HASH, purl, license: "MIT" };
    return { ...template, ...own, ...(requiredBy === undefined ? {} : { required_by: requiredBy }) };
  });
  return npm({ transaction });
};

interface Bom {
  serialNumber: string;
  components: { "bom-ref": string; version: string; hashes: object[]; licenses: object[] }[];
  dependencies: { ref: string; dependsOn: string[] }[];
}
const bomOf = (plan: OperationPlan) => cyclonedx(plan, "1.2.3") as Bom;

describe("a bill of materials", () => {
  const plan = closure(
    ["a", "1.0.0"],
    ["b", "2.0.0", "a 1.0.0"],
    ["c", "3.0.0", "b 2.0.0"],
    ["c", "4.0.0", "gone 9"],
  );

  test("names each package with its package URL, hash and licence", () => {
    const { components, serialNumber } = bomOf(plan);
    expect(serialNumber).toBe(`urn:uuid:${plan.plan_id}`);
    expect(components.map((one) => one["bom-ref"])).toEqual([
      "pkg:npm/a@1.0.0",
      "pkg:npm/b@2.0.0",
      "pkg:npm/c@3.0.0",
      "pkg:npm/c@4.0.0",
    ]);
    expect(components[0]).toMatchObject({
      version: "1.0.0",
      hashes: [{ alg: "SHA-256", content: HASH }],
      licenses: [{ license: { name: "MIT" } }],
    });
  });

  test("says who needs whom; what nobody in it needs is the request's", () => {
    const root = `aegis:${plan.plan_id}`;
    expect(bomOf(plan).dependencies).toEqual([
      { ref: root, dependsOn: ["pkg:npm/a@1.0.0", "pkg:npm/c@4.0.0"] },
      { ref: "pkg:npm/a@1.0.0", dependsOn: ["pkg:npm/b@2.0.0"] },
      { ref: "pkg:npm/b@2.0.0", dependsOn: ["pkg:npm/c@3.0.0"] },
    ]);
  });

  test("of apt takes package URLs from the evidence, and leaves removals out", () => {
    const base = upgrade();
    const purls = base.transaction.map(({ name }) => ({ purl: `pkg:deb/debian/${name}@1`, sha256: null }));
    expect(bomOf({ ...base, sbom_evidence: purls }).components.map((one) => one["bom-ref"])).toEqual(
      purls.map(({ purl }) => purl),
    );
    const removed = base.transaction.map((e) => ({ ...e, action: "remove" as const, to_version: null }));
    expect(bomOf({ ...base, transaction: removed }).components).toEqual([]);
  });

  test("without a package URL a reference is still unique, and no field is empty", () => {
    const [first] = upgrade().transaction;
    const two = ["amd64", "i386"].flatMap((architecture) =>
      first === undefined ? [] : [{ ...first, architecture }],
    );
    const { components } = bomOf({ ...upgrade(), transaction: two, sbom_evidence: [] });
    expect(new Set(components.map((one) => one["bom-ref"])).size).toBe(2);
    expect(components.every((one) => !("purl" in one))).toBe(true);
  });

  test("is the same for the same plan", () => {
    expect(JSON.stringify(bomOf(plan))).toBe(JSON.stringify(bomOf(structuredClone(plan))));
  });
});
