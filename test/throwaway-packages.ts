/*
 * The packages of the throw-away host's repositories: small, real .deb packages, each for one situation that Aegis has to
 * handle.
 */

export interface PackageDefinition {
  name: string;
  version: string;
  /** dpkg's name; default `all`. */
  architecture?: string;
  /** Further control fields. */
  fields?: Readonly<Record<string, string>>;
  /** Fields that stand only in the repository's index, as an archive adds them. */
  indexFields?: Readonly<Record<string, string>>;
  /** The whole index record instead of the generated one; `@FILENAME@`, `@SIZE@` and `@SHA256@` stand for the real ones. */
  record?: string;
  /** Absolute path → content. Files below /usr/bin and /usr/sbin are executable. */
  files?: Readonly<Record<string, string | Uint8Array>>;
  /** Modes of files, where not the default. */
  modes?: Readonly<Record<string, number>>;
  /** preinst, postinst, config, templates, conffiles, … */
  control?: Readonly<Record<string, string>>;
  /** A .deb on this machine that is published unchanged; `record` describes it. */
  deb?: string;
}

/** dpkg's name of the machine's own architecture. */
export const NATIVE = process.arch === "x64" ? "amd64" : process.arch;
/** An architecture that is not the machine's own: dpkg accepts it after `dpkg --add-architecture`. */
export const FOREIGN = NATIVE === "amd64" ? "i386" : "amd64";

function hello(version: string): PackageDefinition {
  return {
    name: "hello-aegis",
    version,
    files: { "/usr/bin/hello-aegis": `#!/bin/sh\necho "hello-aegis ${version}"\n` },
  };
}

function multi(version: string, architecture: string): PackageDefinition {
  const files = { [`/usr/lib/aegis-${architecture}/libmulti.so`]: `not really a library: ${architecture}\n` };
  return { name: "libmulti", version, architecture, fields: { "Multi-Arch": "same" }, files };
}

function conffileOwner(version: string): PackageDefinition {
  return {
    name: "conffile-owner",
    version,
    files: { "/etc/conffile-owner.conf": `# as shipped with ${version}\n` },
    control: { conffiles: "/etc/conffile-owner.conf\n" },
  };
}

/*
 * Runs as root, like any maintainer script: stops apt, waits until dpkg has ended and let go of its lock, removes a
 * package that is not part of the transaction, and lets apt go on. So the removal always lies between apt's dpkg run and
 * apt's own end. Output is discarded, since apt would wait for the terminal to be closed; the SIGHUP when dpkg ends and
 * the terminal closes is ignored.
 */
const BEHIND_OUR_BACK = `#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
parent() { sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status"; }
state() { sed -n 's/^State:[[:space:]]*\\(.\\).*/\\1/p' "/proc/$1/status" 2>/dev/null || true; }
dpkg=$(parent $$)
apt=$(parent "$dpkg")
case $(cat "/proc/$apt/comm") in apt|apt-get) ;; *) exit 0 ;; esac
(
  trap '' HUP
  kill -STOP "$apt"
  while s=$(state "$dpkg"); [ -n "$s" ] && [ "$s" != Z ]; do sleep 0.05; done
  DPKG_FRONTEND_LOCKED=1 dpkg --remove bystander || true
  kill -CONT "$apt"
) </dev/null >/dev/null 2>&1 &
`;

const DEBCONF_CONFIG = `#!/bin/sh
set -e
. /usr/share/debconf/confmodule
db_input high debconf-asker/answer || true
db_go || true
`;
const DEBCONF_POSTINST = `#!/bin/sh
set -e
. /usr/share/debconf/confmodule
db_get debconf-asker/answer
echo "$RET" > /etc/debconf-asker.answer
db_stop
`;
const DEBCONF_TEMPLATES = `Template: debconf-asker/answer
Type: string
Default: unasked
Description: What shall the answer be?
 A question that would wait for ever where somebody asked it.
`;

