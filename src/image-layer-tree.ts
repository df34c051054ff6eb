import { badArchive } from "./eco-archive.ts";
import type { LayerEntry } from "./image-layer-entry.ts";

/*
 * What a layer's entries make of an empty directory, as podman unpacks them with root's rights: containers/storage 1.43 (of podman 4.3),
 * pkg/archive/archive.go (Unpack, createTarFile) and archive_linux.go (overlay's whiteouts). Where podman would fail or follow a
 * link, the layer is refused.
 */

/** A file of the layer, under one or more paths. */
export interface LayerNode {
  kind: "file" | "directory" | "symlink" | "character device" | "block device" | "fifo" | "whiteout";
  mode: number;
  uid: number;
  gid: number;
  /** Nanoseconds; null where the layer says nothing: of whiteouts, and of directories that it has no entry for. */
  mtime: bigint | null;
  size: number;
  sha256: string | null;
  target: string | null;
  device: readonly [number, number] | null;
  xattrs: Map<string, Uint8Array>;
  /** Of a directory: what lower layers have in it is hidden. */
  isOpaque: boolean;
  /** Paths that it has. */
  links: number;
}

/** Whether a node is one that a user namespace can't make. */
export function isDevice({ kind }: LayerNode): boolean {
  return kind === "character device" || kind === "block device";
}

/** By path; "" is the root. A directory comes before what is in it. */
export type LayerTree = ReadonlyMap<string, LayerNode>;

/** Bytes of names, targets and attributes of one layer that are held in memory. */
const MAX_HELD = 128 * 2 ** 20;
/** The mode of an image's first root, where its layer has none. */
export const ROOT_MODE = 0o555;
/** The mode of directories without an entry. */
const IMPLICIT_MODE = 0o755;
/** What Go takes for the time of a file that claims to be older than this. */
const EPOCH = 0n;
export const CAPABILITY = "security.capability";
/** vfs_cap_data of linux/capability.h, version 2. */
const [CAPABILITY_SIZE, CAPABILITY_VERSION] = [20, 0x02];

export class LayerTreeBuilder {
  readonly #nodes: Map<string, LayerNode>;
  readonly #ids: number;
  #held = 0;

  /**
   * Users and groups from `ids` on can't be in the layer. A root without an entry gets `rootMode`: podman takes the mode, and not the
   * owner, of the root of the layer below.
   */
  constructor(ids: number, rootMode: number) {
    this.#ids = ids;
    this.#nodes = new Map([["", implicit(rootMode)]]);
  }

  get tree(): LayerTree {
    return this.#nodes;
  }

  /** @throws AegisError `refused` */
  add(entry: LayerEntry): void {
    const { path, kind, uid, gid } = entry;
    if (uid >= this.#ids || gid >= this.#ids)
      throw badArchive(
        `${shown(path)} belongs to user ${uid} and group ${gid}, and ${this.#ids - 1} is the highest`,
      );
    const attributes = keptXattrs(entry);
    this.#hold(path, entry.target ?? "");
    for (const [name, value] of attributes) this.#hold(name, "", value.length);
    const parent = kind === "opaque" ? path : parentOf(path);
    // Some tools mark both a directory and what was in it as removed; podman passes over the latter.
    if (!this.#hasParent(parent, kind === "whiteout")) return;
    if (kind === "directory") this.#addDirectory(entry, attributes);
    else if (kind === "opaque") this.#makeOpaque(path);
    else if (kind === "hard link") this.#addLink(entry, attributes);
    else this.#addFile(entry, kind, attributes);
  }

  #hold(one: string, other: string, more = 0): void {
    this.#held += one.length + other.length + more;
    if (this.#held > MAX_HELD) throw badArchive("its names and attributes are too long, taken together");
  }

  /** Makes missing directories; false if there is a whiteout in the place of one, and that is no mistake. */
  #hasParent(path: string, mayBeRemoved: boolean): boolean {
    const node = this.#nodes.get(path);
    if (node?.kind === "directory") return true;
    if (node?.kind === "whiteout" && mayBeRemoved) return false;
    if (node !== undefined) throw badArchive(`${shown(path)} is a ${node.kind} with something below it`);
    if (!this.#hasParent(parentOf(path), mayBeRemoved)) return false;
    this.#hold(path, "");
    this.#nodes.set(path, implicit(IMPLICIT_MODE));
    return true;
  }

  #makeOpaque(path: string): void {
    const node = this.#nodes.get(path);
    if (node === undefined || node.isOpaque) throw badArchive(`${shown(path)} is marked as opaque twice`);
    node.isOpaque = true;
  }

  #addDirectory({ path, mode, uid, gid, mtime }: LayerEntry, xattrs: Map<string, Uint8Array>): void {
    this.#vacate(path, "directory");
    const node = this.#nodes.get(path) ?? implicit(mode);
    this.#nodes.set(path, Object.assign(node, { mode, uid, gid, mtime: clamped(mtime), xattrs }));
  }

