import { canonicalHash, sha256Hex } from "./canonical.ts";
import { HOST_SETTINGS, type Planning, type PlanningOutput } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";

/*
 * What systemd knows of units: systemctl(1), show. Read-only, and the same for every user.
 */

/** What is asked of each unit, by systemd's names (org.freedesktop.systemd1(5)). Versions that lack one leave it out. */
const PROPERTIES = [
  ...([
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Type",
    "InvocationID",
    "ActiveEnterTimestamp",
  ] as const),
  ...(["FragmentPath", "SourcePath", "DropInPaths", "NeedDaemonReload", "Transient"] as const),
  ...(["RefuseManualStart", "RefuseManualStop", "Triggers"] as const),
  // Restarted with it, if they run: systemd's UNIT_ATOM_PROPAGATE_RESTART (src/core/unit-dependency-atom.c).
  ...(["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"] as const),
  // Started with it, if they don't run; and stopped, if they do.
  ...(["Requires", "BindsTo", "Wants", "Upholds", "Conflicts", "ConflictedBy"] as const),
] as const;
type Property = (typeof PROPERTIES)[number];
export type UnitFacts = Readonly<Record<Property, string>>;

/** Units of one question: their names are words of a command line. */
const AT_ONCE = 200;

/** Asks systemd about units, each once, and keeps what was run as evidence. */
export class Units {
  readonly #known = new Map<string, UnitFacts>();
  readonly #planning: Planning;
  readonly commands: PlanningOutput["evidence"][] = [];

  constructor(planning: Planning) {
    this.#planning = planning;
  }

  /**
   * The facts of each unit, in the same order. Null if systemd could not be asked; {@link Units.commands} says so.
   * @throws AegisError `unavailable` for an answer that can't be read
   */
  async facts(names: readonly string[]): Promise<UnitFacts[] | string> {
    const unknown = [...new Set(names)].filter((name) => !this.#known.has(name));
    for (let at = 0; at < unknown.length; at += AT_ONCE) {
      const some = unknown.slice(at, at + AT_ONCE);
      const argv = [
        "systemctl",
        "show",
        "--timestamp=utc",
        `--property=${PROPERTIES.join(",")}`,
        "--",
        ...some,
      ];
      const { stdout, stderr, evidence } = await this.#planning.run(argv, { settings: HOST_SETTINGS });
      this.commands.push(evidence);
      if (evidence.outcome !== "ok") return whyUnasked(evidence.outcome, stderr);
      const blocks = parseUnits(stdout);
      if (blocks.length !== some.length)
        throw new AegisError(
          "unavailable",
          `systemctl told of ${blocks.length} units where ${some.length} were asked for`,
        );
      for (const [i, name] of some.entries()) {
        const block = blocks[i];
        if (block !== undefined) this.#known.set(name, block);
      }
    }
    return names.flatMap((name) => this.#known.get(name) ?? []);
  }
}

/** Only root reaches systemd without D-Bus. */
function whyUnasked(outcome: string, stderr: string): string {
  if (outcome === "missing") return "systemctl is not installed";
  const said = stderr.trim().split("\n")[0] ?? "";
  const hint = /^Failed to connect to .*bus/.test(said)
    ? "; without D-Bus (the package dbus) only root can ask systemd: plan as root"
    : "";
  return `systemctl ${outcome}: ${said}${hint}`;
}

/** The blocks of `systemctl show`, one for each unit asked for. */
function parseUnits(text: string): UnitFacts[] {
  if (text.trim() === "") return [];
  return text
    .replace(/\n+$/, "")
    .split("\n\n")
    .map((block) => {
      const values = new Map(
        block.split("\n").map((line) => {
          const at = line.indexOf("=");
          return [line.slice(0, at), line.slice(at + 1)];
        }),
      );
      return Object.fromEntries(PROPERTIES.map((one) => [one, values.get(one) ?? ""])) as UnitFacts;
    });
}

/** The names in list properties. */
export function namesOfUnits(facts: UnitFacts, ...properties: readonly Property[]): string[] {
  return properties.flatMap((property) => wordsOf(facts[property]));
}

/** The words of a list: those with other than plain characters are quoted (shell_maybe_quote(), src/basic/escape.c). */
function wordsOf(list: string): string[] {
  return [...list.matchAll(/"((?:[^"\\]|\\.)*)"|[^\s"]+/g)].map(
    ([word, quoted]) => quoted?.replace(/\\(.)/g, "$1") ?? word,
  );
}

/** The files that define a unit: its own, the one it was generated from, and the drop-ins. */
export function filesOfUnit({ FragmentPath, SourcePath, DropInPaths }: UnitFacts): string[] {
  return [FragmentPath, SourcePath, ...wordsOf(DropInPaths)].filter((path) => path !== "");
}

/**
 * A digest of the files that define a unit; null for one that none defines, as systemd makes some itself.
 * @throws AegisError `unavailable` for a file that can't be read
 */
export function definitionOf(facts: UnitFacts, readText: Planning["readText"]): string | null {
  const files = filesOfUnit(facts);
  if (files.length === 0) return null;
  return canonicalHash(
    files.map((path) => {
      const text = readText(path);
      if (text !== null) return [path, sha256Hex(text)];
      throw new AegisError(
        "unavailable",
        `${path}, which defines ${facts.Id}, can't be read by this account, so a change of it would go unnoticed`,
        "Plan as root, or have the file made readable: a unit file is no place for secrets (systemd.exec(5), Environment=).",
      );
    }),
  );
}
