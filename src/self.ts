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