  #addFile(
    { path, mode, uid, gid, mtime, size, sha256, target, device }: LayerEntry,
    kind: Exclude<LayerNode["kind"], "directory">,
    xattrs: Map<string, Uint8Array>,
  ): void {
    const isWhiteout = kind === "whiteout";
    this.#vacate(path, kind);
    this.#nodes.set(path, {
      ...{ kind, uid, gid, size, sha256, target, xattrs, isOpaque: false, links: 1 },
      mode: isWhiteout ? 0 : kind === "symlink" ? 0o777 : mode,
      mtime: isWhiteout ? null : kind === "symlink" ? mtime : clamped(mtime),
      device: isWhiteout ? [0, 0] : device,
    });
  }

  /** A hard link gives its own owner, mode, time and attributes to what it links to. */
  #addLink({ path, target, mode, uid, gid, mtime }: LayerEntry, attributes: Map<string, Uint8Array>): void {
    this.#vacate(path, "hard link");
    const node = this.#nodes.get(target ?? "");
    const { kind } = node ?? {};
    if (node === undefined || (kind !== "file" && kind !== "symlink" && kind !== "fifo"))
      throw badArchive(`${shown(path)} is a hard link to ${kind ?? "what isn't there"}`);
    if (attributes.size > 0) refuseAttributes(kind, path, attributes);
    // Linux takes a file's capabilities away with its owner; podman doesn't set an owner that is the same.
    if (node.uid !== uid || node.gid !== gid) node.xattrs.delete(CAPABILITY);
    Object.assign(node, { uid, gid }, kind === "symlink" ? {} : { mode, mtime: clamped(mtime) });
    for (const [name, value] of attributes) node.xattrs.set(name, value);
    node.links++;
    this.#nodes.set(path, node);
  }

  /**
   * A path has one entry: podman refuses a second one. But a directory may come behind what is in it, and a file behind the mark that
   * removes it from the layers below, which it then takes the place of.
   */
  #vacate(path: string, kind: LayerEntry["kind"]): void {
    const node = this.#nodes.get(path);
    if (node === undefined || (node.kind === "directory" && node.mtime === null && kind === "directory"))
      return;
    if (node.kind !== "whiteout" || kind === "whiteout") throw badArchive(`${shown(path)} is in it twice`);
    this.#nodes.delete(path);
  }
}

function implicit(mode: number): LayerNode {
  return {
    ...{ kind: "directory", mode, uid: 0, gid: 0, mtime: null, size: 0, sha256: null, target: null },
    ...{ device: null, xattrs: new Map(), isOpaque: false, links: 1 },
  };
}

/**
 * The attributes that podman sets: those of programs, capabilities and IMA's signatures. SELinux's are the host's, and without a
 * namespace that Linux knows there are none. Others decide over access, or are overlayfs's own.
 */
function keptXattrs({ path, kind, xattrs }: LayerEntry): Map<string, Uint8Array> {
  const kept = new Map<string, Uint8Array>();
  for (const [name, value] of xattrs)
    if (name !== "security.selinux" && /^(?:user|security|trusted|system)\./.test(name))
      kept.set(name, value);
  if (kept.size > 0 && kind !== "hard link") refuseAttributes(kind, path, kept);
  return kept;
}

function refuseAttributes(kind: string, path: string, attributes: ReadonlyMap<string, Uint8Array>): void {
  for (const [name, value] of attributes) {
    const isOfFiles =
      name === "security.ima" ||
      (name === CAPABILITY && value.length === CAPABILITY_SIZE && value[3] === CAPABILITY_VERSION);
    const isOfPrograms = /^user\.(?!overlay\.)./.test(name);
    if ((isOfFiles && kind === "file") || (isOfPrograms && (kind === "file" || kind === "directory")))
      continue;
    throw badArchive(`${shown(path)} is a ${kind} with the attribute ${JSON.stringify(name.slice(0, 64))}`);
  }
}

function clamped(time: bigint): bigint {
  return time < EPOCH ? EPOCH : time;
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf("/"), 0));
}

function shown(path: string): string {
  return JSON.stringify(path.slice(0, 200));
}
