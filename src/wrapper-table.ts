import type { WrapperName } from "./aliases.ts";

/*
 * What the wrappers do with the calls of each package manager, as data. What is not here is refused: a new verb or option
 * of a package manager waits until somebody has looked at it.
 */

export interface PlanVerb {
  /** What is typed behind `aegis plan`. */
  plan: readonly [ecosystem: string, operation: string];
  /** Options that change nothing about the plan. With any other one the wish can't be planned. */
  drop: readonly string[];
  /** Options that make of the call a simulation by the program itself: let through. */
  simulate: readonly string[];
  /** Options that mean something else where no target is named, and what can be planned of that. */
  alone?: Readonly<Record<string, readonly [ecosystem: string, operation: string]>>;
  /** Options that policy denies, with the signal that it gives as the reason. */
  denied?: Readonly<Record<string, string>>;
}

/** Let through, unless one of these options stands behind it; planned; refused for a reason of its own. */
export type Verb =
  | { pass: true; unless: readonly string[] }
  | PlanVerb
  | { refuse: string; simulate: readonly string[] };

export interface Program {
  /** Options without a value that may stand before the verb. Single letters may be joined: `-qqy`. */
  flags: readonly string[];
  /** Options that take the next word, or what follows `=`. */
  valued: readonly string[];
  /** By verb; two words win over one. An option can be a verb too. */
  verbs: Readonly<Record<string, Verb>>;
  /** Words that are let through when nothing else stands there. */
  alone: readonly string[];
  /** Whether the program is let through without any word. */
  bare: boolean;
  /** Words that are no verb name files to look at. */
  files?: true;
}

const words = (text: string) => text.split(" ");
const under = (first: string, text: string) => words(text).map((second) => `${first} ${second}`);
const pass = (...verbs: string[]): Record<string, Verb> => all({ pass: true, unless: [] }, verbs);
const refuse = (why: string, text: string, simulate: readonly string[] = []): Record<string, Verb> =>
  all({ refuse: why, simulate }, words(text));
const all = (verb: Verb, verbs: readonly string[]) => Object.fromEntries(verbs.map((one) => [one, verb]));

const HELP = words("--help -h --version -v");

const APT_QUIET = words("-y --yes --assume-yes -q --quiet -V --verbose-versions");
const APT_FLAGS = [
  ...APT_QUIET,
  ...words("-s --simulate --just-print --dry-run --recon --no-act -f --fix-broken -m --ignore-missing"),
  ...words("-d --download-only -u --show-upgraded --no-install-recommends --install-recommends"),
  ...words(
    "--install-suggests --only-upgrade --reinstall --no-upgrade --with-new-pkgs --purge --auto-remove",
  ),
  ...words("--autoremove --allow-downgrades --allow-change-held-packages --allow-remove-essential"),
  ...words("--installed --upgradable --names-only -n --full --all-versions"),
];
const SIMULATE = words("-s --simulate --just-print --dry-run --recon --no-act");

/** A changing verb of apt: planned where Aegis can plan it. With an option that simulates it is let through. */
function aptPlan(operation: string): PlanVerb {
  return { plan: ["apt", operation], drop: APT_QUIET, simulate: operation === "update" ? [] : SIMULATE };
}

/** `apt install -f` without a package puts right what was left broken. */
const APT_INSTALL: Verb = {
  ...aptPlan("install"),
  alone: { "-f": ["apt", "repair"], "--fix-broken": ["apt", "repair"] },
};

const APT: Program = {
  flags: APT_FLAGS,
  // Without -c and -a: apt takes its options from the first word that is a verb of its own, were it a value, and -a may
  // then be a flag and -s may take a value (measured with apt 2.6: `-c policy -s list install x` installs).
  valued: words("-o --option -t --target-release --default-release"),
  verbs: {
    ...pass(...words("list search show showsrc showpkg depends rdepends policy madison changelog help moo")),
    ...pass(...words("check indextargets")),
    update: aptPlan("update"),
    upgrade: aptPlan("upgrade"),
    install: APT_INSTALL,
    remove: aptPlan("remove"),
    ...refuse("it may remove packages to upgrade others", "dist-upgrade full-upgrade", SIMULATE),
    ...refuse("it deletes configuration with the package", "purge autopurge", SIMULATE),
    ...refuse("it chooses itself what to remove", "autoremove auto-remove", SIMULATE),
    ...refuse("it edits whom apt trusts", "edit-sources"),
  },
  alone: HELP,
  bare: true,
};

