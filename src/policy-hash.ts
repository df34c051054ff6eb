import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { canonicalHash, sha256Hex } from "./canonical.ts";

/** Matches the path of every relative import and re-export, types included: leaving those out would need a parser. */
const RELATIVE_IMPORT = /\b(?:from|import)\s*\(?\s*["'](\.{1,2}\/[^"']+)["']/g;

/**
 * The table of ecosystems. Its lazy imports are how the planner and the executor load an ecosystem; policy uses the grammars, which
 * the table imports at its top, and no decision depends on the rest.
 */
const TABLE = "eco-table.ts";

/** Matches the name of every package that is imported: `valibot`, `@scope/name`; not `node:fs`, not a relative path. */
const PACKAGE_IMPORT =
  /(?:\bfrom\s+|\bimport\s*\(?\s*)["']((?:@[\w.-]+\/)?[A-Za-z][\w.-]*)(?:\/[^"']*)?["']\)?;$/gm;

/** The paths of all relative imports of a file. */
function importsOf(text: string): string[] {
  return [...text.matchAll(RELATIVE_IMPORT)].map(([, path = ""]) => path);
}

/**
 * The source files that `entry` is made of: itself and, transitively, everything it imports by a relative path. Maps the
 * path from `entry`'s directory to the text. `imports` says which imports of a file are followed.
 */
export function sourceClosure(
  entry: string,
  read: (path: string) => string = (path) => readFileSync(path, "utf8"),
  imports: (text: string, name: string) => string[] = importsOf,
): Map<string, string> {
  const root = dirname(entry);
  const sources = new Map<string, string>();
  const pending = [entry];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const name = relative(root, path);
    if (sources.has(name)) continue;
    const text = read(path);
    sources.set(name, text);
    for (const target of imports(text, name)) pending.push(join(dirname(path), target));
  }
  return sources;
}

/** A digest of a set of source files: SHA-256 of the canonical JSON object that maps each name to its text. */
export function sourcesHash(sources: ReadonlyMap<string, string>): string {
  return canonicalHash(Object.fromEntries(sources));
}

/**
 * The libraries that these sources import, and what those depend on: every file of the installed packages, by its SHA-256.
 * The lockfile alone says what should be installed; this is what is.
 */
function librariesOf(sources: ReadonlyMap<string, string>, modules: string): Map<string, string> {
  const pending = [...sources.values()].flatMap((text) =>
    [...text.matchAll(PACKAGE_IMPORT)].map(([, name = ""]) => name),
  );
  const files = new Map<string, string>();
  const seen = new Set<string>();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (seen.has(name)) continue;
    seen.add(name);
    const directory = join(modules, name);
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (entry.isFile()) files.set(`node_modules/${relative(modules, path)}`, sha256Hex(readFileSync(path)));
    }
    const { dependencies = {} } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
    pending.push(...Object.keys(dependencies));
  }
  return files;
}

/**
 * Everything that the decision is made of, in the checkout at `root`: the evaluator's sources, the lockfile, and the files
 * of the libraries that they import. Maps names to texts, and a library's file to its digest.
 */
export function evaluatorFiles(root: string): Map<string, string> {
  const sources = sourceClosure(join(root, "src/policy.ts"), undefined, (text, name) =>
    importsOf(name === TABLE ? text.replaceAll(/\bimport\s*\(/g, "") : text),
  );
  const lock = readFileSync(join(root, "bun.lock"), "utf8");
  return new Map([...sources, ["bun.lock", lock], ...librariesOf(sources, join(root, "node_modules"))]);
}

/**
 * `evaluator_hash`: the digest of the evaluator and of all it is made of. A Bun macro
 * (https://bun.sh/docs/bundler/macros), so it is worked out from the sources while they are compiled, and the binary
 * carries the digest of the rules that are in it.
 */
export function evaluatorHash(): string {
  return sourcesHash(evaluatorFiles(join(import.meta.dir, "..")));
}
