import { generateKey } from "../src/key-file.ts";
import { openLog } from "../src/log.ts";
import { makeReview } from "../src/review.ts";
import { serveReviewer } from "../src/review-service.ts";
import { readModelSettings } from "../src/review-settings.ts";

/** A reviewer in a separate process, for tests that measure the process. argv: socket, limits as JSON. */
const [path = "", limits = "{}"] = process.argv.slice(2);
const key = generateKey();
await serveReviewer({
  listen: { path },
  settings: readModelSettings(process.env),
  secret: {
    seed: Buffer.from(key.secret_key_hex, "hex"),
    publicKeyHex: key.public_key_hex,
    keyId: key.key_id,
  },
  makeReview,
  record: () => {},
  limits: JSON.parse(limits),
  log: openLog({ AEGIS_LOG: "error" }, () => {}),
});
process.stdout.write("ready\n");
