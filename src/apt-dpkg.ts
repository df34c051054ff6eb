import { dirname, join } from "node:path";
import { sourcePackageOf } from "./apt-source-version.ts";
import type { SourcePackage } from "./doc-plan.ts";

/** A package in dpkg's status file (dpkg-query(1), the `Status` and `Version` fields). */
export interface DpkgPackage {
  name: string;
  architecture: string;
  version: string;
  source: SourcePackage;
  /** Third word of `Status`: `installed`, `half-configured`, `config-files`, … */
  state: string;
  /** First word of `Status`: `install`, `hold`, `deinstall`, … */
  selection: string;
  /** `Essential` or `Protected` (formerly `Important`): apt removes neither unless forced. */
  essential: boolean;
  /** The raw `Provides` field, or empty. */
  provides: string;
  /** The raw `Pre-Depends` and `Depends` fields, joined. */
  depends: string;
  /** `Multi-Arch`, or empty. */
  multiArch: string;
}

/** Fields that guard a package against removal. */
const GUARDING_FIELDS = ["essential", "protected", "important"];

/**
 * File names in dpkg's journal, /var/lib/dpkg/updates, in order of application. Any file there means that dpkg was
 * interrupted; its next run merges them into the status file.
 */
export function journalOf(names: readonly string[]): string[] {
  return names.filter((name) => /^\d+$/.test(name)).sort();
}

/** Attempts at reading a journal that disappears meanwhile: a running dpkg merges it now and then. */
const ATTEMPTS = 3;

/**
 * dpkg's current state: its status file plus the journal left by an interrupted run. dpkg makes all of them
 * world-readable, whatever the umask, so every user gets the same. Null if there is no status file or a part is
 * unreadable: without part of the journal the result would be wrong.
 */
export function readDpkgStatus(
  path: string,
  { readText, list }: { readText(path: string): string | null; list(path: string): string[] },
): { packages: Map<string, DpkgPackage>; journal: string[] } | null {
  const updates = join(dirname(path), "updates");
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const journal = journalOf(list(updates));
    const texts = [path, ...journal.map((name) => join(updates, name))].map(readText);
    const read = texts.filter((text) => text !== null);
    if (read.length === texts.length) return { packages: parseDpkgStatus(read.join("\n\n")), journal };
  }
  return null;
}

/**
 * Parses /var/lib/dpkg/status (deb-control(5) stanzas): `name:architecture` → package, for every package in any state
 * but `not-installed`. Of two stanzas for one package the later counts.
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
      essential: GUARDING_FIELDS.some((field) => fields.get(field)?.toLowerCase() === "yes"),
      provides: fields.get("provides") ?? "",
      depends: [fields.get("pre-depends"), fields.get("depends")].filter(Boolean).join(", "),
      multiArch: fields.get("multi-arch")?.toLowerCase() ?? "",
    });
  }
  return packages;
}
