import { describe, test } from "bun:test";

/**
 * `test` and `describe` for what only some machines can run. Where `holds` is false they are skipped and counted, and the
 * reason is printed.
 */
export function needs(holds: boolean, what: string) {
  if (!holds) process.stderr.write(`\nSKIPPED for want of ${what}\n\n`);
  return { test: test.skipIf(!holds), describe: describe.skipIf(!holds) };
}
