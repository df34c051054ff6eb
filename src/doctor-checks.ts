import { accessSync, constants, lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { verifyAuditLog } from "./audit-verify.ts";
import { AegisError, messageOf } from "./errors.ts";
import { callExecutor } from "./executor-client.ts";
import { rootOnlyProblem } from "./files.ts";
import { hostIdentity } from "./host.ts";
import { dangerousEnvironment, loadSecret } from "./keys.ts";
import { auditDir, type Env, SYSTEM, userPaths } from "./paths.ts";
import { readText } from "./planning.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { resolveProgram, run, SYSTEM_PATH } from "./subprocess.ts";
import { loadTrust, type Trust } from "./trust.ts";

const LEVELS = ["ok", "warn", "fail"] as const;
export type Level = (typeof LEVELS)[number];

/** One finding. `fix` is what to type or do; empty when all is well. */
export interface Finding {
  check: string;
  level: Level;
  message: string;
  fix: string;
}

type Check = (env: Env) => Promise<Finding[]> | Finding[];

const ok = (check: string, message: string): Finding => ({ check, level: "ok", message, fix: "" });
const warn = (check: string, message: string, fix: string): Finding => ({
  check,
  level: "warn",
  message,
  fix,
});
const fail = (check: string, message: string, fix: string): Finding => ({
  check,
  level: "fail",
  message,
  fix,
});

/** Every check, in the order in which they are shown. All are read-only. */
const CHECKS: readonly { name: string; check: Check }[] = [
  { name: "host", check: host },
  { name: "tools", check: tools },
  { name: "packages", check: packageState },
  { name: "directories", check: directories },
  { name: "keys", check: trustedKeys },
  { name: "secrets", check: secrets },
  { name: "policy", check: policyFile },
  { name: "executor", check: executor },
  { name: "audit", check: auditLogs },
  { name: "environment", check: environment },
  { name: "sudoers", check: sudoers },
];

/** Runs all checks. A check that breaks is itself a finding. */
export async function runChecks(env: Env): Promise<Finding[]> {
  const findings = await Promise.all(
    CHECKS.map(async ({ name, check }) => {
      try {
        return await check(env);
      } catch (error) {
        const hint = error instanceof AegisError ? error.hint : "";
        return [fail(name, messageOf(error), hint || "Correct what the message names.")];
      }
    }),
  );
  return findings.flat();
}

function host(): Finding[] {
  const { hostname, os_id, os_version, architecture } = hostIdentity(readText);
  const known = os_id === "debian" || os_id === "ubuntu";
  const text = `${hostname}, ${os_id} ${os_version}, ${architecture}`;
  return [
    known
      ? ok("host", text)
      : warn("host", `${text}: not a distribution Aegis is tested on`, "Expect plans to be denied."),
  ];
}

/** Programs that planning needs, and what is lost without them. */
const TOOLS: readonly { name: string; level: Level; without: string; fix: string }[] = [
  {
    name: "apt-get",
    level: "fail",
    without: "no apt plan can be made",
    fix: "This host is not managed by apt.",
  },
  {
    name: "apt-cache",
    level: "fail",
    without: "no apt plan can be made",
    fix: "This host is not managed by apt.",
  },
  {
    name: "apt-config",
    level: "fail",
    without: "no apt plan can be run",
    fix: "This host is not managed by apt.",
  },
  {
    name: "dpkg",
    level: "fail",
    without: "no apt plan can be run",
    fix: "This host is not managed by dpkg.",
  },
  {
    name: "gpgv",
    level: "warn",
    without: "no repository counts as verified, so policy denies",
    fix: "Have an administrator install gpgv.",
  },
  {
    name: "npm",
    level: "warn",
    without: "npm plans lack metadata",
    fix: "Install npm if you want to plan npm packages.",
  },
];

async function tools(): Promise<Finding[]> {
  return Promise.all(
    TOOLS.map(async ({ name, level, without, fix }) => {
      const program = resolveProgram(name);
      if (program === null)
        return { check: name, level, message: `not found in ${SYSTEM_PATH.join(", ")}: ${without}`, fix };
      const env = { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8", HOME: "/nonexistent" };
      const { stdout } = await run(program, ["--version"], {
        env,
        cwd: "/",
        timeoutMs: 15_000,
        maxBytes: 64 * 1024,
      });
      return ok(name, `${program}: ${stdout.toString("utf8").split("\n")[0] ?? ""}`);
    }),
  );
}

async function packageState(): Promise<Finding[]> {
  const dpkg = resolveProgram("dpkg");
  if (dpkg === null) return [];
  const result = await run(dpkg, ["--audit"], {
    env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
    cwd: "/",
    timeoutMs: 60_000,
    maxBytes: 256 * 1024,
  });
  const text = result.stdout.toString("utf8").trim();
  if (text === "" && result.status === 0) return [ok("packages", "dpkg has nothing half-done")];
  return [
    fail(
      "packages",
      `dpkg has unfinished packages: ${text.split("\n")[0] ?? ""}`,
      "See: dpkg --audit. apt refuses to run until an administrator has repaired them.",
    ),
  ];
}

function directories(env: Env): Finding[] {
  const paths = userPaths(env);
  const own = [paths.data, paths.plans, paths.policy, paths.executions, paths.keys].flatMap((path) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return [];
    if ((stat.mode & 0o022) !== 0)
      return [fail("directories", `${path} can be written by others`, `Type: chmod go-w ${path}`)];
    return stat.uid === process.geteuid?.()
      ? []
      : [warn("directories", `${path} belongs to another user`, `Look: ls -ld ${path}`)];
  });
  const system = [SYSTEM.config, SYSTEM.state, SYSTEM.auditDir, SYSTEM.run].flatMap((path) => {
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
    const problem = rootOnlyProblem(path);
    return problem === null
      ? []
      : [fail("directories", problem, `It must belong to root alone: ls -ld ${path}`)];
  });
  const findings = [...own, ...system];
  return findings.length > 0
    ? findings
    : [ok("directories", `${paths.data}, ${SYSTEM.state}, ${SYSTEM.auditDir}`)];
}

function trustedKeys(): Finding[] {
  const trust = loadTrust({ rootOnly: true });
  const of = (role: "execution" | "approval") =>
    trust.filter((key) => key.role === role && !key.revoked).length;
  if (of("execution") === 0) {
    return [
      warn(
        "keys",
        "this host trusts no execution key: only a daemon started with --public-key-hex runs anything",
        `Enrol one in ${SYSTEM.trustedKeys}`,
      ),
    ];
  }
  const text = `${of("execution")} execution and ${of("approval")} approval keys are trusted`;
  return [
    of("approval") > 0
      ? ok("keys", text)
      : warn("keys", text, "Without an approval key nothing that needs a human can run."),
  ];
}

/** Whoever can read both secrets can sign and approve alone: then approval proves nothing. */
function secrets(env: Env): Finding[] {
  const readable = readableSecrets(env);
  const trust = safeTrust();
  const roleOf = (publicKey: string) => trust.find((key) => key.publicKeyHex === publicKey)?.role;
  const roles = new Set(readable.map(({ publicKeyHex, role }) => role ?? roleOf(publicKeyHex)));
  if (roles.has("execution") && roles.has("approval")) {
    return [
      fail(
        "secrets",
        `one user can read an execution and an approval secret: ${readable.map((s) => s.where).join(", ")}`,
        "Keep the approval secret under another account, best on another machine.",
      ),
    ];
  }
  return [
    ok("secrets", "no user here holds both an execution and an approval secret, as far as this user can see"),
  ];
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
  const directories = [userPaths(env).keys, SYSTEM.config];
  const fromFiles = directories.flatMap((directory) =>
    namesIn(directory).flatMap((name) => {
      const file = join(directory, name);
      try {
        accessSync(file, constants.R_OK);
        const key = loadSecret("signing", { file }, {}, () => {});
        return key === null ? [] : [{ where: file, publicKeyHex: key.publicKeyHex }];
      } catch {
        // Not a key file, or not readable: then it is no secret that this user holds.
        return [];
      }
    }),
  );
  return [...fromVariables, ...fromFiles];
}

/** The variables without the ones that make loading a secret refuse: here it is only looked at whether one is there. */
function withoutDanger(env: Env): Env {
  const bad = new Set(dangerousEnvironment(env));
  return Object.fromEntries(Object.entries(env).filter(([name]) => !bad.has(name)));
}

function safeTrust(): Trust {
  try {
    return loadTrust({ rootOnly: false });
  } catch {
    // The check of the keys says so.
    return [];
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function policyFile(env: Env): Finding[] {
  const mine = loadPolicyConfig(env);
  const system = loadPolicyConfig({}, { system: true });
  const text = `${mine.source} here, ${system.source} in the executor`;
  if (mine.hash === system.hash) return [ok("policy", text)];
  return [
    warn(
      "policy",
      `${text}: the two differ`,
      "The executor decides by its own; plans may be refused as stricter there.",
    ),
  ];
}

async function executor(): Promise<Finding[]> {
  const stat = lstatSync(SYSTEM.socket, { throwIfNoEntry: false });
  if (stat === undefined)
    return [warn("executor", "no executor runs on this host", "Start it as root: aegis daemon --executor")];
  if (!stat.isSocket() || stat.uid !== 0 || (stat.mode & 0o002) !== 0) {
    return [
      fail("executor", `${SYSTEM.socket} is not a socket that root guards`, `Look: ls -l ${SYSTEM.socket}`),
    ];
  }
  try {
    const status = await callExecutor(SYSTEM.socket, "Status", {}, { silenceMs: 10_000 });
    return [
      ok("executor", `answers; running: ${status.running ?? "nothing"}, waiting: ${status.queued.length}`),
    ];
  } catch (error) {
    return [fail("executor", messageOf(error), error instanceof AegisError ? error.hint : "")];
  }
}

function auditLogs(env: Env): Finding[] {
  return [...new Set([auditDir(env), SYSTEM.auditDir])].map((directory) => {
    try {
      const result = verifyAuditLog(directory);
      if (!result.ok) {
        return fail(
          "audit",
          `${result.file}, line ${result.line}: ${result.reason}`,
          `See: aegis audit verify --path ${directory}`,
        );
      }
      if (result.torn_bytes > 0)
        return warn("audit", `${directory} ends in a torn line`, "The next event repairs it and says so.");
      return ok("audit", `${directory}: ${result.events} events, chain intact`);
    } catch (error) {
      if (error instanceof AegisError && error.code === "not_found")
        return ok("audit", `${directory}: no log yet`);
      return warn(
        "audit",
        `${directory}: ${messageOf(error)}`,
        "Look again as root or a member of aegis-admin.",
      );
    }
  });
}

function environment(env: Env): Finding[] {
  const dangerous = dangerousEnvironment(env);
  if (dangerous.length === 0)
    return [ok("environment", "no variable that runs foreign code in aegis is set")];
  return [fail("environment", `set: ${dangerous.join(", ")}`, `Type: unset ${dangerous.join(" ")}`)];
}

/** sudo must not carry the caller's BUN_* and NODE_* variables into a root aegis (sudoers(5)). */
function sudoers(): Finding[] {
  // sudo passes over names with a dot or a tilde at the end.
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
    return [ok("sudoers", "not readable or not there: run doctor as root to have it checked")];
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

/** Whether a name of env_keep, with `*` for anything, stands for a variable that runs foreign code. */
function isDangerousPattern(name: string): boolean {
  const fixed = name.split("*")[0] ?? "";
  return ["BUN_", "NODE_", "LD_"].some(
    (prefix) => name.startsWith(prefix) || (name.includes("*") && prefix.startsWith(fixed)),
  );
}
