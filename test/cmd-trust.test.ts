import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NewAuditEvent } from "../src/audit-event.ts";
import { canonicalJson, sha256Hex } from "../src/canonical.ts";
import { parseArgs } from "../src/cmd-args.ts";
import { signTrust, type TrustHost, trust } from "../src/cmd-trust.ts";
import { type KeyUse, openUses } from "../src/cmd-trust-uses.ts";
import type { Io } from "../src/command.ts";
import { trustFindings } from "../src/doctor-trust.ts";
import { AegisError, type ErrorCode } from "../src/errors.ts";
import { generateKey } from "../src/key-file.ts";
import { parseSshKey } from "../src/key-sshsig.ts";
import { loadTrust } from "../src/key-trust.ts";
import { entryText } from "../src/key-trust-text.ts";
import { keyState, parseTrustedKeys } from "../src/key-trusted-keys.ts";
import { install } from "./policy-plans.ts";
import { ALICE, approvalOf, BOB, execution, minutesFrom, refuses, SIGNER } from "./signing-kit.ts";
import { sshPublicKey } from "./ssh-token.ts";

const NOW = new Date("2026-11-30T12:00:00.500Z");
const root = mkdtempSync(join(tmpdir(), "aegis-trust-"));
afterAll(() => rmSync(root, { recursive: true }));

const FILE = `# Ask alice first.
[[key]]
id = "ops-1"
name = "ops@example"
public_key_hex = "${SIGNER.publicKeyHex}"
role = "execution"

[[key]]
id = "${ALICE.keyId}"
name = "alice@example"   # the one in the safe
public_key_hex = "${ALICE.publicKeyHex}"
role = "approval"
`;
const NEW = generateKey();
const TOKEN = `${sshPublicKey(BOB.seed)} bob's "security" key`;
const IN_FILE = sshPublicKey(BOB.seed, { application: null });
const entry = (name: string, role: "execution" | "approval", key = NEW) => entryText({ ...key, name, role });

let files = { trustedKeys: "", daemonEnv: "" };
let events: NewAuditEvent[] = [];
let uses: KeyUse[] = [];
let fails: { at: number; code: ErrorCode } | null = null;
beforeEach(() => {
  const etc = mkdtempSync(join(root, "etc-"));
  files = { trustedKeys: join(etc, "trusted-keys.toml"), daemonEnv: join(etc, "aegisd.env") };
  writeFileSync(files.trustedKeys, FILE, { mode: 0o640 });
  [events, uses, fails] = [[], [], null];
});

const host = (): TrustHost => ({
  files,
  lock: join(root, "lock"),
  prepare: () => {},
  isRoot: true,
  rootOnly: false,
  now: () => NOW,
  record(event) {
    if (fails?.at === events.length) throw new AegisError(fails.code, "played");
    events.push(event);
  },
  uses: async () => ({ uses, unknown: [] }),
});

async function run(words: readonly string[], stdin = "", change: Partial<TrustHost> = {}) {
  const ran = { json: {} as Record<string, unknown>, text: "" };
  const io: Io = {
    env: {},
    json: false,
    terminal: { interactive: false, colour: false, width: 80 },
    readStdin: async () => stdin,
    result: (json, text) => Object.assign(ran, { json: JSON.parse(JSON.stringify(json)), text }),
    note: () => {},
  };
  await trust(parseArgs("sign trust", signTrust.args, words).values, io, { ...host(), ...change });
  return ran;
}
const text = () => readFileSync(files.trustedKeys, "utf8");
const trusted = () => loadTrust({ rootOnly: false, files });

