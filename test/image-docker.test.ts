import { afterAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { RunSubject } from "../src/eco-driver.ts";
import { dockerDriver } from "../src/image-docker.ts";
import { tryFlock } from "../src/sys-ffi.ts";
import { AMD64, boltOf, digestOf, fakeImage, fakeIndex, TYPES } from "./image-kit.ts";
import { IMAGE, pull } from "./policy-plans.ts";

/*
 * The run driver against a store in the form of docker's engine, and an engine that answers what it is told to. The real one is in
 * e2e-image.test.ts.
 */

const base = mkdtempSync(join(tmpdir(), "aegis-docker-"));
afterAll(() => rmSync(base, { recursive: true }));
let serial = 0;

const DIFFS = [digestOf("layer 1"), digestOf("layer 2")];
const CONFIG = JSON.stringify({ rootfs: { type: "layers", diff_ids: DIFFS } });
const ID = digestOf(CONFIG);
const [, DIGEST = ""] = IMAGE.split("@");
const SUBJECT: RunSubject = {
  argv: ["docker", "pull", IMAGE],
  transaction: pull().transaction.flatMap((entry) => [
    { ...entry, media_type: TYPES.manifest },
    { ...entry, to_version: ID, media_type: TYPES.config },
  ]),
};

/** A store with the image; `files` are changed or (null) left out. */
function store(
  files: Readonly<Record<string, string | null>> = {},
  references: Record<string, string> = {},
): string {
  const root = join(base, String(serial++));
  const chain = digestOf(`${DIFFS[0]} ${DIFFS[1]}`);
  const at = (kind: string, digest = "") => `image/vfs/${kind}/${digest.replace(":", "/")}`;
  const all: Record<string, string | null> = {
    "image/vfs/repositories.json": JSON.stringify({
      Repositories: { app: { [`app@${DIGEST}`]: ID, "app:old": digestOf("old"), ...references } },
    }),
    [at("imagedb/content", ID)]: CONFIG,
    [`${at("layerdb", DIFFS[0])}/diff`]: `${DIFFS[0]}`,
    [`${at("layerdb", chain)}/diff`]: `${DIFFS[1]}`,
    ...files,
  };
  for (const [path, text] of Object.entries(all)) {
    if (text === null) continue;
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}
/** What `docker info` prints. */
const answering =
  (info: unknown, status = 0) =>
  () =>
    Promise.resolve(
      info === null
        ? null
        : {
            ...{ status, outcome: "exited" as const, stderr: Buffer.from("") },
            stdout: Buffer.from(typeof info === "string" ? info : JSON.stringify(info)),
          },
    );
const good = (root: string) => ({
  ...{ DockerRootDir: root, Driver: "overlay2", DriverStatus: [["Backing Filesystem", "extfs"]] },
});
const SNAPSHOTTER = { DriverStatus: [["driver-type", "io.containerd.snapshotter.v1"]] };

const witness = (root: string) => dockerDriver({ root }).witness("/nowhere", SUBJECT);
const content = `image/vfs/imagedb/content/${ID.replace(":", "/")}`;

test("an image whose name is a word of Object's is observed too", () => {
  const repositories = { Repositories: { constructor: { "constructor:1": ID } } };
  const root = store({ "image/vfs/repositories.json": JSON.stringify(repositories) });
  expect(dockerDriver({ root }).observe()).toEqual({ "docker.io/library/constructor:1": ID });
});

describe("what the engine left", () => {
  test("the image, by its configuration and every layer", () =>
    expect(witness(store())).toEqual({ verdict: "vouched" }));
  test.each([
    [
      "another image under the digest",
      {
        "image/vfs/repositories.json": JSON.stringify({
          Repositories: { app: { [`app@${DIGEST}`]: digestOf("x") } },
        }),
      },
      `has ${digestOf("x")} under the signed digest`,
    ],
    ["no configuration", { [content]: null }, "lacks the configuration"],
    ["a changed configuration", { [content]: `${CONFIG} ` }, "has another configuration"],
    [
      "a layer that isn't registered",
      { [`image/vfs/layerdb/${DIFFS[0]?.replace(":", "/")}/diff`]: null },
      `lacks the layer ${DIFFS[0]}`,
    ],
    [
      "another layer in its place",
      { [`image/vfs/layerdb/${DIFFS[0]?.replace(":", "/")}/diff`]: digestOf("evil") },
      `lacks the layer ${DIFFS[0]}`,
    ],
  ])("%s: refused", (_, files, why) => {
    expect(witness(store(files))).toMatchObject({
      verdict: "refused",
      code: "evidence_mismatch",
      reason: expect.stringContaining(why),
    });
  });
  test("nothing, as when the pull failed: absent", () => {
    for (const text of [null, JSON.stringify({ Repositories: { app: { "app:old": digestOf("old") } } })])
      expect(witness(store({ "image/vfs/repositories.json": text }))).toEqual({
        verdict: "absent",
        reason: "docker's store has nothing under the signed digest",
      });
    expect(witness(join(base, "none"))).toMatchObject({ verdict: "absent" });
  });
  test("a store that can't be read is no store without the image", () => {
    expect(() => witness(store({ "image/vfs/repositories.json": "{" }))).toThrow("can't be read");
  });
});

describe("compared", () => {
  const driver = dockerDriver({ root: store() });
  const before = { "docker.io/library/app:old": digestOf("old") };
  const after = { ...before, [IMAGE]: ID };

  test("every reference is complete", () => expect(driver.observe()).toEqual(after));
  test("as planned", () =>
    expect(driver.compare(SUBJECT, before, after)).toEqual({
      ...{ not_as_planned: [], changed_besides: [] },
      inverse: [{ package: IMAGE, architecture: "all", before: null, left: ID }],
    }));
  test("there already", () =>
    expect(driver.compare(SUBJECT, after, after)).toEqual({
      not_as_planned: [],
      changed_besides: [],
      inverse: [],
    }));
  test("missing, and something else changed", () =>
    expect(driver.compare(SUBJECT, before, { "docker.io/library/b:1": ID })).toMatchObject({
      not_as_planned: [{ package: IMAGE, expected: ID, found: null }],
      changed_besides: [
        { package: "docker.io/library/app:old", found: null },
        { package: "docker.io/library/b:1", found: ID },
      ],
    }));
});

describe("whether the engine is one whose store can be compared", () => {
  const root = "/var/lib/docker";
  const waiting = { stop() {}, alive() {} };
  const ready = (info: unknown, status = 0, ecosystem = "docker") =>
    dockerDriver({ root, containerd: "/nowhere/containerd", info: answering(info, status) }).ready(
      pull({ ecosystem }),
      waiting,
    );
  const GOOD = good(root);

  test("yes", () => expect(ready(GOOD)).resolves.toBeUndefined());
  test("yes, without particulars", () =>
    expect(ready({ ...GOOD, DriverStatus: null })).resolves.toBeUndefined());
  test.each([
    ["not installed", null, 0, "docker is not installed"],
    ["not running", GOOD, 1, "engine doesn't answer"],
    ["nonsense", "x", 0, "engine doesn't answer"],
    ["errors of the server", { ServerErrors: ["Cannot connect"] }, 0, "engine doesn't answer"],
    ["elsewhere", { ...GOOD, DockerRootDir: "/srv/docker" }, 0, "keeps its images in /srv/docker"],
    [
      "the store of a containerd that it doesn't name",
      { ...GOOD, ...SNAPSHOTTER },
      0,
      "a containerd that it doesn't name",
    ],
    [
      "the store of another containerd",
      { ...GOOD, ...SNAPSHOTTER, Containerd: { Address: "/run/k3s/containerd.sock" } },
      0,
      "a containerd at /run/k3s/containerd.sock",
    ],
    [
      "containerd's store, where nobody has it open",
      { ...GOOD, ...SNAPSHOTTER, Containerd: { Address: "/run/containerd/containerd.sock" } },
      0,
      "doesn't have that in /nowhere/containerd",
    ],
  ])("%s", (_, info, status, why) =>
    expect(ready(info, status)).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining(why),
    }),
  );
});

