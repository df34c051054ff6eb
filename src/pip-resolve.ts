import { AegisError } from "./errors.ts";
import { impossible } from "./pip-conflict.ts";
import {
  Conflict,
  type Criterion,
  type Demand,
  demand,
  isSatisfied,
  mostPreferred,
  nodeOf,
  type Pin,
  type ResolveWorld,
  type SearchNode,
  type SearchState,
  withCandidates,
} from "./pip-criteria.ts";
import type { Wheel } from "./pip-index.ts";
import type { Specifier } from "./pip-version.ts";

/*
 * A closure of Python packages: the search of pip's own resolver (resolvelib), step by step, so that both come to the same
 * versions. It pins the newest version of one project after the other; where nothing fits, it goes back to a pin that has to do
 * with the conflict and tries its next version. The number of steps is bounded.
 */

const MAX_STEPS = 20_000;
const MAX_PACKAGES = 2000;

export interface Resolved {
  wheel: Wheel;
  /** The package that needs it, or null for what was asked for. */
  requiredBy: Wheel | null;
}

/**
 * The closure of what was asked for, by name.
 * @throws AegisError `not_found` where nothing fits, with what stands in the way; `unavailable` as the index
 */
export async function resolvePip(
  asked: readonly { name: string; specifiers: readonly Specifier[] }[],
  world: ResolveWorld,
): Promise<Resolved[]> {
  const states: SearchState[] = [{ pins: new Map(), criteria: new Map() }];
  let causes: readonly Demand[] = [];
  const top = (): SearchState => states.at(-1) ?? { pins: new Map(), criteria: new Map() };
  const push = () => states.push({ pins: new Map(top().pins), criteria: new Map(top().criteria) });
  const order = new Map(asked.map(({ name }, i) => [name, i]));
  const depths = new Map<string, number>();

  try {
    for (const { name, specifiers } of asked)
      await demand(top().criteria, { node: nodeOf(name, []), specifiers, exact: null, parent: null }, world);
  } catch (error) {
    throw error instanceof Conflict ? await impossible(error.criterion.demands, world) : error;
  }
  push();
  for (let step = 0; step < MAX_STEPS; step++) {
    const { pins: made, criteria } = top();
    const open = [...criteria.values()].filter((one) => !isSatisfied(made, one));
    if (open.length === 0) return resultOf(top());
    if (criteria.size > MAX_PACKAGES) throw tooMuch(`more than ${MAX_PACKAGES} packages`);
    for (const { node, candidates } of open) prefetch(node, candidates, world);
    const next = mostPreferred(open, { causes, order, depths });
    const satisfied = [...criteria.values()]
      .filter((one) => isSatisfied(made, one))
      .map(({ node }) => node.key);
    const failed = await pinNext(top(), next, world);
    if (failed !== null) {
      causes = failed;
      if (!(await goBack(states, failed, world))) throw await impossible(failed, world);
      continue;
    }
    forget(top(), satisfied);
    push();
  }
  throw tooMuch(`more than ${MAX_STEPS} steps`);
}

/** Pins the best candidate whose requirements can be had; null when it did, else what stands in the way. */
async function pinNext(
  state: SearchState,
  { node, demands, candidates }: Criterion,
  world: ResolveWorld,
): Promise<Demand[] | null> {
  const conflicts: Demand[] = [];
  const above = demands.some(({ parent }) => parent === null) ? null : (demands[0]?.parent ?? null);
  for (const wheel of candidates) {
    const pin = { node, wheel, above };
    const criteria = new Map(state.criteria);
    try {
      for (const one of await demandsOf(pin, world)) await demand(criteria, one, world);
    } catch (error) {
      if (error instanceof Conflict) conflicts.push(...error.criterion.demands);
      else if (!(error instanceof Unusable)) throw error;
      continue;
    }
    state.criteria = criteria;
    state.pins.delete(node.key);
    state.pins.set(node.key, pin);
    return null;
  }
  return conflicts.length > 0 ? conflicts : [...(state.criteria.get(node.key)?.demands ?? [])];
}

class Unusable extends Error {}

