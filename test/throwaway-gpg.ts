import { spawnSync } from "node:child_process";

/** A signing key that exists only in this process's memory. */
export interface SigningKey {
  /** Armoured secret key. */
  secret: string;
  /** Binary public key, as apt's Signed-By wants it. */
  public: Uint8Array;
}

/*
 * gpg leaves an agent running and files behind. Each call gets new mount and PID namespaces with a tmpfs for the key
 * directory (in /run, since gpg prefers that for its sockets), so both always end with the call.
 */
function gpg(script: string, env: Record<string, string>, input = ""): string {
  const prelude =
    'set -e; mount -t tmpfs -o mode=0700 tmpfs /run; export GNUPGHOME=/run; g() { gpg --batch --quiet "$@"; };';
  const result = spawnSync(
    "/usr/bin/unshare",
    ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", `${prelude} ${script}`],
    { env: { PATH: "/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C.UTF-8", ...env }, input, encoding: "utf8" },
  );
  if (result.status !== 0) throw new Error(`gpg failed: ${result.stderr}`);
  return result.stdout;
}

/** A new Ed25519 key without passphrase. */
export function newSigningKey(name: string): SigningKey {
  const out = gpg(
    `g --passphrase '' --quick-gen-key "$NAME" ed25519 sign never 2>/dev/null
     g --armor --export-secret-keys
     echo ====
     g --export | base64`,
    { NAME: `${name} <throwaway@example.invalid>` },
  );
  const [secret = "", publicKey = ""] = out.split("====\n");
  return { secret, public: Buffer.from(publicKey, "base64") };
}

/** `text` as an OpenPGP clear-signed message. */
export function clearSign(key: SigningKey, text: string): string {
  return gpg(
    'g --import <<<"$SECRET" 2>/dev/null; g --digest-algo SHA512 --clearsign',
    { SECRET: key.secret },
    text,
  );
}
