import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./kit.ts";
import type { ThrowawayHost } from "./throwaway.ts";

/*
 * code-server, the peer of Microsoft's `code` that can be had: from npm, 300 MB, kept below node_modules/.cache. Its two native modules
 * are built here, which needs a compiler, make and python3.
 */

const VERSION = "4.100.3";
const DIRECTORY = join(ROOT, "node_modules/.cache/code-server");
/** Where it is put on a host. */
const PLACE = "/usr/local/lib/code-server";
const PACKAGE = join(DIRECTORY, "node_modules/code-server");

/** Where code-server is, installed on first use; null where that can't be done. */
export function codeServer(): string | null {
  const ready = join(DIRECTORY, "ready");
  if (existsSync(ready)) return DIRECTORY;
  mkdirSync(DIRECTORY, { recursive: true });
  writeFileSync(join(DIRECTORY, "package.json"), '{"name":"peer","private":true}');
  const quiet = ["--no-audit", "--no-fund"];
  const npm = (cwd: string, ...args: string[]) =>
    spawnSync("npm", args, { cwd, env: { ...process.env, CI: "1" }, timeout: 600_000 }).status === 0;
  const done =
    npm(DIRECTORY, "install", "--ignore-scripts", ...quiet, `code-server@${VERSION}`) &&
    npm(DIRECTORY, "rebuild", "argon2") &&
    npm(join(PACKAGE, "lib/vscode"), "install", "--omit=dev", "--ignore-scripts", ...quiet) &&
    npm(join(PACKAGE, "lib/vscode"), "rebuild", "@vscode/spdlog");
  if (!done) return null;
  writeFileSync(ready, "");
  return DIRECTORY;
}

/** Puts what {@link codeServer} has found into a throw-away host, with a program as Debian's package of it has one. */
export async function installCodeServer(host: ThrowawayHost, found: string): Promise<void> {
  const copied = await host.exec(["cp", "-a", found, PLACE], { timeoutMs: 120_000 });
  if (copied.status !== 0) throw new Error(copied.stderr);
  host.write("/usr/local/bin/code-server", codeServerProgram("/usr/bin/node"), 0o755);
}

/** A program as Debian's package of code-server has one. */
export function codeServerProgram(node: string): string {
  return `#!/bin/sh\nexec ${node} ${PLACE}/node_modules/code-server/out/node/entry.js "$@"\n`;
}
