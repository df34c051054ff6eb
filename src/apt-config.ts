import { pinnedSettings } from "./apt-pinned.ts";
import { parseAptDump, type Settings, setScalar, takeList } from "./apt-settings.ts";
import { isFetched, type OperationPlan } from "./doc-plan.ts";
import type { RunPlace } from "./eco-driver.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The configuration apt runs with. Files in apt.conf.d are read after APT_CONFIG and override it, and a `#clear` there
 * removes our settings (both measured). So the host's settings are frozen from `apt-config dump`, ours are appended,
 * the host's files are disabled, and the result is dumped and compared before apt starts. See apt.conf(5).
 */

/** A path that never needs quoting: apt passes the hook's command line to a shell. */
const PLAIN_PATH = /^(?:\/[A-Za-z0-9._-]+)+$/;

/**
 * dpkg(1) options the host may set: how to treat changed configuration files, no sync, files left out, a log. Other
 * --force options would do things no plan shows, and another root is another host.
 */
const DPKG_OPTION =
  /^--(?:(?:no-|refuse-)?force-(?:conf(?:def|old|new|miss|ask)|unsafe-io)(?:,(?:conf(?:def|old|new|miss|ask)|unsafe-io))*|path-(?:ex|in)clude=.+|log=.+|no-debsig)$/;

/** dpkg gives confnew and confask precedence over confold, in any order. */
const CONFFILES_KEPT = ["--no-force-confnew,confask", "--force-confold"];

/** dpkg's default forces, plus downgrades if planned. Resets what /etc/dpkg/dpkg.cfg(.d) sets, since that is read first. */
function dpkgDefaults(plan: OperationPlan): string[] {
  const forced = plan.packages_downgraded.length > 0 ? "security-mac,downgrade" : "security-mac";
  return ["--no-force-all", `--force-${forced}`];
}

/** An update is planned without asking apt for its source files, so pin the paths planning read. */
const PLANNED_SOURCES = {
  Dir: "/",
  "Dir::Etc": "etc/apt",
  "Dir::Etc::sourcelist": "sources.list",
  "Dir::Etc::sourceparts": "sources.list.d",
};

/** Directory of apt's download methods. */
const METHODS = "/usr/lib/apt/methods";

/**
 * The host's DPkg settings that are kept: hooks, options, and how dpkg is treated meanwhile. Others leave packages
 * unpacked or triggers pending, start dpkg elsewhere, or split its command line.
 */
const DPKG_KEPT =
  /^DPkg(?:$|::(?:Options|Pre-Invoke|Post-Invoke|Pre-Install-Pkgs|Tools|UseIONice|Inhibit-Shutdown)(?:$|::))/i;

/**
 * The settings for one run: the host's, then ours. `kept` are package files for apt to know beside its sources.
 * @throws AegisError `refused` as {@link pinnedSettings}, and if apt would look at another system than dpkg changes, if
 * the host gives dpkg options that change what is done, or if a package comes from a disc
 */
export function runSettings(
  host: Settings,
  plan: OperationPlan,
  place: RunPlace,
  kept: readonly string[] = [],
): Settings {
  for (const path of [place.directory, place.archives, place.aegis, ...kept]) {
    if (!PLAIN_PATH.test(path))
      throw new AegisError(
        "refused",
        `${path} can't be named in apt's configuration`,
        "Install aegis in /usr/local/bin.",
      );
  }
  refuseElsewhere(host);
  const settings: Settings = new Map(
    [...pinnedSettings(host)].filter(([key]) => DPKG_KEPT.test(key) || !/^DPkg::/i.test(key)),
  );
  const options = takeList(settings, "DPkg::Options");
  refuseOptions(options);
  refuseCdroms(plan);
  const hooks = takeList(settings, "DPkg::Pre-Install-Pkgs");
  // Host settings for our hook, such as another input descriptor.
  takeList(settings, `DPkg::Tools::Options::${place.aegis}`);
  const removals = plan.packages_removed.length > 0;
  const ours: Record<string, string> = {
    "DPkg::Chroot-Directory": "/",
    // dpkg and the hooks search for programs here, such as dpkg-deb.
    "DPkg::Path": SYSTEM_PATH.join(":"),
    ...(plan.operation === "update" ? PLANNED_SOURCES : {}),
    "Dir::Cache::archives": `${place.archives}/`,
    // apt passes dpkg the files of file: sources in place. Copied, they are in the run's own directory like all others.
    "Dir::Bin::Methods": METHODS,
    ...(plan.operation === "update" ? {} : { "Dir::Bin::Methods::file": `${METHODS}/copy` }),
    "APT::Get::Simulate": "false",
    // `apt-get purge` sets it for itself.
    "APT::Get::Purge": "false",
    "APT::Mark::Simulate": "false",
    "APT::Get::allow-downgrades": String(plan.packages_downgraded.length > 0),
    "APT::Get::allow-change-held-packages": String(changesHeld(plan)),
    "APT::Get::Remove": String(removals),
    // The driver keeps what was installed; the rest of the directory is removed with the run.
    "APT::Keep-Downloaded-Packages": "true",
    // Without it apt-get update exits 0 when a source can't be reached.
    "APT::Update::Error-Mode": "any",
    "APT::Status-Fd": "3",
    "Acquire::AllowInsecureRepositories": "false",
    "Acquire::AllowWeakRepositories": "false",
    "Acquire::AllowDowngradeToInsecureRepositories": "false",
    "DPkg::Lock::Timeout": "120",
    "DPkg::Use-Pty": "false",
    "DPkg::Progress-Fancy": "false",
    [`DPkg::Tools::Options::${place.aegis}`]: "",
    [`DPkg::Tools::Options::${place.aegis}::Version`]: "3",
  };
  for (const [key, value] of Object.entries(ours)) setScalar(settings, key, value);
  settings.set("DPkg::Pre-Install-Pkgs::", [hookCommand(place), ...hooks]);
  if (kept.length > 0) settings.set("APT::Sources::With::", [...kept]);
  settings.set("DPkg::Options::", [...dpkgDefaults(plan), ...options, ...CONFFILES_KEPT]);
  return settings;
}

