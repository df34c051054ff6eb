import { existsSync, readFileSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import type { ManagedTool, Route, SignedFile } from "./eco-managed.ts";
import type { Planning } from "./eco-planning.ts";
import { AegisError } from "./errors.ts";
import { imageAccess } from "./image-config.ts";
import { MANIFEST_TYPES } from "./image-manifest.ts";
import { settlePodman } from "./image-podman-settle.ts";
import { layerPath, listsOf, ownedBy, pullsIn, STORAGE } from "./image-podman-store.ts";
import { normalizeReference } from "./image-reference.ts";
import { ImageRepository } from "./image-registry.ts";
import { fetchBytes } from "./sys-fetch.ts";

/*
 * podman with a managed store: `podman pull` of an image's digest from a registry that holds its signed files, in a user namespace and
 * with an empty store. What it unpacks is compared with the layers and put beside the images that are there.
 */

/**
 * What podman (4.3 to 5.7) writes whenever somebody looks into a store or mounts an image of it, and the directories that it makes in an
 * empty one. Not its lists of containers, which belong in podman's own store: with them a run is refused.
 */
const PASSING = [
  ...["[a-z]+\\.lock", "overlay-[a-z]+/[a-z]+\\.lock", "defaultNetworkBackend", "libpod", "db\\.sql[^/]*"],
  ...["cache", "mounts", "tmp", "networks", "secrets", "volumes", "artifacts"],
  "overlay/(?:\\.has-mount-program|backingFsBlockDev|metacopy[^/]*|staging|[0-9a-f]{64}/(?:merged|work))",
];
const PASSING_PATH = new RegExp(`^${STORAGE}/(?:${PASSING.join("|")})(?:/|$)`);
const EMPTY_DIRECTORY = new RegExp(`^${STORAGE}(?:/overlay(?:/l|-[a-z]+)?)?/$`);

const CONTAINERS = `${STORAGE}/overlay-containers/containers.json`;
const MAX_CONTAINERS = 64 * 1024 * 1024;

/** Of a manifest, or a token. */
const MAX_ANSWER = 4 * 1024 * 1024;
const ANSWER_MS = 30_000;

/** OVERLAYFS_SUPER_MAGIC of linux/magic.h. podman would take vfs there, with a copy of everything for each layer. */
const OVERLAYFS = 0x794c7630;

export const podmanManaged: ManagedTool = {
  tool: "container",
  root: "podman",

  store: {
    isWhole: (path) => path.startsWith(layerPath("")) && /\/[0-9a-f]{64}\/diff$/.test(path),
    isPassing: (path) => PASSING_PATH.test(path) || EMPTY_DIRECTORY.test(path),
    ready(root) {
      const directory = existsSync(root) ? root : dirname(root);
      if (statfsSync(directory).type === OVERLAYFS)
        throw new AegisError(
          "unavailable",
          `${directory} is on overlayfs, on which podman can't make layers of overlayfs`,
          "Mount another file system there: ext4, xfs or btrfs.",
        );
      const [mount] = mountsBelow(root);
      if (mount === undefined) return;
      const typed = `podman --root ${root}/${STORAGE} image unmount --all; umount ${mount}`;
      throw new AegisError(
        "busy",
        `podman has ${mount} mounted, by somebody's use of the store`,
        `Type as root: ${typed}`,
      );
    },
    settle: settlePodman,
  },

  routes(files) {
    const repository = `/v2/${pathOf(files)}`;
    return Promise.resolve(
      new Map<string, Route>([
        ["/v2/", { body: "{}", type: "application/json" }],
        ...files.map((file): [string, Route] => {
          const type = file.mediaType ?? "";
          const isManifest = MANIFEST_TYPES.some((one) => one === type);
          return [
            `${repository}/${isManifest ? "manifests" : "blobs"}/sha256:${file.sha256}`,
            { file: file.path, type: isManifest ? type : "application/octet-stream" },
          ];
        }),
      ]),
    );
  },

  async reach(files, { readText, list, credentials, stop }) {
    const reference = normalizeReference(nameOf(files));
    const access = imageAccess(reference, { env: {}, readText, list });
    const get: Planning["get"] = (url, request = {}) => {
      const { hasToken = false, headers = {}, maxBytes = MAX_ANSWER } = request;
      const { certificates } = request;
      return fetchBytes(url, {
        ...{ headers: hasToken ? headers : { ...credentials(url), ...headers }, maxBytes },
        ...(certificates === undefined ? {} : { certificates }),
        signal: AbortSignal.any([stop, AbortSignal.timeout(ANSWER_MS)]),
      });
    };
    const repository = new ImageRepository(reference, access, { get, packageFile: noPackageFile });
    const authorization = await repository.authorization(files[0]?.integrity ?? "");
    const { certificates } = access;
    return (url) => ({
      headers: {
        ...(authorization === null ? credentials(url) : { authorization }),
        ...(/\/manifests\/[^/]+$/.test(url.pathname) ? { accept: MANIFEST_TYPES.join(", ") } : {}),
      },
      ...(certificates === undefined ? {} : { certificates }),
      redirects: true,
    });
  },

  settings({ registry, home }, files) {
    const [name, location] = [nameOf(files), `${new URL(registry).host}/${pathOf(files)}`];
    const registries = [
      "unqualified-search-registries = []",
      "[[registry]]",
      `prefix = ${JSON.stringify(name)}`,
      `location = ${JSON.stringify(location)}`,
      "insecure = true",
    ];
    const policy = {
      default: [{ type: "reject" }],
      transports: { docker: { [name]: [{ type: "insecureAcceptAnything" }] } },
    };
    return {
      variables: {
        CONTAINERS_REGISTRIES_CONF: `${home}/registries.conf`,
        REGISTRY_AUTH_FILE: `${home}/auth.json`,
      },
      files: {
        "registries.conf": `${registries.join("\n")}\n`,
        "auth.json": "{}\n",
        ".config/containers/policy.json": JSON.stringify(policy),
      },
    };
  },

  keeps({ before, stage, readBefore }) {
    const pulls = pullsIn(before, readBefore);
    const isOwned = ownedBy(pulls);
    return [...before.keys()].filter((path) => isOwned(path) && !stage.has(path));
  },

  // Everything was compared when it was settled; and nothing but that is in the stage.
  check: () => Promise.resolve([]),

  recordsRequestedOnly: { listsParts: false },

  inventory(tree, read) {
    if (tree.has(CONTAINERS) && !/^(?:\[\])?\s*$/.test(textOf(read(CONTAINERS, MAX_CONTAINERS))))
      throw new AegisError("refused", "there are containers in it, which belong in podman's own store");
    const found = new Map<string, string[]>();
    for (const { reference } of pullsIn(tree, read)) {
      const [name = "", digest = ""] = reference.split("@");
      found.set(name, [...(found.get(name) ?? []), digest].sort());
    }
    return Object.fromEntries([...found].map(([name, digests]) => [name, digests.join(" ")]));
  },

  launchers: (tree, read) => listsOf(pullsIn(tree, read), tree),
  executables: () => ({}),
};

/** Mounts below a directory, deepest first: podman leaves one when it is killed, or has mounted an image. */
function mountsBelow(root: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${root}/`))
    .sort()
    .reverse();
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

/** Layers are fetched by the fetch process alone. */
function noPackageFile(): never {
  throw new AegisError("internal", "no file of an image is fetched here");
}

/** The repository of a plan's files, with its registry. */
function nameOf(files: readonly SignedFile[]): string {
  return files[0]?.name ?? "";
}

/** The repository within its registry. */
function pathOf(files: readonly SignedFile[]): string {
  return normalizeReference(nameOf(files)).path;
}
