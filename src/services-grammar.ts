import type { Grammar, Targets } from "./eco-grammar.ts";
import { targetProblem } from "./eco-target.ts";
import { AegisError } from "./errors.ts";

/** systemd.unit(5): "must not exceed 255 characters in length". */
const MAX_NAME = 255;
const MAX_UNITS = 50;
/** Suffixes of systemd.unit(5). Other units are not restarted: what a restart of theirs takes down is no process. */
const RESTARTED = ["service", "socket"];
const OTHER_TYPES = ["mount", "swap", "device", "target", "timer", "automount", "path", "slice", "scope"];
/**
 * systemd.unit(5): a prefix and, for an instance, `@` and its name, of ASCII letters, digits and `:-_.\`. systemd also takes names
 * that begin with `-` or `.`, and `\` in escapes, which no shell-safe command line may have.
 */
const NAME = /^[A-Za-z0-9_:][A-Za-z0-9:_.-]*(?:@[A-Za-z0-9:_.@-]+)?$/;
/** Restarting them ends the run that does so, or one that waits for it. */
const OWN = /^aegis-(?:runner|recover|build|unpack|fetch)(?:@.*)?\.(?:service|socket)$/;

/** Whether a full name is one of a service or socket that can be written on a signed command line. */
export function isRestartable(unit: string): boolean {
  const [, prefix = ""] = /^(.*)\.(?:service|socket)$/.exec(unit) ?? [];
  return unit.length <= MAX_NAME && NAME.test(prefix) && !isOwnRunner(unit);
}

/** Whether a unit is one of those in which Aegis makes a run. */
export function isOwnRunner(unit: string): boolean {
  return OWN.test(unit);
}

/** {@link Grammar} of restarts. Pure. */
export const servicesGrammar: Grammar = {
  tool: "services",
  operations: { restart: "some" },
  parseTargets,
  forms: { all: ["name", "name.service", "name@instance", "name.socket"], exact: "name.service" },
  signals: [],
  // What would be restarted is in the transaction, with the files that define it.
  isExact: () => true,
  osv: () => null,
  claims: { hostFacts: () => [], mayDiffer: { fields: [], ofRepositories: [], warnings: [] } },
  programs: [
    {
      name: "systemctl",
      level: "warn",
      without: "no restart of a service can be planned",
      fix: "This host's services are not managed by systemd.",
    },
  ],
};

function parseTargets(operation: string, given: readonly string[]): Targets {
  if (operation !== "restart") throw invalid(operation, "services are restarted, and nothing else");
  const targets = [...new Set(given.map(unitName))];
  const [first = ""] = targets;
  if (targets.length > MAX_UNITS) throw invalid(first, `at most ${MAX_UNITS} units are restarted at once`);
  return { targets, denied: [], targetType: "unit" };
}

/**
 * The full name of a unit: with `.service` where it has no suffix, as systemctl(1) adds it.
 * @throws AegisError `invalid_target`
 */
function unitName(given: string): string {
  const problem = targetProblem(given, MAX_NAME) ?? (given.includes("/") ? "it is a path" : null);
  if (problem !== null) throw invalid(given, problem);
  const suffix = given.slice(given.lastIndexOf(".") + 1);
  if (given.includes(".") && OTHER_TYPES.includes(suffix))
    throw invalid(given, `only services and sockets are restarted, and this is a ${suffix}`);
  const hasSuffix = given.includes(".") && RESTARTED.includes(suffix);
  const prefix = hasSuffix ? given.slice(0, given.lastIndexOf(".")) : given;
  if (prefix.endsWith("@")) throw invalid(given, "it is a template, of which only instances run");
  if (!NAME.test(prefix)) throw invalid(given, "it is no name of a unit");
  const name = hasSuffix ? given : `${given}.service`;
  if (name.length > MAX_NAME) throw invalid(given, `it is longer than ${MAX_NAME} characters`);
  if (isOwnRunner(name)) throw invalid(given, "Aegis's own run would end with it; restart it by hand");
  return name;
}

function invalid(target: string, reason: string): AegisError {
  return new AegisError(
    "invalid_target",
    `${JSON.stringify(target.slice(0, 300))} can't be restarted: ${reason}`,
    "Units are named like nginx.service, postgresql@15-main or systemd-journald.socket; all that run: systemctl list-units --type=service",
  );
}