describe("refused, with nothing written and nothing logged", () => {
  test.each<[string, string, ErrorCode, string]>([
    ["erase ops-1", "", "usage", "list, add, revoke"],
    ["list ops-1", "", "usage", "takes nothing else"],
    ["add", "", "usage", "add takes <entry file>"],
    ["add - more", "", "usage", "add takes"],
    ["add /nonexistent", "", "not_found", ""],
    ["add -", "", "usage", "not one entry"],
    ["add - --until 2027-01-01", entry("bob", "approval"), "usage", "takes no --until"],
    ["revoke ops-1", "", "usage", "needs a reason"],
    ["revoke ops --reason x", "", "not_found", "no key with the id ops"],
    ["revoke ops-1 --reason a\nrevoked=false", "", "usage", "printable"],
    ["revoke constructor --reason x", "", "not_found", "no key"],
    ["rotate ops-1", "", "usage", "rotate takes <id> <entry file>"],
    ["rotate ops-1 - --until 2026-11-29", entry("ops@example", "execution"), "usage", "is past"],
    ["rotate ops-1 - --until 2027-02-30", entry("ops@example", "execution"), "usage", "takes a date"],
    ["rotate ops-1 - --until tomorrow", entry("ops@example", "execution"), "usage", "takes a date"],
    ["rotate ops-1 -", entry("eve@example", "execution"), "usage", "neither owner nor role"],
    ["rotate ops-1 -", entry("ops@example", "approval"), "usage", "neither owner nor role"],
    [
      "add -",
      entryText({ ...NEW, key_id: ALICE.keyId, name: "bob", role: "approval" }),
      "exists",
      "is trusted already",
    ],
    [
      "add -",
      entryText({ ...NEW, public_key_hex: ALICE.publicKeyHex, name: "bob", role: "approval" }),
      "exists",
      "trusted",
    ],
    [
      "add -",
      entryText({ ...NEW, public_key_hex: SIGNER.publicKeyHex, name: "ops", role: "approval" }),
      "exists",
      "trusted",
    ],
    ["expire alice", "", "not_found", "no key"],
    ["add -", `${TOKEN}\n`, "usage", "doesn't say whose it is"],
    ["add - --name", `${TOKEN}\n`, "usage", "--name needs a value"],
    ["add - --verify-required", `${TOKEN}\n`, "usage", "are for an OpenSSH key"],
    ["add - --name <owner>", TOKEN, "invalid_config", "placeholder"],
    ["add - --name bob", `${TOKEN}\n${TOKEN}`, "invalid_key", "not the one line"],
    ["add - --name bob", "ssh-rsa AAAA", "invalid_key", "neither ssh-ed25519 nor"],
    ["add - --name bob --verify-required", IN_FILE, "invalid_config", "verify_required needs"],
    ["add - --name ops@example", sshPublicKey(SIGNER.seed), "exists", "is trusted already"],
    ["add - --name bob", entry("bob", "approval"), "invalid_key", "not the one line"],
    ["list --name bob", "", "usage", "takes nothing else"],
    ["expire ops-1 --name bob", "", "usage", "are for an OpenSSH key"],
  ])("%s", async (words, stdin, code, why) => {
    const argv = words.split(/ (?=[^\n]*)/);
    await refuses(() => run(argv, stdin), code, why);
    expect([text(), events]).toEqual([FILE, []]);
  });
  test("by anybody but root; listing is for everybody", async () => {
    const hint = await refuses(
      () => run(["add", "-"], entry("bob", "approval"), { isRoot: false }),
      "refused",
      "only root",
    );
    expect(hint).toContain("sign trust list");
    expect((await run(["list"], "", { isRoot: false })).text).toContain("ops@example");
    expect(text()).toBe(FILE);
  });
  test("a key that is also in aegisd.env, in the other role", async () => {
    writeFileSync(files.daemonEnv, `AEGIS_SIGNING_PUBLIC_KEY_HEX=${NEW.public_key_hex}\n`);
    await refuses(
      () => run(["add", "-"], entry("bob", "approval")),
      "invalid_config",
      "both to sign and to approve",
    );
    expect([text(), events]).toEqual([FILE, []]);
  });
  test("a revoked key, again or for another change", async () => {
    await run(["revoke", "ops-1", "--reason", "lost"]);
    const after = text();
    await refuses(() => run(["revoke", "ops-1", "--reason", "again"]), "refused", "already");
    await refuses(() => run(["expire", "ops-1", "--until", "2030-01-01"]), "refused", "already");
    const again = entryText({
      ...NEW,
      public_key_hex: SIGNER.publicKeyHex,
      key_id: "new",
      name: "ops",
      role: "execution",
    });
    await refuses(() => run(["add", "-"], again), "exists", "never comes back");
    expect(text()).toBe(after);
  });
  test("a log that can't be written", async () => {
    fails = { at: 0, code: "io" };
    await refuses(() => run(["revoke", "ops-1", "--reason", "lost"]), "io", "played");
    expect(text()).toBe(FILE);
  });
});

