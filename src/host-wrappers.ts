import { lstatSync, readlinkSync, rmdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { WRAPPER_NAMES, type WrapperName } from "./eco-names.ts";
import { errnoOf } from "./errors.ts";
import { file, type Step } from "./host-steps.ts";
import { SYSTEM } from "./paths.ts";
import { resolveProgram } from "./sys-spawn.ts";
import { systemd, UNIT_DIRECTORY } from "./sys-systemd.ts";

/** In every user's PATH before /usr/bin, and in sudo's secure_path. */
const WRAPPERS = dirname(SYSTEM.binary);
/** Where administrators install their own programs. */
const LOCAL = ["/usr/local/bin", "/usr/local/sbin"];

/** apt's own units call apt-get by name, and systemd's PATH would find the wrapper. */
const APT_UNITS = ["apt-daily.service", "apt-daily-upgrade.service"];
const DROP_INS = APT_UNITS.map((unit) => join(UNIT_DIRECTORY, `${unit}.d`, "aegis-wrappers.conf"));
const DROP_IN = `# Written by aegis daemon install --wrappers: this unit calls apt-get by name and needs apt's own.
[Service]
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
`;

/** Steps that link a wrapper for each package manager on this host. Only on request. */
export function wrapperSteps(): Step[] {
  return [
    {
      what: `wrappers in ${WRAPPERS}`,
      needed() {
        const missing = candidatesIn(WRAPPERS).filter(({ state }) => state === "free");
        return missing.length === 0 ? null : `link ${missing.map(({ name }) => name).join(", ")}`;
      },
      apply: () => installWrappers(WRAPPERS),
    },
    ...DROP_INS.map((path): Step => {
      const step = file(path, DROP_IN);
      return {
        ...step,
        async apply() {
          await step.apply();
          await systemd("systemctl", ["daemon-reload"]);
        },
      };
    }),
  ];
}

/** Sentences on the package managers that get no wrapper, since it would shadow a program of the administrator's. */
export function wrappersLeftOut(directory: string = WRAPPERS): string[] {
  return candidatesIn(directory)
    .filter(({ state }) => state === "taken")
    .map(({ name, existing }) => `${name} has no wrapper: ${existing} already exists and was left alone`);
}

/** Links the wrappers into a directory. Existing files stay. */
export function installWrappers(directory: string): void {
  for (const { name, state } of candidatesIn(directory)) {
    if (state === "free") symlinkSync(SYSTEM.binary, join(directory, name));
  }
}

/** The files that {@link removeWrappers} would remove. */
export function wrapperFiles(directory: string = WRAPPERS): string[] {
  const links = WRAPPER_NAMES.map((name) => join(directory, name)).filter(isOurs);
  return [
    ...links,
    ...DROP_INS.filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isFile() === true),
  ];
}

/** Removes the wrappers and nothing else. */
export function removeWrappers(directory: string = WRAPPERS): void {
  for (const path of wrapperFiles(directory)) {
    rmSync(path);
    if (!path.startsWith(UNIT_DIRECTORY)) continue;
    try {
      rmdirSync(dirname(path));
    } catch (error) {
      // It holds other drop-ins.
      if (errnoOf(error) !== "ENOTEMPTY") throw error;
    }
  }
}

interface Candidate {
  name: WrapperName;
  state: "ours" | "free" | "taken";
  /** The existing file or program. */
  existing: string;
}

/** Each package manager of this host, and whether its wrapper's path is free. */
function candidatesIn(directory: string): Candidate[] {
  return WRAPPER_NAMES.flatMap((name): Candidate[] => {
    const path = join(directory, name);
    if (isOurs(path)) return [{ name, state: "ours", existing: path }];
    if (lstatSync(path, { throwIfNoEntry: false }) !== undefined)
      return [{ name, state: "taken", existing: path }];
    const program = resolveProgram(name);
    if (program === null) return [];
    return [{ name, state: LOCAL.includes(dirname(program)) ? "taken" : "free", existing: program }];
  });
}

function isOurs(path: string): boolean {
  try {
    return readlinkSync(path) === SYSTEM.binary;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "EINVAL") return false;
    throw error;
  }
}