/** Every package, by the key that `pick` takes. */
const PACKAGES = {
  /** An ordinary package: installs, upgrades, downgrades. */
  "hello-aegis=1.0": hello("1.0"),
  "hello-aegis=1.1": hello("1.1"),
  "hello-aegis=1.2": hello("1.2"),
  /** Installing it removes hello-aegis. */
  "conflictor=1.0": {
    name: "conflictor",
    version: "1.0",
    fields: { Conflicts: "hello-aegis", Replaces: "hello-aegis" },
  },
  /** Kept back: the new version depends on a package that no source has. */
  "held=1.0": { name: "held", version: "1.0" },
  "held=2.0": { name: "held", version: "2.0", fields: { Depends: "nobody-offers-this" } },
  /** Phased at 0 percent. */
  "phased=1.0": { name: "phased", version: "1.0" },
  "phased=2.0": { name: "phased", version: "2.0", indexFields: { "Phased-Update-Percentage": "0" } },
  /** Kernel by its name. */
  "linux-image-9.9.9-aegis=1.0": {
    name: "linux-image-9.9.9-aegis",
    version: "1.0",
    fields: { Section: "kernel" },
  },
  "linux-image-9.9.9-aegis=1.1": {
    name: "linux-image-9.9.9-aegis",
    version: "1.1",
    fields: { Section: "kernel" },
  },
  /** Security-sensitive by its name (`openssh-*`), without touching the machine's real ssh or sudo. */
  "openssh-aegis=1.0": { name: "openssh-aegis", version: "1.0" },
  "openssh-aegis=1.1": { name: "openssh-aegis", version: "1.1" },
  /** Essential, and what conflicts with it: apt 2.6 and later refuse to plan that removal unless it is asked for by name. */
  "aegis-essential=1.0": { name: "aegis-essential", version: "1.0", fields: { Essential: "yes" } },
  "essential-remover=1.0": {
    name: "essential-remover",
    version: "1.0",
    fields: { Conflicts: "aegis-essential" },
  },
  /** Co-installable for two architectures. */
  "libmulti=1.0": multi("1.0", NATIVE),
  "libmulti:foreign=1.0": multi("1.0", FOREIGN),
  "libmulti=1.1": multi("1.1", NATIVE),
  "libmulti:foreign=1.1": multi("1.1", FOREIGN),
  /** Installation fails at the last step. */
  "postinst-fails=1.0": {
    name: "postinst-fails",
    version: "1.0",
    control: { postinst: "#!/bin/sh\necho 'this package always fails' >&2\nexit 1\n" },
  },
  /** Installation takes as many seconds as /etc/sleeper-seconds says, else 5. */
  "sleeper=1.0": {
    name: "sleeper",
    version: "1.0",
    control: { postinst: '#!/bin/sh\nsleep "$(cat /etc/sleeper-seconds 2>/dev/null || echo 5)"\n' },
  },
  /** Asks a debconf question of high priority; writes the answer to /etc/debconf-asker.answer. */
  "debconf-asker=1.0": {
    name: "debconf-asker",
    version: "1.0",
    fields: { Depends: "debconf" },
    control: { config: DEBCONF_CONFIG, postinst: DEBCONF_POSTINST, templates: DEBCONF_TEMPLATES },
  },
  /** Owns /etc/conffile-owner.conf, which differs between the versions. */
  "conffile-owner=1.0": conffileOwner("1.0"),
  "conffile-owner=1.1": conffileOwner("1.1"),
  /** A dependency pair; the new app needs one more library, so that its upgrade installs a package. */
  "app=1.0": { name: "app", version: "1.0", fields: { Depends: "libapp" } },
  "app=2.0": { name: "app", version: "2.0", fields: { Depends: "libapp, libapp-extra" } },
  "libapp=1.0": { name: "libapp", version: "1.0" },
  "libapp-extra=1.0": { name: "libapp-extra", version: "1.0" },
  /** Removes `bystander` after dpkg has ended and before apt does. */
  "behind-our-back=1.0": {
    name: "behind-our-back",
    version: "1.0",
    control: { postinst: BEHIND_OUR_BACK },
  },
  "bystander=1.0": { name: "bystander", version: "1.0" },
} as const satisfies Record<string, PackageDefinition>;

export type PackageKey = keyof typeof PACKAGES;

/** The named packages, for `Repository.publish`. */
export function pick(...keys: readonly PackageKey[]): PackageDefinition[] {
  return keys.map((key) => PACKAGES[key]);
}

/** All packages. */
export function everyPackage(): PackageDefinition[] {
  return Object.values(PACKAGES);
}

/** The same name and version with different content, for a second source. */
export function evilTwin(key: PackageKey): PackageDefinition {
  const original: PackageDefinition = PACKAGES[key];
  return {
    ...original,
    files: { ...original.files, [`/usr/share/doc/${original.name}/evil`]: "not what was approved\n" },
  };
}
