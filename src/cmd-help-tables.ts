import { join } from "node:path";
import type { Block } from "./cmd-help-text.ts";
import { EXIT, EXIT_OF } from "./errors.ts";
import { SYSUSERS_FILE, TMPFILES_FILE } from "./host-accounts.ts";
import { NEEDRESTART_FILE } from "./host-drop-ins.ts";
import { AUDIT_FILE, METRICS_FILE, SHARED, SYSTEM } from "./paths.ts";
import { FLOOR_SECONDS, PACE, readModelSettings } from "./review-settings.ts";
import { EXIT_ADVICE } from "./skill-text.ts";
import { DAEMON_VARIABLES, FEEDS_VARIABLES, KEPT_MIB, REVIEWER_VARIABLES } from "./sys-environment-file.ts";
import { UNIT_DIRECTORY } from "./sys-systemd.ts";

/*
 * The reference tables: exit statuses, files and environment variables, each under the name that the code has for it.
 */

/** Every exit status, with the error codes that end with it. */
export function exitText(): readonly Block[] {
  const names = Object.keys(EXIT) as (keyof typeof EXIT)[];
  return [
    { terms: names.map((name) => [`\`${EXIT[name]}\``, EXIT_ADVICE[name].means]) },
    "From `aegis plan`, 3 says that the plan is written and that policy can only deny it: no review, approval or snapshot lifts that. From `aegis policy`, 3, 4 and 5 are answers, not failures. 126 comes from a wrapper only. 130 says that you stopped waiting (Ctrl-C); what was submitted goes on.",
    'The error code stands in brackets before the message, and with `--json` in `error.code` of `{"error": {"code", "message", "hint"}}`:',
    {
      terms: names.flatMap((name): [string, string][] => {
        const codes = Object.entries(EXIT_OF).filter(([, status]) => status === EXIT[name]);
        return codes.length === 0 ? [] : [[`\`${EXIT[name]}\``, codes.map(([code]) => code).join(", ")]];
      }),
    },
  ];
}

const SYSTEM_FILES: Readonly<Record<keyof typeof SYSTEM, string>> = {
  binary: "the program; the wrappers are links to it",
  config: "configuration, and whom the executor trusts; root's alone",
  policy: "the policy that the executor decides by; `aegis help policy-file`",
  trustedKeys: "the keys that may sign and approve; `aegis help keys`",
  daemonEnv: "settings of the executor and its monitor",
  registries:
    'credentials that the executor sends to registries; root\'s, mode 0600. For each host `[[registry]]`, `host = "npm.example.com"` and either `authorization = "Bearer …"`, the whole value of the header, or `user` and `password`',
  sigstoreRoot:
    "the keys that vouch for provenance, in place of those in the program: `trusted_root.json` of Sigstore's TUF repository, or of an instance of your own. `aegis doctor` says which counts",
  reviewerEnv: "settings of the reviewer",
  feedsEnv: "where vulnerability data comes from; everybody can read it",
  reviewKey: "the key that signs reviews; systemd hands it to the reviewer",
  state:
    "first-seen: on which day each package file was first seen in a source, by the monitor; for everybody. results/<id>.json: an execution's outcome and what undoes it; `apply` believes these files only. runs/<id>/: apt's configuration, output and the hook's receipt of the newest 200 runs. spent/: the record of used plans and approvals. requests/: what waits for a person, with its documents, and how the last 1,000 requests ended; root's alone",
  run: "sockets; proof/: where the runner has clients prove who they are; requests.state: number, revision and state of each request; processes.json: what the last look at the processes saw, for root and aegis-admin",
  socket: "where clients connect: varlink, `io.aegis.Executor`; 0660 root:aegis-admin",
  runnerSocket: "where the front hands requests over to root",
  buildSocket: "where the runner has tools other than apt confined",
  unpackSocket: "where the runner has podman confined, which unpacks files of several users",
  fetchSocket: "where the runner has their files downloaded",
  reviewerSocket: "where the reviewer listens: varlink, `io.aegis.Reviewer`",
  auditDir: `the production log, ${AUDIT_FILE}; root's, readable by aegis-admin`,
  notices: "what is told of requests: one small file per change, the newest 500",
  feeds:
    "<feed>.index: vulnerability data, which every plan looks at where neither AEGIS_OSV_DIR nor AEGIS_OSV_URL is set; state.json: how the downloads went. Whoever removes an index has it downloaded whole",
  notifierState: "what the notifier has sent, and what it could not",
  kept: "package files that executions installed, so that a rollback finds them when the archive has dropped them; named by version and SHA-256. Names are for everybody, contents for members of aegis-admin. They may be removed at any time: then those versions can't come back",
  reviewerState: "the reviewer's own state",
  reviewerAudit: "the reviewer's own log",
  newestEvent: "the number of the log's newest event",
  installed: "when Aegis came onto this host; what was signed before does not run",
};

