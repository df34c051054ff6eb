import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ErrorCode } from "../src/errors.ts";
import { loadSecret } from "../src/key.ts";
import { generateKey, writeKeyFiles } from "../src/key-file.ts";
import type { Env } from "../src/paths.ts";
import { dangerousEnvironment } from "../src/self.ts";
import { refuses } from "./signing-kit.ts";

const directory = mkdtempSync(join(tmpdir(), "aegis-keys-"));
afterAll(() => rmSync(directory, { recursive: true }));

const key = generateKey();
const file = join(directory, "key");
writeKeyFiles(file, key);

/** Created by another implementation; see fixtures/keys/README.md. */
const encrypted = JSON.parse(readFileSync(join(import.meta.dir, "fixtures/keys/pynacl.json"), "utf8"));

let made = 0;
/** A file with the given content and mode. */
function fileOf(content: object | string, mode = 0o600): string {
  const path = join(directory, `file-${made++}`);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  chmodSync(path, mode);
  return path;
}

function load(given: { file?: string; hex?: string }, env: Env = {}, notes: string[] = []) {
  return loadSecret("signing", given, env, (line) => notes.push(line));
}

const REFUSED: [what: string, given: () => { file?: string; hex?: string }, code: ErrorCode, says: string][] =
  [
    ["a file readable by others", () => ({ file: fileOf(key, 0o640) }), "invalid_key", "others"],
    ["a directory", () => ({ file: directory }), "invalid_key", "regular file"],
    ["a missing file", () => ({ file: join(directory, "none") }), "not_found", "no key file"],
    ["not JSON", () => ({ file: fileOf("{") }), "invalid_key", "not a key file"],
    [
      "a short seed",
      () => ({ file: fileOf({ ...key, secret_key_hex: "ab" }) }),
      "invalid_key",
      "secret_key_hex",
    ],
    ["an unknown field", () => ({ file: fileOf({ ...key, more: 1 }) }), "invalid_key", "more"],
    [
      "a public key of another secret",
      () => ({ file: fileOf({ ...key, public_key_hex: generateKey().public_key_hex }) }),
      "invalid_key",
      "does not belong",
    ],
    [
      "an encrypted file, without anyone to ask",
      () => ({ file: fileOf(encrypted) }),
      "invalid_key",
      "is encrypted, and a service can't ask",
    ],
    [
      "an encrypted file that needs 1 TiB of memory",
      () => ({ file: fileOf({ ...encrypted, encryption: { ...encrypted.encryption, n: 2 ** 30 } }) }),
      "invalid_key",
      "encryption.n",
    ],
    [
      "an encrypted file that also holds the secret",
      () => ({ file: fileOf({ ...encrypted, secret_key_hex: key.secret_key_hex }) }),
      "invalid_key",
      "secret_key_hex",
    ],
    ["a seed that is not hex", () => ({ hex: "z".repeat(64) }), "invalid_key", "32-byte seed"],
    ["file and flag", () => ({ file, hex: key.secret_key_hex }), "usage", "both"],
  ];

