import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SystemdHost } from "./systemd-container.ts";
import { mustExec } from "./systemd-kit.ts";
import { NATIVE, type PackageDefinition } from "./throwaway-packages.ts";

/**
 * The distribution's own package under a higher version: the installed one is downloaded on the host and repacked with the
 * version changed. `directory` keeps the .deb for as long as the repository may serve it.
 */
export async function repacked(
  host: SystemdHost,
  name: string,
  suffix: string,
  directory: string,
): Promise<PackageDefinition> {
  const work = "/root/repack";
  const installed = (await mustExec(host, ["dpkg-query", "-W", "-f", "${Version}", name])).trim();
  const script = `set -e; rm -rf ${work}; mkdir -p ${work}; chmod 755 /root ${work}; cd ${work}
apt-get download -o APT::Sandbox::User=root ${name}=${installed} >&2
dpkg-deb -R ${name}_*.deb root; rm ${name}_*.deb
sed -i 's/^Version: .*/Version: ${installed}${suffix}/' root/DEBIAN/control
dpkg-deb --root-owner-group -Zgzip -z1 --build root out.deb >&2; cat root/DEBIAN/control`;
  const control = (await mustExec(host, ["sh", "-c", script])).trimEnd();
  const deb = join(mkdtempSync(join(directory, `${name}-`)), "out.deb");
  writeFileSync(deb, readFileSync(host.path(`${work}/out.deb`)));
  const record = `${control}\nFilename: @FILENAME@\nSize: @SIZE@\nSHA256: @SHA256@\n`;
  return { name, version: `${installed}${suffix}`, architecture: NATIVE, record, deb };
}

/** A directory for {@link repacked}, and its removal. */
export function repackDirectory(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "aegis-repack-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
