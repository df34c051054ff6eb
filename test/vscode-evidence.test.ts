import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { makePlan } from "../src/plan.ts";
import { vscode } from "../src/vscode.ts";
import type { RegistryAnswer } from "./registry-kit.ts";
import {
  API,
  type FakeExtension,
  fakeGallery,
  hexOf,
  SIGNER,
  sha256,
  sigzip,
  sigzipOf,
  vscodePlanning,
  vsixOf,
} from "./vscode-kit.ts";

/*
 * What vouches for an extension's file, each with a byte changed, with another key, and left out.
 */

const ONE: FakeExtension = { id: "acme.one", version: "1.0.0", files: { "main.js": "1" } };
const FILE = `${API}/acme/one/1.0.0/file/acme.one-1.0.0`;
const KEY = `${API}/-/public-key/14ccb407-4e79-41ed-be5a-6d608325c45a`;
const VSIX = vsixOf(ONE);

const planOf = (over: Record<string, RegistryAnswer> = {}, one: FakeExtension = ONE) =>
  makePlan(vscode, "install", ["acme.one@1.0.0"], vscodePlanning({ ...fakeGallery([one]), ...over }));

/** The last byte of a file changed. */
function flipped(bytes: Buffer, at = bytes.length - 1): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}

/** Evidence of one kind, and what the plan loses with it. */
async function signatureOf(over: Record<string, RegistryAnswer>, one: FakeExtension = ONE) {
  const plan = await planOf(over, one);
  const found = plan.provenance_evidence.find(({ kind }) => kind === "vscode-signature");
  return { found, downgrade: plan.transaction[0]?.trust_downgrade, plan };
}

describe("the SHA-256 that the gallery states", () => {
  test("holds", async () => {
    const plan = await planOf();
    expect(plan.provenance_evidence).toContainEqual({
      ...{ kind: "vscode-sha256", subject: "acme.one@1.0.0", verified: true, key: null },
      detail: `the file has the SHA-256 that the gallery states: ${sha256(VSIX)}`,
    });
  });
  test.each([
    ["a byte of the file is another", { [`${FILE}.vsix`]: flipped(VSIX, 40) }, "doesn't match its metadata"],
    ["another hash", { [`${FILE}.sha256`]: "0".repeat(64) }, "doesn't match its metadata"],
    ["no hash in the document", { [`${FILE}.sha256`]: "<html>" }, "its document has no SHA-256"],
    ["the document is missing", { [`${FILE}.sha256`]: { status: 404 } }, "status 404"],
  ])("%s: nothing is planned", async (_case, over, why) => {
    const plan = await planOf(over);
    expect(plan.warnings.join()).toContain(why);
    expect(plan).toMatchObject({ metadata_available: false, transaction: [], exact_targets: [] });
  });
  test("where the gallery states none, the signature archive's counts as a checksum", async () => {
    const plan = await planOf({}, { ...ONE, links: { sha256: null } });
    const [hash] = plan.provenance_evidence;
    expect(hash).toMatchObject({ kind: "vscode-sha256", verified: true });
    expect(hash?.detail).toContain("in its signature archive");
  });
  test("where neither states one, nothing is verified", async () => {
    const plan = await planOf({}, { ...ONE, links: { sha256: null, signature: null } });
    expect(plan.provenance_evidence.map(({ verified, detail }) => [verified, detail])).toEqual([
      [false, "the gallery states no hash of the file"],
    ]);
    expect(plan.signature_or_checksum_status).toBe("unknown");
  });
});

describe("the gallery's signature", () => {
  test("holds, by the key that the evidence names", async () => {
    const { found, downgrade, plan } = await signatureOf({});
    expect(found).toMatchObject({ verified: true, key: hexOf(SIGNER.publicKey), subject: "acme.one@1.0.0" });
    expect([downgrade, plan.signature_or_checksum_status]).toEqual([undefined, "signature-verified"]);
  });
  const other = generateKeyPairSync("ed25519");
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const pem = (key: typeof other.publicKey) => key.export({ type: "spki", format: "pem" }).toString();
  const archive = (files: Record<string, Buffer>) => ({ [`${FILE}.sigzip`]: sigzip(files) });
  const CASES: [string, Record<string, RegistryAnswer>, string, FakeExtension?][] = [
    [
      "another key signed",
      { [`${FILE}.sigzip`]: sigzipOf(VSIX, other.privateKey) },
      "not signed with the gallery's key",
    ],
    ["the gallery gives another key", { [KEY]: pem(other.publicKey) }, "not signed with the gallery's key"],
    ["a key of another kind", { [KEY]: pem(rsa.publicKey) }, "no Ed25519 key"],
    ["no key", { [KEY]: "<html>" }, "no Ed25519 key"],
    ["the key isn't named", {}, "names no key", { ...ONE, links: { publicKey: null } }],
    [
      "a byte of the signature is another",
      archive({ ".signature.sig": flipped(Buffer.alloc(64)) }),
      "not signed with",
    ],
    ["a short signature", archive({ ".signature.sig": Buffer.alloc(63) }), "not signed with"],
    ["the archive is none", { [`${FILE}.sigzip`]: "PK" }, "its archive can't be read"],
    ["an empty archive", archive({ ".signature.p7s": Buffer.alloc(0) }), "holds no signature"],
    [
      "a manifest that is none",
      archive({ ".signature.manifest": Buffer.from("{}") }),
      "its archive can't be read",
    ],
  ];
  test.each(CASES)(
    "%s: it doesn't count, and the extension is worth less",
    async (_case, over, why, one = ONE) => {
      const { found, downgrade } = await signatureOf(over, one);
      expect(found?.verified).toBe(false);
      expect(found?.detail).toContain(why);
      expect(downgrade).toContain(why);
    },
  );
  test("of another file: nothing is planned", async () => {
    const plan = await planOf({ [`${FILE}.sigzip`]: sigzipOf(flipped(VSIX)) });
    expect(plan.warnings.join()).toContain("is not the one that its signature archive names");
    expect(plan.metadata_available).toBe(false);
  });
  test("left out: there is no evidence of one", async () => {
    expect((await signatureOf({}, { ...ONE, links: { signature: null } })).found).toBeUndefined();
  });
});
