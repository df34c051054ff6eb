import { writeSync } from "node:fs";
import { openAuditLog } from "../src/audit-log.ts";

/* Appends events to a log until it is killed, and prints each one's id after it was acknowledged: `bun log-writer.ts <directory> <prefix>`. */

const [dir = "", prefix = ""] = process.argv.slice(2);
const log = openAuditLog(dir, { rotateAt: 40_000 });
for (let n = 0; ; n++) {
  const message = `${prefix}-${n}`;
  log.append({ kind: "monitor_findings", details: { message } });
  writeSync(1, `${message}\n`);
}
