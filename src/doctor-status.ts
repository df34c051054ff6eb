import { lstatSync } from "node:fs";
import { join } from "node:path";
import { OLD_CODE_CHECK, oldCodeFindings } from "./doctor-processes.ts";
import { BREAK_GLASS_CHECK, breakGlassFindings, trustFindings } from "./doctor-trust.ts";
import {
  bootLoader,
  INSTALL,
  safely,
  staleUnits,
  stoppingServices,
  unitFiles,
  unitFindings,
} from "./doctor-units.ts";
import { unmanagedFindings } from "./doctor-unmanaged.ts";
import { AegisError, type ErrorCode, messageOf } from "./errors.ts";
import { feedFindings } from "./feeds-state.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { HOST_DIRECTORIES } from "./host-accounts.ts";
import { isMisconfigured } from "./host-steps.ts";
import { UNIT_NAMES } from "./host-units.ts";
import { installedProgram } from "./host-version.ts";
import { loadTrust, trustsExecutionKey } from "./key-trust.ts";
import { MONITOR_CHECK, monitorFindings } from "./monitor-events.ts";
import { UNMANAGED_CHECK } from "./monitor-unmanaged-events.ts";
import { notifyFindings } from "./notify.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { REVIEWER_VARIABLES, withEnvironmentFile } from "./sys-environment-file.ts";
import { namesIn, rootOnlyProblem, secretFileProblem } from "./sys-files.ts";
import { ADMIN_GROUP, accountProblems, groupId, REVIEW_GROUP, USERS } from "./sys-state.ts";
import { hasSystemd, isInstalled, showUnits } from "./sys-systemd.ts";
import { bytes, plural } from "./terminal.ts";

/** Where the .deb puts the program. */
const PACKAGED = "/usr/bin/aegis";

/** One unit's state in systemd. */
export interface ServiceState {
  unit: string;
  active: string;
  enabled: string;
}

export interface HostStatus {
  services: ServiceState[];
  findings: Finding[];
}

/** Errors in a file that stop the executor: a failure here too. */
const WRONG: ReadonlySet<string> = new Set<ErrorCode>([
  "invalid_config",
  "invalid_key",
  "invalid_document",
  "log_tampered",
]);
const FIX = { wrong: "Correct the file as root.", hidden: "Run this again as root." };

/** The state of this host's services, as far as this user can see. Read-only; never throws. */
export async function hostStatus(): Promise<HostStatus> {
  const services: ServiceState[] = [];
  const findings: Finding[] = [];
  const check = async (name: string, action: () => Promise<Finding[]> | Finding[]) => {
    try {
      findings.push(...(await action()));
    } catch (error) {
      const { code, hint } = error instanceof AegisError ? error : { code: "io", hint: "" };
      // An invalid file stops the services; one that this user may not read says nothing about them.
      const wrong = WRONG.has(code);
      findings.push((wrong ? fail : warn)(name, messageOf(error), hint || FIX[wrong ? "wrong" : "hidden"]));
    }
  };
  if (!hasSystemd()) {
    findings.push(
      warn("services", "systemd does not run this machine", "Start the services by hand on this host."),
    );
  } else if (!isInstalled()) {
    findings.push(warn("services", "Aegis is not installed as services on this host", INSTALL));
  } else {
    await check("services", async () => {
      const states = await showUnits(UNIT_NAMES);
      services.push(
        ...UNIT_NAMES.filter((name) => !name.includes("@")).map((name) => ({
          unit: name,
          active: states[name].ActiveState,
          enabled: states[name].UnitFileState,
        })),
      );
      return [...unitFindings(states), ...bootLoader(states["aegis-runner@.service"])];
    });
    await check("services", stoppingServices);
    await check("units", unitFiles);
    await check("program", packagedProgram);
    await check("accounts", accounts);
    await check("directories", directories);
    await check("sockets", sockets);
  }
  await check("stale", staleUnits);
  await check("keys", keys);
  await check(BREAK_GLASS_CHECK, breakGlassFindings);
  await check("policy", policy);
  await check("settings", settings);
  await check(UNMANAGED_CHECK, unmanagedFindings);
  await check(MONITOR_CHECK, monitorFindings);
  await check(OLD_CODE_CHECK, () => oldCodeFindings());
  await check("notify", () => notifyFindings());
  await check("feeds", () => feedFindings());
  await check("kept", keptFindings);
  return { services, findings };
}

function accounts(): Finding[] {
  const problems = accountProblems();
  if (problems.length === 0) return [ok("accounts", "each service has its own account")];
  return problems.map((problem) =>
    fail("accounts", problem, "Correct it as root, then type: aegis daemon install"),
  );
}

