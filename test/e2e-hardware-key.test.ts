import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import type { Approval, ExecutionPlan } from "../src/doc.ts";
import { AegisError } from "../src/errors.ts";
import { callExecutor } from "../src/front-client.ts";
import { signDocument } from "../src/key-sign.ts";
import { dearmorSshSignature, parseSshKey } from "../src/key-sshsig.ts";
import { type Handover, startHandover } from "./handover-kit.ts";
import { softwareTokens } from "./sk-dummy.ts";
import type { Running } from "./throwaway.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * What an agent, or malware, in the approver's own account can do: with a software key everything that she can, with a security
 * key nothing that needs her finger. The agent here is a program that works as alice: it reads her files, drives a
 * pseudo-terminal, uses her ssh-agent, and asks her security key for signatures. The key is OpenSSH's own in software: one
 * provider signs as if touched, the other waits for a touch in vain.
 */

const TOUCHED = "/usr/local/lib/sk-touched.so";
const UNTOUCHED = "/usr/local/lib/sk-untouched.so";
const SSH = "/home/alice/.ssh";

const tokens = softwareTokens();
if (tokens === null) process.stderr.write("\nSKIPPED for want of gcc and Debian's source of openssh\n\n");

describeOnThrowaway("an agent in the approver's own account", () => {
  let people: Handover;
  let daemon: Running;
  beforeAll(async () => {
    people = await startHandover();
    await people.host.repo.publish(pick("hello-aegis=1.0"));
    await people.host.aptUpdate();
    daemon = await people.startDaemon();
    if (tokens === null) return;
    people.host.write(TOUCHED, readFileSync(tokens.touched), 0o755);
    people.host.write(UNTOUCHED, readFileSync(tokens.untouched), 0o755);
    await asAlice(["mkdir", "-p", "-m", "700", SSH]);
    await asAlice([
      "rm",
      "-f",
      ...["soft", "hard", "pin", "silent"].flatMap((name) => [`${SSH}/${name}`, `${SSH}/${name}.pub`]),
    ]);
    await makeKey("soft", "ed25519");
    await makeKey("hard", "ed25519-sk");
    await makeKey("pin", "ed25519-sk", "-O", "verify-required");
    // A token signs without a touch for whoever asks it to, and says so in the signature.
    await asAlice(["cp", `${SSH}/hard.pub`, `${SSH}/silent.pub`]);
    people.host.write(`${SSH}/silent`, silentOf(people.host.read(`${SSH}/hard`)), 0o600);
    await people.host.exec(["chown", "alice:", `${SSH}/silent`]);
  });
  afterAll(async () => {
    await people.host.stop();
    await daemon.exited;
  });

  const asAlice = async (argv: readonly string[], env: Record<string, string> = {}, stdin = "") => {
    const done = await people.host.exec(argv, { user: "alice", env, stdin });
    if (done.status !== 0) throw new Error(`${argv.join(" ")}: ${done.stderr}`);
    return done.stdout;
  };
  const makeKey = (name: string, type: string, ...options: string[]) =>
    asAlice(["ssh-keygen", "-q", "-t", type, ...options, "-N", "", "-C", "", "-f", `${SSH}/${name}`], {
      SSH_SK_PROVIDER: TOUCHED,
    });
  const root = async (...args: string[]) => {
    const done = await people.as("root", args);
    if (done.status !== 0) throw new Error(done.stderr);
    return done;
  };
  /** Trusts this key of alice's, and none of her others. */
  async function trustOnly(name: string, ...flags: string[]): Promise<void> {
    const { fingerprint } = parseSshKey(people.host.read(`${SSH}/${name}.pub`).trim());
    const { keys } = JSON.parse((await root("sign", "trust", "list", "--json")).stdout);
    let isTrusted = false;
    for (const { id, role, name: owner, state } of keys) {
      if (role !== "approval" || owner !== "alice@example" || state === "revoked") continue;
      if (id === fingerprint) isTrusted = true;
      else await root("sign", "trust", "revoke", id, "--reason", "replaced");
    }
    if (isTrusted) return;
    await root("sign", "trust", "add", `${SSH}/${name}.pub`, "--name", "alice@example", ...flags);
  }
  async function request(): Promise<number> {
    await people.host.exec(["apt-get", "remove", "-y", "hello-aegis"]);
    const id = await people.plan("apt", "install", "hello-aegis");
    const asked = await people.as("agent", ["apply", "--request", id, "--reason", "web server", "--json"]);
    return JSON.parse(asked.stdout).request.number;
  }
  const stateOf = async (number: number) =>
    JSON.parse((await people.as("alice", ["sign", "show", `${number}`, "--json"])).stdout).request.state;

  test("with a software key in a file it approves alone, on a pseudo-terminal", async () => {
    const number = await request();
    const { status, screen } = await people.approve("alice", [`${number}`]);
    expect(screen).toContain(`Request ${number} is approved`);
    expect([status, await stateOf(number)]).toEqual([0, "approved"]);
  });

  test.skipIf(tokens === null)(
    "and so it does with a software key that only her unlocked agent has",
    async () => {
      await trustOnly("soft");
      const socket = `${SSH}/agent`;
      const agent = await people.host.spawn(["ssh-agent", "-D", "-a", socket], { user: "alice" });
      for (let n = 0; n < 100; n++) {
        const env = { SSH_AUTH_SOCK: socket };
        const added = await people.host.exec(["ssh-add", "-q", `${SSH}/soft`], { user: "alice", env });
        if (added.status === 0) break;
        await Bun.sleep(50);
      }
      await asAlice(["rm", `${SSH}/soft`]);
      const number = await request();
      const approved = await people.approve("alice", [`${number}`, "--ssh-key", `${SSH}/soft.pub`], {
        env: { SSH_AUTH_SOCK: socket },
      });
      expect([approved.status, await stateOf(number)]).toEqual([0, "approved"]);
      await agent.kill();
    },
  );

  test.skipIf(tokens === null)("with a security key that nobody touches it approves nothing", async () => {
    await trustOnly("hard");
    const number = await request();
    const flags = [`${number}`, "--ssh-key", `${SSH}/hard`];
    const untouched = await people.approve("alice", flags, { env: { SSH_SK_PROVIDER: UNTOUCHED } });
    expect(untouched.screen).toContain("Touch the security key when it blinks");
    expect(untouched.screen).toContain("ssh-keygen did not sign; nothing was approved");
    const silent = await people.approve("alice", [`${number}`, "--ssh-key", `${SSH}/silent`], {
      env: { SSH_SK_PROVIDER: TOUCHED },
    });
    expect(silent.screen).toContain("nobody touched the security key");
    // Her other keys are not trusted any more.
    const other = await people.approve("alice", [`${number}`]);
    expect([untouched.status, silent.status, other.status].map((status) => status > 0)).toEqual([
      true,
      true,
      true,
    ]);
    expect([await stateOf(number), await people.installed("hello-aegis")]).toEqual(["open", false]);
  });

  test.skipIf(tokens === null)("nor does the executor take what it makes without aegis", async () => {
    await trustOnly("hard");
    await people.host.exec(["apt-get", "remove", "-y", "hello-aegis"]);
    const [id, another] = [
      await people.plan("apt", "install", "hello-aegis"),
      await people.plan("apt", "install", "hello-aegis"),
    ];
    const approve = async (plan: string, out: string) => {
      const shown = JSON.parse((await people.as("agent", ["plan", "show", plan, "--json"])).stdout);
      const file = `/tmp/${plan}.json`;
      people.host.write(file, canonicalJson(shown));
      const confirm = canonicalHash(shown);
      const flags = [
        "--plan",
        file,
        "--reason",
        "seen",
        "--ssh-key",
        `${SSH}/hard`,
        "--confirm",
        confirm,
        "--out",
        out,
      ];
      await people.host.exec(["rm", "-f", out]);
      const done = await people.as("alice", ["sign", "approve", ...flags], {
        env: { SSH_SK_PROVIDER: TOUCHED },
      });
      if (done.status !== 0) throw new Error(done.stderr);
      return JSON.parse(people.host.read(out)) as Approval;
    };
    const touched = await approve(id, "/home/alice/touched.json");
    const ofAnother = await approve(another, "/home/alice/another.json");
    await people.as("agent", ["policy", id]);
    people.host.write("/tmp/touched.json", canonicalJson(touched));
    const signed = await people.as("agent", ["sign", id, "--approval", "/tmp/touched.json", "--json"]);
    if (signed.status !== 0) throw new Error(signed.stderr);
    const execution: ExecutionPlan = JSON.parse(signed.stdout).execution_plan;

    const hard = parseSshKey(people.host.read(`${SSH}/hard.pub`).trim());
    const { signature: _, ...body } = touched;
    const made = async (key: string, namespace: string, document: object = body): Promise<Approval> => {
      const args = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", `${SSH}/${key}`];
      const text = await asAlice(args, { SSH_SK_PROVIDER: TOUCHED }, canonicalJson(document));
      const signature = dearmorSshSignature(text).toString("base64");
      return {
        ...touched,
        ...document,
        signature: { algorithm: "sshsig", key_id: hard.fingerprint, signature },
      };
    };
    await asAlice(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", `${SSH}/own`]);
    // Read by root where a real thief would be alice: the signer's key is another matter.
    const { secret_key_hex: seed, key_id } = JSON.parse(
      people.host.read("/home/agent/.config/aegis/execution-key"),
    );
    const submit = async (approvals: Approval[]): Promise<string> => {
      const { signature: _, ...rest } = execution;
      const forged = signDocument({ ...rest, approvals }, Buffer.from(seed, "hex"), key_id);
      try {
        const socket = people.host.path("/run/aegis/aegisd.sock");
        const { outcome } = await callExecutor(socket, "Apply", { plan: canonicalJson(forged) });
        return outcome?.code ?? "done";
      } catch (error) {
        if (error instanceof AegisError) return `${error.code}: ${error.message}`;
        throw error;
      }
    };
    const cases: [what: string, approvals: Approval[], says: string][] = [
      ["none", [], "approval_required"],
      ["signed silently", [await made("silent", "approval@aegis")], "nobody touched the security key"],
      ["touched for a file", [await made("hard", "file")], 'was made for "file"'],
      ["touched for a commit", [await made("hard", "git")], 'was made for "git"'],
      [
        "touched for another plan",
        [{ ...ofAnother, plan_hash: touched.plan_hash }],
        "signature is not valid",
      ],
      ["touched for other words", [{ ...touched, reason: "urgent" }], "signature is not valid"],
      ["by a key of its own", [await made("own", "approval@aegis")], "made by another key"],
    ];
    for (const [what, approvals, says] of cases)
      expect([what, await submit(approvals)]).toEqual([what, expect.stringContaining(says)]);
    expect(await people.installed("hello-aegis")).toBe(false);
    expect(await submit([touched])).toBe("done");
    expect(await people.installed("hello-aegis")).toBe(true);
  });

  test.skipIf(tokens === null)(
    "alice touches it, and the request is approved; where her PIN is required, with it",
    async () => {
      await trustOnly("pin", "--verify-required");
      const number = await request();
      const { status, screen } = await people.approve("alice", [`${number}`, "--ssh-key", `${SSH}/pin`], {
        env: { SSH_SK_PROVIDER: TOUCHED },
        pin: "1234",
      });
      expect(screen).toContain("Enter PIN for ED25519-SK key");
      expect(screen).toMatch(/Approved by alice@example \(key SHA256:[A-Za-z0-9+/]{43}\)/);
      expect([status, await stateOf(number)]).toEqual([0, "approved"]);
    },
  );
});

/** A security key's file that asks for no touch: the flags follow the application in its secret part (PROTOCOL.key). */
function silentOf(file: string): string {
  const [, begin = "", body = "", end = ""] = /^(-+BEGIN.*-+\n)([\s\S]*?)(-+END.*-+\n)$/.exec(file) ?? [];
  const bytes = Buffer.from(body, "base64");
  const flags = bytes.lastIndexOf("ssh:") + 4;
  if (bytes[flags] !== 0x01) throw new Error("not the flags of a security key");
  bytes[flags] = 0;
  return `${begin}${bytes.toString("base64").replace(/.{1,70}/g, "$&\n")}${end}`;
}
