import { describe, expect, test } from "bun:test";
import { makePlan } from "../src/plan.ts";
import { vscode } from "../src/vscode.ts";
import type { RegistryAnswer } from "./registry-kit.ts";
import { sigzip, sigzipOf, vscodePlanning, vsixOf } from "./vscode-kit.ts";

/*
 * A gallery that only speaks Microsoft's protocol: what it tells by GET.
 */

const SERVICE = "https://marketplace.example/_apis/public/gallery";
const LATEST = `${SERVICE}/vscode/acme/one/latest`;
const ASSETS = "https://acme.cdn.example/1.0.0/";
const VSIX = vsixOf({ id: "acme.one", version: "1.0.0" });
const TYPE = "Microsoft.VisualStudio.Services.";

const version = (over: Record<string, unknown> = {}) => ({
  version: "1.0.0",
  lastUpdated: "2026-01-02T03:04:05.678Z",
  files: [
    { assetType: `${TYPE}VSIXPackage`, source: `${ASSETS}vsix` },
    { assetType: `${TYPE}VsixSignature`, source: `${ASSETS}sig` },
  ],
  ...over,
});
const document = (versions: unknown[], over: Record<string, unknown> = {}) =>
  JSON.stringify({
    ...{
      extensionName: "One",
      publisher: { publisherName: "Acme", displayName: "Acme Inc.", isDomainVerified: true },
    },
    ...{ versions, ...over },
  });
/** Microsoft's archive: its manifest's hash is right, its CMS isn't looked at. */
const SIGNED = sigzip({ ".signature.p7s": Buffer.from("cms") });

const planOf = (
  latest: RegistryAnswer,
  target = "acme.one@1.0.0",
  over: Record<string, RegistryAnswer> = {},
) =>
  makePlan(
    vscode,
    "install",
    [target],
    vscodePlanning(
      { [LATEST]: latest, [`${ASSETS}vsix`]: VSIX, [`${ASSETS}sig`]: SIGNED, ...over },
      { env: { AEGIS_VSCODE_GALLERY: SERVICE } },
    ),
  );

describe("refused", () => {
  const CASES: [string, RegistryAnswer, RegExp][] = [
    [
      "an older version, which only POST would tell of",
      document([version({ version: "1.1.0" })]),
      /newest versions alone \(1\.1\.0\)/,
    ],
    ["another extension", document([version()], { extensionName: "Two" }), /about another extension/],
    ["no package file", document([version({ files: [] })]), /names no package file/],
    ["no JSON", "<html>", /no JSON/],
    ["no extension", "{}", /describes no extension/],
    ["an error", { status: 500 }, /status 500/],
  ];
  test.each(CASES)("%s", async (_case, latest, why) => {
    const plan = await planOf(latest);
    expect(plan.warnings.join()).toMatch(why);
    expect(plan.metadata_available).toBe(false);
  });
  test("what isn't there, or for another platform only", async () => {
    await expect(planOf({ status: 404 })).rejects.toThrow("has no acme.one 1.0.0");
    await expect(planOf(document([version({ targetPlatform: "win32-x64" })]))).rejects.toThrow(
      "has no acme.one",
    );
  });
});

test("the newest is planned; that its signature is not verified is told, and nothing counts as verified", async () => {
  const plan = await planOf(document([version()]));
  expect(plan).toMatchObject({
    ...{ exact_targets: ["acme.one@1.0.0"], published_at: "2026-01-02T03:04:05.678Z" },
    ...{
      publisher_or_maintainer: "Acme Inc.",
      source_registry: SERVICE,
      signature_or_checksum_status: "unknown",
    },
  });
  expect(plan.transaction).toMatchObject([
    { url: `${ASSETS}vsix`, purl: "pkg:vscode-extension/acme/one@1.0.0" },
  ]);
  expect(plan.provenance_evidence.some(({ verified }) => verified)).toBe(false);
  expect(plan.transaction[0]?.trust_downgrade).toContain("its signature is not valid");
});

test("the hash in a signature archive counts as a checksum; without a key its signature doesn't count", async () => {
  const plan = await planOf(document([version()]), undefined, { [`${ASSETS}sig`]: sigzipOf(VSIX) });
  expect(plan.provenance_evidence.map(({ kind, verified }) => [kind, verified])).toEqual([
    ["vscode-sha256", true],
    ["vscode-signature", false],
  ]);
});

test("without a version: the newest that is no pre-release", async () => {
  const before = version({
    version: "2.0.0",
    properties: [{ key: "Microsoft.VisualStudio.Code.PreRelease", value: "true" }],
  });
  expect((await planOf(document([before, version()]), "acme.one")).exact_targets).toEqual(["acme.one@1.0.0"]);
});
