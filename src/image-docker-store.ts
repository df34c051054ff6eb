import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readdirSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { anyKeys, parseJson } from "./canonical.ts";
import type { HostState, RunSubject } from "./eco-driver.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { type BoltBucket, readBolt } from "./image-bolt.ts";
import { isImageConfig } from "./image-manifest.ts";
import { normalizeReference, pulledReference } from "./image-reference.ts";
import { isFlocked } from "./sys-ffi.ts";
import { hashOpenFile, readFileLimited } from "./sys-files.ts";

/*
 * The stores of docker's engine, as their files have them. Root reads them, so nobody's word is needed.
 *
 * The engine's own keeps no manifest: a reference stands for an image's id, the SHA-256 of its configuration, which the signed
 * manifest names, and which names the content of every layer. Layers are kept unpacked, each under what the engine says of it.
 * https://github.com/moby/moby/blob/v20.10.24/image/store.go, reference/store.go, layer/filestore.go
 *
 * containerd's has every file as it came from the registry, by its digest, and in a database what each reference stands for.
 * https://github.com/containerd/containerd/blob/v2.1.0/core/metadata/buckets.go, plugins/content/local/store.go
 */

const MAX_FILE = 32 * 1024 * 1024;
const Repositories = v.looseObject({
  Repositories: anyKeys(anyKeys(v.string())),
});
const Manifest = v.looseObject({ layers: v.array(v.looseObject({ digest: v.string() })) });
const Config = v.looseObject({ rootfs: v.looseObject({ diff_ids: v.array(v.string()) }) });

/** One place where docker's engine may keep its images. */
export interface ImageStore {
  path: string;
  /**
   * Every complete reference, with the digest that it stands for.
   * @throws AegisError `io` for a store that can't be read
   */
  images(): HostState;
  /** The digest that a pulled image stands for here. */
  expected(subject: RunSubject): string;
  /**
   * Why what is under the reference of a pulled image is not what was signed; null if it is.
   * @throws AegisError `io`
   */
  otherThan(subject: RunSubject): string | null;
  /** Whether an engine holds the store open. */
  isInUse(): boolean;
}

/** The complete reference that is pulled. */
export function pulledImage({ argv }: RunSubject): string {
  return argv.at(-1) ?? "";
}

/** The engine's own store, below its directory. */
export function engineStore(root: string): ImageStore {
  return {
    path: root,
    images: () => imagesIn(root),
    expected: configOf,
    otherThan: (subject) => otherThan(configOf(subject), pulledImage(subject), root),
    // The engine is the only one that has it, and it answers.
    isInUse: () => true,
  };
}

/** The store of a containerd that keeps its state in this directory. */
export function containerdStore(path: string): ImageStore {
  const database = join(path, "io.containerd.metadata.v1.bolt/meta.db");
  const read = <T>(use: (docker: BoltBucket | null) => T): T | null => {
    try {
      return readBolt(database, (root) => use(root.bucket("v1")?.bucket("moby") ?? null));
    } catch (error) {
      throw unreadable(path, error);
    }
  };
  const images = () => read(imagesOfDocker) ?? {};
  return {
    path,
    images,
    expected: signedDigest,
    otherThan(subject) {
      const [found, wanted] = [images()[pulledImage(subject)], signedDigest(subject)];
      if (found !== wanted) return `docker's store has ${found} under the signed digest, not ${wanted}`;
      const [top] = subject.transaction;
      if (top?.to_version !== wanted) return "the signed plan doesn't begin with the signed digest";
      const blobs = join(path, "io.containerd.content.v1.content/blobs");
      const missing = new Set<string>();
      for (const { to_version, size } of subject.transaction) {
        const digest = to_version ?? "";
        const blob = blobOf(blobs, digest, size);
        if (blob === "missing") missing.add(digest);
        else if (blob !== "same") return blob.other;
      }
      // A layer is not fetched if another image brought the same files, packed in another way.
      if (missing.size > 0)
        for (const layer of unpackedLayers(subject, blobs, read(snapshotsOfDocker))) missing.delete(layer);
      const [lacks] = missing;
      return lacks === undefined ? null : `docker's store lacks ${lacks}`;
    },
    isInUse: () => isHeldOpen(database),
  };
}

function signedDigest(subject: RunSubject): string {
  return pulledImage(subject).split("@").at(-1) ?? "";
}

/** What the references of docker's namespace stand for. */
function imagesOfDocker(docker: BoltBucket | null): HostState {
  const images = docker?.bucket("images");
  const names = images?.buckets() ?? [];
  return Object.fromEntries(
    names.map((name) => {
      const digest = images?.bucket(name)?.bucket("target")?.value("digest")?.toString("utf8") ?? "nothing";
      return [name.slice(0, 1024), digest.slice(0, 1024)];
    }),
  );
}

/** Layers that were unpacked in docker's namespace, by the digest of them and all below. */
function snapshotsOfDocker(docker: BoltBucket | null): ReadonlySet<string> {
  const snapshots = docker?.bucket("snapshots");
  const names = snapshots?.buckets() ?? [];
  return new Set(names.flatMap((name) => snapshots?.bucket(name)?.buckets() ?? []));
}

