import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ErrorCode } from "../src/errors.ts";
import { generateKey } from "../src/key-file.ts";
import { entryText, oneEntry, withChange, withEntry } from "../src/key-trust-text.ts";
import { parseTrustedKeys } from "../src/key-trusted-keys.ts";
import { ALICE, refuses, SIGNER, STRANGER } from "./signing-kit.ts";

const FILE = `# Keys of web1. Ask alice before you change them.

[[key]]   # the first
id = "ops"
name = "ops@example"
public_key_hex = "${SIGNER.publicKeyHex}"
role = "execution"
# signs from the build host

[[key]]
id = "alice"
  name = 'alice@example'   # with the key in the safe
public_key_hex = "${ALICE.publicKeyHex}"
role = "approval"
not_after = 2027-01-01T00:00:00Z  # the year's end
revoked = false # so far
`;
const UNTIL = new Date("2026-12-31T00:00:00.000Z");
const keys = (text: string) => parseTrustedKeys(text, "keys");
/** Lines of `after` that `before` doesn't have, and the other way round. */
function difference(before: string, after: string): { gone: string[]; come: string[] } {
  const [old, now] = [before.split("\n"), after.split("\n")];
  return { gone: old.filter((line) => !now.includes(line)), come: now.filter((line) => !old.includes(line)) };
}

describe("a change of one entry is one line, and nothing else", () => {
  test.each([
    [
      "revoked, written already",
      1,
      { revoked: true },
      "2026-11-30: lost",
      ["revoked = false # so far"],
      ["revoked = true # so far  # 2026-11-30: lost"],
    ],
    ["revoked, not written yet", 0, { revoked: true }, "", [], ["revoked = true"]],
    [
      "an end, written already",
      1,
      { notAfter: UNTIL },
      "",
      ["not_after = 2027-01-01T00:00:00Z  # the year's end"],
      ["not_after = 2026-12-31T00:00:00Z  # the year's end"],
    ],
    [
      "an end, not written yet",
      0,
      { notAfter: UNTIL },
      "why",
      [],
      ["not_after = 2026-12-31T00:00:00Z  # why"],
    ],
  ] as const)("%s", (_, n, change, remark, gone, come) => {
    const after = withChange(FILE, n, change, remark, "keys");
    expect(difference(FILE, after)).toEqual({ gone: [...gone], come: [...come] });
    expect(keys(after)).toEqual(keys(FILE).map((key, i) => (i === n ? { ...key, ...change } : key)));
  });
  test("the new line stands with its entry, before the comments of the next", () => {
    const lines = withChange(FILE, 0, { revoked: true }, "", "keys").split("\n");
    expect(lines.slice(6, 9)).toEqual([
      'role = "execution"',
      "revoked = true",
      "# signs from the build host",
    ]);
  });
  test("lines that end like Windows' keep their ends", () => {
    const windows = FILE.replaceAll("\n", "\r\n");
    for (const n of [0, 1]) {
      const after = withChange(windows, n, { revoked: true }, "x", "keys");
      expect(after.replaceAll("\r\n", "").includes("\n")).toBe(false);
    }
  });
});

describe("refused, since the edit would not be what was meant", () => {
  const hex = SIGNER.publicKeyHex;
  test.each([
    ["keys in one array", `key = [{ id = "x", name = "x", public_key_hex = "${hex}", role = "execution" }]`],
    [
      "a header inside a text",
      `[[key]]\nid = "x"\nname = """\n[[key]]\n"""\npublic_key_hex = "${hex}"\nrole = "execution"\n`,
    ],
    [
      "a setting inside a text",
      `[[key]]\nid = """\nrevoked = false\n"""\npublic_key_hex = "${hex}"\nrole = "execution"\n`,
    ],
    [
      "an end inside a text",
      `[[key]]\nid = "x"\npublic_key_hex = "${hex}"\nrole = "execution"\nname = """a\n#"""\n`,
    ],
  ])("%s", async (_, text) => {
    expect(keys(text)).toHaveLength(1);
    await refuses(
      () => withChange(text, 0, { revoked: true }, "", "keys"),
      "invalid_config",
      "edited safely",
    );
  });
  test("an entry after keys in one array, or after a table", async () => {
    const entry = oneEntry(entryText({ ...generateKey(), name: "x", role: "approval" }), "entry");
    const array = `key = [{ id = "x", public_key_hex = "${hex}", role = "execution" }]\n`;
    await refuses(() => withEntry(array, entry, "keys"), "invalid_config", "edited safely");
  });
});

