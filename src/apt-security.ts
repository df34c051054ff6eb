import { aptName } from "./apt-argv.ts";
import { type PolicyPackage, parsePolicy } from "./apt-cache.ts";
import type { DpkgPackage } from "./apt-dpkg.ts";
import { commandFailure } from "./apt-evidence.ts";
import { askCache, stdoutOf } from "./apt-gather.ts";
import { type PackageRequest, requestFor } from "./apt-requested.ts";
import type { Simulation } from "./apt-simulation.ts";
import { compareDebVersions, isPackageName } from "./apt-target.ts";
import { serves } from "./apt-transaction.ts";
import { byCodeUnit } from "./canonical.ts";
import { isSecurityPocket } from "./doc-evidence.ts";
import type { RepositoryEvidence } from "./doc-plan-evidence.ts";
import type { Planning, PlanningOutput } from "./eco-planning.ts";

/*
 * `upgrade --security`: for each installed package the newest version that the distribution's own security pocket offers, even
 * where another source has a newer one, which apt would prefer. Which source is a security pocket follows from verified signatures
 * and this host's release, never from what a source calls itself.
 */

/** Most packages of one plan: all on one command line, which the kernel and the plan limit. */
const MOST = 2000;

/** Lowest priority with which apt upgrades a package on its own (apt_preferences(5)). */
const UPGRADES = 100;

/** What is asked of apt for the security upgrades of these packages. Obstacles are reported as its problems, never thrown. */
export async function securityRequest(
  installed: ReadonlyMap<string, DpkgPackage>,
  repositories: readonly RepositoryEvidence[],
  planning: Planning,
  config: string,
): Promise<PackageRequest> {
  const request = requestFor(["install", "--only-upgrade"], []);
  const codename = codenameOf(planning);
  const pockets = repositories.filter((one) => codename !== null && isOfRelease(one, codename));
  if (codename === null || pockets.length === 0) {
    return { ...request, verb: null, problems: [noPocket(codename)] };
  }
  const native = planning.host.architecture;
  const present = [...installed.values()]
    .filter(({ state }) => state === "installed")
    .map((one) => ({ ...one, text: aptName(one.name, one.architecture, native) }))
    .sort((a, b) => byCodeUnit(a.text, b.text));
  const outputs = await askCache("policy", [...new Set(present.map(({ text }) => text))], planning, config);
  const tables = parsePolicy(stdoutOf(outputs));
  const found = present.flatMap(({ text, version, selection }) => {
    const table = tables.get(text);
    const newest = table === undefined ? null : newestFrom(table, version, pockets);
    if (table === undefined || newest === null) return [];
    return [
      { target: `${text}=${newest}`, why: selection === "hold" ? "it is on hold" : whyPinned(table, newest) },
    ];
  });
  const targets = found.filter(({ why }) => why === null).map(({ target }) => target);
  const more = targets.length - MOST;
  return {
    ...request,
    verb: targets.length === 0 ? null : request.verb,
    packages: targets.slice(0, MOST),
    commands: outputs.map(({ evidence }) => evidence),
    problems: outputs.flatMap(commandFailure),
    warnings: [
      ...found.flatMap(({ target, why }) => (why === null ? [] : [`${target} is not installed: ${why}`])),
      ...(more > 0
        ? [`${more} more packages have security upgrades: plan the same again once this has been applied`]
        : []),
    ],
  };
}

/** `VERSION_CODENAME` of os-release(5). */
function codenameOf({ readText }: Planning): string | null {
  const text = readText("/etc/os-release") ?? readText("/usr/lib/os-release") ?? "";
  return /^VERSION_CODENAME="?([a-z][a-z-]*)"?$/m.exec(text)?.[1] ?? null;
}

/** Whether a source is the security pocket of this release; of Ubuntu also of its extended maintenance. */
function isOfRelease(source: RepositoryEvidence, codename: string): boolean {
  const names = ["security", "infra-security", "apps-security"].map((pocket) => `${codename}-${pocket}`);
  const { release_suite, release_codename } = source;
  const isNamed = [release_suite, release_codename].some((one) => one !== null && names.includes(one));
  return isNamed && isSecurityPocket(source);
}

function noPocket(codename: string | null): string {
  return codename === null
    ? "/etc/os-release doesn't name this host's release (VERSION_CODENAME), so its security pocket can't be told"
    : `no configured source is the security pocket of ${codename}, with an index that the distribution's key has signed and that is on disk and in date`;
}

/** The newest version above the installed one that a pocket offers. */
function newestFrom(
  { versions }: PolicyPackage,
  installed: string,
  pockets: readonly RepositoryEvidence[],
): string | null {
  const offered = [...versions]
    .filter(([version]) => compareDebVersions(version, installed) > 0)
    .filter(([, origins]) => origins.some((origin) => pockets.some((pocket) => serves(pocket, origin))))
    .map(([version]) => version);
  return offered.sort(compareDebVersions).at(-1) ?? null;
}

/** Why the host's preferences forbid a version, or null: naming it on the command line would override them. */
function whyPinned({ priorities }: PolicyPackage, version: string): string | null {
  const own = priorities.get(version) ?? 0;
  if (own < UPGRADES) return `apt's preferences give it priority ${own}`;
  const older = [...priorities].find(
    ([other, priority]) => priority > own && compareDebVersions(other, version) < 0,
  );
  return older === undefined
    ? null
    : `apt's preferences prefer ${older[0]} (priority ${older[1]}, not ${own})`;
}

/**
 * The request without the packages that apt names as impossible together with others, for another attempt; null if there are none.
 * Another source's newer version of a package, installed already, may need the same version of its siblings.
 */
export function withoutUnmet(
  request: PackageRequest,
  { evidence }: PlanningOutput,
  { explanations }: Simulation,
): PackageRequest | null {
  if (evidence.outcome !== "failed" || request.verb?.[1] !== "--only-upgrade") return null;
  const lines = explanations.filter((line) => / (?:but|because) /.test(line));
  const named = new Set(lines.flatMap((line) => line.split(/[\s:(),]+/).filter(isPackageName)));
  const isNamed = (target: string) => named.has(target.replace(/[:=].*$/, ""));
  const left = request.packages.filter((target) => !isNamed(target));
  if (left.length === request.packages.length || left.length === 0) return null;
  const why = lines.slice(0, 5).join("; ");
  return {
    ...request,
    // Without this attempt's evidence: it had to fail, and policy denies plans that rest on a command that failed.
    packages: left,
    warnings: [
      ...request.warnings,
      ...request.packages.filter(isNamed).map((target) => `${target} is not installed: ${why}`),
    ],
  };
}
