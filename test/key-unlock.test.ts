import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import { saveDocument } from "../src/doc-store.ts";
import { generateKey, writeKeyFiles } from "../src/key-file.ts";
import { newPassphrase, unlockSecret } from "../src/key-unlock.ts";
import { install } from "./policy-plans.ts";
import { onTerminal } from "./pty.ts";
import { refuses } from "./signing-kit.ts";

const PASSPHRASE = "four words and a hat";
const directory = mkdtempSync(join(tmpdir(), "aegis-unlock-"));
const key = generateKey();
const file = join(directory, "key");
beforeAll(() => writeKeyFiles(file, key, PASSPHRASE));
afterAll(() => rmSync(directory, { recursive: true }));

/** A person who gives these answers in order. */
function person(answers: readonly (string | null)[]) {
  const questions: string[] = [];
  return {
    questions,
    ask: async (question: string) => {
      questions.push(question);
      return answers[questions.length - 1] ?? null;
    },
  };
}

function unlock(answers: readonly (string | null)[], path = file, notes: string[] = []) {
  const { questions, ask } = person(answers);
  const key = unlockSecret("signing", { file: path }, {}, (line) => notes.push(line), ask);
  return { key, questions, notes };
}

describe("an encrypted key file", () => {
  test("holds the public part in clear, and no secret", () => {
    const text = readFileSync(file, "utf8");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(JSON.parse(text)).toEqual({
      algorithm: "ed25519",
      key_id: key.key_id,
      public_key_hex: key.public_key_hex,
      encryption: expect.objectContaining({ kdf: "scrypt", n: 2 ** 17, r: 8, p: 1 }),
    });
    for (const spelling of ["hex", "base64"] as const) {
      expect(text).not.toContain(Buffer.from(key.secret_key_hex, "hex").toString(spelling));
    }
    expect(JSON.parse(readFileSync(`${file}.pub`, "utf8")).public_key_hex).toBe(key.public_key_hex);
  });

  test("refused: no answer, or none to the second question", async () => {
    await refuses(() => unlock([null]).key, "refused", "no terminal");
    await refuses(() => unlock(["wrong", null]).key, "refused", "no terminal");
  });
  test("refused: three wrong passphrases, without a fourth question", async () => {
    const wrong = unlock(["one", "two", "", PASSPHRASE]);
    await refuses(() => wrong.key, "invalid_key", "wrong passphrase");
    expect(wrong.questions).toHaveLength(3);
    expect(wrong.notes).toHaveLength(2);
  });
  test("refused: a public key of another secret, found only after decryption", async () => {
    const other = join(directory, "other");
    const swapped = {
      ...JSON.parse(readFileSync(file, "utf8")),
      public_key_hex: generateKey().public_key_hex,
    };
    writeFileSync(other, JSON.stringify(swapped), { mode: 0o600 });
    await refuses(() => unlock([PASSPHRASE], other).key, "invalid_key", "does not belong");
  });
  test("refused without a question: a file readable by others", async () => {
    const open = join(directory, "open");
    writeFileSync(open, readFileSync(file), { mode: 0o644 });
    const asked = unlock([PASSPHRASE], open);
    await refuses(() => asked.key, "invalid_key", "others");
    expect(asked.questions).toEqual([]);
  });

  test("opens at the third attempt", async () => {
    const good = unlock(["one", "two", PASSPHRASE]);
    expect(await good.key).toMatchObject({ publicKeyHex: key.public_key_hex, keyId: key.key_id });
    expect(good.questions[0]).toContain(file);
  });
  test("an unencrypted file needs no passphrase", async () => {
    const plain = join(directory, "plain");
    writeKeyFiles(plain, key);
    const good = unlock([], plain);
    expect((await good.key)?.publicKeyHex).toBe(key.public_key_hex);
    expect(good.questions).toEqual([]);
  });
});