describe("a change", () => {
  test("add: the entry at the end, the rest as it was, and an event", async () => {
    const ran = await run(["add", "-"], entry("bob@example", "approval"));
    expect(text()).toBe(`${FILE}\n${entry("bob@example", "approval")}`);
    expect(statSync(files.trustedKeys).mode & 0o777).toBe(0o640);
    expect(ran.text).toContain(`Trusted: approval key ${NEW.key_id} of bob@example`);
    expect(events).toEqual([
      {
        kind: "trust_changed",
        actor: "root",
        details: expect.objectContaining({
          message: `added: approval key ${NEW.key_id} of bob@example`,
          change: "add",
          added: {
            id: NEW.key_id,
            name: "bob@example",
            role: "approval",
            public_key_hex: NEW.public_key_hex,
          },
          trusted_keys_sha256_before: sha256Hex(FILE),
          trusted_keys_sha256: sha256Hex(text()),
        }),
      },
    ]);
  });
  test("add: an approver's OpenSSH key, by ssh-keygen's .pub file", async () => {
    const { json, text: said } = await run(
      ["add", "-", "--name", "bob@example", "--verify-required"],
      `${TOKEN}\n`,
    );
    const id = parseSshKey(TOKEN).fingerprint;
    expect(text()).toBe(
      `${FILE}\n[[key]]\nid = "${id}"\nname = "bob@example"\nssh_public_key = ${JSON.stringify(TOKEN)}\nrole = "approval"\nverify_required = true\n`,
    );
    expect(said).toContain(`Trusted: approval key ${id} of bob@example`);
    expect(json.added).toMatchObject({ ssh: { in_security_key: true, verify_required: true } });
    expect(trusted().at(-1)).toMatchObject({
      name: "bob@example",
      role: "approval",
      publicKeyHex: BOB.publicKeyHex,
    });
    expect((await run(["list"])).text).toContain("approval, security key, PIN");
    await run(["revoke", id, "--reason", "lost it"]);
    expect(trusted().at(-1)).toMatchObject({ revoked: true });
  });
  test("add where there is no file yet", async () => {
    rmSync(files.trustedKeys);
    const ran = await run(["add", "-"], entry("ops", "execution"));
    expect(text()).toBe(entry("ops", "execution"));
    expect(statSync(files.trustedKeys).mode & 0o777).toBe(0o644);
    expect(ran.text).toContain("No approval key is good now");
    expect(ran.text).toContain("daemon install");
  });
  test("revoke: at once, with the reason beside it, and what it ends", async () => {
    uses = [
      { what: "request", id: "7", key_ids: [ALICE.keyId], until: "2026-12-01T00:00:00.000Z" },
      { what: "execution plan", id: "x", key_ids: ["ops-1"], until: "2026-12-01T00:00:00.000Z" },
    ];
    const ran = await run(["revoke", ALICE.keyId, "--reason", "laptop lost"]);
    expect(text()).toBe(`${FILE}revoked = true  # 2026-11-30: laptop lost\n`);
    expect(trusted().map((key) => keyState(key, NOW))).toEqual(["valid", "revoked"]);
    expect(ran.json.ends).toEqual([uses[0]]);
    expect(ran.text).toContain("Ends with it: request 7, until 2026-12-01 00:00Z");
    expect(ran.text).toContain("No approval key is good now");
    expect(events[0]?.details).toMatchObject({
      change: "revoke",
      reason: "laptop lost",
      key: { name: "alice@example" },
    });
  });
  test("rotate: both are good until the old one's day, and only what outlives it ends", async () => {
    uses = [
      { what: "execution plan", id: "short", key_ids: ["ops-1"], until: "2026-12-01T00:00:00.000Z" },
      { what: "execution plan", id: "long", key_ids: ["ops-1"], until: "2026-12-09T00:00:00.000Z" },
    ];
    const ran = await run(["rotate", "ops-1", "-"], entry("ops@example", "execution"));
    expect(trusted().map(({ name, notAfter }) => [name, notAfter?.toISOString()])).toEqual([
      ["ops@example", "2026-12-07T12:00:00.000Z"],
      ["alice@example", undefined],
      ["ops@example", undefined],
    ]);
    expect(ran.json.ends).toEqual([uses[1]]);
    expect(trustFindings(trusted(), NOW).map(({ level }) => level)).toEqual(["ok"]);
  });
  test("rotate doesn't prolong a key that ends sooner", async () => {
    await run(["expire", "ops-1", "--until", "2026-12-01"]);
    await run(["rotate", "ops-1", "-", "--until", "2027-12-01"], entry("ops@example", "execution"));
    expect(trusted()[0]?.notAfter?.toISOString()).toBe("2026-12-01T23:59:59.000Z");
  });
  test("expire: now, or on a day; a later day prolongs", async () => {
    await run(["expire", "ops-1"]);
    expect(trusted()[0]?.notAfter?.toISOString()).toBe("2026-11-30T12:00:00.000Z");
    await run(["expire", "ops-1", "--until", "2027-01-31", "--reason", "the year's end"]);
    expect(text()).toContain("not_after = 2027-01-31T23:59:59Z  # 2026-11-30: the year's end\n");
  });
  test("a file that can't be replaced: the log says that the change failed", async () => {
    const directory = join(files.trustedKeys, "..");
    const moved: TrustHost = {
      ...host(),
      record: (event) => {
        events.push(event);
        if (events.length === 1) rmSync(directory, { recursive: true });
      },
    };
    await refuses(() => run(["revoke", "ops-1", "--reason", "x"], "", moved), "io", "can't write");
    expect(events.map(({ decision }) => decision)).toEqual([undefined, "failed"]);
    mkdirSync(directory);
  });
  test("many at once: each is kept", async () => {
    const keys = Array.from({ length: 8 }, generateKey);
    await Promise.all(keys.map((key, n) => run(["add", "-"], entry(`p${n}`, "approval", key))));
    expect(parseTrustedKeys(text(), "x")).toHaveLength(10);
    expect(readdirSync(join(files.trustedKeys, ".."))).toEqual(["trusted-keys.toml"]);
  });
});

