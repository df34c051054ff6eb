import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { canonicalHash } from "./canonical.ts";

/** Matches the path of every relative import and re-export, types included: leaving those out would need a parser. */
const RELATIVE_IMPORT = /\b(?:from|import)\s*\(?\s*["'](\.{1,2}\/[^"']+)["']/g;

/**
 * The source files that `entry` is made of: itself and, transitively, everything it imports by a relative path. Maps the
 * path from `entry`'s directory to the text.
 */
export function sourceClosure(
  entry: string,
  read: (path: string) => string = (path) => readFileSync(path, "utf8"),
): Map<string, string> {
  const root = dirname(entry);
  const sources = new Map<string, string>();
  const pending = [entry];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const name = relative(root, path);
    if (sources.has(name)) continue;
    const text = read(path);
    sources.set(name, text);
    for (const [, target = ""] of text.matchAll(RELATIVE_IMPORT)) pending.push(join(dirname(path), target));
  }
  return sources;
}

/** A digest of a set of source files: SHA-256 of the canonical JSON object that maps each name to its text. */
export function sourcesHash(sources: ReadonlyMap<string, string>): string {
  return canonicalHash(Object.fromEntries(sources));
}

/**
 * `evaluator_hash`: the digest of the evaluator and of all it is made of. A Bun macro
 * (https://bun.sh/docs/bundler/macros), so it is worked out from the sources while they are compiled, and the binary
 * carries the digest of the rules that are in it.
 */
export function evaluatorHash(): string {
  return sourcesHash(sourceClosure(join(import.meta.dir, "evaluate.ts")));
}
