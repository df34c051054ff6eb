import { dirname, join } from "node:path";
import { SPACE_WARNING } from "./apt-grammar.ts";
import { heldBackReasons } from "./apt-held-back.ts";
import type { Simulation } from "./apt-simulation.ts";
import { findInstalled, type PackageFacts } from "./apt-transaction.ts";
import type { Outlook } from "./doc-outlook.ts";
import { isFetched, type TransactionEntry } from "./doc-plan.ts";
import type { Disk, Planning } from "./eco-planning.ts";
import { STATE } from "./sys-state.ts";
import { bytes } from "./terminal.ts";

/*
 * What an apt plan says besides the change of configuration files and disks. For people: nothing here is compared or judged.
 */

/** What people are told besides the change ({@link Outlook}), where somebody reads it, and what it makes planning warn about. */
export async function lookAhead(
  transaction: readonly TransactionEntry[],
  simulation: Simulation,
  held: readonly string[],
  facts: PackageFacts,
  statusPath: string,
  planning: Planning,
  config: string,
) {
  const { disk } = planning;
  if (disk === undefined) return { warnings: [] };
  const files = changedConffiles(transaction, facts, statusPath, planning, disk);
  const space = spaceNeeded(transaction, facts, planning, disk);
  const why =
    held.length === 0 ? [] : await heldBackReasons(held, simulation, facts.installed, planning, config);
  const outlook: Outlook = {
    ...(files.length > 0 ? { configuration_files: files } : {}),
    ...(space.length > 0 ? { space } : {}),
    ...(simulation.unneeded.length > 0 ? { unneeded: simulation.unneeded } : {}),
    ...(why.length > 0 ? { held_back: why } : {}),
  };
  return { outlook, warnings: spaceWarnings(space) };
}

type ConfigurationFiles = NonNullable<Outlook["configuration_files"]>;
type Space = NonNullable<Outlook["space"]>;

/** `<path> <md5>`, with `obsolete` or `remove-on-upgrade` behind it for files that the package no longer brings. */
const CONFFILE = /^(\/.*) ([0-9a-f]{32})$/;
/** Limit on the files listed. */
const MOST_FILES = 2000;

/**
 * The configuration files of packages that get another version whose content isn't what the installed version brought. dpkg keeps
 * them (--force-confold). Whether the new version brings something else is in its package file alone. What was deleted stays
 * deleted, and isn't listed.
 * @see dpkg(1), dpkg-divert(1)
 */
function changedConffiles(
  transaction: readonly TransactionEntry[],
  { installed, native }: Pick<PackageFacts, "installed" | "native">,
  statusPath: string,
  { readText }: Pick<Planning, "readText">,
  disk: Pick<Disk, "md5">,
): ConfigurationFiles {
  const diverted = diversions(readText(join(dirname(statusPath), "diversions")) ?? "");
  const files: ConfigurationFiles = [];
  for (const { name, architecture, action } of transaction) {
    if (action !== "upgrade" && action !== "downgrade") continue;
    for (const line of findInstalled(installed, name, architecture, native)?.conffiles ?? []) {
      const [, path, md5] = CONFFILE.exec(line) ?? [];
      if (path === undefined || md5 === undefined || files.length >= MOST_FILES) continue;
      const other = diverted.get(path);
      const found = disk.md5(other === undefined || other.by === name ? path : other.to);
      if (found === null || found === md5) continue;
      files.push({ package: name, path, state: found === "unreadable" ? "unknown" : "modified" });
    }
  }
  return files;
}

/** dpkg's diversions: three lines each, the path, where it is diverted to, and the package that keeps the path (`:` if local). */
function diversions(text: string): Map<string, { to: string; by: string }> {
  const lines = text.split("\n");
  const found = new Map<string, { to: string; by: string }>();
  for (let at = 0; at + 2 < lines.length; at += 3) {
    const [path = "", to = "", by = ""] = lines.slice(at, at + 3);
    found.set(path, { to, by });
  }
  return found;
}

const BOOT = "/boot";
/** A kernel's own package, not the metapackage: its postinst makes an initrd. */
const KERNEL_IMAGE = /^linux-image-(?:unsigned-)?\d/;
/** What a kernel puts below /boot. */
const BOOT_FILES = /^(?:vmlinuz|initrd\.img|System\.map|config)-/;

/**
 * What file systems must hold for a transaction, one entry each: package files, what unpacked packages grow by, and a new kernel's
 * files below /boot, which are taken to be as large as the largest there. Nearly all that packages bring is below /usr.
 */
function spaceNeeded(
  transaction: readonly TransactionEntry[],
  { shown, installed, native }: Pick<PackageFacts, "shown" | "installed" | "native">,
  { list }: Pick<Planning, "list">,
  disk: Pick<Disk, "size" | "space">,
): Space {
  const download = transaction.reduce((sum, { size }) => sum + (size ?? 0), 0);
  const grown = transaction.map((entry) => {
    const before = findInstalled(installed, entry.name, entry.architecture, native)?.installedSize ?? 0;
    const after = isFetched(entry)
      ? (shown.find(entry.name, entry.architecture, entry.to_version)?.installedSize ?? 0)
      : 0;
    return { growth: after - before, after };
  });
  // dpkg has both versions of one package on disk while it unpacks it.
  const largest = Math.max(0, ...grown.map(({ after }) => after));
  const growth = grown.reduce((sum, one) => sum + one.growth, 0);
  const kernels = transaction.filter(({ name, action }) => action === "install" && KERNEL_IMAGE.test(name));
  const needs: [path: string, needed: number][] = [
    [STATE.archives, download],
    ["/usr", Math.max(0, growth + largest)],
    [BOOT, kernels.length * kernelSize(list(BOOT), disk)],
  ];
  const root = disk.space("/")?.device;
  const found = new Map<number, Space[number]>();
  for (const [path, needed] of needs) {
    const space = needed === 0 ? null : disk.space(path);
    if (space === null) continue;
    const before = found.get(space.device);
    if (before !== undefined) before.needed += needed;
    else
      found.set(space.device, {
        path: space.device === root ? "/" : path,
        needed,
        available: space.available,
      });
  }
  return [...found.values()];
}

/** The largest file of each kind together. */
function kernelSize(names: readonly string[], { size }: Pick<Disk, "size">): number {
  const largest = new Map<string, number>();
  for (const name of names) {
    const kind = BOOT_FILES.exec(name)?.[0];
    if (kind !== undefined) largest.set(kind, Math.max(largest.get(kind) ?? 0, size(join(BOOT, name)) ?? 0));
  }
  return [...largest.values()].reduce((sum, one) => sum + one, 0);
}

/** Warnings about file systems that are too small. They may differ between plans of one change. */
function spaceWarnings(space: Space): string[] {
  return space
    .filter(({ needed, available }) => needed > available)
    .map(
      ({ path, needed, available }) =>
        `${SPACE_WARNING}not enough on ${path}: ${bytes(needed)} needed, ${bytes(available)} free`,
    );
}