const SHARED_FILES: Readonly<Record<keyof typeof SHARED, string>> = {
  manual: "aegis(1)",
  bash: "completion for bash, where the package bash-completion is installed",
  zsh: "completion for zsh",
  fish: "completion for fish",
};

/** Where everything is. */
export function filesText(): readonly Block[] {
  const system = Object.keys(SYSTEM) as (keyof typeof SYSTEM)[];
  const shared = Object.keys(SHARED) as (keyof typeof SHARED)[];
  return [
    "A user's own:",
    {
      terms: [
        [
          "`~/.local/share/aegis/{plans,policy,reviews,approvals,executions}`",
          "documents: canonical JSON, mode 0600. `XDG_DATA_HOME` moves them",
        ],
        [
          `\`~/.local/share/aegis/audit/${AUDIT_FILE}\``,
          "the user's own log (planning, policy, signing). `AEGIS_AUDIT_LOG_DIR` moves it",
        ],
        ["`~/.config/aegis/policy.toml`", "a user's own policy; the executor does not read it"],
        ["`~/.cache/aegis`", "cache. `XDG_CACHE_HOME` moves it"],
      ],
    },
    "A production host's:",
    {
      terms: [
        ...system.map((name): [string, string] => [`\`${SYSTEM[name]}\``, SYSTEM_FILES[name]]),
        [
          `\`${METRICS_FILE}\``,
          "figures for Prometheus's node exporter, written by the monitor, for everybody to read. Where Debian's exporter looks: `ln -s " +
            `${METRICS_FILE} /var/lib/prometheus/node-exporter/\``,
        ],
      ],
    },
    "Written by `aegis daemon install`, and written anew each time:",
    {
      terms: [
        [`\`${join(UNIT_DIRECTORY, "aegis*")}\``, "units; `aegis help units`"],
        [`\`${SYSUSERS_FILE}\``, "accounts"],
        [`\`${TMPFILES_FILE}\``, "directories"],
        [`\`${NEEDRESTART_FILE}\``, "what needrestart leaves alone"],
        ...shared.map((name): [string, string] => [`\`${SHARED[name]}\``, SHARED_FILES[name]]),
      ],
    },
    "As root every directory on the way to these places must be root's alone. `sudo -E` and `HOME=/home/alice` are refused (exit status 6), because Alice could put another directory in the place of root's; use `sudo -H`.",
  ];
}

