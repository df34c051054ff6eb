import { aptSource, type ParsedSources } from "./apt-source.ts";

/**
 * What apt unquotes and decodes (ParseQuoteWord, apt-pkg/contrib/strutl.cc), control characters, non-ASCII blanks, and
 * invalid UTF-8.
 */
const AMBIGUOUS = /[%"\\\ufffd]|[^\P{C}\t]|[^\S \t]/u;

/**
 * Parses `deb [option=value …] uri suite [component …]` lines. Their author may want us to see another source than apt
 * does, so anything apt could read differently is reported as a problem.
 */
export function parseOneLineSources(text: string, file: string, architecture: string): ParsedSources {
  const result: ParsedSources = { sources: [], problems: [] };
  for (const [index, raw] of text.split("\n").entries()) {
    const line = trim(withoutComment(raw));
    if (line === "") continue;
    const where = `${file}:${index + 1}`;
    const match = /^(deb|deb-src)[ \t]+(?:\[([^\]]*)\](?:[ \t]+|$))?(.*)$/.exec(line);
    const [, type, options = "", rest = ""] = match ?? [];
    const [uri = "", suite = "", ...components] = words(rest);
    const isFlat = suite.endsWith("/");
    if (!/^[A-Za-z][A-Za-z0-9+.-]*:/.test(uri) || suite === "" || isFlat !== (components.length === 0)) {
      result.problems.push(`${where} is not a source line that apt could read`);
      continue;
    }
    const read = isAmbiguous(line, [uri, suite, ...components]) ? null : lineOptions(options);
    const source =
      read === null
        ? null
        : aptSource(uri, isFlat ? suite.replaceAll("$(ARCH)", architecture) : suite, components, {
            options: read,
            configuredIn: where,
            architecture,
            binary: type === "deb",
          });
    if (source === null) result.problems.push(`${where} can be read in two ways`);
    else result.sources.push(source);
  }
  return result;
}

/** A `#` inside unclosed brackets belongs to an option. */
function withoutComment(line: string): string {
  let depth = 0;
  for (let i = 0; i < line.length; i++) {
    if (line[i] === "[") depth++;
    else if (line[i] === "]") depth--;
    else if (line[i] === "#" && depth <= 0) return line.slice(0, i);
  }
  return line;
}

/** Whether apt would decode something, or a bracket would swallow the following words. */
function isAmbiguous(line: string, parts: readonly string[]): boolean {
  return AMBIGUOUS.test(line) || parts.some((part) => /\[[^\]]*$/.test(part));
}

/**
 * Parses `name=value` options. Names are exact: `Signed-By` and `signed-by+` are other names, which apt ignores. Null
 * for any other form or a repeated name.
 */
function lineOptions(text: string): Map<string, string> | null {
  const options = new Map<string, string>();
  const seen = new Set<string>();
  for (const word of words(text)) {
    const [, name = "", value = ""] = /^([^=[]+)=([^[]+)$/.exec(word) ?? [];
    if (name === "" || seen.has(name.toLowerCase())) return null;
    seen.add(name.toLowerCase());
    options.set(name, value);
  }
  return options;
}

function words(text: string): string[] {
  return text.split(/[ \t]+/).filter((word) => word !== "");
}

/** Trims like apt: a no-break space is content. */
function trim(line: string): string {
  let [start, end] = [0, line.length];
  while (start < end && isBlank(line[start])) start++;
  while (end > start && isBlank(line[end - 1])) end--;
  return line.slice(start, end);
}

function isBlank(character: string | undefined): boolean {
  return character === " " || character === "\t" || character === "\r";
}
