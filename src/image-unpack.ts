import { createHash } from "node:crypto";
import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { Difference } from "./doc-result.ts";
import { AegisError } from "./errors.ts";
import { LAYER_LIMITS, type LayerLimits, type LayerSums, readLayer } from "./image-layer.ts";
import {
  CAPABILITY,
  isDevice,
  type LayerNode,
  type LayerTree,
  LayerTreeBuilder,
  ROOT_MODE,
} from "./image-layer-tree.ts";
import {
  deviceNumber,
  linkTarget,
  listNames,
  makeDevice,
  openBeneath,
  removeXattr,
  reopen,
  setMode,
  setOwner,
  setTime,
  setXattr,
  xattrsOf,
} from "./sys-beneath.ts";

/*
 * A layer that podman has unpacked in a user namespace: compared with the layer's file, path by path, and made what podman run by root
 * leaves. In the namespace owners are shifted, devices are left out, capabilities are bound to the namespace (capabilities(7), "Namespaced
 * file capabilities"), and opaque directories have a mark that the host's overlayfs doesn't heed.
 */

/** Users and groups that a layer may have: as many as the namespace has. */
const LAYER_IDS = 65_536;

/** Differences that are looked for: with more of them the layer is as wrong. */
const MAX_DIFFERENCES = 20;
const MAX_SHOWN = 200;
const CHUNK = 2 ** 20;
/** Files, and bytes, between two pauses for the process's other work. */
const [PAUSE_FILES, PAUSE_CHUNKS] = [500, 32];
/** SELinux labels every file by the host's policy, whatever the layer says. */
const LABEL = "security.selinux";

/**
 * Reads a layer's file, which the caller has compared with its digest. `rootMode` is what this returned for the layer below, null for the
 * lowest.
 * @throws AegisError `refused`, `io`
 */
export async function readLayerTree(
  file: string,
  rootMode: number | null,
  limits: LayerLimits = LAYER_LIMITS,
): Promise<LayerSums & { tree: LayerTree; rootMode: number }> {
  const builder = new LayerTreeBuilder(LAYER_IDS, rootMode ?? ROOT_MODE);
  const sums = await readLayer(file, (entry) => builder.add(entry), limits);
  return { ...sums, tree: builder.tree, rootMode: builder.tree.get("")?.mode ?? ROOT_MODE };
}

/** How a layer lies in its directory: as the namespace left it, whose user 0 is `base` outside; or settled. */
type LayerState = { base: number } | "settled";

/**
 * What is different in a directory from the layer that it is of; at most {@link MAX_DIFFERENCES}. Nobody but root may be able to change
 * the directory. Times are compared once they are settled.
 * @throws AegisError `io`
 */
export async function compareLayer(
  directory: string,
  tree: LayerTree,
  state: LayerState,
): Promise<Difference[]> {
  const root = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const comparison = new LayerComparison(root, tree, state);
    for (const [path, node] of tree) {
      if (comparison.found.length >= MAX_DIFFERENCES) break;
      await comparison.compare(path, node);
    }
    return comparison.found;
  } finally {
    closeSync(root);
  }
}

class LayerComparison {
  readonly found: Difference[] = [];
  readonly #root: number;
  readonly #tree: LayerTree;
  readonly #state: LayerState;
  /** Of files with more than one path. */
  readonly #inodes = new Map<LayerNode, bigint>();
  readonly #buffer = Buffer.alloc(CHUNK);
  #work = 0;

  constructor(root: number, tree: LayerTree, state: LayerState) {
    this.#root = root;
    this.#tree = tree;
    this.#state = state;
  }

