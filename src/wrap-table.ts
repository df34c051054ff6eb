import type { WrapperName } from "./eco-names.ts";
import { APT, APT_MARK, APTITUDE } from "./wrap-apt.ts";
import * as behind from "./wrap-look.ts";
import { all, look, NOTHING, type Program, refuse, under, type Verb, words } from "./wrap-verbs.ts";

/*
 * What the wrappers do with each package manager's calls. Anything not listed is refused, so a new verb or option of a
 * package manager is refused until somebody has reviewed it.
 */

const NPM_INSTALL: Verb = {
  plan: ["npm", "install"],
  simulate: [],
  drop: words(
    "-g --global --no-audit --no-fund --ignore-scripts -s --silent -q --quiet -y --yes --dry-run --json --location=global",
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
    ...all({ options: words(behind.NPM), words: behind.NPM_NAME }, words("view v info show")),
    ...look(behind.NPM, ...words("ls list ll la outdated search find se s root prefix ping explain why")),
    ...look(behind.NPM, ...words("query sbom"), ...under("config", "get list ls")),
    // With a name it opens a browser.
    ...all({ options: words(behind.NPM), words: NOTHING }, ["fund", "audit signatures"]),
    audit: { options: words(behind.NPM), words: /^(?!fix$)/ },
    help: { options: [], words: "any" },
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
  alone: words("--help -h --version -v"),
  bare: true,
};

const PIP: Program = {
  flags: words(
    "-q --quiet -v --verbose --isolated --no-input --disable-pip-version-check --no-cache-dir --no-color",
  ),
  valued: words("--proxy --cert --timeout --retries --trusted-host --cache-dir --exists-action"),
  verbs: {
    ...look(behind.PIP_LIST, "list"),
    ...look(behind.PIP_FREEZE, "freeze"),
    ...look(behind.PIP_LOCAL, "inspect"),
    ...look(`${behind.PIP} -f --files`, "show"),
    ...look(`${behind.PIP} --pre --json`, "index versions"),
    ...look(behind.PIP, "check", "debug", ...under("config", "list get debug")),
    ...look(behind.PIP, ...under("cache", "dir info list")),
    help: { options: [], words: "any" },
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
      ...look(
        behind.CONTAINER,
        ...words("ps images inspect logs version info stats port diff events history"),
      ),
      ...look(behind.CONTAINER, "search", ...under("image", "ls list inspect history"), "manifest inspect"),
      ...look(behind.CONTAINER, ...under("container", "ls ps list inspect logs stats port diff")),
      ...look(
        behind.CONTAINER,
        ...under("network", "ls list inspect"),
        ...under("volume", "ls list inspect"),
      ),
      ...look(
        behind.CONTAINER,
        ...under("system", "df info events"),
        ...under("context", "ls list show inspect"),
      ),
      help: { options: [], words: "verbs" },
      // podman's `top` may run ps in the container, and its `compose` runs another program.
      ...(tool === "podman"
        ? {}
        : look(
            behind.CONTAINER,
            ...words("top"),
            ...under("container", "top"),
            ...under("compose", "ps ls logs images top port version"),
          )),
      pull,
      "image pull": pull,
      ...refuse(
        `it may pull an image and run it; the pull can be planned: aegis plan ${tool} pull <image>`,
        "run create compose",
      ),
      ...refuse("it adds an image that nobody has reviewed", "load import build buildx commit"),
      ...refuse("it runs a program in a container", "exec"),
    },
    alone: words("--help -h --version -v"),
    bare: true,
  };
}

const GO_DOWNLOADS = "it may download modules";

