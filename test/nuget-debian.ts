import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ThrowawayHost } from "./throwaway.ts";

/*
 * Debian's nuget for hosts of tests: its packages as this machine's apt gets them, unpacked where they are needed.
 */

/** What Mono needs besides, and this machine may have already: a minimal root has none of it. */
const LIBRARIES = ["libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0", "libkeyutils1"];

/** A directory with the packages of nuget and what it needs; null where they can't be had. 13 MB. */
function download(): string | null {
  const directory = mkdtempSync(join(tmpdir(), "aegis-nuget-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, "partial"));
  const options = [
    "-y",
    "--no-install-recommends",
    "--download-only",
    "--reinstall",
    "-o",
    "Debug::NoLocking=1",
  ];
  const archives = ["-o", `Dir::Cache::archives=${directory}`];
  const { status } = spawnSync(
    "/usr/bin/apt-get",
    [...options, ...archives, "install", "nuget", ...LIBRARIES],
    {
      cwd: directory,
    },
  );
  return status === 0 && readdirSync(directory).some((name) => name.startsWith("nuget_")) ? directory : null;
}

export const NUGET_DEBS = download();

/** Unpacks them on a host, and does what their own scripts would. */
export async function unpackNuget(host: Pick<ThrowawayHost, "exec" | "write">): Promise<void> {
  const directory = NUGET_DEBS ?? "";
  const must = async (...argv: string[]) => {
    const { status, stderr } = await host.exec(argv, { timeoutMs: 120_000 });
    if (status !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
  };
  for (const deb of readdirSync(directory).filter((name) => name.endsWith(".deb"))) {
    host.write(`/var/tmp/${deb}`, readFileSync(join(directory, deb)));
    // `dpkg-deb -x` would put a directory in the place of the link /lib.
    const unpack = 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C /';
    await must("sh", "-c", unpack, "sh", `/var/tmp/${deb}`);
  }
  await must("ldconfig");
  await must("update-alternatives", "--install", "/usr/bin/cli", "cli", "/usr/bin/mono", "200");
}
