import { normalize } from "node:path";

/** Where apt keeps what planning reads. Absolute paths. */
export interface AptDirs {
  sourceList: string;
  sourceParts: string;
  lists: string;
  trusted: string;
  trustedParts: string;
  status: string;
}

/** apt's own defaults (apt.conf(5), "DIRECTORIES"). */
export const DEFAULT_APT_DIRS: AptDirs = {
  sourceList: "/etc/apt/sources.list",
  sourceParts: "/etc/apt/sources.list.d",
  lists: "/var/lib/apt/lists",
  trusted: "/etc/apt/trusted.gpg",
  trustedParts: "/etc/apt/trusted.gpg.d",
  status: "/var/lib/dpkg/status",
};

const KEYS: Readonly<Record<keyof AptDirs, string>> = {
  sourceList: "Dir::Etc::sourcelist",
  sourceParts: "Dir::Etc::sourceparts",
  lists: "Dir::State::lists",
  trusted: "Dir::Etc::trusted",
  trustedParts: "Dir::Etc::trustedparts",
  status: "Dir::State::status",
};

/** The directories of this host, from the output of `apt-config dump`; apt's default where it says nothing. */
export function aptDirs(dump: string): AptDirs {
  const values = new Map<string, string>();
  for (const line of dump.split("\n")) {
    const match = /^([A-Za-z:-]+) "(.*)";$/.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined) values.set(match[1], match[2]);
  }
  const dirs = { ...DEFAULT_APT_DIRS };
  for (const key of Object.keys(KEYS) as (keyof AptDirs)[]) {
    dirs[key] = directory(values, KEYS[key]) ?? dirs[key];
  }
  return dirs;
}

/** A relative value hangs below its parent's (`Dir::Etc::sourcelist` below `Dir::Etc` below `Dir`). */
function directory(values: ReadonlyMap<string, string>, key: string): string | null {
  let path = values.get(key);
  if (path === undefined || path === "") return null;
  let parent = key;
  while (!path.startsWith("/")) {
    const end = parent.lastIndexOf("::");
    if (end < 0) return null;
    parent = parent.slice(0, end);
    path = `${values.get(parent) ?? ""}/${path}`;
    if (parent === "Dir") path = `/${path}`;
  }
  const normal = normalize(path);
  return normal.length > 1 ? normal.replace(/\/$/, "") : normal;
}
