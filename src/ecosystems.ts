import type { Ecosystem } from "./ecosystem.ts";
import { AegisError } from "./errors.ts";

/** Every ecosystem that can be planned, loaded when it is asked for. Adding one is one line here. */
const ECOSYSTEMS: Readonly<Record<string, () => Promise<Ecosystem>>> = {
  apt: async () => (await import("./apt.ts")).apt,
  npm: async () => (await import("./npm.ts")).npm,
};

/** The names of those that can be planned. */
export const BUILT: readonly string[] = Object.keys(ECOSYSTEMS);

/** Names that belong to the command line already, but to later versions. */
export const NOT_BUILT: readonly string[] = [
  "pip",
  "docker",
  "podman",
  "container",
  "nuget",
  "vscode",
  "go",
  "cargo",
];

/**
 * The ecosystem of this name, or of a plan's `tool`.
 * @throws AegisError `not_built` for one that this version lacks, `usage` for an unknown name
 */
export async function loadEcosystem(name: string): Promise<Ecosystem> {
  const load = Object.hasOwn(ECOSYSTEMS, name) ? ECOSYSTEMS[name] : undefined;
  if (load !== undefined) return load();
  const known = BUILT.join(", ");
  if (NOT_BUILT.includes(name)) {
    throw new AegisError("not_built", `${name} is not built yet in this version`, `Built so far: ${known}.`);
  }
  throw new AegisError("usage", `there is no ecosystem ${JSON.stringify(name)}`, `There are: ${known}.`);
}

/**
 * Checks that an ecosystem has an operation and that it was given targets exactly where it takes some.
 * @throws AegisError `usage`
 */
export function assertOperation(ecosystem: Ecosystem, operation: string, targets: number): void {
  const takes = Object.hasOwn(ecosystem.operations, operation) ? ecosystem.operations[operation] : undefined;
  const { tool } = ecosystem;
  if (takes === undefined) {
    const known = Object.keys(ecosystem.operations).map((one) => `aegis plan ${tool} ${one}`);
    throw new AegisError(
      "usage",
      `${tool} has no operation ${JSON.stringify(operation)}`,
      `Try: ${known.join(" · ")}`,
    );
  }
  if (takes === "none" && targets > 0) {
    throw new AegisError(
      "usage",
      `${tool} ${operation} takes no targets`,
      `Type: aegis plan ${tool} ${operation}`,
    );
  }
  if (takes === "some" && targets === 0) {
    throw new AegisError(
      "usage",
      `${tool} ${operation} needs at least one target`,
      `Type: aegis plan ${tool} ${operation} <name>`,
    );
  }
}
