import { lstatSync } from "node:fs";
import { basename } from "node:path";
import { verifyAuditLog } from "./audit-verify.ts";
import { directories } from "./doctor-directories.ts";
import { OLD_CODE_CHECK, oldCodeFindings } from "./doctor-processes.ts";
import { reviewerService, reviewKeys, reviewModel } from "./doctor-review.ts";
import {
  BREAK_GLASS_CHECK,
  breakGlassFindings,
  environment,
  policyFile,
  provenanceRoot,
  registryFile,
  secrets,
  sudoers,
  trustedKeys,
} from "./doctor-trust.ts";
import { unmanagedFindings } from "./doctor-unmanaged.ts";
import { loadEcosystem } from "./eco-load.ts";
import { LISTEN, type SandboxUnits, sandboxUnits } from "./eco-sandbox-unit.ts";
import { TABLE } from "./eco-table.ts";
import { AegisError, messageOf } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { executorAbsence } from "./front-absent.ts";
import { callExecutor } from "./front-client.ts";
import { UNMANAGED_CHECK } from "./monitor-unmanaged-events.ts";
import { auditDir, type Env, SYSTEM } from "./paths.ts";
import { hostIdentity } from "./plan-world.ts";
import { readText } from "./sys-files.ts";
import { NO_HOME, resolveProgram, run, SYSTEM_PATH } from "./sys-spawn.ts";
import { USERS, userIds } from "./sys-state.ts";
import { isInstalled } from "./sys-systemd.ts";

type Check = (env: Env) => Promise<Finding[]> | Finding[];

/** The checks, in display order. All are read-only. */
const CHECKS: readonly { name: string; check: Check }[] = [
  { name: "host", check: host },
  { name: "tools", check: tools },
  { name: "confinement", check: () => confinement(THIS_HOST) },
  { name: "packages", check: packageState },
  { name: "directories", check: directories },
  { name: "keys", check: trustedKeys },
  { name: BREAK_GLASS_CHECK, check: () => breakGlassFindings() },
  { name: "secrets", check: secrets },
  { name: "registries", check: registryFile },
  { name: "provenance", check: provenanceRoot },
  { name: "policy", check: policyFile },
  { name: "executor", check: executor },
  { name: "reviewer", check: (env) => reviewerService(env) },
  { name: "model", check: reviewModel },
  { name: "review", check: reviewKeys },
  { name: "audit", check: auditLogs },
  { name: UNMANAGED_CHECK, check: unmanagedFindings },
  { name: OLD_CODE_CHECK, check: () => oldCodeFindings() },
  { name: "environment", check: environment },
  { name: "sudoers", check: sudoers },
];