describe("loading a secret", () => {
  for (const [what, given, code, says] of REFUSED) {
    test(`refuses ${what}`, () => refuses(() => load(given()), code, says));
  }
  test("chmod is suggested only for a wrong mode, never for /tmp, a device or another user's file", async () => {
    for (const path of ["/tmp", "/dev/null", directory]) {
      const hint = await refuses(() => load({ file: path }), "invalid_key", "not a regular file");
      expect(hint).toBe("Give the file written by `aegis sign keygen --out <file>`.");
    }
    const open = fileOf(key, 0o644);
    expect(await refuses(() => load({ file: open }), "invalid_key", "others")).toStartWith(
      `Type: chmod 600 ${open};`,
    );
    expect(await refuses(() => load({ file: `${file}/x` }), "usage", "a part of that path")).not.toContain(
      "chmod",
    );
  });
  test("error messages never show the secret", async () => {
    const bad = fileOf({ ...key, algorithm: "rsa" });
    await refuses(() => load({ file: bad }), "invalid_key", /^(?!.*[0-9a-f]{64})/);
  });
  test.if(process.geteuid?.() === 0)("refuses another user's file", async () => {
    const path = fileOf(key);
    const { chownSync } = await import("node:fs");
    chownSync(path, 12345, 12345);
    expect(await refuses(() => load({ file: path }), "invalid_key", "another user")).not.toContain("chmod");
  });

  test("from a file", () => {
    expect(load({ file })).toMatchObject({ keyId: key.key_id, publicKeyHex: key.public_key_hex });
  });
  test("signatures use the file's key_id", () => {
    expect(load({ file: fileOf({ ...key, key_id: "ops-1" }) })?.keyId).toBe("ops-1");
  });
  test("from a symbolic link to a good file", () => {
    symlinkSync(file, join(directory, "link"));
    expect(load({ file: join(directory, "link") })?.keyId).toBe(key.key_id);
  });
  test("the hex flag warns that others can see it", () => {
    const notes: string[] = [];
    expect(load({ hex: key.secret_key_hex }, {}, notes)?.keyId).toBe(key.key_id);
    expect(notes).toEqual([expect.stringContaining("--secret-key-hex")]);
  });
  test("precedence: file, variable, credential", () => {
    const credential = generateKey();
    writeFileSync(join(directory, "aegis-signing-key"), `${credential.secret_key_hex}\n`, { mode: 0o440 });
    const env = { CREDENTIALS_DIRECTORY: directory };
    const other = generateKey();
    const both = { ...env, AEGIS_SIGNING_SECRET_KEY_HEX: other.secret_key_hex };
    expect(load({}, env)?.keyId).toBe(credential.key_id);
    expect(load({}, both)?.keyId).toBe(other.key_id);
    expect(load({ file }, both)?.keyId).toBe(key.key_id);
  });
  test("the reviewer's key: from a file or a credential, never from a variable of another purpose", () => {
    const credential = generateKey();
    writeFileSync(join(directory, "aegis-review-key"), JSON.stringify(credential), { mode: 0o440 });
    const env = { CREDENTIALS_DIRECTORY: directory };
    const variables = {
      AEGIS_SIGNING_SECRET_KEY_HEX: key.secret_key_hex,
      AEGIS_APPROVAL_SECRET_KEY_HEX: key.secret_key_hex,
    };
    const review = (given: { file?: string }, of: Env) => loadSecret("review", given, of, () => {});
    expect(review({}, { ...env, ...variables })?.keyId).toBe(credential.key_id);
    expect(review({ file }, env)?.keyId).toBe(key.key_id);
    expect(review({}, variables)).toBeNull();
  });
  test("null if there is none; the approval variable is not used for signing", () => {
    expect(load({}, { AEGIS_APPROVAL_SECRET_KEY_HEX: key.secret_key_hex })).toBeNull();
  });
});

const DANGEROUS: [env: Env, names: string[]][] = [
  [{ BUN_OPTIONS: "--preload x" }, ["BUN_OPTIONS"]],
  [{ BUN_BE_BUN: "1" }, ["BUN_BE_BUN"]],
  [{ BUN_INSPECT: "1", BUN_INSPECT_PRELOAD: "x" }, ["BUN_INSPECT", "BUN_INSPECT_PRELOAD"]],
  [{ NODE_OPTIONS: "--require x" }, ["NODE_OPTIONS"]],
  [{ NODE_TLS_REJECT_UNAUTHORIZED: "0" }, ["NODE_TLS_REJECT_UNAUTHORIZED"]],
  [{ LD_PRELOAD: "x.so" }, ["LD_PRELOAD"]],
  [{ NODE_TLS_REJECT_UNAUTHORIZED: "1", BUN_OPTIONS: "", BUN_INSTALL: "/x", PATH: "/bin" }, []],
];

describe("dangerous environment", () => {
  for (const [env, names] of DANGEROUS) {
    test(JSON.stringify(env), async () => {
      expect(dangerousEnvironment(env)).toEqual(names);
      if (names.length > 0) await refuses(() => load({ file }, env), "refused", names[0]);
      else expect(load({ file }, env)).not.toBeNull();
    });
  }
});

describe("creating a key", () => {
  test("the secret file is 0600; the public part holds no secret", () => {
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(`${file}.pub`, "utf8"))).toEqual({
      algorithm: "ed25519",
      key_id: key.key_id,
      public_key_hex: key.public_key_hex,
    });
  });
  test("never overwrites a secret file or a public part", async () => {
    await refuses(() => writeKeyFiles(file, generateKey()), "exists", "key.pub");
    rmSync(`${file}.pub`);
    await refuses(() => writeKeyFiles(file, generateKey()), "exists", file);
    expect(load({ file })?.keyId).toBe(key.key_id);
  });
  test("two keys differ", () => expect(generateKey().secret_key_hex).not.toBe(generateKey().secret_key_hex));
});
