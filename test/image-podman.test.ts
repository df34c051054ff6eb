import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SignedFile, Tree, TreeEntry } from "../src/eco-managed.ts";
import { podmanManaged } from "../src/image-podman.ts";
import { AMD64, digestOf, fakeIndex, type MadeImage, TYPES } from "./image-kit.ts";
import { layerEntry } from "./layer-kit.ts";
import { imageOf } from "./podman-kit.ts";
import { install } from "./policy-plans.ts";

/*
 * podman's store by its rules: what the closed registry answers, and what of a store is kept, listed and passed over.
 */

const NAME = "registry.example:5000/team/app";
const IMAGE = imageOf([[layerEntry("a", {}, "a")], [layerEntry("b", {}, "b")]]);
const INDEX = fakeIndex([[IMAGE, AMD64]]);

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "aegis-podman-"));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

/** The files of a plan, as they are fetched. */
function filesOf(image: MadeImage, index: { bytes: string } | null): SignedFile[] {
  const documents: [string | Buffer, string][] = [
    ...(index === null ? [] : [[index.bytes, TYPES.index] as [string, string]]),
    [image.bytes, TYPES.manifest],
    ...[...image.blobs.values()].map((blob, i): [Buffer, string] => [
      blob,
      i === 0 ? TYPES.config : TYPES.layer,
    ]),
  ];
  return documents.map(([bytes, mediaType], i) => {
    const path = join(base, `${mediaType.length}-${i}-${index === null ? "m" : "i"}`);
    writeFileSync(path, bytes);
    const digest = digestOf(bytes);
    return {
      ...{
        name: NAME,
        version: digest,
        isSupport: false,
        url: "https://x/",
        integrity: digest,
        mediaType,
        path,
      },
      ...{ sha256: digest.replace("sha256:", ""), size: Buffer.byteLength(bytes) },
    };
  });
}

describe("the closed registry", () => {
  test("answers for the signed files alone, each with its type", async () => {
    const routes = await podmanManaged.routes(filesOf(IMAGE, INDEX), "http://127.0.0.1:1");
    const blobs = [...IMAGE.blobs.keys()].map((digest) => `/v2/team/app/blobs/${digest}`);
    expect([...routes.keys()].sort()).toEqual(
      [
        ...["/v2/", `/v2/team/app/manifests/${INDEX.digest}`, `/v2/team/app/manifests/${IMAGE.digest}`],
        ...blobs,
      ].sort(),
    );
    expect(routes.get(`/v2/team/app/manifests/${INDEX.digest}`)).toMatchObject({ type: TYPES.index });
    expect(routes.get(blobs[0] ?? "")).toMatchObject({ type: "application/octet-stream" });
  });

  test("is where podman looks for this repository, and for no other", () => {
    const places = { registry: "http://127.0.0.1:4873", home: "/h", scratch: "/s" };
    const { files = {} } = podmanManaged.settings(places, filesOf(IMAGE, null));
    expect(files["registries.conf"]).toContain(`prefix = "${NAME}"\nlocation = "127.0.0.1:4873/team/app"`);
    expect(JSON.parse(files[".config/containers/policy.json"] ?? "")).toEqual({
      default: [{ type: "reject" }],
      transports: { docker: { [NAME]: [{ type: "insecureAcceptAnything" }] } },
    });
    expect(files["auth.json"]).toBe("{}\n");
  });
});

describe("what podman left", () => {
  const FIRST = 700_000_000;
  const settle = async (image: MadeImage, change: (left: string) => void = () => {}) => {
    const left = join(base, "left");
    layPodmans(left, image);
    change(left);
    const stage = join(base, "stage");
    const differences = await podmanManaged.store?.settle({
      ...{ plan: install(), files: filesOf(image, null), left, stage, firstUser: FIRST },
      note() {},
    });
    return { differences, stage };
  };

  /** A store as podman leaves it, but for the layers, without which nothing is compared. */
  function layPodmans(left: string, image: MadeImage): void {
    const [config = ""] = image.blobs.keys();
    const id = config.replace("sha256:", "");
    const at = (path: string) => {
      mkdirSync(join(left, "storage", path, ".."), { recursive: true });
      return join(left, "storage", path);
    };
    const named = (name: string) => `overlay-images/${id}/=${Buffer.from(name).toString("base64")}`;
    mkdirSync(at("overlay/l"), { recursive: true });
    writeFileSync(at(`overlay-images/${id}/manifest`), image.bytes);
    writeFileSync(at(named(`manifest-${image.digest}`)), image.bytes);
    writeFileSync(at(named(config)), image.blobs.get(config) ?? "");
    const { rootfs } = JSON.parse((image.blobs.get(config) ?? "").toString());
    const list = [
      { id, digest: image.digest, names: [`${NAME}@${image.digest}`], layer: topOf(rootfs.diff_ids) },
    ];
    writeFileSync(at("overlay-images/images.json"), JSON.stringify(list));
  }
  function topOf(diffs: string[]): string {
    const [first = "", ...others] = diffs.map((diff) => diff.replace("sha256:", ""));
    return others.reduce((parent, diff) => digestOf(`${parent}+${diff}`).replace("sha256:", ""), first);
  }

  const CHANGES: [what: string, why: string, change: (storage: string) => void][] = [
    ["without its layers", "podman has left no directory storage/overlay/", () => {}],
    [
      "with a further layer",
      `layer ${"a".repeat(64)}`,
      (at) => mkdirSync(join(at, "overlay", "a".repeat(64))),
    ],
    [
      "with another image in its list",
      "podman's list of images",
      (at) => writeFileSync(join(at, "overlay-images/images.json"), "[]"),
    ],
    [
      "with a list that is none",
      "podman's list of images can't be read",
      (at) => writeFileSync(join(at, "overlay-images/images.json"), "{"),
    ],
    [
      "with another manifest",
      "manifest",
      (at) => writeFileSync(join(at, "overlay-images", idIn(at), "manifest"), "{}"),
    ],
    [
      "with a link in place of its list",
      "podman has left no file",
      (at) => {
        rmSync(join(at, "overlay-images/images.json"));
        symlinkSync("/etc/passwd", join(at, "overlay-images/images.json"));
      },
    ],
    [
      "with a link in place of its layers",
      "podman has left no directory storage/overlay",
      (at) => {
        rmSync(join(at, "overlay"), { recursive: true });
        symlinkSync("/etc", join(at, "overlay"));
      },
    ],
    ["by copies of everything", "podman can't use overlayfs here", (at) => mkdirSync(join(at, "vfs-images"))],
  ];
  const idIn = (at: string) =>
    readdirSync(join(at, "overlay-images")).find((name) => name.length === 64) ?? "";
  test.each(CHANGES)("%s: nothing is taken over", async (_, why, change) => {
    const outcome = settle(IMAGE, (left) => change(join(left, "storage"))).then(
      ({ differences }) => JSON.stringify(differences),
      (error: Error) => error.message,
    );
    expect(await outcome).toContain(why);
  });
});

