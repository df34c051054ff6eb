import { accessSync, constants, existsSync, lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type BreakGlassUse, openBreakGlass } from "./audit-break-glass.ts";
import { credentialsProblem, registryCredentials } from "./eco-credentials.ts";
import { SIGSTORE_ROOT_OF } from "./eco-sigstore-root.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { loadSecret } from "./key.ts";
import { isOpenSshSecret, parseSshKey } from "./key-sshsig.ts";
import { loadTrust, type Trust } from "./key-trust.ts";
import { keyState, keysToReplace } from "./key-trusted-keys.ts";
import { minuteOf } from "./monitor-events.ts";
import { type Env, SYSTEM, userPaths } from "./paths.ts";
import { loadPolicyConfig, type PolicyConfig } from "./policy-config.ts";
import { dangerousEnvironment } from "./self.ts";
import { readConfig } from "./sys-config.ts";
import { namesIn, readFileLimited } from "./sys-files.ts";
import { plural, showArgv } from "./terminal.ts";

const MAX_SSH_BYTES = 16 * 1024;

/** The keys that this host's executor trusts. */
export function trustedKeys(): Finding[] {
  const trust = loadTrust({ rootOnly: true });
  if (!trust.some((key) => key.role === "execution" && !key.revoked)) {
    return [
      warn(
        "keys",
        "this host trusts no execution key: only a daemon started with --public-key-hex runs anything",
        `Add one to ${SYSTEM.trustedKeys}`,
      ),
    ];
  }
  return [...trustFindings(trust), ...reviewKeysBySystem(trust)];
}

function count(trust: Trust, role: "execution" | "approval", now = new Date()): number {
  return trust.filter((key) => key.role === role && ["valid", "expiring"].includes(keyState(key, now)))
    .length;
}

/** How many keys of each role are good now, and which need a successor; for doctor and status. */
export function trustFindings(trust: Trust, now = new Date()): Finding[] {
  const [execution, approval] = [count(trust, "execution", now), count(trust, "approval", now)];
  const text = `${plural(execution, "execution key")} and ${plural(approval, "approval key")} trusted`;
  const missing =
    execution === 0
      ? "Without an execution key nothing runs."
      : "Without an approval key nothing that needs a human can run.";
  return [
    execution > 0 && approval > 0 ? ok("keys", text) : warn("keys", text, missing),
    ...keysToReplace(trust, now).map((key) => {
      const id = key.ids.at(-1) ?? "";
      const ends = key.notAfter?.toISOString().slice(0, 10);
      const state = keyState(key, now) === "expired" ? `expired on ${ends}` : `expires on ${ends}`;
      return warn(
        "keys",
        `the ${key.role} key ${id} of ${key.name ?? "nobody named"} ${state}`,
        `Its owner makes a new one; then, as root: aegis sign trust rotate ${showArgv([id])} <file>.pub; or, if it is no longer needed: aegis sign trust revoke ${showArgv([id])} --reason <why>`,
      );
    }),
  ];
}

/** Name of the check of break-glass keys. */
export const BREAK_GLASS_CHECK = "break-glass";

/** Uses of break-glass keys that nobody has acknowledged. A log that can't be read is reported by the check of the log. */
export function breakGlassFindings(dir: string = SYSTEM.auditDir): Finding[] {
  let uses: BreakGlassUse[];
  try {
    uses = openBreakGlass(dir);
  } catch {
    return [];
  }
  return uses.map(({ execution_id, at, name, key_id, operation, reason }) =>
    warn(
      BREAK_GLASS_CHECK,
      `${name} approved ${operation} with the break-glass key ${key_id} at ${minuteOf(at)}: ${reason}`,
      `See: aegis audit show --system --execution ${execution_id}; then, as root: aegis audit acknowledge ${execution_id} --reason <what you found>`,
    ),
  );
}

/** Reviewer keys of the executor's policy that have a second role. The policy check reports one that can't be read. */
function reviewKeysBySystem(trust: Trust): Finding[] {
  try {
    return keysInTwoRoles(trust, loadPolicyConfig({}, { system: true }).config);
  } catch {
    return [];
  }
}

