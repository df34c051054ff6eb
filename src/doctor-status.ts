import { lstatSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { trustFinding } from "./doctor-trust.ts";
import { AegisError, type ErrorCode, errnoOf, messageOf } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { isOutdated } from "./host-services.ts";
import { isOdd, reviewKeyProblem } from "./host-steps.ts";
import {
  BOOT_LOADER_DROP_IN,
  HOST_DIRECTORIES,
  NEEDRESTART_FILE,
  needrestartText,
  UNIT_NAMES,
  type UnitName,
  unitText,
  WAIT_FOR_APT,
} from "./host-units.ts";
import { loadTrust, trustsExecutionKey } from "./key-trust.ts";
import { MONITOR_CHECK, monitorFindings } from "./monitor-events.ts";
import { UNMANAGED_CHECK, unmanagedFindings } from "./monitor-unmanaged-events.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig } from "./policy-config.ts";
import { REVIEWER_VARIABLES, withEnvironmentFile } from "./sys-environment-file.ts";
import { rootOnlyProblem } from "./sys-files.ts";
import { ADMIN_GROUP, accountProblems, groupId, REVIEW_GROUP, USERS } from "./sys-state.ts";
import {
  hasSystemd,
  isInstalled,
  showUnits,
  stoppingUnits,
  UNIT_DIRECTORY,
  type UnitState,
} from "./sys-systemd.ts";

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

/** Units that are to be active all the time once a key is trusted. */
const ALWAYS: readonly UnitName[] = [
  "aegis-runner.socket",
  "aegis-reviewd.socket",
  "aegis-reviewd.service",
  "aegis-monitor.timer",
];
const EXECUTOR: readonly UnitName[] = ["aegisd.socket", "aegisd.service"];
const INSTALL = "Type as root: aegis daemon install";
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

function unitFindings(states: Readonly<Record<UnitName, UnitState>>): Finding[] {
  const expected = [...ALWAYS, ...(safely(trustsExecutionKey) === true ? EXECUTOR : [])];
  const down = expected.filter((name) => states[name].ActiveState !== "active");
  const failed = UNIT_NAMES.filter((name) => states[name].ActiveState === "failed");
  const outdated = expected.filter((name) => !down.includes(name) && isOutdated(name, states[name]));
  const reload = UNIT_NAMES.filter((name) => states[name].NeedDaemonReload === "yes");
  const dropIns = UNIT_NAMES.filter((name) => states[name].DropInPaths !== "");
  const findings = [
    ...[...new Set([...down, ...failed])].map((name) =>
      fail(
        "services",
        `${name} is ${states[name].ActiveState} (${states[name].Result})`,
        `Look: journalctl -b -u ${name}; then, as root: aegis daemon install`,
      ),
    ),
    ...(outdated.length + reload.length === 0
      ? []
      : [
          warn(
            "services",
            `still run as before a change: ${[...new Set([...outdated, ...reload])].join(", ")}`,
            INSTALL,
          ),
        ]),
    ...dropIns.map((name) => ok("services", `${name} is changed by ${states[name].DropInPaths}`)),
  ];
  return findings.some(({ level }) => level !== "ok")
    ? findings
    : [ok("services", "all are as installed"), ...findings];
}

/**
 * A service that waits for apt and has been told to stop. Where a hook of that apt, or a maintainer script, asked for it and
 * waits in turn, both wait for ever. The unit refuses that, unless a drop-in says otherwise.
 */
async function toldToStop(): Promise<Finding[]> {
  const { units, hostToo } = await stoppingUnits(WAIT_FOR_APT.map((name) => name.replace("@.", "@*.")));
  return units.map((unit) =>
    hostToo
      ? ok("services", `${unit} has work to finish before the host goes down`)
      : fail(
          "services",
          `${unit} has been told to stop and waits for its apt, which waits in turn if it was apt that asked`,
          "Look what asked: systemctl list-jobs; as root, systemctl cancel <job> ends its wait, and what was started goes on.",
        ),
  );
}

/** Programs that want block devices, which the runner's unit keeps from packages: every new kernel calls the first. */
const BOOT_PROGRAMS = ["/usr/sbin/update-grub", "/usr/bin/efibootmgr", "/usr/sbin/mdadm"];

function bootLoader({ DropInPaths }: UnitState): Finding[] {
  const found = BOOT_PROGRAMS.filter(isFile);
  if (found.length === 0 || DropInPaths !== "") return [];
  const { path, lines } = BOOT_LOADER_DROP_IN;
  const text = lines.join("\\n");
  return [
    warn(
      "services",
      `${found.join(", ")} may fail when a kernel or boot loader is installed: the runner's unit hides block devices`,
      `On a machine with a disk of its own, type as root: mkdir -p ${dirname(path)} && printf '${text}\\n' >${path} && systemctl daemon-reload`,
    ),
  ];
}

/** Whether the unit files are those of this version. */
function unitFiles(): Finding[] {
  const files = [
    ...UNIT_NAMES.map((name) => ({ name, path: join(UNIT_DIRECTORY, name), text: unitText(name) })),
    { name: NEEDRESTART_FILE, path: NEEDRESTART_FILE, text: needrestartText() },
  ];
  const changed = files
    .filter(({ path, text }) => safely(() => readFileSync(path, "utf8")) !== text)
    .map(({ name }) => name);
  if (changed.length === 0) return [ok("units", `${UNIT_DIRECTORY}: of this version`)];
  return [
    warn(
      "units",
      `missing, of another version, or edited: ${changed.join(", ")}`,
      `${INSTALL}; own changes go into drop-ins`,
    ),
  ];
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

const UNIT_PLACES = [
  UNIT_DIRECTORY,
  "/usr/local/lib/systemd/system",
  "/usr/lib/systemd/system",
  "/lib/systemd/system",
];
/** Where earlier versions and packages of the family put the program. */
const STALE = /(?:\/usr\/bin|\/usr\/libexec|\/usr\/local\/libexec|\/opt)\/aegis/;

/** Units and drop-ins of an older installation: they start a program that is not this one. */
function staleUnits(): Finding[] {
  // Where /lib is /usr/lib, each is looked at once.
  const places = new Set(UNIT_PLACES.map((place) => safely(() => realpathSync(place)) ?? place));
  const files = [...places].flatMap((place) =>
    namesIn(place)
      .filter((name) => name.startsWith("aegis"))
      .flatMap((name) => {
        const path = join(place, name);
        return name.endsWith(".d") ? namesIn(path).map((part) => join(path, part)) : [path];
      }),
  );
  return files
    .filter((path) => STALE.test(safely(() => readFileSync(path, "utf8")) ?? ""))
    .map((path) =>
      warn(
        "stale",
        `${path} names a program of an older installation`,
        `Compare it with ${SYSTEM.binary}, then remove it: rm ${path} && systemctl daemon-reload; ${INSTALL}`,
      ),
    );
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

function namesIn(directory: string): string[] {
  return safely(() => readdirSync(directory)) ?? [];
}

function isFile(path: string): boolean {
  return safely(() => lstatSync(path).isFile()) === true;
}

/** The value, or null where this user may not look. */
function safely<T>(look: () => T): T | null {
  try {
    return look();
  } catch (error) {
    if (error instanceof AegisError || errnoOf(error) !== "") return null;
    throw error;
  }
}
