/*
 * Which wheels this host's Python takes, the best first: platform compatibility tags (PEP 425, 600) for CPython on glibc, in the
 * order of the library that pip uses (packaging.tags).
 */

export interface PythonHost {
  /** `3.11.2` */
  pythonVersion: string;
  /** `cpython` */
  implementation: string;
  /** Of dpkg: `amd64`. */
  architecture: string;
  /** `2.36`, or null where it isn't known: then only wheels for any platform are taken. */
  glibc: string | null;
}

/** A wheel's file name, taken apart. https://packaging.python.org/en/latest/specifications/binary-distribution-format/ */
export interface WheelName {
  name: string;
  version: string;
  /** `0` and `""` without a build tag. */
  build: readonly [number, string];
  /** Every combination of its tags, `py3-none-any`. */
  tags: string[];
}

/** dpkg's architectures as wheels call them. */
const MACHINES: Readonly<Record<string, string>> = {
  amd64: "x86_64",
  arm64: "aarch64",
  armhf: "armv7l",
  i386: "i686",
  ppc64el: "ppc64le",
  riscv64: "riscv64",
  s390x: "s390x",
  loong64: "loongarch64",
};
/** Names from before PEP 600, by glibc's minor version. */
const OLD_NAMES: Readonly<Record<number, string>> = {
  17: "manylinux2014",
  12: "manylinux2010",
  5: "manylinux1",
};

/** Every tag that the Python takes → its place, 0 the best. */
export function supportedTags({
  pythonVersion,
  implementation,
  architecture,
  glibc,
}: PythonHost): ReadonlyMap<string, number> {
  const [major = 3, minor = 0] = pythonVersion.split(".").map(Number);
  const platforms = platformTags(architecture, glibc);
  const interpreter = `cp${major}${minor}`;
  const tags: string[] = [];
  if (implementation === "cpython") {
    for (const abi of [interpreter, "abi3", "none"])
      tags.push(...platforms.map((platform) => `${interpreter}-${abi}-${platform}`));
    for (let older = minor - 1; older > 1; older--)
      tags.push(...platforms.map((platform) => `cp${major}${older}-abi3-${platform}`));
  }
  const generic = [`py${major}${minor}`, `py${major}`];
  for (let older = minor - 1; older >= 0; older--) generic.push(`py${major}${older}`);
  for (const version of generic) tags.push(...platforms.map((platform) => `${version}-none-${platform}`));
  if (implementation === "cpython") tags.push(`${interpreter}-none-any`);
  tags.push(...generic.map((version) => `${version}-none-any`));
  return new Map([...new Set(tags)].map((tag, i) => [tag, i]));
}

function platformTags(architecture: string, glibc: string | null): string[] {
  const machine = MACHINES[architecture];
  if (machine === undefined) return [];
  const [major, newest = 0] = (glibc ?? "").split(".").map(Number);
  const oldest = machine === "x86_64" || machine === "i686" ? 5 : 17;
  const tags: string[] = [];
  for (let minor = major === 2 ? newest : 0; minor >= oldest; minor--) {
    tags.push(`manylinux_2_${minor}_${machine}`);
    const old = OLD_NAMES[minor];
    if (old !== undefined) tags.push(`${old}_${machine}`);
  }
  return [...tags, `linux_${machine}`];
}

const WHEEL =
  /^([A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?)-([A-Za-z0-9._!+]+)(?:-(\d+)([A-Za-z0-9._]*))?-([A-Za-z0-9._]+)-([A-Za-z0-9._]+)-([A-Za-z0-9._]+)\.whl$/;

/** A wheel's file name taken apart; null for any other file. */
export function parseWheelName(filename: string): WheelName | null {
  const match = filename.length > 512 ? null : WHEEL.exec(filename);
  if (match === null) return null;
  const [, name = "", version = "", number = "0", letters = "", pythons = "", abis = "", platforms = ""] =
    match;
  const tags = pythons
    .split(".")
    .flatMap((python) =>
      abis
        .split(".")
        .flatMap((abi) => platforms.split(".").map((platform) => `${python}-${abi}-${platform}`)),
    );
  return {
    name,
    version: version.replaceAll("_", "-"),
    build: [Number(number), letters],
    tags: tags.map((tag) => tag.toLowerCase()),
  };
}

/** How good a wheel is for a Python, 0 the best; null if it doesn't take it. */
export function tagRank(
  { tags }: Pick<WheelName, "tags">,
  supported: ReadonlyMap<string, number>,
): number | null {
  const ranks = tags.flatMap((tag) => supported.get(tag) ?? []);
  return ranks.length === 0 ? null : Math.min(...ranks);
}

/** glibc's version by dpkg's status file: `2.36`; null where it isn't told. */
export function glibcVersion(dpkgStatus: string, architecture: string): string | null {
  for (const { index } of dpkgStatus.matchAll(/^Package: libc6(?:\.1)?$/gm)) {
    const end = dpkgStatus.indexOf("\n\n", index);
    const stanza = dpkgStatus.slice(index, end < 0 ? undefined : end);
    const isOwn = /^Architecture: (.*)$/m.exec(stanza)?.[1] === architecture;
    if (isOwn && /^Status: \S+ ok installed$/m.test(stanza))
      return /^Version: (?:\d+:)?(\d+\.\d+)/m.exec(stanza)?.[1] ?? null;
  }
  return null;
}
