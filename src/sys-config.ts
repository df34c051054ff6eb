import { AegisError } from "./errors.ts";
import { readFileLimited, rootOnlyProblem } from "./sys-files.ts";

const MAX_CONFIG_BYTES = 256 * 1024;

/**
 * The text of a configuration file in UTF-8; null if it doesn't exist. With `rootOnly`, a file that others than root can write
 * is an error.
 * @throws AegisError `invalid_config`, `invalid_document`, `io`
 */
export function readConfig(path: string, rootOnly: boolean): string | null {
  let data: Uint8Array;
  try {
    data = readFileLimited(path, MAX_CONFIG_BYTES);
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return null;
    throw error;
  }
  // Checking after reading is safe: nobody but root can have changed a path that only root can change.
  const problem = rootOnly ? rootOnlyProblem(path) : null;
  if (problem !== null) {
    throw new AegisError("invalid_config", problem, `Type: chown root ${path} && chmod go-w ${path}`);
  }
  try {
    // Not lenient: two names could become one where their bytes are replaced.
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    throw new AegisError("invalid_config", `${path} is not UTF-8`, `Find the line: grep -naxv '.*' ${path}`);
  }
}
