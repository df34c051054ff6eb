import { describe, expect, test } from "bun:test";
import { openNote, parseNoteKey } from "../src/eco-note.ts";

/** Keys and notes of golang.org/x/mod/sumdb/note, note_test.go (v0.17.0). */
const PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT =
  "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNATURE =
  "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const NOTE = `${TEXT}\n${SIGNATURE}`;
const ENOCH =
  "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
const peter = parseNoteKey(PETER);

describe("keys: refused", () => {
  test.each([
    "",
    "PeterNeumann",
    "PeterNeumann+c74f20a3",
    "PeterNeumann+c74f20a3+",
    "PeterNeumann+c74f20a2+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
    "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    `${PETER}+more`,
    `${PETER}\n`,
  ])("%j", (text) => expect(() => parseNoteKey(text)).toThrow("this is no key for signed notes"));
});

describe("notes", () => {
  test("a good one", () => {
    expect(openNote(NOTE, [peter])).toBe(TEXT);
    expect(openNote(`${TEXT}\n${ENOCH}${SIGNATURE}`, [peter])).toBe(TEXT);
  });

  const cases: [string, string, RegExp][] = [
    ["empty", "", /no signed note/],
    ["text alone", TEXT, /no signed note/],
    ["no empty line before the signatures", `${TEXT}${SIGNATURE}`, /no signed note/],
    ["no newline at the end", NOTE.slice(0, -1), /no signed note/],
    ["carriage returns", NOTE.replaceAll("\n", "\r\n"), /no signed note/],
    ["something else between signatures", `${TEXT}\n${SIGNATURE}x\n`, /malformed/],
    ["a hyphen for the dash", NOTE.replace("—", "-"), /malformed/],
    ["a signature that is no base64", `${TEXT}\n— PeterNeumann !!!\n`, /malformed/],
    ["a short one", `${TEXT}\n— PeterNeumann x08g\n`, /malformed/],
    ["base64 with other last bits", NOTE.replace("JnAM=", "JnAN="), /malformed/],
    ["by others only", `${TEXT}\n${ENOCH}`, /none of the known keys/],
    ["changed text", NOTE.replace("answer", "Answer"), /signature by PeterNeumann is wrong/],
    ["changed signature", NOTE.replace("ZJku", "ZJkv"), /signature by PeterNeumann is wrong/],
    [
      "a wrong one by a known key beside others",
      `${TEXT}\n${ENOCH}${SIGNATURE.replace("ZJku", "ZJkv")}`,
      /is wrong/,
    ],
    ["text added behind the first empty line", `${TEXT}\nmore\n\n${SIGNATURE}`, /is wrong/],
  ];
  test.each(cases)("%s: refused", (_, note, message) =>
    expect(() => openNote(note, [peter])).toThrow(message),
  );
});
