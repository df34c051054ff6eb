import type { TransactionEntry } from "./doc-plan.ts";
import { AegisError } from "./errors.ts";

/* apt's input to its hook (apt.conf(5), interface version 3), and the comparison with the signed transaction. */

/** A package as apt is about to pass it to dpkg. */
export interface HookPackage {
  name: string;
  architecture: string;
  action: TransactionEntry["action"];
  from_version: string | null;
  to_version: string | null;
  /** The .deb; null for removals. */
  file: string | null;
}

/**
 * Parses apt's input to the hook: `VERSION 3`, configuration, an empty line, then one line per step: `name old-version
 * old-arch old-multiarch op new-version new-arch new-multiarch action`.
 * @throws AegisError `hook_refused` for any deviation
 */
export function parseHookInput(text: string): HookPackage[] {
  const split = text.indexOf("\n\n");
  if (!text.startsWith("VERSION 3\n") || split < 0)
    throw refuse("apt used another version of the hook interface");
  const packages = new Map<string, HookPackage>();
  const configured: string[] = [];
  for (const line of text.slice(split + 2).split("\n")) {
    if (line === "") continue;
    const fields = line.split(" ");
    const [name, oldVersion, oldArch, , operator, newVersion, newArch] = fields;
    const action = fields.slice(8).join(" ");
    if (
      name === undefined ||
      oldVersion === undefined ||
      oldArch === undefined ||
      newVersion === undefined ||
      newArch === undefined ||
      action === ""
    ) {
      throw refuse(`a line that can't be read: ${line.slice(0, 200)}`);
    }
    if (action === "**CONFIGURE**") {
      configured.push(`${name}:${newArch}`);
      continue;
    }
    const removal = action === "**REMOVE**";
    if (!removal && !action.startsWith("/")) throw refuse(`${name} has no package file`);
    const step: HookPackage = removal
      ? {
          name,
          architecture: oldArch,
          action: "remove",
          from_version: oldVersion,
          to_version: null,
          file: null,
        }
      : {
          name,
          architecture: newArch,
          action: actionOf(oldVersion, operator ?? ""),
          from_version: oldVersion === "-" ? null : oldVersion,
          to_version: newVersion,
          file: action,
        };
    const key = `${step.name}:${step.architecture}`;
    if (packages.has(key)) throw refuse(`${key} occurs twice in the transaction`);
    packages.set(key, step);
  }
  for (const key of configured) {
    if (!packages.has(key)) throw refuse(`${key} would be configured, which is not part of the plan`);
  }
  return [...packages.values()];
}

/** The operator relates the old version to the new one. */
function actionOf(oldVersion: string, operator: string): TransactionEntry["action"] {
  if (oldVersion === "-") return "install";
  switch (operator) {
    case "<":
      return "upgrade";
    case ">":
      return "downgrade";
    case "=":
      return "reinstall";
    default:
      throw refuse(`unknown operator ${operator}`);
  }
}

/**
 * Compares the steps with the signed transaction: exactly the same packages, architectures, actions and versions.
 * @throws AegisError `hook_refused`
 */
export function compareTransaction(
  steps: readonly HookPackage[],
  expected: readonly TransactionEntry[],
): void {
  const rest = new Map(expected.map((entry) => [`${entry.name}:${entry.architecture}`, entry]));
  for (const step of steps) {
    const key = `${step.name}:${step.architecture}`;
    const entry = rest.get(key);
    if (entry === undefined)
      throw refuse(`${key} (${step.action} ${step.to_version ?? ""}) is not in the plan`);
    for (const field of ["action", "from_version", "to_version"] as const) {
      if (step[field] !== entry[field]) {
        throw refuse(`${key}: ${field} is ${step[field] ?? "none"}, the plan says ${entry[field] ?? "none"}`);
      }
    }
    rest.delete(key);
  }
  const [missing] = rest.keys();
  if (missing !== undefined) throw refuse(`${missing} is in the plan but not in what apt is about to do`);
}

function refuse(why: string): AegisError {
  return new AegisError("hook_refused", why);
}
