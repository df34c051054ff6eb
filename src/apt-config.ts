import { pinnedSettings } from "./apt-pinned.ts";
import { parseAptDump, type Settings, setScalar, takeList } from "./apt-settings.ts";
import { isFetched, type OperationPlan } from "./doc-plan.ts";
import type { RunPlace } from "./eco-driver.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM_PATH } from "./sys-spawn.ts";

/*
 * The configuration that apt runs with. Files in apt.conf.d are read after APT_CONFIG and win over it, and a `#clear`
 * there empties what we set (both measured). So the host's own settings are frozen from `apt-config dump`, ours are
 * written behind them, the host's files are switched off, and the result is dumped and compared before apt starts.
 * See apt.conf(5).
 */

/** A path that needs no quoting anywhere: apt hands the hook's command line to a shell. */
const PLAIN_PATH = /^(?:\/[A-Za-z0-9._-]+)+$/;

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

/**
 * What counts of the host's settings for dpkg: its hooks and options, and how dpkg is to be treated meanwhile. Others leave
 * packages unpacked or triggers unrun, start dpkg elsewhere, or cut its command line into pieces.
 */
const DPKG_KEPT =
  /^DPkg(?:$|::(?:Options|Pre-Invoke|Post-Invoke|Pre-Install-Pkgs|Tools|UseIONice|Inhibit-Shutdown)(?:$|::))/i;

/**
 * The settings for one run: the host's, then ours.
 * @throws AegisError `refused` as {@link pinnedSettings}, and where apt would look at another system than dpkg works on, where
 * the host gives dpkg options that change what is done, or where a package comes from a disc
 */
export function runSettings(host: Settings, plan: OperationPlan, places: RunPlace): Settings {
  for (const path of [places.directory, places.archives, places.aegis]) {
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
  refuseDiscs(plan);
  const hooks = takeList(settings, "DPkg::Pre-Install-Pkgs");
  // What the host says of our own hook: another descriptor to read from, for example.
  takeList(settings, `DPkg::Tools::Options::${places.aegis}`);
  const removals = plan.packages_removed.length > 0;
  const ours: Record<string, string> = {
    "DPkg::Chroot-Directory": "/",
    // dpkg and the hooks look for their programs here, dpkg-deb among them.
    "DPkg::Path": SYSTEM_PATH.join(":"),
    ...(plan.operation === "update" ? PLANNED_SOURCES : {}),
    "Dir::Cache::archives": `${places.archives}/`,
    // apt hands dpkg the files of file: sources where they are. Copied, they are in the run's own directory as all others.
    "Dir::Bin::Methods": METHODS,
    ...(plan.operation === "update" ? {} : { "Dir::Bin::Methods::file": `${METHODS}/copy` }),
    "APT::Get::Simulate": "false",
    "APT::Get::allow-downgrades": String(plan.packages_downgraded.length > 0),
    "APT::Get::allow-change-held-packages": String(changesHeld(plan)),
    "APT::Get::Remove": String(removals),
    "APT::Keep-Downloaded-Packages": "false",
    // Without it apt-get update ends well when a source can't be reached.
    "APT::Update::Error-Mode": "any",
    "APT::Status-Fd": "3",
    "Acquire::AllowInsecureRepositories": "false",
    "Acquire::AllowWeakRepositories": "false",
    "Acquire::AllowDowngradeToInsecureRepositories": "false",
    "DPkg::Lock::Timeout": "120",
    "DPkg::Use-Pty": "false",
    "DPkg::Progress-Fancy": "false",
    [`DPkg::Tools::Options::${places.aegis}`]: "",
    [`DPkg::Tools::Options::${places.aegis}::Version`]: "3",
  };
  for (const [key, value] of Object.entries(ours)) setScalar(settings, key, value);
  settings.set("DPkg::Pre-Install-Pkgs::", [hookCommand(places), ...hooks]);
  settings.set("DPkg::Options::", [...dpkgDefaults(plan), ...options, ...CONFFILES_KEPT]);
  return settings;
}

/** dpkg's own list, which the executor compares with. */
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

/** The hook takes packages in the run's own directory only, and there is no way to have apt copy those of a disc. */
function refuseDiscs({ repository_evidence, transaction }: OperationPlan): void {
  const discs = repository_evidence.filter(({ transport }) => transport === "cdrom").map(({ id }) => id);
  const from = transaction.find(
    (entry) => isFetched(entry) && entry.sources.some((id) => discs.includes(id)),
  );
  if (from === undefined) return;
  throw new AegisError(
    "refused",
    `${from.name} comes from a disc (cdrom:), whose files apt uses where they are`,
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

/** The command line of our hook, as apt will run it. */
export function hookCommand(places: RunPlace): string {
  return `${places.aegis} daemon --hook apt --run ${places.directory}`;
}

function changesHeld(plan: OperationPlan): boolean {
  const held = new Set(plan.packages_held_back);
  return plan.transaction.some(
    (entry) => held.has(entry.name) || held.has(`${entry.name}:${entry.architecture}`),
  );
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
          !/^(?:Binary|CommandLine|Version)(?:$|::)/i.test(key) &&
          (key.endsWith("::") ? values.length > 0 : values[0] !== ""),
      )
      .map(([key, values]) => [key.toLowerCase(), values]),
  );
}
