import { AegisError } from "./errors.ts";
import { readFileLimited, rootOnlyProblem } from "./sys-files.ts";

const MAX_CONFIG_BYTES = 256 * 1024;

/**
 * The text of a configuration file; null if it doesn't exist. With `rootOnly`, a file that others than root can write
 * is an error.
 * @throws AegisError `invalid_config`, `invalid_document`, `io`
 */
export function readConfig(path: string, rootOnly: boolean): string | null {
  let text: string;
  try {
    text = readFileLimited(path, MAX_CONFIG_BYTES).toString("utf8");
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return null;
    throw error;
  }
  // Checking after reading is safe: nobody but root can have changed a path that only root can change.
  const problem = rootOnly ? rootOnlyProblem(path) : null;
  if (problem !== null) {
    throw new AegisError("invalid_config", problem, `Type: chown root ${path} && chmod go-w ${path}`);
  }
  return text;
}
