import { dirname, join } from "node:path";
import { sourcePackageOf } from "./apt-source-version.ts";
import type { SourcePackage } from "./doc-plan.ts";

/** What dpkg says of one package (dpkg-query(1), the `Status` and `Version` fields). */
export interface DpkgPackage {
  name: string;
  architecture: string;
  version: string;
  source: SourcePackage;
  /** Third word of `Status`: `installed`, `half-configured`, `config-files`, … */
  state: string;
  /** First word of `Status`: `install`, `hold`, `deinstall`, … */
  selection: string;
  /** `Essential`, or `Protected` (formerly `Important`): apt removes neither unless it is forced to. */
  essential: boolean;
  /** The `Provides` field as it stands there, empty where there is none. */
  provides: string;
  /** `Pre-Depends` and `Depends`, in the same way, as one list. */
  depends: string;
  /** `Multi-Arch`, empty where there is none. */
  multiArch: string;
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

/** How often a journal is looked for that goes away while it is read: a dpkg at work merges it now and then. */
const LOOKS = 3;

/**
 * What dpkg knows now: its status file, and on top of it the journal that an interrupted run left. dpkg makes all of them
 * readable to everybody, whatever the umask is, so every user gets the same. Null where there is no status file, or
 * something of it can't be read: without a part of the journal the rest would tell another story.
 */
export function readDpkgStatus(
  path: string,
  { readText, list }: { readText(path: string): string | null; list(path: string): string[] },
): { packages: Map<string, DpkgPackage>; journal: string[] } | null {
  const updates = join(dirname(path), "updates");
  for (let look = 0; look < LOOKS; look++) {
    const journal = journalOf(list(updates));
    const texts = [path, ...journal.map((name) => join(updates, name))].map(readText);
    const read = texts.filter((text) => text !== null);
    if (read.length === texts.length) return { packages: parseDpkgStatus(read.join("\n\n")), journal };
  }
  return null;
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
    const version = fields.get("version") ?? "";
    packages.set(`${name}:${architecture}`, {
      name,
      architecture,
      version,
      source: sourcePackageOf(name, version, fields.get("source")),
      state,
      selection,
      essential: KEEPING.some((field) => fields.get(field)?.toLowerCase() === "yes"),
      provides: fields.get("provides") ?? "",
      depends: [fields.get("pre-depends"), fields.get("depends")].filter(Boolean).join(", "),
      multiArch: fields.get("multi-arch")?.toLowerCase() ?? "",
    });
  }
  return packages;
}
