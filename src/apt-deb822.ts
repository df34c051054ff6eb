/** A stanza: field names in lower case; lines of a folded value joined with `\n`, trimmed of blanks. */
export type Stanza = ReadonlyMap<string, string>;

/** The stanzas of a text, or none and the problem. */
export interface Stanzas {
  stanzas: Stanza[];
  /** `line 3 is …`; null if there was no problem. */
  problem: string | null;
}

const FIELD = /^([A-Za-z0-9][A-Za-z0-9_.-]*):(.*)$/;
/**
 * Characters apt treats as white space or a line end that no archive writes; an editor may leave them at the end of a
 * line.
 */
const UNUSUAL_SPACE = /[\0\v\f\r]/;

/**
 * Parses the stanzas of a Debian control file (deb822(5)): output of `apt-cache show`, Release files and, with
 * `configuration`, hand-written `.sources` files: lines that start with `#` are comments, and lines may end in CRLF.
 * Never throws.
 *
 * The author of the text may want us to see other stanzas than apt does. So whatever pkgTagSection::Scan
 * (apt-pkg/tagfile.cc) could read differently is refused, with the whole text: only an empty line ends a stanza, and a
 * blank one continues a field; a line without a colon would be joined with the next; a name may not have blanks before
 * its colon; of two fields with one name apt takes the last.
 */
export function readStanzas(text: string, { configuration = false } = {}): Stanzas {
  const stanzas: Map<string, string>[] = [];
  let fields = new Map<string, string>();
  let last: string | null = null;
  const finish = () => {
    if (fields.size > 0) stanzas.push(fields);
    fields = new Map();
    last = null;
  };
  for (const [index, raw] of text.split("\n").entries()) {
    const line = configuration ? withoutReturns(raw) : raw;
    const refused = (what: string): Stanzas => ({ stanzas: [], problem: `line ${index + 1} ${what}` });
    if (UNUSUAL_SPACE.test(line)) return refused("holds a control character");
    if (configuration && line.startsWith("#")) continue;
    if (line === "") {
      finish();
      continue;
    }
    if (line.startsWith(" ") || line.startsWith("\t")) {
      if (last === null) return refused("continues no field");
      fields.set(last, `${fields.get(last)}\n${trimBlanks(line)}`);
      continue;
    }
    const [, name = "", value = ""] = FIELD.exec(line) ?? [];
    if (name === "") return refused("is not a field");
    last = name.toLowerCase();
    if (fields.has(last)) return refused(`is a second field ${name}`);
    fields.set(last, trimBlanks(value));
  }
  finish();
  return { stanzas, problem: null };
}

function withoutReturns(line: string): string {
  let end = line.length;
  while (line[end - 1] === "\r") end--;
  return line.slice(0, end);
}

/** Spaces and tabs only: apt treats other Unicode white space as part of the value. */
function trimBlanks(text: string): string {
  let [start, end] = [0, text.length];
  while (isBlank(text[start])) start++;
  while (end > start && isBlank(text[end - 1])) end--;
  return text.slice(start, end);
}

function isBlank(character: string | undefined): boolean {
  return character === " " || character === "\t";
}
