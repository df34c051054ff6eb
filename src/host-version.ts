import { lstatSync } from "node:fs";
import { SEMVER } from "./eco-semver.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { VERSION } from "./self.ts";
import { rootOnlyProblem } from "./sys-files.ts";
import { run, SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * Which aegis is installed on this host, and what it means to replace it by this one. Versions are ordered by semver.org; of
 * two builds with the same version none is older.
 */

export interface InstalledProgram {
  /** Whether there is a file at all. */
  there: boolean;
  /** What it calls itself; null where that can't be told. */
  version: string | null;
}

const LIMIT_MS = 10_000;

/** Asks the installed program, if it is one that root may run: root's alone, and no link. */
export async function installedProgram(path: string = SYSTEM.binary): Promise<InstalledProgram> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return { there: false, version: null };
  if (!stat.isFile() || rootOnlyProblem(path) !== null) return { there: true, version: null };
  try {
    const env = { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8", HOME: "/nonexistent" };
    const { outcome, status, stdout } = await run(path, ["--version"], {
      env,
      cwd: "/",
      timeoutMs: LIMIT_MS,
      maxBytes: 4096,
    });
    const said = /^aegis (\S{1,64})\n$/.exec(stdout.toString("utf8"))?.[1];
    const version =
      outcome === "exited" && status === 0 && said !== undefined && SEMVER.isVersion(said) ? said : null;
    return { there: true, version };
  } catch {
    // Not a program, for example half a file: whatever it is, it is not newer.
    return { there: true, version: null };
  }
}

/** What replacing it by this program is, in words. */
export function changeInWords({ there, version }: InstalledProgram, to: string = VERSION): string {
  if (!there) return `copy this program there (${to})`;
  if (version === null) return `replace what is there, of unknown version, by ${to}`;
  const order = SEMVER.compare(version, to);
  if (order === 0) return `replace ${version} by ${to} (same version, other build)`;
  return `${order < 0 ? "upgrade" : "downgrade"} from ${version} to ${to}`;
}

/**
 * An older program reads what a newer one wrote, and undoes what the newer one mended.
 * @throws AegisError `usage` when the installed one is newer
 */
export function refuseDowngrade({ version }: InstalledProgram, to: string = VERSION): void {
  if (version === null || SEMVER.compare(version, to) <= 0) return;
  throw new AegisError(
    "usage",
    `this file is aegis ${to}, and ${version} is installed: it would be a downgrade`,
    "Take the newer file; if an older one is what you want, add --downgrade.",
  );
}
