/** What dpkg says of one package (dpkg-query(1), the `Status` and `Version` fields). */
export interface DpkgPackage {
  name: string;
  architecture: string;
  version: string;
  /** Third word of `Status`: `installed`, `half-configured`, `config-files`, … */
  state: string;
  /** First word of `Status`: `install`, `hold`, `deinstall`, … */
  selection: string;
  essential: boolean;
  /** The `Provides` field as it stands there, empty where there is none. */
  provides: string;
}

/**
 * Parses /var/lib/dpkg/status (deb-control(5) stanzas): `name:architecture` → package, for everything that is on the
 * system in any state but `not-installed`.
 */
export function parseDpkgStatus(text: string): Map<string, DpkgPackage> {
  const packages = new Map<string, DpkgPackage>();
  for (const stanza of text.split(/\n\n+/)) {
    const fields = new Map<string, string>();
    for (const line of stanza.split("\n")) {
      const colon = line.indexOf(":");
      if (colon > 0 && line[0] !== " " && line[0] !== "\t")
        fields.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
    }
    const name = fields.get("package");
    const architecture = fields.get("architecture");
    const [selection = "", , state = ""] = (fields.get("status") ?? "").split(" ");
    if (name === undefined || architecture === undefined || state === "" || state === "not-installed")
      continue;
    packages.set(`${name}:${architecture}`, {
      name,
      architecture,
      version: fields.get("version") ?? "",
      state,
      selection,
      essential: fields.get("essential")?.toLowerCase() === "yes",
      provides: fields.get("provides") ?? "",
    });
  }
  return packages;
}
