import { ECOSYSTEM_NAMES, isEcosystemName } from "./eco-names.ts";
import { TABLE } from "./eco-table.ts";
import { AegisError } from "./errors.ts";

/* What options make of the words of a request: a plan has an ecosystem and an operation, and no options. */

/**
 * The ecosystem that a runtime stands for: a name of the same tool besides its own, which leaves the engine open.
 * @throws AegisError `usage`
 */
export function runtimeOf(ecosystem: string, runtime: string | undefined): string {
  if (runtime === undefined) return ecosystem;
  const isOpen = isEcosystemName(ecosystem) && ECOSYSTEM_NAMES[ecosystem] === ecosystem;
  const names = Object.keys(ECOSYSTEM_NAMES)
    .filter(isEcosystemName)
    .filter((name) => isOpen && name !== ecosystem && ECOSYSTEM_NAMES[name] === ecosystem);
  if (names.some((name) => name === runtime)) return runtime;
  if (names.length === 0)
    throw new AegisError("usage", `${ecosystem} has no runtimes`, "Leave --runtime out.");
  throw new AegisError("usage", `--runtime takes ${names.join(" or ")}`, `Type: --runtime ${names[0]}`);
}

/**
 * The operation that `--security` makes of an operation.
 * @throws AegisError `usage` where there is none
 */
export function securityOf(ecosystem: string, operation: string | undefined): string {
  const known = Object.values(TABLE).flatMap(({ grammar }) =>
    Object.entries(grammar.security ?? {}).map(([from, to]) => ({ of: grammar.tool, from, to })),
  );
  const found = known.find(({ of, from }) => of === ecosystem && from === operation);
  if (found !== undefined) return found.to;
  const forms = known.map(({ of, from }) => `${of} ${from}`);
  const hint = `Type: aegis plan ${forms[0]} --security`;
  throw new AegisError("usage", `--security belongs to ${forms.join(", ")}`, hint);
}
