import type { GoodSignature } from "./apt-keyring.ts";

/**
 * The cryptographic policies among which apt's own method chooses, the first that is there (SetPolicy, methods/sqv.cc): what
 * apt takes for too weak counts for nothing here either. The two variables that apt looks at besides are set for no program
 * that Aegis starts.
 */
const POLICIES: readonly string[] = [
  "/etc/crypto-policies/back-ends/apt-sequoia.config",
  "/var/lib/crypto-config/profiles/current/apt-sequoia.config",
  "/etc/crypto-policies/back-ends/sequoia.config",
  "/var/lib/crypto-config/profiles/current/sequoia.config",
  "/usr/share/apt/default-sequoia.config",
];

/** Environment in which sqv(1) judges as it does for apt. */
export function sqvEnvironment(exists: (path: string) => boolean): Record<string, string> {
  const policy = POLICIES.find(exists);
  return policy === undefined ? {} : { SEQUOIA_CRYPTO_POLICY: policy };
}

/**
 * Reads what sqv printed before it exited with 0: for each good signature the fingerprint of the certificate. It names no
 * subkey, so a source that is bound to one with `!` is verified by nothing: to apt with sqv it isn't either.
 */
export function parseSqvSigners(stdout: string): GoodSignature[] {
  return stdout
    .split("\n")
    .filter((line) => /^(?:[0-9A-F]{40}|[0-9A-F]{64})$/.test(line))
    .map((primary) => ({ fingerprint: null, primary }));
}
