import { readConfig } from "./config-file.ts";
import { AegisError } from "./errors.ts";
import { createFileExclusive } from "./files.ts";
import { SYSTEM } from "./paths.ts";

/**
 * When Aegis was first installed on this host; null where it was never installed, or is started by hand. Nothing signed
 * before that runs here.
 * @throws AegisError `invalid_config` for a file that can't be believed
 */
export function installedAt(path: string = SYSTEM.installed): Date | null {
  const text = readConfig(path, true);
  if (text === null) return null;
  const date = new Date(text.trim());
  if (!/^\d{4}-\d{2}-\d{2}T[\d:.]+Z\n?$/.test(text) || Number.isNaN(date.getTime())) {
    throw new AegisError(
      "invalid_config",
      `${path} does not hold the time of the installation`,
      `Remove it as root and type: aegis daemon install; what was signed before then needs to be signed anew.`,
    );
  }
  return date;
}

/** Writes the time of the first installation down; an existing one stays. */
export function markInstalled(now: Date): void {
  createFileExclusive(SYSTEM.installed, `${now.toISOString()}\n`, 0o644);
}
