import { createHmac } from "node:crypto";
import { hostname } from "node:os";
import { AegisError } from "./errors.ts";
import type { Host } from "./operation-plan.ts";
import { BOOT_ID, bootId } from "./sys-boot.ts";

/** dpkg's name for what Node calls an architecture. */
const DPKG_ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: "amd64",
  arm64: "arm64",
  arm: "armhf",
  ia32: "i386",
  ppc64: "ppc64el",
  riscv64: "riscv64",
  s390x: "s390x",
};

/**
 * Which host this is and which of its boots, from files alone. `readText` gives a file's text, or null where it can't be
 * read. `boot` is the boot in the words of the unit, as {@link bootId} takes it.
 * @throws AegisError `unavailable` when the machine id is missing or was never set: without one, a plan could be applied
 * to any other host that lacks one; or when the boot has no id: then a plan could outlive it
 * @see machine-id(5), os-release(5), random(4)
 */
export function hostIdentity(
  readText: (path: string) => string | null,
  boot?: string,
): Host & { boot_id: string } {
  const machineId = (readText("/etc/machine-id") ?? "").trim();
  if (!/^[0-9a-f]{32}$/.test(machineId) || /^0+$/.test(machineId)) {
    throw new AegisError(
      "unavailable",
      "this host has no machine id (/etc/machine-id is missing or was never set), so plans can't be bound to it",
      "Run systemd-machine-id-setup as root, then try again.",
    );
  }
  const ownBoot = bootId(readText, boot);
  if (ownBoot === null) {
    throw new AegisError(
      "unavailable",
      `${BOOT_ID} can't be read, so plans can't be bound to this boot`,
      "Run aegis where /proc is mounted whole (not with ProcSubset=pid).",
    );
  }
  const release = osRelease(readText("/etc/os-release") ?? readText("/usr/lib/os-release") ?? "");
  return {
    hostname: hostname(),
    // machine-id(5) asks that the id itself is never shown, only a keyed hash of it.
    machine_id_hash: createHmac("sha256", machineId).update("aegis").digest("hex"),
    os_id: release.get("ID") ?? "linux",
    os_version: release.get("VERSION_ID") ?? "",
    architecture: dpkgArchitecture(readText("/var/lib/dpkg/arch")),
    boot_id: ownBoot,
  };
}

/** dpkg keeps its list of architectures, its own first, only on hosts that have foreign ones. */
function dpkgArchitecture(list: string | null): string {
  const native = list?.split("\n")[0]?.trim() ?? "";
  return native !== "" ? native : (DPKG_ARCHITECTURES[process.arch] ?? process.arch);
}

/** The assignments of an os-release file, quotes removed. */
function osRelease(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const match = /^([A-Z_]+)=(?:"([^"]*)"|'([^']*)'|(\S*))\s*$/.exec(line);
    if (match?.[1] !== undefined) values.set(match[1], match[2] ?? match[3] ?? match[4] ?? "");
  }
  return values;
}
