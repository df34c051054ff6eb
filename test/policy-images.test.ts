import { describe, expect, test } from "bun:test";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { image } from "../src/image.ts";
import { imageKeyProblem, isSignedByKey } from "../src/key-image.ts";
import { makePlan } from "../src/plan.ts";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig, policyConfigHash } from "../src/policy-config.ts";
import { BASE, digestOf, fakeImage, imageAnswers, imagePlanning, NAME, TYPES } from "./image-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

/*
 * From a registry to a decision: images of our own and cosign's signatures as it makes them, by keys of our own and by real ones.
 */

const fixture = (name: string) => readFileSync(join(import.meta.dir, "fixtures/image/cosign", name), "utf8");

describe("keys", () => {
  const [, json = "{}"] = fixture("valid.signature-1").split("\n");
  const { payload, annotations } = JSON.parse(json);
  const bytes = Buffer.from(payload, "base64");
  const signature: string = annotations["dev.cosignproject.cosign/signature"];
  const flip = (base64: string) => {
    const data = Buffer.from(base64, "base64");
    data[data.length - 1] = (data.at(-1) ?? 0) ^ 1;
    return data.toString("base64");
  };

  test("cosign's own signature by cosign's own key", () =>
    expect(isSignedByKey(fixture("cosign.pub"), bytes, signature)).toBe(true));
  test.each([
    ["another key", fixture("cosign2.pub"), bytes, signature],
    [
      "another payload",
      fixture("cosign.pub"),
      Buffer.from(bytes.toString().replace("null", "1234")),
      signature,
    ],
    ["another signature", fixture("cosign.pub"), bytes, flip(signature)],
    ["no signature", fixture("cosign.pub"), bytes, ""],
    ["no key", "x", bytes, signature],
  ])("%s", (_, key, payloadBytes, base64) => expect(isSignedByKey(key, payloadBytes, base64)).toBe(false));

  const pem = (key: KeyObject) => String(key.export({ type: "spki", format: "pem" }));
  test.each([
    ["P-256", pem(generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey), null],
    ["Ed25519", pem(generateKeyPairSync("ed25519").publicKey), null],
    ["P-384", pem(generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey), "only ECDSA over P-256"],
    ["RSA", pem(generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey), "only ECDSA over P-256"],
    [
      "a secret key",
      String(generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" })),
      "give it in PEM",
    ],
    ["nothing", "", "give it in PEM"],
    ["a broken one", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "give it in PEM"],
  ])("%s", (_, text, problem) =>
    problem === null
      ? expect(imageKeyProblem(text)).toBeNull()
      : expect(imageKeyProblem(text)).toContain(problem),
  );
});

describe("from a registry to a decision", () => {
  const IMAGE = fakeImage({ config: { User: "app" } });
  const PINNED = `${NAME}@${IMAGE.digest}`;
  const ALLOWED = '[container]\nallowed_registries = ["registry.example"]\n';
  const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });

  /** The image with a signature by cosign's older form under its tag. */
  function planned(name = NAME, digest = IMAGE.digest): Promise<OperationPlan> {
    const payload = JSON.stringify({
      critical: {
        identity: { "docker-reference": name },
        image: { "docker-manifest-digest": digest },
        type: "cosign container image signature",
      },
      optional: null,
    });
    const signature = sign("sha256", Buffer.from(payload), keys.privateKey).toString("base64");
    const manifest = JSON.stringify({
      ...{ schemaVersion: 2, mediaType: TYPES.manifest },
      config: { mediaType: TYPES.config, digest: digestOf("{}"), size: 2 },
      layers: [
        {
          ...{ mediaType: "application/vnd.dev.cosign.simplesigning.v1+json", digest: digestOf(payload) },
          ...{ size: payload.length, annotations: { "dev.cosignproject.cosign/signature": signature } },
        },
      ],
    });
    const answers: Record<string, RegistryAnswer> = {
      ...imageAnswers([IMAGE]),
      [`${BASE}/manifests/${IMAGE.digest.replace(":", "-")}.sig`]: manifest,
      [`${BASE}/blobs/${digestOf(payload)}`]: payload,
    };
    return makePlan(image, "pull", [PINNED], imagePlanning(answers));
  }

  function decide(plan: OperationPlan, toml: string) {
    const config = parsePolicyConfig(toml, "test");
    return evaluate({ plan, planHash: canonicalHash(plan), config, configHash: policyConfigHash(config) });
  }

  const REQUIRED = `${ALLOWED}require_signature = true\n`;
  const signer = (key = keys.publicKey) =>
    `[[container.signers]]\nimages = ["registry.example/team/*"]\npublic_key = """${key.export({ type: "spki", format: "pem" })}"""\n`;

  test("the signer's key: allowed", async () => {
    const plan = await planned();
    expect(plan.risk_signals).not.toContain("unsigned-image");
    expect(decide(plan, REQUIRED + signer())).toMatchObject({
      decision: "allow",
      rules: ["container-apply"],
    });
  });
  test("another key: denied, and said what was found", async () => {
    const other = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey;
    const { decision, reasons } = decide(await planned(), REQUIRED + signer(other));
    expect(decision).toBe("deny");
    expect(reasons.join("\n")).toContain(
      "no signature of the image is by one of [container] signers; ask its publisher",
    );
    expect(reasons.join("\n")).toContain(
      "have the signer added there: signed by a key that is not among them",
    );
  });
  test.each([
    ["a signature of another image", NAME, `sha256:${"0".repeat(64)}`],
    ["a signature for another repository", "registry.example/team/other", IMAGE.digest],
  ])("%s: denied", async (_, name, digest) => {
    const plan = await planned(name, digest);
    expect(plan.risk_signals).toContain("unsigned-image");
    const { decision, reasons } = decide(plan, REQUIRED + signer());
    expect(decision).toBe("deny");
    expect(reasons.join("\n")).toContain("added there: no signature was found");
  });
  test("no signature where none is asked for: allowed", async () => {
    const plan = await makePlan(image, "pull", [PINNED], imagePlanning(imageAnswers([IMAGE])));
    expect(decide(plan, ALLOWED).decision).toBe("allow");
    expect(decide(plan, REQUIRED).reasons.join("\n")).toContain("added there: no signature was found");
  });
  test("by the built-in policy, a registry that isn't Docker Hub: denied, with what to do", async () => {
    const { decision, reasons } = decide(await planned(), "");
    expect(decision).toBe("deny");
    expect(reasons.join("\n")).toContain(
      "not in allowed_registries, where the policy's owner can add it: registry.example",
    );
  });
  test("by tag: denied until the digest is named", async () => {
    const answers = imageAnswers([IMAGE], { latest: IMAGE });
    const plan = await makePlan(image, "pull", [NAME], imagePlanning(answers));
    expect(decide(plan, ALLOWED).rules).toContain("artifact-mutable");
  });
  test("a plan whose evidence of one file was taken out: denied", async () => {
    const plan = await planned();
    const provenance_evidence = plan.provenance_evidence.filter((_, at) => at !== 1);
    expect(decide({ ...plan, provenance_evidence }, ALLOWED).rules).toContain("artifact-unverified");
  });
  test("an image that is a statement's only: denied for want of provenance", async () => {
    const { decision, rules } = decide(await planned(), `${ALLOWED}require_provenance = true\n${signer()}`);
    expect({ decision, isAsked: rules.includes("image-provenance") }).toEqual({
      decision: "deny",
      isAsked: true,
    });
  });
});
