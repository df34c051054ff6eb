import { statSync } from "node:fs";

/** Where Bun keeps the files inside a compiled executable. */
const COMPILED_ROOT = "/$bunfs/";

/** Whether this is the one compiled executable, not the sources run by bun. */
export function isCompiled(): boolean {
  return Bun.main.startsWith(COMPILED_ROOT);
}

/** The program and first words that start Aegis again: the executable itself, or bun with the entry file. */
export function selfCommand(): { program: string; words: string[] } {
  return { program: process.execPath, words: isCompiled() ? [] : [Bun.main] };
}

/** Whether the file that this process was started from has since been replaced or removed, as an upgrade does. */
export function selfReplaced(): boolean {
  const now = statSync(process.execPath, { throwIfNoEntry: false });
  const own = statSync("/proc/self/exe");
  return now === undefined || now.dev !== own.dev || now.ino !== own.ino;
}
