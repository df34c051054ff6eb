import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseRelease, splitClearSigned } from "../src/apt-release.ts";
import { releaseTime } from "../src/doc-evidence.ts";
import { fixture } from "./apt-kit.ts";

const IN_RELEASE = fixture("keys/InRelease");
const SIGNATURE = IN_RELEASE.slice(IN_RELEASE.indexOf("-----BEGIN PGP SIGNATURE"));

describe("text outside the signed part is refused", () => {
  for (const [what, text] of [
    ["text before", `Origin: Evil\n${IN_RELEASE}`],
    ["an empty line before", `\n${IN_RELEASE}`],
    ["text behind", `${IN_RELEASE}Origin: Evil\n`],
    ["a second message behind", IN_RELEASE + IN_RELEASE],
    ["no signature", IN_RELEASE.slice(0, IN_RELEASE.indexOf("-----BEGIN PGP SIGNATURE"))],
    ["half a signature", IN_RELEASE.slice(0, -40)],
    ["a plain Release file", "Origin: Evil\n"],
    ["nothing", ""],
    ["the end of the last line missing", IN_RELEASE.trimEnd()],
    ["a header that starts with a dash", IN_RELEASE.replace("Hash:", "-Hash:")],
    ["a line in it that starts with a dash", IN_RELEASE.replace("Label:", "-Label:")],
    [
      "a line in the signature that starts with a dash",
      IN_RELEASE.replace("-----END PGP", "-x\n-----END PGP"),
    ],
    ["a line between two signatures", IN_RELEASE + SIGNATURE.replace("-----BEGIN", "x\n-----BEGIN")],
    ["a second signature that isn't closed", IN_RELEASE + SIGNATURE.slice(0, -40)],
  ] as const) {
    test(what, () => expect(splitClearSigned(text)).toBeNull());
  }
  test("arbitrary text never throws", () => {
    fc.assert(fc.property(fc.string(), (text) => void splitClearSigned(text)));
  });
});

test("the signed text of a real InRelease", () => {
  expect(parseRelease(splitClearSigned(IN_RELEASE)?.text ?? "")).toEqual({
    origin: "RepoA",
    label: "RepoA",
    suite: "st",
    codename: "st",
    date: "Sat, 21 Nov 2026 12:00:00 +0000",
    validUntil: "Mon, 21 Dec 2026 12:00:00 +0000",
    changelogs: null,
  });
});

test("a Release file that apt could read differently is refused", () => {
  expect(parseRelease("Origin: a\n \nOrigin: b\n")).toBeNull();
  expect(parseRelease("Origin: a\n\nOrigin: b\n")).toBeNull();
});

test("both of two signatures are kept; unsigned line ends and blanks are dropped", () => {
  const signed = splitClearSigned(IN_RELEASE)?.text;
  expect(splitClearSigned(IN_RELEASE + SIGNATURE)).toEqual({
    text: signed ?? "",
    signatures: SIGNATURE + SIGNATURE,
  });
  expect(splitClearSigned(IN_RELEASE.replaceAll("\n", " \t\r\n"))).toEqual({
    text: signed ?? "",
    signatures: SIGNATURE,
  });
});

test("dash-escaping is undone", () => {
  const text =
    "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- -x\ny\n-----BEGIN PGP SIGNATURE-----\n\nz\n-----END PGP SIGNATURE-----\n";
  expect(splitClearSigned(text)).toEqual({
    text: "-x\ny",
    signatures: "-----BEGIN PGP SIGNATURE-----\n\nz\n-----END PGP SIGNATURE-----\n",
  });
});

describe("dates", () => {
  for (const [text, iso] of [
    ["Fri, 20 Nov 2026 00:12:41 UTC", "2026-11-20T00:12:41.000Z"],
    ["Mon, 21 Dec 2026 12:00:00 +0000", "2026-12-21T12:00:00.000Z"],
    ["Sat,  5 Dec 2026 1:02:03 GMT", "2026-12-05T01:02:03.000Z"],
  ] as const) {
    test(text, () => expect(new Date(releaseTime(text) ?? 0).toISOString()).toBe(iso));
  }
  for (const text of [
    "Fri, 20 Nov 2026 00:12:41",
    "Fri, 20 Nov 2026 00:12:41 +0200",
    "Fri, 20 Nov 2026 00:12:41 CET",
    "2027-01-01",
    "never",
    "",
  ]) {
    test(`not a date that says the same everywhere: ${text}`, () => expect(releaseTime(text)).toBeNull());
  }
});
