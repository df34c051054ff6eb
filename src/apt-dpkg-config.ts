import { join } from "node:path";
import { AegisError } from "./errors.ts";

/*
 * dpkg's own configuration files, which it reads before its command line (dpkg(1), "FILES"). apt never hears of them, so a
 * plan can't show what they do, and most options there can't be undone on the command line.
 */

const FILES = ["/etc/dpkg/dpkg.cfg", "/root/.dpkg.cfg"];
const DIRECTORY = "/etc/dpkg/dpkg.cfg.d";

/**
 * What may stand there: what `--no-force-all` undoes, what the administrator has run or written down besides, files left
 * out, and how dpkg talks. Anything else changes what is done (`instdir`, `ignore-depends`, `no-triggers`) or whether it is
 * done at all (`no-act`, `selected-only`, and every option that dpkg doesn't know).
 */
const ALLOWED =
  /^(?:(?:no-|refuse-)?force-[a-z-]+|log|path-(?:in|ex)clude|no-debsig|no-pager|debug|robot|verify-format|status-logger|(?:pre|post)-invoke)$/;

/** How the files are read; in the program the host's own. */
export interface ConfigReader {
  /** The text of a file, or null. */
  readText(path: string): string | null;
  /** Names in a directory; none where there is no directory. */
  list(path: string): string[];
}

/**
 * Refuses options of dpkg's configuration files that no plan would show.
 * @throws AegisError `refused`, naming file and option
 */
export function refuseDpkgConfig({ readText, list }: ConfigReader): void {
  // dpkg passes over other names, such as those of its own backups.
  const parts = list(DIRECTORY).filter((name) => /^[A-Za-z0-9_-]+$/.test(name));
  for (const path of [...parts.map((name) => join(DIRECTORY, name)), ...FILES]) {
    for (const line of (readText(path) ?? "").split("\n")) {
      const option = line.trimEnd();
      if (option === "" || option.startsWith("#")) continue;
      // As dpkg reads it: a name of letters, digits and hyphens, then one more character, then the value.
      const name = /^[A-Za-z0-9-]*/.exec(option)?.[0] ?? "";
      if (ALLOWED.test(name)) continue;
      throw new AegisError(
        "refused",
        `dpkg is configured with ${option.slice(0, 200)}, which no plan would show`,
        `Remove the line from ${path}.`,
      );
    }
  }
}