async function demandsOf(pin: Pin, world: ResolveWorld): Promise<Demand[]> {
  const { node, wheel } = pin;
  const found = await world.requirements(wheel, node.extras);
  if (typeof found === "string") throw new Unusable(found);
  const demands = found.map(
    ({ name, extras, specifiers }): Demand => ({
      node: nodeOf(name, extras),
      specifiers,
      exact: null,
      parent: pin,
    }),
  );
  if (node.extras.length > 0)
    demands.unshift({ node: nodeOf(node.name, []), specifiers: [], exact: wheel, parent: pin });
  return demands;
}

/** Drops what pins have demanded that don't hold any more. */
function forget(state: SearchState, satisfiedBefore: readonly string[]): void {
  const lost = satisfiedBefore.filter((key) => {
    const criterion = state.criteria.get(key);
    return criterion !== undefined && !isSatisfied(state.pins, criterion);
  });
  if (lost.length === 0) return;
  for (const [key, criterion] of state.criteria) {
    const demands = criterion.demands.filter(
      ({ parent }) => parent === null || !lost.includes(parent.node.key),
    );
    if (demands.length !== criterion.demands.length) state.criteria.set(key, { ...criterion, demands });
  }
}

/** Goes back to the newest pin that has to do with the conflict, without the version that failed; false where there is none. */
async function goBack(
  states: SearchState[],
  failed: readonly Demand[],
  world: ResolveWorld,
): Promise<boolean> {
  const involved = new Set(
    failed.flatMap(({ node, parent }) => [node.key, ...(parent === null ? [] : [parent.node.key])]),
  );
  while (states.length >= 3) {
    states.pop();
    let broken: SearchState | undefined;
    let last: Pin | undefined;
    do {
      broken = states.pop();
      last = [...(broken?.pins.values() ?? [])].at(-1);
      if (broken === undefined || last === undefined || states.length === 0) return false;
    } while (!(await demandsOf(last, world)).some(({ node }) => involved.has(node.key)));
    const known = [...broken.criteria.values()].map(
      ({ node, failed: versions }): [string, readonly string[]] => [node.key, versions],
    );
    const base = states.at(-1);
    if (base === undefined) return false;
    const state: SearchState = { pins: new Map(base.pins), criteria: new Map(base.criteria) };
    states.push(state);
    if (await rule(state, [...known, [last.node.key, [last.wheel.version]]], world)) return true;
  }
  return false;
}

/** Applies what is known to fail; false where that leaves a node without a candidate. */
async function rule(
  state: SearchState,
  known: readonly [string, readonly string[]][],
  world: ResolveWorld,
): Promise<boolean> {
  for (const [key, versions] of known) {
    const criterion = state.criteria.get(key);
    if (criterion === undefined || versions.length === 0) continue;
    const failed = [...new Set([...criterion.failed, ...versions])];
    const next = await withCandidates({ ...criterion, failed }, state.criteria, world);
    if (next.candidates.length === 0) return false;
    state.criteria.set(key, next);
  }
  return true;
}

/** Asks for what the next steps will need, without waiting for it. */
function prefetch(node: SearchNode, candidates: readonly Wheel[], world: ResolveWorld): void {
  const [best] = candidates;
  if (best !== undefined) void world.requirements(best, node.extras).catch(() => {});
}

/** What is reached from the request: a demand of a pin that was replaced may have left others behind. */
function resultOf({ pins: made, criteria }: SearchState): Resolved[] {
  const reached = new Map<string, Pin | null>();
  let grown = true;
  while (grown) {
    grown = false;
    for (const [key, { demands }] of criteria) {
      if (reached.has(key)) continue;
      const from = demands.find(
        ({ parent }) =>
          parent === null || (reached.has(parent.node.key) && made.get(parent.node.key) === parent),
      );
      if (from === undefined) continue;
      reached.set(key, from.parent);
      grown = true;
    }
  }
  const packages = new Map<string, Resolved>();
  for (const [key, parent] of reached) {
    const pin = made.get(key);
    if (pin === undefined || pin.node.extras.length > 0) continue;
    packages.set(pin.node.name, { wheel: pin.wheel, requiredBy: parentOf(pin.node.name, parent) });
  }
  return [...packages.values()];
}

/** Who needs a package: for one that its own extras demand, who asked for those. */
function parentOf(name: string, parent: Pin | null): Wheel | null {
  return parent?.node.name === name ? parentOf(name, parent.above) : (parent?.wheel ?? null);
}

function tooMuch(what: string): AegisError {
  return new AegisError(
    "unavailable",
    `the search for versions that fit together needs ${what}`,
    "Name more versions exactly.",
  );
}
