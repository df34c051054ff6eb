import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { noteOtherId } from "../src/cmd-sign-args.ts";
import type { ErrorCode } from "../src/errors.ts";
import { signDocument } from "../src/key-sign.ts";
import {
  checkSigner,
  findKey,
  findSigner,
  keyName,
  loadTrust,
  type TrustFiles,
  userTrust,
  withOwnKey,
} from "../src/key-trust.ts";
import type { BareKeys } from "../src/key-trusted-keys.ts";
import { parseEnvironmentFile } from "../src/sys-environment-file.ts";
import { needs } from "./needs.ts";
import { ALICE, BOB, NOW, NOWHERE, refuses, SIGNER, STRANGER } from "./signing-kit.ts";
import { sshPublicKey } from "./ssh-token.ts";

const directory = mkdtempSync(join(tmpdir(), "aegis-trust-"));
afterAll(() => rmSync(directory, { recursive: true }));

let made = 0;
function files(toml: string | Uint8Array, env: string | Uint8Array = ""): TrustFiles {
  const n = made++;
  const paths = { trustedKeys: join(directory, `${n}.toml`), daemonEnv: join(directory, `${n}.env`) };
  writeFileSync(paths.trustedKeys, toml);
  writeFileSync(paths.daemonEnv, env);
  return paths;
}
const load = (toml: string | Uint8Array, env: string | Uint8Array = "") =>
  loadTrust({ rootOnly: false, files: files(toml, env) });

function entry(change: Record<string, string> = {}): string {
  const fields = {
    id: '"ops-1"',
    name: '"ops"',
    public_key_hex: `"${SIGNER.publicKeyHex}"`,
    role: '"execution"',
    ...change,
  };
  return `[[key]]\n${Object.entries(fields)
    .filter(([, value]) => value !== "")
    .map(([name, value]) => `${name} = ${value}`)
    .join("\n")}\n`;
}

const TOKEN = sshPublicKey(ALICE.seed);
const FILE = sshPublicKey(ALICE.seed, { application: null });
/** Of an entry with an SSH key. */
const SSH = {
  id: '"alice"',
  name: '"alice"',
  public_key_hex: "",
  ssh_public_key: `"${TOKEN}"`,
  role: '"approval"',
};

