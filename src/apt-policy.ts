/** One place that offers a version, e.g. `500 http://deb.debian.org/debian bookworm/main amd64 Packages`. */
export interface PolicyOrigin {
  /** Without credentials and without a last `/`, as apt prints it. */
  uri: string;
  /** `suite/component`, or the directory of a flat repository (`./`). */
  place: string;
}

/** The version table of one package. */
export interface PolicyPackage {
  installed: string | null;
  candidate: string | null;
  /** Version → where it is offered. The installed state alone (/var/lib/dpkg/status) is no offer. */
  versions: Map<string, PolicyOrigin[]>;
}

const NAME = /^([a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?):$/;
const FACT = /^ {2}(Installed|Candidate): (\S+)$/;
/** ` *** 1.0 500`, `     1.0 500 (phased 20%)`. */
const VERSION = /^ (?:\*\*\*| {3}) (\S+) -?\d+(?: \(.*\))?$/;
const ORIGIN = /^ {6,}-?\d+ (\S+:\S*) (\S+) (?:.* )?Packages$/;
/** Any place at all, but for a file: that is dpkg's own record of what is installed. */
const PLACE = /^ {6,}-?\d+ ([^/\s].*)$/;

/** Parses `apt-cache policy <name>…`: `name`, or `name:arch` for a foreign one → its version table. Never throws. */
export function parsePolicy(text: string): Map<string, PolicyPackage> {
  const packages = new Map<string, PolicyPackage>();
  let current: PolicyPackage | null = null;
  let origins: PolicyOrigin[] | null = null;
  for (const line of text.split("\n")) {
    const name = NAME.exec(line)?.[1];
    if (name !== undefined) {
      current = { installed: null, candidate: null, versions: new Map() };
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
    const version = VERSION.exec(line)?.[1];
    if (version !== undefined) {
      // Two sources may give one version other bytes or dependencies; apt then lists it twice.
      origins = current.versions.get(version) ?? [];
      current.versions.set(version, origins);
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
