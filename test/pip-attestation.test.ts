import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pip } from "../src/pip.ts";
import { wheelProvenance } from "../src/pip-attestation.ts";
import { pipConfig } from "../src/pip-config.ts";
import type { Wheel } from "../src/pip-index.ts";
import { makePlan } from "../src/plan.ts";
import { type FakeWheel, fakeIndex, INDEX, pipPlanning } from "./pip-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

/*
 * A real attestation of PyPI: fixtures/pip/README.md.
 */

const GOOD = readFileSync(join(import.meta.dir, "fixtures/pip/sigstore-3.6.1.tar.gz.provenance"), "utf8");
const ADDRESS = "https://index.example/integrity/sigstore/3.6.1/sigstore-3.6.1.tar.gz/provenance";
const SHA256 = "ee60fdc9236fd6709271ad53b44027461360c3fde155d2af15482e4c451ff865";

/** The file of the attestation; that it is no wheel makes no difference here. */
const FILE: Wheel = {
  ...{ name: "sigstore", version: "3.6.1", filename: "sigstore-3.6.1.tar.gz", sha256: SHA256 },
  ...{ url: new URL("https://files.example/x"), metadataSha256: null, yanked: null, publishedAt: null },
  provenance: undefined,
};
const older = (provenance: Wheel["provenance"]): Wheel => ({ ...FILE, version: "3.6.0", provenance });

function provenanceOf(answer: RegistryAnswer | null, over: Partial<Wheel> = {}, before: Wheel[] = []) {
  const file = { ...FILE, ...over };
  const project = { name: file.name, wheels: [file, ...before], others: [], found: true };
  const planning = pipPlanning(answer === null ? {} : { [ADDRESS]: answer });
  return wheelProvenance(file, project, pipConfig(planning.env, planning.readText), planning);
}

interface Document {
  attestation_bundles: {
    publisher: Record<string, unknown>;
    attestations: {
      envelope: { statement: string; signature: string };
      verification_material: {
        certificate: string;
        transparency_entries: {
          integratedTime: string;
          canonicalizedBody: string;
          inclusionPromise: { signedEntryTimestamp: string };
          inclusionProof: { rootHash: string; hashes: string[] };
        }[];
      };
    }[];
  }[];
}
type Bundle = Document["attestation_bundles"][number];
type Attested = Bundle["attestations"][number];

function changed(change: (attestation: Attested, bundle: Bundle) => void): string {
  const document: Document = JSON.parse(GOOD);
  for (const bundle of document.attestation_bundles)
    for (const one of bundle.attestations) change(one, bundle);
  return JSON.stringify(document);
}
/** Base64 with one bit of its middle flipped. */
function flipped(base64: string): string {
  const bytes = Buffer.from(base64, "base64");
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  return bytes.toString("base64");
}
const entryOf = ({ verification_material }: Attested) => {
  const [entry] = verification_material.transparency_entries;
  if (entry === undefined) throw new Error("no entry");
  return entry;
};

