import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { RunSubject } from "../src/eco-driver.ts";
import { dockerDriver } from "../src/image-docker.ts";
import { digestOf, TYPES } from "./image-kit.ts";
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
    dockerDriver({
      root,
      info: () =>
        Promise.resolve(
          info === null
            ? null
            : {
                ...{ status, outcome: "exited" as const, stderr: Buffer.from("") },
                stdout: Buffer.from(typeof info === "string" ? info : JSON.stringify(info)),
              },
        ),
    }).ready(pull({ ecosystem }), waiting);
  const GOOD = { DockerRootDir: root, Driver: "overlay2", DriverStatus: [["Backing Filesystem", "extfs"]] };

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
      "containerd's store",
      { ...GOOD, DriverStatus: [["driver-type", "io.containerd.snapshotter.v1"]] },
      0,
      "in containerd's store",
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
    const driver = dockerDriver({ root: store(), credentials });
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
      facts: { engine: "unix:///var/run/docker.sock" },
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
