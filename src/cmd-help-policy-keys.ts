import type { PolicyConfig } from "./policy-config.ts";

/*
 * What each key of the policy file is for. The types hold it to the schema in policy-config.ts: a key that is added there and
 * not here does not compile.
 */

type Tables = keyof PolicyConfig;
type Artifacts = PolicyConfig["npm"];

const ARTIFACTS: Readonly<Record<keyof Artifacts, string>> = {
  apply: "decision about artifacts that are pinned and verified",
  minimum_age_days: "deny versions published more recently than this",
  allowed_registries: "hosts, or host:port, that artifacts may come from",
  require_provenance: "deny artifacts without an attested build",
};

const FIRST_ARTIFACTS = "npm" satisfies Tables;

const MEANS: { readonly [T in Tables]: Readonly<Record<keyof PolicyConfig[T], string>> } = {
  apt: {
    allow_removals: "true: a removal that nobody asked for needs a person instead of being denied",
    allow_downgrades: "true: a downgrade that undoes no execution needs a person instead of being denied",
    install: "decision about `apt install`",
    upgrade: "decision about `apt upgrade`",
    update: "decision about `apt update`",
    snapshot_services:
      'hosts, or host:port, of services that keep old states of the distribution\'s archive: `["snapshot.debian.org", "snapshot.ubuntu.com"]`. A source whose https address names a moment there (`…/20260101T000000Z/`), signed by the distribution, then counts as of that moment, though its Valid-Until has passed. Plans say as of when; vulnerabilities count by version as ever',
    minimum_age_days:
      "deny versions that have not been known for this many days, but for security updates of the distribution and what a rollback brings back; the day is the one on which the monitor first saw the file in a source (/var/lib/aegis/first-seen, counted from its end), or, for the distribution's own archive, the date of its index where that is earlier; what nothing tells counts as new",
    trusted_origins:
      'sources trusted besides the distribution\'s own: `[{ uri = "https://…", fingerprint = "<40 or 64 hex>" }]`',
    sensitive_packages: "more names of security-sensitive packages; a name may end in `*`",
  },
  npm: ARTIFACTS,
  pip: ARTIFACTS,
  container: {
    ...ARTIFACTS,
    require_signature: "true: deny images that none of `signers` has signed",
    allow_root_user: "false: deny images whose process starts as root unless told otherwise",
    signers:
      'who may sign which images: `[{ images = ["ghcr.io/org/*"], public_key = "-----BEGIN PUBLIC KEY-----…" }]` (ECDSA P-256 or Ed25519), or in place of the key `issuer = "https://token.actions.githubusercontent.com"`, `subject` (the certificate\'s, may end in `*`) and, where others sign as the same subject, `source_repository`',
  },
  nuget: {
    ...ARTIFACTS,
    require_provenance:
      "true: deny packages without a verified signature of their source, or of one of `authors`; NuGet has no build attestations",
    authors:
      "whose own signatures count: SHA-256 fingerprints of their certificates, as `openssl x509 -fingerprint -sha256` prints them",
  },
  vscode: {
    ...ARTIFACTS,
    require_provenance:
      "true: deny extensions without a verified signature of their gallery; there are no build attestations",
    signing_keys:
      "whose signatures count for that, in hex as a plan's evidence names them; left out, the key that the gallery gives",
    certificates:
      "whose signatures count besides, in Microsoft's format: SHA-256 fingerprints of the signers' certificates, as a plan's warnings name them; make sure by another way whose they are, since nothing on this host vouches for them",
  },
  go: ARTIFACTS,
  cargo: {
    ...ARTIFACTS,
    allow_build_scripts:
      "true: build scripts and procedural macros, which run while crates are built, need a person instead of being denied",
  },
  services: {
    restart: "decision about `services restart`: allow, require_human or deny",
    sensitive_units:
      "more units whose restart needs a person, whatever `restart` says; a name may end in `*`",
    permitted_units:
      "units whose restart is denied otherwise (D-Bus, logins, graphical sessions, a user's own services), and which a person may have restarted; a name may end in `*`",
  },
  freshness: {
    plan_minutes: "how long after planning a plan can be decided about, approved and signed; at most 1440",
    execution_minutes: "how long a signed plan may be submitted; at most 1440",
  },
  approvals: {
    required: "how many people must approve where one is needed, 1 to 16",
    same_user:
      "true: a request may be approved from the account that made it, for a host of one person; the log says so each time",
  },
  requests: { hours: "how long a request waits for a person before it expires, 1 to 168" },
  vulnerability: {
    deny: "the least severity of a known vulnerability in the new version that is denied: low, medium, high or critical. One in CISA's catalog of exploited vulnerabilities counts as critical",
    remaining:
      "require_human: one that the installed version has too, so that the change makes nothing worse, needs a person instead of being denied",
  },
  review: {
    required: "true: without a review signed by one of `public_keys` a person is needed",
    public_keys: "the reviewers' keys in hex; never a key that signs or approves",
  },
  snapshot: {
    accept_declared: "true: a snapshot that nothing looks up counts without an approver who accepts its id",
  },
  notify: {
    webhook: "address that each change of a request is posted to, as JSON with a `text`",
    webhook_file: "file that holds that address where it is a secret; root:aegis-notify, 0640",
    mail: "address that the same is mailed to, by the host's sendmail",
  },
};

export interface PolicyTable {
  table: string;
  /** An earlier table has the same keys, and says what they are for. */
  known: boolean;
  keys: { key: string; value: string; means: string }[];
}

/** Every table of a configuration with its keys, their values as TOML and what they are for. */
export function settingsOf(config: PolicyConfig): PolicyTable[] {
  return Object.entries(config).map(([table, values]) => {
    const means: Readonly<Record<string, string>> = MEANS[table as Tables];
    const keys = Object.entries(values).map(([key, value]) => ({
      key,
      value: JSON.stringify(value).replaceAll(`","`, `", "`),
      means: means[key] ?? "",
    }));
    return { table, known: means === ARTIFACTS && table !== FIRST_ARTIFACTS, keys };
  });
}
