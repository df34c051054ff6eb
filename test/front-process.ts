import { AegisError } from "../src/errors.ts";
import { startFront } from "../src/front.ts";
import { openLog } from "../src/log.ts";

/** A front in a separate process, for tests that measure the process. argv: socket, limits as JSON. */
const [path = "", limits = "{}"] = process.argv.slice(2);
await startFront({
  listen: { path },
  runner: { path: `${path}.no-runner` },
  states: "/nonexistent",
  limits: JSON.parse(limits),
  verify: () => {
    throw new AegisError("signature_invalid", "refused by the test");
  },
  log: openLog({ AEGIS_LOG: "error" }, () => {}),
});
process.stdout.write("ready\n");
