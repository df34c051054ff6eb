import { AegisError } from "./errors.ts";

/** What aegisd.env may set; any other name is an error. */
const DAEMON_VARIABLES = new Set([
  "AEGIS_SIGNING_PUBLIC_KEY_HEX",
  "AEGIS_APPROVAL_PUBLIC_KEY_HEX",
  "AEGIS_AUDIT_LOG_DIR",
  "AEGIS_LOG",
  "AEGIS_LOG_FORMAT",
  "AEGIS_OSV_DIR",
  "AEGIS_OSV_URL",
  "RUST_LOG",
]);

/**
 * The subset of systemd's EnvironmentFile= (systemd.exec(5)) that an administrator needs: `NAME=value`, the value bare or
 * in one pair of quotes, comment lines with # or ;. Continuation lines, escapes and unknown names are errors.
 * @throws AegisError `invalid_config`
 */
export function parseEnvironmentFile(text: string, source: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const [i, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#") || line.startsWith(";")) continue;
    const match = /^([A-Z_][A-Z0-9_]*)=(?:"([^"\\]*)"|'([^'\\]*)'|([^"'\\]*))$/.exec(line);
    const name = match?.[1] ?? "";
    const at = `${source}, line ${i + 1}`;
    if (match === null) throw new AegisError("invalid_config", `${at}: not NAME=value`);
    if (!DAEMON_VARIABLES.has(name)) throw new AegisError("invalid_config", `${at}: unknown name ${name}`);
    if (values.has(name)) throw new AegisError("invalid_config", `${at}: ${name} is set twice`);
    values.set(name, match[2] ?? match[3] ?? match[4] ?? "");
  }
  return values;
}
