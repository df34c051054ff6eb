import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { anyKeys, parseJson } from "./canonical.ts";
import type { HostState } from "./eco-driver.ts";
import { AegisError, errnoOf, messageOf } from "./errors.ts";
import { normalizeReference, pulledReference } from "./image-reference.ts";
import { readFileLimited } from "./sys-files.ts";

/*
 * The store of docker's engine, as its files have it: which reference stands for which configuration, the configurations, and the
 * layers that the engine registered. Root reads them, so nobody's word is needed. The engine keeps no manifest: an image's id is the
 * SHA-256 of its configuration, which the signed manifest names, and which names the content of every layer.
 * https://github.com/moby/moby/blob/v20.10.24/image/store.go, reference/store.go, layer/filestore.go
 */

const MAX_FILE = 32 * 1024 * 1024;
const Repositories = v.looseObject({
  Repositories: anyKeys(anyKeys(v.string())),
});
const Config = v.looseObject({ rootfs: v.looseObject({ diff_ids: v.array(v.string()) }) });

/**
 * Every reference of the engine's store, complete, with the id that it stands for.
 * @throws AegisError `io` for a store that can't be read
 */
export function imagesIn(root: string): HostState {
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

/**
 * Why the image under a complete reference is not the one whose configuration has this digest, with all its layers; null if it is.
 * @throws AegisError `io`
 */
export function otherThan(config: string, reference: string, root: string): string | null {
  const id = imagesIn(root)[reference];
  if (id !== config) return `docker's store has ${id} under the signed digest, not ${config}`;
  const driver = driversIn(root).find((name) => textOf(contentOf(root, name, id)) !== null);
  const text = driver === undefined ? null : textOf(contentOf(root, driver, id));
  if (driver === undefined || text === null) return `docker's store lacks the configuration ${id}`;
  if (digestOf(text) !== id) return `docker's store has another configuration as ${id}`;
  let chain = "";
  for (const diff of parsed(Config, text, root).rootfs.diff_ids) {
    // https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#layer-chainid
    chain = chain === "" ? diff : digestOf(`${chain} ${diff}`);
    const registered = textOf(join(root, "image", driver, "layerdb", ...pathOf(chain), "diff"));
    if (registered?.trim() !== diff) return `docker's store lacks the layer ${diff}`;
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
