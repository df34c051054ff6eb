import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { errnoOf } from "./errors.ts";

/*
 * Which files running processes execute, by unit, in one pass over /proc (proc_pid_maps(5), proc_pid_cgroup(5)). What a process only
 * reads, such as the source of a Python or Perl program, is no executable mapping and is not seen; a static program is its own.
 */

/** The part of the system that a look reads. Its functions throw as those of node:fs do. */
export interface ProcessSource {
  /** Names in /proc. */
  list(): string[];
  text(path: string): string;
  link(path: string): string;
  /** Device and inode of what a path leads to. */
  stat(path: string): { dev: number; ino: number };
}

/** A process, which a pid alone doesn't identify: pids are used again. */
interface RunningProcess {
  pid: number;
  /** In clock ticks since boot. */
  start: number;
}

/** A file that was replaced or removed, and what still executes it. */
interface OldFile {
  path: string;
  processes: RunningProcess[];
}

export interface UnitFiles {
  /** `nginx.service`; of a login `user-1000.slice`; for a process in no unit its name in parentheses. */
  unit: string;
  /** Files that it executes as they are now, sorted. */
  files: string[];
  old: OldFile[];
}

export interface ProcessLook {
  units: UnitFiles[];
  /** Processes that this user can't look into. */
  unseen: number;
}

export const HOST_PROCESSES: ProcessSource = {
  list: () => readdirSync("/proc"),
  text: (path) => readFileSync(path, "utf8"),
  link: (path) => readlinkSync(path),
  stat: (path) => statSync(path),
};

/** Where packages install code. Others than dpkg's, /usr/local, and what is made at run time (memfd, /tmp, /dev) are left out. */
const CODE = /^\/(?:usr\/(?!local\/)|opt\/|s?bin\/|lib[\w]*\/)/;
const MAPPING = /^\S+ ..x. \S+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(\/.*)$/gm;
const DELETED = " (deleted)";
/** dpkg's names for a file while it is exchanged (dpkg's src/main/archives.c); a process can have started in that moment. */
const EXCHANGED = /\.dpkg-(?:new|tmp)$/;

/** What runs now. A process that ends meanwhile is left out, and so are those of containers, whose files are not this host's. */
export function lookAtProcesses(source: ProcessSource = HOST_PROCESSES): ProcessLook {
  const host = { root: identityOf(source, "/"), mounts: orNull(() => source.link("/proc/self/ns/mnt")) };
  const prefix = unitPrefix(orNull(() => source.text("/proc/1/cgroup")) ?? "");
  const replaced = replacedOnDisk(source);
  const units = new Map<string, { files: Set<string>; old: Map<string, RunningProcess[]> }>();
  const self = orNull(() => source.link("/proc/self"));
  let unseen = 0;
  for (const pid of source.list()) {
    if (!/^\d+$/.test(pid) || pid === self) continue;
    try {
      const maps = source.text(`/proc/${pid}/maps`);
      // A kernel thread or a zombie.
      if (maps === "" || isElsewhere(pid, host, source)) continue;
      const name = unitOf(source.text(`/proc/${pid}/cgroup`), prefix) ?? processName(pid, source);
      const unit = units.get(name) ?? { files: new Set(), old: new Map() };
      units.set(name, unit);
      const old = new Set<string>();
      for (const { path, isOld } of mappedCode(maps, replaced)) {
        if (isOld) old.add(path);
        else unit.files.add(path);
      }
      if (old.size === 0) continue;
      const process = { pid: Number(pid), start: startOf(source.text(`/proc/${pid}/stat`)) };
      for (const path of old) unit.old.set(path, [...(unit.old.get(path) ?? []), process]);
    } catch (error) {
      if (isHidden(error, pid, source)) unseen++;
    }
  }
  return {
    units: [...units]
      .map(([unit, { files, old }]) => ({
        unit,
        files: [...files].sort(),
        old: [...old].map(([path, processes]) => ({ path, processes })).sort(byPath),
      }))
      .sort((a, b) => (a.unit < b.unit ? -1 : 1)),
    unseen,
  };
}

function byPath(a: OldFile, b: OldFile): number {
  return a.path < b.path ? -1 : 1;
}

