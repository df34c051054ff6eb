import { describe, expect, test } from "bun:test";
import { image } from "../src/image.ts";
import { imageGrammar } from "../src/image-target.ts";
import { makePlan } from "../src/plan.ts";
import {
  AMD64,
  BASE,
  digestOf,
  type FakeImage,
  fakeImage,
  fakeIndex,
  imageAnswers,
  imagePlanning,
  layer,
  NAME,
  OCI,
  TYPES,
} from "./image-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

type Answers = Record<string, RegistryAnswer>;
type Host = Parameters<typeof imagePlanning>[1];

const planOf = (answers: Answers, target: string, host: Host = {}, runtime: "docker" | "podman" = "podman") =>
  makePlan(image.named?.(runtime) ?? image, "pull", [target], imagePlanning(answers, host));

/** A plan that says why it knows nothing. */
async function refusedFor(answers: Answers, target: string, why: string | RegExp, host: Host = {}) {
  const plan = await planOf(answers, target, host);
  expect(plan.warnings.join("\n")).toMatch(why);
  const [, digest] = target.split("@");
  const exact_targets = digest === undefined ? [] : [`${NAME}@${digest}`];
  expect(plan).toMatchObject({ metadata_available: false, transaction: [], exact_targets });
  expect(() => image.signedArgv(plan)).toThrow("no image with a digest");
}

const IMAGE = fakeImage();
const ARM = fakeImage({ architecture: "arm64" });
const INDEX = fakeIndex([
  [ARM, { architecture: "arm64", os: "linux", variant: "v8" }],
  [IMAGE, AMD64],
]);
const ALL = imageAnswers([INDEX, IMAGE, ARM], { "1.0": INDEX, one: IMAGE });
const PINNED = `${NAME}@${INDEX.digest}`;

/** The answers with one document in place of another, under the other's address. */
const replaced = (answers: Answers, address: string, answer: RegistryAnswer): Answers => {
  expect(answers[address]).toBeDefined();
  return { ...answers, [address]: answer };
};