describe("what docker is given", () => {
  const prepare = async (image: string, known: Record<string, string>) => {
    const run = join(base, `prepared-${serial++}`);
    const place = { directory: run, archives: `${run}-archives`, aegis: "/usr/bin/aegis", account: null };
    const credentials = (url: URL) => {
      const authorization = known[url.host];
      return authorization === undefined ? {} : { authorization };
    };
    const root = store();
    const driver = dockerDriver({ root, credentials, info: answering(good(root)) });
    // Any program of the system stands in for docker.
    const preparing = { stop: new AbortController().signal, alive() {}, progress() {} };
    const prepared = await driver.prepare(pull(), ["env", "pull", image], place, preparing);
    const settings = join(run, "home/config.json");
    return { driver, run, prepared, settings };
  };

  test("nothing of anybody's", async () => {
    const { prepared, settings } = await prepare(IMAGE, { "other.example": "Basic eDp5" });
    expect(existsSync(settings)).toBe(false);
    expect(prepared).toMatchObject({
      environment: {
        HOME: prepared.cwd,
        DOCKER_CONFIG: prepared.cwd,
        DOCKER_HOST: "unix:///var/run/docker.sock",
      },
      facts: { engine: "unix:///var/run/docker.sock", store: expect.stringContaining(base) },
    });
  });
  test.each([
    [IMAGE, "auth.docker.io", "https://index.docker.io/v1/"],
    [IMAGE, "registry-1.docker.io", "https://index.docker.io/v1/"],
    [`r.example:5000/a@sha256:${"1".repeat(64)}`, "r.example:5000", "r.example:5000"],
  ])(
    "the executor's password for %s (%s), for root's eyes, until the run is over",
    async (image, host, key) => {
      const { driver, run, prepared, settings } = await prepare(image, { [host]: "Basic eDp5" });
      expect(JSON.parse(readFileSync(settings, "utf8"))).toEqual({ auths: { [key]: { auth: "eDp5" } } });
      expect(statSync(settings).mode & 0o777).toBe(0o600);
      expect(JSON.stringify(prepared)).not.toContain("eDp5");
      driver.witness(run, SUBJECT);
      expect(existsSync(settings)).toBe(false);
    },
  );
  test("a token is no password", async () => {
    const { settings } = await prepare(IMAGE, { "auth.docker.io": "Bearer x" });
    expect(existsSync(settings)).toBe(false);
  });
});