describe("a store", () => {
  const file = (text: string): TreeEntry => ({
    ...{ kind: "file", sha256: digestOf(text).replace("sha256:", ""), size: text.length, executable: false },
  });
  const record = (name: string, digest: string, id: string, manifest: string, layers: string[]) =>
    JSON.stringify({
      reference: `${name}@${digest}`,
      image: {
        ...{ id, names: [`${name}@${digest}`], "names-history": [], "big-data-names": ["manifest", digest] },
        "big-data-sizes": { manifest: 1, [digest]: 1 },
        "big-data-digests": { manifest, [digest]: manifest },
      },
      layers: layers.map((layer) => ({ id: layer })),
    });
  const store = (texts: Record<string, string>): [Tree, (path: string) => Buffer] => [
    new Map(Object.entries(texts).map(([path, text]) => [path, file(text)])),
    (path) => Buffer.from(texts[path] ?? ""),
  ];
  const [ONE, TWO] = [
    record("a/b", "sha256:1", "i", digestOf("one"), ["x", "y"]),
    record("a/b", "sha256:2", "i", digestOf("two"), ["x", "z"]),
  ];

  test("lists an image once, under all its names, with the manifest that is there", () => {
    const [tree, read] = store({
      ...{ "pulls/1.json": ONE, "pulls/2.json": TWO },
      "storage/overlay-images/i/manifest": "one",
    });
    const lists = podmanManaged.launchers?.(tree, read) ?? {};
    const images = JSON.parse(lists["storage/overlay-images/images.json"] ?? "");
    expect(images).toMatchObject([
      { id: "i", names: ["a/b@sha256:2", "a/b@sha256:1"], "big-data-digests": { manifest: digestOf("one") } },
    ]);
    const layers = JSON.parse(lists["storage/overlay-layers/layers.json"] ?? "");
    expect(layers.map(({ id }: { id: string }) => id).sort()).toEqual(["x", "y", "z"]);
    expect(podmanManaged.inventory(tree, read)).toEqual({ "a/b": "sha256:1 sha256:2" });
  });

  test("with containers has no inventory, and so no run", () => {
    const containers = { "storage/overlay-containers/containers.json": '[{"id":"c"}]' };
    const [tree, read] = store({ "pulls/1.json": ONE, ...containers });
    expect(() => podmanManaged.inventory(tree, read)).toThrow("there are containers in it");
    const [empty, other] = store({ "storage/overlay-containers/containers.json": "[]" });
    expect(podmanManaged.inventory(empty, other)).toEqual({});
  });

  const PASSING: [path: string, passes: boolean][] = [
    ["storage/storage.lock", true],
    ["storage/overlay-images/images.lock", true],
    ["storage/libpod/bolt_state.db", true],
    ["storage/db.sql-wal", true],
    [`storage/overlay/${"a".repeat(64)}/merged`, true],
    ["storage/overlay/", true],
    ["storage/overlay", false],
    ["storage/overlay-images/images.json", false],
    ["storage/overlay-containers/containers.json", false],
    [`storage/overlay/${"a".repeat(64)}/diff`, false],
    [`storage/overlay/${"a".repeat(64)}/link`, false],
    ["storage/libpodx", false],
    ["pulls/1.json", false],
    ["storage.lock", false],
  ];
  test.each(PASSING)("%s is passed over: %p", (path, passes) =>
    expect(podmanManaged.store?.isPassing(path)).toBe(passes),
  );

  test("takes layers whole, and nothing else", () => {
    const isWhole = (path: string) => podmanManaged.store?.isWhole(path);
    expect(isWhole(`storage/overlay/${"a".repeat(64)}/diff`)).toBe(true);
    for (const path of [
      `storage/overlay/${"a".repeat(64)}`,
      "storage/overlay/l/diff",
      `x/${"a".repeat(64)}/diff`,
    ])
      expect(isWhole(path)).toBe(false);
  });
});
