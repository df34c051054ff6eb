import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Chain, startChain } from "./e2e-kit.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

const AEGIS = "/usr/local/bin/aegis";

describeOnThrowaway("the founding documents' commands, on a host that has no key enrolled", () => {
  let chain: Chain;
  const run = async (words: readonly string[], env: Record<string, string> = {}) => {
    const { status, stdout, stderr } = await chain.host.exec([AEGIS, ...words, "--json"], { env });
    return { status, stderr, json: JSON.parse(stdout) };
  };
  beforeAll(async () => {
    chain = await startChain();
    await chain.host.exec(["rm", "/etc/aegis/trusted-keys.toml"]);
    await chain.host.repo.publish(pick("hello-aegis=1.0"));
    await chain.host.aptUpdate();
  });
  afterAll(() => chain.stop());

  test("keygen, plan, policy, sign --key-id, verify, a daemon started with the key in hex, apply", async () => {
    const [signer, approver] = [(await run(["keygen"])).json, (await run(["keygen"])).json];
    const { json: planned } = await run(["apt", "install", "hello-aegis", "--plan"]);
    const { json: decided } = await run(["policy", planned.path]);
    const signed = await run(
      [
        ...["sign", "--plan", planned.path, "--policy", decided.path, "--key-id", "exec-1", "--signer", "me"],
        ...["--approval-reason", "needed", "--approval-key-id", "appr-1"],
        ...["--approval-secret-key-hex", approver.secret_key_hex],
      ],
      { AEGIS_SIGNING_SECRET_KEY_HEX: signer.secret_key_hex },
    );
    const keys = ["--public-key-hex", signer.public_key_hex];
    keys.push("--approval-public-key-hex", approver.public_key_hex);
    const given = ["--execution-plan", signed.json.path, ...keys];
    expect((await run(["verify", ...given])).json).toMatchObject({ verified: true, signer: "me" });

    const daemon = await chain.host.spawn([AEGIS, "daemon", "--executor", ...keys]);
    while (!existsSync(chain.host.path("/run/aegis/aegisd.sock"))) await Bun.sleep(50);
    const applied = await run(["apply", ...given]);
    daemon.kill();
    expect(applied.json).toMatchObject({ ok: true, state: "completed" });
    // The log calls the key what it is, and not what the signer called it.
    expect(chain.audit()[0]).toMatchObject({
      kind: "execution_started",
      actor: `me (key ${signer.key_id})`,
      details: {
        signed_by: { name: "me", key_id: signer.key_id },
        approved_by: [{ key_id: approver.key_id }],
      },
    });
  });
});

describeOnThrowaway("root with another user's HOME (S5)", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    await chain.host.repo.publish(pick("hello-aegis=1.0"));
    await chain.host.aptUpdate();
  });
  afterAll(() => chain.stop());
  const plan = (env: Record<string, string>) =>
    chain.host.exec([AEGIS, "plan", "apt", "install", "hello-aegis"], { env });

  test("refused before anything is run or written, with the way out", async () => {
    const before = (await chain.host.exec(["find", "/home/alice"])).stdout;
    const { status, stderr } = await plan({ HOME: "/home/alice" });
    expect(status).toBe(6);
    expect(stderr).toContain(
      "root can't use /home/alice/.cache/aegis/tmp: /home/alice belongs to another user",
    );
    expect(stderr).toContain("sudo -H");
    expect((await chain.host.exec(["find", "/home/alice"])).stdout).toBe(before);
  });
  test("as sudo -H gives it, planned", async () => {
    expect((await plan({ HOME: "/root" })).status).toBe(0);
  });
  test("alice herself, planned", async () => {
    const { status } = await chain.aegis(["plan", "apt", "install", "hello-aegis"], { user: "alice" });
    expect(status).toBe(0);
  });
});