/** Runs all checks except those named in `without`. A check that throws becomes a finding. */
export async function runChecks(env: Env, without: readonly string[] = []): Promise<Finding[]> {
  const checks = CHECKS.filter(({ name }) => !without.includes(name));
  const findings = await Promise.all(
    checks.map(async ({ name, check }) => {
      try {
        return await check(env);
      } catch (error) {
        const hint = error instanceof AegisError ? error.hint : "";
        return [fail(name, messageOf(error), hint || "Fix what the message names.")];
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

/** The programs that the ecosystems need, and what does not work without them. */
async function tools(): Promise<Finding[]> {
  return Promise.all(
    Object.values(TABLE)
      .flatMap(({ grammar }) => grammar.programs)
      .map(async ({ name, instead, version = ["--version"], level, without, fix }) => {
        const names = instead === undefined ? [name] : [name, instead];
        const [program = null] = names.map((one) => resolveProgram(one)).filter((found) => found !== null);
        if (program === null)
          return {
            check: name,
            level,
            message: `${names.join(" or ")}: not found in ${SYSTEM_PATH.join(", ")}: ${without}`,
            fix,
          };
        // The one that was found, which may be the other.
        const check = basename(program);
        if (version === null) return ok(check, program);
        const line = await versionLine(program, version);
        if (line !== null) return ok(check, `${program}: ${line}`);
        const command = [program, ...version].join(" ");
        return { check, level, message: `${command} failed: ${without}`, fix: `Type: ${command}` };
      }),
  );
}

/** What confinement depends on. */
interface ConfiningHost {
  program(name: string): string | null;
  hasUser(name: string): boolean;
  units(): SandboxUnits;
  isInstalled(): boolean;
}

const THIS_HOST: ConfiningHost = {
  program: resolveProgram,
  hasUser: (name) => userIds(name) !== null,
  units: sandboxUnits,
  isInstalled,
};

/** What confines the tools of other ecosystems than apt's. */
export function confinement(host: ConfiningHost): Finding[] {
  const absent = ["unshare", "setpriv", "prlimit"].filter((name) => host.program(name) === null);
  if (absent.length > 0) {
    const why = `${absent.join(", ")}: not installed: no other tool than apt can be run`;
    return [warn("confinement", why, "Type: sudo apt-get install util-linux")];
  }
  const users = [USERS.build, USERS.fetch].filter((name) => !host.hasUser(name));
  if (users.length > 0) {
    const why = `there is no user ${users.join(" and no user ")}: no other tool than apt can be run`;
    return [warn("confinement", why, "Type: sudo aegis daemon install")];
  }
  const { build, unpack, fetch } = host.units();
  const silent = [
    ...(build === null ? ["aegis-build.socket"] : []),
    ...(unpack === null ? ["aegis-unpack.socket"] : []),
    ...(fetch === null ? ["aegis-fetch.socket"] : []),
  ];
  if (silent.length === 0)
    return [
      ok(
        "confinement",
        "other tools than apt run in aegis-build@.service or aegis-unpack@.service, their downloads in aegis-fetch@.service",
      ),
    ];
  if (silent.length === 3 && !host.isInstalled())
    return [ok("confinement", "by namespaces, for an executor that root starts by hand")];
  const verb = silent.length > 1 ? "don't" : "doesn't";
  const names = silent.join(", ").replace(/, (\S+)$/, " and $1");
  const tools = build !== null && fetch !== null ? "no tool that unpacks images" : "no other tool than apt";
  const why = `${names} ${verb} listen: ${tools} can be run`;
  return [warn("confinement", why, LISTEN)];
}

/** The first line a program prints about its version; null if it fails or takes longer than 15 s. */
export async function versionLine(program: string, args: readonly string[]): Promise<string | null> {
  const { outcome, status, stdout } = await run(program, args, {
    env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8", HOME: NO_HOME },
    cwd: "/",
    timeoutMs: 15_000,
    maxBytes: 64 * 1024,
  });
  return outcome === "exited" && status === 0 ? (stdout.toString("utf8").split("\n")[0] ?? "") : null;
}

/** The state of each ecosystem's package manager. */
async function packageState(): Promise<Finding[]> {
  const ecosystems = await Promise.all(Object.keys(TABLE).map((tool) => loadEcosystem(tool)));
  return (await Promise.all(ecosystems.map((ecosystem) => ecosystem.check()))).flat();
}

async function executor(): Promise<Finding[]> {
  const stat = lstatSync(SYSTEM.socket, { throwIfNoEntry: false });
  if (stat === undefined) {
    const { level, why, fix } = executorAbsence();
    return [{ check: "executor", level, message: why, fix }];
  }
  if (!stat.isSocket() || stat.uid !== 0 || (stat.mode & 0o002) !== 0) {
    return [
      fail("executor", `${SYSTEM.socket} is not a socket protected by root`, `Type: ls -l ${SYSTEM.socket}`),
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
          `${result.file}${result.line === null ? "" : `, line ${result.line}`}: ${result.reason}`,
          `See: aegis audit verify --path ${directory}`,
        );
      }
      if (result.torn_bytes > 0)
        return warn("audit", `${directory} ends in a torn line`, "The next event repairs and reports it.");
      return ok("audit", `${directory}: ${result.events} events, chain intact`);
    } catch (error) {
      if (error instanceof AegisError && error.code === "not_found")
        return ok("audit", `${directory}: no log yet`);
      return warn(
        "audit",
        `${directory}: ${messageOf(error)}`,
        "Run doctor as root or a member of aegis-admin.",
      );
    }
  });
}
