import { describe, setDefaultTimeout } from "bun:test";
import { throwawayUnavailable } from "./throwaway.ts";

/**
 * `describe` for tests that need a throw-away host. Where there can be none they are counted as skipped, with the reason. Each
 * test has a minute, so that apt's own locks and time-outs take effect before Bun's.
 */
export function describeOnThrowaway(name: string, tests: () => void): void {
  const reason = throwawayUnavailable();
  if (reason !== null)
    process.stderr.write(`\nSKIPPED for want of a throw-away host: ${name}: ${reason}\n\n`);
  setDefaultTimeout(60_000);
  describe.skipIf(reason !== null)(name, tests);
}
