/*
 * The two logs of package changes, in the local time of the caller: dpkg's, one line per step (dpkg(1), --log), and
 * apt's history.log, one stanza per run, written at its start and completed at its end (pkgDPkgPM::OpenLog and
 * CloseLog, apt-pkg/deb/dpkgpm.cc).
 */

/** A package that dpkg changed, or whose state changed although no log says why. */
export interface PackageChange {
  /** `2026-01-31 12:00:00` as written by dpkg, in local time; null if not logged. */
  at: string | null;
  action: "install" | "upgrade" | "remove" | "purge" | "disappear" | "changed";
  name: string;
  architecture: string;
  /** Null if not installed before or after. */
  from: string | null;
  to: string | null;
}

const LINE =
  /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (install|upgrade|remove|purge|disappear) ([a-z0-9][a-z0-9+.-]{0,255}):([a-z0-9][a-z0-9-]{0,63}) (\S{1,256})(?: (\S{1,256}))?$/;

/**
 * The change reported by a line of dpkg's log; null for other lines and garbage. dpkg also logs downgrades and
 * reinstallations as `upgrade`.
 */
export function parseDpkgLine(line: string): PackageChange | null {
  const [, at, action, name, architecture, first, second] = LINE.exec(line) ?? [];
  if (at === undefined || action === undefined || name === undefined || architecture === undefined)
    return null;
  const version = (word: string | undefined) => (word === undefined || word === "<none>" ? null : word);
  const isChange = action === "install" || action === "upgrade";
  return {
    at,
    action: action as PackageChange["action"],
    name,
    architecture,
    from: version(first),
    to: isChange ? version(second) : null,
  };
}

/** `upgrade libc6:amd64 2.36-9 2.37-1`, for display and digests. */
export function describeChange({ action, name, architecture, from, to }: PackageChange): string {
  return `${action} ${name}:${architecture} ${from ?? "none"} ${to ?? "none"}`;
}

/** A run of apt or of a program using its library. */
export interface AptRun {
  /** `2026-01-31 12:00:00`, as in dpkg's log. */
  started: string;
  /** Null while running or if killed. */
  ended: string | null;
  command: string | null;
  /** `alice (1000)`: the user behind sudo or pkexec. */
  requestedBy: string | null;
  error: string | null;
  packages: AptRunPackage[];
}

interface AptRunPackage {
  name: string;
  architecture: string;
  /** Null for an installation; history.log doesn't record a previous version. */
  from: string | null;
  /** Null for a removal. */
  to: string | null;
}

const TIME = /^(\d{4}-\d\d-\d\d) +(\d\d:\d\d:\d\d)$/;
/** Meaning of the versions in each list. */
const LISTS: Readonly<
  Record<string, (first: string | null, second: string | null) => [from: string | null, to: string | null]>
> = {
  Install: (version) => [null, version],
  Upgrade: (from, to) => [from, to],
  Downgrade: (from, to) => [from, to],
  Reinstall: (version) => [version, version],
  Remove: (version) => [version, null],
  Purge: (version) => [version, null],
  Disappeared: (version) => [version, null],
};
/**
 * apt prints Architecture: all packages with the host's architecture: `ssl-cert:amd64 (1.1.2, automatic)`. Lengths are
 * bounded and matches start only at a word boundary, so that a long word isn't retried from each of its characters.
 */
const PACKAGE = /(?<![a-z0-9+.-])([a-z0-9][a-z0-9+.-]{0,255}):([a-z0-9][a-z0-9-]{0,63}) \(([^()]{0,1024})\)/g;

/** The runs in a history.log, in order. Malformed entries are skipped: a log may be cut anywhere. */
export function parseAptHistory(text: string): AptRun[] {
  return text.split(/\n[ \t\r]*\n/).flatMap((stanza) => {
    const fields = new Map<string, string>();
    for (const line of stanza.split("\n")) {
      const colon = line.indexOf(": ");
      if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2).trim());
    }
    const started = timeOf(fields.get("Start-Date"));
    if (started === null) return [];
    return [
      {
        started,
        ended: timeOf(fields.get("End-Date")),
        command: fields.get("Commandline") ?? null,
        requestedBy: fields.get("Requested-By") ?? null,
        error: fields.get("Error") ?? null,
        packages: Object.keys(LISTS).flatMap((list) => packagesOf(list, fields.get(list) ?? "")),
      },
    ];
  });
}

function timeOf(text: string | undefined): string | null {
  const [, day, time] = TIME.exec(text ?? "") ?? [];
  return day === undefined ? null : `${day} ${time}`;
}

function packagesOf(list: string, text: string): AptRunPackage[] {
  return [...text.matchAll(PACKAGE)].map(([, name = "", architecture = "", versions = ""]) => {
    const [first = null, second = null] = versions.split(", ").filter((word) => word !== "automatic");
    const [from = null, to = null] = LISTS[list]?.(first, second) ?? [];
    return { name, architecture, from, to };
  });
}

/** The program, as far as the command line tells; unattended-upgrades and PackageKit use apt's library. */
export function programOf({ command }: Pick<AptRun, "command">): string {
  const [first = "", second = ""] = (command ?? "").split(" ").map((word) => word.split("/").at(-1) ?? "");
  const program = /^python[0-9.]*$/.test(first) ? second : first;
  if (/^unattended-upgrades?$/.test(program)) return "unattended-upgrades";
  return program.slice(0, 64) || "apt";
}
