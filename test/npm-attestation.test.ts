import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { npm } from "../src/npm.ts";
import { makePlan } from "../src/plan.ts";
import { type FakePackage, fakeNpm, npmPlanning, REGISTRY } from "./npm-kit.ts";

/*
 * Recorded attestations of the public registry, served by a registry of our own.
 */

const attested = (file: string) => readFileSync(join(import.meta.dir, "fixtures/npm/attested", file));
const V1 = attested("gundam-visor-cli-v1-tag.tgz");
const V02 = attested("supreme-googles-cli-v02-tag.tgz");
const VISOR: FakePackage = {
  ...{
    name: "gundam-visor",
    version: "1.0.1",
    tarball: V1,
    dist: { attestations: { url: "https://evil.example/" } },
  },
};
const PATH = `${REGISTRY}-/npm/v1/attestations/gundam-visor@1.0.1`;

async function planOf(answer: string | Uint8Array | null, packages: FakePackage[] = [VISOR]) {
  const answers = { ...fakeNpm(packages), ...(answer === null ? {} : { [PATH]: answer }) };
  const planning = npmPlanning(answers);
  const { name, version } = packages.at(-1) ?? VISOR;
  return { planning, plan: await makePlan(npm, "install", [`${name}@${version}`], planning) };
}
const attestations = ({ plan }: Awaited<ReturnType<typeof planOf>>) =>
  plan.provenance_evidence.filter(({ kind }) => kind !== "npm-integrity");

const GOOD = attested("gundam-visor-cli-v1-tag.tgz.json").toString();
/** The document with one of its attestations (0: publish, 1: provenance) changed. */
function changed(which: 0 | 1, change: (bundle: Bundle) => void): string {
  const document: { attestations: { bundle: Bundle }[] } = JSON.parse(GOOD);
  const bundle = document.attestations[which]?.bundle;
  if (bundle !== undefined) change(bundle);
  return JSON.stringify(document);
}
interface Bundle {
  dsseEnvelope: { payload: string; signatures: { sig: string }[] };
  verificationMaterial: {
    publicKey?: { hint: string };
    tlogEntries: {
      integratedTime: string;
      logIndex: string;
      inclusionPromise: { signedEntryTimestamp: string };
    }[];
    x509CertificateChain?: { certificates: { rawBytes: string }[] };
  };
}
/** Base64 with one bit of its middle flipped. */
function flipped(base64: string): string {
  const bytes = Buffer.from(base64, "base64");
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  return bytes.toString("base64");
}

