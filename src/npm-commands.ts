import { posix } from "node:path";
import type { ArchiveFile } from "./eco-archive.ts";

/*
 * The commands that npm links for a package, and what it makes of their files.
 * https://docs.npmjs.com/cli/configuring-npm/package-json#bin, @npmcli/package-json (normalize.js), bin-links (fix-bin.js)
 */

/** Command → file of the package, by a package.json. Files that the package doesn't have are left out: npm links nothing to them. */
export function packageCommands(
  manifest: Readonly<Record<string, unknown>>,
  contents: ReadonlyMap<string, ArchiveFile>,
): Map<string, string> {
  const commands = new Map<string, string>();
  for (const [name, path] of stated(manifest, [...contents.keys()])) {
    if (typeof path !== "string") continue;
    // Below the package, whatever `..` there is.
    const file = posix.join("/", path.replaceAll("\\", "/")).slice(1);
    if (contents.has(file)) commands.set(posix.basename(name.replace(/[\\:]/g, "/")), file);
  }
  return commands;
}

function stated(
  { bin, name, directories }: Readonly<Record<string, unknown>>,
  paths: readonly string[],
): [string, unknown][] {
  if (typeof bin === "string") return typeof name === "string" ? [[name, bin]] : [];
  if (Array.isArray(bin)) return bin.flatMap((path) => (typeof path === "string" ? [[path, path]] : []));
  if (typeof bin === "object" && bin !== null) return Object.entries(bin);
  const directory =
    typeof directories === "object" && directories !== null && "bin" in directories ? directories.bin : null;
  if (typeof directory !== "string") return [];
  const below = `${posix.join("/", directory).slice(1).replace(/\/$/, "")}/`;
  return paths.filter((path) => path.startsWith(below)).map((path) => [path, path]);
}

/** A command's file as npm leaves it: without a carriage return behind `#!`. */
export function mendedCommand(data: Uint8Array): Uint8Array {
  const script = Buffer.from(data).toString("latin1");
  return Buffer.from(script.replace(/^(#![^\n]+)\r\n/, "$1\n"), "latin1");
}