const SMALL_ORDER = `01${"00".repeat(31)}`;
const BAD_FILES: [what: string, toml: string, env: string, code: ErrorCode, says: string][] = [
  ["not TOML", `${entry()}[[key]`, "", "invalid_config", ".toml: line 6, column 7: "],
  [
    "an unknown field",
    entry({ comment: '"x"' }),
    "",
    "invalid_config",
    ".toml: key, entry 1, comment: unknown key; known keys: id, name,",
  ],
  ["an unknown table", "[other]\n", "", "invalid_config", "other: unknown key; known keys: key"],
  ...['"<owner>"', '"…"', '" <x> "'].map((name): [string, string, string, ErrorCode, string] => [
    `the placeholder ${name}`,
    entry() + entry({ id: '"b"', public_key_hex: `"${ALICE.publicKeyHex}"`, name }),
    "",
    "invalid_config",
    "key, entry 2: ",
  ]),
  ["a placeholder id", entry({ id: '"…"' }), "", "invalid_config", "key, entry 1: "],
  ["an unknown role", entry({ role: '"both"' }), "", "invalid_config", "role"],
  ["no role", entry({ role: "" }), "", "invalid_config", "role: missing"],
  ["revoked as text", entry({ revoked: '"false"' }), "", "invalid_config", "revoked"],
  ["a date without time", entry({ not_after: "2026-01-02" }), "", "invalid_config", "not_after"],
  ["a date without offset", entry({ not_after: "2026-01-02T00:00:00" }), "", "invalid_config", "not_after"],
  ["an invalid date", entry({ not_after: '"2026-13-45T00:00:00Z"' }), "", "invalid_config", "not_after"],
  ...['"2026-02-30T00:00:00Z"', '"2026-01-02T24:00:00Z"', "2026-02-30T00:00:00+02:00"].map(
    (value): [string, string, string, ErrorCode, string] => [
      `the nonexistent day ${value}`,
      entry({ not_after: value }),
      "",
      "invalid_config",
      value.startsWith('"') ? "not_after: not a real date" : "there is no such date",
    ],
  ),
  ["dates in a list", entry({ not_after: '["2026-01-02T00:00:00Z"]' }), "", "invalid_config", "not_after"],
  [
    "revoked and not revoked",
    entry({ revoked: "true\nrevoked = false" }),
    "",
    "invalid_config",
    "used before",
  ],
  [
    "a key named __proto__",
    entry({ "__proto__.revoked": "false" }),
    "",
    "invalid_config",
    "__proto__: unknown key",
  ],
  [
    "no key",
    entry({ public_key_hex: "" }),
    "",
    "invalid_config",
    "entry 1: give public_key_hex or ssh_public_key",
  ],
  [
    "a break-glass key that signs plans",
    entry({ break_glass: "true", role: '"execution"' }),
    "",
    "invalid_config",
    "break_glass is for keys that approve",
  ],
  [
    "a key in both forms",
    entry({ ...SSH, public_key_hex: `"${ALICE.publicKeyHex}"` }),
    "",
    "invalid_config",
    "not both",
  ],
  [
    "an SSH key that signs plans",
    entry({ ...SSH, role: '"execution"' }),
    "",
    "invalid_config",
    "role must be approval",
  ],
  [
    "an SSH key of RSA",
    entry({ ...SSH, ssh_public_key: '"ssh-rsa AAAA"' }),
    "",
    "invalid_key",
    "ssh-rsa is neither",
  ],
  [
    "an SSH key with options",
    entry({ ...SSH, ssh_public_key: `"no-touch-required ${TOKEN}"` }),
    "",
    "invalid_key",
    "not the one line",
  ],
  [
    "a PIN of a key in a file",
    entry({ ...SSH, ssh_public_key: `"${FILE}"`, verify_required: "true" }),
    "",
    "invalid_config",
    "verify_required needs",
  ],
  ["a PIN of our own key", entry({ verify_required: "true" }), "", "invalid_config", "verify_required needs"],
  ["a PIN as text", entry({ ...SSH, verify_required: '"true"' }), "", "invalid_config", "verify_required"],
  [
    "the signer's key as an approver's SSH key",
    entry() + entry({ ...SSH, ssh_public_key: `"${sshPublicKey(SIGNER.seed, { application: null })}"` }),
    "",
    "invalid_config",
    "two keys of two people",
  ],
  [
    "one key in two forms",
    entry(SSH),
    `AEGIS_APPROVAL_PUBLIC_KEY_HEX=${ALICE.publicKeyHex}`,
    "invalid_config",
    "in two forms, once as an SSH key for ssh: and once as public_key_hex",
  ],
  [
    "one key in a security key and in a file",
    entry(SSH) + entry({ ...SSH, id: '"b"', ssh_public_key: `"${FILE}"` }),
    "",
    "invalid_config",
    "in two forms",
  ],
  ["a key of small order", entry({ public_key_hex: `"${SMALL_ORDER}"` }), "", "invalid_key", "small order"],
  ["not a key", entry({ public_key_hex: '"abc"' }), "", "invalid_key", "hex digits"],
  [
    "one key in both roles",
    entry() + entry({ id: '"b"', role: '"approval"' }),
    "",
    "invalid_config",
    "two keys of two people",
  ],
  [
    "one key in both roles, by two files",
    entry(),
    `AEGIS_APPROVAL_PUBLIC_KEY_HEX=${SIGNER.publicKeyHex}`,
    "invalid_config",
    "two keys of two people",
  ],
  [
    "two keys with one id",
    entry() + entry({ public_key_hex: `"${STRANGER.publicKeyHex}"` }),
    "",
    "invalid_config",
    "ops-1",
  ],
  [
    "a key whose id is another's fingerprint",
    entry() + entry({ id: `"${SIGNER.keyId}"`, public_key_hex: `"${STRANGER.publicKeyHex}"` }),
    "",
    "invalid_config",
    SIGNER.keyId,
  ],
  ["one key with two names", entry() + entry({ name: '"eve"' }), "", "invalid_config", "two names"],
  ["an unknown variable", "", "BUN_OPTIONS=--preload=x", "invalid_config", "BUN_OPTIONS"],
  [
    "a small-order key in a variable",
    "",
    `AEGIS_SIGNING_PUBLIC_KEY_HEX=${SMALL_ORDER}`,
    "invalid_key",
    "small order",
  ],
];