const NPM_INSTALL: Verb = {
  plan: ["npm", "install"],
  simulate: [],
  drop: words(
    "-g --global --no-audit --no-fund --ignore-scripts -s --silent -q --quiet -y --yes --dry-run --json",
  ),
};

const NPM: Program = {
  flags: [
    ...words("-g --global --json -s --silent -q --quiet --verbose -l --long -p --parseable --offline"),
    ...words("--prefer-offline --no-audit --no-fund --no-color --ignore-scripts -y --yes --dry-run"),
    ...words("--no-progress --no-update-notifier"),
  ],
  valued: words("--prefix -C --registry --loglevel --cache --tag -w --workspace"),
  verbs: {
    ...pass(...words("view v info show ls list ll la outdated search find se s help root prefix ping")),
    ...pass(...words("explain why fund query sbom doctor"), ...under("config", "get list ls")),
    ...pass("audit signatures"),
    audit: { pass: true, unless: ["fix"] },
    ...all(NPM_INSTALL, words("install i in ins inst insta instal isnt isnta isntal isntall add")),
    ...refuse(
      "it installs what a lock file names, and runs lifecycle scripts",
      "ci clean-install install-clean",
    ),
    ...refuse(
      "it runs scripts of a package",
      "run run-script rum urn test t tst start stop restart rebuild rb",
    ),
    ...refuse("it may download a package and run it", "exec x init create innit"),
    ...refuse(
      "it changes what is installed",
      "update up upgrade udpate uninstall un unlink remove rm r dedupe",
    ),
    ...refuse("it changes what is installed", "prune link ln"),
  },
  alone: HELP,
  bare: true,
};

const PIP: Program = {
  flags: words(
    "-q --quiet -v --verbose --isolated --no-input --disable-pip-version-check --no-cache-dir --no-color",
  ),
  valued: words("--proxy --cert --timeout --retries --trusted-host --cache-dir --exists-action"),
  verbs: {
    ...pass(...words("help debug hash"), ...under("index", "versions")),
    ...pass(...under("config", "list get debug"), ...under("cache", "dir info list")),
    // By --python another interpreter would be run.
    ...all({ pass: true, unless: ["--python"] }, words("list show freeze check inspect")),
    install: {
      plan: ["pip", "install"],
      simulate: [],
      drop: words(
        "-q --quiet -v --verbose --no-input --disable-pip-version-check --no-cache-dir -U --upgrade --dry-run",
      ),
      denied: {
        "-r": "requirements-file-denied",
        "--requirement": "requirements-file-denied",
        "-e": "local-path-denied",
        "--editable": "local-path-denied",
      },
    },
    ...refuse("it builds packages, which runs their code", "download wheel lock"),
    ...refuse("it changes what is installed", "uninstall"),
  },
  alone: [...words("--help -h --version -V")],
  bare: true,
};

function container(tool: "docker" | "podman"): Program {
  const pull: Verb = { plan: [tool, "pull"], simulate: [], drop: words("-q --quiet") };
  return {
    flags: words("-D --debug --tls --tlsverify -r --remote"),
    valued: [
      ...words("-H --host -c --context --connection --config -l --log-level --tlscacert --tlscert --tlskey"),
      ...words("--url --root --runroot --storage-driver"),
    ],
    verbs: {
      ...pass(...words("ps images inspect logs version info stats top port diff events history search help")),
      ...pass(...under("image", "ls list inspect history"), ...under("manifest", "inspect")),
      ...pass(...under("container", "ls ps list inspect logs top stats port diff")),
      ...pass(...under("network", "ls list inspect"), ...under("volume", "ls list inspect")),
      ...pass(...under("system", "df info events"), ...under("context", "ls list show inspect")),
      ...pass(...under("compose", "ps ls logs images top port version")),
      pull,
      "image pull": pull,
      ...refuse("it pulls the image on its own and starts what is in it", "run create compose"),
      ...refuse("it brings in an image that nobody has judged", "load import build buildx commit"),
      ...refuse("it runs a program in a container", "exec"),
    },
    alone: words("--help -h --version -v"),
    bare: true,
  };
}

