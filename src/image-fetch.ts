import { AegisError } from "./errors.ts";
import {
  assertImage,
  type Descriptor,
  type ImageConfig,
  type ImageIndex,
  type ImageManifest,
  manifestFor,
  platformName,
  readImageConfig,
  readImageManifest,
  runsOn,
} from "./image-manifest.ts";
import { type ImageReference, pulledReference } from "./image-reference.ts";
import type { FetchedManifest, ImageRepository } from "./image-registry.ts";

/*
 * An image from its reference down to the list of its layers: each document names the files below it by digest and size, so one digest
 * stands for every byte. Index, manifest and configuration are fetched and compared. Layers aren't: nothing in a plan comes from what
 * is in them, and the run compares them with their digests.
 */

/** The largest configuration, as containers/image (podman) has it: `iolimits.MaxConfigBodySize`. */
const MAX_CONFIG = 4 * 1024 * 1024;

/** One file of an image. */
export interface ImageFile {
  /** `sha256:<hex>` */
  digest: string;
  /** Bytes. */
  size: number;
  mediaType: string;
  url: URL;
  /** The digest of the document that names it; null for what was asked for. */
  parent: string | null;
  /** Whether its bytes were fetched and compared; a layer is only named. */
  isRead: boolean;
}

export interface FetchedImage {
  /** What the reference stands for: an index, or a manifest. */
  top: { digest: string };
  index: ImageIndex | null;
  manifest: { digest: string };
  config: ImageConfig;
  /** The platform that the configuration states where the index has it under another; null otherwise. */
  strangePlatform: string | null;
  /** Every file once, in the order in which they name each other. */
  files: ImageFile[];
}

/**
 * Fetches the image that a reference stands for on a host of this dpkg architecture.
 * @throws AegisError `not_found`, `refused` for what is no image for this host, `unavailable`, `evidence_mismatch`
 */
export async function fetchImage(
  reference: ImageReference,
  repository: ImageRepository,
  architecture: string,
): Promise<FetchedImage> {
  const top = await needed(reference.digest ?? reference.tag ?? "latest", reference, repository);
  const document = readImageManifest(top.bytes, top.contentType);
  const files = new Map<string, ImageFile>();
  const add = (file: ImageFile) => {
    const { size } = files.get(file.digest) ?? file;
    if (size !== file.size) throw refused(`${file.digest} is named with ${size} and with ${file.size} bytes`);
    if (!files.has(file.digest)) files.set(file.digest, file);
  };
  add(fileOf(top, document.kind === "index" ? document.index : document.manifest, null));

  let manifest: ImageManifest;
  let fetched = top;
  if (document.kind === "manifest") manifest = document.manifest;
  else {
    const chosen = manifestFor(document.index, architecture);
    fetched = await needed(chosen.digest, reference, repository);
    const below = readImageManifest(fetched.bytes, fetched.contentType);
    if (below.kind !== "manifest") throw refused("its index lists an index for this platform");
    if (fetched.bytes.length !== chosen.size)
      throw refused(`its manifest has ${fetched.bytes.length} bytes, and the index says ${chosen.size}`);
    manifest = below.manifest;
    add(fileOf(fetched, manifest, top.digest));
  }
  assertImage(manifest);

  const blob = (one: Descriptor, isRead: boolean) => ({
    ...{ digest: one.digest, size: one.size, mediaType: one.mediaType },
    ...{ url: repository.blobUrl(one.digest), parent: fetched.digest, isRead },
  });
  const config = readImageConfig((await repository.blob(manifest.config, MAX_CONFIG)).bytes, manifest);
  const fits = runsOn(config, architecture);
  if (!fits && document.kind === "manifest")
    throw refused(`it is for ${platformName(config)}, and this host is ${architecture}`);
  add(blob(manifest.config, true));
  for (const one of manifest.layers) add(blob(one, false));
  return {
    top: { digest: top.digest },
    index: document.kind === "index" ? document.index : null,
    manifest: { digest: fetched.digest },
    config,
    strangePlatform: fits ? null : platformName(config),
    files: [...files.values()],
  };
}

function fileOf(
  { digest, bytes, contentType, url }: FetchedManifest,
  { mediaType }: { mediaType?: string | undefined },
  parent: string | null,
): ImageFile {
  const type = mediaType ?? contentType.split(";", 1)[0]?.trim() ?? "";
  return { digest, size: bytes.length, mediaType: type, url, parent, isRead: true };
}

async function needed(
  which: string,
  reference: ImageReference,
  repository: ImageRepository,
): Promise<FetchedManifest> {
  const fetched = await repository.manifest(which);
  if (fetched !== null) return fetched;
  const isTop = which === (reference.digest ?? reference.tag ?? "latest");
  if (!isTop) throw refused(`its index names ${which}, which its registry doesn't have`);
  throw new AegisError(
    "not_found",
    `${reference.domain} has no ${pulledReference(reference)}`,
    "Look up the image and its tags on the registry's web site.",
  );
}

function refused(why: string): AegisError {
  return new AegisError("refused", why, "Plan another image, or ask whoever publishes it.");
}
