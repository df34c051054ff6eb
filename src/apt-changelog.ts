import { compareDebVersions, isDebVersion } from "./apt-target.ts";

/* Changelogs of Debian source packages (deb-changelog(5)). They are outside text: whoever shows them escapes them. */

/** One version's entry. */
export interface ChangelogEntry {
  version: string;
  /** `bookworm-security`, or several. */
  distributions: string;
  /** In lower case; empty if the entry has none. */
  urgency: string;
  /** Who and when, as written: `Name <address>`, and a date; empty without a trailer. */
  by: string;
  date: string;
  /** What changed, without blank lines at either end. */
  lines: string[];
  /** CVEs named in it, each once. */
  cves: string[];
  /** Numbers of bugs that it closes: Debian's (`Closes: #1`) and Launchpad's (`LP: #1`). */
  closes: { debian: number[]; launchpad: number[] };
}

/** `openssl (3.0.17-1~deb12u2) bookworm-security; urgency=high` */
const HEADER = /^\S+ \(([^()\s]+)\)([^;]*);(.*)$/;
const TRAILER = /^ -- (.*?) {2}(.*)$/;
const CVE = /\bCVE-\d{4}-\d{4,19}\b/gi;
/** deb-changelog(5)'s own expression for bugs that an upload closes. */
const CLOSES = /closes:\s*(?:bug)?#?\s?\d+(?:,\s*(?:bug)?#?\s?\d+)*/gi;
/** Ubuntu's: https://wiki.ubuntu.com/Launchpad, `LP: #1, #2`. */
const LAUNCHPAD = /\blp:\s*#\d+(?:,\s*#\d+)*/gi;
/** Limits on entries, on the lines of an entry, and on the characters of one. A kernel's changelog has about 1,000 entries. */
const MOST_ENTRIES = 1000;
const MOST_LINES = 400;
const MOST_CHARACTERS = 1000;

/**
 * The entries of a changelog that are newer than version `from` and not newer than `to`, in the file's order, newest first; of a package
 * that is new (`from` null) the newest alone. `reached`: the file has an entry of `from` or an older one, so nothing is missing. Lines
 * that belong to no entry are skipped. Never throws.
 */
export function entriesBetween(
  text: string,
  from: string | null,
  to: string,
): { entries: ChangelogEntry[]; reached: boolean } {
  const entries: ChangelogEntry[] = [];
  let current: ChangelogEntry | null = null;
  for (const line of text.split("\n")) {
    const [, version, distributions = "", metadata = ""] = HEADER.exec(line) ?? [];
    if (version !== undefined && isDebVersion(version)) {
      if (from !== null && compareDebVersions(version, from) <= 0) return finished(entries, true);
      current = null;
      if (compareDebVersions(version, to) > 0) continue;
      if (from === null && entries.length > 0) return finished(entries, true);
      if (entries.length >= MOST_ENTRIES) return finished(entries, false);
      current = {
        ...{ version, distributions: distributions.trim(), urgency: urgencyOf(metadata), by: "", date: "" },
        ...{ lines: [], cves: [], closes: { debian: [], launchpad: [] } },
      };
      entries.push(current);
      continue;
    }
    if (current === null) continue;
    const [, by, date] = TRAILER.exec(line) ?? [];
    if (by !== undefined && date !== undefined) Object.assign(current, { by, date: date.trim() });
    else if (current.lines.length < MOST_LINES)
      current.lines.push(line.trimEnd().slice(0, MOST_CHARACTERS).toWellFormed());
  }
  return finished(entries, from === null);
}

function finished(entries: ChangelogEntry[], reached: boolean) {
  for (const entry of entries) {
    const { lines } = entry;
    while (lines[0]?.trim() === "") lines.shift();
    while (lines.at(-1)?.trim() === "") lines.pop();
    const text = lines.join("\n");
    entry.cves = [...new Set((text.match(CVE) ?? []).map((id) => id.toUpperCase()))];
    entry.closes = { debian: numbersIn(text, CLOSES), launchpad: numbersIn(text, LAUNCHPAD) };
  }
  return { entries, reached };
}

function numbersIn(text: string, pattern: RegExp): number[] {
  const found = (text.match(pattern) ?? []).flatMap((words) => words.match(/\d+/g) ?? []);
  return [...new Set(found.filter((digits) => digits.length < 16).map(Number))];
}

function urgencyOf(metadata: string): string {
  return /\burgency=([A-Za-z]+)/i.exec(metadata)?.[1]?.toLowerCase() ?? "";
}
