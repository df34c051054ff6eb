import type { GoodSignature } from "./apt-keyring.ts";

/**
 * Cryptographic policies; like apt's own method, the first that exists is used (SetPolicy, methods/sqv.cc), so that
 * what apt considers too weak doesn't count here either. The two variables apt also looks at are never set by Aegis.
 */
const POLICIES: readonly string[] = [
  "/etc/crypto-policies/back-ends/apt-sequoia.config",
  "/var/lib/crypto-config/profiles/current/apt-sequoia.config",
  "/etc/crypto-policies/back-ends/sequoia.config",
  "/var/lib/crypto-config/profiles/current/sequoia.config",
  "/usr/share/apt/default-sequoia.config",
];

/** Environment in which sqv(1) applies apt's policy. */
export function sqvEnvironment(exists: (path: string) => boolean): Record<string, string> {
  const policy = POLICIES.find(exists);
  return policy === undefined ? {} : { SEQUOIA_CRYPTO_POLICY: policy };
}

/**
 * Parses sqv's output after exit status 0: the certificate fingerprint of each good signature. It names no subkey, so a
 * source bound to one with `!` can't be verified; nor can it in apt with sqv.
 */
export function parseSqvSigners(stdout: string): GoodSignature[] {
  return stdout
    .split("\n")
    .filter((line) => /^(?:[0-9A-F]{40}|[0-9A-F]{64})$/.test(line))
    .map((primary) => ({ fingerprint: null, primary }));
}
