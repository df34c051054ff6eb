import { lstatSync } from "node:fs";
import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { VERSION } from "./self.ts";
import { rootOnlyProblem } from "./sys-files.ts";
import { NO_HOME, run, SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The aegis installed on this host, and how it compares with this one. Versions are ordered by semver.org; two builds of
 * the same version are equal.
 */

export interface InstalledProgram {
  /** Whether the file exists. */
  exists: boolean;
  /** The version it reports; null if unknown. */
  version: string | null;
}

const LIMIT_MS = 10_000;

/** Asks the installed program for its version, if it is a regular file that only root can change. */
export async function installedProgram(path: string = SYSTEM.binary): Promise<InstalledProgram> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return { exists: false, version: null };
  if (!stat.isFile() || rootOnlyProblem(path) !== null) return { exists: true, version: null };
  try {
    const env = { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8", HOME: NO_HOME };
    const { outcome, status, stdout } = await run(path, ["--version"], {
      env,
      cwd: "/",
      timeoutMs: LIMIT_MS,
      maxBytes: 4096,
    });
    const said = /^aegis (\S{1,64})\n$/.exec(stdout.toString("utf8"))?.[1];
    const version =
      outcome === "exited" && status === 0 && said !== undefined && SEMVER.isVersion(said) ? said : null;
    return { exists: true, version };
  } catch {
    // Not executable, for example a truncated file, so not a newer version.
    return { exists: true, version: null };
  }
}

/** What installing this program changes, in words. */
export function changeInWords({ exists, version }: InstalledProgram, to: string = VERSION): string {
  if (!exists) return `copy this program there (${to})`;
  if (version === null) return `replace an unknown version with ${to}`;
  const order = SEMVER.compare(version, to);
  if (order === 0) return `replace ${version} with ${to} (same version, another build)`;
  return `${order < 0 ? "upgrade" : "downgrade"} from ${version} to ${to}`;
}

/**
 * An older program may misread what a newer one wrote, and brings fixed faults back.
 * @throws AegisError `usage` if the installed version is newer
 */
export function refuseDowngrade({ version }: InstalledProgram, to: string = VERSION): void {
  if (version === null || SEMVER.compare(version, to) <= 0) return;
  throw new AegisError(
    "usage",
    `this is aegis ${to}, but ${version} is installed: it would be a downgrade`,
    "Install a newer version, or add --downgrade.",
  );
}
