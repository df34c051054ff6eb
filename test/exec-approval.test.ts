import { describe, expect, test } from "bun:test";
import { canonicalHash } from "../src/canonical.ts";
import { type Approval, parseDocument } from "../src/doc.ts";
import { approvalHash, verifyApprovals } from "../src/exec-approval.ts";
import { loadTrust, type Trust } from "../src/key-trust.ts";
import { bareKeys } from "../src/key-trusted-keys.ts";
import { install, upgrade } from "./policy-plans.ts";
import {
  ALICE,
  approvalOf,
  BOB,
  minutesFrom,
  NOW,
  NOWHERE,
  refuses,
  SIGNER,
  STRANGER,
  sshApprovalOf,
  TRUST,
} from "./signing-kit.ts";
import { sshPublicKey } from "./ssh-token.ts";

const PLAN = install();
/** The plan's own, as a verifier computes it. */
const SUBSTANCE = "5".repeat(64);
const good = approvalOf(PLAN);
const bob = approvalOf(PLAN, { key: BOB, signer: "bob" });
/** Of an earlier plan with the same substance. */
const SAME = approvalOf(upgrade(), { substance: SUBSTANCE });
const verify = (approvals: Approval[], trust: Trust = TRUST, now = NOW) =>
  verifyApprovals(
    approvals,
    { planHash: canonicalHash(PLAN), substance: () => SUBSTANCE },
    trust,
    SIGNER.publicKeyHex,
    now,
  );

const REVOKED = TRUST.map((key) => ({ ...key, revoked: key.publicKeyHex === ALICE.publicKeyHex }));
const NAMED = TRUST.map((key) => ({
  ...key,
  name: key.publicKeyHex === ALICE.publicKeyHex ? "carol" : null,
}));
/** The signer's key under a second id, as trusted-keys.toml may give it. */
const ALIASED = TRUST.map((key) =>
  key.publicKeyHex === SIGNER.publicKeyHex ? { ...key, ids: [...key.ids, "ops-1"] } : key,
);

const REFUSED: [what: string, action: () => unknown, says: string][] = [
  ["of another plan", () => verify([approvalOf(upgrade())]), "another plan"],
  [
    "of a plan of another substance",
    () => verify([approvalOf(upgrade(), { substance: "6".repeat(64) })]),
    "another plan",
  ],
  [
    "of this substance, which was not signed",
    () => verify([{ ...approvalOf(upgrade()), substance_hash: SUBSTANCE }]),
    "signature is not valid",
  ],
  [
    "of this substance, with a later end than signed",
    () => verify([{ ...SAME, expires_at: "2036-01-01T00:00:00Z" }]),
    "signature is not valid",
  ],
  ["of this substance, expired", () => verify([SAME], TRUST, minutesFrom(NOW, 60)), "expired at"],
  [
    "of this substance, by the execution key",
    () => verify([approvalOf(upgrade(), { key: SIGNER, substance: SUBSTANCE })]),
    "with the key of the execution plan",
  ],
  [
    "of this plan and of its substance, by one person",
    () => verify([good, SAME]),
    "its key has already approved",
  ],
  ["expired", () => verify([good], TRUST, minutesFrom(NOW, 60)), "expired at"],
  ["of the future", () => verify([good], TRUST, minutesFrom(NOW, -1)), "not valid before"],
  [
    "by the execution key",
    () => verify([approvalOf(PLAN, { key: SIGNER })]),
    "with the key of the execution plan",
  ],
  [
    "by the execution key under another id",
    () => verify([approvalOf(PLAN, { key: { ...SIGNER, keyId: "ops-1" } })], ALIASED),
    "with the key of the execution plan",
  ],
  ["the same one twice", () => verify([good, good]), "its key has already approved"],
  [
    "twice by one key",
    () => verify([good, approvalOf(PLAN, { signer: "alice2" })]),
    "its key has already approved",
  ],
  [
    "twice by one person",
    () => verify([good, approvalOf(PLAN, { key: BOB })]),
    "this person has already approved",
  ],
  ["by an unknown key", () => verify([approvalOf(PLAN, { key: STRANGER })]), "unknown here"],
  ["by a revoked key", () => verify([good], REVOKED), "revoked"],
  ["under another's name", () => verify([good], NAMED), "carol's"],
  [
    "with another reason than signed",
    () => verify([{ ...good, reason: "urgent" }]),
    "signature is not valid",
  ],
  [
    "with a later end than signed",
    () => verify([{ ...good, expires_at: "2036-01-01T00:00:00Z" }]),
    "is not valid",
  ],
  ["with bob's signature", () => verify([{ ...good, signature: bob.signature }]), "is not valid"],
  ["one bad among good ones", () => verify([bob, { ...good, reason: "x" }]), "is not valid"],
];

describe("refused approvals", () => {
  for (const [what, action, says] of REFUSED) test(what, () => refuses(action, "approval_invalid", says));
  test("a lifetime longer than a day", async () => {
    const { signDocument } = await import("../src/key-sign.ts");
    const { signature: _, ...rest } = { ...good, expires_at: minutesFrom(NOW, 24 * 60 + 1).toISOString() };
    await refuses(
      () => verify([signDocument(rest, ALICE.seed, ALICE.keyId)]),
      "approval_invalid",
      "24 hours",
    );
  });
});

/** Alice's key is in a security key, Bob's in a file; `required`: hers must check a PIN. */
const sshTrust = (required = false): Trust =>
  bareKeys({
    execution: [SIGNER.publicKeyHex],
    approval: [sshPublicKey(ALICE.seed), sshPublicKey(BOB.seed, { application: null })],
  }).map((key) => ({
    ...key,
    given: false,
    ssh: key.ssh === null ? null : { ...key.ssh, verifyRequired: required && key.ssh.application !== null },
  }));