/**
 * The layers of a pulled image that the engine has unpacked. containerd compared what it unpacked with the digests in a configuration,
 * which are those in the signed one.
 */
function* unpackedLayers(
  subject: RunSubject,
  blobs: string,
  snapshots: ReadonlySet<string> | null,
): Generator<string> {
  const config = configOf(subject);
  const above = subject.transaction.find((_, at, all) => all[at + 1]?.to_version === config)?.to_version;
  const [manifest, configuration] = [above ?? "", config].map((digest) =>
    textOf(join(blobs, ...pathOf(digest))),
  );
  if (manifest == null || configuration == null) return;
  if (digestOf(manifest) !== above || digestOf(configuration) !== config) return;
  const { layers } = parsed(Manifest, manifest, blobs);
  const { diff_ids } = parsed(Config, configuration, blobs).rootfs;
  if (layers.length !== diff_ids.length) return;
  for (const [at, chain] of chainsOf(diff_ids).entries())
    if (snapshots?.has(chain) === true) yield layers[at]?.digest ?? "";
}

/** https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#layer-chainid */
function chainsOf(diffs: readonly string[]): string[] {
  let chain = "";
  return diffs.map((diff) => {
    chain = chain === "" ? diff : digestOf(`${chain} ${diff}`);
    return chain;
  });
}

/** Whether a file of the store is the one with this digest and size; otherwise what it is. */
function blobOf(blobs: string, digest: string, size: number | null): "same" | "missing" | { other: string } {
  let fd: number;
  try {
    fd = openSync(
      join(blobs, ...pathOf(digest)),
      constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW,
    );
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "missing";
    throw unreadable(blobs, error);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size !== size)
      return { other: `docker's store has ${stat.size} bytes as ${digest}, not ${size}` };
    const { sha256 } = hashOpenFile(fd);
    if (`sha256:${sha256}` === digest) return "same";
    return { other: `docker's store has other bytes (sha256:${sha256}) as ${digest}` };
  } finally {
    closeSync(fd);
  }
}

/** bbolt locks a database that it may write: https://github.com/etcd-io/bbolt/blob/v1.4.3/bolt_unix.go */
function isHeldOpen(path: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch {
    return false;
  }
  try {
    return isFlocked(fd);
  } finally {
    closeSync(fd);
  }
}

/** The digest of the configuration, which is the image's id. */
function configOf({ transaction }: RunSubject): string {
  return transaction.find(({ media_type }) => isImageConfig(media_type ?? ""))?.to_version ?? "";
}

function imagesIn(root: string): HostState {
  const found: Record<string, string> = {};
  for (const driver of driversIn(root)) {
    const text = textOf(join(root, "image", driver, "repositories.json"));
    if (text === null) continue;
    for (const references of Object.values(parsed(Repositories, text, root).Repositories))
      for (const [reference, id] of Object.entries(references)) found[completed(reference)] = id;
  }
  return found;
}

/** The store has familiar names: `debian:12` for `docker.io/library/debian:12`. */
function completed(reference: string): string {
  try {
    return pulledReference(normalizeReference(reference));
  } catch {
    return reference.slice(0, 1024);
  }
}

/** Why the image under a complete reference is not the one whose configuration has this digest, with all its layers; null if it is. */
function otherThan(config: string, reference: string, root: string): string | null {
  const id = imagesIn(root)[reference];
  if (id !== config) return `docker's store has ${id} under the signed digest, not ${config}`;
  const driver = driversIn(root).find((name) => textOf(contentOf(root, name, id)) !== null);
  const text = driver === undefined ? null : textOf(contentOf(root, driver, id));
  if (driver === undefined || text === null) return `docker's store lacks the configuration ${id}`;
  if (digestOf(text) !== id) return `docker's store has another configuration as ${id}`;
  const { diff_ids } = parsed(Config, text, root).rootfs;
  for (const [at, chain] of chainsOf(diff_ids).entries()) {
    const registered = textOf(join(root, "image", driver, "layerdb", ...pathOf(chain), "diff"));
    if (registered?.trim() !== diff_ids[at]) return `docker's store lacks the layer ${diff_ids[at]}`;
  }
  return null;
}

function contentOf(root: string, driver: string, id: string): string {
  return join(root, "image", driver, "imagedb/content", ...pathOf(id));
}

/** The parts of a digest as the store's directories have them; a text that is none becomes a name that isn't there. */
function pathOf(digest: string): string[] {
  return /^sha256:[0-9a-f]{64}$/.test(digest) ? digest.split(":") : ["none"];
}

function digestOf(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

function driversIn(root: string): string[] {
  try {
    return readdirSync(join(root, "image")).sort();
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw unreadable(root, error);
  }
}

function textOf(path: string): string | null {
  try {
    return Buffer.from(readFileLimited(path, MAX_FILE)).toString("utf8");
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return null;
    throw unreadable(path, error);
  }
}

function parsed<S extends v.GenericSchema>(schema: S, text: string, root: string): v.InferOutput<S> {
  try {
    return v.parse(schema, parseJson(text));
  } catch (error) {
    throw unreadable(root, error);
  }
}

function unreadable(path: string, error: unknown): AegisError {
  return new AegisError("io", `docker's store at ${path} can't be read: ${messageOf(error)}`);
}
