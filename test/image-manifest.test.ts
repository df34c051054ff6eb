import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { AegisError } from "../src/errors.ts";
import { parseUnambiguous } from "../src/image-json.ts";
import {
  assertImage,
  manifestFor,
  platformName,
  readImageConfig,
  readImageManifest,
  runsOn,
} from "../src/image-manifest.ts";
import { fakeImage, fakeIndex, TYPES } from "./image-kit.ts";

/*
 * Documents of a registry as anybody could write them: read, or refused with a reason, and nothing else.
 */

const code = (of: () => unknown) => {
  try {
    of();
    return "";
  } catch (error) {
    if (error instanceof AegisError) return error.code;
    throw error;
  }
};
const bytes = (text: string) => Buffer.from(text);

describe("JSON that means the same to Go", () => {
  const CASES: [string, string][] = [
    ['{"a":1,"a":2}', '"a" is there twice'],
    ['{"a":{"b":1,"b":2}}', '"b" is there twice'],
    ['{"a":1,"A":2}', '"A" is there twice'],
    ['{"a":1,"\\u0061":2}', '"a" is there twice'],
    ['{"Layers":[]}', '"Layers" stands for layers'],
    ['{"config":{"user":"x"}}', '"user" stands for User'],
    // The Kelvin sign and the long s, which Go folds too.
    ['{"\\u212A":1,"k":2}', '"k" is there twice'],
    ['{"o\\u017F":"x"}', "stands for os"],
    ['{"annotations":{"a":"1","a":"2"}}', '"a" is there twice'],
    ['{"a":"\\ud800"}', "lone surrogate"],
    ["{", "not valid JSON"],
  ];
  test.each(CASES)("%s", (text, why) => expect(() => parseUnambiguous(bytes(text))).toThrow(why));
  test("bytes that are no UTF-8", () =>
    expect(() => parseUnambiguous(new Uint8Array([0x7b, 0xff, 0x7d]))).toThrow("not UTF-8"));
  test("a byte order mark, which Go refuses", () =>
    expect(() => parseUnambiguous(bytes('\ufeff{"a":1}'))).toThrow("not valid JSON"));

  test.each([
    '{"annotations":{"a":"1","A":"2","Layers":"3","user":"4"}}',
    '{"config":{"Labels":{"os":"x","OS":"y"}}}',
    '{"a":[{"b":1},{"b":2}]}',
    '{"a":"{\\"b\\":1,\\"b\\":2}"}',
    '{"a":"\\\\","b":"}"}',
    "[]",
    "1",
  ])("%s is fine", (text) => expect(parseUnambiguous(bytes(text))).toEqual(JSON.parse(text)));

  test("any JSON without names that are alike is read as it is", () => {
    fc.assert(
      fc.property(fc.json({ noUnicodeString: true } as object), (text) => {
        const result = code(() => parseUnambiguous(bytes(text)));
        expect(["", "invalid_document"]).toContain(result);
        if (result === "")
          expect(JSON.stringify(parseUnambiguous(bytes(text)))).toBe(JSON.stringify(JSON.parse(text)));
      }),
    );
  });
  test("a name that comes twice is refused wherever it stands", () => {
    const name = fc.stringMatching(/^[a-z"\\{}:,]{1,4}$/);
    fc.assert(
      fc.property(name, fc.json(), fc.json(), fc.boolean(), (key, one, two, isNested) => {
        const object = `{${JSON.stringify(key)}:${one},${JSON.stringify(key)}:${two}}`;
        expect(code(() => parseUnambiguous(bytes(isNested ? `{"x":[${object}]}` : object)))).toBe(
          "invalid_document",
        );
      }),
    );
  });
});

test("any bytes are a manifest or refused", () => {
  const image = fakeImage();
  const index = fakeIndex([[image, { architecture: "amd64", os: "linux" }]]);
  const [configuration = Buffer.from("")] = image.blobs.values();
  const manifest = readImageManifest(bytes(image.bytes), TYPES.manifest);
  if (manifest.kind !== "manifest") throw new Error("it is one");
  const readAll = (data: Uint8Array, type: string) =>
    code(() => {
      const document = readImageManifest(data, type);
      if (document.kind === "index") manifestFor(document.index, "amd64");
      else assertImage(document.manifest);
    });
  const types = fc.constantFrom(...Object.values(TYPES), "", "text/html");
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), types, (text, type) => {
      expect(["", "refused"]).toContain(readAll(bytes(text), type));
      expect(["", "refused"]).toContain(code(() => readImageConfig(bytes(text), manifest.manifest)));
    }),
  );
  // One byte changed: still a document, or refused.
  fc.assert(
    fc.property(
      fc.constantFrom(image.bytes, index.bytes),
      fc.nat(),
      fc.integer({ min: 0, max: 255 }),
      (text, at, to) => {
        const data = bytes(text);
        data[at % data.length] = to;
        expect(["", "refused"]).toContain(readAll(data, ""));
      },
    ),
  );
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 0, max: 255 }), (at, to) => {
      const data = Buffer.from(configuration);
      data[at % data.length] = to;
      expect(["", "refused"]).toContain(code(() => readImageConfig(data, manifest.manifest)));
    }),
  );
});