/** Keys that are trusted for reviews and for another role: the executor refuses plans with such a key. */
export function keysInTwoRoles(trust: Trust, { review }: Pick<PolicyConfig, "review">): Finding[] {
  return trust
    .filter((key) => review.public_keys.includes(key.publicKeyHex))
    .map((key) =>
      fail(
        "keys",
        `key ${key.ids[0]} is trusted as an ${key.role} key and also listed in [review] public_keys`,
        "Give the reviewer its own key.",
      ),
    );
}

/** Warns if one user can read both kinds of secret: that user could sign and approve alone. */
export function secrets(env: Env): Finding[] {
  const readable = readableSecrets(env);
  const trust = safeTrust();
  const roleOf = (publicKey: string) => trust.find((key) => key.publicKeyHex === publicKey)?.role;
  const roles = new Set(readable.map(({ publicKeyHex, role }) => role ?? roleOf(publicKeyHex)));
  if (roles.has("execution") && roles.has("approval")) {
    return [
      fail(
        "secrets",
        `one user can read an execution and an approval secret: ${readable.map((s) => s.where).join(", ")}`,
        "Keep the approval secret under another account, preferably on another machine.",
      ),
    ];
  }
  return [
    ok("secrets", "as far as this user can see, nobody here has both an execution and an approval secret"),
  ];
}

/** By which keys provenance is checked. */
export async function provenanceRoot(): Promise<Finding[]> {
  const text = readConfig(SYSTEM.sigstoreRoot, true);
  if (text === null)
    return [ok("provenance", `checked by Sigstore's keys of ${SIGSTORE_ROOT_OF}, which are in the program`)];
  const { trustedRoot } = await import("./eco-sigstore.ts");
  trustedRoot(text);
  const saved = lstatSync(SYSTEM.sigstoreRoot).mtime.toISOString().slice(0, 10);
  return [ok("provenance", `checked by the keys in ${SYSTEM.sigstoreRoot}, saved on ${saved}`)];
}

/** The executor's credentials of registries: who can read them, and for root also what is in the file. */
export function registryFile(): Finding[] {
  const problem = credentialsProblem();
  if (problem !== null) return [fail("registries", problem.why, problem.fix)];
  if (!existsSync(SYSTEM.registries)) return [];
  if (process.geteuid?.() === 0) registryCredentials()(new URL("https://localhost/"));
  return [ok("registries", `root alone can read ${SYSTEM.registries}`)];
}

function readableSecrets(
  env: Env,
): { where: string; publicKeyHex: string; role?: "execution" | "approval" }[] {
  const fromVariables = (["signing", "approval"] as const).flatMap((purpose) => {
    const key = loadSecret(purpose, {}, withoutDanger(env), () => {});
    const role = purpose === "signing" ? ("execution" as const) : ("approval" as const);
    return key === null
      ? []
      : [{ where: `the environment (${purpose})`, publicKeyHex: key.publicKeyHex, role }];
  });
  const { keys, config } = userPaths(env);
  const directories = [keys, config, SYSTEM.config];
  const fromFiles = directories.flatMap((directory) =>
    namesIn(directory).flatMap((name) => {
      const file = join(directory, name);
      try {
        accessSync(file, constants.R_OK);
        const key = loadSecret("signing", { file }, {}, () => {});
        return key === null ? [] : [{ where: file, publicKeyHex: key.publicKeyHex }];
      } catch {
        // Not a key file, not readable, or encrypted, so this user does not hold the secret.
        return [];
      }
    }),
  );
  return [...fromVariables, ...fromFiles, ...readableSshSecrets(join(env.HOME ?? "", ".ssh"))];
}

/** OpenSSH keys that lie in a file without a passphrase. The file of one in a security key is of no use without it. */
function readableSshSecrets(directory: string): { where: string; publicKeyHex: string }[] {
  return namesIn(directory)
    .filter((name) => name.endsWith(".pub"))
    .flatMap((name) => {
      const where = join(directory, name.slice(0, -".pub".length));
      try {
        const key = parseSshKey(readFileLimited(`${where}.pub`, MAX_SSH_BYTES).toString("utf8").trimEnd());
        const isOpen = isOpenSshSecret(readFileLimited(where, MAX_SSH_BYTES).toString("utf8"));
        return key.application === null && isOpen ? [{ where, publicKeyHex: key.publicKeyHex }] : [];
      } catch {
        // Another kind of key, or not readable.
        return [];
      }
    });
}

