import { AegisError } from "./errors.ts";

/* apt's settings: parsed from `apt-config dump`, changed, and rendered as a file for APT_CONFIG. See apt.conf(5). */

/** apt settings: a scalar has one value, a list (its key ends in `::`) any number. */
export type Settings = Map<string, string[]>;

const LINE = /^([^\s"]+) "([^"\n]*)";$/;

/**
 * Parses `apt-config dump`.
 * @throws AegisError `refused` for a line that could not be written back exactly
 */
export function parseAptDump(text: string): Settings {
  const settings: Settings = new Map();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const [, key, value] = LINE.exec(line) ?? [];
    if (key === undefined || value === undefined) {
      throw new AegisError(
        "refused",
        `an apt setting can't be reproduced exactly: ${line.slice(0, 200)}`,
        "Check it for quotation marks or line breaks: apt-config dump",
      );
    }
    const values = key.endsWith("::") ? [...(settings.get(key) ?? []), value] : [value];
    settings.set(key, values);
  }
  return settings;
}

/** Keys are case-insensitive in apt, so the host's spelling is removed. */
export function setScalar(settings: Settings, key: string, value: string): void {
  for (const existing of settings.keys()) {
    if (existing.toLowerCase() === key.toLowerCase()) settings.delete(existing);
  }
  settings.set(key, [value]);
}

/**
 * Removes a list from the settings and returns its values in apt's order. apt uses all children of a list, named
 * (`DPkg::Options::site "…"`) or not, and skips empty ones and what is below them.
 */
export function takeList(settings: Settings, list: string): string[] {
  const prefix = `${list}::`.toLowerCase();
  const values: string[] = [];
  for (const [key, some] of [...settings]) {
    if (!key.toLowerCase().startsWith(prefix)) continue;
    settings.delete(key);
    if (!key.slice(prefix.length).includes("::")) values.push(...some.filter((value) => value !== ""));
  }
  return values;
}

/**
 * The APT_CONFIG file. Clears everything first, since apt's built-in settings exist before the file is read, even those
 * the host has cleared.
 */
export function renderAptConfig(settings: Settings): string {
  const roots = new Set([...settings.keys()].map((key) => key.split("::")[0] ?? key));
  const clears = [...roots].map((root) => `#clear ${root};`);
  const lines = [...settings].flatMap(([key, values]) => values.map((value) => `${key} "${value}";`));
  return `${[...clears, ...lines].join("\n")}\n`;
}