function directories(): Finding[] {
  // This user may not be allowed into a parent directory.
  const visible = HOST_DIRECTORIES.filter(({ path }) => safely(() => lstatSync(path)) !== null);
  const misconfigured = visible.filter(isMisconfigured).map(({ path }) => path);
  const program = rootOnlyProblem(SYSTEM.binary);
  if (program !== null) return [fail("directories", `root's program: ${program}`, INSTALL)];
  if (misconfigured.length === 0)
    return [ok("directories", `${visible.length} with correct owners and modes`)];
  return [fail("directories", `wrong owner or mode: ${misconfigured.join(", ")}`, INSTALL)];
}

/** The program that the .deb brings is not the one that the services run: an upgrade of the package has to be installed too. */
export async function packagedProgram(
  packaged: string = PACKAGED,
  running: string = SYSTEM.binary,
): Promise<Finding[]> {
  const brought = await installedProgram(packaged);
  if (brought.version === null) return [];
  const { version } = await installedProgram(running);
  if (version === brought.version) return [ok("program", `${running} and the package's: ${version}`)];
  return [
    warn(
      "program",
      `the services run ${version ?? "an unknown version"}, and the package has brought ${brought.version}`,
      `Type as root: ${packaged} daemon install`,
    ),
  ];
}

/** Sockets belong to root; their group decides who may connect. */
function sockets(): Finding[] {
  const table = [
    { path: SYSTEM.socket, group: ADMIN_GROUP, mode: 0o660 },
    { path: SYSTEM.runnerSocket, group: USERS.front, mode: 0o660 },
    { path: SYSTEM.fetchSocket, group: "root", mode: 0o600 },
    { path: SYSTEM.buildSocket, group: "root", mode: 0o600 },
    { path: SYSTEM.unpackSocket, group: "root", mode: 0o600 },
    { path: SYSTEM.reviewerSocket, group: REVIEW_GROUP, mode: 0o660 },
  ];
  const findings = table.flatMap(({ path, group, mode }) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return [];
    const right =
      stat.isSocket() && stat.uid === 0 && stat.gid === groupId(group) && (stat.mode & 0o777) === mode;
    return right ? [] : [fail("sockets", `${path} is not root:${group} 0${mode.toString(8)}`, INSTALL)];
  });
  return findings.length > 0 ? findings : [ok("sockets", "correct owners, groups and modes")];
}

/** Files that the front must be able to read, and can't. None holds a secret. */
function hiddenFromFront(check: string, ...paths: readonly string[]): Finding[] {
  return paths
    .filter((path) => ((lstatSync(path, { throwIfNoEntry: false })?.mode ?? 0o004) & 0o004) === 0)
    .map((path) =>
      fail(
        check,
        `${path} can't be read by the front, which runs as ${USERS.front}`,
        `Type as root: chmod 644 ${path}; it holds no secret`,
      ),
    );
}

/** The executor's policy. */
function policy(): Finding[] {
  const hidden = hiddenFromFront("policy", SYSTEM.policy);
  if (hidden.length > 0) return hidden;
  return [ok("policy", `${loadPolicyConfig({}, { system: true }).source} in the executor`)];
}

function keys(): Finding[] {
  const hidden = hiddenFromFront("keys", SYSTEM.trustedKeys, SYSTEM.daemonEnv);
  if (hidden.length > 0) return hidden;
  const readable = secretFileProblem(SYSTEM.reviewKey);
  if (readable !== null)
    return [fail("keys", readable, `Type as root: rm ${SYSTEM.reviewKey}*; then: aegis daemon install`)];
  if (trustsExecutionKey()) return trustFindings(loadTrust({ rootOnly: true }));
  return [
    warn(
      "keys",
      "no execution key is trusted, so nothing runs",
      `Write it into ${SYSTEM.trustedKeys}, then: aegis daemon install`,
    ),
  ];
}

/** How much the executor keeps for rollbacks. */
function keptFindings(): Finding[] {
  const sizes = namesIn(SYSTEM.kept).map(
    (name) => lstatSync(join(SYSTEM.kept, name), { throwIfNoEntry: false })?.size ?? 0,
  );
  const total = bytes(sizes.reduce((sum, size) => sum + size, 0));
  return sizes.length === 0
    ? []
    : [ok("kept", `${plural(sizes.length, "package file")} for rollbacks, ${total}, in ${SYSTEM.kept}`)];
}

/** Throws if the reviewer would not accept its settings. A user who may not read them learns nothing. */
function settings(): Finding[] {
  try {
    withEnvironmentFile({}, SYSTEM.reviewerEnv, REVIEWER_VARIABLES);
  } catch (error) {
    if (!(error instanceof AegisError && error.code === "io")) throw error;
  }
  return [];
}
