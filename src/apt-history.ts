/*
 * apt's history.log: one stanza a run, written at its start and finished at its end (pkgDPkgPM::OpenLog and CloseLog,
 * apt-pkg/deb/dpkgpm.cc), in the local time of whoever ran apt.
 */

/** One run of apt, or of a program that uses its library. */
export interface AptRun {
  /** `2026-01-31 12:00:00`, as in dpkg's log. */
  started: string;
  /** Null while it runs, and where it was killed. */
  ended: string | null;
  command: string | null;
  /** `alice (1000)`: who called sudo or pkexec, as apt was told. */
  requestedBy: string | null;
  error: string | null;
  packages: AptRunPackage[];
}

interface AptRunPackage {
  name: string;
  architecture: string;
  versions: string[];
}

const TIME = /^(\d{4}-\d\d-\d\d) +(\d\d:\d\d:\d\d)$/;
const LISTS = ["Install", "Upgrade", "Downgrade", "Reinstall", "Remove", "Purge", "Disappeared"];
/** apt names a package that is for all architectures with the host's own: `ssl-cert:amd64 (1.1.2, automatic)`. */
const PACKAGE = /([a-z0-9][a-z0-9+.-]*):([a-z0-9][a-z0-9-]*) \(([^()]*)\)/g;

/** The runs in the text of a history.log, in its order. What can't be read is left out: a log may be cut anywhere. */
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
        packages: LISTS.flatMap((list) => packagesOf(fields.get(list) ?? "")),
      },
    ];
  });
}

function timeOf(text: string | undefined): string | null {
  const [, day, time] = TIME.exec(text ?? "") ?? [];
  return day === undefined ? null : `${day} ${time}`;
}

function packagesOf(list: string): AptRunPackage[] {
  return [...list.matchAll(PACKAGE)].map(([, name = "", architecture = "", versions = ""]) => ({
    name,
    architecture,
    versions: versions.split(", ").filter((word) => word !== "" && word !== "automatic"),
  }));
}

/** Which program it was, as far as the command line tells; unattended-upgrades and PackageKit use apt's library. */
export function programOf({ command }: Pick<AptRun, "command">): string {
  if (command === null) return "apt";
  if (/(?:^|[\s/])unattended-upgrades?(?:\s|$)/.test(command)) return "unattended-upgrades";
  const [first = ""] = command.split(" ");
  return first.split("/").at(-1)?.slice(0, 64) || "apt";
}
