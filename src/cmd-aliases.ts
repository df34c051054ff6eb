import { isEcosystemName } from "./eco-names.ts";
import { AegisError } from "./errors.ts";
import { showArgv } from "./terminal.ts";

const ALIASES = new Map<string, string[]>([
  ["keygen", ["sign", "keygen"]],
  ["verify", ["sign", "verify"]],
  ["audit-path", ["audit", "path"]],
  ["audit-verify", ["audit", "verify"]],
]);

/**
 * Rewrites older spellings of commands, by program name and first word.
 * @throws AegisError `usage` for a package manager's command without `--plan`, since nothing is ever run directly
 */
export function rewriteOldSpelling(program: string, words: readonly string[]): string[] {
  if (program === "aegisd") return ["daemon", "--executor", ...words];
  if (program === "aegis-reviewd") return ["daemon", "--reviewer", ...words];
  const [first = "", ...rest] = words;
  const alias = ALIASES.get(first);
  if (alias !== undefined) return [...alias, ...rest];
  if (!isEcosystemName(first)) return [...words];
  const end = rest.indexOf("--");
  const flags = end < 0 ? rest : rest.slice(0, end);
  const at = flags.indexOf("--plan");
  if (at < 0) {
    const typed = words.filter((word) => !word.startsWith("-"));
    throw new AegisError(
      "usage",
      `aegis never runs ${first} directly; it plans, and a signed plan is applied`,
      `Type: ${showArgv(["aegis", "plan", ...typed])}`,
    );
  }
  return ["plan", first, ...rest.toSpliced(at, 1)];
}
