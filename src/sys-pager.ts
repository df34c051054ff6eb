import { spawn } from "node:child_process";
import { basename, dirname } from "node:path";
import type { Env } from "./paths.ts";
import { resolveProgram, SYSTEM_PATH } from "./sys-spawn.ts";
import type { Terminal } from "./terminal.ts";

/*
 * Long text for people, a screenful at a time.
 */

const USUAL = "less -R";
/** What PAGER may be behind sudo(8): it may be the other user's (-E), and `sh -c …` would be run as root. */
const BEHIND_SUDO: readonly string[] = ["less", "more", "most", "pg"];

/**
 * The pager's argv: PAGER split at white space, never through a shell, else `less -R`. Its program is one of the system's own,
 * so one that is called by another path is not run, and `less` is taken. Null for no pager: PAGER empty or `cat`, or none
 * installed. Behind sudo it is a pager by name, without options of PAGER.
 */
export function pagerArgv(env: Env, find: typeof resolveProgram = resolveProgram): string[] | null {
  const isSudo = env.SUDO_UID !== undefined;
  const wanted = env.PAGER ?? USUAL;
  for (const candidate of [wanted, USUAL]) {
    const [name, ...args] = candidate.split(/\s+/).filter((word) => word !== "");
    if (name === undefined || basename(name) === "cat") return null;
    if (isSudo && !BEHIND_SUDO.includes(basename(name))) continue;
    const program = SYSTEM_PATH.some((directory) => directory === dirname(name))
      ? find(basename(name), [dirname(name)])
      : find(name);
    const safe = isSudo ? (basename(name) === "less" ? ["-R"] : []) : args;
    if (program !== null) return [program, ...safe];
  }
  return null;
}

/** Whether the text has more lines than the terminal shows at once, less `kept` ones. */
export function isLong(text: string, terminal: Terminal, kept = 1): boolean {
  return terminal.height !== undefined && text.split("\n").length > terminal.height - kept;
}

/**
 * Shows safe text through the pager on the terminal behind `output`, and waits until the person has left it. False where
 * there is no pager or it failed: then the text has to be shown otherwise.
 */
export async function page(text: string, terminal: Terminal, env: Env, output: number): Promise<boolean> {
  const { TERM: term = "" } = env;
  if (!terminal.interactive || ["", "dumb"].includes(term)) return false;
  const [program, ...args] = pagerArgv(env) ?? [];
  if (program === undefined) return false;
  // The terminal sends Ctrl-C to the pager and to us. It is meant for the pager.
  const ignore = () => {};
  process.on("SIGINT", ignore);
  try {
    return await new Promise<boolean>((resolve) => {
      const child = spawn(program, args, { env: pagerEnv(env, term), stdio: ["pipe", output, output] });
      child.once("error", () => resolve(false));
      child.once("close", (status, signal) => resolve(status === 0 || signal !== null));
      // Left before its end, the pager closes the pipe.
      child.stdin?.on("error", ignore);
      child.stdin?.end(`${text}\n`);
    });
  } finally {
    process.off("SIGINT", ignore);
  }
}

/** LESSSECURE: no shell, no editor, no file from within less (less(1), SECURITY), whatever LESS asks for. */
function pagerEnv(env: Env, term: string): Record<string, string> {
  return {
    PATH: SYSTEM_PATH.join(":"),
    LC_ALL: "C.UTF-8",
    TERM: term,
    LESS: env.LESS ?? "R",
    LESSCHARSET: "utf-8",
    LESSHISTFILE: "-",
    LESSSECURE: "1",
  };
}
