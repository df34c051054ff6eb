import { type ArgvForm, matchesForm, oneOrMore } from "./eco-argv-form.ts";
import { AegisError } from "./errors.ts";

/*
 * Every argv that planning may spawn. None changes the host; planning runs nothing else.
 */

/** `name`, `name:arch`, `name=version`, `name:arch=version`; deb-control(5), deb-version(7). A trailing `-` would mean removal. */
const DEB = /^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9][a-z0-9-]*)?(?:=[0-9A-Za-z][0-9A-Za-z.+~:-]*)?$/;
/** The same without a version, for removals, which take whatever version is installed. */
const DEB_NAME = /^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)?$/;
const NPM = /^(?:@[a-z0-9][a-z0-9._-]*\/)?[a-z0-9][a-z0-9._-]*(?:@[\^~]?[0-9A-Za-z][0-9A-Za-z.+-]*)?$/;
const PYPI = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/;
const IMAGE =
  /^[a-z0-9][a-z0-9._:/-]*(?:@sha256:[0-9a-f]{64})?$|^[a-z0-9][a-z0-9._/-]*:[A-Za-z0-9_][A-Za-z0-9_.-]*$/;
const NUGET = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/;
const MODULE = /^[A-Za-z0-9][A-Za-z0-9._~/-]*(?:@[A-Za-z0-9][A-Za-z0-9._+-]*)?$/;
const CRATE = /^[A-Za-z][A-Za-z0-9_-]*$/;
/** An absolute path without `.`, `..` or empty components. */
const FILE = /^(?:\/(?!\.{0,2}(?:\/|$))[^/\p{C}]+)+$/u;
/** Any unit by its full name (systemd.unit(5)), after `--`: no pattern, which systemctl would expand, and no path. */
const UNIT = /^[A-Za-z0-9:_.\\@-]+\.[a-z]+$/;
/** Without nuget, which has no option for its version. */
const TOOL = /^(?:apt-get|dpkg|gpgv|sqv|npm|node|python3|docker|podman|dotnet|code|code-server|go|cargo)$/;

export const PLANNING_FORMS: readonly ArgvForm[] = [
  ["apt-get", "-s", "upgrade"],
  ["apt-get", "-s", "install", oneOrMore(DEB)],
  ["apt-get", "-s", "install", /^--(?:allow-downgrades|only-upgrade)$/, oneOrMore(DEB)],
  ["apt-get", "-s", "full-upgrade"],
  ["apt-get", "-s", "autoremove"],
  ["apt-get", "-s", /^(?:remove|purge)$/, oneOrMore(DEB_NAME)],
  ["apt-cache", /^(?:policy|show)$/, oneOrMore(DEB)],
  ["apt-config", "dump"],
  ["dpkg", "--audit"],
  ["gpgv", "--status-fd", "1", { pairs: ["--keyring", FILE] }, { many: FILE, max: 2 }],
  ["sqv", { pairs: ["--keyring", FILE] }, FILE, FILE],
  ["npm", "view", NPM, "--json"],
  ["python3", "-m", "pip", "index", "versions", PYPI],
  ["python3", "-m", "pip", "inspect"],
  [/^(?:docker|podman)$/, "manifest", "inspect", IMAGE],
  ["dotnet", "nuget", "search", NUGET],
  ["code", "--list-extensions", "--show-versions"],
  ["go", "env", "GOSUMDB", "GOPROXY", "GOPRIVATE", "GONOSUMDB", "GOVERSION"],
  ["go", "list", "-m", "-json", MODULE],
  ["go", "list", "-m", "-json", "all"],
  ["cargo", "search", CRATE, "--limit", "5"],
  ["systemctl", "show", "--timestamp=utc", /^--property=[A-Za-z]+(?:,[A-Za-z]+)*$/, "--", oneOrMore(UNIT)],
  [TOOL, "--version"],
];

/**
 * @throws AegisError `internal` for an argv that is not on the list, since requesting it is a bug in this program
 */
export function assertPlanningArgv(argv: readonly string[]): void {
  if (!PLANNING_FORMS.some((form) => matchesForm(form, argv))) {
    throw new AegisError("internal", `planning may not run ${JSON.stringify(argv)}`);
  }
}
