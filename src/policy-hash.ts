import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { canonicalHash, sha256Hex } from "./canonical.ts";

/** Matches the path of every relative import and re-export, type-only ones included: excluding them would need a parser. */
const RELATIVE_IMPORT = /\b(?:from|import)\s*\(?\s*["'](\.{1,2}\/[^"']+)["']/g;

/**
 * The table of ecosystems. Its dynamic imports are not followed: policy uses only the grammars, which the table imports
 * statically, and no decision depends on the rest.
 */
const TABLE = "eco-table.ts";

/** Matches the name of every imported package: `valibot`, `@scope/name`; not `node:fs` or a relative path. */
const PACKAGE_IMPORT =
  /(?:\bfrom\s+|\bimport\s*\(?\s*)["']((?:@[\w.-]+\/)?[A-Za-z][\w.-]*)(?:\/[^"']*)?["']\)?;$/gm;

/** The paths of a file's relative imports. */
function importsOf(text: string): string[] {
  return [...text.matchAll(RELATIVE_IMPORT)].map(([, path = ""]) => path);
}

/**
 * `entry` and, transitively, every file it imports by a relative path. Maps the path relative to `entry`'s directory to the
 * text. `imports` returns the imports to follow.
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

/** The digest of a set of source files: SHA-256 of the canonical JSON object that maps each name to its text. */
export function sourcesHash(sources: ReadonlyMap<string, string>): string {
  return canonicalHash(Object.fromEntries(sources));
}

/**
 * The libraries that these sources import, with their dependencies: every file of the installed packages with its SHA-256.
 * The lockfile says what should be installed; this is what is installed.
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
 * Everything that the decision depends on in the checkout at `root`: the evaluator's sources, the lockfile, and the files of
 * the libraries they import. Maps names to texts, or to digests for the files of libraries.
 */
export function evaluatorFiles(root: string): Map<string, string> {
  const sources = sourceClosure(join(root, "src/policy.ts"), undefined, (text, name) =>
    importsOf(name === TABLE ? text.replaceAll(/\bimport\s*\(/g, "") : text),
  );
  const lock = readFileSync(join(root, "bun.lock"), "utf8");
  return new Map([...sources, ["bun.lock", lock], ...librariesOf(sources, join(root, "node_modules"))]);
}

/**
 * `evaluator_hash`: the digest of the evaluator and everything it depends on. A Bun macro
 * (https://bun.sh/docs/bundler/macros), computed from the sources at compile time, so the binary contains the digest of its
 * own rules.
 */
export function evaluatorHash(): string {
  return sourcesHash(evaluatorFiles(join(import.meta.dir, "..")));
}