describe("platforms", () => {
  const of = (architecture: string, variant = "", os = "linux") => ({ architecture, os, variant });
  const choose = (host: string, ...platforms: ReturnType<typeof of>[]) => {
    const images = platforms.map((platform) => fakeImage({ created: JSON.stringify(platform) }));
    const { bytes: text } = fakeIndex(images.map((one, i) => [one, platforms[i] ?? of("")]));
    const document = readImageManifest(bytes(text), "");
    if (document.kind !== "index") throw new Error("it is one");
    const chosen = manifestFor(document.index, host);
    const at = images.findIndex(({ digest }) => digest === chosen.digest);
    return platformName(platforms[at]);
  };
  test.each([
    ["amd64", [of("arm64"), of("amd64")], "linux/amd64"],
    ["amd64", [of("amd64", "v3"), of("amd64", "v1")], "linux/amd64/v1"],
    ["amd64", [of("amd64", "", "windows"), of("amd64")], "linux/amd64"],
    ["arm64", [of("arm", "v7"), of("arm64", "v8")], "linux/arm64/v8"],
    ["arm64", [of("arm64")], "linux/arm64"],
    ["armhf", [of("arm", "v5"), of("arm", "v6"), of("arm", "v7")], "linux/arm/v7"],
    ["armhf", [of("arm", "v5"), of("arm", "v6")], "linux/arm/v6"],
    ["armel", [of("arm", "v7"), of("arm", "v5")], "linux/arm/v5"],
    ["i386", [of("amd64"), of("386")], "linux/386"],
    ["ppc64el", [of("ppc64le")], "linux/ppc64le"],
    ["riscv64", [of("riscv64")], "linux/riscv64"],
    ["s390x", [of("s390x")], "linux/s390x"],
  ] as const)("%s of %j: %s", (host, platforms, expected) =>
    expect(choose(host, ...platforms)).toBe(expected),
  );
  test.each([
    ["amd64", [of("amd64", "v2")]],
    ["armel", [of("arm", "v7")]],
    ["mips64el", [of("mips64le")]],
    ["toString", [of("toString")]],
  ] as const)("%s of %j: none", (host, platforms) =>
    expect(code(() => choose(host, ...platforms))).toBe("refused"),
  );
  test("a configuration says where it runs", () => {
    const [configuration = Buffer.from("")] = fakeImage().blobs.values();
    const document = readImageManifest(bytes(fakeImage().bytes), "");
    if (document.kind !== "manifest") throw new Error("it is one");
    const config = readImageConfig(configuration, document.manifest);
    expect([runsOn(config, "amd64"), runsOn(config, "arm64"), runsOn(config, "constructor")]).toEqual([
      true,
      false,
      false,
    ]);
  });
});