const GO_DOWNLOADS = "it downloads modules on its own";

const GO: Program = {
  flags: [],
  valued: [],
  verbs: {
    ...pass(...words("version doc help")),
    env: { pass: true, unless: words("-w --w -u --u") },
    get: { plan: ["go", "get"], simulate: [], drop: [] },
    install: { plan: ["go", "get"], simulate: [], drop: [] },
    ...refuse(GO_DOWNLOADS, "build vet list mod work fix tool"),
    ...refuse("it downloads modules on its own and runs what is in them", "run test generate"),
  },
  alone: words("-h --help"),
  bare: true,
};

const CARGO: Program = {
  flags: words("-q --quiet -v --verbose --offline --locked --frozen"),
  valued: words("--color"),
  verbs: {
    ...pass(...words("version help search info locate-project read-manifest --list")),
    install: { plan: ["cargo", "install"], simulate: [], drop: words("-q --quiet -v --verbose --locked") },
    ...refuse(
      "it downloads crates and runs their build scripts",
      "build b check c test t run r bench doc d rustc",
    ),
    ...refuse("it downloads crates and runs their build scripts", "clippy fix package publish"),
    ...refuse("it downloads crates on its own", "fetch update add tree metadata vendor generate-lockfile"),
    ...refuse("it changes what is installed", "uninstall"),
  },
  alone: words("--help -h --version -V"),
  bare: true,
};

const NUGET: Program = {
  flags: [],
  valued: [],
  verbs: {
    ...pass(...words("help ? list search"), ...under("sources", "list"), ...under("source", "list")),
    install: { plan: ["nuget", "install"], simulate: [], drop: words("-NonInteractive") },
    ...refuse("it changes what is installed", "restore update add init delete push"),
  },
  alone: words("--help -help -h"),
  bare: true,
};

const CODE: Program = {
  flags: words(
    "- -n --new-window -r --reuse-window -w --wait -d --diff -a --add -g --goto --verbose -s --status",
  ),
  valued: words("--locale --log --category --profile"),
  verbs: {
    "--list-extensions": {
      pass: true,
      unless: words("--install-extension --uninstall-extension --update-extensions"),
    },
    "--install-extension": { plan: ["vscode", "install"], simulate: [], drop: words("--force") },
    ...refuse("it changes what is installed", "--uninstall-extension --update-extensions --install-source"),
    ...refuse("it opens this host to others", "tunnel serve-web chat agent ext"),
  },
  alone: words("--help -h --version -v"),
  bare: true,
  files: true,
};

const APTITUDE: Program = {
  ...APT,
  verbs: {
    ...pass(...words("search show versions why why-not changelog help")),
    ...all(aptPlan("update"), ["update"]),
    ...all(aptPlan("upgrade"), ["safe-upgrade"]),
    ...all(APT_INSTALL, ["install"]),
    ...all(aptPlan("remove"), ["remove"]),
  },
  // Without a verb it opens its own screens.
  bare: false,
};

export const PROGRAMS: Readonly<Record<WrapperName, Program>> = {
  apt: APT,
  "apt-get": APT,
  aptitude: APTITUDE,
  npm: NPM,
  pip: PIP,
  pip3: PIP,
  docker: container("docker"),
  podman: container("podman"),
  nuget: NUGET,
  code: CODE,
  go: GO,
  cargo: CARGO,
};