const GO: Program = {
  flags: [],
  valued: [],
  verbs: {
    ...look("-m --m -v --v", "version"),
    env: { options: words("-json --json -changed --changed"), words: /^[A-Za-z0-9_]+$/ },
    help: { options: [], words: "any" },
    get: { plan: ["go", "get"], simulate: [], drop: words("-v -x") },
    install: { plan: ["go", "install"], simulate: [], drop: words("-v -x") },
    ...refuse(GO_DOWNLOADS, "build vet list mod work fix tool doc"),
    ...refuse("it may download modules and run their code", "run test generate"),
  },
  alone: words("-h --help"),
  bare: true,
  // If the directory's go.mod requires a newer Go, every call downloads and runs it (https://go.dev/doc/toolchain).
  environment: { GOTOOLCHAIN: "local" },
};

const CARGO: Program = {
  flags: words("-q --quiet -v --verbose --offline --locked --frozen"),
  valued: words("--color"),
  verbs: {
    // Without `info`: before cargo 1.82 it runs an alias or a program cargo-info.
    ...look("-q --quiet -v --verbose --color --limit", "version", "search"),
    ...look(
      "-q --quiet -v --verbose --color --workspace --message-format",
      "locate-project",
      "read-manifest",
    ),
    // For an unknown word it runs the program cargo-<word>.
    help: { options: [], words: "verbs" },
    install: {
      plan: ["cargo", "install"],
      simulate: [],
      drop: words("-q --quiet -v --verbose --locked"),
      version: words("--version --vers"),
    },
    ...refuse(
      "it downloads crates and runs their build scripts",
      "build b check c test t run r bench doc d rustc",
    ),
    ...refuse("it downloads crates and runs their build scripts", "clippy fix package publish"),
    ...refuse("it may download crates", "fetch update add tree metadata vendor generate-lockfile"),
    ...refuse("it changes what is installed", "uninstall"),
  },
  alone: words("--help -h --version -V --list"),
  bare: true,
  // Otherwise a rust-toolchain.toml in the directory makes rustup download a toolchain (rustup 1.28).
  environment: { RUSTUP_AUTO_INSTALL: "0" },
};

const NUGET: Program = {
  flags: [],
  valued: [],
  verbs: {
    // nuget's options may also begin with a slash.
    ...all({ options: words(behind.NUGET), words: /^[^/]/ }, [
      ...words("list search"),
      "sources list",
      "source list",
    ]),
    ...all({ options: [], words: "verbs" }, words("help ?")),
    install: {
      plan: ["nuget", "install"],
      simulate: [],
      drop: words("-NonInteractive"),
      version: words("-Version -version"),
    },
    ...refuse("it changes what is installed", "restore update add init delete push"),
  },
  alone: words("--help -help -h"),
  bare: true,
};

const CODE: Program = {
  flags: words(
    "- -n --new-window -r --reuse-window -w --wait -d --diff -a --add -g --goto --verbose -s --status",
  ),
  valued: words("--locale --log"),
  verbs: {
    "--list-extensions": { options: ["--show-versions"], words: NOTHING },
    "--install-extension": { plan: ["vscode", "install"], simulate: [], drop: words("--force") },
    ...refuse("it changes what is installed", "--uninstall-extension --update-extensions --install-source"),
    ...refuse("it gives others access to this host", "tunnel serve-web chat agent ext"),
  },
  alone: words("--help -h --version -v"),
  bare: true,
  files: true,
};

/** Its options for extensions are code's; those with which it serves the editor are left to its own service. */
const CODE_SERVER: Program = {
  flags: words("--verbose"),
  valued: [],
  verbs: Object.fromEntries(Object.entries(CODE.verbs).filter(([verb]) => verb.startsWith("--"))),
  alone: words("--help -h --version -v"),
  bare: true,
};

export const PROGRAMS: Readonly<Record<WrapperName, Program>> = {
  apt: APT,
  "apt-get": APT,
  "apt-mark": APT_MARK,
  aptitude: APTITUDE,
  npm: NPM,
  pip: PIP,
  pip3: PIP,
  docker: container("docker"),
  podman: container("podman"),
  nuget: NUGET,
  code: CODE,
  "code-server": CODE_SERVER,
  go: GO,
  cargo: CARGO,
};
