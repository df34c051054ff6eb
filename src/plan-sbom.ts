import type { OperationPlan, TransactionEntry } from "./doc-plan.ts";
import { isFetched } from "./doc-plan.ts";

/*
 * A plan's packages as a software bill of materials in CycloneDX 1.6, plain JSON. https://cyclonedx.org/docs/1.6/json/
 */

interface Component {
  type: "library" | "application";
  "bom-ref": string;
  name: string;
  version?: string;
  purl?: string;
  hashes?: { alg: "SHA-256"; content: string }[];
  licenses?: { license: { name: string } }[];
}

/**
 * The bill of materials of what a plan installs: the packages with their package URLs, hashes and licences, and who needs whom as
 * far as the plan tells. The same plan always gives the same bytes. `toolVersion` is this program's.
 */
export function cyclonedx(plan: OperationPlan, toolVersion: string): object {
  const hashes = new Map(plan.sbom_evidence.map(({ purl, sha256 }) => [purl, sha256]));
  const entries = plan.transaction.filter(isFetched);
  // The transaction tells the names; the evidence has the package URL of each, in the same order, unless the entry has its own.
  const purls = entries.map((entry, i) => entry.purl ?? purlAt(plan, entries, i));
  const components = entries.map((entry, i) => componentOf(entry, purls[i] ?? null, hashes));
  const refOf = new Map(entries.map((entry, i) => [nameOf(entry), components[i]?.["bom-ref"] ?? ""]));
  const root = `aegis:${plan.plan_id}`;
  const children = new Map<string, string[]>([[root, []]]);
  for (const [i, entry] of entries.entries()) {
    const ref = components[i]?.["bom-ref"] ?? "";
    const parent = entry.required_by === undefined ? root : (refOf.get(entry.required_by) ?? root);
    children.set(parent, [...(children.get(parent) ?? []), ref]);
  }
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: `urn:uuid:${plan.plan_id}`,
    version: 1,
    metadata: {
      timestamp: plan.created_at,
      tools: { components: [{ type: "application", name: "aegis", version: toolVersion }] },
      component: {
        type: "application",
        "bom-ref": root,
        name: `${plan.ecosystem} ${plan.operation} ${plan.target}`.trim(),
      },
    },
    components,
    dependencies: [...children].map(([ref, dependsOn]) => ({
      ref,
      dependsOn: [...new Set(dependsOn)].sort(),
    })),
  };
}

function purlAt(
  { sbom_evidence }: OperationPlan,
  entries: readonly TransactionEntry[],
  i: number,
): string | null {
  return sbom_evidence.length === entries.length ? (sbom_evidence[i]?.purl ?? null) : null;
}

function componentOf(
  entry: TransactionEntry,
  purl: string | null,
  hashes: ReadonlyMap<string, string | null>,
): Component {
  const sha256 = entry.sha256 ?? (purl === null ? null : (hashes.get(purl) ?? null));
  return {
    type: "library",
    "bom-ref": purl ?? `${nameOf(entry)} ${entry.architecture}`,
    name: entry.name,
    ...(entry.to_version === null ? {} : { version: entry.to_version }),
    ...(purl === null ? {} : { purl }),
    ...(sha256 === null ? {} : { hashes: [{ alg: "SHA-256", content: sha256 }] }),
    ...(entry.license === undefined ? {} : { licenses: [{ license: { name: entry.license } }] }),
  };
}

function nameOf({ name, to_version }: TransactionEntry): string {
  return `${name} ${to_version}`;
}
