import { basename, dirname, join } from "node:path";
import type { HostHook } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";

/*
 * dpkg's configuration files, which it reads before its command line (dpkg(1), "FILES"). apt doesn't know about them,
 * and most options there can't be reverted on the command line. Programs they start are shown in the plan; any other
 * option that changes what is done is refused.
 */

const DIRECTORY = "/etc/dpkg/dpkg.cfg.d";
const HOST_FILE = "/etc/dpkg/dpkg.cfg";
/** Only root can read it, so nobody else's plan could show its contents. */
const ROOTS_FILE = "/root/.dpkg.cfg";

/**
 * Options allowed in any of these files: those that `--no-force-all` undoes, files left out, and logging. Anything else
 * changes what is done (`instdir`, `ignore-depends`, `no-triggers`) or whether it is done at all (`no-act`,
 * `selected-only`, and any option dpkg doesn't know).
 */
const ALLOWED =
  /^(?:(?:no-|refuse-)?force-[a-z-]+|log|path-(?:in|ex)clude|no-debsig|no-pager|debug|robot|verify-format)$/;
/** Programs that dpkg starts as root, used by needrestart and pkg-config for example. */
const HOOK = /^(?:(?:pre|post)-invoke|status-logger)$/;

/** dpkg splits longer lines (over 1,023 bytes with dpkg 1.21), even behind a `#`. */
const MAX_LINE = 1000;
const MAX_HOOKS = 64;

/** File access; the host's in production. */
export interface ConfigReader {
  /** The text of a file, or null. */
  readText(path: string): string | null;
  /** Names in a directory; empty if it doesn't exist. */
  list(path: string): string[];
}

interface Option {
  path: string;
  name: string;
  /** The line without trailing white space. */
  line: string;
}

/**
 * The programs that the files below /etc/dpkg make dpkg start, for a plan, or why they are unknown. Never throws: the
 * plan states the problem.
 */
export function dpkgHooks(reader: ConfigReader): { hooks: HostHook[]; problems: string[] } {
  try {
    const hooks = [...parts(reader), HOST_FILE]
      .flatMap((path) => optionsOf(path, reader))
      .filter(({ name }) => HOOK.test(name))
      .map(({ path, line }) => ({ configured_in: path, command: line }));
    if (hooks.length <= MAX_HOOKS) return { hooks, problems: [] };
    return {
      hooks: [],
      problems: [`dpkg is configured with ${hooks.length} hooks, more than a plan can name`],
    };
  } catch (error) {
    if (!(error instanceof AegisError)) throw error;
    return { hooks: [], problems: [`${error.message}. ${error.hint}`] };
  }
}

/**
 * Refuses options in dpkg's configuration files that no plan would show.
 * @throws AegisError `refused`, naming file and option
 */
export function refuseDpkgConfig(reader: ConfigReader): void {
  for (const path of [...parts(reader), HOST_FILE, ROOTS_FILE]) {
    for (const { name, line } of optionsOf(path, reader)) {
      const isHook = HOOK.test(name);
      if (ALLOWED.test(name) || (isHook && path !== ROOTS_FILE)) continue;
      throw refuse(
        `dpkg is configured with ${line.slice(0, 200)}, which no plan would show`,
        isHook ? `Move the line from ${path} to a file in ${DIRECTORY}.` : `Remove the line from ${path}.`,
      );
    }
  }
}

/** The files in dpkg.cfg.d. dpkg ignores other names, such as those of its backups. */
function parts({ list }: ConfigReader): string[] {
  return list(DIRECTORY)
    .filter((name) => /^[A-Za-z0-9_-]+$/.test(name))
    .map((name) => join(DIRECTORY, name));
}

function optionsOf(path: string, { readText, list }: ConfigReader): Option[] {
  const text = readText(path);
  if (text === null) {
    if (!list(dirname(path)).includes(basename(path))) return [];
    throw refuse(`dpkg's configuration ${path} can't be read`, `See: ls -l ${path}`);
  }
  return text.split("\n").flatMap((raw) => {
    if (Buffer.byteLength(raw) > MAX_LINE) {
      throw refuse(
        `a line of dpkg's configuration ${path} is longer than ${MAX_LINE} bytes, which dpkg splits`,
        "Shorten the line.",
      );
    }
    const line = raw.replace(/[ \t\r\f\v]+$/, "");
    if (line === "" || line.startsWith("#")) return [];
    // As dpkg parses it: a name of letters, digits and hyphens, one more character, then the value.
    return [{ path, name: /^[A-Za-z0-9-]*/.exec(line)?.[0] ?? "", line }];
  });
}

function refuse(why: string, hint: string): AegisError {
  return new AegisError("refused", why, hint);
}