test("a run can be stopped once, and says so", () => {
  const directory = mkdtempSync(join(base, "run-"));
  const driver = dockerDriver({ root: base });
  expect(driver.wasStopped(directory)).toBeNull();
  expect([driver.mayStop(directory), driver.mayStop(directory)]).toEqual([true, false]);
  expect(driver.wasStopped(directory)).toBe("before the image was there");
});

describe("an engine that keeps images in containerd's store", () => {
  const image = fakeImage();
  const index = fakeIndex([[image, AMD64]]);
  const pinned = `registry.example/team/app@${index.digest}`;
  const files = new Map<string, Buffer>([
    [index.digest, Buffer.from(index.bytes)],
    [image.digest, Buffer.from(image.bytes)],
    ...image.blobs,
  ]);
  const [configuration = "", layer = ""] = image.blobs.keys();
  const subject: RunSubject = {
    argv: ["docker", "pull", pinned],
    transaction: [...files].flatMap(([digest, bytes]) =>
      pull().transaction.map((entry) => ({
        ...{ ...entry, to_version: digest, size: bytes.length },
        media_type: digest === configuration ? TYPES.config : TYPES.layer,
      })),
    ),
  };
  const named = (digest: string) => ({
    target: { digest, mediatype: TYPES.index, size: "x" },
    createdat: "x",
  });
  const database = "io.containerd.metadata.v1.bolt/meta.db";
  const blobAt = (digest: string) => `io.containerd.content.v1.content/blobs/${digest.replace(":", "/")}`;

  /** A store with the image, and others under these names; `changed` files are replaced, or (null) missing. */
  function containerd(
    names: Readonly<Record<string, string>> = { [pinned]: index.digest },
    changed: Readonly<Record<string, Buffer | null>> = {},
    { at = join(base, String(serial++)), unpacked = "none" } = {},
  ): string {
    const images = Object.fromEntries(Object.entries(names).map(([name, digest]) => [name, named(digest)]));
    const v1 = {
      moby: { images, snapshots: { overlayfs: { [unpacked]: { name: "x" } } } },
      "k8s.io": { images: { "other:1": named(digestOf("other")) } },
    };
    const all: [string, Buffer | null][] = [
      [database, boltOf({ v1 })],
      ...[...files].map(([digest, bytes]): [string, Buffer] => [blobAt(digest), bytes]),
      ...Object.entries(changed),
    ];
    for (const [path, bytes] of all) {
      mkdirSync(dirname(join(at, path)), { recursive: true });
      if (bytes === null) rmSync(join(at, path));
      else writeFileSync(join(at, path), bytes);
    }
    return at;
  }

  /** A driver that has prepared a run, with an engine that holds the store open. */
  async function prepared(at: string, { root = store(), socket = "/run/containerd/containerd.sock" } = {}) {
    const fd = openSync(join(at, database), "r");
    expect(tryFlock(fd)).toBe(true);
    const info = answering({ ...good(root), ...SNAPSHOTTER, Containerd: { Address: socket } });
    const driver = dockerDriver({ root, containerd: at, info, credentials: () => ({}) });
    const directory = join(base, `run-${serial++}`);
    const place = { directory, archives: `${directory}-archives`, aegis: "/usr/bin/aegis", account: null };
    const preparing = { stop: new AbortController().signal, alive() {}, progress() {} };
    const run = await driver.prepare(pull(), ["env", "pull", pinned], place, preparing);
    closeSync(fd);
    return { driver, facts: run.facts, witness: () => driver.witness(directory, subject), directory };
  }

  test("every file of the image, byte for byte", async () => {
    const at = containerd();
    const { witness, facts } = await prepared(at);
    expect(witness()).toEqual({ verdict: "vouched" });
    expect(facts["store"]).toBe(at);
  });
  test("of a containerd that docker started", async () => {
    const root = store();
    const at = containerd(undefined, {}, { at: join(root, "containerd/daemon") });
    const socket = "/var/run/docker/containerd/containerd.sock";
    const { witness, facts } = await prepared(at, { root, socket });
    expect([witness(), facts["store"]]).toEqual([{ verdict: "vouched" }, at]);
  });
  test("after a run that was killed, by what the run left", async () => {
    const at = containerd();
    const { directory } = await prepared(at);
    const later = dockerDriver({ root: store(), containerd: at });
    expect(later.witness(directory, subject)).toEqual({ verdict: "vouched" });
  });
  test.each<[string, string, Record<string, Buffer | null>, string]>([
    ["another image under the digest", digestOf("x"), {}, `has ${digestOf("x")} under the signed digest`],
    ["nothing as its target", "", {}, "has  under the signed digest"],
    ["no layer", index.digest, { [blobAt(layer)]: null }, `lacks ${layer}`],
    ["no index", index.digest, { [blobAt(index.digest)]: null }, `lacks ${index.digest}`],
    ["a layer that is longer", index.digest, { [blobAt(layer)]: Buffer.alloc(5000) }, "has 5000 bytes as"],
    ...[...files].map(([digest, bytes]): [string, string, Record<string, Buffer>, string] => [
      `other bytes as ${digest}`,
      index.digest,
      { [blobAt(digest)]: Buffer.concat([bytes.subarray(1), Buffer.from("x")]) },
      "has other bytes (sha256:",
    ]),
  ])("%s: refused", async (_, target, changed, why) => {
    const { witness } = await prepared(containerd({ [pinned]: target }, changed));
    expect(witness()).toMatchObject({
      ...{ verdict: "refused", code: "evidence_mismatch", reason: expect.stringContaining(why) },
    });
  });
  test("a layer that another image brought, packed in another way: by what was unpacked, and only that", async () => {
    // The kit's configurations have the packed layers' digests.
    const without = async (unpacked: string, gone: string) =>
      (await prepared(containerd(undefined, { [blobAt(gone)]: null }, { unpacked }))).witness();
    expect(await without(layer, layer)).toEqual({ verdict: "vouched" });
    for (const [unpacked, gone] of [
      [digestOf("other"), layer],
      [layer, configuration],
      [configuration, configuration],
      [image.digest, image.digest],
    ] as const)
      expect(await without(unpacked, gone)).toMatchObject({ reason: `docker's store lacks ${gone}` });
  });
  test("a link in a file's place can't be read", async () => {
    const at = containerd();
    const { witness } = await prepared(at);
    rmSync(join(at, blobAt(layer)));
    symlinkSync("/etc/passwd", join(at, blobAt(layer)));
    expect(witness).toThrow("can't be read");
  });
  test("nothing under the digest: absent, though another store has it", async () => {
    const { witness } = await prepared(containerd({}), { root: store({}, { [pinned]: ID }) });
    expect(witness()).toMatchObject({ verdict: "absent" });
  });
  test("a database that can't be read is no store without the image", async () => {
    const { witness } = await prepared(containerd(undefined, { [database]: Buffer.alloc(9000) }));
    expect(witness).toThrow("can't be read: it has no valid meta page");
  });

  test("every reference of docker's is observed, beside those of the engine's own store", () => {
    const names = { [pinned]: index.digest, constructor: ID, __proto__: ID, "docker.io/library/a:1": ID };
    Object.defineProperty(names, "__proto__", { value: ID, enumerable: true });
    const at = containerd(names);
    const driver = dockerDriver({ root: store(), containerd: at });
    expect(Object.entries(driver.observe()).sort()).toEqual(
      Object.entries({
        [IMAGE]: ID,
        "docker.io/library/app:old": digestOf("old"),
        [`${pinned} in ${at}`]: index.digest,
        [`constructor in ${at}`]: ID,
        [`__proto__ in ${at}`]: ID,
        [`docker.io/library/a:1 in ${at}`]: ID,
      }).sort(),
    );
  });
  test("compared: as planned, another, and something besides", () => {
    const at = "/var/lib/containerd";
    const driver = dockerDriver({ root: store(), containerd: at });
    const key = `${pinned} in ${at}`;
    expect(driver.compare(subject, {}, { [key]: index.digest })).toMatchObject({
      ...{ not_as_planned: [], changed_besides: [] },
      inverse: [{ package: key, before: null, left: index.digest }],
    });
    expect(driver.compare(subject, {}, { [key]: ID, [`x in ${at}`]: ID })).toMatchObject({
      not_as_planned: [{ package: key, expected: index.digest, found: ID }],
      changed_besides: [{ package: `x in ${at}`, found: ID }],
    });
    expect(driver.compare(subject, {}, {}).not_as_planned).toMatchObject([{ package: pinned, found: null }]);
  });
});
