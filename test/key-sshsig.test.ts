import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import {
  dearmorSshSignature,
  isOpenSshSecret,
  parseSshKey,
  sshSignatureKey,
  sshSignatureProblem,
} from "../src/key-sshsig.ts";
import { ALICE, BOB, refuses } from "./signing-kit.ts";
import { armored, type Forgery, sshPublicKey, sshSign } from "./ssh-token.ts";

const MESSAGE = Buffer.from('{"approval_id":"1"}');
const TOKEN = parseSshKey(sshPublicKey(ALICE.seed));
const PLAIN = parseSshKey(sshPublicKey(ALICE.seed, { application: null }));

/** The order of the group, L (RFC 8032 §5.1). */
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
/** The other S that fulfils the equation: S + L. */
function malleable(signature: Buffer): Buffer {
  const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString("hex")}`) + L;
  const other = Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse();
  return Buffer.concat([signature.subarray(0, 32), other]);
}

const PLAIN_KEY = { application: null } as const;
/** Each is signed as it says, so that what is refused is the field and not the signature. */
const REFUSED: [what: string, change: Partial<Forgery>, says: string][] = [
  ["another magic", { magic: "SSHSIH" }, "does not begin with SSHSIG"],
  ["version 0", { version: 0 }, "version is 0"],
  ["version 2", { version: 2 }, "version is 2"],
  ["a reserved field", { reserved: "x" }, "reserved field is not empty"],
  ["a reserved field, plain", { ...PLAIN_KEY, reserved: "x" }, "reserved field is not empty"],
  ["no namespace", { namespace: "" }, "one of its names is empty"],
  ["the namespace of git", { namespace: "git" }, 'was made for "git"'],
  ["the namespace of files", { ...PLAIN_KEY, namespace: "file" }, 'was made for "file"'],
  ["a longer namespace", { namespace: "approval@aegis.example" }, "was made for"],
  ["a namespace with NUL", { namespace: "approval@aegis\0" }, "one of its names"],
  ["the hash sha1", { hash: "sha1" }, 'hash algorithm is "sha1"'],
  ["the hash SHA512", { hash: "SHA512" }, 'hash algorithm is "SHA512"'],
  ["no hash", { hash: "" }, "one of its names is empty"],
  ["a key of RSA", { keyType: "ssh-rsa" }, 'type is "ssh-rsa"'],
  ["a key of ECDSA", { keyType: "ecdsa-sha2-nistp256" }, 'type is "ecdsa-sha2-nistp256"'],
  ["a token's key of ECDSA", { keyType: "sk-ecdsa-sha2-nistp256@openssh.com" }, "key's type is"],
  ["a certificate", { keyType: "ssh-ed25519-cert-v01@openssh.com" }, "key's type is"],
  ["a token's certificate", { keyType: "sk-ssh-ed25519-cert-v01@openssh.com" }, "key's type is"],
  ["an algorithm of RSA", { ...PLAIN_KEY, algorithm: "rsa-sha2-512" }, 'algorithm is "rsa-sha2-512"'],
  ["a plain algorithm of a token's key", { algorithm: "ssh-ed25519" }, "not its key's"],
  [
    "a token's algorithm of a plain key",
    { ...PLAIN_KEY, algorithm: "sk-ssh-ed25519@openssh.com" },
    "not its key's",
  ],
  ["webauthn", { algorithm: "webauthn-sk-ssh-ed25519@openssh.com" }, "not its key's"],
  ["a website's key", { application: "example.com" }, "not for ssh:"],
  ["no application", { application: "" }, "one of its names is empty"],
  ["an application like ssh:", { application: "ssh" }, "not for ssh:"],
  ["an application with spaces", { application: "ssh:a b" }, "not for ssh:"],
  ["flags: not touched", { flags: 0x00 }, "nobody touched"],
  ["flags: PIN, not touched", { flags: 0x04 }, "nobody touched"],
  ["flags: reserved bit 1", { flags: 0x03 }, "flags are 0x3"],
  ["flags: reserved bit 5", { flags: 0x21 }, "flags are 0x21"],
  ["flags: can be backed up", { flags: 0x09 }, "flags are 0x9"],
  ["flags: is backed up", { flags: 0x19 }, "flags are 0x19"],
  ["flags: attested data", { flags: 0x41 }, "flags are 0x41"],
  ["flags: extensions", { flags: 0x81 }, "flags are 0x81"],
  ["flags: all", { flags: 0xff }, "flags are 0xff"],
  ["bytes after the key", { afterKey: "x" }, "goes on after its end"],
  ["bytes after the signature", { afterSignature: "x" }, "goes on after its end"],
  ["bytes after a plain signature", { ...PLAIN_KEY, afterSignature: "\x01\0\0\0\0" }, "goes on after"],
  ["bytes after the whole", { after: "\0" }, "goes on after its end"],
  ["a malleable S", { bend: malleable }, "signature is not valid"],
  ["a malleable S, plain", { ...PLAIN_KEY, bend: malleable }, "signature is not valid"],
  ["a short signature", { bend: (s) => s.subarray(0, 63) }, "64 bytes, not 63"],
  ["a long signature", { bend: (s) => Buffer.concat([s, Buffer.alloc(1)]) }, "64 bytes, not 65"],
  ["an empty signature", { bend: () => Buffer.alloc(0) }, "64 bytes, not 0"],
  ["a key of small order", { publicKey: Buffer.alloc(32) }, "small order"],
  ["a key that is no point", { publicKey: Buffer.from(`02${"00".repeat(31)}`, "hex") }, "not a point"],
  ["a short key", { publicKey: Buffer.alloc(31) }, "64 lower-case hex digits"],
];

describe("a signature is refused for", () => {
  for (const [what, change, says] of REFUSED) {
    test(what, () => {
      const isPlain = change.application === null;
      const blob = sshSign(ALICE.seed, MESSAGE, change);
      expect(sshSignatureProblem(blob, MESSAGE, isPlain ? PLAIN : TOKEN, false)).toContain(says);
    });
  }
  test("another key in its place", () => {
    const blob = sshSign(BOB.seed, MESSAGE);
    expect(sshSignatureProblem(blob, MESSAGE, TOKEN, false)).toBe("it was made by another key");
  });
  test("the same key outside a token, and the reverse", () => {
    const plain = sshSign(ALICE.seed, MESSAGE, PLAIN_KEY);
    expect(sshSignatureProblem(plain, MESSAGE, TOKEN, false)).toBe("it was made by another key");
    expect(sshSignatureProblem(sshSign(ALICE.seed, MESSAGE), MESSAGE, PLAIN, false)).toBe(
      "it was made by another key",
    );
  });
  test("the same key made for another application", () => {
    const blob = sshSign(ALICE.seed, MESSAGE, { application: "ssh:other" });
    expect(sshSignatureProblem(blob, MESSAGE, TOKEN, false)).toBe("it was made by another key");
  });
  test("a PIN that was not asked for where the entry requires it", () => {
    const without = sshSign(ALICE.seed, MESSAGE, { flags: 0x01 });
    expect(sshSignatureProblem(without, MESSAGE, TOKEN, true)).toContain("neither a PIN nor a fingerprint");
    const blob = sshSign(ALICE.seed, MESSAGE, { flags: 0x05 });
    expect(sshSignatureProblem(blob, MESSAGE, TOKEN, true)).toBeNull();
    const plain = sshSign(ALICE.seed, MESSAGE, PLAIN_KEY);
    expect(sshSignatureProblem(plain, MESSAGE, PLAIN, true)).toContain("not in a security key");
  });
  test("flags or a counter changed after signing", () => {
    const blob = sshSign(ALICE.seed, MESSAGE, { flags: 0x01, counter: 7 });
    for (const [at, byte] of [
      [blob.length - 5, 0x05],
      [blob.length - 1, 8],
    ] as const) {
      const changed = Buffer.from(blob);
      changed[at] = byte;
      expect(sshSignatureProblem(changed, MESSAGE, TOKEN, false)).toBe("its signature is not valid");
    }
  });
  test("another message", () => {
    expect(sshSignatureProblem(sshSign(ALICE.seed, MESSAGE), Buffer.from("x"), TOKEN, false)).toBe(
      "its signature is not valid",
    );
  });
  test("any bit flipped, any byte less, any byte more", () => {
    for (const [key, change] of [
      [TOKEN, {}],
      [PLAIN, PLAIN_KEY],
    ] as const) {
      const blob = sshSign(ALICE.seed, MESSAGE, change);
      expect(sshSignatureProblem(blob, MESSAGE, key, false)).toBeNull();
      for (let at = 0; at < blob.length; at++) {
        for (let bit = 0; bit < 8; bit++) {
          const changed = Buffer.from(blob);
          changed[at] = (changed[at] ?? 0) ^ (1 << bit);
          expect(sshSignatureProblem(changed, MESSAGE, key, false)).not.toBeNull();
        }
        const less = Buffer.concat([blob.subarray(0, at), blob.subarray(at + 1)]);
        const more = Buffer.concat([blob.subarray(0, at), Buffer.alloc(1), blob.subarray(at)]);
        expect(sshSignatureProblem(less, MESSAGE, key, false)).not.toBeNull();
        expect(sshSignatureProblem(more, MESSAGE, key, false)).not.toBeNull();
      }
    }
  });
  test("arbitrary bytes, without throwing", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (bytes, hasMagic) => {
        const start = hasMagic ? Buffer.from("SSHSIG\0\0\0\x01") : Buffer.alloc(0);
        const blob = Buffer.concat([start, bytes]);
        expect(sshSignatureProblem(blob, MESSAGE, TOKEN, false)).toContain("malformed");
        expect(sshSignatureKey(blob)).toBeNull();
      }),
    );
  });
});

const BAD_LINES: [what: string, line: string, says: string][] = [
  ["nothing", "", "not the one line"],
  ["hex", ALICE.publicKeyHex, "not the one line"],
  ["a type alone", "ssh-ed25519", "not the one line"],
  ["options before it", `no-touch-required ${sshPublicKey(ALICE.seed)}`, "not the one line"],
  ["two lines", `${sshPublicKey(ALICE.seed)}\n${sshPublicKey(BOB.seed)}`, "not the one line"],
  ["RSA", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAA", "ssh-rsa is neither"],
  ["another type before it", sshPublicKey(ALICE.seed, { line: "ssh-ed25519" }), "names two types"],
  [
    "a certificate",
    sshPublicKey(ALICE.seed, { keyType: "ssh-ed25519-cert-v01@openssh.com", line: "ssh-ed25519" }),
    "type is",
  ],
  ["bytes after it", sshPublicKey(ALICE.seed, { afterKey: "x" }), "goes on"],
  ["a website's key", sshPublicKey(ALICE.seed, { application: "example.com" }), "not for ssh:"],
  ["small order", sshPublicKey(ALICE.seed, { publicKey: Buffer.alloc(32) }), "small order"],
];

describe("a public key is refused for", () => {
  for (const [what, line, says] of BAD_LINES) {
    test(what, () => refuses(() => parseSshKey(line), "invalid_key", says));
  }
  test("base64 in another spelling", async () => {
    const line = sshPublicKey(ALICE.seed);
    expect(line.endsWith("=")).toBe(true);
    await refuses(() => parseSshKey(line.slice(0, -1)), "invalid_key", "not canonical base64");
  });
});

describe("armor is refused for", () => {
  const good = armored(sshSign(ALICE.seed, MESSAGE));
  const cases: [what: string, text: string][] = [
    ["nothing", ""],
    ["text before it", `x\n${good}`],
    ["text after it", `${good}x`],
    ["two signatures", good + good],
    ["carriage returns", good.replaceAll("\n", "\r\n")],
    ["no footer", good.replace(/-----END.*\n$/, "")],
    ["an empty body", good.replace(/\n[^-]*\n-----END/s, "\n-----END")],
    ["spaces", good.replace("\n", " \n")],
    ["a line of 77 characters", good.replace(/^([^-\n]{70})\n(.{7})/m, "$1$2\n")],
    ["other base64", good.replace(/(.)\n-----END/, "$1=\n-----END")],
  ];
  for (const [what, text] of cases) {
    test(what, () => refuses(() => dearmorSshSignature(text), "signature_invalid", "SSH signature: "));
  }
  test("not what is right, with or without the last newline", () => {
    expect(dearmorSshSignature(good)).toEqual(sshSign(ALICE.seed, MESSAGE));
    expect(dearmorSshSignature(good.slice(0, -1))).toEqual(sshSign(ALICE.seed, MESSAGE));
  });
});

const VECTORS = join(import.meta.dir, "fixtures/sshsig");
const vector = (name: string) => readFileSync(join(VECTORS, name), "utf8");
/** What OpenSSH's own tests accept, and whether Aegis does. */
const OPENSSH: [name: string, refused: string | null][] = [
  ["ed25519", null],
  ["ed25519_sk", null],
  ["rsa", 'type is "ssh-rsa"'],
  ["dsa", 'type is "ssh-dss"'],
  ["ecdsa", 'type is "ecdsa-sha2-nistp256"'],
  ["ecdsa_sk", 'type is "sk-ecdsa-sha2-nistp256@openssh.com"'],
  ["ecdsa_sk_webauthn", 'type is "sk-ecdsa-sha2-nistp256@openssh.com"'],
];

describe("OpenSSH's own test data", () => {
  const message = Buffer.from(vector("signed-data"));
  const namespace = vector("namespace");
  for (const [name, refused] of OPENSSH) {
    test(name, async () => {
      const blob = dearmorSshSignature(vector(`${name}.sig`));
      if (refused !== null) {
        await refuses(() => parseSshKey(vector(`${name}.pub`)), "invalid_key", "is neither ssh-ed25519 nor");
        expect(sshSignatureProblem(blob, message, TOKEN, false, namespace)).toContain(refused);
        return;
      }
      const key = parseSshKey(vector(`${name}.pub`));
      expect(sshSignatureProblem(blob, message, key, false, namespace)).toBeNull();
      expect(sshSignatureProblem(blob, message, key, false)).toBe('it was made for "unittest"');
      expect(sshSignatureProblem(blob, Buffer.from("x"), key, false, namespace)).toBe(
        "its signature is not valid",
      );
      expect(sshSignatureKey(blob)).toBe(key.publicKeyHex);
    });
  }
  test("the fingerprint is what ssh-keygen -l prints", () => {
    for (const name of ["ed25519", "ed25519_sk"]) {
      const { stdout } = spawnSync("/usr/bin/ssh-keygen", ["-lf", join(VECTORS, `${name}.pub`)], {
        encoding: "utf8",
      });
      expect(stdout).toContain(` ${parseSshKey(vector(`${name}.pub`)).fingerprint} `);
    }
  });
});

describe("this machine's ssh-keygen", () => {
  const directory = mkdtempSync(join(tmpdir(), "aegis-sshsig-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, "key");
  const keygen = (args: string[], input?: Uint8Array) => {
    const { status, stdout, stderr } = spawnSync("/usr/bin/ssh-keygen", args, { input });
    if (status !== 0) throw new Error(stderr.toString());
    return stdout;
  };
  keygen(["-q", "-t", "ed25519", "-N", "", "-C", "a comment, with words", "-f", file]);
  const key = parseSshKey(readFileSync(`${file}.pub`, "utf8"));
  for (const options of [[], ["-O", "hashalg=sha256"], ["-O", "hashalg=sha512"]]) {
    test(`signs ${options.join(" ")}`.trim(), () => {
      const args = ["-Y", "sign", "-n", "approval@aegis", ...options, "-f", file];
      const blob = dearmorSshSignature(keygen(args, MESSAGE).toString());
      expect(sshSignatureProblem(blob, MESSAGE, key, false)).toBeNull();
      for (let at = 0; at < blob.length; at++) {
        const changed = Buffer.from(blob);
        changed[at] = (changed[at] ?? 0) ^ 0xff;
        expect(sshSignatureProblem(changed, MESSAGE, key, false)).not.toBeNull();
      }
    });
  }
  // The cases of openssh-portable's regress/sshsig.sh (V_9_2_P1) that concern a signature and not ssh-keygen's own files.
  describe("as in regress/sshsig.sh", () => {
    const sign = (path: string, namespace = "approval@aegis") =>
      dearmorSshSignature(keygen(["-Y", "sign", "-n", namespace, "-f", path], MESSAGE).toString());
    const made = (name: string, type: string): string => {
      const path = join(directory, name);
      keygen(["-q", "-t", type, "-N", "", "-f", path]);
      return path;
    };
    test("wrong key, wrong data, wrong namespace", () => {
      expect(sshSignatureProblem(sign(made("wrong", "ed25519")), MESSAGE, key, false)).toBe(
        "it was made by another key",
      );
      const twice = Buffer.concat([MESSAGE, MESSAGE]);
      expect(sshSignatureProblem(sign(file), twice, key, false)).toBe("its signature is not valid");
      expect(sshSignatureProblem(sign(file, "COWS_COWS_COWS"), MESSAGE, key, false)).toBe(
        'it was made for "COWS_COWS_COWS"',
      );
    });
    for (const [type, name] of [
      ["rsa", "ssh-rsa"],
      ["ecdsa", "ecdsa-sha2-nistp256"],
    ] as const) {
      test(`a key of ${type}, which Aegis doesn't take`, () => {
        expect(sshSignatureProblem(sign(made(`a-${type}`, type)), MESSAGE, key, false)).toContain(
          `type is "${name}"`,
        );
      });
    }
    test("a certificate, although for a trusted key", async () => {
      const ca = made("ca", "ed25519");
      keygen(["-q", "-s", ca, "-I", "test", "-n", "alice", `${file}.pub`]);
      const cert = `${file}-cert.pub`;
      const says = 'type is "ssh-ed25519-cert-v01@openssh.com"';
      expect(sshSignatureProblem(sign(cert), MESSAGE, key, false)).toContain(says);
      await refuses(() => parseSshKey(readFileSync(cert, "utf8")), "invalid_key", "is neither");
    });
  });
  test("its secret key's file is open or has a passphrase", () => {
    const locked = join(directory, "locked");
    keygen(["-q", "-t", "ed25519", "-N", "a passphrase", "-f", locked]);
    const isOpen = (path: string) => isOpenSshSecret(readFileSync(path, "utf8"));
    expect([file, locked, `${file}.pub`].map(isOpen)).toEqual([true, false, false]);
  });
  test("accepts what the token in software signs", () => {
    for (const application of [null, "ssh:"]) {
      const signature = join(directory, "signature");
      Bun.write(signature, armored(sshSign(ALICE.seed, MESSAGE, { application })));
      const args = ["-Y", "check-novalidate", "-n", "approval@aegis", "-s", signature];
      expect(keygen(args, MESSAGE).toString()).toContain('Good "approval@aegis" signature');
    }
  });
});
