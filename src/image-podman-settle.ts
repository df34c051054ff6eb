import {
  copyFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import type { Difference } from "./doc-result.ts";
import type { ManagedStore } from "./eco-managed.ts";
import { AegisError, messageOf } from "./errors.ts";
import { isDevice, type LayerNode, type LayerTree } from "./image-layer-tree.ts";
import { makesLayer } from "./image-podman-split.ts";
import {
  layerPath,
  layerTexts,
  linkName,
  pullRecord,
  type SignedImage,
  STORAGE,
  signedImage,
  storedDocument,
  type UnpackedLayer,
} from "./image-podman-store.ts";
import { compareLayer, readLayerTree, settleLayer } from "./image-unpack.ts";
import { readFileLimited } from "./sys-files.ts";

/*
 * What podman has left of one pull, compared with the signed image, and made what root keeps: of podman's own files only the layers'
 * directories, each compared with its layer file by file; everything else root writes itself.
 */

const MAX_LIST = 4 * 1024 * 1024;
const LISTED = v.array(
  v.looseObject({ id: v.string(), digest: v.string(), names: v.array(v.string()), layer: v.string() }),
);
/** Names below podman's `overlay` that aren't layers. */
const NO_LAYER = /^(?:l|\.has-mount-program|backingFsBlockDev|staging)$/;

export const settlePodman: ManagedStore["settle"] = async ({ files, left, stage, firstUser, note }) => {
  const image = signedImage(files);
  if (readdirSync(realDirectory(left, STORAGE)).includes("vfs-images"))
    throw new AegisError("unavailable", "podman can't use overlayfs here, and copies every layer instead");
  const found = [...listDifferences(left, image), ...documentDifferences(left, image)];
  const overlay = realDirectory(left, STORAGE, "overlay");
  const ids = new Set(image.layers.map(({ id }) => id));
  for (const name of readdirSync(overlay))
    if (!ids.has(name) && !NO_LAYER.test(name)) found.push(difference(`layer ${name}`, null, "there"));
  if (found.length > 0) return found;
  const unpacked: UnpackedLayer[] = [];
  const lower: LayerTree[] = [];
  let rootMode: number | null = null;
  for (const [i, { id, diffId, file }] of image.layers.entries()) {
    const diff = realDirectory(left, STORAGE, "overlay", id, "diff");
    const { tree, bytes, diffId: read, ...layer } = await readLayerTree(file.path, rootMode);
    rootMode = layer.rootMode;
    if (read !== diffId) return [difference(`layer ${id}`, diffId, read)];
    const differences = await compareLayer(diff, tree, { base: firstUser });
    if (differences.length > 0) return differences;
    const settled = hostLayer(tree, lower, (path) => note(`${path} in a layer is a device, and left out`));
    await settleLayer(diff, settled);
    lower.push(tree);
    unpacked.push({ bytes, ...ownersIn(tree) });
    layLayer(image, i, diff, stage);
    const split = join(STORAGE, "overlay-layers", `${id}.tar-split.gz`);
    if (
      isFile(join(left, split)) &&
      (await makesLayer(join(left, split), join(stage, layerPath(id), "diff"), diffId))
    )
      copyInto(stage, split, join(left, split));
    else note(`podman can't save or push an image with the layer ${diffId} from here: a path is in it twice`);
  }
  layDocuments(image, unpacked, stage);
  return [];
};

/** podman's list of images: the signed one, under its reference, and no other. */
function listDifferences(left: string, image: SignedImage): Difference[] {
  const path = join(realDirectory(left, STORAGE, "overlay-images"), "images.json");
  let list: v.InferOutput<typeof LISTED>;
  try {
    refuseLink(path);
    list = v.parse(LISTED, parseJson(readFileLimited(path, MAX_LIST).toString("utf8")));
  } catch (error) {
    throw new AegisError("hash_mismatch", `podman's list of images can't be read: ${messageOf(error)}`);
  }
  const say = (one: { id: string; digest: string; names: readonly string[]; layer: string }) =>
    `${one.id} ${one.digest} ${one.names.join(" ")} ${one.layer}`;
  const { id, digest, reference, layers } = image;
  const expected = say({ id, digest, names: [reference], layer: layers.at(-1)?.id ?? "" });
  const told = list.map(say).join(", ");
  return told === expected ? [] : [difference("podman's list of images", expected, told.slice(0, 500))];
}

/** The documents that podman keeps, by their bytes. */
function documentDifferences(left: string, { id, documents }: SignedImage): Difference[] {
  realDirectory(left, STORAGE, "overlay-images", id);
  return [...documents].flatMap(([name, file]) => {
    const path = join(left, storedDocument(id, name));
    refuseLink(path);
    const bytes = readFileLimited(path, file.size);
    return Buffer.compare(bytes, readFileLimited(file.path, file.size)) === 0
      ? []
      : [difference(name, `sha256:${file.sha256}`, "something else")];
  });
}

/**
 * What a layer is on this host, where nothing is root's of a namespace and nothing may make devices: those are left out, as podman leaves
 * them out in one, and so are signatures for the kernel's integrity checks. Directories that hide all of the layers below
 * have a mark that takes CAP_SYS_ADMIN: they get a whiteout for each name below instead, which means the same.
 */
function hostLayer(tree: LayerTree, lower: readonly LayerTree[], leftOut: (path: string) => void): LayerTree {
  const host = new Map<string, LayerNode>();
  for (const [path, node] of tree) {
    if (isDevice(node)) {
      leftOut(path);
      continue;
    }
    node.xattrs.delete("security.ima");
    host.set(path, node);
  }
  const names = lower.map(namesByDirectory);
  const hide = (directory: string): void => {
    const below = new Set(names.flatMap((one) => [...(one.get(directory) ?? [])]));
    for (const name of below) {
      const path = directory === "" ? name : `${directory}/${name}`;
      const node = host.get(path);
      if (node === undefined) host.set(path, WHITEOUT);
      else if (node.kind === "directory" && !node.isOpaque) hide(path);
    }
  };
  for (const [path, node] of tree) if (node.isOpaque) hide(path);
  for (const node of host.values()) node.isOpaque = false;
  return host;
}

/** overlayfs's mark for a name that is hidden: the one device that takes no capability. */
const WHITEOUT: LayerNode = {
  ...{ kind: "character device", mode: 0, uid: 0, gid: 0, mtime: null, size: 0, sha256: null, target: null },
  ...{ device: [0, 0], xattrs: new Map(), isOpaque: false, links: 1 },
};

function namesByDirectory(tree: LayerTree): Map<string, string[]> {
  const names = new Map<string, string[]>();
  for (const path of tree.keys()) {
    if (path === "") continue;
    const slash = path.lastIndexOf("/");
    const directory = path.slice(0, Math.max(slash, 0));
    const list = names.get(directory);
    if (list === undefined) names.set(directory, [path.slice(slash + 1)]);
    else list.push(path.slice(slash + 1));
  }
  return names;
}

function ownersIn(tree: LayerTree): Pick<UnpackedLayer, "uids" | "gids"> {
  const nodes = [...tree.values()].filter(({ kind }) => kind !== "whiteout");
  const sorted = (ids: number[]) => [...new Set(ids)].sort((a, b) => a - b);
  return { uids: sorted(nodes.map(({ uid }) => uid)), gids: sorted(nodes.map(({ gid }) => gid)) };
}

/** Puts a layer's directory into the stage, with what podman has beside it. */
function layLayer({ layers }: SignedImage, i: number, diff: string, stage: string): void {
  const { id = "" } = layers[i] ?? {};
  const directory = join(stage, layerPath(id));
  mkdirSync(join(directory, "empty"), { recursive: true });
  renameSync(diff, join(directory, "diff"));
  for (const [name, text] of Object.entries(layerTexts(layers, i)))
    writeFileSync(join(directory, name), text);
  const links = join(stage, STORAGE, "overlay/l");
  mkdirSync(links, { recursive: true });
  symlinkSync(`../${id}/diff`, join(links, linkName(id)));
}

function layDocuments(image: SignedImage, unpacked: readonly UnpackedLayer[], stage: string): void {
  for (const [name, file] of image.documents) copyInto(stage, storedDocument(image.id, name), file.path);
  writeFileSync(placeIn(stage, storedDocument(image.id, `signature-${image.manifest.sha256}`)), "");
  const [path, text] = pullRecord(image, unpacked);
  writeFileSync(placeIn(stage, path), text);
}

function copyInto(stage: string, path: string, from: string): void {
  copyFileSync(from, placeIn(stage, path));
}

/** A path of the stage, whose directory is made. */
function placeIn(stage: string, path: string): string {
  mkdirSync(dirname(join(stage, path)), { recursive: true });
  return join(stage, path);
}

/** A directory that is reached by directories alone. @throws AegisError `hash_mismatch` */
function realDirectory(root: string, ...names: readonly string[]): string {
  let path = root;
  for (const name of names) {
    const there = readdirSync(path).slice(0, 20).join(", ");
    path = join(path, name);
    if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() !== true)
      throw new AegisError(
        "hash_mismatch",
        `podman has left no directory ${names.join("/")}: no ${name} among ${there.slice(0, 500)}`,
      );
  }
  return path;
}

function isFile(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function refuseLink(path: string): void {
  if (isFile(path)) return;
  throw new AegisError("hash_mismatch", `podman has left no file ${JSON.stringify(path.slice(-120))}`);
}

function difference(what: string, expected: string | null, found: string | null): Difference {
  return { package: what, architecture: "all", expected, found };
}
