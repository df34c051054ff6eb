/** A word that must be exactly this, or the pattern it must match. */
type Word = string | RegExp;

interface Shape {
  head: readonly Word[];
  /** What each further word must match, at least one; null where none may follow. */
  more: RegExp | null;
}

const NAME = "[A-Za-z0-9][A-Za-z0-9._+-]*";
const VERSION = "[0-9A-Za-z][0-9A-Za-z.+~:_-]*";
const IMAGE = /^[a-z0-9][A-Za-z0-9._:/@-]*$/;

/** A word that ends in `-` would ask apt to remove what it names, a version too. */
const APT_PINNED = new RegExp(`^[a-z0-9][a-z0-9.+-]*[a-z0-9.+](?::[a-z0-9-]+)?=${VERSION}(?<!-)$`);

const exactly = (...head: Word[]): Shape => ({ head, more: null });

/**
 * Every command the executor may ever run. It repeats what the ecosystems build, on purpose: a
 * fault in one of them can't widen what root runs.
 */
const ALLOWED: readonly Shape[] = [
  exactly("apt-get", "update"),
  exactly("apt-get", "upgrade", "-y", "-o", "Dpkg::Options::=--force-confold"),
  {
    head: ["apt-get", "install", "-y"],
    more: APT_PINNED,
  },
  {
    head: ["apt-get", "install", "-y", "--allow-downgrades"],
    more: APT_PINNED,
  },
  // A name that ends in `-` would be an operator. One that ends in `+` may be a package (g++).
  {
    head: ["apt-get", "remove", "-y"],
    more: /^[a-z0-9][a-z0-9.+-]*[a-z0-9.+](?::[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)?$/,
  },
  exactly("dpkg", "--configure", "-a"),
  {
    head: [
      ...["npm", "install", "--global", "--prefix", "/var/lib/aegis/npm-global"],
      ...["--ignore-scripts", "--no-audit", "--no-fund"],
    ],
    more: new RegExp(`^(?:@${NAME}/)?${NAME}@${VERSION}$`),
  },
  exactly(
    ...["python3", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"],
    ...["--target", "/var/lib/aegis/pip-packages"],
    new RegExp(`^${NAME}==[0-9A-Za-z][0-9A-Za-z.+!_-]*$`),
  ),
  exactly("docker", "pull", IMAGE),
  exactly(
    ...["podman", "--root", "/var/lib/aegis/podman/storage", "--runroot", "/run/aegis/podman"],
    ...["pull", IMAGE],
  ),
  exactly(
    ...["nuget", "install", new RegExp(`^${NAME}$`), "-Version", new RegExp(`^${VERSION}$`)],
    ...["-OutputDirectory", "/var/lib/aegis/nuget/packages", "-NonInteractive"],
  ),
  exactly(
    ...["code", "--install-extension", new RegExp(`^${NAME}@${VERSION}$`)],
    ...["--user-data-dir", "/var/lib/aegis/vscode/user-data"],
    ...["--extensions-dir", "/var/lib/aegis/vscode/extensions"],
  ),
  exactly("go", "install", new RegExp(`^[A-Za-z0-9][A-Za-z0-9._~/-]*@v${VERSION}$`)),
  exactly(
    ...["cargo", "install", "--locked", "--root", "/var/lib/aegis/cargo"],
    new RegExp(`^${NAME}@${VERSION}$`),
  ),
];

/** The fixed words that each of those commands begins with. */
export const ALLOWED_HEADS: readonly string[][] = ALLOWED.map(({ head }) =>
  head.filter((word) => typeof word === "string"),
);

/** Whether an argv has the shape of a command that may be run as signed. Nothing about it is interpreted by a shell. */
export function isAllowedArgv(argv: readonly string[]): boolean {
  return ALLOWED.some(({ head, more }) => {
    const rest = argv.slice(head.length);
    return (
      argv.length >= head.length &&
      head.every((word, i) => fits(word, argv[i] ?? "")) &&
      (more === null ? rest.length === 0 : rest.length > 0 && rest.every((word) => more.test(word)))
    );
  });
}

function fits(word: Word, given: string): boolean {
  return typeof word === "string" ? word === given : word.test(given);
}
