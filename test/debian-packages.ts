import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ThrowawayHost } from "./throwaway.ts";

/*
 * Debian's packages of a tool, for a throw-away host: downloaded by this machine's apt-get, and never installed into it.
 */

/** A directory with packages and what they need beside what this machine has; null where they can't be had. */
export function debianPackages(...names: readonly string[]): string | null {
  const directory = mkdtempSync(join(tmpdir(), "aegis-debs-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, "partial"));
  const options = ["-y", "--no-install-recommends", "--download-only", "-o", "Debug::NoLocking=1"];
  const archives = ["-o", `Dir::Cache::archives=${directory}`];
  const { status } = spawnSync("/usr/bin/apt-get", [...options, ...archives, "install", ...names], {
    cwd: directory,
  });
  const found = readdirSync(directory);
  return status === 0 && names.every((name) => found.some((file) => file.startsWith(`${name}_`)))
    ? directory
    : null;
}

/** Unpacks them into a throw-away host. Their maintainer scripts don't run. */
export async function unpackPackages(host: ThrowawayHost, directory: string): Promise<void> {
  for (const deb of readdirSync(directory).filter((name) => name.endsWith(".deb"))) {
    host.write(`/var/tmp/${deb}`, readFileSync(join(directory, deb)));
    // dpkg-deb would put directories in the place of /lib and /sbin, which are links.
    const unpack = `dpkg-deb --fsys-tarfile /var/tmp/${deb} | tar -x --keep-directory-symlink -C /`;
    const { status, stderr } = await host.exec(["sh", "-ec", unpack], { timeoutMs: 300_000 });
    if (status !== 0) throw new Error(stderr);
    await host.exec(["rm", `/var/tmp/${deb}`]);
  }
}