test("a break-glass key is trusted as one, and shown as one", async () => {
  await run(["add", "-"], entryText({ ...NEW, name: "glass", role: "approval", break_glass: true }));
  expect(trusted().map(({ breakGlass }) => breakGlass)).toEqual([false, false, true]);
  expect((await run([])).text).toContain("approval, break-glass");
  expect(events[0]?.details).toMatchObject({ added: { name: "glass", break_glass: true } });
});

test("list: each key, how it stands, and what rests on it", async () => {
  await run(["expire", "ops-1", "--until", "2026-12-10"]);
  uses = [{ what: "approval", id: "a1", key_ids: [ALICE.keyId], until: "2026-11-30T13:00:00.000Z" }];
  const ran = await run([]);
  expect(ran.json.keys).toMatchObject([
    { id: "ops-1", state: "expiring", not_after: "2026-12-10T23:59:59.000Z", uses: [] },
    { id: ALICE.keyId, state: "valid", uses },
  ]);
  expect(ran.text.split("\n").map((line) => line.trim().split(/ {2,}/))).toEqual([
    ["ID", "NAME", "ROLE", "STATE", "GOOD UNTIL"],
    ["ops-1", "ops@example", "execution", "expiring", "2026-12-10 23:59Z"],
    [ALICE.keyId, "alice@example", "approval", "valid", "–"],
    ["approval a1, until 2026-11-30 13:00Z"],
  ]);
});

describe("keys that need a successor", () => {
  const warnings = async (...changes: string[][]) => {
    for (const words of changes) await run(words, entry("ops@example", "execution"));
    return trustFindings(trusted(), NOW).flatMap(({ level, message }) => (level === "ok" ? [] : [message]));
  };
  test.each<[string, string[][], string[]]>([
    ["none", [], []],
    ["in 31 days", [["expire", "ops-1", "--until", "2026-12-31"]], []],
    [
      "in 29 days",
      [["expire", "ops-1", "--until", "2026-12-29"]],
      ["the execution key ops-1 of ops@example expires on 2026-12-29"],
    ],
    ["with a successor", [["rotate", "ops-1", "-"]], []],
    [
      "with a successor that is revoked",
      [
        ["rotate", "ops-1", "-"],
        ["revoke", NEW.key_id, "--reason", "x"],
      ],
      ["the execution key ops-1 of ops@example expires on 2026-12-07"],
    ],
    [
      "past",
      [["expire", "ops-1", "--until", "2026-11-29"]],
      ["1 approval key", "the execution key ops-1 of ops@example expired on 2026-11-29"],
    ],
    [
      "past, and revoked",
      [
        ["expire", "ops-1", "--until", "2026-11-29"],
        ["revoke", "ops-1", "--reason", "gone"],
      ],
      ["1 approval key"],
    ],
  ])("%s", async (_, changes, expected) => {
    const found = await warnings(...changes);
    expect(
      found.map((text) => text.replace(/^0 execution keys and (1 approval key) trusted$/, "$1")),
    ).toEqual(expected);
  });
});

test("what rests on a key is read from the stores of this host's people", async () => {
  const home = mkdtempSync(join(root, "home-"));
  const store = join(home, ".local/share/aegis");
  const now = minutesFrom(new Date(), 0);
  const plan = install({ created_at: now.toISOString() });
  const approval = approvalOf(plan, { now, minutes: 60 });
  for (const name of ["executions", "approvals"]) mkdirSync(join(store, name), { recursive: true });
  writeFileSync(join(store, "approvals/a.json"), canonicalJson(approval));
  writeFileSync(
    join(store, "approvals/b.json"),
    canonicalJson(approvalOf(plan, { now: minutesFrom(now, -70), minutes: 60 })),
  );
  writeFileSync(join(store, "approvals/c.json"), "{");
  writeFileSync(join(store, "executions/x.json"), canonicalJson(await execution()));
  const passwd = `root:x:0:0:root:/nonexistent:/bin/sh\nx:x:1000:1000::${home}:/bin/sh\nsys:x:5:5::${home}:/bin/sh\n`;
  const found = await openUses({ HOME: "/nonexistent" }, now, passwd);
  expect(found.uses).toEqual([
    {
      what: "approval",
      id: "approval_id" in approval ? approval.approval_id : "",
      key_ids: [ALICE.keyId],
      until: approval.expires_at,
    },
  ]);
  expect(found.unknown).toEqual([expect.stringMatching(/^requests: /)]);
});
