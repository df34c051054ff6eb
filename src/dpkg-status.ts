import { dirname, join } from "node:path";

/** What dpkg says of one package (dpkg-query(1), the `Status` and `Version` fields). */
export interface DpkgPackage {
  name: string;
  architecture: string;
  version: string;
  /** Third word of `Status`: `installed`, `half-configured`, `config-files`, … */
  state: string;
  /** First word of `Status`: `install`, `hold`, `deinstall`, … */
  selection: string;
  /** `Essential`, or `Protected` (formerly `Important`): apt removes neither unless it is forced to. */
  essential: boolean;
  /** The `Provides` field as it stands there, empty where there is none. */
  provides: string;
}

/** Fields that keep a package from being removed by accident. */
const KEEPING = ["essential", "protected", "important"];

/**
 * Names of the files in dpkg's journal, /var/lib/dpkg/updates, in the order in which they count. Any at all are the sign of
 * a dpkg that was interrupted: its next run merges them into the status file.
 */
export function journalOf(names: readonly string[]): string[] {
  return names.filter((name) => /^\d+$/.test(name)).sort();
}

/**
 * What dpkg knows now: its status file, and on top of it the journal that an interrupted run left. Null where there is no
 * status file, or it can't be read.
 */
export function readDpkgStatus(
  path: string,
  { readText, list }: { readText(path: string): string | null; list(path: string): string[] },
): { packages: Map<string, DpkgPackage>; journal: string[] } | null {
  const updates = join(dirname(path), "updates");
  const journal = journalOf(list(updates));
  const status = readText(path);
  if (status === null) return null;
  const texts = [status, ...journal.map((name) => readText(join(updates, name)) ?? "")];
  return { packages: parseDpkgStatus(texts.join("\n\n")), journal };
}

/**
 * Parses /var/lib/dpkg/status (deb-control(5) stanzas): `name:architecture` → package, for everything that is on the
 * system in any state but `not-installed`. Of two stanzas about one package the later one counts.
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
    if (name === undefined || architecture === undefined || state === "") continue;
    if (state === "not-installed") {
      packages.delete(`${name}:${architecture}`);
      continue;
    }
    packages.set(`${name}:${architecture}`, {
      name,
      architecture,
      version: fields.get("version") ?? "",
      state,
      selection,
      essential: KEEPING.some((field) => fields.get(field)?.toLowerCase() === "yes"),
      provides: fields.get("provides") ?? "",
    });
  }
  return packages;
}
