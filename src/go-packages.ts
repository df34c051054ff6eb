import { byCodeUnit } from "./canonical.ts";
import { inParallel } from "./eco-closure.ts";
import type { Listed } from "./go-graph.ts";
import { type GoBuild, type GoPackage, readGoPackage } from "./go-imports.ts";
import { type GoModule, prefixes } from "./go-proxy.ts";

/*
 * The packages of a program, and the modules that they are in.
 */

/** Files of a proxy that are asked for together. */
export const ASKED_AT_ONCE = 8;

/** A module that a build looks into, with its zip file. */
export interface BuiltModule extends GoModule {
  url: URL;
  sha256: string;
  size: number;
  /** `h1:…` of the zip as it was fetched. */
  hash: string;
  publishedAt: string | null;
  /** `path version` of a module whose package needs one of its packages. */
  requiredBy: string | null;
  packages: Map<string, GoPackage>;
  /** Whether the program has packages of it; else the go command only looks whether it should. */
  isBuilt: boolean;
}

export interface UnpackedModule {
  module: Omit<BuiltModule, "requiredBy" | "packages" | "publishedAt" | "isBuilt">;
  /** Files by directory, relative to the module; only Go files have their contents. */
  directories: ReadonlyMap<string, { name: string; data: Uint8Array }[]>;
}

/**
 * Follows imports from the target's package, and returns the modules that a build looks into: those that have a package of it, and
 * those whose path would let them have one, which the go command has to look at too. All imports of one distance from the target are
 * looked up together, in the order of their names, so that everybody who plans gets the same.
 */
export async function followImports(
  target: string,
  build: GoBuild & {
    list: ReadonlyMap<string, Listed>;
    moduleOf: (one: GoModule) => Promise<UnpackedModule>;
  },
): Promise<{ modules: BuiltModule[]; unresolved: string[] }> {
  const modules = new Map<string, BuiltModule>();
  const unresolved: string[] = [];
  const seen = new Set([target]);
  /** Import path → the package that imports it, and the module which that is in. */
  let wave = new Map<string, { from: string; module: string | null }>([[target, { from: "", module: null }]]);
  while (wave.size > 0) {
    const asked = [...wave].sort(([a], [b]) => byCodeUnit(a, b));
    const candidatesOf = (path: string) => prefixes(path).flatMap((prefix) => build.list.get(prefix) ?? []);
    await inParallel(
      [...new Set(asked.flatMap(([path]) => candidatesOf(path)))],
      ASKED_AT_ONCE,
      build.moduleOf,
    );
    const next: typeof wave = new Map();
    for (const [path, { from, module: needing }] of asked) {
      let isFound = false;
      for (const candidate of candidatesOf(path)) {
        const { module, directories } = await build.moduleOf(candidate);
        const requiredBy = needing === `${module.path} ${module.version}` ? null : needing;
        const known = modules.get(candidate.path) ?? {
          ...module,
          ...{ publishedAt: candidate.time, requiredBy, packages: new Map(), isBuilt: false },
        };
        modules.set(candidate.path, known);
        const files = directories.get(path.slice(candidate.path.length + 1));
        const found = files === undefined ? null : readGoPackage(files, build);
        if (found === null) continue;
        isFound = true;
        known.packages.set(path, found);
        for (const one of found.imports.filter((one) => isModulePath(one) && !seen.has(one))) {
          seen.add(one);
          next.set(one, { from: path, module: `${module.path} ${module.version}` });
        }
      }
      if (!isFound) unresolved.push(`${path} (needed by ${from})`);
    }
    wave = next;
  }
  markBuilt(target, [...modules.values()]);
  return { modules: [...modules.values()], unresolved };
}

/** Marks the modules whose packages are certainly in the program. */
function markBuilt(target: string, modules: readonly BuiltModule[]): void {
  const owners = new Map(modules.flatMap((one) => [...one.packages.keys()].map((path) => [path, one])));
  const seen = new Set<string>();
  const left = [target];
  for (let path = left.pop(); path !== undefined; path = left.pop()) {
    const owner = owners.get(path);
    if (owner === undefined || seen.has(path)) continue;
    seen.add(path);
    owner.isBuilt = true;
    left.push(...(owner.packages.get(path)?.certain ?? []));
  }
}

/** Whether an import path is no package of the standard library: those have no dot in their first element. */
function isModulePath(path: string): boolean {
  return /^[^/]*\./.test(path);
}
