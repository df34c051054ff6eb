/** One stanza: field names in lower case; the lines of a folded value are joined with `\n`, ` .` stands for an empty one. */
export type Stanza = ReadonlyMap<string, string>;

/**
 * Parses the paragraphs of a Debian control file (deb822(5)): output of `apt-cache show`, Release files, `.sources`.
 * Lines that start with `#` are comments. Never throws; lines that fit nothing are passed over.
 */
export function parseStanzas(text: string): Stanza[] {
  const stanzas: Map<string, string>[] = [];
  let fields = new Map<string, string>();
  let last = "";
  const finish = () => {
    if (fields.size > 0) stanzas.push(fields);
    fields = new Map();
    last = "";
  };
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) continue;
    if (line.trim() === "") {
      finish();
      continue;
    }
    if (line.startsWith(" ") || line.startsWith("\t")) {
      const value = fields.get(last);
      const more = line.trim();
      if (value !== undefined) fields.set(last, `${value}\n${more === "." ? "" : more}`);
      continue;
    }
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    last = line.slice(0, colon).toLowerCase();
    fields.set(last, line.slice(colon + 1).trim());
  }
  finish();
  return stanzas;
}
