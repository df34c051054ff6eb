import { spawn } from "node:child_process";
import { basename, dirname } from "node:path";
import type { Env } from "./paths.ts";
import { resolveProgram, SYSTEM_PATH } from "./sys-spawn.ts";
import type { Terminal } from "./terminal.ts";

/* Paging of long text. */

const DEFAULT_PAGER = "less -R";
/**
 * The one pager under sudo(8): PAGER may be the invoking user's, and `sh -c …` would run as root. So would what more, most and
 * pg start at `!`, which only less can be told to refuse (LESSSECURE).
 */
const PAGER_UNDER_SUDO = "less";

/**
 * The pager's argv: PAGER split at white space, never run through a shell, else `less -R`. Only programs in system
 * directories are run; a PAGER elsewhere falls back to `less`. Null for no pager: PAGER empty or `cat`, or none
 * installed. Under sudo only `less` is run, without PAGER's options.
 */
export function pagerArgv(env: Env, find: typeof resolveProgram = resolveProgram): string[] | null {
  const isSudo = env.SUDO_UID !== undefined;
  const wanted = env.PAGER ?? DEFAULT_PAGER;
  for (const candidate of [wanted, DEFAULT_PAGER]) {
    const [name, ...args] = candidate.split(/\s+/).filter((word) => word !== "");
    if (name === undefined || basename(name) === "cat") return null;
    if (isSudo && basename(name) !== PAGER_UNDER_SUDO) continue;
    const program = SYSTEM_PATH.some((directory) => directory === dirname(name))
      ? find(basename(name), [dirname(name)])
      : find(name);
    if (program !== null) return [program, ...(isSudo ? ["-R"] : args)];
  }
  return null;
}

/** Whether the text has more lines than the terminal shows at once, with `kept` lines reserved. */
export function isLong(text: string, terminal: Terminal, kept = 1): boolean {
  return terminal.height !== undefined && text.split("\n").length > terminal.height - kept;
}

/**
 * Shows safe text in the pager on the terminal behind `output` and waits until it exits. False if there is no pager or
 * it failed, and the text must be shown another way.
 */
export async function page(text: string, terminal: Terminal, env: Env, output: number): Promise<boolean> {
  const { TERM: term = "" } = env;
  if (!terminal.interactive || ["", "dumb"].includes(term)) return false;
  const [program, ...args] = pagerArgv(env) ?? [];
  if (program === undefined) return false;
  // The terminal sends Ctrl-C to both the pager and us; it is meant for the pager.
  const ignore = () => {};
  process.on("SIGINT", ignore);
  try {
    return await new Promise<boolean>((resolve) => {
      const child = spawn(program, args, { env: pagerEnv(env, term), stdio: ["pipe", output, output] });
      child.once("error", () => resolve(false));
      child.once("close", (status, signal) => resolve(status === 0 || signal !== null));
      // A pager that is quit early closes the pipe.
      child.stdin?.on("error", ignore);
      child.stdin?.end(`${text}\n`);
    });
  } finally {
    process.off("SIGINT", ignore);
  }
}

/** LESSSECURE disables less's shell, editor and file commands (less(1), SECURITY), whatever LESS says. */
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
