import { isArmored } from "./apt-armor.ts";
import { readStanzas, type Stanza } from "./apt-deb822.ts";
import { armorKey, type OpenPgpKey, readPublicKey } from "./apt-openpgp.ts";
import { archiveUri, listFileName } from "./apt-uri.ts";
import { MAX_REPOSITORY_FILE } from "./doc-repository.ts";
import { AegisError } from "./errors.ts";

/*
 * The file of a repository that Aegis adds: one stanza (sources.list(5), "DEB822-STYLE FORMAT") with its key embedded, so that one
 * rename brings both. What was given is read strictly, and what is written is made anew from the few fields that are understood:
 * comments, order and spelling of the original don't come along, nor does anything that apt might read and a person overlook.
 */

/** Since when apt takes an embedded key. */
export const EMBEDDED_SINCE = "2.3.10";

/** A repository as it will be configured. */
export interface RepositoryFile {
  types: string[];
  uris: string[];
  suites: string[];
  components: string[];
  architectures: string[];
  key: OpenPgpKey;
}

/** Options that switch off a check, or make apt fetch something else, and what to say of them. */
const REFUSED: Readonly<Record<string, string>> = {
  trusted: "it would switch off or force the check of signatures",
  "allow-insecure": "it would let apt use an unsigned repository",
  "allow-weak": "it would let apt accept weak signatures",
  "allow-downgrade-to-insecure": "it would let apt go on when signatures disappear",
  "check-valid-until": "it would change how long an old index is believed",
  "valid-until-min": "it would change how long an old index is believed",
  "valid-until-max": "it would change how long an old index is believed",
  "check-date": "it would change which dates apt believes",
  "date-max-future": "it would change which dates apt believes",
  "inrelease-path": "apt would fetch the signed index from elsewhere",
  snapshot: "apt would fetch from another server",
  targets: "apt would leave indexes out",
  "by-hash": "apt would fetch indexes differently",
};
const KNOWN: readonly string[] = [
  "types",
  "uris",
  "suites",
  "components",
  "architectures",
  "enabled",
  "signed-by",
];

const STANZA_HINT =
  "A stanza has Types, URIs, Suites, Components and Architectures, one line each: man sources.list";
const KEY_HINT = "Give one public key, as its vendor publishes it: --key <file>";

const MAX_WORDS = 16;
const HOST = "[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?";
const URI = new RegExp(
  `^https?://(?:${HOST}|\\[[0-9a-f:]{2,39}\\])(?::[1-9][0-9]{0,4})?(?:/[A-Za-z0-9._~:+-]+)*/?$`,
);
/** A name, or a path that ends in `/` for a repository without suites. */
const SUITE = /^(?:\/|(?:\.\/)?(?:[A-Za-z0-9][A-Za-z0-9._~+-]*(?:\/[A-Za-z0-9][A-Za-z0-9._~+-]*)*)?\/?)$/;
const COMPONENT = /^[A-Za-z0-9][A-Za-z0-9._+-]*(?:\/[A-Za-z0-9][A-Za-z0-9._+-]*)*$/;
const ARCHITECTURE = /^[a-z0-9](?:[a-z0-9-]{0,29}[a-z0-9])?$/;

/**
 * Reads a stanza and its key. `keyFile` is left out where the stanza embeds its key.
 * @throws AegisError `invalid_target`, with the line or field that is refused and why
 */
export function readRepository(stanzaText: string, keyFile?: Uint8Array): RepositoryFile {
  const stanza = onlyStanza(stanzaText);
  for (const [name, value] of stanza) {
    const why = Object.hasOwn(REFUSED, name) ? REFUSED[name] : undefined;
    if (why !== undefined) throw refused(`${titled(name)} is not allowed: ${why}`);
    if (!KNOWN.includes(name)) throw refused(`${titled(name)} is a field that Aegis doesn't write`);
    if (name !== "signed-by" && value.includes("\n"))
      throw refused(`${titled(name)} goes on in another line, which could hide a field`);
  }
  const enabled = stanza.get("enabled");
  if (enabled !== undefined && enabled.toLowerCase() !== "yes")
    throw refused("Enabled is not yes, and a repository that is off is not added");
  const types = wordsOf(stanza, "types", /^deb(?:-src)?$/, "deb or deb-src");
  if (!types.includes("deb")) throw refused("Types lacks deb: there would be no packages to install");
  const uris = wordsOf(stanza, "uris", URI, "a plain http or https address", problemOfUri);
  const suites = wordsOf(stanza, "suites", SUITE, "a suite");
  refuseMerged(uris, suites);
  const components = wordsOf(stanza, "components", COMPONENT, "a component", undefined, true);
  for (const suite of suites) {
    if (suite.endsWith("/") !== (components.length === 0))
      throw refused(
        suite.endsWith("/")
          ? `the suite ${suite} is a path, which has no components`
          : `the suite ${suite} needs Components`,
      );
  }
  const architectures = wordsOf(stanza, "architectures", ARCHITECTURE, "an architecture", undefined, true);
  return { types, uris, suites, components, architectures, key: keyOf(stanza.get("signed-by"), keyFile) };
}

