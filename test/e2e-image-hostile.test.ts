import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPairSync, sign } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { SYSTEM_PATH } from "../src/sys-spawn.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { AMD64, digestOf, fakeImage, fakeIndex, imageAnswers, TYPES } from "./image-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * Images that must not be pulled, and registries that misbehave, as a user meets them: the compiled binary asks registries on this
 * machine's loopback interface; exit status, message, hint and what the user's own log says of it.
 */

type Answer = (request: Request, path: string, base: string) => Response | undefined;

const IMAGE = fakeImage({ config: { User: "1000" } });
const ARM = fakeImage({ architecture: "arm64", config: { User: "1000" } });
const INDEX = fakeIndex([[IMAGE, AMD64]]);
const [CONFIGURATION = ""] = [...IMAGE.blobs.keys()];
const documents = (...all: Parameters<typeof imageAnswers>[0]) => new Map(Object.entries(imageAnswers(all)));
const ALL = documents(INDEX, IMAGE);

/** Serves documents of image-kit.ts, whose addresses end in the same path. */
const serving =
  (answers: ReadonlyMap<string, unknown>): Answer =>
  (_, path) => {
    for (const [address, answer] of answers) {
      if (!address.endsWith(`/team/app${path}`)) continue;
      if (typeof answer !== "string" && !(answer instanceof Uint8Array)) break;
      const bytes = Buffer.from(answer);
      const type = path.startsWith("/manifests/") ? JSON.parse(bytes.toString()).mediaType : "";
      return new Response(bytes, { headers: { "content-type": type || "application/octet-stream" } });
    }
    return undefined;
  };

const basic = (pair: string) => `Basic ${Buffer.from(pair).toString("base64")}`;

/** Without what folds text on a screen. */
const bare = (text: string) => text.replace(/[\s│]+/g, "");

/** Ten gigabytes, for whoever reads on. */
function flood(sent: { bytes: number }): Response {
  const chunk = new Uint8Array(256 * 1024);
  return new Response(
    new ReadableStream({
      pull(controller) {
        sent.bytes += chunk.length;
        if (sent.bytes > 10 * 1024 ** 3) controller.close();
        else controller.enqueue(chunk);
      },
    }),
  );
}

