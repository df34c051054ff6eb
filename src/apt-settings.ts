import { AegisError } from "./errors.ts";

/*
 * apt's settings as data: read from `apt-config dump`, changed, and written as a file for APT_CONFIG. See apt.conf(5).
 */

/** Settings as apt has them: a scalar has one value, a list (its key ends in `::`) any number. */
export type Settings = Map<string, string[]>;

const LINE = /^([^\s"]+) "([^"\n]*)";$/;

/**
 * Reads `apt-config dump`.
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
        `an apt setting can't be carried over exactly: ${line.slice(0, 200)}`,
        "Look for quotation marks or line breaks in it: apt-config dump",
      );
    }
    const values = key.endsWith("::") ? [...(settings.get(key) ?? []), value] : [value];
    settings.set(key, values);
  }
  return settings;
}

/** Keys are case-insensitive in apt: the host's spelling goes when ours comes. */
export function setScalar(settings: Settings, key: string, value: string): void {
  for (const existing of settings.keys()) {
    if (existing.toLowerCase() === key.toLowerCase()) settings.delete(existing);
  }
  settings.set(key, [value]);
}

/**
 * Takes a list out of the settings and returns its values in apt's order. apt goes through all children of a list, with a
 * name (`DPkg::Options::site "…"`) or without, and passes over empty ones and what is below them.
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
 * The file for APT_CONFIG. Everything is emptied first, since apt's built-in settings are there before the file is read,
 * even those that the host has cleared.
 */
export function renderAptConfig(settings: Settings): string {
  const roots = new Set([...settings.keys()].map((key) => key.split("::")[0] ?? key));
  const clears = [...roots].map((root) => `#clear ${root};`);
  const lines = [...settings].flatMap(([key, values]) => values.map((value) => `${key} "${value}";`));
  return `${[...clears, ...lines].join("\n")}\n`;
}
