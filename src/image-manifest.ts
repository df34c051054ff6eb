import * as v from "valibot";
import { AegisError, messageOf } from "./errors.ts";
import { parseUnambiguous } from "./image-json.ts";

/*
 * The documents of a registry: an index that lists manifests by platform, a manifest that lists the files of an image, and the
 * image's configuration. Read strictly; what isn't an image for this platform is refused, with the reason.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md, image-index.md, config.md, and Docker's manifest schema 2
 */

const OCI = "application/vnd.oci.image";
const DOCKER = "application/vnd.docker";
/** What is asked for, so that a registry doesn't convert it into something else. */
export const MANIFEST_TYPES = [
  `${OCI}.index.v1+json`,
  `${OCI}.manifest.v1+json`,
  `${DOCKER}.distribution.manifest.list.v2+json`,
  `${DOCKER}.distribution.manifest.v2+json`,
] as const;
const INDEX_TYPES: readonly string[] = [MANIFEST_TYPES[0], MANIFEST_TYPES[2]];
const CONFIG_TYPES: readonly string[] = [`${OCI}.config.v1+json`, `${DOCKER}.container.image.v1+json`];
const LAYER_TYPES: readonly string[] = [
  ...["tar", "tar+gzip", "tar+zstd"].map((form) => `${OCI}.layer.v1.${form}`),
  ...["tar", "tar.gzip", "tar.zstd"].map((form) => `${DOCKER}.image.rootfs.diff.${form}`),
];
const MAX_LAYERS = 256;
/** What BuildKit marks its attestations with. https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md */
const REFERENCE_TYPE = "vnd.docker.reference.type";

const digest = v.pipe(v.string(), v.regex(/^sha256:[0-9a-f]{64}$/, "no SHA-256 digest"));
const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const texts = v.nullish(
  v.pipe(
    v.record(v.string(), v.string()),
    v.transform((record) => ({ ...record })),
  ),
  {},
);
const Descriptor = v.looseObject({
  mediaType: v.string(),
  digest,
  size,
  annotations: texts,
  artifactType: v.optional(v.string()),
});
export type Descriptor = v.InferOutput<typeof Descriptor>;

const Platform = v.looseObject({
  architecture: v.string(),
  os: v.string(),
  variant: v.optional(v.string(), ""),
});
type Platform = v.InferOutput<typeof Platform>;

const Index = v.looseObject({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.string()),
  manifests: v.pipe(
    v.array(v.looseObject({ ...Descriptor.entries, platform: v.nullish(Platform) })),
    v.maxLength(500),
  ),
});
export type ImageIndex = v.InferOutput<typeof Index>;

const Manifest = v.looseObject({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.string()),
  config: Descriptor,
  layers: v.pipe(v.array(Descriptor), v.maxLength(MAX_LAYERS)),
  annotations: texts,
});
export type ImageManifest = v.InferOutput<typeof Manifest>;

const words = v.nullish(v.array(v.string()), []);
const names = v.nullish(v.record(v.string(), v.unknown()), {});
const Config = v.looseObject({
  architecture: v.string(),
  os: v.string(),
  variant: v.optional(v.string(), ""),
  created: v.nullish(v.string()),
  config: v.nullish(
    v.looseObject({
      User: v.nullish(v.string(), ""),
      Entrypoint: words,
      Cmd: words,
      ExposedPorts: names,
      Volumes: names,
      Labels: texts,
    }),
  ),
  rootfs: v.looseObject({ type: v.literal("layers"), diff_ids: v.array(digest) }),
});
export type ImageConfig = v.InferOutput<typeof Config>;

/** A document of a registry, by its own words. */
type Document = { kind: "index"; index: ImageIndex } | { kind: "manifest"; manifest: ImageManifest };

/**
 * Reads an index or a manifest. `contentType` is what it was served as, "" where nothing says.
 * @throws AegisError `refused` for what is neither, or both
 */
export function readImageManifest(bytes: Uint8Array, contentType: string): Document {
  const tree = treeOf(bytes, "the manifest");
  const isRecord = typeof tree === "object" && tree !== null && !Array.isArray(tree);
  const has = (key: string) => isRecord && Object.hasOwn(tree, key);
  if (has("fsLayers") || /docker\.distribution\.manifest\.v1\+/.test(contentType))
    throw refused(
      "its manifest is of schema 1, which names no hash of its configuration; have it pushed again",
    );
  // A document that is both could be one thing here and another to the engine: CVE-2021-41190.
  if (has("manifests") === has("layers")) throw refused("its manifest is neither an image's nor an index");
  const document: Document = has("manifests")
    ? { kind: "index", index: checked(Index, tree, "the index") }
    : { kind: "manifest", manifest: checked(Manifest, tree, "the manifest") };
  const { mediaType } = document.kind === "index" ? document.index : document.manifest;
  const served = (contentType.split(";", 1)[0] ?? "").trim();
  for (const type of [mediaType, served === "" ? undefined : served]) {
    const isKnown = (MANIFEST_TYPES as readonly string[]).includes(type ?? "");
    if (type === undefined || (!isKnown && type === served && mediaType !== undefined)) continue;
    if (!isKnown) throw refused(`its manifest is of an unknown type (${type.slice(0, 100)})`);
    if (INDEX_TYPES.includes(type) !== (document.kind === "index"))
      throw refused(`its manifest says that it is ${type}, and isn't`);
  }
  return document;
}

