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
  /** `Installed-Size` in bytes; null if the package states none. */
  installedSize: number | null;
  /** The lines of `Conffiles`: a path, the MD5 of the file as the package brought it, and words such as `obsolete`. */
  conffiles: string[];
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
    const conffiles: string[] = [];
    let field = "";
    for (const line of stanza.split("\n")) {
      if (line[0] === " " || line[0] === "\t") {
        if (field === "conffiles") conffiles.push(line.trim());
        continue;
      }
      const colon = line.indexOf(":");
      if (colon <= 0) continue;
      field = line.slice(0, colon).toLowerCase();
      fields.set(field, line.slice(colon + 1).trim());
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
      installedSize: sizeInBytes(fields.get("installed-size")),
      conffiles,
    });
  }
  return packages;
}

/** `Installed-Size` (deb-control(5)), which is in KiB, in bytes. */
export function sizeInBytes(field: string | undefined): number | null {
  return /^\d{1,12}$/.test(field ?? "") ? Number(field) * 1024 : null;
}