describe("refused files", () => {
  for (const [what, toml, env, code, says] of BAD_FILES) {
    test(what, () => refuses(() => load(toml, env), code, says));
  }
  test.if(process.geteuid?.() === 0)("the executor refuses a file that others can replace", async () => {
    // Below a directory that everyone can write, like /tmp.
    await refuses(
      () => loadTrust({ rootOnly: true, files: files(entry()) }),
      "invalid_config",
      "others than root",
    );
  });
  test("text that is not UTF-8: in it two names may look like one", async () => {
    const latin1 = (text: string) => Buffer.from(text, "latin1");
    const named = latin1(entry({ name: '"op\u00ff"' }));
    await refuses(() => load(named), "invalid_config", "is not UTF-8");
    await refuses(() => load("", latin1("# \u00fc\n")), "invalid_config", "is not UTF-8");
  });
  test("the executor follows no symbolic link", async () => {
    const good = files(entry());
    const link = join(directory, "link.toml");
    symlinkSync(good.trustedKeys, link);
    await refuses(
      () => loadTrust({ rootOnly: true, files: { ...good, trustedKeys: link } }),
      "invalid_config",
      "symbolic link",
    );
  });
  needs(process.geteuid?.() !== 0, "a user who is not root: root reads every file").test(
    "an unreadable file doesn't count as absent",
    async () => {
      const closed = files(entry());
      chmodSync(closed.trustedKeys, 0o000);
      await refuses(() => loadTrust({ rootOnly: false, files: closed }), "io");
    },
  );
});

const find = (toml: string, id = "ops-1", env = "") => findKey(load(toml, env), "execution", id, NOW);
const FROM = (date: string) => entry({ not_before: date });
const UNTIL = (date: string) => entry({ not_after: date });
const UNTRUSTED: [what: string, action: () => unknown, says: string][] = [
  ["an unknown id", () => find(entry(), "ops-2"), "unknown here"],
  ["part of an id", () => find(entry(), SIGNER.keyId.slice(0, 8)), "unknown here"],
  ["an approval key", () => find(entry({ role: '"approval"' })), "an approval key"],
  ["a revoked key", () => find(entry({ revoked: "true" })), "revoked"],
  [
    "a key revoked in one file and listed in the other",
    () =>
      find(entry({ revoked: "true" }), SIGNER.keyId, `AEGIS_SIGNING_PUBLIC_KEY_HEX=${SIGNER.publicKeyHex}`),
    "revoked",
  ],
  [
    "a key revoked under another id",
    () => find(entry() + entry({ id: '"old"', revoked: "true" })),
    "revoked",
  ],
  ["a key valid from next year", () => find(FROM("2027-01-01T00:00:00Z")), "not valid before 2027"],
  ["a key expired last year", () => find(UNTIL("2025-12-31T00:00:00Z")), "until 2025"],
  [
    "a key expired according to one of its entries",
    () => find(entry() + UNTIL("2025-12-31T00:00:00Z")),
    "until 2025",
  ],
  ["another signer's name", () => checkSigner(find(entry()), "eve"), "ops's"],
];

describe("untrusted keys", () => {
  for (const [what, action, says] of UNTRUSTED) test(what, () => refuses(action, "key_untrusted", says));
});

describe("trusted keys", () => {
  test("by id and by fingerprint, with dates and offsets", () => {
    const toml = FROM("2026-01-02T04:00:00+02:00") + UNTIL('"2026-01-03T00:00:00Z"');
    expect(find(toml)).toMatchObject({ publicKeyHex: SIGNER.publicKeyHex, name: "ops" });
    expect(find(toml, SIGNER.keyId).ids).toContain("ops-1");
    checkSigner(find(toml), "ops");
  });
  test("bare keys from variables, with any separator; any signer name", () => {
    const env = `AEGIS_APPROVAL_PUBLIC_KEY_HEX="${ALICE.publicKeyHex},${BOB.publicKeyHex.toUpperCase()}; ${STRANGER.publicKeyHex}"`;
    const trust = load("", env);
    for (const { keyId } of [ALICE, BOB, STRANGER]) {
      checkSigner(findKey(trust, "approval", keyId, NOW), "anyone");
    }
  });
  test("no files, no keys", () => expect(loadTrust({ rootOnly: true, files: NOWHERE })).toEqual([]));
});