  async compare(path: string, node: LayerNode): Promise<void> {
    await this.#pause(1 / PAUSE_FILES);
    const fd = openBeneath(this.#root, path);
    const isLeftOut = this.#state !== "settled" && isDevice(node);
    if (fd === null) {
      if (!isLeftOut) this.#differ(path, node.kind, null);
      return;
    }
    try {
      const stat = fstatSync(fd, { bigint: true });
      if (isLeftOut || kindOf(stat) !== kindOnDisk(node))
        this.#differ(path, isLeftOut ? null : node.kind, kindOf(stat));
      else await this.#compareNode(path, node, fd, stat);
    } finally {
      closeSync(fd);
    }
  }

  async #compareNode(path: string, node: LayerNode, fd: number, stat: BigIntStats): Promise<void> {
    const { kind, mode, mtime, device } = node;
    const base = this.#state === "settled" ? 0 : this.#state.base;
    const same = (what: string, expected: unknown, found: unknown) => {
      if (`${expected}` !== `${found}`) this.#differ(path, `${what} ${expected}`, `${what} ${found}`);
    };
    same("mode", mode.toString(8), (stat.mode & 0o7777n).toString(8));
    same("owner", `${node.uid + base}:${node.gid + base}`, `${stat.uid}:${stat.gid}`);
    if (this.#state === "settled" && mtime !== null) same("time", mtime, stat.mtimeNs);
    if (kind === "symlink" && Buffer.compare(linkTarget(fd), Buffer.from(node.target ?? "")) !== 0)
      this.#differ(path, `link to ${node.target}`, `link to ${linkTarget(fd)}`);
    if (device !== null) same("device", deviceNumber(device), stat.rdev);
    same("attributes", listed(xattrsFor(node, this.#state)), listed(withoutLabel(xattrsOf(fd))));
    if (kind === "directory") return this.#compareNames(path, fd);
    // One more than expected could be in the hands of whoever has the other name.
    same("paths of this file", node.links, stat.nlink);
    const first = this.#inodes.get(node);
    if (node.links > 1) this.#inodes.set(node, stat.ino);
    // What has several paths is read once.
    if (first !== undefined) return same("file", first, stat.ino);
    if (kind !== "file") return;
    same("size", node.size, stat.size);
    if (BigInt(node.size) === stat.size) same("SHA-256", node.sha256, await this.#hash(fd));
  }

  #compareNames(path: string, fd: number): void {
    for (const name of listNames(fd)) {
      const text = name.toString("utf8");
      const child = path === "" ? text : `${path}/${text}`;
      // Bytes that are no UTF-8 become another text, which no layer has.
      if (!text.includes("\uFFFD") && this.#tree.has(child)) continue;
      this.#differ(child, null, "there");
      if (this.found.length >= MAX_DIFFERENCES) return;
    }
  }

  async #hash(fd: number): Promise<string> {
    const file = reopen(fd);
    try {
      const hash = createHash("sha256");
      for (;;) {
        const length = readSync(file, this.#buffer);
        if (length === 0) return hash.digest("hex");
        hash.update(this.#buffer.subarray(0, length));
        if (length === CHUNK) await this.#pause(1 / PAUSE_CHUNKS);
      }
    } finally {
      closeSync(file);
    }
  }

  async #pause(work: number): Promise<void> {
    this.#work += work;
    if (this.#work < 1) return;
    this.#work = 0;
    await setImmediate();
  }

  #differ(path: string, expected: string | null, found: string | null): void {
    const cut = (text: string) => (text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);
    this.found.push({
      ...{ package: cut(`/${path}`), architecture: "all" },
      expected: expected === null ? null : cut(expected),
      found: found === null ? null : cut(found),
    });
  }
}

/**
 * Gives a compared directory the owners, modes, attributes and times of the layer, and makes what a user namespace can't have. Needs
 * CAP_CHOWN, FOWNER, DAC_OVERRIDE, FSETID, SETFCAP, MKNOD for devices, and SYS_ADMIN for opaque directories and IMA's signatures. What
 * was begun and not ended can only be removed.
 * @throws AegisError `io`; `evidence_mismatch` if the directory has changed since it was compared
 */
export async function settleLayer(directory: string, tree: LayerTree): Promise<void> {
  const root = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    // First, since directories get another time by it.
    for (const [path, node] of tree) if (isDevice(node)) makeMissing(root, path, node);
    const done = new Set<LayerNode>();
    let files = 0;
    for (const [path, node] of tree) {
      if (done.has(node)) continue;
      if (node.links > 1) done.add(node);
      if (++files % PAUSE_FILES === 0) await setImmediate();
      withOpen(root, path, (fd) => settleNode(fd, path, node));
    }
  } finally {
    closeSync(root);
  }
}

function makeMissing(root: number, path: string, { kind, device }: LayerNode): void {
  const slash = path.lastIndexOf("/");
  withOpen(root, path.slice(0, Math.max(slash, 0)), (fd) => {
    if (kind === "character device" || kind === "block device")
      makeDevice(fd, path.slice(slash + 1), kind, device ?? [0, 0]);
  });
}

function settleNode(fd: number, path: string, node: LayerNode): void {
  if (kindOf(fstatSync(fd, { bigint: true })) !== kindOnDisk(node)) throw changed(path);
  setOwner(fd, node.uid, node.gid);
  // The owner's change takes set-user-id bits and capabilities away: this order.
  if (node.kind !== "symlink") setMode(fd, node.mode);
  const expected = xattrsFor(node, "settled");
  for (const name of withoutLabel(xattrsOf(fd)).keys()) if (!expected.has(name)) removeXattr(fd, name);
  for (const [name, value] of expected) setXattr(fd, name, value);
  if (node.mtime !== null) setTime(fd, node.mtime);
}

function withOpen(root: number, path: string, use: (fd: number) => void): void {
  const fd = openBeneath(root, path);
  if (fd === null) throw changed(path);
  try {
    use(fd);
  } finally {
    closeSync(fd);
  }
}

function changed(path: string): AegisError {
  const shown = JSON.stringify(path.slice(0, MAX_SHOWN));
  return new AegisError("evidence_mismatch", `${shown} in a layer changed while it was checked`);
}

/** The attributes that a file has in a state. */
function xattrsFor({ kind, xattrs, isOpaque }: LayerNode, state: LayerState): Map<string, Uint8Array> {
  const expected = new Map(xattrs);
  if (isOpaque && kind === "directory")
    expected.set(state === "settled" ? "trusted.overlay.opaque" : "user.overlay.opaque", Buffer.from("y"));
  if (state === "settled") return expected;
  // Only root outside of the namespace can set these.
  expected.delete("security.ima");
  const capability = expected.get(CAPABILITY);
  // vfs_ns_cap_data, version 3: the same, and the namespace's root.
  if (capability !== undefined) {
    const bound = Buffer.concat([capability, Buffer.alloc(4)]);
    bound[3] = 3;
    bound.writeUInt32LE(state.base, capability.length);
    expected.set(CAPABILITY, bound);
  }
  return expected;
}

function withoutLabel(attributes: Map<string, Uint8Array>): Map<string, Uint8Array> {
  attributes.delete(LABEL);
  return attributes;
}

function listed(attributes: ReadonlyMap<string, Uint8Array>): string {
  const digest = (value: Uint8Array) => createHash("sha256").update(value).digest("hex").slice(0, 16);
  const short = (value: Uint8Array) =>
    value.length > 32 ? `sha256:${digest(value)}` : Buffer.from(value).toString("hex");
  return [...attributes]
    .map(([name, value]) => `${name}=${short(value)}`)
    .sort()
    .join(" ");
}

/** overlayfs's whiteouts are devices of number 0. */
function kindOnDisk({ kind }: LayerNode): string {
  return kind === "whiteout" ? "character device" : kind;
}

function kindOf(stat: BigIntStats): string {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  if (stat.isSymbolicLink()) return "symlink";
  if (stat.isCharacterDevice()) return "character device";
  if (stat.isBlockDevice()) return "block device";
  return stat.isFIFO() ? "fifo" : "socket";
}
