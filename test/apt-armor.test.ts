import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import fc from "fast-check";
import { dearmor, isArmored } from "../src/apt-armor.ts";
import { fixture } from "./apt-kit.ts";

const BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END = "-----END PGP PUBLIC KEY BLOCK-----";

describe("armor", () => {
  const armored = fixture("keys/a.asc");
  const binary = Buffer.from(fixture("keys/a.gpg.base64"), "base64");
  test("gives exactly the bytes that gpg exports", () => {
    expect(isArmored(armored)).toBe(true);
    expect(Buffer.from(dearmor(armored) ?? []).equals(binary)).toBe(true);
  });
  test("several keys in one file", () => {
    expect(dearmor(armored + armored)?.length).toBe(2 * binary.length);
  });
  test("headers, carriage returns and indentation are not data", () => {
    const text = armored.replace("\n\n", "\nComment: x\nVersion: GnuPG v2\n\n").replaceAll("\n", "\r\n ");
    expect(Buffer.from(dearmor(text) ?? []).equals(binary)).toBe(true);
  });
  for (const [what, text] of [
    ["no block", "hello"],
    ["an empty block", `${BEGIN}\n\n${END}\n`],
    ["a block in a block", armored.replace("\n\n", `\n\n${BEGIN}\n\n`)],
    ["a complete block before an unfinished one", armored + armored.slice(0, 200)],
    ["no empty line before the key", armored.replace("\n\n", "\n")],
    ["an unfinished block", armored.slice(0, 200)],
    ["letters that aren't base64", armored.replace("mDME", "mD*E")],
  ] as const) {
    test(`malformed: ${what}`, () => expect(dearmor(text)).toBeNull());
  }
  test("a key after other text, indented", () => {
    for (const text of [`a key:\n${armored}`, `  ${armored}`]) {
      expect(isArmored(text)).toBe(true);
      expect(Buffer.from(dearmor(text) ?? []).equals(binary)).toBe(true);
    }
  });
  test("arbitrary text never throws", () => {
    fc.assert(fc.property(fc.string(), (text) => void dearmor(`${BEGIN}\n\n${text}\n${END}`)));
  });
});

describe("700 kB crafted to be slow: read within two CPU seconds, limited by the kernel", () => {
  const times = (text: string) => text.repeat(Math.ceil(700_000 / text.length));
  const module = join(import.meta.dir, "../src/apt-armor.ts");
  for (const [what, text] of [
    ["begin lines", times(`${BEGIN}\n`)],
    ["begin lines and one end", times(`${BEGIN}\n`) + END],
    ["begin lines with an empty line each", times(`${BEGIN}\n\n`)],
    ["end lines", times(`${END}\n`)],
    ["nested blocks", times(`${BEGIN}\n\nAAAA\n`)],
    ["one long line", BEGIN + times("-----BEGIN")],
    ["blanks", times(" ") + BEGIN],
    ["empty lines", times("\n") + BEGIN],
  ] as const) {
    test(what, () => {
      const code = `const { dearmor, isArmored } = await import(${JSON.stringify(module)});
        const text = await Bun.stdin.text();
        console.log(text.length >= 700000, isArmored(text) ? dearmor(text) : null);`;
      const { status, stdout } = spawnSync("prlimit", ["--cpu=2", process.execPath, "-e", code], {
        input: text,
        encoding: "utf8",
      });
      expect({ status, stdout }).toEqual({ status: 0, stdout: "true null\n" });
    });
  }
  test("text over the size limit is refused unread", () => {
    const key = `${fixture("keys/a.asc")}\n`;
    expect(dearmor(key + "\n".repeat(4 * 1024 * 1024))).toBeNull();
  });
});
