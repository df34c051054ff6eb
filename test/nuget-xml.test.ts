import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { AegisError } from "../src/errors.ts";
import { childOf, childrenOf, parseXml } from "../src/nuget-xml.ts";

const parse = (text: string) => parseXml(Buffer.from(text));

describe("refused", () => {
  test.each([
    ["nothing", "", "it ends too early"],
    ["text alone", "x", "text outside its root"],
    ["two roots", "<a/><b/>", "two root elements"],
    ["an element without an end", "<a><b></a>", "</a> ends nothing"],
    ["an end without a beginning", "</a>", "</a> ends nothing"],
    ["a document type", "<!DOCTYPE a><a/>", "can't be read from character 0"],
    ["an entity of its own", "<a>&x;</a>", "is no character"],
    ["a reference without an end", "<a>&amp</a>", "is no character"],
    ["a surrogate", "<a>&#xD800;</a>", "is no character"],
    ["a character beyond all", "<a>&#x110000;</a>", "is no character"],
    ["an attribute twice", '<a b="1" b="2"/>', "b is there twice"],
    ["an attribute without quotes", "<a b=1/>", "can't be read"],
    ["a bracket in an attribute", '<a b="<"/>', "can't be read"],
    ["two hyphens in a comment", "<!-- -- --><a/>", "can't be read"],
    ["another encoding", '<?xml version="1.0" encoding="utf-16"?><a/>', "it is not UTF-8"],
    ["too deep", `${"<a>".repeat(40)}${"</a>".repeat(40)}`, "it is too large"],
  ])("%s", (_, text, why) => expect(() => parse(text)).toThrow(why));
  test("bytes that are no UTF-8", () =>
    expect(() => parseXml(Buffer.from([0x3c, 0x61, 0xff]))).toThrow("not UTF-8"));
  test("two children where one is meant", () =>
    expect(() => childOf(parse("<a><b/><b/></a>"), "b")).toThrow("<b> is there twice"));
});

test("what nuspecs have", () => {
  const root = parse(
    '\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<!-- c --><n:a xmlns:n="u" b=\'&quot;&#65;&#x42;\'>x<![CDATA[<&]]>\r\n<c/>y</n:a>\n',
  );
  expect([root.name, root.attributes.get("b"), root.text]).toEqual(["a", '"AB', "x<&\ny"]);
  expect([childrenOf(root, "c").length, childOf(root, "d"), childrenOf(undefined, "c")]).toEqual([
    1,
    undefined,
    [],
  ]);
});

test("whatever comes, it is read or refused", () => {
  const piece = fc.constantFrom(
    "<a>",
    "</a>",
    "<a",
    "/>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    "&amp;",
    "&",
    '"',
    "'",
    "=",
    " ",
    "x",
    "<b c='d'/>",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(piece, { maxLength: 60 }).map((all) => all.join("")),
      ),
      (text) => {
        try {
          expect(typeof parse(text).name).toBe("string");
        } catch (error) {
          expect(error).toBeInstanceOf(AegisError);
        }
      },
    ),
  );
  for (const text of [
    "<!--".repeat(50_000),
    `<a ${"b='' ".repeat(50_000)}`,
    "<".repeat(100_000),
    "&".repeat(100_000),
  ])
    expect(() => parse(text)).toThrow();
});
