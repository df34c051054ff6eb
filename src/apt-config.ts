import { AegisError } from "./errors.ts";
import type { OperationPlan } from "./operation-plan.ts";
import { SYSTEM_PATH } from "./subprocess.ts";

/*
 * The configuration that apt runs with. Files in apt.conf.d are read after APT_CONFIG and win over it, and a `#clear`
 * there empties what we set (both measured). So the host's own settings are frozen from `apt-config dump`, ours are
 * written behind them, the host's files are switched off, and the result is dumped and compared before apt starts.
 * See apt.conf(5).
 */

/** Settings as apt has them: a scalar has one value, a list (its key ends in `::`) any number. */
type Settings = Map<string, string[]>;

/** Where one run keeps what it gives to apt. */
export interface AptRunPlaces {
  /** Root-only directory of the run. */
  directory: string;
  /** Private .deb directory. */
  archives: string;
  /** The aegis executable that apt calls back. */
  aegis: string;
}

/** A path that needs no quoting anywhere: apt hands the hook's command line to a shell. */
const PLAIN_PATH = /^(?:\/[A-Za-z0-9._-]+)+$/;
const LINE = /^([^\s"]+) "([^"\n]*)";$/;

/**
 * Reads `apt-config dump`.
 * @throws AegisError `refused` for a line that could not be written back exactly
 */
export function parseAptDump(text: string): Settings {
  const settings: Settings = new Map();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [, key, value] = LINE.exec(line) ?? [];
    if (key === undefined || value === undefined) {
      throw new AegisError(
        "refused",
        `an apt setting can't be carried over exactly: ${line.slice(0, 200)}`,
        "Look for quotation marks or line breaks in it: apt-config dump",
      );
    }
    const values = key.endsWith("::") ? [...(settings.get(key) ?? []), value] : [value];
    settings.set(key, values);
  }
  return settings;
}

/**
 * What the host may have dpkg(1) do on every run: treat changed configuration files in its own way, not sync, leave files
 * out, keep a log. Forcing anything else would do what no plan says, and another root is another host.
 */
const DPKG_OPTION =
  /^--(?:(?:no-|refuse-)?force-(?:conf(?:def|old|new|miss|ask)|unsafe-io)(?:,(?:conf(?:def|old|new|miss|ask)|unsafe-io))*|path-(?:ex|in)clude=.+|log=.+|no-debsig)$/;

/** dpkg looks at confnew and confask before confold, whatever their order. */
const CONFFILES_KEPT = ["--no-force-confnew,confask", "--force-confold"];

/** What dpkg forces by default, downgrades only as planned, and nothing that /etc/dpkg/dpkg.cfg(.d) adds: that is read first. */
function dpkgDefaults(plan: OperationPlan): string[] {
  const forced = plan.packages_downgraded.length > 0 ? "security-mac,downgrade" : "security-mac";
  return ["--no-force-all", `--force-${forced}`];
}

/** An update is planned without asking apt where its sources are, so it reads them where planning did. */
const PLANNED_SOURCES = {
  Dir: "/",
  "Dir::Etc": "etc/apt",
  "Dir::Etc::sourcelist": "sources.list",
  "Dir::Etc::sourceparts": "sources.list.d",
};

/** Where apt's download methods are. */
const METHODS = "/usr/lib/apt/methods";

/** Keys that name the program which dumped, or where files were read from: never carried over. */
const DROPPED = /^(?:Binary(?:$|::)|Dir::Etc::(?:main|parts)$|CommandLine(?:$|::))/i;

/**
 * The settings for one run: the host's, then ours.
 * @throws AegisError `refused` where the host overrides settings for apt-get alone, since apt applies those after
 * every file and they could not be held, and where it gives dpkg options that change what is done
 */
export function runSettings(host: Settings, plan: OperationPlan, places: AptRunPlaces): Settings {
  for (const [key, values] of host) {
    // apt takes the options from every child of the list, whatever it is called.
    const option = /^DPkg::Options::/i.test(key)
      ? values.find((value) => !DPKG_OPTION.test(value))
      : undefined;
    if (option !== undefined) {
      throw new AegisError(
        "refused",
        `apt is configured to run dpkg with ${option}, which no plan would show`,
        `Remove it from ${key} in /etc/apt; see apt-config dump.`,
      );
    }
    if (/^Binary::apt-get(?:$|::)/i.test(key)) {
      throw new AegisError(
        "refused",
        `apt is configured with ${key}, which wins over everything Aegis sets`,
        "Remove the Binary::apt-get settings from /etc/apt/apt.conf.d.",
      );
    }
  }
  for (const path of [places.directory, places.archives, places.aegis]) {
    if (!PLAIN_PATH.test(path))
      throw new AegisError(
        "refused",
        `${path} can't be named in apt's configuration`,
        "Install aegis in /usr/local/bin.",
      );
  }
  const settings: Settings = new Map([...host].filter(([key]) => !DROPPED.test(key)));
  const removals = plan.packages_removed.length > 0;
  const ours: Record<string, string> = {
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::parts": "/dev/null",
    "Dir::Bin::dpkg": "/usr/bin/dpkg",
    "DPkg::Chroot-Directory": "/",
    // dpkg and the hooks look for their programs here, dpkg-deb among them.
    "DPkg::Path": SYSTEM_PATH.join(":"),
    ...(plan.operation === "update" ? PLANNED_SOURCES : {}),
    // In a unit with PrivateTmp apt believes it is in a chroot and ignores phasing.
    "Dir::Bin::ischroot": "/bin/false",
    "Dir::Cache::archives": `${places.archives}/`,
    // apt hands dpkg the files of file: sources where they are. Copied, they are in the run's own directory as all others.
    "Dir::Bin::Methods": METHODS,
    ...(plan.operation === "update" ? {} : { "Dir::Bin::Methods::file": `${METHODS}/copy` }),
    "APT::Get::Simulate": "false",
    "APT::Get::Download-Only": "false",
    "APT::Get::Print-URIs": "false",
    "APT::Get::Download": "true",
    "APT::Get::Assume-No": "false",
    "APT::Get::Fix-Missing": "false",
    "APT::Get::Force-Yes": "false",
    "APT::Get::ReInstall": "false",
    // The hook can't tell a purge from a removal.
    "APT::Get::Purge": "false",
    "APT::Get::AllowUnauthenticated": "false",
    "APT::Get::allow-remove-essential": "false",
    "APT::Get::allow-downgrades": String(plan.packages_downgraded.length > 0),
    "APT::Get::allow-change-held-packages": String(changesHeld(plan)),
    "APT::Get::Remove": String(removals),
    "APT::Get::AutomaticRemove": "false",
    "APT::Keep-Downloaded-Packages": "false",
    // Without it apt-get update ends well when a source can't be reached.
    "APT::Update::Error-Mode": "any",
    "APT::Color": "false",
    "APT::Status-Fd": "3",
    "Acquire::AllowInsecureRepositories": "false",
    "Acquire::AllowWeakRepositories": "false",
    "Acquire::AllowDowngradeToInsecureRepositories": "false",
    "DPkg::Lock::Timeout": "120",
    "DPkg::Use-Pty": "false",
    "DPkg::Progress-Fancy": "false",
    quiet: "1",
    [`DPkg::Tools::Options::${places.aegis}`]: "",
    [`DPkg::Tools::Options::${places.aegis}::Version`]: "3",
  };
  for (const [key, value] of Object.entries(ours)) setScalar(settings, key, value);
  setList(settings, "DPkg::Pre-Install-Pkgs::", (old) => [hookCommand(places), ...old]);
  setList(settings, "DPkg::Options::", (old) => [...dpkgDefaults(plan), ...old, ...CONFFILES_KEPT]);
  return settings;
}

/** The command line of our hook, as apt will run it. */
export function hookCommand(places: AptRunPlaces): string {
  return `${places.aegis} daemon --apt-hook ${places.directory}`;
}

function changesHeld(plan: OperationPlan): boolean {
  const held = new Set(plan.packages_held_back);
  return plan.transaction.some(
    (entry) => held.has(entry.name) || held.has(`${entry.name}:${entry.architecture}`),
  );
}

/** Keys are case-insensitive in apt: the host's spelling goes when ours comes. */
export function setScalar(settings: Settings, key: string, value: string): void {
  for (const existing of settings.keys()) {
    if (existing.toLowerCase() === key.toLowerCase()) settings.delete(existing);
  }
  settings.set(key, [value]);
}

function setList(settings: Settings, key: string, change: (old: string[]) => string[]): void {
  const existing = [...settings.keys()].find((k) => k.toLowerCase() === key.toLowerCase()) ?? key;
  settings.set(existing, change(settings.get(existing) ?? []));
}

/**
 * The file for APT_CONFIG. Everything is emptied first, since apt's built-in settings are there before the file is read,
 * even those that the host has cleared.
 */
export function renderAptConfig(settings: Settings): string {
  const roots = new Set([...settings.keys()].map((key) => key.split("::")[0] ?? key));
  const clears = [...roots].map((root) => `#clear ${root};`);
  const lines = [...settings].flatMap(([key, values]) => values.map((value) => `${key} "${value}";`));
  return `${[...clears, ...lines].join("\n")}\n`;
}

/**
 * Compares what apt really sees (a dump taken with our file) with what was meant.
 * @throws AegisError `refused` naming the first setting that differs
 */
export function checkAptConfig(dump: string, meant: Settings): void {
  const seen = significant(parseAptDump(dump));
  const wanted = significant(meant);
  for (const key of new Set([...wanted.keys(), ...seen.keys()])) {
    const [a, b] = [wanted.get(key), seen.get(key)];
    if (JSON.stringify(a) !== JSON.stringify(b)) {
      throw new AegisError(
        "refused",
        `apt would not run with the settings that were meant: ${key} is ${JSON.stringify(b ?? null)}, not ${JSON.stringify(a ?? null)}`,
        "Compare with: apt-config dump",
      );
    }
  }
}

/** Without empty scalars (apt invents one for each parent) and the dumping program's own name; keys in lower case. */
function significant(settings: Settings): Map<string, string[]> {
  return new Map(
    [...settings]
      .filter(
        ([key, values]) =>
          !/^(?:Binary|CommandLine)(?:$|::)/i.test(key) &&
          (key.endsWith("::") ? values.length > 0 : values[0] !== ""),
      )
      .map(([key, values]) => [key.toLowerCase(), values]),
  );
}