/** The file for apt. The same repository always gives the same bytes, and {@link readRepository} reads them back. */
export function repositoryText(name: string, file: RepositoryFile): string {
  const { types, uris, suites, components, architectures, key } = file;
  const field = (title: string, words: readonly string[]) =>
    words.length === 0 ? [] : [`${title}: ${words.join(" ")}`];
  const text = [
    `# Written by Aegis. To take it away: aegis plan apt remove-repository ${name}`,
    ...field("Types", types),
    ...field("URIs", uris),
    ...field("Suites", suites),
    ...field("Components", components),
    ...field("Architectures", architectures),
    "Signed-By:",
    // An empty line would end the stanza.
    ...armorKey(key.bytes).map((line) => ` ${line === "" ? "." : line}`),
    "",
  ].join("\n");
  if (text.length > MAX_REPOSITORY_FILE)
    throw refused(
      `the file would be larger than ${MAX_REPOSITORY_FILE} bytes: export the key without others' signatures (gpg --export-options export-minimal)`,
    );
  return text;
}

/** The file for what was typed. @throws AegisError as {@link readRepository} */
export function repositoryFrom(name: string, stanza: string, key?: Uint8Array): string {
  return repositoryText(name, readRepository(stanza, key));
}

/** The repository in a file, if that is byte for byte what Aegis writes under this name; else null. */
export function canonicalRepository(name: string, text: string): RepositoryFile | null {
  try {
    const file = readRepository(text);
    return repositoryText(name, file) === text ? file : null;
  } catch (error) {
    if (error instanceof AegisError) return null;
    throw error;
  }
}

/** The only stanza of a text, field by field. Refuses what an editor and apt could show or read differently. */
function onlyStanza(text: string): Stanza {
  if (text.length > MAX_REPOSITORY_FILE) throw refused(`it is larger than ${MAX_REPOSITORY_FILE} bytes`);
  for (const [n, line] of text.split("\n").entries()) {
    const [odd] = /[^\t\x20-\x7e]/u.exec(line) ?? [];
    if (odd === undefined) continue;
    const code = `U+${(odd.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
    throw refused(`line ${n + 1} has the character ${code}: only plain ASCII text is taken`);
  }
  const { stanzas, problem } = readStanzas(text, { configuration: true });
  if (problem !== null) throw refused(problem);
  const [stanza, second] = stanzas;
  if (stanza === undefined) throw refused("it has no stanza");
  if (second !== undefined)
    throw refused(`it has ${stanzas.length} stanzas: one repository is added at a time`);
  return stanza;
}

/** The words of a field, each once and of this form. */
function wordsOf(
  stanza: Stanza,
  field: string,
  form: RegExp,
  what: string,
  problem: (word: string) => string | null = () => null,
  mayLack = false,
): string[] {
  const words = (stanza.get(field) ?? "").split(/[ \t]+/).filter((word) => word !== "");
  if (words.length === 0 && !mayLack) throw refused(`it has no ${titled(field)}`);
  if (words.length > MAX_WORDS) throw refused(`${titled(field)} has more than ${MAX_WORDS} words`);
  for (const [n, word] of words.entries()) {
    const why = problem(word);
    if (why !== null) throw refused(`${titled(field)}: ${why}`);
    if (!form.test(word))
      throw refused(`${titled(field)}: ${JSON.stringify(word.slice(0, 100))} is not ${what}`);
    if (words.indexOf(word) !== n) throw refused(`${titled(field)} names ${word} twice`);
  }
  return words;
}

/** apt keeps indexes by address without its scheme, and takes two addresses with one name for the first of them. */
function refuseMerged(uris: readonly string[], suites: readonly string[]): void {
  const files = uris.flatMap((uri) =>
    suites.map((suite) => listFileName({ uri: archiveUri(uri) ?? uri, suite }, "Release")),
  );
  if (new Set(files).size < files.length) throw refused("apt would take two of its addresses for one");
}

/** Why an address is refused before its form is looked at: the message must not repeat a password. */
function problemOfUri(uri: string): string | null {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(uri)?.[1]?.toLowerCase();
  if (scheme === undefined) return "an address begins with https://";
  if (scheme !== "https" && scheme !== "http")
    return `${scheme}: is no web address: a place on this host, or one that others choose, is not added`;
  if (uri.includes("@"))
    return "the address has a user or password, which everybody could read in plan, log and file: use /etc/apt/auth.conf.d";
  if (/(?:^|\/)\.{1,2}(?:\/|$)/.test(uri)) return "the address has . or .. in its path";
  return null;
}

function keyOf(embedded: string | undefined, keyFile: Uint8Array | undefined): OpenPgpKey {
  const inside = embedded === undefined || embedded === "" ? null : embedded;
  if (inside !== null && !isArmored(inside))
    throw refused(
      "Signed-By names a place of its own: leave it out, and give the key by --key, which is put into the file",
    );
  if (inside !== null && keyFile !== undefined)
    throw refused("Signed-By holds a key, and --key gives one too: only one of them can be meant");
  const bytes = inside === null ? keyFile : Buffer.from(inside.replaceAll(/^\.$/gm, ""));
  if (bytes === undefined) throw refused("it has no key", KEY_HINT);
  const key = readPublicKey(bytes);
  if (typeof key === "string") throw refused(`the key file ${key}`, KEY_HINT);
  return key;
}

/** `signed-by` as `Signed-By`, escaped by whoever shows it. */
function titled(name: string): string {
  if (name === "uris") return "URIs";
  return name.slice(0, 60).replaceAll(/(?:^|-)[a-z]/g, (start) => start.toUpperCase());
}

function refused(why: string, hint = STANZA_HINT): AegisError {
  return new AegisError("invalid_target", `this repository can't be added: ${why}`, hint);
}
