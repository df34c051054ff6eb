import { TOOLS, type Tool } from "./doc-plan.ts";
import type { Ecosystem } from "./eco.ts";
import type { RunDriver } from "./eco-driver.ts";
import type { Grammar } from "./eco-grammar.ts";
import type { ManagedTool } from "./eco-managed.ts";
import { ECOSYSTEM_NAMES, isEcosystemName } from "./eco-names.ts";
import { type RunHook, TABLE } from "./eco-table.ts";
import { AegisError } from "./errors.ts";

/** The ecosystems that can be planned. Replaced as a whole in tests. */
export type Ecosystems = Readonly<
  Partial<
    Record<
      Tool,
      {
        grammar: Grammar;
        load: () => Promise<Ecosystem>;
        managed?: () => Promise<ManagedTool>;
        hook?: () => Promise<RunHook>;
      }
    >
  >
>;

/** This program's ecosystems. */
export const ECOSYSTEMS: Ecosystems = TABLE;

const names = Object.keys(ECOSYSTEM_NAMES).filter(isEcosystemName);
const isBuilt = (name: (typeof names)[number]) => Object.hasOwn(TABLE, ECOSYSTEM_NAMES[name]);

/** Ecosystem names that can be planned. */
export const BUILT: readonly string[] = names.filter(isBuilt);

/** Ecosystem names of later versions. */
export const NOT_BUILT: readonly string[] = names.filter((name) => !isBuilt(name));

/**
 * Loads an ecosystem by its name or a plan's `tool`.
 * @throws AegisError `not_built` if this version lacks it, `usage` for an unknown name
 */
export async function loadEcosystem(name: string, ecosystems: Ecosystems = ECOSYSTEMS): Promise<Ecosystem> {
  const tool = isEcosystemName(name) ? ECOSYSTEM_NAMES[name] : undefined;
  const load = tool === undefined ? undefined : ecosystems[tool]?.load;
  if (load !== undefined) {
    const ecosystem = await load();
    return isEcosystemName(name) ? (ecosystem.named?.(name) ?? ecosystem) : ecosystem;
  }
  const known = BUILT.join(", ");
  if (tool !== undefined) {
    throw new AegisError("not_built", `${name} is not built yet in this version`, `Built so far: ${known}.`);
  }
  throw new AegisError("usage", `there is no ecosystem ${JSON.stringify(name)}`, `There are: ${known}.`);
}

/**
 * Loads the run driver of a tool's signed command.
 * @throws AegisError `not_built` if this version only plans it
 */
export async function loadDriver(
  { tool, argv }: { tool: Tool; argv: readonly string[] },
  ecosystems: Ecosystems = ECOSYSTEMS,
): Promise<RunDriver> {
  const { driver } = await loadEcosystem(tool, ecosystems);
  if (driver !== null) return driver(argv);
  throw new AegisError(
    "not_built",
    `this version can plan ${tool} but not run it`,
    "Wait for a version whose release notes name it.",
  );
}

/**
 * Loads the hook that a tool calls during a run, and nothing else of its ecosystem.
 * @throws AegisError `usage` for a name that is not a tool with a hook
 */
export async function loadHook(name: string, ecosystems: Ecosystems = ECOSYSTEMS): Promise<RunHook> {
  const tool = TOOLS.find((one) => one === name);
  const hook = tool === undefined ? undefined : ecosystems[tool]?.hook;
  if (hook !== undefined) return hook();
  throw new AegisError(
    "usage",
    `${JSON.stringify(name)} is not a tool that calls aegis back`,
    "The executor starts this itself during a run; see: aegis apply --help",
  );
}

/**
 * What the supervisor of a build has to know of a tool. Loads nothing of the ecosystem but that.
 * @throws AegisError `not_built` for a tool without a managed root
 */
export async function loadManaged(tool: Tool, ecosystems: Ecosystems = ECOSYSTEMS): Promise<ManagedTool> {
  const load = ecosystems[tool]?.managed;
  if (load !== undefined) return load();
  throw new AegisError("not_built", `this version builds nothing with ${tool}`);
}

/**
 * Checks that an ecosystem has this operation, and that targets are given exactly if it takes some.
 * @throws AegisError `usage`
 */
export function assertOperation(ecosystem: Ecosystem, operation: string, targets: number): void {
  const takes = Object.hasOwn(ecosystem.operations, operation) ? ecosystem.operations[operation] : undefined;
  const tool = ecosystem.name ?? ecosystem.tool;
  if (takes === undefined) {
    const known = Object.keys(ecosystem.operations).map((one) => `aegis plan ${tool} ${one}`);
    throw new AegisError(
      "usage",
      `${tool} has no operation ${JSON.stringify(operation)}`,
      `${operation === "rollback" ? "Aegis keeps nothing with which what it did could be undone. There is: " : "Try: "}${known.join(" · ")}`,
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