const token = (change: Parameters<typeof sshApprovalOf>[2] = {}, trust = sshTrust()) =>
  verify([sshApprovalOf(PLAN, {}, change)], trust);
const sshGood = sshApprovalOf(PLAN);
const sshBob = sshApprovalOf(PLAN, { key: BOB, signer: "bob" }, { application: null });

const REFUSED_SSH: [what: string, action: () => unknown, says: string][] = [
  ["not touched", () => token({ flags: 0 }), "nobody touched the security key"],
  ["without the PIN its entry requires", () => token({}, sshTrust(true)), "neither a PIN nor"],
  ["with an unknown flag", () => token({ flags: 0x11 }), "flags are 0x11"],
  ["for another namespace", () => token({ namespace: "file" }), 'was made for "file"'],
  ["with a reserved field", () => token({ reserved: "x" }), "reserved field"],
  ["by a key of another application", () => token({ application: "ssh:x" }), "unknown here"],
  ["by the same key in a file", () => token({ application: null }), "unknown here"],
  [
    "by the key's own Ed25519 signature",
    () =>
      verify([{ ...good, signature: { ...good.signature, key_id: sshGood.signature.key_id } }], sshTrust()),
    "but its key is an SSH key",
  ],
  [
    "by an SSH signature of a key that is not trusted as one",
    () => verify([{ ...sshGood, signature: { ...sshGood.signature, key_id: ALICE.keyId } }]),
    "not trusted as an SSH key",
  ],
  [
    "in another spelling of base64",
    () =>
      verify(
        [{ ...sshGood, signature: { ...sshGood.signature, signature: `${sshGood.signature.signature}=` } }],
        sshTrust(),
      ),
    "canonical base64",
  ],
  [
    "with another reason than signed",
    () => verify([{ ...sshGood, reason: "urgent" }], sshTrust()),
    "is not valid",
  ],
  ["of another plan", () => verify([sshApprovalOf(upgrade())], sshTrust()), "another plan"],
  [
    "with bob's signature",
    () => verify([{ ...sshGood, signature: sshBob.signature }], sshTrust()),
    "is not valid",
  ],
  [
    "with bob's signature under alice's id",
    () =>
      verify(
        [{ ...sshGood, signature: { ...sshBob.signature, key_id: sshGood.signature.key_id } }],
        sshTrust(),
      ),
    "made by another key",
  ],
  [
    "by the execution key made into an SSH key",
    () => verify([sshApprovalOf(PLAN, { key: SIGNER }, { application: null })], sshTrust()),
    "with the key of the execution plan",
  ],
  [
    "by the execution key in a security key",
    () => verify([sshApprovalOf(PLAN, { key: SIGNER })], sshTrust()),
    "with the key of the execution plan",
  ],
  [
    "twice by one security key, with two counters",
    () => verify([sshGood, sshApprovalOf(PLAN, { signer: "alice2" }, { counter: 9 })], sshTrust()),
    "its key has already approved",
  ],
];

describe("refused approvals by SSH keys", () => {
  for (const [what, action, says] of REFUSED_SSH) test(what, () => refuses(action, "approval_invalid", says));
});

describe("accepted approvals", () => {
  test("by a security key and by an SSH key in a file", () => {
    const fingerprint = expect.stringMatching(/^SHA256:[A-Za-z0-9+/]{43}$/);
    expect(verify([sshGood, sshBob], sshTrust())).toEqual([
      { signer: "alice", key: fingerprint, publicKeyHex: ALICE.publicKeyHex, hash: approvalHash(sshGood) },
      { signer: "bob", key: fingerprint, publicKeyHex: BOB.publicKeyHex, hash: approvalHash(sshBob) },
    ]);
    expect(parseDocument("approval", sshGood)).toEqual(sshGood);
  });
  test("by a security key that checked the PIN its entry requires", () => {
    expect(token({ flags: 0x05 }, sshTrust(true))).toHaveLength(1);
  });
  test("another signature of the same approval is the same approval: it is used once", () => {
    expect(approvalHash({ ...sshGood, signature: sshBob.signature })).toBe(approvalHash(sshGood));
  });
  test("by two people", () => {
    expect(verify([good, bob])).toEqual([
      { signer: "alice", key: ALICE.keyId, publicKeyHex: ALICE.publicKeyHex, hash: approvalHash(good) },
      { signer: "bob", key: BOB.keyId, publicKeyHex: BOB.publicKeyHex, hash: approvalHash(bob) },
    ]);
  });
  test("of an earlier plan with the same substance, and of this plan whatever its substance", () => {
    const odd = approvalOf(PLAN, { key: BOB, signer: "bob", substance: "6".repeat(64) });
    expect(verify([SAME, odd]).map(({ signer }) => signer)).toEqual(["alice", "bob"]);
  });
  test("no approvals", () => expect(verify([])).toEqual([]));
  test("a new approval is valid by its schema, and lasts a day at most", () => {
    const long = approvalOf(PLAN, { minutes: 100_000 });
    expect(parseDocument("approval", long)).toEqual(long);
    expect(long.expires_at).toBe(minutesFrom(NOW, 24 * 60).toISOString());
  });
  test("an approval under another of its key's ids is the same approval", () => {
    const trust = loadTrust({
      rootOnly: false,
      bare: { execution: [], approval: [ALICE.publicKeyHex] },
      files: NOWHERE,
    }).map((key) => ({ ...key, ids: [...key.ids, "alice-1"] }));
    const renamed = { ...good, signature: { ...good.signature, key_id: "alice-1" } };
    const [first] = verify([good], trust);
    expect(verify([renamed], trust)).toEqual(first === undefined ? [] : [first]);
  });
});
