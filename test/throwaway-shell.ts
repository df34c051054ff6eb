import { existsSync } from "node:fs";
import { join } from "node:path";
import { startHost, throwawayUnavailable } from "./throwaway.ts";
import { everyPackage } from "./throwaway-packages.ts";

/*
 * The program behind scripts/throwaway: a command, or a shell, on a throw-away host with the built binary and a repository
 * with every package of the table.
 */
const reason = throwawayUnavailable();
if (reason !== null) {
  process.stderr.write(`There can be no throw-away host here: ${reason}.\n`);
  process.exit(8);
}
const [first, ...rest] = process.argv.slice(2);
const command = first === undefined ? ["bash"] : first === "--" ? rest : [first, ...rest];
const binary = join(import.meta.dir, "../dist/aegis");
const host = await startHost({ ...(existsSync(binary) ? { binary } : {}), foreignArchitecture: true });
// Control-C goes to the command inside.
process.on("SIGINT", () => {});
try {
  await host.repo.publish(everyPackage());
  await host.aptUpdate();
  process.exitCode = await host.interact(command);
} finally {
  await host.stop();
}