describe("userTrust", () => {
  const host = files(
    entry() +
      entry({ id: '"b"', name: '"bob"', public_key_hex: `"${BOB.publicKeyHex}"`, role: '"approval"' }),
  );
  const none: BareKeys = { execution: [], approval: [] };
  const keys = (flags: Partial<BareKeys>, env = {}) =>
    userTrust({ ...none, ...flags }, env, host).map((key) => key.publicKeyHex);

  test("the host's keys without flags", () => {
    expect(keys({})).toEqual([SIGNER.publicKeyHex, BOB.publicKeyHex]);
  });
  test("only a role's given keys, by flag or variable", () => {
    const flags = { execution: [STRANGER.publicKeyHex] };
    expect(keys(flags)).toEqual([BOB.publicKeyHex, STRANGER.publicKeyHex]);
    expect(keys({}, { AEGIS_SIGNING_PUBLIC_KEY_HEX: STRANGER.publicKeyHex })).toEqual(keys(flags));
  });
  test("a key revoked by the host stays revoked when given by flag", () => {
    const revoking = files(entry({ revoked: "true" }));
    const trust = userTrust({ execution: [SIGNER.publicKeyHex], approval: [] }, {}, revoking);
    expect(() => findKey(trust, "execution", SIGNER.keyId, NOW)).toThrow("revoked");
  });
  test("the caller's key gets the id it signs with, but not another key's id", async () => {
    const trust = userTrust(none, {}, host);
    const own = { ...STRANGER, keyId: "mine" };
    expect(findKey(withOwnKey(trust, "execution", own), "execution", "mine", NOW).publicKeyHex).toBe(
      own.publicKeyHex,
    );
    await refuses(
      () => withOwnKey(trust, "execution", { ...STRANGER, keyId: "ops-1" }),
      "invalid_key",
      "ops-1",
    );
  });
});

describe("a signature by a key given in hex", () => {
  const signedAs = (id: string, key = SIGNER) => signDocument({ text: "x" }, key.seed, id);
  const given = (key = SIGNER): BareKeys => ({ execution: [key.publicKeyHex], approval: [] });
  const byHand = (toml: string, bare: BareKeys, env = "") =>
    loadTrust({ rootOnly: false, bare, files: files(toml, env) });
  const findIn = (trust: ReturnType<typeof load>, id: string, key = SIGNER) =>
    findSigner(trust, "execution", signedAs(id, key), NOW);
  const enrolledStranger = entry({ public_key_hex: `"${STRANGER.publicKeyHex}"` });

  const REFUSED: [what: string, action: () => unknown, code: ErrorCode, says: string][] = [
    [
      "by another key",
      () => findIn(byHand("", given(STRANGER)), "exec-1"),
      "key_untrusted",
      "no key given in hex",
    ],
    [
      "nothing given",
      () => findIn(byHand("", { execution: [], approval: [] }), "x"),
      "key_untrusted",
      "known",
    ],
    [
      "by the given key, under any id, revoked in a file",
      () => findIn(byHand(entry({ revoked: "true" }), given()), "exec-1"),
      "key_untrusted",
      "revoked",
    ],
    [
      "by the given key, expired in a file",
      () => findIn(byHand(UNTIL("2025-12-31T00:00:00Z"), given()), "exec-1"),
      "key_untrusted",
      "until 2025",
    ],
    [
      "by an enrolled key under another id",
      () => findIn(byHand(entry(), given(STRANGER)), "exec-1"),
      "key_untrusted",
      "no key given in hex",
    ],
    [
      "by a key from aegisd.env under any id",
      () => findIn(load("", `AEGIS_SIGNING_PUBLIC_KEY_HEX=${SIGNER.publicKeyHex}`), "exec-1"),
      "key_untrusted",
      "unknown here",
    ],
    [
      "by a key given only for approving",
      () => findIn(byHand("", { execution: [], approval: [SIGNER.publicKeyHex] }), SIGNER.keyId),
      "key_untrusted",
      "an approval key",
    ],
    [
      "under a name other than in the host's file",
      () => checkSigner(findIn(byHand(entry(), given()), "exec-1"), "eve"),
      "key_untrusted",
      "ops's",
    ],
  ];
  for (const [what, action, code, says] of REFUSED) test(what, () => refuses(action, code, says));

  test("is that key's, whatever id the signature names", () => {
    for (const toml of ["", entry(), enrolledStranger]) {
      for (const id of ["exec-1", "ops-1", SIGNER.keyId, STRANGER.keyId]) {
        expect(findIn(byHand(toml, given()), id).publicKeyHex).toBe(SIGNER.publicKeyHex);
      }
    }
  });
  test("is logged under the claimed id only if the key has that id", () => {
    expect(keyName(findIn(byHand(entry(), given()), "ops-1"), "ops-1")).toBe("ops-1");
    expect(keyName(findIn(byHand(enrolledStranger, given()), "ops-1"), "ops-1")).toBe(SIGNER.keyId);
  });
  test("sign --key-id warns if the host knows the key by another id", () => {
    const notes = (toml: string, keyId: string) => {
      const lines: string[] = [];
      noteOtherId({ ...SIGNER, keyId }, "--key-id", (line) => lines.push(line), load(toml));
      return lines.join();
    };
    expect(notes(entry(), "exec-1")).toEndWith("will refuse it as exec-1. Sign with --key-id ops-1.");
    for (const id of ["ops-1", SIGNER.keyId]) expect(notes(entry(), id)).toBe("");
    expect(notes("", "exec-1")).toBe("");
  });
});

