import { describe, test } from "bun:test";

/**
 * `test` and `describe` for what only some machines can show. Where `holds` is false they are skipped, counted, and the
 * reason is said aloud.
 */
export function needs(holds: boolean, what: string) {
  if (!holds) process.stderr.write(`\nSKIPPED for want of ${what}\n\n`);
  return { test: test.skipIf(!holds), describe: describe.skipIf(!holds) };
}