/** The files that a process executes, each once; `isOld` if the path now means another file, or none. */
function* mappedCode(
  maps: string,
  isReplaced: (path: string, major: number, minor: number, inode: string) => boolean,
): Generator<{ path: string; isOld: boolean }> {
  for (const [, major = "", minor = "", inode = "", shown = ""] of maps.matchAll(MAPPING)) {
    const isDeleted = shown.endsWith(DELETED);
    const path = (isDeleted ? shown.slice(0, -DELETED.length) : shown).replace(EXCHANGED, "");
    if (!CODE.test(path)) continue;
    const isOld =
      isDeleted || isReplaced(path, Number.parseInt(major, 16), Number.parseInt(minor, 16), inode);
    yield { path, isOld };
  }
}

/**
 * Whether a path leads to another file than the mapped one. Where the file system has no device of its own (btrfs, overlayfs, NFS: major
 * number 0) maps and stat(2) needn't agree on the numbers, and only the kernel's word that the file was deleted counts.
 */
function replacedOnDisk(source: ProcessSource) {
  const known = new Map<string, { dev: number; ino: number } | null>();
  return (path: string, major: number, minor: number, inode: string): boolean => {
    let file = known.get(path);
    if (file === undefined) {
      file = orNull(() => source.stat(path));
      known.set(path, file);
    }
    if (file === null) return false;
    const [onDiskMajor, onDiskMinor] = deviceNumbers(file.dev);
    if (major === 0 || onDiskMajor === 0) return false;
    return onDiskMajor !== major || onDiskMinor !== minor || String(file.ino) !== inode;
  };
}

/** Major and minor number (gnu_dev_major and gnu_dev_minor of glibc's sys/sysmacros.h). */
function deviceNumbers(dev: number): [number, number] {
  const high = Math.floor(dev / 2 ** 32);
  const low = dev % 2 ** 32;
  return [((low >>> 8) & 0xfff) | (high & ~0xfff), (low & 0xff) | ((low >>> 12) & ~0xff)];
}

/**
 * Whether a process has another root directory in another mount namespace: a container's. A service in a sandbox has a mount namespace
 * with the host's root, and a daemon that changed its root directory alone had loaded the host's libraries.
 */
function isElsewhere(
  pid: string,
  host: { root: string | null; mounts: string | null },
  source: ProcessSource,
): boolean {
  if (source.link(`/proc/${pid}/ns/mnt`) === host.mounts) return false;
  return identityOf(source, `/proc/${pid}/root/`) !== host.root;
}

function identityOf(source: ProcessSource, path: string): string | null {
  return orNull(() => {
    const { dev, ino } = source.stat(path);
    return `${dev}:${ino}`;
  });
}

/** The control group in systemd's hierarchy: the unified one, or one of its own. Where both are mounted, it may use either. */
function groupOf(cgroup: string): string {
  const unified = /^0::(.*)$/m.exec(cgroup)?.[1] ?? "/";
  return unified === "/" ? (/^\d+:name=systemd:(.*)$/m.exec(cgroup)?.[1] ?? "") : unified;
}

/** What all control groups of this system begin with, by that of process 1: not empty in some containers. */
function unitPrefix(cgroup: string): string {
  const group = groupOf(cgroup);
  return group.endsWith("/init.scope") ? group.slice(0, -"/init.scope".length) : "";
}

/** The unit of a process by its control group, as systemd's cg_path_get_unit; of logins the user's slice. Null if there is none. */
function unitOf(cgroup: string, prefix: string): string | null {
  const group = groupOf(cgroup);
  const parts = (group.startsWith(`${prefix}/`) ? group.slice(prefix.length) : group).split("/");
  const login = parts.find((part) => /^user-\d+\.slice$/.test(part));
  return login ?? parts.find((part) => /\.(?:service|scope|socket|mount|swap)$/.test(part)) ?? null;
}

function processName(pid: string, source: ProcessSource): string {
  return `(${source.text(`/proc/${pid}/comm`).trim()})`;
}

/** Field 22 of /proc/<pid>/stat; the second, the name in parentheses, may hold anything. */
function startOf(stat: string): number {
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? 0);
}

/** Whether the error means that this user may not look. Kernel threads have no command line, and everybody may read that. */
function isHidden(error: unknown, pid: string, source: ProcessSource): boolean {
  if (!["EACCES", "EPERM"].includes(errnoOf(error))) return false;
  return (orNull(() => source.text(`/proc/${pid}/cmdline`)) ?? "") !== "";
}

function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}