const LINES: [line: string, value: string | null][] = [
  ["AEGIS_LOG=debug", "debug"],
  ["  AEGIS_LOG=debug  ", "debug"],
  ['AEGIS_LOG="a b"', "a b"],
  ["AEGIS_LOG='a b'", "a b"],
  ["AEGIS_LOG=", ""],
  ["# AEGIS_LOG=debug\n;x\n\nAEGIS_LOG=info", "info"],
  ["export AEGIS_LOG=debug", null],
  ["AEGIS_LOG", null],
  ['AEGIS_LOG="a', null],
  ['AEGIS_LOG=a"b"', null],
  ["AEGIS_LOG=a\\", null],
  ["aegis_log=a", null],
  ["AEGIS_LOG=a\nAEGIS_LOG=b", null],
];

describe("environment files", () => {
  for (const [line, value] of LINES) {
    test(`${JSON.stringify(line)}: ${value ?? "refused"}`, async () => {
      if (value === null) await refuses(() => parseEnvironmentFile(line, "f"), "invalid_config", "f, line");
      else expect(parseEnvironmentFile(line, "f").get("AEGIS_LOG")).toBe(value);
    });
  }
});

describe("SSH keys", () => {
  test("are known by ssh-keygen's fingerprint, by ours and by their id; restrictions add up", () => {
    const [key] = load(
      entry({ ...SSH, ssh_public_key: `"${TOKEN} alice@laptop"`, verify_required: "true" }) + entry(SSH),
    );
    expect(key?.ids).toEqual([expect.stringMatching(/^SHA256:/), ALICE.keyId, "alice"]);
    expect(key).toMatchObject({ publicKeyHex: ALICE.publicKeyHex, role: "approval", name: "alice" });
    expect(key?.ssh).toMatchObject({ application: "ssh:", verifyRequired: true });
  });
  test("a flag and a file name the same key", () => {
    const trust = userTrust({ execution: [], approval: [TOKEN] }, {}, files(entry() + entry(SSH)));
    expect(trust.map(({ name, given }) => [name, given])).toEqual([
      ["ops", false],
      ["alice", true],
    ]);
  });
  test("one's own key is added in its form", () => {
    const own = { publicKeyHex: ALICE.publicKeyHex, keyId: "mine", sshLine: TOKEN };
    expect(withOwnKey([], "approval", own)[0]?.ssh?.application).toBe("ssh:");
  });
});
