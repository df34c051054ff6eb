import { requirementChain } from "./eco-closure.ts";
import { AegisError } from "./errors.ts";
import type { Demand, Pin, ResolveWorld } from "./pip-criteria.ts";
import type { Project } from "./pip-index.ts";
import { allowedBy, showSpecifiers } from "./pip-version.ts";

/*
 * Why no versions fit together, for people: who demands what, by the way from the request down to it, and what the index lacks.
 */

/** The error that tells it. */
export async function impossible(demands: readonly Demand[], world: ResolveWorld): Promise<AegisError> {
  const lines: string[] = [];
  for (const { node, specifiers, parent } of demands) {
    const chain = parent === null ? "asked for" : requirementChain(idOf(parent), chainOf(parent));
    const line = `${node.key}${showSpecifiers(specifiers)} (${chain})`;
    if (!lines.includes(line)) lines.push(line);
  }
  const names = [...new Set(demands.map(({ node }) => node.name))];
  const why = (
    await Promise.all(names.map(async (name) => reasonOf(await world.project(name), demands, world)))
  ).filter((one) => one !== "");
  return new AegisError(
    "not_found",
    `no versions fit together: ${lines.slice(0, 8).join("; ")}${why.length === 0 ? "" : `. ${why.join(". ")}`}`,
    "Name other versions, or leave the version out to see the newest.",
  );
}

/** `name version` of a pin and of those above it → the one that needs it. */
function chainOf(pin: Pin): Map<string, string | null> {
  const parents = new Map<string, string | null>();
  for (let at: Pin | null = pin; at !== null; at = at.above) {
    const above = at.above?.node.name === at.node.name ? at.above.above : at.above;
    parents.set(idOf(at), above === null ? null : idOf(above));
  }
  return parents;
}

function idOf({ wheel }: Pin): string {
  return `${wheel.name} ${wheel.version}`;
}

/** What an index has of a project, where that alone explains that nothing fits. */
function reasonOf(
  { name, found, wheels, others }: Project,
  demands: readonly Demand[],
  { unusable }: ResolveWorld,
): string {
  const broken = unusable.get(name);
  if (broken !== undefined) return broken;
  if (!found) return `The index has no ${name}`;
  const specifiers = demands.filter(({ node }) => node.name === name).flatMap((one) => one.specifiers);
  if (allowedBy(wheels, specifiers).length > 0) return "";
  const [other] = allowedBy(others, specifiers);
  if (other !== undefined) return `${name} ${other.version}: ${other.why}`;
  const newest = wheels[0];
  return newest === undefined
    ? `The index has no usable file of ${name}`
    : `The newest ${name} for this host is ${newest.version}`;
}
