import { basename, dirname } from "node:path";
import type { AptDirs } from "./apt-dirs.ts";
import { readStanzas } from "./deb822.ts";
import type { Planning } from "./ecosystem.ts";

/** One repository that apt is configured to use: one URI and one suite. */
export interface AptSource {
  /** `<uri> <suite>`, as `apt-cache policy` names it. */
  id: string;
  /** Without credentials and without a last `/`. */
  uri: string;
  /** A suite, or with a last `/` the directory of a flat repository, which has no components. */
  suite: string;
  components: string[];
  configuredIn: string;
  /** Keyring paths, fingerprints, or an armored key, as written. */
  signedBy: string | null;
  trusted: boolean;
  allowInsecure: boolean;
  architectures: string[];
}

/** How one stanza or line describes several sources. */
type Options = ReadonlyMap<string, string>;

/**
 * Every binary source that is configured (sources.list(5)), one-line and deb822, sorted by file as apt reads them. What
 * can't be read is told in `problems`.
 */
export function readSources(
  dirs: AptDirs,
  architecture: string,
  planning: Pick<Planning, "readText" | "list">,
): { sources: AptSource[]; problems: string[] } {
  const files = [
    dirs.sourceList,
    ...planning
      .list(dirs.sourceParts)
      // The names that apt reads (GetListOfFilesInDir, apt-pkg/contrib/fileutl.cc).
      .filter((name) => /^[A-Za-z0-9._:-]+\.(?:list|sources)$/.test(name))
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
  return { sources: merge(found), problems };
}

interface Parsed {
  sources: AptSource[];
  problems: string[];
}

/** What apt dequotes and decodes (ParseQuoteWord, apt-pkg/contrib/strutl.cc), and control characters and blanks beyond ASCII. */
const ODD = /[%"\\]|[^\P{C}\t]|[^\S \t]/u;

/**
 * `deb [option=value …] uri suite [component …]`, one a line. Whoever wrote it may want us to see another source than apt
 * does, so what apt would take for something else than what is written is a problem.
 */
export function parseOneLineSources(text: string, file: string, architecture: string): Parsed {
  const result: Parsed = { sources: [], problems: [] };
  for (const [index, raw] of text.split("\n").entries()) {
    // A `#` inside the brackets belongs to the option.
    const line = /^(?:[^#[]|\[[^\]]*\]|\[)*/.exec(raw.replace(/\r$/, ""))?.[0].trim() ?? "";
    if (line === "") continue;
    const where = `${file}:${index + 1}`;
    const match =
      /^(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?([A-Za-z][A-Za-z0-9+.-]*:\S+)\s+(\S+)((?:\s+\S+)*)$/.exec(line);
    const [, type, options = "", uri = "", suite = "", components = ""] = match ?? [];
    if (type === "deb-src") continue;
    if (match === null || (!suite.endsWith("/") && components.trim() === "")) {
      result.problems.push(`${where} is not a source line that apt could read`);
      continue;
    }
    const read = ODD.test(line) || /\[[^\]]*$/.test(uri) ? null : lineOptions(options);
    if (read === null) {
      result.problems.push(`${where} can be read in two ways`);
      continue;
    }
    result.sources.push(sourceOf(uri, suite, words(components), where, read, architecture));
  }
  return result;
}

/** `name=value`, also `name+=value`; names in lower case. Null for another form, and for a name that comes twice. */
function lineOptions(text: string): Options | null {
  const options = new Map<string, string>();
  for (const word of words(text)) {
    const [, name = "", value = ""] = /^([A-Za-z-]+?)[+-]?=([^[]+)$/.exec(word) ?? [];
    if (name === "" || options.has(name.toLowerCase())) return null;
    options.set(name.toLowerCase(), value.replaceAll(",", " "));
  }
  return options;
}

/** Stanzas with `Types`, `URIs`, `Suites`, `Components`; each combination is a source. */
export function parseDeb822Sources(text: string, file: string, architecture: string): Parsed {
  const result: Parsed = { sources: [], problems: [] };
  const { stanzas, problem } = readStanzas(text, { comments: true });
  if (problem !== null) result.problems.push(`${file} can't be read as apt reads it: ${problem}`);
  for (const [index, stanza] of stanzas.entries()) {
    const where = `${file} stanza ${index + 1}`;
    if (isNo(stanza.get("enabled"))) continue;
    const types = words(stanza.get("types"));
    if (types.length > 0 && !types.includes("deb")) continue;
    const [uris, suites] = [words(stanza.get("uris")), words(stanza.get("suites"))];
    const components = words(stanza.get("components"));
    const flat = suites.every((suite) => suite.endsWith("/"));
    if (
      types.length === 0 ||
      uris.length === 0 ||
      suites.length === 0 ||
      (!flat && components.length === 0)
    ) {
      result.problems.push(`${where} is not a source that apt could read`);
      continue;
    }
    for (const uri of uris) {
      for (const suite of suites) {
        result.sources.push(sourceOf(uri, suite, components, where, stanza, architecture));
      }
    }
  }
  return result;
}

function sourceOf(
  uri: string,
  suite: string,
  components: string[],
  configuredIn: string,
  options: Options,
  architecture: string,
): AptSource {
  const expand = (text: string) => text.replaceAll("$(ARCH)", architecture);
  const cleanUri = publicUri(expand(uri));
  const cleanSuite = expand(suite);
  return {
    id: `${cleanUri} ${cleanSuite}`,
    uri: cleanUri,
    suite: cleanSuite,
    components: cleanSuite.endsWith("/") ? [] : components,
    configuredIn,
    signedBy: options.get("signed-by")?.trim() || null,
    trusted: isSet(options.get("trusted")),
    allowInsecure: ["allow-insecure", "allow-weak", "allow-downgrade-to-insecure"].some((name) =>
      isSet(options.get(name)),
    ),
    architectures: words(options.get("architectures") ?? options.get("arch")),
  };
}

/** The URI as evidence may show it: credentials removed, as apt does in its own output. */
function publicUri(uri: string): string {
  const open = uri.replace(/^([A-Za-z0-9+.-]+:\/\/)[^/]*@/, "$1");
  return open.endsWith("/") ? open.slice(0, -1) : open;
}

/** apt joins entries of one URI and suite; the weaker setting of two counts. */
function merge(sources: readonly AptSource[]): AptSource[] {
  const merged = new Map<string, AptSource>();
  for (const source of sources) {
    const before = merged.get(source.id);
    if (before === undefined) {
      merged.set(source.id, source);
      continue;
    }
    merged.set(source.id, {
      ...before,
      components: [...new Set([...before.components, ...source.components])],
      configuredIn: `${before.configuredIn}, ${source.configuredIn}`,
      signedBy: before.signedBy ?? source.signedBy,
      trusted: before.trusted || source.trusted,
      allowInsecure: before.allowInsecure || source.allowInsecure,
      architectures: [...new Set([...before.architectures, ...source.architectures])],
    });
  }
  return [...merged.values()];
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}

/** Whether an option may switch something off: anything that apt's StringToBool does not plainly read as no. */
function isSet(text: string | undefined): boolean {
  return text !== undefined && !isNo(text);
}

function isNo(text: string | undefined): boolean {
  return /^(?:no|false|without|off|disable|0)$/i.test(text ?? "");
}

/**
 * Name of a downloaded index below Dir::State::lists: apt's URItoFileName (apt-pkg/contrib/strutl.cc), which drops scheme
 * and credentials, quotes what could confuse, and turns `/` into `_`.
 */
export function listFileName({ uri, suite }: Pick<AptSource, "uri" | "suite">, file: string): string {
  const base = suite.endsWith("/") ? (suite === "/" ? "" : suite) : `dists/${suite}/`;
  const rest = `${uri}/${base}${file}`.replace(/^[A-Za-z0-9+.-]+:(?:\/\/)?/, "");
  let name = "";
  for (const byte of Buffer.from(rest)) {
    const c = String.fromCharCode(byte);
    const quoted = byte <= 0x20 || byte >= 0x7f || '\\|{}[]<>"^~_=!@#$%^&*'.includes(c);
    name += quoted ? `%${byte.toString(16).padStart(2, "0")}` : c === "/" ? "_" : c;
  }
  return name;
}