const NEW: [what: string, answers: (string | null)[], says: string][] = [
  ["no terminal", [null], "no terminal"],
  ["an empty one", [""], "at least 8"],
  ["a short one", ["1234567"], "at least 8"],
  ["seven characters of several bytes", ["\u20ac\u20ac\u20ac\u20ac\u20ac\u20ac\u20ac"], "at least 8"],
  ["an arrow key", ["abcdefgh\x1b[D"], "control characters"],
  ["a different repetition", ["abcdefgh", "abcdefgi"], "differ"],
  ["no second answer", ["abcdefgh", null], "differ"],
];
describe("a new passphrase", () => {
  for (const [what, answers, says] of NEW) {
    test(`refused: ${what}`, () => refuses(() => newPassphrase(person(answers).ask), "refused", says));
  }
  test("the same passphrase twice", async () => {
    expect(await newPassphrase(person([" words  ", " words  "]).ask)).toBe(" words  ");
  });
});

const cli = join(import.meta.dir, "../src/cli.ts");
const env = { PATH: process.env.PATH ?? "", HOME: directory, XDG_DATA_HOME: join(directory, "data") };
const aegis = (words: string) =>
  `env -i HOME=${directory} XDG_DATA_HOME=${directory}/data '${process.execPath}' '${cli}' ${words}`;
const noTerminal = (...words: string[]) =>
  spawnSync("setsid", ["-w", process.execPath, cli, ...words], {
    env,
    encoding: "utf8",
    input: `${PASSPHRASE}\n`,
  });

describe("on the command line", () => {
  test("keygen --encrypt without a terminal or a file creates nothing", () => {
    const out = join(directory, "none");
    const ran = noTerminal("sign", "keygen", "--encrypt", "--out", out);
    expect([ran.status, ran.stdout]).toEqual([6, ""]);
    expect(ran.stderr).toContain("no terminal");
    expect(existsSync(out) || existsSync(`${out}.pub`)).toBe(false);
    expect(noTerminal("sign", "keygen", "--encrypt").status).toBe(2);
  });
  test("keygen --encrypt checks the path before asking", async () => {
    const taken = join(directory, "taken");
    const half = join(directory, "half");
    for (const path of [taken, `${half}.pub`]) writeFileSync(path, "mine");
    const places = [
      [taken, "already exists"],
      [half, "half.pub already exists"],
      [directory, "is a directory"],
      [`${directory}/none/key`, "no such file or directory"],
    ] as const;
    for (const [out, says] of places) {
      const ran = await onTerminal(aegis(`sign keygen --encrypt --out ${out}`), []);
      expect([ran.status, ran.output.includes("passphrase")]).toEqual([2, false]);
      // On a terminal messages are wrapped.
      expect(ran.output.replaceAll(/\s+/g, " ")).toContain(says);
    }
    expect(readFileSync(taken, "utf8")).toBe("mine");
  });
  test("keygen without --encrypt says the file is not encrypted", () => {
    const ran = noTerminal("sign", "keygen", "--out", join(directory, "clear"));
    expect(ran.status).toBe(0);
    expect(ran.stderr).toContain("not encrypted");
  });

  test("a key created on a terminal approves there, and the passphrase is never shown", async () => {
    const made = join(directory, "made");
    const keygen = await onTerminal(aegis(`sign keygen --encrypt --out ${made}`), [
      ["New passphrase", `${PASSPHRASE}\r`],
      ["Repeat the passphrase: ", `${PASSPHRASE}\r`],
    ]);
    expect([keygen.status, keygen.after]).toEqual([0, keygen.before]);
    expect(keygen.output).toContain("encrypted; readable only by you");

    const plan = install({ created_at: new Date().toISOString() });
    const path = join(directory, "plan.json");
    saveDocument("plan", plan, env, path);
    const words = `sign approve --plan ${path} --reason wanted --signer alice --key ${made}`;
    const approved = await onTerminal(aegis(words), [
      ["Passphrase of", "not this one\r"],
      ["Passphrase of", `${PASSPHRASE}\r`],
      ["to approve it: ", `${canonicalHash(plan).slice(0, 8)}\n`],
    ]);
    expect(approved.output).toContain("Approved by alice");
    expect(approved.status).toBe(0);
    expect(keygen.output + approved.output + readFileSync(made, "utf8")).not.toContain(PASSPHRASE);

    const alone = noTerminal(...words.split(" "), "--confirm", canonicalHash(plan));
    expect(alone.status).toBe(6);
    expect(alone.stderr).toContain("could not ask for the passphrase");
  });
});
