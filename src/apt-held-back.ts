import { parsePolicy } from "./apt-cache.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { aptSettings } from "./apt-planning.ts";
import { parseSimulation, type Simulation } from "./apt-simulation.ts";
import { findInstalled } from "./apt-transaction.ts";
import type { Outlook } from "./doc-outlook.ts";
import type { Planning, PlanningOutput } from "./eco-planning.ts";
import { clip } from "./terminal.ts";

/*
 * Why packages are kept back. apt doesn't say; what it would do if they were asked for by name does.
 */

/** Up to so many packages are asked for one by one; more are asked for together, and the answer is about all. */
const ALONE = 3;
/** Limit on the packages asked for. */
const MOST_ASKED = 200;
/** Limits on the names in a reason, and on its characters. */
const NAMED = 8;
const MOST_CHARACTERS = 500;
const HOLD = "on hold (apt-mark hold)";

type Reasons = NonNullable<Outlook["held_back"]>;

/**
 * A reason for each of the packages, as apt names them. Runs nothing if holds explain all. The commands are no evidence: the plan
 * doesn't depend on them, and that one fails is an answer.
 */
export async function heldBackReasons(
  names: readonly string[],
  simulation: Pick<Simulation, "keptBack" | "phased">,
  installed: ReadonlyMap<string, DpkgPackage>,
  planning: Planning,
  config: string,
): Promise<Reasons> {
  const native = planning.host.architecture;
  const isHeld = (name: string) => {
    const [plain = "", architecture = null] = name.split(":");
    return findInstalled(installed, plain, architecture, native)?.selection === "hold";
  };
  const free = names.filter((name) => !isHeld(name));
  const phased = free.filter((name) => simulation.phased.includes(name)).slice(0, MOST_ASKED);
  const kept = free
    .filter((name) => simulation.keptBack.includes(name) && !phased.includes(name))
    .slice(0, MOST_ASKED);
  const sets = kept.length <= ALONE ? kept.map((name) => [name]) : [kept];
  const settings = aptSettings(config);
  const [policy, ...simulated] = await Promise.all([
    // apt 2.6 counts phased updates among what it keeps back.
    phased.length + kept.length === 0
      ? null
      : planning.run(["apt-cache", "policy", ...phased, ...kept], { settings }),
    ...sets.map((set) => planning.run(["apt-get", "-s", "install", ...set], { settings })),
  ]);
  const shares = phasedShares(policy?.stdout ?? "");
  const why = new Map<string, string>();
  for (const name of names) if (isHeld(name)) why.set(name, HOLD);
  for (const name of phased) why.set(name, phasing(shares.get(name)));
  for (const [n, set] of sets.entries()) {
    const output = simulated[n];
    if (output === undefined || output === null) continue;
    for (const name of set) why.set(name, whyKept(name, set, output, shares.get(name)));
  }
  return names.flatMap((name) => {
    const reason = why.get(name);
    return reason === undefined ? [] : [{ package: name, why: clip(reason, MOST_CHARACTERS) }];
  });
}

function phasing(share: string | undefined): string {
  return `phased update: not for this host yet${share === undefined ? "" : `, for ${share}% of hosts so far`}`;
}

function whyKept(
  name: string,
  set: readonly string[],
  { stdout, evidence }: PlanningOutput,
  share: string | undefined,
): string {
  const { installations, removals, explanations } = parseSimulation(stdout);
  const together = set.length === 1 ? "" : " (with the others that are kept back)";
  if (evidence.outcome !== "ok") {
    const begin = `${name} : `;
    const unmet = explanations.flatMap((line) =>
      line.startsWith(begin) ? line.slice(begin.length).trim() : [],
    );
    return unmet.length === 0 ? `apt finds no way to upgrade it${together}` : unmet.join("; ");
  }
  const fresh = installations.filter(({ from }) => from === null).map((one) => one.name);
  const gone = removals.map((one) => one.name);
  const needs = [
    ...(fresh.length === 0 ? [] : [`needs new packages${together}: ${listed(fresh)}`]),
    ...(gone.length === 0 ? [] : [`would remove${together}: ${listed(gone)}`]),
  ];
  if (needs.length > 0) return needs.join("; ");
  return share === undefined ? "apt upgrades it only if it is asked for by name" : phasing(share);
}

function listed(names: readonly string[]): string {
  const more = names.length - NAMED;
  return `${names.slice(0, NAMED).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** Of each package the share of hosts that its candidate is for so far: `     1.0 500 (phased 20%)` in its version table. */
function phasedShares(text: string): Map<string, string> {
  const candidates = parsePolicy(text);
  const shares = new Map<string, string>();
  let name = "";
  for (const line of text.split("\n")) {
    name = /^([a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?):$/.exec(line)?.[1] ?? name;
    const [, version, share] = /^ (?:\*\*\*| {3}) (\S+) -?\d+ \(phased (\d{1,3})%\)$/.exec(line) ?? [];
    if (share !== undefined && version === candidates.get(name)?.candidate) shares.set(name, share);
  }
  return shares;
}
