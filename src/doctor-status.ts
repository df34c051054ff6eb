import { lstatSync } from "node:fs";
import { trustFinding } from "./doctor-trust.ts";
import {
  bootLoader,
  INSTALL,
  safely,
  staleUnits,
  toldToStop,
  unitFiles,
  unitFindings,
} from "./doctor-units.ts";
import { unmanagedFindings } from "./doctor-unmanaged.ts";
import { AegisError, type ErrorCode, messageOf } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { isOdd, reviewKeyProblem } from "./host-steps.ts";
import { HOST_DIRECTORIES, UNIT_NAMES } from "./host-units.ts";
import { loadTrust, trustsExecutionKey } from "./key-trust.ts";
import { MONITOR_CHECK, monitorFindings } from "./monitor-events.ts";
import { UNMANAGED_CHECK } from "./monitor-unmanaged-events.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { REVIEWER_VARIABLES, withEnvironmentFile } from "./sys-environment-file.ts";
import { rootOnlyProblem } from "./sys-files.ts";
import { ADMIN_GROUP, accountProblems, groupId, REVIEW_GROUP, USERS } from "./sys-state.ts";
import { hasSystemd, isInstalled, showUnits } from "./sys-systemd.ts";

/** One unit as systemd sees it. */
export interface ServiceState {
  unit: string;
  active: string;
  enabled: string;
}

export interface HostStatus {
  services: ServiceState[];
  findings: Finding[];
}

/** What keeps the executor from believing anything; doctor fails of the same. */
const WRONG: ReadonlySet<string> = new Set<ErrorCode>([
  "invalid_config",
  "invalid_key",
  "invalid_document",
  "log_tampered",
]);
const FIX = { wrong: "Correct the file as root.", hidden: "Look again as root." };

/** How the services of this host are, as far as this user can see. Read-only, and never throws. */
export async function hostStatus(): Promise<HostStatus> {
  const services: ServiceState[] = [];
  const findings: Finding[] = [];
  const look = async (check: string, action: () => Promise<Finding[]> | Finding[]) => {
    try {
      findings.push(...(await action()));
    } catch (error) {
      const { code, hint } = error instanceof AegisError ? error : { code: "io", hint: "" };
      // A file that is wrong stops the services; one that this user may not read says nothing of them.
      const wrong = WRONG.has(code);
      findings.push((wrong ? fail : warn)(check, messageOf(error), hint || FIX[wrong ? "wrong" : "hidden"]));
    }
  };
  if (!hasSystemd()) {
    findings.push(
      warn("services", "systemd does not run this machine", "Services are started by hand here."),
    );
  } else if (!isInstalled()) {
    findings.push(warn("services", "Aegis is not installed as services on this host", INSTALL));
  } else {
    await look("services", async () => {
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
    await look("services", toldToStop);
    await look("units", unitFiles);
    await look("accounts", accounts);
    await look("directories", directories);
    await look("sockets", sockets);
  }
  await look("stale", staleUnits);
  await look("keys", keys);
  await look("policy", policy);
  await look("settings", settings);
  await look(UNMANAGED_CHECK, unmanagedFindings);
  await look(MONITOR_CHECK, monitorFindings);
  return { services, findings };
}

function accounts(): Finding[] {
  const problems = accountProblems();
  if (problems.length === 0) return [ok("accounts", "the services have accounts of their own")];
  return problems.map((problem) =>
    fail("accounts", problem, "Put that right as root, then: aegis daemon install"),
  );
}

function directories(): Finding[] {
  // Who may not look into a parent can't tell.
  const visible = HOST_DIRECTORIES.filter(({ path }) => safely(() => lstatSync(path)) !== null);
  const odd = visible.filter(isOdd).map(({ path }) => path);
  const program = rootOnlyProblem(SYSTEM.binary);
  if (program !== null) return [fail("directories", `root's own program: ${program}`, INSTALL)];
  if (odd.length === 0) return [ok("directories", `${visible.length} with the right owners and modes`)];
  return [fail("directories", `not whose or how they should be: ${odd.join(", ")}`, INSTALL)];
}

/** Sockets are root's; the group decides who may connect. */
function sockets(): Finding[] {
  const table = [
    { path: SYSTEM.socket, group: ADMIN_GROUP },
    { path: SYSTEM.runnerSocket, group: USERS.front },
    { path: SYSTEM.reviewerSocket, group: REVIEW_GROUP },
  ];
  const findings = table.flatMap(({ path, group }) => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return [];
    const right =
      stat.isSocket() && stat.uid === 0 && stat.gid === groupId(group) && (stat.mode & 0o777) === 0o660;
    return right ? [] : [fail("sockets", `${path} is not root:${group} 0660`, INSTALL)];
  });
  return findings.length > 0 ? findings : [ok("sockets", "guarded by their groups")];
}

/** The front reads these too. None holds a secret. */
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

/** The policy that the executor decides by. */
function policy(): Finding[] {
  const hidden = hiddenFromFront("policy", SYSTEM.policy);
  if (hidden.length > 0) return hidden;
  return [ok("policy", `${loadPolicyConfig({}, { system: true }).source} in the executor`)];
}

function keys(): Finding[] {
  const hidden = hiddenFromFront("keys", SYSTEM.trustedKeys, SYSTEM.daemonEnv);
  if (hidden.length > 0) return hidden;
  const readable = reviewKeyProblem();
  if (readable !== null)
    return [fail("keys", readable, `Type as root: rm ${SYSTEM.reviewKey}*; then: aegis daemon install`)];
  if (trustsExecutionKey()) return [trustFinding(loadTrust({ rootOnly: true }))];
  return [
    warn(
      "keys",
      "no execution key is trusted, so nothing runs",
      `Write it into ${SYSTEM.trustedKeys}, then: aegis daemon install`,
    ),
  ];
}

/** Whether the reviewer would accept its settings; whoever may not read them is not told. */
function settings(): Finding[] {
  try {
    withEnvironmentFile({}, SYSTEM.reviewerEnv, REVIEWER_VARIABLES);
  } catch (error) {
    if (!(error instanceof AegisError && error.code === "io")) throw error;
  }
  return [];
}
