import { basename, dirname } from "node:path";
import type { AptDirs } from "./apt-dirs.ts";
import type { AptSource, ParsedSources } from "./apt-source.ts";
import { parseOneLineSources } from "./apt-source-lines.ts";
import { parseDeb822Sources } from "./apt-source-stanzas.ts";
import { listFileName } from "./apt-uri.ts";
import type { Planning } from "./ecosystem.ts";

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
