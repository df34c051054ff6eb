import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { AegisError } from "../src/errors.ts";
import { readVsix } from "../src/vscode-vsix.ts";
import { zip } from "./archive-kit.ts";
import { type FakeExtension, vsixOf } from "./vscode-kit.ts";

const ONE: FakeExtension = { id: "Acme.One", version: "1.0.0", files: { "main.js": "1" } };

/** What reading gives: the extension, or the reason against it. Anything but a refusal is a fault. */
function outcome(bytes: Uint8Array): string {
  try {
    const { id, version, platform } = readVsix(bytes);
    return `${id} ${version} ${platform}`;
  } catch (error) {
    if (error instanceof AegisError && error.code === "refused") return "refused";
    throw error;
  }
}

/** A package file with this description. */
const described = (xml: string) =>
  zip([
    { name: "extension.vsixmanifest", body: xml },
    {
      name: "extension/package.json",
      body: '{"publisher":"a","name":"b","version":"1.0.0","engines":{"vscode":"*"}}',
    },
  ]);

describe("the description", () => {
  const CASES: [string, string][] = [
    ['<Identity Id="b" Version="1.0.0" Publisher="a"/>', "a.b 1.0.0 universal"],
    [
      "<Identity Id='b' Version='1.0.0' Publisher='a' TargetPlatform='linux-x64'></Identity>",
      "a.b 1.0.0 linux-x64",
    ],
    ['<Identity Id="b" Version="1.0.0" Publisher="a" TargetPlatform="../x"/>', "refused"],
    [
      '<Identity Id="b" Version="1.0.0" Publisher="a"/><Identity Id="b" Version="1.0.0" Publisher="a"/>',
      "refused",
    ],
    ['<Identity Id="b" Id="c" Version="1.0.0" Publisher="a"/>', "refused"],
    ['<Identity Id="b" Version="1.0.1" Publisher="a"/>', "refused"],
    ['<Identity Id="c" Version="1.0.0" Publisher="a"/>', "refused"],
    ['<Identity XId="b" Version="1.0.0" Publisher="a"/>', "refused"],
    ["", "refused"],
  ];
  test.each(CASES)("%s: %s", (xml, wanted) => {
    expect(outcome(described(xml))).toBe(wanted);
  });
});

test("a changed byte gives the same extension or a refusal, never a fault", () => {
  const bytes = vsixOf(ONE);
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const other = Buffer.from(bytes);
      other.writeUInt8(other.readUInt8(at) ^ change, at);
      expect(["refused", "acme.one 1.0.0 universal"]).toContain(outcome(other));
    }),
    { numRuns: 500 },
  );
});

test("any manifest gives an extension or a refusal", () => {
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.constantFrom(
          "main",
          "engines",
          "activationEvents",
          "contributes",
          "capabilities",
          "extensionPack",
          "scripts",
          "license",
          "__proto__",
        ),
        fc.jsonValue(),
      ),
      (manifest) => {
        expect(["refused", "acme.one 1.0.0 universal"]).toContain(
          outcome(vsixOf({ ...ONE, manifest: manifest as Record<string, unknown> })),
        );
      },
    ),
    { numRuns: 300 },
  );
});

test("any bytes are a refusal", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => outcome(bytes) === "refused"));
});
