import { compareDebVersions, isDebVersion, isPackageName } from "./apt-target.ts";
import type { TransactionEntry } from "./doc-plan.ts";

/** A package in an `Inst` line. */
export interface Installation {
  name: string;
  architecture: string;
  from: string | null;
  to: string;
  /** `Label:version/archive` of each source, as apt prints it; the label comes from the Release file. */
  releases: string[];
}

/** A package in a `Remv` or `Purg` line. */
interface Removal {
  name: string;
  /** Null if apt prints none: the host's architecture, or `all`. */
  architecture: string | null;
  /** Null if apt prints none: only configuration files are left of it, and they are purged. */
  from: string | null;
}

/** The output of `apt-get -s`. */
export interface Simulation {
  installations: Installation[];
  removals: Removal[];
  /** Packages with a `Conf` but no `Inst` line: leftovers of an interrupted dpkg. */
  foreignConfigurations: string[];
  keptBack: string[];
  phased: string[];
  /** Held packages that the operation would change anyway. */
  heldChanged: string[];
  /** Packages that nothing needs afterwards, so that autoremove would take them. */
  unneeded: string[];
  /** `name` → version, from `… is already the newest version (…)`. */
  alreadyNewest: Map<string, string>;
  /** apt's explanations: unmet dependencies, and providers of a virtual package. */
  explanations: string[];
  /** Number of packages not fully installed or removed. */
  unfinished: number;
  /** Action lines that could not be parsed. If there are any, nothing here can be trusted. */
  unreadable: string[];
}

const WORD = "([^\\s:\\[\\]()]+)(?::([a-z0-9-]+))?";
/**
 * `Inst name[:arch] [from] (to Label:ver/suite, … [arch]) [problem]…`. The label is untrusted text and may contain
 * brackets; the architecture is the last bracket before the last parenthesis, which a label can't imitate.
 */
const INST = new RegExp(
  `^Inst ${WORD}(?: \\[([^\\]\\s]+)\\])? \\((\\S+) (?:(.*) )?\\[([a-z0-9-]+)\\]\\)(?: \\[[^\\])]*\\])*$`,
);
const CONF = new RegExp(`^Conf ${WORD} \\((\\S+) (?:.* )?\\[([a-z0-9-]+)\\]\\)`);
const REMV = new RegExp(`^(?:Remv|Purg) ${WORD} \\[([^\\]\\s]+)\\](?: \\[[^\\]]*\\])*$`);
const PURG_LEFTOVER = new RegExp(`^Purg ${WORD}$`);
/** Headings of explanations, which continue on the indented lines below. */
const EXPLANATION =
  /^(?:The following packages have unmet dependencies:|Unsatisfied dependencies:|Package \S+ is a virtual package provided by:)$/;
const NEWEST = /^(\S+) is already the newest version \(([^)\s]+)\)\.$/;
const UNFINISHED = /^(\d+) not fully installed or removed\.$/;

/** Headings of package lists in apt 2 and apt 3. */
const HEADINGS: Readonly<Record<string, "keptBack" | "phased" | "heldChanged" | "unneeded">> = {
  "The following packages have been kept back:": "keptBack",
  "Not upgrading:": "keptBack",
  "The following upgrades have been deferred due to phasing:": "phased",
  "Not upgrading yet due to phasing:": "phased",
  "The following held packages will be changed:": "heldChanged",
  "Changing held packages:": "heldChanged",
  "The following package was automatically installed and is no longer required:": "unneeded",
  "The following packages were automatically installed and are no longer required:": "unneeded",
};

/** Parses the output of `apt-get -s upgrade` and `apt-get -s install` of apt 2 and 3 (C locale). Never throws. */
export function parseSimulation(text: string): Simulation {
  const result: Simulation = {
    installations: [],
    removals: [],
    foreignConfigurations: [],
    keptBack: [],
    phased: [],
    heldChanged: [],
    unneeded: [],
    alreadyNewest: new Map(),
    explanations: [],
    unfinished: 0,
    unreadable: [],
  };
  const configured: string[] = [];
  let list: string[] | null = null;
  let explaining = false;
  for (const line of text.split("\n")) {
    if (/^\s/.test(line)) {
      list?.push(...packageNames(line));
      if (explaining) result.explanations.push(line.trim());
      continue;
    }
    explaining = EXPLANATION.test(line);
    if (explaining) result.explanations.push(line);
    const heading = Object.hasOwn(HEADINGS, line) ? HEADINGS[line] : undefined;
    list = heading === undefined ? null : result[heading];
    readLine(line, result, configured);
  }
  const installed = new Set(result.installations.map((i) => `${i.name}:${i.architecture}`));
  result.foreignConfigurations = configured.filter((name) => !installed.has(name));
  return result;
}

function readLine(line: string, result: Simulation, configured: string[]): void {
  if (/^(?:Inst|Remv|Purg) /.test(line)) {
    const [installation, removal] = line.startsWith("Inst ")
      ? [readInst(line), null]
      : [null, readRemv(line)];
    if (installation !== null) result.installations.push(installation);
    else if (removal !== null) result.removals.push(removal);
    else result.unreadable.push(line);
    return;
  }
  const conf = CONF.exec(line);
  if (conf !== null) configured.push(`${conf[1]}:${conf[4]}`);
  const newest = NEWEST.exec(line);
  if (newest?.[1] !== undefined && newest[2] !== undefined) result.alreadyNewest.set(newest[1], newest[2]);
  result.unfinished += Number(UNFINISHED.exec(line)?.[1] ?? 0);
}

function readInst(line: string): Installation | null {
  const [, name = "", qualifier, from, to = "", releases = "", architecture = ""] = INST.exec(line) ?? [];
  if (!isPackageName(name) || !isDebVersion(to) || (from !== undefined && !isDebVersion(from))) return null;
  if (qualifier !== undefined && qualifier !== architecture) return null;
  return {
    name,
    architecture,
    from: from ?? null,
    to,
    releases: releases === "" ? [] : releases.split(", "),
  };
}

function readRemv(line: string): Removal | null {
  const [, name = "", architecture, from] = REMV.exec(line) ?? PURG_LEFTOVER.exec(line) ?? [];
  if (!isPackageName(name) || (from !== undefined && !isDebVersion(from))) return null;
  return { name, architecture: architecture ?? null, from: from ?? null };
}

/** The packages in a line of a list; `Show-Versions` adds `(old => new)` to each. */
function packageNames(line: string): string[] {
  return line
    .replace(/\([^)]*\)/g, " ")
    .split(/\s+/)
    .filter((word) => isPackageName(word.replace(/:[a-z0-9-]+$/, "")));
}

/** The action of an installation, by comparing Debian versions. */
export function actionOf({ from, to }: Installation): TransactionEntry["action"] {
  if (from === null) return "install";
  const order = compareDebVersions(to, from);
  return order > 0 ? "upgrade" : order < 0 ? "downgrade" : "reinstall";
}

/** Label and archive of a release as printed by apt: `Debian-Security:12/oldstable-security`, `RepoA:st`, `localhost`. */
export function splitRelease(release: string): { origin: string; archive: string | null } {
  const colon = release.lastIndexOf(":");
  if (colon < 0) return { origin: release, archive: null };
  const version = release.slice(colon + 1);
  return { origin: release.slice(0, colon), archive: version.slice(version.indexOf("/") + 1) || null };
}
