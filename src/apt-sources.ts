import { basename, dirname, normalize } from "node:path";
import type { AptSource, ParsedSources } from "./apt-source.ts";
import { parseOneLineSources } from "./apt-source-lines.ts";
import { parseDeb822Sources } from "./apt-source-stanzas.ts";
import { listFileName } from "./apt-uri.ts";
import type { Planning } from "./eco-planning.ts";

/** apt's files and directories used in planning. Absolute paths. */
export interface AptDirs {
  sourceList: string;
  sourceParts: string;
  lists: string;
  trusted: string;
  trustedParts: string;
  status: string;
  extendedStates: string;
}

/** apt's defaults (apt.conf(5), "DIRECTORIES"). */
export const DEFAULT_APT_DIRS: AptDirs = {
  sourceList: "/etc/apt/sources.list",
  sourceParts: "/etc/apt/sources.list.d",
  lists: "/var/lib/apt/lists",
  trusted: "/etc/apt/trusted.gpg",
  trustedParts: "/etc/apt/trusted.gpg.d",
  status: "/var/lib/dpkg/status",
  extendedStates: "/var/lib/apt/extended_states",
};

const KEYS: Readonly<Record<keyof AptDirs, string>> = {
  sourceList: "Dir::Etc::sourcelist",
  sourceParts: "Dir::Etc::sourceparts",
  lists: "Dir::State::lists",
  trusted: "Dir::Etc::trusted",
  trustedParts: "Dir::Etc::trustedparts",
  status: "Dir::State::status",
  extendedStates: "Dir::State::extended_states",
};

/** This host's directories, from the output of `apt-config dump`, with apt's defaults. */
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

/** A relative value is resolved against its parent's (`Dir::Etc::sourcelist` against `Dir::Etc` against `Dir`). */
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
 * All configured binary sources (sources.list(5)), one-line and deb822, in the order apt reads the files. What apt
 * could read differently is reported in `problems`.
 */
export function readSources(
  dirs: AptDirs,
  architecture: string,
  planning: Pick<Planning, "readText" | "list">,
): ParsedSources {
  const { sources, problems } = readEntries(dirs, architecture, planning);
  return { sources: merge(sources).filter(({ binary }) => binary), problems };
}

/** The same, each entry by itself and those for source packages too. */
export function readEntries(
  dirs: AptDirs,
  architecture: string,
  planning: Pick<Planning, "readText" | "list">,
): ParsedSources {
  const files = [
    dirs.sourceList,
    ...planning
      .list(dirs.sourceParts)
      // File names apt reads (GetListOfFilesInDir, apt-pkg/contrib/fileutl.cc).
      .filter((name) => /^[A-Za-z0-9_:-][A-Za-z0-9._:-]*\.(?:list|sources)$/.test(name))
      .map((name) => `${dirs.sourceParts}/${name}`),
  ];
  const problems: string[] = [];
  const found: AptSource[] = [];
  for (const file of files) {
    const text = planning.readText(file);
    if (text === null) {
      const exists = file !== dirs.sourceList || planning.list(dirname(file)).includes(basename(file));
      if (exists) problems.push(`${file} can't be read`);
      continue;
    }
    const parse = file.endsWith(".sources") ? parseDeb822Sources : parseOneLineSources;
    const parsed = parse(text, file, architecture);
    found.push(...parsed.sources);
    problems.push(...parsed.problems);
  }
  return { sources: found, problems };
}

/**
 * apt merges entries with the same Release file name on disk, which lacks the scheme: the first entry's URI applies to
 * all, even if it is a deb-src entry. Of two settings the weaker applies.
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
