import { AegisError } from "./errors.ts";
import type { Project, Wheel } from "./pip-index.ts";
import type { Requirement } from "./pip-requirement.ts";
import { allowedBy, contains, pins, type Specifier } from "./pip-version.ts";

/*
 * What is known of one project while versions are searched: who demands what of it, and which of its versions are left.
 */

/** What the search asks of the index. Both answer from memory when they are asked again. */
export interface ResolveWorld {
  project(name: string): Promise<Project>;
  /** What a wheel requires with these extras, for this host's Python; a text says why it can't be used. */
  requirements(wheel: Wheel, extras: readonly string[]): Promise<Requirement[] | string>;
  /** Projects with a wheel for which `requirements` gave a text → that text. */
  unusable: ReadonlyMap<string, string>;
}

/** A project, or a project with extras, which is resolved apart and then needs the project itself at the same version. */
export interface SearchNode {
  key: string;
  name: string;
  extras: readonly string[];
}

export interface Pin {
  node: SearchNode;
  wheel: Wheel;
  /** A pin that demanded it when it was made; null for what was asked for. */
  above: Pin | null;
}

/** Something that is required of a node, and by whom; `exact` for a node with extras that needs its project. */
export interface Demand {
  node: SearchNode;
  specifiers: readonly Specifier[];
  exact: Wheel | null;
  parent: Pin | null;
}

export interface Criterion {
  node: SearchNode;
  demands: readonly Demand[];
  /** Versions that have failed. */
  failed: readonly string[];
  candidates: readonly Wheel[];
}

export interface SearchState {
  pins: Map<string, Pin>;
  criteria: Map<string, Criterion>;
}

export class Conflict extends Error {
  readonly criterion: Criterion;
  constructor(criterion: Criterion) {
    super("conflict");
    this.criterion = criterion;
  }
}

export const nodeOf = (name: string, extras: readonly string[]): SearchNode => ({
  key: extras.length === 0 ? name : `${name}[${extras.join(",")}]`,
  name,
  extras,
});

/** Adds a demand to the criteria. */
export async function demand(
  criteria: Map<string, Criterion>,
  one: Demand,
  world: ResolveWorld,
): Promise<void> {
  const known = criteria.get(one.node.key);
  const demands = [...(known?.demands ?? []), one];
  const criterion = await withCandidates(
    { node: one.node, demands, failed: known?.failed ?? [], candidates: [] },
    criteria,
    world,
  );
  if (criterion.candidates.length === 0) throw new Conflict(criterion);
  criteria.set(one.node.key, criterion);
}

export async function withCandidates(
  criterion: Criterion,
  criteria: ReadonlyMap<string, Criterion>,
  { project }: ResolveWorld,
): Promise<Criterion> {
  const { node, demands, failed } = criterion;
  const base = node.extras.length === 0 ? [] : (criteria.get(node.name)?.demands ?? []);
  const specifiers = [...demands, ...base].flatMap((one) => one.specifiers);
  const exact = demands.flatMap((one) => one.exact?.version ?? []);
  const { wheels } = await project(node.name);
  const matching = allowedBy(wheels, specifiers).filter(
    ({ version }) => !failed.includes(version) && exact.every((one) => one === version),
  );
  // A withdrawn version is taken only where it alone is asked for (PEP 592).
  const usable =
    pins(specifiers) || exact.length > 0 ? matching : matching.filter(({ yanked }) => yanked === null);
  const whole = usable.filter(({ yanked }) => yanked === null);
  return { ...criterion, candidates: whole.length > 0 ? whole : usable };
}

export function isSatisfied(made: ReadonlyMap<string, Pin>, { node, demands }: Criterion): boolean {
  const pin = made.get(node.key);
  return (
    pin !== undefined &&
    demands.every(
      ({ specifiers, exact }) =>
        (exact === null || exact.version === pin.wheel.version) &&
        specifiers.every((one) => contains(one, pin.wheel.version)),
    )
  );
}

/** pip's order: what is pinned, what caused the last conflict, what is near to the request, its order, what is bounded, by name. */
export function mostPreferred(
  open: readonly Criterion[],
  known: { causes: readonly Demand[]; order: ReadonlyMap<string, number>; depths: Map<string, number> },
): Criterion {
  const troubled = new Set(known.causes.flatMap(({ node, parent }) => [node.key, parent?.node.key ?? ""]));
  const keyed = open.map((criterion) => {
    const { node, demands } = criterion;
    const specifiers = demands.flatMap((one) => one.specifiers);
    const isPinned =
      specifiers.some(({ operator }) => operator.startsWith("==")) ||
      demands.some(({ exact }) => exact !== null);
    const asked = known.order.get(node.key);
    const above = demands.map(({ parent }) =>
      parent === null ? 0 : (known.depths.get(parent.node.key) ?? Infinity),
    );
    const depth = asked === undefined ? Math.min(...above) + 1 : 1;
    known.depths.set(node.key, depth);
    const numbers = [
      Number(!isPinned),
      Number(!troubled.has(node.key)),
      depth,
      asked ?? Infinity,
      Number(specifiers.length === 0),
    ];
    return { criterion, numbers };
  });
  const [first] = keyed.toSorted((a, b) => {
    for (const [i, n] of a.numbers.entries()) {
      const other = b.numbers[i] ?? 0;
      if (n !== other) return n < other ? -1 : 1;
    }
    return a.criterion.node.key < b.criterion.node.key ? -1 : 1;
  });
  if (first === undefined) throw new AegisError("internal", "nothing is open");
  return first.criterion;
}