/** dpkg's status file, which the executor compares with. */
const STATUS = "/var/lib/dpkg/status";

function refuseElsewhere(host: Settings): void {
  for (const [key, values] of host) {
    const root = /^RootDir$/i.test(key) && values.some((value) => value !== "" && value !== "/");
    const status = /^Dir::State::status$/i.test(key) && values.some((value) => value !== STATUS);
    if (root || status) {
      throw new AegisError(
        "refused",
        `apt is configured with ${key} "${values.join(" ")}": it would look at another system than dpkg changes`,
        `Remove ${key} from /etc/apt/apt.conf.d.`,
      );
    }
  }
}

/** The hook accepts only files in the run's directory, and apt can't be made to copy a disc's. */
function refuseCdroms({ repository_evidence, transaction }: OperationPlan): void {
  const discs = repository_evidence.filter(({ transport }) => transport === "cdrom").map(({ id }) => id);
  const from = transaction.find(
    (entry) => isFetched(entry) && entry.sources.some((id) => discs.includes(id)),
  );
  if (from === undefined) return;
  throw new AegisError(
    "refused",
    `${from.name} comes from a disc (cdrom:), whose files apt uses in place`,
    "Copy the disc's packages into a repository that apt reaches as file: or https:.",
  );
}

function refuseOptions(options: readonly string[]): void {
  const option = options.find((value) => !DPKG_OPTION.test(value));
  if (option === undefined) return;
  throw new AegisError(
    "refused",
    `apt is configured to run dpkg with ${option}, which no plan would show`,
    "Remove it from DPkg::Options in /etc/apt; see apt-config dump.",
  );
}

/** Our hook's command line, as apt will run it. */
export function hookCommand(place: RunPlace): string {
  return `${place.aegis} daemon --hook apt --run ${place.directory}`;
}

function changesHeld(plan: OperationPlan): boolean {
  const held = new Set(plan.packages_held_back);
  return plan.transaction.some(
    (entry) => held.has(entry.name) || held.has(`${entry.name}:${entry.architecture}`),
  );
}

/**
 * Compares apt's effective configuration (a dump made with our file) with the intended one.
 * @throws AegisError `refused` naming the first setting that differs
 */
export function checkAptConfig(dump: string, intended: Settings): void {
  const seen = significant(parseAptDump(dump));
  const wanted = significant(intended);
  for (const key of new Set([...wanted.keys(), ...seen.keys()])) {
    const [a, b] = [wanted.get(key), seen.get(key)];
    if (JSON.stringify(a) !== JSON.stringify(b)) {
      throw new AegisError(
        "refused",
        `apt would not run with the intended settings: ${key} is ${JSON.stringify(b ?? null)}, not ${JSON.stringify(a ?? null)}`,
        "Compare with: apt-config dump",
      );
    }
  }
}

/** Drops empty scalars (apt adds one for each parent) and the dumping program's name; keys in lower case. */
function significant(settings: Settings): Map<string, string[]> {
  return new Map(
    [...settings]
      .filter(
        ([key, values]) =>
          !/^(?:Binary|CommandLine|Version)(?:$|::)/i.test(key) &&
          (key.endsWith("::") ? values.length > 0 : values[0] !== ""),
      )
      .map(([key, values]) => [key.toLowerCase(), values]),
  );
}
