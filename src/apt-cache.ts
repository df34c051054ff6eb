import { readStanzas, type Stanza } from "./apt-deb822.ts";
import { sizeInBytes } from "./apt-dpkg.ts";
import { parseRelations, type Relation } from "./apt-relation.ts";
import { sourcePackageOf } from "./apt-source-version.ts";
import type { SourcePackage } from "./doc-plan.ts";

/** A Packages index entry for one version of a package (deb-control(5)). */
export interface ShownPackage {
  name: string;
  architecture: string;
  version: string;
  source: SourcePackage;
  /** It names a package file, so it comes from a repository rather than dpkg's status. */
  offered: boolean;
  essential: boolean;
  sha256: string | null;
  /** Bytes of the .deb. */
  size: number | null;
  /** Bytes of its files once unpacked. */
  installedSize: number | null;
  maintainer: string | null;
  /** Names of the virtual packages it provides. */
  provides: string[];
  /** Packages whose files it may overwrite; empty if the field is malformed, which the hook refuses. */
  replaces: Relation[];
}

/** Output of `apt-cache show`: one entry per name, architecture and version. */
export class ShownPackages {
  /** Reasons the output can't be trusted, one sentence each. */
  readonly problems: string[] = [];
  readonly #packages = new Map<string, ShownPackage>();

  /** Parses `apt-cache show`. Stanzas without a name, version or architecture are skipped. Never throws. */
  constructor(text: string) {
    const { stanzas, problem } = readStanzas(text);
    if (problem !== null) this.problems.push(`apt-cache show can't be read as apt reads it: ${problem}`);
    for (const stanza of stanzas) {
      const [name, version] = [stanza.get("package"), stanza.get("version")];
      const architecture = stanza.get("architecture");
      if (name === undefined || version === undefined || architecture === undefined) continue;
      this.#add({ name, architecture, version, ...details(name, version, stanza) });
    }
  }

  /** Two stanzas of one version must name the same file. The installed version has its own stanza, which names none. */
  #add(item: ShownPackage): void {
    const key = keyOf(item);
    const before = this.#packages.get(key);
    if (before === undefined || !before.offered) this.#packages.set(key, item);
    else if (item.offered && (item.sha256 !== before.sha256 || item.size !== before.size)) {
      this.problems.push(`apt-cache show says two different things about ${key}`);
    }
  }

  /** The entry of one version; the only source of a package file's hash. Undefined if the output can't be trusted. */
  find(name: string, architecture: string, version: string | null): ShownPackage | undefined {
    if (version === null || this.problems.length > 0) return undefined;
    return this.#packages.get(keyOf({ name, architecture, version }));
  }
}

function keyOf({ name, architecture, version }: Pick<ShownPackage, "name" | "architecture" | "version">) {
  return `${name}:${architecture}=${version}`;
}

function details(name: string, version: string, stanza: Stanza) {
  const sha256 = stanza.get("sha256") ?? "";
  const size = stanza.get("size") ?? "";
  return {
    source: sourcePackageOf(name, version, stanza.get("source")),
    offered: stanza.has("filename") || stanza.has("sha256"),
    essential: ["essential", "protected", "important"].some(
      (name) => stanza.get(name)?.toLowerCase() === "yes",
    ),
    sha256: /^[0-9a-f]{64}$/.test(sha256) ? sha256 : null,
    size: /^\d{1,15}$/.test(size) ? Number(size) : null,
    installedSize: sizeInBytes(stanza.get("installed-size")),
    maintainer: stanza.get("maintainer") ?? null,
    provides: (stanza.get("provides") ?? "")
      .split(",")
      .map((item) => item.trim().split(/[\s(:]/)[0] ?? "")
      .filter((item) => item !== ""),
    replaces: parseRelations(stanza.get("replaces") ?? "") ?? [],
  };
}

/** A repository offering a version, e.g. `500 http://deb.debian.org/debian bookworm/main amd64 Packages`. */
export interface PolicyOrigin {
  /** Without credentials and trailing `/`, as apt prints it. */
  uri: string;
  /** `suite/component`, or the directory of a flat repository (`./`). */
  place: string;
}

/** The version table of one package. */
export interface PolicyPackage {
  installed: string | null;
  candidate: string | null;
  /** Version → repositories offering it. dpkg's status file (/var/lib/dpkg/status) doesn't count. */
  versions: Map<string, PolicyOrigin[]>;
  /** Version → its priority (apt_preferences(5)). */
  priorities: Map<string, number>;
}

const NAME = /^([a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?):$/;
const FACT = /^ {2}(Installed|Candidate): (\S+)$/;
/** ` *** 1.0 500`, `     1.0 500 (phased 20%)`. */
const VERSION = /^ (?:\*\*\*| {3}) (\S+) (-?\d+)(?: \(.*\))?$/;
const ORIGIN = /^ {6,}-?\d+ (\S+:\S*) (\S+) (?:.* )?Packages$/;
/** Any other source except a file path, which is dpkg's status file. */
const PLACE = /^ {6,}-?\d+ ([^/\s].*)$/;

/** Parses `apt-cache policy <name>…`: `name`, or `name:arch` if foreign → its version table. Never throws. */
export function parsePolicy(text: string): Map<string, PolicyPackage> {
  const packages = new Map<string, PolicyPackage>();
  let current: PolicyPackage | null = null;
  let origins: PolicyOrigin[] | null = null;
  for (const line of text.split("\n")) {
    const name = NAME.exec(line)?.[1];
    if (name !== undefined) {
      current = { installed: null, candidate: null, versions: new Map(), priorities: new Map() };
      origins = null;
      packages.set(name, current);
      continue;
    }
    if (current === null) continue;
    const fact = FACT.exec(line);
    if (fact !== null) {
      const value = fact[2] === "(none)" ? null : (fact[2] ?? null);
      current[fact[1] === "Installed" ? "installed" : "candidate"] = value;
      continue;
    }
    const [, version, priority] = VERSION.exec(line) ?? [];
    if (version !== undefined) {
      // Sources may offer the same version with different contents or dependencies; apt then lists it twice.
      origins = current.versions.get(version) ?? [];
      current.versions.set(version, origins);
      current.priorities.set(version, Number(priority));
      continue;
    }
    const [, uri, place] = ORIGIN.exec(line) ?? [];
    if (uri !== undefined && place !== undefined) origins?.push({ uri, place });
    else {
      const unknown = PLACE.exec(line)?.[1];
      if (unknown !== undefined) origins?.push({ uri: unknown.slice(0, 500).toWellFormed(), place: "?" });
    }
  }
  return packages;
}
