import type { Tree } from "./eco-managed.ts";

/*
 * Commands of Python packages in a managed directory. What pip writes for them starts an interpreter that doesn't know that directory,
 * and runs only with PYTHONPATH set. So each gets a launcher, which root writes from its name and its interpreter alone.
 */

/** In the managed directory; no module can be imported from it. */
const DIRECTORY = ".launchers";
/** Larger files are no scripts. */
const MAX_SCRIPT = 1024 * 1024;

type Read = (path: string, limit: number) => Uint8Array;

/** The launchers of a tree: path → text. */
export function pipLaunchers(tree: Tree, read: Read): Record<string, string> {
  return Object.fromEntries(
    commandsOf(tree).flatMap(([name, path, size]) => {
      const interpreter = size > MAX_SCRIPT ? null : interpreterOf(read(path, MAX_SCRIPT));
      return interpreter === null ? [] : [[launcherOf(name), launcher(name, interpreter)]];
    }),
  );
}

/** Commands by name, with what runs each: its launcher, or the file itself where that is no Python script. */
export function pipCommands(tree: Tree): Record<string, string> {
  return Object.fromEntries(
    commandsOf(tree).map(([name, path]) => [name, tree.has(launcherOf(name)) ? launcherOf(name) : path]),
  );
}

/** Whether a path is root's own in the managed directory: neither a wheel nor pip may have it. */
export function isLauncher(path: string): boolean {
  return path === DIRECTORY || path.startsWith(`${DIRECTORY}/`);
}

function commandsOf(tree: Tree): [name: string, path: string, size: number][] {
  return [...tree].flatMap(([path, entry]): [string, string, number][] =>
    entry.kind === "file" && entry.executable && /^bin\/[A-Za-z0-9][A-Za-z0-9._+-]*$/.test(path)
      ? [[path.slice(4), path, entry.size]]
      : [],
  );
}

function launcherOf(name: string): string {
  return `${DIRECTORY}/${name}`;
}

/** The Python that a script names in its first line, or null for any other file. */
function interpreterOf(script: Uint8Array): string | null {
  const first = Buffer.from(script.subarray(0, 256)).toString("latin1").split("\n")[0] ?? "";
  const [, named] = /^#!\s*(\S*(?:\/env\s+|\/)python3?(?:\.\d+)?)\s*$/.exec(first) ?? [];
  if (named === undefined) return null;
  return /^\/usr\/(?:local\/)?bin\/python3(?:\.\d+)?$/.test(named) ? named : "/usr/bin/python3";
}

/**
 * `-I` keeps the caller's variables, home and working directory out; `-B` keeps root's runs from leaving compiled modules in the
 * directory, which nobody signed. The packages come after the standard library, as in any
 * installation, and before what the distribution has. https://docs.python.org/3/using/cmdline.html#cmdoption-I
 */
function launcher(name: string, interpreter: string): string {
  return `#!${interpreter} -IB
# Written by Aegis: runs ../bin/${name} with the packages that are installed beside it.
import os
import runpy
import sys

root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
packages = [n for n, path in enumerate(sys.path) if path.endswith("-packages")]
sys.path.insert(packages[0] if packages else len(sys.path), root)
runpy.run_path(os.path.join(root, "bin", "${name}"), run_name="__main__")
`;
}
