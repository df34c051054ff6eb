import { basename, dirname, normalize } from "node:path";
import type { AptSource, ParsedSources } from "./apt-source.ts";
import { parseOneLineSources } from "./apt-source-lines.ts";
import { parseDeb822Sources } from "./apt-source-stanzas.ts";
import { listFileName } from "./apt-uri.ts";
import type { Planning } from "./eco-planning.ts";

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

/**
 * Every binary source that is configured (sources.list(5)), one-line and deb822, sorted by file as apt reads them. What
 * can't be read as apt reads it is told in `problems`.
 */
export function readSources(
  dirs: AptDirs,
  architecture: string,
  planning: Pick<Planning, "readText" | "list">,
): ParsedSources {
  const files = [
    dirs.sourceList,
    ...planning
      .list(dirs.sourceParts)
      // The names that apt reads (GetListOfFilesInDir, apt-pkg/contrib/fileutl.cc).
      .filter((name) => /^[A-Za-z0-9_:-][A-Za-z0-9._:-]*\.(?:list|sources)$/.test(name))
      .map((name) => `${dirs.sourceParts}/${name}`),
  ];
  const problems: string[] = [];
  const found: AptSource[] = [];
  for (const file of files) {
    const text = planning.readText(file);
    if (text === null) {
      const isThere = file !== dirs.sourceList || planning.list(dirname(file)).includes(basename(file));
      if (isThere) problems.push(`${file} can't be read`);
      continue;
    }
    const parse = file.endsWith(".sources") ? parseDeb822Sources : parseOneLineSources;
    const parsed = parse(text, file, architecture);
    found.push(...parsed.sources);
    problems.push(...parsed.problems);
  }
  return { sources: merge(found).filter(({ binary }) => binary), problems };
}

/**
 * apt joins entries whose Release file has one name on disk, which has no scheme in it: the first entry's URI counts for all
 * of them, also where that one is of sources. Of two settings the weaker counts.
 */
function merge(sources: readonly AptSource[]): AptSource[] {
  const merged = new Map<string, AptSource>();
  for (const source of sources) {
    const file = listFileName(source, "Release");
    const before = merged.get(file);
    if (before === undefined) {
      merged.set(file, source.binary ? source : { ...source, components: [], architectures: [] });
      continue;
    }
    const same = before.architectures.join(" ") === source.architectures.join(" ");
    merged.set(file, {
      ...before,
      ...(source.binary
        ? {
            binary: true,
            components: [...new Set([...before.components, ...source.components])],
            architectures: same || !before.binary ? source.architectures : [],
          }
        : {}),
      configuredIn: `${before.configuredIn}, ${source.configuredIn}`,
      signedBy: before.signedBy ?? source.signedBy,
      trusted: before.trusted || source.trusted,
      allowInsecure: before.allowInsecure || source.allowInsecure,
    });
  }
  return [...merged.values()];
}
