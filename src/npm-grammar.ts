import type npa from "npm-package-arg";

/** What npm makes of one word behind `npm install`, as far as it matters here. */
export interface NpmReading {
  type: ReturnType<typeof npa>["type"];
  /** Whether a registry is asked for it. */
  registry: boolean;
  name: string | null;
  /** The version, range or tag; the address or path of anything else. */
  spec: string | null;
}

/**
 * Reads a target with npm's own grammar. Loaded on the first call, by `require` since policy calls it and is synchronous:
 * most processes, and every run of apt, never need it.
 * @returns null for what npm refuses
 * @see https://github.com/npm/npm-package-arg
 */
export function readAsNpm(target: string): NpmReading | null {
  const parse: typeof npa = require("npm-package-arg");
  try {
    // Relative to /, so that nothing depends on the working directory.
    const { type, registry = false, name = null, fetchSpec = null } = parse(target, "/");
    return { type, registry, name, spec: fetchSpec };
  } catch {
    return null;
  }
}
