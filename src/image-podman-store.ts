import { createHash } from "node:crypto";
import * as v from "valibot";
import { canonicalJson, parseJson, sha256Hex } from "./canonical.ts";
import type { SignedFile, Tree } from "./eco-managed.ts";
import { AegisError } from "./errors.ts";
import type { LayerSums } from "./image-layer.ts";
import {
  type ImageConfig,
  type ImageManifest,
  readImageConfig,
  readImageManifest,
} from "./image-manifest.ts";
import { readFileLimited } from "./sys-files.ts";

/*
 * The documents of podman's store, made from an image's signed files. podman's own say the same with other times and link names; root writes
 * these instead of trusting those.
 * https://github.com/containers/storage/blob/v1.43.0/images.go, layers.go, drivers/overlay/overlay.go
 */

const MAX_DOCUMENT = 32 * 1024 * 1024;
/** Where podman's `--root` lies below the managed root. */
export const STORAGE = "storage";
/** Root's records beside it: one for each image that was pulled. */
const PULLS = "pulls";
/** podman has the time of the pull here, which no signature knows: of an image it is that of its configuration, where that has one. */
const SOME_TIME = "2000-01-01T00:00:00Z";
/** Length of a layer's link name. podman's are random; here they follow from the layer. */
const LINK_CHARACTERS = 26;
const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** One layer of an image, with the file that it is unpacked from. */
interface SignedLayer {
  id: string;
  parent: string | null;
  /** Digest of the tar archive, by the image's configuration. */
  diffId: string;
  file: SignedFile;
}

/** An image, put together from the files of a plan. */
export interface SignedImage {
  /** `registry/name@sha256:…`, as in the signed argv. */
  reference: string;
  /** Digest of the reference. */
  digest: string;
  /** The configuration's digest in hex. */
  id: string;
  manifest: SignedFile;
  /** RFC 3339. */
  created: string;
  /** Index, manifest and configuration, by the names under which podman keeps them. */
  documents: ReadonlyMap<string, SignedFile>;
  layers: SignedLayer[];
}

/**
 * The image that a plan's files are.
 * @throws AegisError `refused` for files that are no image
 */
export function signedImage(files: readonly SignedFile[]): SignedImage {
  const [top] = files;
  if (top === undefined) throw incomplete("nothing");
  const byDigest = new Map(files.map((file) => [`sha256:${file.sha256}`, file]));
  const needed = (digest: string) => {
    const file = byDigest.get(digest);
    if (file === undefined) throw incomplete(digest);
    return file;
  };
  const manifest = manifestBelow(top, files);
  const { config: named, layers } = readManifest(manifest);
  const config = needed(named.digest);
  const { rootfs, created } = readConfig(config, manifest);
  const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/.test(created ?? "");
  const documents = new Map([
    [`sha256:${config.sha256}`, config],
    ...[top, manifest].map((file): [string, SignedFile] => [`manifest-sha256:${file.sha256}`, file]),
    ["manifest", manifest],
  ]);
  let parent: string | null = null;
  const signed = layers.map(({ digest }, i): SignedLayer => {
    const diffId = rootfs.diff_ids[i] ?? "";
    const hex = diffId.replace("sha256:", "");
    const layer = { id: parent === null ? hex : sha256Hex(`${parent}+${hex}`), parent, diffId };
    parent = layer.id;
    return { ...layer, file: needed(digest) };
  });
  const digest = `sha256:${top.sha256}`;
  return {
    ...{ reference: `${top.name}@${digest}`, digest, id: config.sha256 },
    created: isTime ? (created ?? SOME_TIME) : SOME_TIME,
    ...{ manifest, documents, layers: signed },
  };
}

function manifestBelow(top: SignedFile, files: readonly SignedFile[]): SignedFile {
  if (readDocument(top).kind === "manifest") return top;
  const below = files.find((file) => file !== top && file.mediaType?.includes("manifest") === true);
  if (below === undefined) throw incomplete("a manifest");
  return below;
}

function readManifest(file: SignedFile): ImageManifest {
  const document = readDocument(file);
  if (document.kind === "manifest") return document.manifest;
  throw incomplete("a manifest");
}

function readDocument(file: SignedFile) {
  return readImageManifest(readFileLimited(file.path, MAX_DOCUMENT), "");
}

function readConfig(config: SignedFile, manifest: SignedFile): ImageConfig {
  return readImageConfig(readFileLimited(config.path, MAX_DOCUMENT), readManifest(manifest));
}

function incomplete(what: string): AegisError {
  return new AegisError("refused", `the plan's files are no image: it lacks ${what}`);
}

/** Name of a document's file: as it is where that is a plain name, in base64 behind `=` otherwise. */
export function storedDocument(image: string, name: string): string {
  const isPlain = /^[a-z]+$/.test(name);
  return `${STORAGE}/overlay-images/${image}/${isPlain ? name : `=${Buffer.from(name).toString("base64")}`}`;
}

/** Directory of a layer. */
export function layerPath(id: string): string {
  return `${STORAGE}/overlay/${id}`;
}

/** The link to a layer, by which others name it. */
export function linkName(layer: string): string {
  const bits = createHash("sha256").update(layer).digest();
  return [...bits.subarray(0, LINK_CHARACTERS)].map((byte) => BASE32[byte % BASE32.length]).join("");
}

/** What a layer's files of text say: its link, and the links of those below it, the nearest first. */
export function layerTexts(layers: readonly SignedLayer[], i: number): Record<string, string> {
  const below = layers.slice(0, i).reverse();
  return {
    link: linkName(layers[i]?.id ?? ""),
    ...(below.length === 0 ? {} : { lower: below.map(({ id }) => `l/${linkName(id)}`).join(":") }),
  };
}