/** Whether a media type is that of an image's configuration. */
export function isImageConfig(mediaType: string): boolean {
  return CONFIG_TYPES.includes(mediaType);
}

/**
 * That the files of a manifest are an image's: a configuration, and layers that the registry itself has.
 * @throws AegisError `refused`
 */
export function assertImage({ config, layers }: ImageManifest): void {
  if (!isImageConfig(config.mediaType)) throw refused(`it is no image but ${config.mediaType.slice(0, 100)}`);
  for (const { mediaType } of layers) {
    if (LAYER_TYPES.includes(mediaType)) continue;
    const isForeign = /foreign|nondistributable/.test(mediaType);
    const why = isForeign ? "comes from somewhere else than its registry" : "is of an unknown kind";
    throw refused(`a layer ${why} (${mediaType.slice(0, 100)})`);
  }
}

/**
 * Reads an image's configuration and compares it with its manifest.
 * @throws AegisError `refused`
 */
export function readImageConfig(bytes: Uint8Array, { layers }: ImageManifest): ImageConfig {
  const config = checked(Config, treeOf(bytes, "the configuration"), "the configuration");
  const { length } = config.rootfs.diff_ids;
  if (length === layers.length) return config;
  throw refused(`its configuration tells of ${length} layers, and its manifest of ${layers.length}`);
}

/** dpkg's architectures in the words of images. Nothing else runs here. */
const PLATFORMS: Readonly<Record<string, { architecture: string; variants: readonly string[] }>> = {
  amd64: { architecture: "amd64", variants: ["", "v1"] },
  arm64: { architecture: "arm64", variants: ["v8", ""] },
  armhf: { architecture: "arm", variants: ["v7", "v6", "v5", ""] },
  armel: { architecture: "arm", variants: ["v5", ""] },
  i386: { architecture: "386", variants: [""] },
  ppc64el: { architecture: "ppc64le", variants: [""] },
  riscv64: { architecture: "riscv64", variants: [""] },
  s390x: { architecture: "s390x", variants: [""] },
};

function platformOf(architecture: string) {
  return Object.hasOwn(PLATFORMS, architecture) ? PLATFORMS[architecture] : undefined;
}

/**
 * The manifest of an index for a host, by its dpkg architecture; the first of the best variant, as the engines take it.
 * @throws AegisError `refused`, naming the platforms that there are
 */
export function manifestFor({ manifests }: ImageIndex, architecture: string): Descriptor {
  const wanted = platformOf(architecture);
  const images = manifests.filter((one) => !isAttestation(one));
  for (const variant of wanted?.variants ?? []) {
    const found = images.find(
      ({ platform }) => platform != null && isPlatform(platform, wanted?.architecture ?? "", variant),
    );
    if (found === undefined) continue;
    if (INDEX_TYPES.includes(found.mediaType)) throw refused("its index lists an index for this platform");
    return found;
  }
  const there = [...new Set(images.map(({ platform }) => platformName(platform)))].slice(0, 20);
  throw refused(
    `there is none for linux/${wanted?.architecture ?? architecture}, only for ${there.join(", ") || "nothing"}`,
  );
}

function isPlatform({ os, architecture, variant }: Platform, wanted: string, as: string): boolean {
  return os === "linux" && architecture === wanted && variant === as;
}

/** Whether an image's configuration says that it runs on a host of this dpkg architecture. */
export function runsOn(config: ImageConfig, architecture: string): boolean {
  const wanted = platformOf(architecture);
  return wanted?.variants.some((variant) => isPlatform(config, wanted.architecture, variant)) ?? false;
}

/** `linux/arm/v7` */
export function platformName(platform: Platform | null | undefined): string {
  if (platform == null) return "an unstated platform";
  const { os, architecture, variant } = platform;
  return `${os}/${architecture}${variant === "" ? "" : `/${variant}`}`.slice(0, 100);
}

/** Whether an index's entry is a statement about another one, which BuildKit puts there unsigned. */
export function isAttestation({ annotations }: Descriptor): boolean {
  return annotations?.[REFERENCE_TYPE] === "attestation-manifest";
}

function treeOf(bytes: Uint8Array, what: string): unknown {
  try {
    return parseUnambiguous(bytes);
  } catch (error) {
    throw refused(`${what} can't be read: ${messageOf(error)}`);
  }
}

function checked<S extends v.GenericSchema>(schema: S, tree: unknown, what: string): v.InferOutput<S> {
  const result = v.safeParse(schema, tree, { abortEarly: true });
  if (result.success) return result.output;
  const path = (result.issues[0].path ?? []).map(({ key }) => String(key)).join(".");
  throw refused(
    `${what} can't be used: ${path === "" ? "" : `${path}: `}${result.issues[0].message}`.slice(0, 400),
  );
}

function refused(why: string): AegisError {
  return new AegisError("refused", why, "Plan another image, or ask whoever publishes it.");
}