describe("what is no image for this host", () => {
  const only = (given: FakeImage): [Answers, string] => {
    const made = fakeImage(given);
    return [imageAnswers([made]), `${NAME}@${made.digest}`];
  };
  const document = (text: string): [Answers, string] => [
    { [`${BASE}/manifests/${digestOf(text)}`]: text },
    `${NAME}@${digestOf(text)}`,
  ];
  const index = (...given: Parameters<typeof fakeIndex>): [Answers, string] => {
    const made = fakeIndex(...given);
    return [imageAnswers([made, IMAGE, ARM]), `${NAME}@${made.digest}`];
  };
  const manifestOf = (over: (manifest: Record<string, unknown>) => object) =>
    document(JSON.stringify(over(JSON.parse(IMAGE.bytes))));

  const CASES: [string, [Answers, string], string | RegExp][] = [
    ["another platform", only({ architecture: "arm64" }), "it is for linux/arm64, and this host is amd64"],
    ["another system", only({ configuration: { os: "windows" } }), "it is for windows/amd64"],
    [
      "an index without this platform",
      index([
        [ARM, { architecture: "arm64", os: "linux" }],
        [IMAGE, { architecture: "amd64", os: "windows" }],
      ]),
      "there is none for linux/amd64, only for linux/arm64, windows/amd64",
    ],
    [
      "an index with a newer processor's only",
      index([[IMAGE, { ...AMD64, variant: "v3" }]]),
      "only for linux/amd64/v3",
    ],
    ["an empty index", index([]), "only for nothing"],
    ["an index whose entry states no platform", index([[IMAGE, null]]), "only for an unstated platform"],
    [
      "an index that names an index",
      document(INDEX.bytes.replaceAll(TYPES.manifest, TYPES.index)),
      "lists an index for this platform",
    ],
    [
      "an index that names what isn't there",
      [imageAnswers([INDEX, ARM]), PINNED],
      "which its registry doesn't have",
    ],
    [
      "schema 1",
      document('{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[],"signatures":[]}'),
      "schema 1, which names no hash",
    ],
    ["no JSON", document("<html>"), "can't be read"],
    ["neither", document('{"schemaVersion":2}'), "neither an image's nor an index"],
    [
      "both (CVE-2021-41190)",
      manifestOf((manifest) => ({ ...manifest, manifests: [] })),
      "neither an image's nor an index",
    ],
    [
      "a manifest that says it is an index",
      manifestOf((manifest) => ({ ...manifest, mediaType: TYPES.index })),
      "says that it is application/vnd.oci.image.index.v1+json, and isn't",
    ],
    [
      "an unknown type",
      manifestOf((manifest) => ({ ...manifest, mediaType: "text/plain" })),
      "unknown type (text/plain)",
    ],
    ["schema 3", manifestOf((manifest) => ({ ...manifest, schemaVersion: 3 })), "schemaVersion"],
    [
      "Layers besides layers, which Go takes for the same",
      manifestOf((manifest) => ({ ...manifest, Layers: [] })),
      '"Layers" is there twice',
    ],
    [
      "layers twice",
      document(IMAGE.bytes.replace('"layers":', '"layers":[],"layers":')),
      '"layers" is there twice',
    ],
    [
      "MediaType alone",
      document(IMAGE.bytes.replace('"schemaVersion":2,"mediaType"', '"schemaVersion":2,"MediaType"')),
      '"MediaType" stands for mediaType',
    ],
    [
      "a layer from elsewhere",
      only({ layerType: `${OCI}.layer.nondistributable.v1.tar+gzip` }),
      "comes from somewhere else",
    ],
    [
      "Docker's layer from elsewhere",
      only({ layerType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" }),
      "comes from somewhere else",
    ],
    ["an encrypted layer", only({ layerType: `${OCI}.layer.v1.tar+gzip+encrypted` }), "of an unknown kind"],
    [
      "an artifact that is no image",
      manifestOf((manifest) => ({
        ...manifest,
        config: { mediaType: "application/vnd.cncf.helm.config.v1+json", digest: IMAGE.digest, size: 2 },
      })),
      "no image but application/vnd.cncf.helm.config.v1+json",
    ],
    [
      "another number of layers in the configuration",
      only({ configuration: { rootfs: { type: "layers", diff_ids: [] } } }),
      "tells of 0 layers, and its manifest of 1",
    ],
    [
      "a digest that is none",
      manifestOf((manifest) => ({
        ...manifest,
        layers: [{ mediaType: TYPES.layer, digest: "sha256:../x", size: 1 }],
      })),
      "layers.0.digest: no SHA-256 digest",
    ],
    [
      "a layer by another algorithm",
      manifestOf((manifest) => ({
        ...manifest,
        layers: [{ mediaType: TYPES.layer, digest: `sha512:${"a".repeat(128)}`, size: 1 }],
      })),
      "no SHA-256 digest",
    ],
    [
      "more layers than any engine stacks",
      only({ layers: Array.from({ length: 257 }, (_, i) => Buffer.from(String(i))) }),
      "layers",
    ],
  ];
  test.each(CASES)("%s", (_, [answers, target], why) => refusedFor(answers, target, why));

  test("an architecture that images don't have", () =>
    refusedFor(ALL, PINNED, "there is none for linux/loong64", { architecture: "loong64" }));
});

describe("bytes that aren't the named ones", () => {
  const [configuration = ""] = [...IMAGE.blobs.keys()];
  const other = Buffer.from("another file");

  test.each([
    ["the index", `${BASE}/manifests/${INDEX.digest}`, "a manifest that doesn't match its digest"],
    ["the manifest", `${BASE}/manifests/${IMAGE.digest}`, "a manifest that doesn't match its digest"],
    ["the configuration", `${BASE}/blobs/${configuration}`, "another file"],
  ])("%s", (_, address, why) => refusedFor(replaced(ALL, address, other), PINNED, why));

  test("a configuration that isn't there", () =>
    refusedFor(replaced(ALL, `${BASE}/blobs/${configuration}`, { status: 404 }), PINNED, "status 404"));

  test("a tag whose digest the registry states otherwise", () => {
    const headers = { "docker-content-digest": `sha256:${"0".repeat(64)}` };
    const answer = { status: 200, body: INDEX.bytes, headers };
    return refusedFor(
      replaced(ALL, `${BASE}/manifests/1.0`, answer),
      `${NAME}:1.0`,
      "doesn't match its digest",
    );
  });

  test("sizes that are stated too small or too large", async () => {
    for (const by of [-1, 1]) {
      const made = fakeImage();
      const manifest = JSON.parse(made.bytes);
      manifest.config.size += by;
      const bytes = JSON.stringify(manifest);
      const answers = imageAnswers([{ ...made, bytes, digest: digestOf(bytes) }]);
      await refusedFor(answers, `${NAME}@${digestOf(bytes)}`, /bytes, and its manifest says/);
    }
    const index = fakeIndex([[IMAGE, AMD64]]);
    const bytes = index.bytes.replace(/"size":\d+/, '"size":1');
    const answers = imageAnswers([{ bytes, digest: digestOf(bytes) }, IMAGE]);
    await refusedFor(answers, `${NAME}@${digestOf(bytes)}`, "the index says 1");
  });

  test("one file with two sizes", () => {
    const made = fakeImage({ layers: [layer("a"), layer("a")] });
    const manifest = JSON.parse(made.bytes);
    manifest.layers[1].size += 1;
    const bytes = JSON.stringify(manifest);
    const answers = imageAnswers([{ ...made, bytes, digest: digestOf(bytes) }]);
    return refusedFor(answers, `${NAME}@${digestOf(bytes)}`, /is named with \d+ and with \d+ bytes/);
  });

  test("a configuration larger than planning reads", () => {
    const made = fakeImage();
    const manifest = JSON.parse(made.bytes);
    manifest.config.size = 4 * 1024 ** 2 + 1;
    const bytes = JSON.stringify(manifest);
    const answers = imageAnswers([{ ...made, bytes, digest: digestOf(bytes) }]);
    return refusedFor(answers, `${NAME}@${digestOf(bytes)}`, "has 4194305 bytes, and planning reads 4194304");
  });
});

test("layers are planned by their manifest, however large, and none is asked for", async () => {
  const made = fakeImage();
  const manifest = JSON.parse(made.bytes);
  manifest.layers[0].size = 10 * 1024 ** 3;
  const bytes = JSON.stringify(manifest);
  const [configuration = "", first = ""] = [...made.blobs.keys()];
  const digest = digestOf(bytes);
  const planning = imagePlanning({
    ...imageAnswers([{ ...made, bytes, digest }]),
    [`${BASE}/blobs/${first}`]: { status: 500 },
  });
  const plan = await makePlan(image, "pull", [`${NAME}@${digest}`], planning);
  expect(plan).toMatchObject({ metadata_available: true, transaction: [{}, {}, { size: 10 * 1024 ** 3 }] });
  expect(planning.requests.filter(({ url }) => url.includes("/blobs/")).map(({ url }) => url)).toEqual([
    `${BASE}/blobs/${configuration}`,
  ]);
  const details = plan.provenance_evidence
    .filter(({ kind }) => kind === "image-digest")
    .map(({ detail }) => detail);
  expect(details).toEqual([
    `${TYPES.manifest}, what was asked for: its bytes were compared with this digest`,
    `${TYPES.config}, named by ${digest}: its bytes were compared with this digest`,
    `${TYPES.layer}, named by ${digest}: its bytes were not fetched for the plan: they are compared with this digest when the image is pulled`,
  ]);
});

test("no such tag", () =>
  expect(planOf(ALL, `${NAME}:2.0`)).rejects.toMatchObject({
    code: "not_found",
    message: `registry.example has no ${NAME}:2.0`,
  }));

describe("a plan", () => {
  test("by digest: every file, each named by the one above", async () => {
    const plan = await planOf(ALL, PINNED);
    const [configuration = "", first = ""] = [...IMAGE.blobs.keys()];
    expect(plan).toMatchObject({
      tool: "container",
      ecosystem: "podman",
      operation: "pull",
      exact_targets: [PINNED],
      target_version: INDEX.digest,
      source_registry: "registry.example",
      metadata_available: true,
      mutable_reference: false,
      packages_installed: [NAME],
      signature_or_checksum_status: "checksum-verified",
      image: { platform: "linux/amd64", user: "", created: "2026-11-01T10:00:00.123Z" },
    });
    expect(
      plan.transaction.map(({ to_version, required_by, media_type, size, url, sha256 }) => {
        expect(`sha256:${sha256}`).toBe(to_version ?? "");
        return [to_version, required_by, media_type, size, url];
      }),
    ).toEqual([
      [INDEX.digest, undefined, TYPES.index, INDEX.bytes.length, `${BASE}/manifests/${INDEX.digest}`],
      [
        IMAGE.digest,
        `${NAME} ${INDEX.digest}`,
        TYPES.manifest,
        IMAGE.bytes.length,
        `${BASE}/manifests/${IMAGE.digest}`,
      ],
      [
        configuration,
        `${NAME} ${IMAGE.digest}`,
        TYPES.config,
        IMAGE.blobs.get(configuration)?.length,
        `${BASE}/blobs/${configuration}`,
      ],
      [
        first,
        `${NAME} ${IMAGE.digest}`,
        TYPES.layer,
        IMAGE.blobs.get(first)?.length,
        `${BASE}/blobs/${first}`,
      ],
    ]);
    expect(plan.sbom_evidence).toEqual([
      { purl: `pkg:oci/app@${INDEX.digest}?repository_url=${NAME}`, sha256: INDEX.digest.slice(7) },
    ]);
    expect(plan.provenance_evidence.map(({ kind, subject, verified }) => [kind, subject, verified])).toEqual(
      plan.transaction.map(({ to_version }) => ["image-digest", `${NAME}@${to_version}`, true]),
    );
    expect(plan.risk_signals).toEqual([
      "requires-root",
      "network-operation",
      "package-install",
      "unknown-registry",
      "unsigned-image",
    ]);
  });

  test("of one manifest, of another platform's host, and of Docker's own types", async () => {
    expect((await planOf(ALL, `${NAME}@${IMAGE.digest}`)).transaction.map((one) => one.to_version)).toEqual([
      IMAGE.digest,
      ...IMAGE.blobs.keys(),
    ]);
    const arm = await planOf(ALL, PINNED, { architecture: "arm64" });
    expect(arm.transaction.map((one) => one.to_version)).toEqual([
      INDEX.digest,
      ARM.digest,
      ...ARM.blobs.keys(),
    ]);
    const docker = fakeImage({
      manifest: { mediaType: TYPES.docker },
      layerType: "application/vnd.docker.image.rootfs.diff.tar.gzip",
    });
    expect((await planOf(imageAnswers([docker]), `${NAME}@${docker.digest}`)).metadata_available).toBe(true);
    const zstd = fakeImage({ layerType: `${OCI}.layer.v1.tar+zstd` });
    expect((await planOf(imageAnswers([zstd]), `${NAME}@${zstd.digest}`)).metadata_available).toBe(true);
  });

  test("of an image with one layer twice has it once", async () => {
    const one = layer("twice");
    const made = fakeImage({ layers: [one, one] });
    const plan = await planOf(imageAnswers([made]), `${NAME}@${made.digest}`);
    expect(plan.transaction).toHaveLength(3);
    expect(plan.warnings.join("\n")).not.toContain("named with");
  });

  test("by tag: resolved, and denied until the digest is named", async () => {
    const plan = await planOf(ALL, `${NAME}:1.0`);
    expect(plan).toMatchObject({
      mutable_reference: true,
      exact_targets: [PINNED],
      metadata_available: true,
    });
    expect(plan.risk_signals).toContain("mutable-tag");
    expect(plan.warnings).toContain(`The tag 1.0 stands for ${PINNED} today; name the digest to keep it.`);
    expect(image.signedArgv(plan).at(-1)).toBe(PINNED);
  });

  test("by tag and digest: the digest decides, whatever the tag stands for", async () => {
    const plan = await planOf({ ...ALL, [`${BASE}/manifests/1.0`]: "x" }, `${NAME}:1.0@${INDEX.digest}`);
    expect(plan).toMatchObject({ mutable_reference: false, exact_targets: [PINNED] });
    expect(plan.warnings.join("\n")).toContain("whether the tag 1.0 still stands for it is not looked at");
  });

  test("Docker Hub stands in for a registry, and its API has another address", async () => {
    const hub = Object.fromEntries(
      Object.entries(ALL).map(([url, answer]) => [
        url.replace(BASE, "https://registry-1.docker.io/v2/library/app"),
        answer,
      ]),
    );
    const plan = await planOf(hub, `app@${INDEX.digest}`);
    expect(plan).toMatchObject({
      exact_targets: [`docker.io/library/app@${INDEX.digest}`],
      source_registry: "docker.io",
    });
    expect(plan.transaction.map(({ origin }) => origin)).toEqual(Array(4).fill("docker.io"));
    expect(plan.risk_signals).toContain("dockerhub-default");
    expect(plan.risk_signals).not.toContain("unknown-registry");
    const named = await planOf(hub, `docker.io/library/app@${INDEX.digest}`);
    expect(named.risk_signals).not.toContain("dockerhub-default");
  });

  test("signed for the engine that was named", async () => {
    expect(image.signedArgv(await planOf(ALL, PINNED, {}, "docker"))).toEqual(["docker", "pull", PINNED]);
    expect(image.signedArgv(await planOf(ALL, PINNED))).toEqual([
      ...["podman", "--root", "/var/lib/aegis/podman/storage", "--runroot", "/run/aegis/podman"],
      ...["pull", PINNED],
    ]);
    const plan = await planOf(ALL, PINNED);
    expect(() => image.signedArgv({ ...plan, ecosystem: "container" })).toThrow("or no engine");
    expect(() => image.signedArgv({ ...plan, exact_targets: [`${NAME}:1.0`] })).toThrow(
      "no image with a digest",
    );
  });

  test("without the engine: planned, and said", async () => {
    const plan = await planOf(ALL, PINNED, { programs: {} }, "docker");
    expect(plan.metadata_available).toBe(true);
    expect(plan.warnings).toContain("docker is not installed: the plan can't be run here.");
  });

  test.each([
    ["podman", true],
    ["docker", false],
  ] as const)("what %s pulls can be taken back: %s", async (runtime, isKept) => {
    const { rollback_plan } = await planOf(ALL, PINNED, {}, runtime);
    expect(rollback_plan.notes.join().includes("a rollback of the execution brings it back")).toBe(isKept);
  });
});

test("signatures that come or go are a change of the host's, told by what they are", async () => {
  const plan = await planOf(ALL, PINNED);
  const evidence = { kind: "image-signature", subject: PINNED, verified: false, key: null, detail: "by X" };
  const signed = { ...plan, provenance_evidence: [...plan.provenance_evidence, evidence] };
  const what = "what is signed about the image";
  expect(imageGrammar.claims.hostFacts(plan)).toEqual([{ what, items: [] }]);
  expect(imageGrammar.claims.hostFacts(signed)).toEqual([{ what, items: ["by X"] }]);
});

describe("what a manifest is served as", () => {
  const served = (bytes: string, type: string): Answers => {
    const body = { status: 200, body: bytes, headers: { "content-type": type } };
    return { ...imageAnswers([IMAGE]), [`${BASE}/manifests/${IMAGE.digest}`]: body };
  };
  const target = `${NAME}@${IMAGE.digest}`;

  test.each([TYPES.manifest, `${TYPES.manifest}; charset=utf-8`, "application/octet-stream", ""])(
    "%p is fine",
    async (type) => {
      expect((await planOf(served(IMAGE.bytes, type), target)).metadata_available).toBe(true);
    },
  );
  test("an index by its own type, too", async () => {
    const body = { status: 200, body: INDEX.bytes, headers: { "content-type": TYPES.index } };
    const plan = await planOf({ ...ALL, [`${BASE}/manifests/${INDEX.digest}`]: body }, PINNED);
    expect(plan.metadata_available).toBe(true);
  });
  test.each([
    [TYPES.index, "says that it is application/vnd.oci.image.index.v1+json, and isn't"],
    [TYPES.list, "says that it is application/vnd.docker.distribution.manifest.list.v2+json, and isn't"],
    ["application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"],
    ["application/vnd.docker.distribution.manifest.v1+json", "schema 1"],
  ])("%s: refused", (type, why) => refusedFor(served(IMAGE.bytes, type), target, why));
});

describe("what an image says of itself", () => {
  const warningsOf = async (given: FakeImage) => {
    const made = fakeImage(given);
    const plan = await planOf(imageAnswers([made]), `${NAME}@${made.digest}`);
    return { plan, said: plan.warnings.join("\n") };
  };

  test("all of it", async () => {
    const { plan } = await warningsOf({
      config: {
        User: "app:app",
        Entrypoint: ["/app"],
        Cmd: ["--serve"],
        ExposedPorts: { "8080/tcp": {}, "53/udp": {} },
        Volumes: { "/data": {} },
        Labels: { b: "2", "org.opencontainers.image.source": "https://github.com/x/y", B: "3" },
      },
    });
    expect(plan.image).toEqual({
      platform: "linux/amd64",
      user: "app:app",
      starts_as_root: false,
      entrypoint: ["/app"],
      command: ["--serve"],
      exposed_ports: ["53/udp", "8080/tcp"],
      volumes: ["/data"],
      labels: { B: "3", b: "2", "org.opencontainers.image.source": "https://github.com/x/y" },
      created: "2026-11-01T10:00:00.123Z",
    });
  });
  test.each([
    ["", true],
    ["root", true],
    ["0", true],
    ["0:0", true],
    ["00", true],
    ["root:nogroup", true],
    ["app", false],
    ["1000", false],
    ["1000:0", false],
  ])("USER %p: root %p", async (User, isRoot) => {
    expect((await warningsOf({ config: { User } })).said.includes("starts as root")).toBe(isRoot);
  });
  test.each([
    ["2024-03-21T10:33:18Z", "2024-03-21"],
    ["2024-03-21T10:33:18.559431269+02:00", "2024-03-21"],
  ])("made on %s", async (created, date) => {
    expect((await warningsOf({ created })).said).toContain(`says that it was made on ${date}`);
  });
  test.each(["yesterday", "2026", ""])("made %p: no time", async (created) => {
    const { plan, said } = await warningsOf({ created });
    expect(plan.image?.created).toBeNull();
    expect(said).toContain("doesn't say when it was made");
  });
  test("nulls, as Go writes them", async () => {
    const { plan } = await warningsOf({
      config: { Entrypoint: null, Cmd: null, ExposedPorts: null, Labels: null, User: null },
    });
    expect(plan.image).toMatchObject({ entrypoint: [], command: [], exposed_ports: [], labels: {} });
  });
  test("more than a plan holds is cut", async () => {
    const many = Object.fromEntries(
      Array.from({ length: 500 }, (_, i) => [`${1000 + i}/tcp`, "x".repeat(2000)]),
    );
    const { plan } = await warningsOf({
      config: { ExposedPorts: many, Labels: many, Entrypoint: ["😀".repeat(600)] },
    });
    expect(plan.image?.exposed_ports).toHaveLength(256);
    expect(Object.keys(plan.image?.labels ?? {})).toHaveLength(64);
  });
  test("a configuration that contradicts the index is told", async () => {
    const liar = fakeImage({ architecture: "arm64" });
    const index = fakeIndex([[liar, AMD64]]);
    const plan = await planOf(imageAnswers([index, liar]), `${NAME}@${index.digest}`);
    expect(plan.metadata_available).toBe(true);
    expect(plan.warnings.join("\n")).toContain(
      "Its configuration says linux/arm64, and the index another platform",
    );
  });
  test("BuildKit's statements are shown as what they are: unsigned", async () => {
    const statement = fakeImage({ architecture: "unknown" });
    const index = fakeIndex([
      [IMAGE, AMD64],
      [
        statement,
        { architecture: "unknown", os: "unknown" },
        { "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": IMAGE.digest },
      ],
    ]);
    const plan = await planOf(imageAnswers([index, IMAGE]), `${NAME}@${index.digest}`);
    expect(plan.risk_signals).toContain("unsigned-image");
    expect(plan.warnings.join("\n")).toContain("carries statements of BuildKit's (1). They are unsigned");
    expect(plan.provenance_evidence.at(-1)).toMatchObject({
      kind: "buildkit-attestation",
      verified: false,
      detail: `${statement.digest}: a statement by whoever pushed the image, unsigned`,
    });
  });
});
