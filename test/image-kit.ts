import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { tar, tarEntry } from "./archive-kit.ts";
import { type RegistryAnswer, type StandIn, standInPlanning } from "./registry-kit.ts";

/*
 * A registry of our own with images: documents from words, digests made from the bytes.
 */

export const REGISTRY = "https://registry.example";
/** The repository of the images, and its name. */
export const NAME = "registry.example/team/app";
export const BASE = `${REGISTRY}/v2/team/app`;

export const digestOf = (bytes: Uint8Array | string) =>
  `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
export const OCI = "application/vnd.oci.image";
export const TYPES = {
  index: `${OCI}.index.v1+json`,
  manifest: `${OCI}.manifest.v1+json`,
  config: `${OCI}.config.v1+json`,
  layer: `${OCI}.layer.v1.tar+gzip`,
  list: "application/vnd.docker.distribution.manifest.list.v2+json",
  docker: "application/vnd.docker.distribution.manifest.v2+json",
} as const;

export interface FakeImage {
  architecture?: string;
  /** `config` of the configuration. */
  config?: Record<string, unknown>;
  /** Fields of the configuration that differ. */
  configuration?: Record<string, unknown>;
  layers?: readonly Buffer[];
  layerType?: string;
  /** Fields of the manifest that differ. */
  manifest?: Record<string, unknown>;
  created?: string;
}

export const layer = (text: string) => gzipSync(tar(tarEntry("hello", text)));

export interface MadeImage {
  /** The manifest's bytes and digest. */
  bytes: string;
  digest: string;
  /** Everything by digest, the manifest apart. */
  blobs: ReadonlyMap<string, Buffer>;
}

export function fakeImage(given: FakeImage = {}): MadeImage {
  const { architecture = "amd64", config = {}, layers = [layer("hello")], layerType = TYPES.layer } = given;
  const configuration = Buffer.from(
    JSON.stringify({
      ...{ architecture, os: "linux", created: given.created ?? "2026-11-01T10:00:00.123456789Z", config },
      rootfs: { type: "layers", diff_ids: layers.map((one) => digestOf(one)) },
      ...given.configuration,
    }),
  );
  const descriptor = (mediaType: string, bytes: Buffer) => ({
    mediaType,
    digest: digestOf(bytes),
    size: bytes.length,
  });
  const bytes = JSON.stringify({
    schemaVersion: 2,
    mediaType: TYPES.manifest,
    config: descriptor(TYPES.config, configuration),
    layers: layers.map((one) => descriptor(layerType, one)),
    ...given.manifest,
  });
  const blobs = new Map([configuration, ...layers].map((one) => [digestOf(one), one]));
  return { bytes, digest: digestOf(bytes), blobs };
}

/** An index of images, each with a platform. */
export function fakeIndex(
  images: readonly (readonly [MadeImage, Record<string, string> | null, Record<string, string>?])[],
  over: Record<string, unknown> = {},
): { bytes: string; digest: string } {
  const manifests = images.map(([{ bytes, digest }, platform, annotations]) => ({
    ...{ mediaType: TYPES.manifest, digest, size: Buffer.byteLength(bytes) },
    ...(platform === null ? {} : { platform }),
    ...(annotations === undefined ? {} : { annotations }),
  }));
  const bytes = JSON.stringify({ schemaVersion: 2, mediaType: TYPES.index, manifests, ...over });
  return { bytes, digest: digestOf(bytes) };
}

export const AMD64 = { architecture: "amd64", os: "linux" };

/** What the registry answers for images, and for tags that stand for one of the documents. */
export function imageAnswers(
  documents: readonly { bytes: string; digest: string; blobs?: MadeImage["blobs"] }[],
  tags: Readonly<Record<string, { bytes: string }>> = {},
): Record<string, RegistryAnswer> {
  const answers: Record<string, RegistryAnswer> = {};
  for (const { bytes, digest, blobs = new Map() } of documents) {
    answers[`${BASE}/manifests/${digest}`] = bytes;
    for (const [name, blob] of blobs) answers[`${BASE}/blobs/${name}`] = blob;
  }
  for (const [tag, { bytes }] of Object.entries(tags)) answers[`${BASE}/manifests/${tag}`] = bytes;
  return answers;
}

/** Planning on a host that asks this registry, by docker or podman. */
export const imagePlanning = (
  answers: Readonly<Record<string, RegistryAnswer>>,
  host: Partial<StandIn> = {},
) => standInPlanning(answers, { programs: { docker: "", podman: "" }, ...host });

type Values = { readonly [key: string]: string | Values };

/** A database of bbolt's with these buckets, each in a page, as containerd.db.gz has them; what bbolt itself writes is in fixtures/image/bolt. */
export function boltOf(root: Values): Buffer {
  const SIZE = 4096;
  const pages: Buffer[] = [Buffer.alloc(SIZE), Buffer.alloc(SIZE)];
  const add = (bucket: Values): bigint => {
    const id = pages.push(Buffer.alloc(0)) - 1;
    const entries = Object.entries(bucket)
      .map(([name, value]) => ({ key: Buffer.from(name), value }))
      .sort((a, b) => Buffer.compare(a.key, b.key));
    const page = Buffer.alloc(SIZE);
    page.writeBigUInt64LE(BigInt(id), 0);
    page.writeUInt16LE(2, 8);
    page.writeUInt16LE(entries.length, 10);
    let end = 16 + 16 * entries.length;
    for (const [n, { key, value }] of entries.entries()) {
      const bytes = typeof value === "string" ? Buffer.from(value) : Buffer.alloc(16);
      if (typeof value !== "string") bytes.writeBigUInt64LE(add(value), 0);
      const at = 16 + 16 * n;
      for (const [i, word] of [
        typeof value === "string" ? 0 : 1,
        end - at,
        key.length,
        bytes.length,
      ].entries())
        page.writeUInt32LE(word, at + 4 * i);
      key.copy(page, end);
      bytes.copy(page, end + key.length);
      end += key.length + bytes.length;
    }
    pages[id] = page;
    return BigInt(id);
  };
  const rootPage = add(root);
  for (const [n, page] of pages.slice(0, 2).entries()) {
    page.writeUInt16LE(4, 8);
    for (const [i, word] of [0xed0cdaed, 2, SIZE].entries()) page.writeUInt32LE(word, 16 + 4 * i);
    page.writeBigUInt64LE(rootPage, 32);
    page.writeBigUInt64LE(BigInt(pages.length), 56);
    page.writeBigUInt64LE(BigInt(n), 64);
    let hash = 0xcbf29ce484222325n;
    for (const byte of page.subarray(16, 72))
      hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
    page.writeBigUInt64LE(hash, 72);
  }
  return Buffer.concat(pages);
}
