import { type ArgvForm, matchesForm, oneOrMore } from "./eco-argv-form.ts";

const NAME = "[A-Za-z0-9][A-Za-z0-9._+-]*";
const VERSION = "[0-9A-Za-z][0-9A-Za-z.+~:_-]*";
const IMAGE = /^[a-z0-9][A-Za-z0-9._:/@-]*$/;

/** apt reads a word that ends in `-` as a removal, even when the hyphen belongs to a version. */
const APT_PINNED = new RegExp(`^[a-z0-9][a-z0-9.+-]*[a-z0-9.+](?::[a-z0-9-]+)?=${VERSION}(?<!-)$`);
/** A name must not end in `-`, which apt reads as an operator. It may end in `+` (g++). */
const APT_NAME = /^[a-z0-9][a-z0-9.+-]*[a-z0-9.+](?::[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)?$/;

/**
 * A service or socket by its full name (systemd.unit(5)): no pattern, path, escape or template, each of which systemctl would take, and
 * none in which this very run is made.
 */
const UNIT =
  /^(?!aegis-(?:runner|recover|build|unpack|fetch)[@.])(?=.{1,255}$)[A-Za-z0-9_:][A-Za-z0-9:_.-]*(?:@[A-Za-z0-9:_.@-]+)?\.(?:service|socket)$/;
/** The name of a file below /etc/apt/sources.list.d, without its ending. */
const REPOSITORY = /^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** A UUID in lower case. */
const EXECUTION = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What both of VS Code's command lines take. */
const EXTENSION: ArgvForm = [
  ...["--install-extension", new RegExp(`^${NAME}@${VERSION}$`)],
  ...["--user-data-dir", "/var/lib/aegis/vscode/user-data"],
  ...["--extensions-dir", "/var/lib/aegis/vscode/extensions"],
];

/**
 * Every command that the executor may run. Repeats what the ecosystems build on purpose: a bug in one of them can't widen
 * what runs as root.
 */
const ALLOWED: readonly ArgvForm[] = [
  ["apt-get", "update"],
  ["apt-get", "upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
  ["apt-get", "install", "-y", oneOrMore(APT_PINNED)],
  ["apt-get", "install", "-y", "--only-upgrade", oneOrMore(APT_PINNED)],
  ["apt-get", "install", "-y", "--allow-downgrades", oneOrMore(APT_PINNED)],
  ["apt-get", "full-upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"],
  ["apt-get", "autoremove", "-y"],
  ["apt-get", "remove", "-y", oneOrMore(APT_NAME)],
  ["apt-get", "purge", "-y", oneOrMore(APT_NAME)],
  ["apt-mark", "hold", oneOrMore(APT_NAME)],
  ["apt-mark", "unhold", oneOrMore(APT_NAME)],
  ["dpkg", "--configure", "-a"],
  ["systemctl", "restart", oneOrMore(UNIT)],
  // Done by Aegis itself: no package manager has a command for it.
  ["aegis", "repository", "add", REPOSITORY, DIGEST],
  ["aegis", "repository", "replace", REPOSITORY, DIGEST, DIGEST],
  ["aegis", "repository", "remove", REPOSITORY, DIGEST],
  [
    ...["npm", "install", "--global", "--prefix", "/var/lib/aegis/npm-global"],
    ...["--ignore-scripts", "--no-audit", "--no-fund"],
    oneOrMore(new RegExp(`^(?:@${NAME}/)?${NAME}@${VERSION}$`)),
  ],
  [
    ...["python3", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"],
    ...["--target", "/var/lib/aegis/pip-packages"],
    oneOrMore(new RegExp(`^${NAME}==[0-9A-Za-z][0-9A-Za-z.+_-]*$`)),
  ],
  ["docker", "pull", IMAGE],
  [
    ...["podman", "--root", "/var/lib/aegis/podman/storage", "--runroot", "/run/aegis/podman"],
    ...["pull", IMAGE],
  ],
  [
    ...["nuget", "install", new RegExp(`^${NAME}$`), "-Version", new RegExp(`^${VERSION}$`)],
    ...["-OutputDirectory", "/var/lib/aegis/nuget/packages", "-NonInteractive"],
  ],
  ["code", ...EXTENSION],
  ["code-server", ...EXTENSION],
  ["go", "install", new RegExp(`^[A-Za-z0-9][A-Za-z0-9._~/-]*@v${VERSION}$`)],
  [...["cargo", "install", "--locked", "--root", "/var/lib/aegis/cargo"], new RegExp(`^${NAME}@${VERSION}$`)],
  // Done by the supervisor of managed runs itself.
  ["aegis", "rollback", "npm", "/var/lib/aegis/npm-global", EXECUTION],
  ["aegis", "rollback", "pip", "/var/lib/aegis/pip-packages", EXECUTION],
  ["aegis", "rollback", "go", "/var/lib/aegis/go", EXECUTION],
  ["aegis", "rollback", "cargo", "/var/lib/aegis/cargo", EXECUTION],
  ["aegis", "rollback", "nuget", "/var/lib/aegis/nuget", EXECUTION],
  ["aegis", "rollback", "container", "/var/lib/aegis/podman", EXECUTION],
  ["aegis", "rollback", "vscode", "/var/lib/aegis/vscode", EXECUTION],
];

/** The fixed words of each of those commands that is a package manager's. */
export const ALLOWED_HEADS: readonly string[][] = ALLOWED.filter(([program]) => program !== "aegis").map(
  (form) => form.filter((part) => typeof part === "string"),
);

/** Whether a signed argv may run. No shell ever parses it. */
export function isAllowedArgv(argv: readonly string[]): boolean {
  return ALLOWED.some((form) => matchesForm(form, argv));
}
