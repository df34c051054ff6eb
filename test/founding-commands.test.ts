import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalHash } from "../src/canonical.ts";
import { saveDocument } from "../src/doc-store.ts";
import { evaluate } from "../src/policy.ts";
import { loadPolicyConfig } from "../src/policy-config.ts";
import { PROGRAMS, start } from "./kit.ts";
import { install } from "./policy-plans.ts";

/*
 * The commands of the founding documents, word for word: keys made with `keygen` and given in hex, ids and names as
 * people come up with them, on a machine that has nothing enrolled.
 */

const home = mkdtempSync(join(tmpdir(), "aegis-founding-"));
afterAll(() => rmSync(home, { recursive: true }));
const env = { HOME: home, PATH: "/usr/bin:/bin" };

async function aegis(words: readonly string[], variables: Record<string, string> = {}) {
  const ended = await start([...PROGRAMS.sources, ...words, "--json"], {
    env: { ...env, ...variables },
    cwd: home,
  });
  return { ...ended, json: JSON.parse(ended.stdout) };
}

interface Key {
  secret_key_hex: string;
  public_key_hex: string;
}
let signer: Key;
let approver: Key;
let stranger: Key;
let execution = "";

beforeAll(async () => {
  const keys = await Promise.all([1, 2, 3].map(() => aegis(["keygen"])));
  [signer, approver, stranger] = keys.map(({ json }) => json) as [Key, Key, Key];
  const plan = install({ created_at: new Date().toISOString() });
  const { config, hash } = loadPolicyConfig(env);
  const policy = evaluate({ plan, planHash: canonicalHash(plan), config, configHash: hash });
  const files = ["--plan", saveDocument("plan", plan, env), "--policy", saveDocument("policy", policy, env)];
  const words = ["sign", ...files, "--key-id", "exec-1", "--signer", "me", "--approval-reason", "needed"];
  const approval = ["--approval-key-id", "appr-1", "--approval-secret-key-hex", approver.secret_key_hex];
  const signed = await aegis([...words, ...approval], {
    AEGIS_SIGNING_SECRET_KEY_HEX: signer.secret_key_hex,
  });
  expect(signed.stderr).not.toContain("error");
  execution = signed.json.path;
});

describe("aegis verify --execution-plan", () => {
  const verify = (execution_key: Key, approval_key: Key, variables = {}) =>
    aegis(
      [
        ...["verify", "--execution-plan", execution, "--public-key-hex", execution_key.public_key_hex],
        ...["--approval-public-key-hex", approval_key.public_key_hex],
      ],
      variables,
    );

  test("another key than the signer's", async () => {
    const { json, status } = await verify(stranger, approver);
    expect(json.error).toMatchObject({ code: "key_untrusted" });
    expect(json.error.message).toContain(
      "execution key exec-1 is not trusted: it is unknown here, and no key given in hex made",
    );
    expect(status).toBe(6);
  });
  test("another key than the approver's", async () => {
    const { json, status } = await verify(signer, stranger);
    expect(json.error).toMatchObject({ code: "approval_invalid" });
    expect(status).toBe(6);
  });
  test("the signer's and the approver's keys, whatever ids and names they go by", async () => {
    const { json, status } = await verify(signer, approver);
    expect(json).toMatchObject({ verified: true, signer: "me" });
    expect(status).toBe(0);
  });
  test("the same keys in the variables", async () => {
    const { json } = await aegis(["verify", "--execution-plan", execution], {
      AEGIS_SIGNING_PUBLIC_KEY_HEX: signer.public_key_hex,
      AEGIS_APPROVAL_PUBLIC_KEY_HEX: approver.public_key_hex,
    });
    expect(json).toMatchObject({ verified: true });
  });
});

describe("aegis apply --execution-plan", () => {
  const apply = ({ public_key_hex }: Key) =>
    aegis([
      ...["apply", "--execution-plan", execution, "--public-key-hex", public_key_hex],
      ...["--socket", join(home, "nobody.sock")],
    ]);

  test("another key than the signer's: nothing is submitted", async () => {
    expect((await apply(stranger)).json.error).toMatchObject({ code: "key_untrusted" });
  });
  test("the signer's key: it gets as far as the socket", async () => {
    expect((await apply(signer)).json.error).toMatchObject({ code: "unavailable" });
  });
});