/** What is found out of a layer while it is unpacked. */
export interface UnpackedLayer extends Pick<LayerSums, "bytes"> {
  uids: readonly number[];
  gids: readonly number[];
}

const words = v.array(v.string());
const ImageEntry = v.looseObject({
  id: v.string(),
  names: words,
  "names-history": words,
  "big-data-names": words,
  "big-data-sizes": v.record(v.string(), v.number()),
  "big-data-digests": v.record(v.string(), v.string()),
});
const LayerEntry = v.looseObject({ id: v.string() });
/** Root's record of one pull. */
const Pull = v.strictObject({ reference: v.string(), image: ImageEntry, layers: v.array(LayerEntry) });
type Pull = v.InferOutput<typeof Pull>;

/** A pull's record, with its path. */
export function pullRecord(image: SignedImage, unpacked: readonly UnpackedLayer[]): [string, string] {
  const { reference, digest, id, created, manifest, documents, layers } = image;
  const sizes = new Map([...documents].map(([name, { size, sha256 }]) => [name, { size, sha256 }]));
  const signature = `signature-${manifest.sha256}`;
  sizes.set(signature, { size: 0, sha256: sha256Hex("") });
  const record: Pull = {
    reference,
    image: {
      ...{ id, digest, names: [reference], "names-history": [reference], layer: layers.at(-1)?.id },
      metadata: JSON.stringify({ "signatures-sizes": { [`sha256:${manifest.sha256}`]: [] } }),
      "big-data-names": [...sizes.keys()],
      "big-data-sizes": Object.fromEntries([...sizes].map(([name, { size }]) => [name, size])),
      "big-data-digests": Object.fromEntries(
        [...sizes].map(([name, { sha256 }]) => [name, `sha256:${sha256}`]),
      ),
      created,
    },
    layers: layers.map(({ id: layer, parent, diffId, file }, i) => ({
      id: layer,
      ...(parent === null ? {} : { parent }),
      created: SOME_TIME,
      ...{ "compressed-diff-digest": `sha256:${file.sha256}`, "compressed-size": file.size },
      ...{ "diff-digest": diffId, "diff-size": unpacked[i]?.bytes ?? 0 },
      ...compressionOf(diffId, file),
      ...{ uidset: unpacked[i]?.uids ?? [], gidset: unpacked[i]?.gids ?? [] },
    })),
  };
  return [`${PULLS}/${sha256Hex(reference)}.json`, canonicalJson(record)];
}

/** Of containers/storage, pkg/archive: Gzip and Zstd; nothing stands for none. */
function compressionOf(diffId: string, { sha256, mediaType = "" }: SignedFile): { compression?: number } {
  if (diffId === `sha256:${sha256}`) return {};
  return { compression: mediaType.endsWith("zstd") ? 4 : 2 };
}

/** The pulls that a tree has records of. @throws errors of the JSON parser and of valibot */
export function pullsIn(tree: Tree, read: (path: string, limit: number) => Uint8Array): Pull[] {
  return [...tree.keys()]
    .filter((path) => path.startsWith(`${PULLS}/`))
    .sort()
    .map((path) => v.parse(Pull, parseJson(Buffer.from(read(path, MAX_DOCUMENT)).toString("utf8"))));
}

/** podman's lists of images and layers. */
export function listsOf(pulls: readonly Pull[], tree: Tree): Record<string, string> {
  const images = new Map<string, Pull["image"]>();
  const layers = new Map<string, Pull["layers"][number]>();
  // Of two pulls of one image the one comes last whose manifest is the image's now.
  const isCurrent = ({ image }: Pull) => {
    const entry = tree.get(storedDocument(image.id, "manifest"));
    return entry?.kind === "file" && image["big-data-digests"]["manifest"] === `sha256:${entry.sha256}`;
  };
  for (const { image, layers: own } of pulls.toSorted(
    (a, b) => Number(isCurrent(a)) - Number(isCurrent(b)),
  )) {
    const other = images.get(image.id);
    images.set(image.id, other === undefined ? image : joined(other, image));
    for (const layer of own) if (!layers.has(layer.id)) layers.set(layer.id, layer);
  }
  return {
    [`${STORAGE}/overlay-images/images.json`]: JSON.stringify([...images.values()]),
    [`${STORAGE}/overlay-layers/layers.json`]: JSON.stringify([...layers.values()]),
  };
}

/** One image that was pulled by two references: for podman it has several names, and the manifests of both. */
function joined(one: Pull["image"], other: Pull["image"]): Pull["image"] {
  const all = (key: "names" | "names-history" | "big-data-names") => [
    ...new Set([...one[key], ...other[key]]),
  ];
  return {
    ...other,
    ...{
      names: all("names"),
      "names-history": all("names-history"),
      "big-data-names": all("big-data-names"),
    },
    "big-data-sizes": { ...one["big-data-sizes"], ...other["big-data-sizes"] },
    "big-data-digests": { ...one["big-data-digests"], ...other["big-data-digests"] },
  };
}

/** Paths of a store that belong to these pulls, or lie in what does. */
export function ownedBy(pulls: readonly Pull[]): (path: string) => boolean {
  const images = new Set(pulls.map(({ image }) => image.id));
  const layers = new Set(pulls.flatMap((pull) => pull.layers.map(({ id }) => id)));
  const links = new Set([...layers].map(linkName));
  return (path) => {
    if (path.startsWith(`${PULLS}/`)) return true;
    const [, directory, name = ""] = path.split("/");
    if (directory === "overlay-images") return images.has(name);
    if (directory === "overlay-layers") return layers.has(name.replace(/\.tar-split\.gz$/, ""));
    if (directory === "overlay") return layers.has(name) || links.has(path.split("/")[3] ?? "");
    return false;
  };
}
