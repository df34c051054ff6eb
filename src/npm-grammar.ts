import type npa from "npm-package-arg";

/** npm's interpretation of an argument of `npm install`, as far as needed here. */
export interface NpmReading {
  type: ReturnType<typeof npa>["type"];
  /** Whether it comes from a registry. */
  registry: boolean;
  name: string | null;
  /** Version, range or tag; for anything else the URL or path. */
  spec: string | null;
}

/**
 * Parses a target with npm's own grammar. Loaded on first use, with `require` since policy calls it synchronously: most
 * processes, and every run of apt, never need it.
 * @returns null if npm refuses it
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