describe("an entry", () => {
  const entry = entryText({ ...generateKey(), name: "eve@example", role: "approval" });
  test.each<[string, string, string, ErrorCode?]>([
    ["nothing", "", "not one entry", "usage"],
    [
      "two",
      `${entry}${entryText({ ...generateKey(), name: "b", role: "approval" })}`,
      "not one entry",
      "usage",
    ],
    [
      "an array",
      entry.replace("[[key]]", "key = [{").replaceAll("\n", ", ").replace("{,", "{").replace(/, $/, "}]"),
      "not one entry",
      "usage",
    ],
    ["a whole document before it", `key = []\n${entry}`, ""],
    ["no name", entry.replace(/^name.*\n/m, ""), "whose key", "usage"],
    ["a name that looks like another", entry.replace("eve@", "eve\u200b@"), "looks like another", "usage"],
    ["a name of two lines", entry.replace("eve@", "eve\\n@"), "looks like another", "usage"],
    ["a placeholder", entry.replace("eve@example", "<owner>"), "placeholder"],
    ["no role", entry.replace(/^role.*$/m, 'role = "<role>"'), ""],
    ["an unknown setting", `${entry}trusted = true\n`, "unknown key"],
    [
      "a .pub without a role",
      JSON.stringify({ algorithm: "ed25519", key_id: "a", public_key_hex: ALICE.publicKeyHex, name: "x" }),
      "what it is for",
      "usage",
    ],
    ["a secret key file", JSON.stringify(generateKey()), ""],
    [
      "a key of small order",
      entry.replace(/hex = ".*"/, `hex = "01${"0".repeat(62)}"`),
      "small order",
      "invalid_key",
    ],
    [
      "a key that is no point",
      entry.replace(/hex = ".*"/, `hex = "02${"0".repeat(62)}"`),
      "not a point",
      "invalid_key",
    ],
    ["a short key", entry.replace(/hex = ".*"/, 'hex = "abcd"'), "64 lower-case", "invalid_key"],
  ])("refused: %s", async (_, text, why, code = "invalid_config") => {
    await refuses(() => oneEntry(text, "the entry"), code, why);
  });
  test("is taken from what keygen prints, and from the .pub file", () => {
    const file = { ...generateKey(), name: "eve", role: "approval" as const };
    const { secret_key_hex: _, ...publicPart } = file;
    expect(oneEntry(JSON.stringify(publicPart), "x").text).toBe(entryText(file));
    expect(oneEntry(`\n# for eve\n${entryText(file)}\n`, "x").text).toBe(`# for eve\n${entryText(file)}`);
  });
  test.each(["", "# only a comment", FILE, FILE.trimEnd()])("is added at the end", (text) => {
    const added = oneEntry(entry, "x");
    const after = withEntry(text, added, "keys");
    expect(after.startsWith(text)).toBe(true);
    expect(keys(after)).toEqual([...keys(text), added.key]);
  });
});

test("any name survives from keygen to the file", () => {
  const name = fc.string({ unit: "binary", minLength: 1, maxLength: 50 });
  const key = generateKey();
  fc.assert(
    fc.property(name, (name) => {
      fc.pre(!/^\s*(?:<.*>|…|\.\.\.)\s*$/s.test(name));
      const [read] = keys(entryText({ ...key, name, role: "execution" }));
      expect(read?.name).toBe(name.toWellFormed());
    }),
  );
});

test("whatever stands around the entries stays, or the change is refused", () => {
  const noise = fc.array(
    fc.constantFrom(
      "",
      "# [[key]]",
      "   ",
      "# revoked = false",
      "\t# x",
      'name = "n"',
      "not_before = 2020-01-01T00:00:00Z",
      "[[key]] #",
      "revoked = false",
    ),
    { maxLength: 4 },
  );
  const entryOf = (id: string, hex: string, lines: readonly string[]) =>
    ["[[key]]", `id = "${id}"`, `public_key_hex = "${hex}"`, ...lines, 'role = "approval"'].join("\n");
  fc.assert(
    fc.property(noise, noise, noise, fc.integer({ min: 0, max: 1 }), (before, first, second, n) => {
      const text = [
        ...before,
        entryOf("a", ALICE.publicKeyHex, first),
        entryOf("b", STRANGER.publicKeyHex, second),
        "",
      ].join("\n");
      let old: ReturnType<typeof keys>;
      try {
        old = keys(text);
      } catch {
        return;
      }
      let after: string;
      try {
        after = withChange(text, n, { notAfter: UNTIL }, "", "keys");
      } catch {
        return;
      }
      expect(keys(after)).toEqual(old.map((key, i) => (i === n ? { ...key, notAfter: UNTIL } : key)));
      expect(after.split("\n").filter((line) => !line.startsWith("not_after"))).toEqual(text.split("\n"));
    }),
  );
});
