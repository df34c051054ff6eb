import type { DpkgPackage } from "./apt-dpkg.ts";
import { compareDebVersions } from "./apt-target.ts";
import type { Outlook } from "./doc-outlook.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import type { UnitFiles } from "./sys-processes.ts";

/*
 * What only a reboot brings: another kernel, microcode and firmware, and new code of D-Bus, which can't be restarted under those that
 * speak by it. systemd is no such case: its own maintainer script and libc6's re-execute it (Debian's systemd.postinst, libc6.postinst).
 * dbus.postinst asks for a reboot, libc6.postinst recommends one. In a container only the last two count.
 */

/** The part of the host that is read. */
export interface RebootHost {
  /** Null for what can't be read. */
  readText(path: string): string | null;
  /** When a file last changed, in milliseconds since the epoch; null if it can't be told. */
  changedAt(path: string): number | null;
  /** When the system was started, in milliseconds since the epoch. */
  bootedAt: number;
}

/** Kernel images by their release; meta packages have none, and debug symbols are no kernel. */
const KERNEL = /^(?:linux-image|proxmox-kernel|pve-kernel)-(?:unsigned-)?(\d\S*?)(?:-signed)?$/;
const MICROCODE = /^(?:intel|amd64)-microcode$/;
const FIRMWARE = /^(?:firmware-\S+|linux-firmware|raspi-firmware)$/;
/** What D-Bus is kept for: its own packages, and the library that every attack on a service comes by. */
const BUS_PACKAGES = /^(?:dbus|dbus-daemon|dbus-broker|libdbus-1-3|libc6)$/;
const BUS_FILES = /\/(?:dbus-daemon|dbus-broker\S*|libdbus-1\.so\S*|libc\.so\.6|ld-linux\S*)$/;
const INIT_FILES = /\/(?:systemd|libsystemd-(?:core|shared)-\S+|libc\.so\.6|ld-linux\S*)$/;
const BUS = /^dbus(?:-broker)?\.service$/;
const MOST = 16;

/** The reasons that a plan's transaction brings. `units` are those that execute files of its packages. */
export function rebootAhead(
  transaction: readonly Pick<TransactionEntry, "name" | "action" | "from_version" | "to_version">[],
  units: NonNullable<Outlook["services"]>["units"],
  installed: ReadonlyMap<string, DpkgPackage>,
  host: Pick<RebootHost, "readText">,
): string[] {
  const coming = transaction.filter(({ action }) => action !== "remove" && action !== "configure");
  const reasons: string[] = [];
  const running = runningKernel(installed, host);
  if (running !== null) {
    const own = transaction.find(({ name }) => releaseOf(name) === running);
    const newer = newest(
      coming.map(({ name }) => name),
      running,
    );
    if (newer !== null) reasons.push(newerText(newer, running));
    if (own?.action === "remove")
      reasons.push(`${own.name}, the package of the running kernel, is removed with its modules`);
    else if (own !== undefined && own.from_version !== null && own.action !== "configure")
      reasons.push(
        `${own.name}, the package of the running kernel, goes from ${own.from_version} to ${own.to_version}`,
      );
  }
  const loaded = coming.map(({ name }) => name).filter(isLoadedAtBoot);
  if (loaded.length > 0 && isBareMetal(host)) reasons.push(`${loaded.join(", ")}: loaded at the next boot`);
  for (const { unit, packages } of units) {
    const kept = BUS.test(unit) ? packages.filter((name) => BUS_PACKAGES.test(name)) : [];
    if (kept.length > 0)
      reasons.push(`${unit} can't be restarted in a running system and keeps the old ${kept.join(", ")}`);
  }
  return reasons.slice(0, MOST);
}