describe("not verified, and less than it claims", () => {
  const cases: [string, string, Partial<Wheel>, RegExp][] = [
    [
      "one bit of the statement",
      changed((one) => {
        one.envelope.statement = flipped(one.envelope.statement);
      }),
      {},
      /can't be verified/,
    ],
    [
      "one bit of the signature",
      changed((one) => {
        one.envelope.signature = flipped(one.envelope.signature);
      }),
      {},
      /can't be verified/,
    ],
    [
      "one bit of the certificate",
      changed((one) => {
        one.verification_material.certificate = flipped(one.verification_material.certificate);
      }),
      {},
      /can't be verified/,
    ],
    [
      "one bit of the log's entry",
      changed((one) => {
        entryOf(one).canonicalizedBody = flipped(entryOf(one).canonicalizedBody);
      }),
      {},
      /can't be verified/,
    ],
    [
      "one bit of the log's promise",
      changed((one) => {
        entryOf(one).inclusionPromise.signedEntryTimestamp = flipped(
          entryOf(one).inclusionPromise.signedEntryTimestamp,
        );
      }),
      {},
      /can't be verified/,
    ],
    [
      "another time",
      changed((one) => {
        entryOf(one).integratedTime = "1734728193";
      }),
      {},
      /can't be verified/,
    ],
    ["another file", GOOD, { sha256: "0".repeat(64) }, /another file of this name/],
    ["another name", GOOD, { filename: "sigstore-3.6.2.tar.gz" }, /speaks of "sigstore-3\.6\.1\.tar\.gz"/],
    [
      "another repository than the index names",
      changed((_, bundle) => {
        bundle.publisher = { ...bundle.publisher, repository: "evil/sigstore-python" };
      }),
      {},
      /not by the publisher that the index names/,
    ],
    [
      "another workflow",
      changed((_, bundle) => {
        bundle.publisher = { ...bundle.publisher, workflow: "evil.yml" };
      }),
      {},
      /not by the publisher/,
    ],
    [
      "a workflow whose name begins alike",
      changed((_, bundle) => {
        bundle.publisher = { ...bundle.publisher, workflow: "release" };
      }),
      {},
      /not by the publisher/,
    ],
    [
      "an unknown kind of publisher",
      changed((_, bundle) => {
        bundle.publisher = { ...bundle.publisher, kind: "Evil" };
      }),
      {},
      /not by the publisher/,
    ],
    ["no attestation", '{"version":1,"attestation_bundles":[]}', {}, /has no attestations/],
    ["no document", "<html>", {}, /another form/],
    ["another version of the form", GOOD.replaceAll('"version":1', '"version":2'), {}, /another form/],
  ];
  test.each(cases)("%s", async (_, answer, over, why) => {
    const filename = over.filename ?? FILE.filename;
    const provenance = new URL(ADDRESS);
    const { evidence, downgrade } = await provenanceOf(answer, { provenance, ...over });
    expect(evidence).toEqual([
      {
        kind: "pypi-attestation",
        subject: "sigstore==3.6.1",
        verified: false,
        key: null,
        detail: expect.stringMatching(why),
      },
    ]);
    expect(downgrade).toBe("its attestations can't be verified");
    expect(filename).not.toBe("");
  });

  test("the index names an address and gives nothing there", async () => {
    await expect(provenanceOf(null, { provenance: new URL(ADDRESS) })).rejects.toThrow(
      "doesn't give the attestations",
    );
  });
});

test("verified: who built it is told", async () => {
  for (const provenance of [undefined, new URL(ADDRESS)]) {
    expect(await provenanceOf(GOOD, { provenance })).toEqual({
      evidence: [
        {
          kind: "pypi-attestation",
          subject: "sigstore==3.6.1",
          verified: true,
          key: "https://github.com/sigstore/sigstore-python/.github/workflows/release.yml@refs/tags/v3.6.1",
          detail: expect.stringContaining(
            "published from https://github.com/sigstore/sigstore-python at refs/tags/v3.6.1 (896cfe1",
          ),
        },
      ],
      downgrade: null,
    });
  }
});

test.each([
  ["earlier ones had none either", [older(null)], null],
  ["nothing is known of earlier ones", [older(undefined)], null],
  [
    "an earlier one came with them",
    [older(new URL(ADDRESS))],
    "3.6.0 came with attestations, and this version without",
  ],
])("none: %s", async (_, before, downgrade) => {
  expect(await provenanceOf(null, { provenance: null }, before)).toEqual({ evidence: [], downgrade });
});

test("in a plan, a package that came with attestations before is marked", async () => {
  const lib = (version: string, provenance: string | null): FakeWheel => ({
    name: "lib",
    version,
    entry: { provenance },
  });
  const plan = await makePlan(
    pip,
    "install",
    ["lib==2.0"],
    pipPlanning(fakeIndex([lib("1.0", `${INDEX}lib-1.0.provenance`), lib("2.0", null)])),
  );
  expect(plan.transaction[0]?.trust_downgrade).toBe("1.0 came with attestations, and this version without");
  expect(plan.risk_signals).toContain("trust-downgrade");
});
