import { all, look, type PlanVerb, type Program, refuse, words } from "./wrap-verbs.ts";

/*
 * The wrapper tables of apt, apt-get, apt-mark and aptitude; wrap-table.ts has the others.
 */

/** Options after a read-only verb: none runs, writes or opens anything. */
const LOOK = [
  "-q --quiet -v --verbose -a --all-versions --installed --upgradable --upgradeable --manual-installed",
  "-n --names-only -f --full -i --important --recurse --no-recommends --no-suggests",
].join(" ");

const APT_QUIET = words("-y --yes --assume-yes -q --quiet -V --verbose-versions");
const SIMULATE = words("-s --simulate --just-print --dry-run --recon --no-act");
const APT_FLAGS = [
  ...APT_QUIET,
  ...SIMULATE,
  ...words("-f --fix-broken -m --ignore-missing -d --download-only -u --show-upgraded"),
  ...words("--no-install-recommends --install-recommends --install-suggests --only-upgrade --reinstall"),
  ...words("--no-upgrade --with-new-pkgs --purge --auto-remove --autoremove --allow-downgrades"),
  ...words("--allow-change-held-packages --allow-remove-essential"),
];

/** A verb of apt that Aegis plans. With an option that simulates, the call passes through. */
function aptPlan(operation: string): PlanVerb {
  return { plan: ["apt", operation], drop: APT_QUIET, simulate: operation === "update" ? [] : SIMULATE };
}

/** `apt install -f` without a package repairs an interrupted installation. */
const APT_INSTALL: PlanVerb = {
  ...aptPlan("install"),
  alone: { "-f": ["apt", "repair"], "--fix-broken": ["apt", "repair"] },
};

export const APT: Program = {
  flags: APT_FLAGS,
  // Without -c and -a: apt picks its option table by the first word that is a verb, even if that word is an option's value.
  valued: words("-o --option -t --target-release --default-release"),
  verbs: {
    ...look(LOOK, ...words("list search show showsrc showpkg depends rdepends policy madison")),
    ...look("-q --quiet", "changelog", "check", "moo"),
    ...look("-q --quiet --format --no-release-info", "indextargets"),
    help: { options: [], words: "any" },
    update: aptPlan("update"),
    upgrade: aptPlan("upgrade"),
    install: APT_INSTALL,
    remove: aptPlan("remove"),
    purge: aptPlan("purge"),
    ...all(aptPlan("full-upgrade"), ["full-upgrade", "dist-upgrade"]),
    ...all(aptPlan("autoremove"), ["autoremove", "auto-remove"]),
    ...refuse("it deletes configuration of whatever it chooses", "autopurge", SIMULATE),
    ...refuse("it edits the sources that apt trusts", "edit-sources"),
  },
  alone: words("--help -h --version -v"),
  bare: true,
};

/** Which packages are on hold, and which came as dependencies. */
export const APT_MARK: Program = {
  flags: [],
  valued: [],
  verbs: {
    ...look("", ...words("showauto showmanual showhold showheld showinstall showremove showpurge")),
    ...all({ ...aptPlan("hold"), drop: [], simulate: [] }, ["hold"]),
    ...all({ ...aptPlan("unhold"), drop: [], simulate: [] }, ["unhold"]),
    ...refuse("it changes what autoremove would remove", "auto manual minimize-manual markauto unmarkauto"),
    ...refuse("it tells dpkg what to change later", "install remove deinstall purge"),
  },
  alone: words("--help -h --version -v"),
  bare: true,
};

export const APTITUDE: Program = {
  ...APT,
  verbs: {
    ...look("-q --quiet -v --verbose -F --display-format -w --width -O --sort", "search", "show", "versions"),
    ...look("-q --quiet -v --verbose", "why", "why-not", "changelog"),
    help: { options: [], words: "any" },
    // Never as a simulation: with POSIXLY_CORRECT it takes an option after the verb for a package.
    ...all({ ...aptPlan("update"), simulate: [] }, ["update"]),
    ...all({ ...aptPlan("upgrade"), simulate: [] }, ["safe-upgrade"]),
    ...all({ ...APT_INSTALL, simulate: [] }, ["install"]),
    ...all({ ...aptPlan("remove"), simulate: [] }, ["remove"]),
    ...all({ ...aptPlan("purge"), simulate: [] }, ["purge"]),
    ...all({ ...aptPlan("full-upgrade"), simulate: [] }, ["full-upgrade", "dist-upgrade"]),
    ...all({ ...aptPlan("hold"), simulate: [] }, ["hold"]),
    ...all({ ...aptPlan("unhold"), simulate: [] }, ["unhold"]),
  },
  // Without -v: aptitude opens its full-screen interface if there is no verb.
  alone: words("--help -h --version"),
  bare: false,
};
