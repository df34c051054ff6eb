import { lstatSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { AegisError, errnoOf } from "./errors.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";
import { BOOT_LOADER_DROP_IN, NEEDRESTART_FILE, needrestartText } from "./host-drop-ins.ts";
import { isOutdated } from "./host-services.ts";
import { UNIT_NAMES, type UnitName, unitText, WAIT_FOR_APT } from "./host-units.ts";
import { trustsExecutionKey } from "./key-trust.ts";
import { SYSTEM } from "./paths.ts";
import { namesIn } from "./sys-files.ts";
import { stoppingUnits, UNIT_DIRECTORY, type UnitState } from "./sys-systemd.ts";

/*
 * Checks of the units: whether they run, and whether their files are those of this version.
 */

/** Units that must always be active. */
const ALWAYS: readonly UnitName[] = [
  "aegis-runner.socket",
  "aegis-fetch.socket",
  "aegis-build.socket",
  "aegis-unpack.socket",
  "aegis-reviewd.socket",
  "aegis-reviewd.service",
  "aegis-monitor.timer",
  "aegis-notify.path",
];
/** Units that must be active once an execution key is trusted. */
const EXECUTOR: readonly UnitName[] = ["aegisd.socket", "aegisd.service"];
export const INSTALL = "Type as root: aegis daemon install";
export function unitFindings(states: Readonly<Record<UnitName, UnitState>>): Finding[] {
  const feeds: UnitName[] =
    states["aegis-feeds.timer"].UnitFileState === "enabled" ? ["aegis-feeds.timer"] : [];
  const expected = [...ALWAYS, ...feeds, ...(safely(trustsExecutionKey) === true ? EXECUTOR : [])];
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
        `Type: journalctl -b -u ${name}; then, as root: aegis daemon install`,
      ),
    ),
    ...(outdated.length + reload.length === 0
      ? []
      : [
          warn(
            "services",
            `still running from before a change: ${[...new Set([...outdated, ...reload])].join(", ")}`,
            INSTALL,
          ),
        ]),
    ...dropIns.map((name) => ok("services", `${name} is modified by ${states[name].DropInPaths}`)),
  ];
  return findings.some(({ level }) => level !== "ok")
    ? findings
    : [ok("services", "all are as installed"), ...findings];
}

/**
 * Services that wait for apt and have been told to stop. If a hook of that apt or a maintainer script asked for it and waits
 * too, both wait for ever. The unit refuses such requests, unless a drop-in changes that.
 */
export async function stoppingServices(): Promise<Finding[]> {
  const { units, hostToo } = await stoppingUnits(WAIT_FOR_APT.map((name) => name.replace("@.", "@*.")));
  return units.map((unit) =>
    hostToo
      ? ok("services", `${unit} finishes its work before the host shuts down`)
      : fail(
          "services",
          `${unit} was told to stop and waits for its apt, which also waits if apt itself asked for the stop`,
          "Find the job: systemctl list-jobs; as root, systemctl cancel <job> ends the wait, and the run goes on.",
        ),
  );
}

/** Programs that need block devices, which the runner's unit hides from packages. Every new kernel calls the first. */
const BOOT_PROGRAMS = ["/usr/sbin/update-grub", "/usr/bin/efibootmgr", "/usr/sbin/mdadm"];

export function bootLoader({ DropInPaths }: UnitState): Finding[] {
  const found = BOOT_PROGRAMS.filter(isFile);
  if (found.length === 0 || DropInPaths !== "") return [];
  const { path, lines } = BOOT_LOADER_DROP_IN;
  const text = lines.join("\\n");
  return [
    warn(
      "services",
      `${found.join(", ")} may fail when a kernel or boot loader is installed: the runner's unit hides block devices`,
      `On a machine with its own disk, type as root: mkdir -p ${dirname(path)} && printf '${text}\\n' >${path} && systemctl daemon-reload`,
    ),
  ];
}

/** Whether the unit files are those of this version. */
export function unitFiles(): Finding[] {
  const files = [
    ...UNIT_NAMES.map((name) => ({ name, path: join(UNIT_DIRECTORY, name), text: unitText(name) })),
    { name: NEEDRESTART_FILE, path: NEEDRESTART_FILE, text: needrestartText() },
  ];
  const changed = files
    .filter(({ path, text }) => safely(() => readFileSync(path, "utf8")) !== text)
    .map(({ name }) => name);
  if (changed.length === 0) return [ok("units", `${UNIT_DIRECTORY}: the units of this version`)];
  return [
    warn(
      "units",
      `missing, of another version, or edited: ${changed.join(", ")}`,
      `${INSTALL}; put your own changes into drop-ins`,
    ),
  ];
}

const UNIT_SEARCH_PATH = [
  UNIT_DIRECTORY,
  "/usr/local/lib/systemd/system",
  "/usr/lib/systemd/system",
  "/lib/systemd/system",
];
/** Where earlier versions and related packages installed the program. */
const STALE = /(?:\/usr\/bin|\/usr\/libexec|\/usr\/local\/libexec|\/opt)\/aegis/;

/** Units and drop-ins of an older installation, which start another program. */
export function staleUnits(): Finding[] {
  // /lib may be a link to /usr/lib: read each directory once.
  const directories = new Set(UNIT_SEARCH_PATH.map((place) => safely(() => realpathSync(place)) ?? place));
  const files = [...directories].flatMap((place) =>
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
        `${path} refers to the program of an older installation`,
        `Compare it with ${SYSTEM.binary}, then remove it: rm ${path} && systemctl daemon-reload; ${INSTALL}`,
      ),
    );
}

function isFile(path: string): boolean {
  return safely(() => lstatSync(path).isFile()) === true;
}

/** The value, or null if this user may not read it or it does not exist. */
export function safely<T>(look: () => T): T | null {
  try {
    return look();
  } catch (error) {
    if (error instanceof AegisError || errnoOf(error) !== "") return null;
    throw error;
  }
}
