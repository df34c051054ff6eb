import { isArmored } from "./apt-armor.ts";
import { readStanzas, type Stanza } from "./apt-deb822.ts";
import { aptSource, type ParsedSources, stringToBool } from "./apt-source.ts";

/** Fields with a single word as value; if they are folded, apt reads only some of them. */
const SINGLE = [
  "enabled",
  "trusted",
  "snapshot",
  "allow-insecure",
  "allow-weak",
  "allow-downgrade-to-insecure",
];
/** Stanza fields → names of the one-line options. Several words become one with commas. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  architectures: "arch",
  "architectures-add": "arch+",
  "architectures-remove": "arch-",
};

/**
 * Parses stanzas with `Types`, `URIs`, `Suites`, `Components` (sources.list(5), "DEB822-STYLE FORMAT"); each
 * combination is a source. A file that apt could read differently gives none.
 */
export function parseDeb822Sources(text: string, file: string, architecture: string): ParsedSources {
  const result: ParsedSources = { sources: [], problems: [] };
  // apt sees the bytes of invalid UTF-8; we don't.
  const { stanzas, problem } = text.includes("\ufffd")
    ? { stanzas: [], problem: "it is not UTF-8" }
    : readStanzas(text, { configuration: true });
  if (problem !== null) result.problems.push(`${file} can't be read as apt reads it: ${problem}`);
  for (const [index, stanza] of stanzas.entries()) {
    const where = `${file} stanza ${index + 1}`;
    const read = readStanza(stanza, where, architecture);
    if (typeof read === "string") result.problems.push(`${where} ${read}`);
    else result.sources.push(...read);
  }
  return result;
}

/** The sources of a stanza, or its problem. */
function readStanza(stanza: Stanza, configuredIn: string, architecture: string) {
  const enabled = stanza.get("enabled") ?? "";
  if (SINGLE.some((name) => stanza.get(name)?.includes("\n"))) return "can be read in two ways";
  if (enabled !== "" && stringToBool(enabled) === false) return [];
  const types = words(stanza.get("types"));
  const uris = words(stanza.get("uris"));
  const suites = words(stanza.get("suites")).map((suite) => suite.replaceAll("$(ARCH)", architecture));
  const components = words(stanza.get("components"));
  const fits = (suite: string) => suite.endsWith("/") === (components.length === 0);
  const isKnown = (type: string) => type === "deb" || type === "deb-src";
  if (
    ![types, uris, suites].every(({ length }) => length > 0) ||
    !types.every(isKnown) ||
    !suites.every(fits)
  ) {
    return "is not a source that apt could read";
  }
  const options = new Map<string, string>();
  for (const [name, value] of stanza) {
    const short = ARCHITECTURES[name];
    options.set(short ?? name, short === undefined ? value : words(value).join(","));
  }
  options.set("signed-by", signedBy(stanza.get("signed-by") ?? ""));
  const sources = types.flatMap((type) =>
    uris.flatMap((uri) =>
      suites.map((suite) =>
        aptSource(uri, suite, components, { options, configuredIn, architecture, binary: type === "deb" }),
      ),
    ),
  );
  const read = sources.filter((source) => source !== null);
  return read.length === sources.length ? read : "can be read in two ways";
}

/** An embedded key has a `.` for each empty line; apt undoes that for no other value. */
function signedBy(value: string): string {
  if (!isArmored(value)) return value;
  return value
    .split("\n")
    .map((line) => (line === "." ? "" : line))
    .join("\n")
    .trim();
}

/** apt splits at ASCII blanks only. */
function words(text: string | undefined): string[] {
  return (text ?? "").split(/[ \t\n]+/).filter((word) => word !== "");
}