describe("not verified, and denied as a downgrade of trust", () => {
  const CASES: [string, string | null, RegExp][] = [
    ["the registry has none", null, /the registry has none/],
    ["nonsense", '{"attestations":1}', /the registry has none/],
    ["an empty bundle", '{"attestations":[{"predicateType":"x","bundle":{}}]}', /can't be verified/],
    [
      "a changed provenance",
      attested("gundam-visor-cli-v1-tag-invalidsigprov.tgz.json").toString(),
      /hash mismatch/,
    ],
    [
      "a changed publication",
      attested("gundam-visor-cli-v1-tag-invalidsigpub.tgz.json").toString(),
      /hash mismatch/,
    ],
    [
      "the payload with one bit flipped",
      changed(1, (b) => {
        b.dsseEnvelope.payload = flipped(b.dsseEnvelope.payload);
      }),
      /can't be verified/,
    ],
    [
      "the signature with one bit flipped",
      changed(1, (b) => {
        for (const one of b.dsseEnvelope.signatures) one.sig = flipped(one.sig);
      }),
      /can't be verified/,
    ],
    [
      "the certificate with one bit flipped",
      changed(1, (b) => {
        for (const one of b.verificationMaterial.x509CertificateChain?.certificates ?? [])
          one.rawBytes = flipped(one.rawBytes);
      }),
      /can't be verified/,
    ],
    [
      "the log's promise with one bit flipped",
      changed(1, (b) => {
        for (const { inclusionPromise } of b.verificationMaterial.tlogEntries)
          inclusionPromise.signedEntryTimestamp = flipped(inclusionPromise.signedEntryTimestamp);
      }),
      /can't be verified/,
    ],
    [
      "another time of entry",
      changed(1, (b) => {
        for (const entry of b.verificationMaterial.tlogEntries) entry.integratedTime = "1700000000";
      }),
      /can't be verified/,
    ],
    [
      "no entry in the log",
      changed(1, (b) => {
        b.verificationMaterial.tlogEntries = [];
      }),
      /can't be verified/,
    ],
    [
      "a publication signed with an unknown key",
      changed(0, (b) => {
        b.verificationMaterial.publicKey = { hint: "SHA256:other" };
      }),
      /its key is not known/,
    ],
    [
      "that of another package",
      attested("supreme-googles-cli-v02-tag.tgz.json").toString(),
      /it speaks of pkg:npm/,
    ],
  ];
  test.each(CASES)("%s", async (_, answer, why) => {
    const found = await planOf(answer);
    expect(found.plan.metadata_available).toBe(true);
    const bad = attestations(found).filter(({ verified }) => !verified);
    expect(bad.map(({ detail }) => detail).join()).toMatch(why);
    expect(found.plan.transaction[0]?.trust_downgrade).toMatch(why);
    expect(found.plan.risk_signals).toContain("trust-downgrade");
  });

  test("a good attestation of another file", async () => {
    const files = { "package.json": '{"name":"gundam-visor","version":"1.0.1"}' };
    const { tarball: _, ...other } = VISOR;
    const found = await planOf(GOOD, [{ ...other, files }]);
    expect(attestations(found).map(({ verified }) => verified)).toEqual([false, false]);
    expect(found.plan.transaction[0]?.trust_downgrade).toContain("it speaks of another file");
  });
});

describe("verified", () => {
  test("SLSA v1: source, workflow and builder are shown; the address in the metadata is not asked", async () => {
    const found = await planOf(GOOD);
    expect(attestations(found)).toMatchObject([
      {
        kind: "npm-publish-attested",
        verified: true,
        key: "SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA",
      },
      {
        kind: "npm-attestation",
        subject: "gundam-visor@1.0.1",
        verified: true,
        key: "https://github.com/ramonpetgrave64/gundam-visor/.github/workflows/npm-publish.yml@refs/tags/v1.0.1",
      },
    ]);
    const detail = attestations(found)[1]?.detail ?? "";
    expect(detail).toContain(
      "built from https://github.com/ramonpetgrave64/gundam-visor at refs/tags/v1.0.1 (5995",
    );
    expect(detail).toContain(
      "by .github/workflows/npm-publish.yml on https://github.com/actions/runner/github-hosted",
    );
    expect(detail).toContain("known to https://token.actions.githubusercontent.com");
    expect(found.plan.transaction[0]?.trust_downgrade).toBeUndefined();
    expect(found.planning.requests.every(({ url }) => url.startsWith(REGISTRY))).toBe(true);
  });

  test("SLSA v0.2, in a scope", async () => {
    const goggles: FakePackage = {
      ...{
        name: "@trishankatdatadog/supreme-goggles",
        version: "1.0.5",
        tarball: V02,
        dist: { attestations: {} },
      },
    };
    const path = `${REGISTRY}-/npm/v1/attestations/@trishankatdatadog%2fsupreme-goggles@1.0.5`;
    const answers = { ...fakeNpm([goggles]), [path]: attested("supreme-googles-cli-v02-tag.tgz.json") };
    const plan = await makePlan(npm, "install", [`${goggles.name}@1.0.5`], npmPlanning(answers));
    const [, , provenance] = plan.provenance_evidence;
    expect(provenance).toMatchObject({ kind: "npm-attestation", verified: true });
    expect(provenance?.detail).toContain(
      "built from https://github.com/trishankatdatadog/supreme-goggles at",
    );
  });
});