describeOnThrowaway("images that must not be pulled", () => {
  let chain: Chain;
  const servers: ReturnType<typeof Bun.serve>[] = [];
  const seen: { path: string; authorization: string }[] = [];

  /** A registry of its own port; `answer` may leave a request to the documents. */
  function registry(answer: Answer = () => undefined, answers = ALL): string {
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch(request) {
        const { pathname, host } = new URL(request.url);
        seen.push({
          path: `${host}${pathname}`,
          authorization: request.headers.get("authorization") ?? "",
        });
        const path = pathname.replace(/^\/v2\/team\/app/, "");
        return (
          answer(request, path, `http://${host}`) ??
          serving(answers)(request, path, "") ??
          new Response("{}", { status: 404 })
        );
      },
    });
    servers.push(server);
    return `127.0.0.1:${server.port}`;
  }

  interface Met {
    status: number | null;
    /** The screens of `aegis plan` and of `aegis policy`, {@link bare}. */
    said: string;
    policy: number | null;
    /** Of the user's log: the event of the plan, and that of the decision. */
    planned: Event;
    decided: Event;
  }
  interface Event {
    kind: string;
    plan_id: string;
    decision: string | null;
    details: Record<string, unknown>;
  }

  /** What alice meets who plans the image and asks policy; `policy` is added to the administrator's. */
  async function met(target: string, policy = ""): Promise<Met> {
    const [host = ""] = target.split("/");
    chain.host.write("/etc/aegis/policy.toml", `[container]\nallowed_registries = ["${host}"]\n${policy}`);
    // Otherwise a file that an earlier plan has read isn't asked for.
    await chain.host.exec(["rm", "-rf", "/home/alice/.cache/aegis"]);
    const planned = await chain.aegis(["plan", "docker", "pull", target], { user: "alice" });
    const decided = await chain.aegis(["policy", "latest"], { user: "alice" });
    const shown = await chain.aegis(["audit", "show", "--json"], { user: "alice" });
    const events: Event[] = JSON.parse(shown.stdout).events.slice(-2);
    const [first, second] = events;
    if (first === undefined || second === undefined) throw new Error(shown.stdout);
    expect(first.plan_id).toBe(second.plan_id);
    const text = [planned, decided].map(({ stdout, stderr }) => stdout + stderr).join("\n");
    return {
      status: planned.status,
      said: bare(text),
      policy: decided.status,
      planned: first,
      decided: second,
    };
  }

  /** Denied, with this on the screen, this among the rules of the decision's event, and the reason in the plan's. */
  async function denied(target: string, says: string, rule: string, policy = "") {
    const found = await met(target, policy);
    expect(found.said).toContain(bare(says));
    expect({ plan: found.status, policy: found.policy }).toEqual({ plan: 3, policy: 3 });
    expect(found.planned).toMatchObject({ kind: "plan_created" });
    expect(found.decided).toMatchObject({
      ...{ kind: "policy_evaluated", decision: "deny" },
      details: { rules: expect.arrayContaining([rule]) },
    });
    return found;
  }
  /** The same for an image that nothing could be found out about. */
  async function unknown(target: string, says: string) {
    const found = await denied(target, says, "metadata-not-understood");
    expect(found.planned.details["why"]).toContain(says);
    return found;
  }

  const install = (name: string) => chain.host.write(`/usr/local/sbin/${name}`, "#!/bin/sh\n", 0o755);
  const removeEngines = () =>
    chain.host.exec(["rm", "-f", ...SYSTEM_PATH.flatMap((path) => [`${path}/docker`, `${path}/podman`])]);

  beforeAll(async () => {
    chain = await startChain();
    // The engine has nothing to do with what a registry says, and its absence would be a reason of its own.
    await removeEngines();
    install("docker");
  }, 120_000);
  afterAll(async () => {
    for (const server of servers) await server.stop(true);
    await chain?.stop();
  });

  describe("signatures, where policy requires one", () => {
    const keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const other = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const required = (host: string, key = keys.publicKey) =>
      `require_signature = true\n[[container.signers]]\nimages = ["${host}/*"]\npublic_key = """${key.export({ type: "spki", format: "pem" })}"""\n`;

    /** A registry whose image is signed under cosign's tag by {@link keys}. */
    function signed(change: (payload: string) => string = (same) => same): string {
      let payload = "";
      const host = registry((_, path) => {
        if (payload === "") payload = simpleSigning(`${host}/team/app`);
        const bytes = Buffer.from(change(payload));
        const signature = sign("sha256", Buffer.from(payload), keys.privateKey).toString("base64");
        if (path === `/blobs/${digestOf(bytes)}`) return new Response(bytes);
        if (path !== `/manifests/${INDEX.digest.replace(":", "-")}.sig`) return undefined;
        return Response.json({
          ...{ schemaVersion: 2, mediaType: TYPES.manifest },
          config: { mediaType: TYPES.config, digest: digestOf("{}"), size: 2 },
          layers: [
            {
              ...{ mediaType: "application/vnd.dev.cosign.simplesigning.v1+json", digest: digestOf(bytes) },
              ...{ size: bytes.length, annotations: { "dev.cosignproject.cosign/signature": signature } },
            },
          ],
        });
      });
      return host;
    }
    const simpleSigning = (name: string) =>
      JSON.stringify({
        critical: {
          identity: { "docker-reference": name },
          image: { "docker-manifest-digest": INDEX.digest },
          type: "cosign container image signature",
        },
        optional: null,
      });

    test("by the key that the policy names: allowed", async () => {
      const host = signed();
      const found = await met(`${host}/team/app@${INDEX.digest}`, required(host));
      expect({ plan: found.status, policy: found.policy }).toEqual({ plan: 0, policy: 0 });
      expect(found.decided).toMatchObject({ decision: "allow" });
    }, 60_000);

    test("none", async () => {
      const host = registry();
      const target = `${host}/team/app@${INDEX.digest}`;
      await denied(
        target,
        "ask its publisher to sign it (cosign sign), or have the signer added there: no signature was found",
        "image-signature",
        required(host),
      );
    }, 60_000);

    test("by another key", async () => {
      const host = signed();
      await denied(
        `${host}/team/app@${INDEX.digest}`,
        "have the signer added there: signed by a key that is not among them",
        "image-signature",
        required(host, other.publicKey),
      );
    }, 60_000);

    test("by the key, of something else", async () => {
      const host = signed((payload) => payload.replace('"optional":null', '"optional":{"a":"b"}'));
      await denied(
        `${host}/team/app@${INDEX.digest}`,
        "have the signer added there: signed by a key that is not among them",
        "image-signature",
        required(host),
      );
    }, 60_000);
  });

  describe("provenance, where policy requires it: a real image of slsa-framework", () => {
    const TOP = "sha256:e0a0a765d690a5104331cfbac88ebbbf01736c1f87aaa3cd455c516a5ea586a5";
    const directory = join(import.meta.dir, "fixtures/image/slsa");
    const files = new Map(
      readdirSync(directory).map((name) => [`sha256:${name}`, readFileSync(join(directory, name))]),
    );
    const ATTESTATION = "sha256:31cc4fb663c8d34e2e6a0bd5f183d576c2811ee286e0998b4c2965e3b35a0d86";
    const slsa = () =>
      registry((_, path) => {
        const [, which = "", name = ""] = /^\/(manifests|blobs)\/(.+)$/.exec(path) ?? [];
        const bytes = files.get(name === `${TOP.replace(":", "-")}.att` ? ATTESTATION : name);
        if (bytes === undefined) return undefined;
        const type = which === "manifests" ? JSON.parse(bytes.toString()).mediaType : "";
        return new Response(new Uint8Array(bytes), {
          headers: { "content-type": type || "application/octet-stream" },
        });
      });
    const GENERATOR =
      "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml";
    const required = (host: string, subject: string, source: string) =>
      `require_provenance = true\n[[container.signers]]\nimages = ["${host}/*"]\nissuer = "https://token.actions.githubusercontent.com"\nsubject = "${subject}"\nsource_repository = "${source}"\n`;
    const OURS = "https://github.com/slsa-framework/example-package";

    test("by the identity that the policy names: allowed", async () => {
      const host = slsa();
      const found = await met(`${host}/team/app@${TOP}`, required(host, `${GENERATOR}@*`, OURS));
      expect(found.said).toContain(bare("Checksums signature-verified"));
      expect({ plan: found.status, policy: found.policy }).toEqual({ plan: 0, policy: 0 });
    }, 60_000);

    test.each([
      ["another workflow's", "https://github.com/other/*", OURS],
      ["the same workflow's, run for another repository", `${GENERATOR}@*`, "https://github.com/other/app"],
    ])(
      "by another identity, %s",
      async (_, subject, source) => {
        const host = slsa();
        await denied(
          `${host}/team/app@${TOP}`,
          `signed by ${GENERATOR}@refs/tags/v1.10.0, known to https://token.actions.githubusercontent.com, run for ${OURS}`,
          "image-provenance",
          required(host, subject, source),
        );
      },
      60_000,
    );
  });

  describe("signatures by identities, where policy requires one: cosign 3.1.3's, of a Sigstore that root trusts", () => {
    const { root, repositories } = JSON.parse(
      readFileSync(join(import.meta.dir, "fixtures/image/cosign/recorded.json"), "utf8"),
    );
    const { manifests, blobs, referrers } = repositories["v3-identity-bundle"];
    const [digest = ""] = Object.keys(referrers);
    const signed = () =>
      registry((_, path) => {
        const [, kind = "", name = ""] = /^\/(manifests|blobs|referrers)\/(.+)$/.exec(path) ?? [];
        if (kind === "referrers") return name === digest ? Response.json(referrers[digest]) : undefined;
        const text: string | undefined = (kind === "manifests" ? manifests : blobs)[name];
        if (text === undefined) return undefined;
        const type = kind === "manifests" ? TYPES.manifest : "application/octet-stream";
        return new Response(text, { headers: { "content-type": type } });
      });
    const required = (host: string, subject: string, issuer = "https://127.0.0.1:5056") =>
      `require_signature = true\n[[container.signers]]\nimages = ["${host}/*"]\nissuer = "${issuer}"\nsubject = "${subject}"\n`;
    const trusted = "/etc/aegis/sigstore-trusted-root.json";
    beforeAll(() => chain.host.write(trusted, JSON.stringify(root)));
    afterAll(() => chain.host.exec(["rm", "-f", trusted]));

    test("the one that the policy names: allowed", async () => {
      const host = signed();
      const found = await met(`${host}/team/app@${digest}`, required(host, "dev@aegis.test"));
      expect({ plan: found.status, policy: found.policy }).toEqual({ plan: 0, policy: 0 });
      expect(found.said).toContain(bare("signed by dev@aegis.test, known to https://127.0.0.1:5056"));
    }, 60_000);

    test.each([
      ["another person", "ops@aegis.test", "https://127.0.0.1:5056"],
      ["the same name, known to somebody else", "dev@aegis.test", "https://accounts.example"],
    ])(
      "%s",
      async (_, subject, issuer) => {
        const host = signed();
        await denied(
          `${host}/team/app@${digest}`,
          "have the signer added there: signed by dev@aegis.test, known to https://127.0.0.1:5056",
          "image-signature",
          required(host, subject, issuer),
        );
      },
      60_000,
    );

    test("where nobody trusts that Sigstore", async () => {
      await chain.host.exec(["mv", trusted, `${trusted}.off`]);
      const host = signed();
      const { said } = await denied(
        `${host}/team/app@${digest}`,
        "have the signer added there: no signature was found",
        "image-signature",
        required(host, "dev@aegis.test"),
      );
      await chain.host.exec(["mv", `${trusted}.off`, trusted]);
      expect(said).toContain(bare("A signature of it doesn't count"));
    }, 60_000);
  });

  describe("no image for this host", () => {
    test("a manifest list without this platform", async () => {
      const list = fakeIndex([[ARM, { architecture: "arm64", os: "linux" }]], { mediaType: TYPES.list });
      const host = registry(undefined, documents(list, ARM));
      await unknown(
        `${host}/team/app@${list.digest}`,
        "there is none for linux/amd64, only for linux/arm64.",
      );
    }, 60_000);

    test("a manifest of schema 1", async () => {
      const bytes =
        '{"schemaVersion":1,"name":"team/app","tag":"1","fsLayers":[],"history":[],"signatures":[]}';
      const type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
      const host = registry(() => new Response(bytes, { headers: { "content-type": type } }));
      await unknown(
        `${host}/team/app:1`,
        "its manifest is of schema 1, which names no hash of its configuration; have it pushed again.",
      );
    }, 60_000);
  });

  describe("a registry that refuses", () => {
    const challenge = { "www-authenticate": 'Basic realm="ours"' };
    const login = (host: string, pair: string) =>
      chain.host.write(
        "/home/alice/.docker/config.json",
        JSON.stringify({ auths: { [host]: { auth: Buffer.from(pair).toString("base64") } } }),
      );

    test("401, without a password, with another, and with the one", async () => {
      const host = registry((request) =>
        request.headers.get("authorization") === basic("alice:s3cret")
          ? undefined
          : new Response("", { status: 401, headers: challenge }),
      );
      const target = `${host}/team/app@${INDEX.digest}`;
      const { said } = await unknown(
        target,
        `${host} gave no usable answer: status 401: without a password, there is no such image or no access to it.`,
      );
      expect(said).toContain(bare(`Log in to ${host} with docker login or podman login, then plan again.`));
      login(host, "alice:wr0ng");
      const wrong = await unknown(target, "status 401: with the password that is configured");
      expect(JSON.stringify(wrong)).not.toContain("wr0ng");
      login(host, "alice:s3cret");
      const found = await met(target);
      expect([found.status, JSON.stringify(found)]).toEqual([0, expect.not.stringContaining("s3cret")]);
      expect(JSON.stringify(found)).not.toContain(Buffer.from("alice:s3cret").toString("base64"));
    }, 60_000);

    test("429, and how long it asks to wait", async () => {
      const host = registry(() => new Response("", { status: 429, headers: { "retry-after": "77" } }));
      const { said } = await unknown(
        `${host}/team/app:1`,
        "status 429: too many requests; it asks to wait for 77 seconds.",
      );
      expect(said).toContain(
        bare("Wait for 77 seconds, or log in: most registries allow more to whom they know."),
      );
    }, 60_000);

    test("files that are on another host: without the password, and by their digest", async () => {
      const storage = registry();
      const host = registry((request, path) => {
        if (request.headers.get("authorization") !== basic("alice:s3cret"))
          return new Response("", { status: 401, headers: challenge });
        if (!path.startsWith("/blobs/")) return undefined;
        return new Response("", {
          status: 307,
          headers: { location: `http://${storage}/v2/team/app${path}` },
        });
      });
      login(host, "alice:s3cret");
      expect((await met(`${host}/team/app@${INDEX.digest}`)).status).toBe(0);
      const there = seen.filter(({ path }) => path.startsWith(storage));
      expect(there).toEqual([{ path: `${storage}/v2/team/app/blobs/${CONFIGURATION}`, authorization: "" }]);
    }, 60_000);

    test("a manifest on another host: not followed", async () => {
      const elsewhere = registry();
      const host = registry(
        (_, path) =>
          new Response("", { status: 307, headers: { location: `http://${elsewhere}/v2/team/app${path}` } }),
      );
      login(host, "alice:s3cret");
      await unknown(
        `${host}/team/app@${INDEX.digest}`,
        "status 307, with a redirect, which is not followed for manifests.",
      );
      expect(seen.filter(({ path }) => path.startsWith(elsewhere))).toEqual([]);
    }, 60_000);
  });

  describe("ten gigabytes", () => {
    /** The most memory that a plan of the image takes, in MiB. */
    async function memoryOf(target: string): Promise<number> {
      const measured =
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
      const argv = ["/usr/local/bin/aegis", "plan", "docker", "pull", target];
      const { stdout } = await chain.host.exec(["/usr/bin/python3", "-c", measured, ...argv], {
        user: "alice",
        timeoutMs: 60_000,
      });
      return Number(stdout.trim().split("\n").at(-1)) / 1024;
    }
    let usual = 0;
    beforeAll(async () => {
      usual = await memoryOf(`${registry()}/team/app@${INDEX.digest}`);
      expect(usual).toBeGreaterThan(10);
    });

    test.each([
      ["a manifest", "/manifests/", "the answer is larger than 4194304 bytes."],
      [
        "a configuration",
        "/blobs/",
        `the answer is larger than ${IMAGE.blobs.get(CONFIGURATION)?.length} bytes.`,
      ],
    ])(
      "%s: no more than what it may have is read, and memory stays flat",
      async (_, where, says) => {
        const sent = { bytes: 0 };
        const host = registry((__, path) => (path.startsWith(where) ? flood(sent) : undefined));
        const target = `${host}/team/app@${INDEX.digest}`;
        await unknown(target, says);
        expect(await memoryOf(target)).toBeLessThan(usual + 64);
        expect(sent.bytes).toBeLessThan(256 * 1024 * 1024);
      },
      120_000,
    );

    test("layers are planned by what the manifest says of them, and not asked for", async () => {
      const manifest = JSON.parse(IMAGE.bytes);
      manifest.layers[0].size = 10 * 1024 ** 3;
      const bytes = JSON.stringify(manifest);
      const large = { ...IMAGE, bytes, digest: digestOf(bytes) };
      const sent = { bytes: 0 };
      const host = registry(
        (_, path) => (path.endsWith(manifest.layers[0].digest) ? flood(sent) : undefined),
        documents(large),
      );
      const target = `${host}/team/app@${large.digest}`;
      expect((await met(target)).said).toContain(bare("10.7 GB to download"));
      expect(await memoryOf(target)).toBeLessThan(usual + 32);
      expect(sent.bytes).toBe(0);
    }, 120_000);
  });

  test("`container` takes the engine that is installed, podman of both, and the one that is named", async () => {
    const host = registry();
    const engine = async (...runtime: string[]) => {
      const target = `${host}/team/app@${INDEX.digest}`;
      const { document } = await chain.json(["plan", "container", "pull", target, ...runtime], "alice");
      return Object(document).plan.ecosystem;
    };
    expect(await engine()).toBe("docker");
    install("podman");
    expect([await engine(), await engine("--runtime", "docker")]).toEqual(["podman", "docker"]);
    await removeEngines();
    expect(await engine()).toBe("podman");
  }, 60_000);
});