/** The environment without the variables that make loading a secret fail: this only checks whether one exists. */
function withoutDanger(env: Env): Env {
  const bad = new Set(dangerousEnvironment(env));
  return Object.fromEntries(Object.entries(env).filter(([name]) => !bad.has(name)));
}

function safeTrust(): Trust {
  try {
    return loadTrust({ rootOnly: false });
  } catch {
    // The check of the keys reports it.
    return [];
  }
}

/** Whether this user and the executor have the same policy. */
export function policyFile(env: Env): Finding[] {
  const mine = loadPolicyConfig(env);
  const system = loadPolicyConfig({}, { system: true });
  const text = `${mine.source} here, ${system.source} in the executor`;
  if (mine.hash === system.hash) return [ok("policy", text)];
  return [
    warn(
      "policy",
      `${text}: they differ`,
      "The executor decides by its own policy and may refuse what yours allows.",
    ),
  ];
}

/** Variables that would run foreign code in aegis. */
export function environment(env: Env): Finding[] {
  const dangerous = dangerousEnvironment(env);
  if (dangerous.length === 0)
    return [ok("environment", "no variable that runs foreign code in aegis is set")];
  return [fail("environment", `set: ${dangerous.join(", ")}`, `Type: unset ${dangerous.join(" ")}`)];
}

/** sudo must not carry the caller's BUN_* and NODE_* variables into a root aegis (sudoers(5)). */
export function sudoers(): Finding[] {
  // sudo ignores names that contain a dot or end in a tilde (sudoers(5)).
  const parts = namesIn("/etc/sudoers.d").filter((name) => !/\.|~$/.test(name));
  const files = ["/etc/sudoers", ...parts.map((name) => join("/etc/sudoers.d", name))];
  const findings = files.flatMap((file) => {
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch {
      return [];
    }
    return sudoersProblems(text).map((problem) =>
      fail("sudoers", `${file}: ${problem}`, `Edit it with: visudo -f ${file}`),
    );
  });
  if (findings.length > 0) return findings;
  try {
    accessSync("/etc/sudoers", constants.R_OK);
    return [ok("sudoers", "sudo does not keep dangerous variables")];
  } catch {
    const asRoot = process.geteuid?.() === 0;
    return [
      ok(
        "sudoers",
        asRoot ? "sudo is not configured here" : "missing or not readable: run doctor as root to check it",
      ),
    ];
  }
}

/** Lines of a sudoers file that keep BUN_*, NODE_* or LD_*, by name or pattern, or the whole environment. */
export function sudoersProblems(text: string): string[] {
  return text
    .replaceAll("\\\n", " ")
    .split("\n")
    .map((line) => line.replace(/(^|\s)#.*$/, "").trim())
    .flatMap((line) => {
      if (/!\s*env_reset\b/.test(line)) return ["!env_reset keeps every variable"];
      if (/\bSETENV\s*:/.test(line)) return ["SETENV lets the caller set any variable"];
      if (/^Defaults\S*\s(?:.*[\s,])?setenv\b/.test(line))
        return ["setenv lets the caller keep every variable"];
      return [...line.matchAll(/\b(env_keep|env_check)\s*\+?=\s*(?:"([^"]*)"|([^\s,"]+))/g)].flatMap(
        ([, list, quoted, bare]) =>
          (quoted ?? bare ?? "")
            .split(/\s+/)
            .filter(isDangerousPattern)
            .map((name) => `${list} keeps ${name}`),
      );
    });
}

/** Whether a name in env_keep, with `*` as a wildcard, matches a variable that runs foreign code. */
function isDangerousPattern(name: string): boolean {
  const fixed = name.split("*")[0] ?? "";
  return ["BUN_", "NODE_", "LD_"].some(
    (prefix) => name.startsWith(prefix) || (name.includes("*") && prefix.startsWith(fixed)),
  );
}
