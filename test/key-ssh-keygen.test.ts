import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSshKey, signWithSshKeygen } from "../src/key-ssh-keygen.ts";
import { sshSignatureProblem } from "../src/key-sshsig.ts";
import { needs } from "./needs.ts";
import { refuses } from "./signing-kit.ts";
import { softwareTokens } from "./sk-dummy.ts";

const directory = mkdtempSync(join(tmpdir(), "aegis-ssh-keygen-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const MESSAGE = Buffer.from('{"reason":"é"}');

/** Makes a key with ssh-keygen. Returns its file. */
function make(
  name: string,
  type: string,
  options: readonly string[] = [],
  env: Record<string, string> = {},
): string {
  const file = join(directory, name);
  const args = ["-q", "-t", type, ...options, "-N", "", "-C", "a comment", "-f", file];
  const { status, stderr } = spawnSync("/usr/bin/ssh-keygen", args, { env, input: "" });
  if (status !== 0) throw new Error(stderr.toString());
  return file;
}

async function signed(file: string, env: Record<string, string> = {}, verifyRequired = false) {
  const notes: string[] = [];
  const key = readSshKey(file);
  const note = (line: string) => notes.push(line);
  const blob = await signWithSshKeygen(key, MESSAGE, { verifyRequired, env, note });
  return { key, blob, notes };
}

describe("a key in a file", () => {
  const file = make("plain", "ed25519");
  test("signs, given by its secret part or by its .pub file", async () => {
    for (const given of [file, `${file}.pub`]) {
      const { key, blob, notes } = await signed(given);
      expect(sshSignatureProblem(blob, MESSAGE, key, false)).toBeNull();
      expect(notes).toEqual(["ssh-keygen: Signing data on standard input"]);
    }
  });
  test("refused: other kinds, no public part, no secret part, no file", async () => {
    await refuses(() => readSshKey(make("ecdsa", "ecdsa")), "invalid_key", "neither ssh-ed25519 nor");
    await refuses(() => readSshKey(make("rsa", "rsa")), "invalid_key", "neither ssh-ed25519 nor");
    const half = make("half", "ed25519");
    renameSync(half, `${half}-away`);
    await refuses(() => signed(half), "refused", "ssh-keygen did not sign");
    renameSync(`${half}.pub`, `${half}-away.pub.x`);
    await refuses(() => signed(`${half}-away`), "usage", "can't read the public key");
    await refuses(() => readSshKey(join(directory, "none")), "usage", "can't read the public key");
  });
  test("refused: a .pub file beside another secret key", async () => {
    const [one, two] = [make("one", "ed25519"), make("two", "ed25519")];
    renameSync(`${two}.pub`, `${one}.pub`);
    await expect(signed(one)).rejects.toThrow();
  });
  test("the agent signs for a key whose secret part is not there", async () => {
    const held = make("held", "ed25519");
    const socket = join(directory, "agent");
    const agent = spawn("/usr/bin/ssh-agent", ["-D", "-a", socket], { stdio: "ignore" });
    try {
      for (let n = 0; n < 100; n++) {
        const added = spawnSync("/usr/bin/ssh-add", ["-q", held], { env: { SSH_AUTH_SOCK: socket } });
        if (added.status === 0) break;
        await Bun.sleep(50);
      }
      renameSync(held, `${held}-away`);
      const { key, blob } = await signed(`${held}.pub`, { SSH_AUTH_SOCK: socket });
      expect(sshSignatureProblem(blob, MESSAGE, key, false)).toBeNull();
      await refuses(() => signed(`${held}.pub`), "refused", "ssh-keygen did not sign");
    } finally {
      agent.kill();
    }
  });
});

const tokens = softwareTokens();

needs(tokens !== null, "gcc and Debian's source of openssh, for a security key in software").describe(
  "OpenSSH's security key in software",
  () => {
    const { touched, untouched } = tokens ?? { touched: "", untouched: "" };
    const provider = { SSH_SK_PROVIDER: touched };
    const files = { usual: "", pin: "", silent: "" };
    beforeAll(() => {
      files.usual = make("usual", "ed25519-sk", [], provider);
      files.pin = make("pin", "ed25519-sk", ["-O", "verify-required"], provider);
      files.silent = make("silent", "ed25519-sk", ["-O", "no-touch-required"], provider);
    });
    test("refused: made with -O no-touch-required, where nobody need be there", async () => {
      await refuses(
        () => signed(files.silent, provider),
        "signature_invalid",
        "nobody touched the security key",
      );
    });
    test("refused: without PIN where the entry requires it", async () => {
      await refuses(
        () => signed(files.usual, provider, true),
        "signature_invalid",
        "neither a PIN nor a fingerprint",
      );
    });
    test("refused: nobody touches it, or it is not there", async () => {
      for (const env of [{ SSH_SK_PROVIDER: untouched }, { SSH_SK_PROVIDER: "/nonexistent.so" }, {}]) {
        await refuses(() => signed(files.usual, env), "refused", "ssh-keygen did not sign");
      }
    });
    test("refused: without a terminal the PIN is read from what should be signed", async () => {
      // In a session of its own, which has no terminal.
      const script = `
        import { readSshKey, signWithSshKeygen } from "${join(import.meta.dir, "../src/key-ssh-keygen.ts")}";
        const given = { verifyRequired: false, env: ${JSON.stringify(provider)}, note() {} };
        await signWithSshKeygen(readSshKey("${files.pin}"), Buffer.from("x"), given).catch((error) => console.log(error.message));`;
      const args = ["--fork", "--wait", process.execPath, "-e", script];
      const { stdout } = spawnSync("/usr/bin/setsid", args, { input: "", encoding: "utf8" });
      expect(stdout).toContain("ssh-keygen's signature would be refused: its signature is not valid");
    });
    test("signs once touched, and says so before", async () => {
      const { key, blob, notes } = await signed(files.usual, provider);
      expect(sshSignatureProblem(blob, MESSAGE, key, false)).toBeNull();
      expect(key.application).toBe("ssh:");
      expect(notes[0]).toBe("Touch the security key when it blinks; enter its PIN if it asks for one.");
      for (let at = 0; at < blob.length; at++) {
        const changed = Buffer.from(blob);
        changed[at] = (changed[at] ?? 0) ^ 0xff;
        expect(sshSignatureProblem(changed, MESSAGE, key, false)).not.toBeNull();
      }
    });
    test("signs after the PIN, here by SSH_ASKPASS", async () => {
      const askpass = join(directory, "askpass");
      writeFileSync(askpass, "#!/bin/sh\necho 1234\n", { mode: 0o755 });
      const env = { ...provider, SSH_ASKPASS: askpass, SSH_ASKPASS_REQUIRE: "force" };
      for (const required of [false, true]) {
        const { key, blob } = await signed(files.pin, env, required);
        expect(sshSignatureProblem(blob, MESSAGE, key, true)).toBeNull();
      }
    });
  },
);