/** The reasons that there are now, whoever changed the packages. */
export function rebootDue(
  installed: ReadonlyMap<string, DpkgPackage>,
  units: readonly UnitFiles[],
  host: RebootHost,
): string[] {
  const reasons: string[] = [];
  const present = [...installed.values()].filter(({ state }) => state !== "config-files");
  const isNew = (name: string, architecture: string) =>
    (host.changedAt(`/var/lib/dpkg/info/${name}.list`) ??
      host.changedAt(`/var/lib/dpkg/info/${name}:${architecture}.list`) ??
      0) > host.bootedAt;
  const running = runningKernel(installed, host);
  if (running !== null) {
    const newer = newest(
      present.map(({ name }) => name),
      running,
    );
    if (newer !== null) reasons.push(newerText(newer, running));
    const known = [...installed.values()].filter(({ name }) => releaseOf(name) === running);
    const own = known.find(({ state }) => state !== "config-files");
    if (own === undefined && known[0] !== undefined)
      reasons.push(`${known[0].name}, the package of the running kernel, was removed with its modules`);
    else if (own !== undefined && isNew(own.name, own.architecture))
      reasons.push(`${own.name}, the package of the running kernel, was replaced after this boot`);
  }
  const loaded = present.filter(
    ({ name, architecture }) => isLoadedAtBoot(name) && isNew(name, architecture),
  );
  if (loaded.length > 0 && isBareMetal(host))
    reasons.push(`${loaded.map(({ name }) => name).join(", ")}: changed after this boot, loaded at the next`);
  for (const { unit, old } of units) {
    const names = (pattern: RegExp) => old.flatMap(({ path }) => (pattern.test(path) ? [path] : []));
    const [bus, init] = [
      BUS.test(unit) ? names(BUS_FILES) : [],
      unit === "init.scope" ? names(INIT_FILES) : [],
    ];
    if (bus.length > 0)
      reasons.push(`${unit} can't be restarted in a running system and still runs the old ${bus.join(", ")}`);
    if (init.length > 0)
      reasons.push(
        `systemd itself still runs the old ${init.join(", ")}; systemctl daemon-reexec loads the new`,
      );
  }
  // Written by maintainer scripts of Ubuntu's packages and some of Debian's, through update-notifier or reboot-notifier.
  if (host.readText("/run/reboot-required") !== null) {
    const packages = new Set((host.readText("/run/reboot-required.pkgs") ?? "").split("\n").filter(Boolean));
    const whose = packages.size === 0 ? "" : `, written for ${[...packages].slice(0, 20).join(", ")}`;
    reasons.push(`/run/reboot-required is there${whose}`);
  }
  return reasons.slice(0, MOST);
}

/**
 * The release of the running kernel if it is a package's. Null in containers, which have no kernel of their own (the marks of
 * systemd-detect-virt(1)), and where the machine is given its kernel from outside: no package can replace that.
 */
function runningKernel(
  installed: ReadonlyMap<string, DpkgPackage>,
  { readText }: Pick<RebootHost, "readText">,
): string | null {
  if (isContainer(readText)) return null;
  const release = (readText("/proc/sys/kernel/osrelease") ?? "").trim();
  const isPackaged = [...installed.values()].some(({ name }) => releaseOf(name) === release);
  // Purged meanwhile: the distributions' builds name themselves.
  return isPackaged || /\b(?:Debian|Ubuntu)\b/.test(readText("/proc/version") ?? "") ? release : null;
}

function isContainer(readText: RebootHost["readText"]): boolean {
  return ["/run/systemd/container", "/run/.containerenv", "/.dockerenv"].some(
    (path) => readText(path) !== null,
  );
}

/** Microcode and firmware of a virtual machine are its host's. */
function isBareMetal({ readText }: Pick<RebootHost, "readText">): boolean {
  return !isContainer(readText) && !/^flags\s*:.*\bhypervisor\b/m.test(readText("/proc/cpuinfo") ?? "");
}

function isLoadedAtBoot(name: string): boolean {
  return MICROCODE.test(name) || FIRMWARE.test(name);
}

function releaseOf(name: string): string | null {
  const release = KERNEL.exec(name)?.[1];
  return release === undefined || /-dbg(?:sym)?$/.test(release) ? null : release;
}

/** The newest of these kernels if it is newer than `running`. The flavour at the end (`-cloud-amd64`) has no part in it. */
function newest(names: readonly string[], running: string): string | null {
  const version = (release: string) => release.replace(/-[a-z].*$/, "");
  let best: { name: string; version: string } = { name: "", version: version(running) };
  for (const name of names) {
    const release = releaseOf(name);
    if (release !== null && compareDebVersions(version(release), best.version) > 0)
      best = { name, version: version(release) };
  }
  return best.name === "" ? null : best.name;
}

function newerText(name: string, running: string): string {
  return `${name} is newer than the running kernel, ${running}`;
}