function variables(): Readonly<Record<string, string>> {
  const model = readModelSettings({});
  return {
    AEGIS_POLICY_CONFIG: "the policy file of a user's commands; must exist. The executor ignores it",
    AEGIS_AUDIT_LOG_DIR: "directory of the user's own log; absolute",
    AEGIS_AUDIT_ROTATE_MIB:
      "size of the log's current file, in MiB, at which it is renamed and a new one begins, whose first event continues the chain (256)",
    AEGIS_OSV_DIR:
      "directory with OSV vulnerability records, in place of the host's own data (`aegis daemon install --feeds`). CISA's known_exploited_vulnerabilities.json, FIRST's epss_scores-*.csv (or .csv.gz) and OpenVEX documents are read from it too (the latter also below vex). The executor reads it from aegisd.env, and so does `aegis plan` where the user sets neither this nor AEGIS_OSV_URL",
    AEGIS_OSV_URL:
      "an OSV API to ask for vulnerability records, in place of the host's own data. It knows nothing of CISA's catalog, scores of EPSS and VEX, so none of these count then",
    AEGIS_FEEDS_ECOSYSTEMS:
      "OSV's ecosystems whose records are downloaded, separated by spaces (the distribution's, and those whose tools are installed)",
    AEGIS_FEEDS_OSV:
      "where OSV's exports are, as <address>/<ecosystem>/all.zip (OSV's own storage). Like the next three an https address, also of a mirror, or `off`",
    AEGIS_FEEDS_VEX: "Ubuntu's OpenVEX, packed with xz or gzip (Canonical's; on Ubuntu only)",
    AEGIS_FEEDS_KEV: "CISA's catalog of exploited vulnerabilities (CISA's own)",
    AEGIS_FEEDS_EPSS: "FIRST's scores, plain or packed with gzip (FIRST's own)",
    AEGIS_FEEDS_PROXY: "the proxy for these downloads; none by default",
    AEGIS_GOPROXY: `in aegisd.env: the registry that the executor plans Go modules from, as GOPROXY. So does \`aegis plan\` where the user's environment names none. A plan from another registry is refused. Without credentials, since everybody can read aegisd.env: the executor has them in ${SYSTEM.registries} (\`aegis help files\`)`,
    AEGIS_GOSUMDB: "likewise the checksum database, as GOSUMDB",
    AEGIS_KEPT_MIB: `in aegisd.env: how much room the executor gives to package files that it keeps for rollbacks, in MiB (${KEPT_MIB}; at most a tenth of the file system; 0: it keeps none)`,
    AEGIS_NPM_REGISTRY: "likewise npm's registry, as `npm_config_registry`",
    AEGIS_PIP_INDEX_URL: "likewise pip's index, as `PIP_INDEX_URL`",
    AEGIS_CARGO_INDEX: "likewise cargo's index, in place of crates.io",
    AEGIS_NUGET_SOURCE: "likewise the service index of NuGet's source (`…/v3/index.json`)",
    AEGIS_VSCODE_GALLERY:
      "likewise the gallery of VS Code's extensions, as the `serviceUrl` of code-server's EXTENSIONS_GALLERY",
    AEGIS_SIGNING_SECRET_KEY_HEX: "secret that `aegis sign` signs with, where no `--key` is given",
    AEGIS_APPROVAL_SECRET_KEY_HEX:
      "secret that `aegis sign approve` approves with, where no `--key` is given",
    AEGIS_SIGNING_PUBLIC_KEY_HEX: "execution keys that `sign verify` and `apply` trust instead of the host's",
    AEGIS_APPROVAL_PUBLIC_KEY_HEX: "approval keys that `sign verify` and `apply` trust instead of the host's",
    AEGIS_LOG: "how much the services log: error, warn, info or debug; else `RUST_LOG` (info)",
    AEGIS_LOG_FORMAT: "json: each line of the services' log is one JSON object",
    AEGIS_AI_BASE_URL: `the model's OpenAI-compatible API (${model.baseUrl.href.replace(/\/$/, "")})`,
    AEGIS_AI_ALLOW_REMOTE: "1: the model may be on another machine. Plans say what a server runs (0)",
    AEGIS_AI_MODEL: `the model's name (${model.model})`,
    AEGIS_AI_API_KEY: "the key that the server wants, if any",
    AEGIS_AI_MAX_OUTPUT_TOKENS: `most tokens of a reply (${model.maxOutputTokens})`,
    AEGIS_AI_RESPONSE_FORMAT_JSON: `0: don't ask for JSON. A server that refuses the format is asked again without it (${model.jsonFormat ? 1 : 0})`,
    AEGIS_AI_REVIEW_TIMEOUT_SECS: `time limit of a review; else estimated from the prompt's size and the next three, ${FLOOR_SECONDS} at least`,
    AEGIS_AI_PREFILL_TOKENS_PER_SEC: `how fast the model reads (${PACE.prefill})`,
    AEGIS_AI_DECODE_TOKENS_PER_SEC: `how fast the model writes (${PACE.decode})`,
    AEGIS_AI_MODEL_STARTUP_ALLOWANCE_SECS: `how long loading the model may take (${PACE.startup})`,
    AEGIS_AI_MODELS_TIMEOUT_SECS: `time limit of \`GET /models\`, which \`aegis doctor\` asks (${model.modelsTimeoutMs / 1000})`,
    AEGIS_BOOT_ID: "set by the units for the services",
    AEGIS_WRAPPER_DEPTH: "set by the wrappers, so that they notice when they call themselves",
  };
}

/** Every environment variable that Aegis reads. */
export function environmentText(): readonly Block[] {
  const files = (name: string) =>
    [
      ...(DAEMON_VARIABLES.has(name) ? ["aegisd.env"] : []),
      ...(REVIEWER_VARIABLES.has(name) ? ["aegis-reviewd.env"] : []),
      ...(FEEDS_VARIABLES.has(name) ? ["feeds.env"] : []),
    ].join(", ");
  return [
    `Defaults stand in parentheses. The services don't read a user's environment: root sets their variables as NAME=value in ${SYSTEM.daemonEnv}, ${SYSTEM.reviewerEnv} and ${SYSTEM.feedsEnv}, which take no other names than those marked here.`,
    {
      terms: Object.entries(variables()).map(([name, means]) => [
        `\`${name}\``,
        files(name) === "" ? means : `${means}. In ${files(name)}`,
      ]),
    },
    "Also heeded: `NO_COLOR`, `TERM`, `PAGER`, `LESS`, `HOME`, `XDG_DATA_HOME`, `XDG_CONFIG_HOME`, `XDG_CACHE_HOME`.",
    "A compiled Bun program obeys `BUN_OPTIONS`, `BUN_BE_BUN` and `BUN_INSPECT*`. Commands that load a secret key refuse while one is set, and `aegis doctor` fails; never make the binary setuid, and never let sudo keep these variables.",
  ];
}
