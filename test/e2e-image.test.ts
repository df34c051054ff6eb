import { afterAll, beforeAll, expect, test } from "bun:test";
import { gunzipSync } from "node:zlib";
import { canonicalHash } from "../src/canonical.ts";
import { debianPackages, unpackPackages } from "./debian-packages.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import {
  AMD64,
  BASE,
  digestOf,
  type FakeImage,
  fakeImage,
  fakeIndex,
  imageAnswers,
  layer,
  TYPES,
} from "./image-kit.ts";
import { needs } from "./needs.ts";
import type { Running } from "./throwaway.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * docker from the plan to the log, with Debian's engine and a registry of the test's own.
 */

/** An image whose layers an engine can unpack. */
function realImage(text: string, given: FakeImage = {}) {
  const layers = [layer(text)];
  const diff_ids = layers.map((one) => digestOf(gunzipSync(one)));
  return fakeImage({ ...given, layers, configuration: { rootfs: { type: "layers", diff_ids } } });
}

const DEBS = debianPackages("docker.io", "docker-registry");
const IMAGE = realImage("hello\n", { config: { Entrypoint: ["/hello"], User: "1000" } });
const INDEX = fakeIndex([[IMAGE, AMD64]]);
const NEWER = realImage("hello again\n");
const LATER = realImage("later\n");
const MOVED = realImage("moved\n");
const SPOILT = realImage("good\n");

/** A document under cosign's tag; whose signature is in there doesn't matter. */
const SIGNATURE = JSON.stringify({
  ...{ schemaVersion: 2, mediaType: TYPES.manifest },
  config: { mediaType: TYPES.config, digest: digestOf("{}"), size: 2 },
  layers: [
    {
      mediaType: "application/vnd.dev.cosign.simplesigning.v1+json",
      ...{ digest: digestOf("{}"), size: 2 },
    },
  ],
});

needs(DEBS !== null, "Debian's packages of docker, by apt-get").describe("Debian's docker", () =>
  describeOnThrowaway("from intent to an image", () => {
    let server: ReturnType<typeof Bun.serve>;
    let chain: Chain;
    let engine: Running;
    let name = "";
    /** Whom the registry gives a changed layer: the engine, and not planning. */
    let spoils = false;
    /** What it has no more. */
    let gone = "none";
    /** What the tag `latest` stands for. */
    let latest: { bytes: string; digest: string } = INDEX;
    /** The image that is signed by now. */
    let signed = "none";

    beforeAll(async () => {
      const answers = imageAnswers([INDEX, IMAGE, NEWER, LATER, MOVED, SPOILT]);
      server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch(request) {
          const { pathname } = new URL(request.url);
          if (pathname === "/v2/") return new Response("{}");
          const answer = pathname.endsWith("/manifests/latest")
            ? latest.bytes
            : pathname.endsWith(`/${signed.replace(":", "-")}.sig`)
              ? SIGNATURE
              : pathname.endsWith(digestOf("{}"))
                ? "{}"
                : answers[`${BASE}${pathname.replace("/v2/team/app", "")}`];
          if (gone !== "" && pathname.endsWith(gone)) return new Response("{}", { status: 404 });
          if (typeof answer !== "string" && !(answer instanceof Uint8Array))
            return new Response("{}", { status: 404 });
          const isEngine = /docker\//.test(request.headers.get("user-agent") ?? "");
          const bytes = Buffer.from(answer);
          if (spoils && isEngine && pathname.includes("/blobs/")) bytes[bytes.length - 1] = 0x55;
          const mediaType = pathname.includes("/manifests/") ? JSON.parse(bytes.toString()).mediaType : "";
          return new Response(bytes, {
            headers: { "content-type": mediaType || "application/octet-stream" },
          });
        },
      });
      name = `127.0.0.1:${server.port}/team/app`;
      chain = await startChain();
      const { host } = chain;
      await unpackPackages(host, DEBS ?? "");
      // The engine wants to see control groups, although nothing is started in one.
      const groups = "cd /sys/fs/cgroup && mkdir -p devices && mount -t cgroup -o devices none devices";
      const mounted = `mount -t tmpfs none /sys/fs/cgroup && ${groups} || mount -t cgroup2 none /sys/fs/cgroup`;
      await host.exec(["sh", "-c", mounted]);
      const alone = ["--storage-driver", "vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"];
      engine = await host.spawn(["/usr/sbin/dockerd", ...alone]);
      for (let n = 0; (await host.exec(["docker", "info"])).status !== 0; n++) {
        if (n > 50) throw new Error(`docker's engine did not come up: ${engine.stderr().slice(-4000)}`);
        await Bun.sleep(100);
      }
      host.write(
        "/etc/aegis/policy.toml",
        `[container]\nallowed_registries = ["127.0.0.1:${server.port}"]\n`,
      );
      await chain.startDaemon();
    }, 240_000);
    afterAll(async () => {
      await engine?.kill();
      await chain?.stop();
      await server?.stop(true);
    });

    test("an image is planned, signed, pulled by its digest, compared, and holds what was signed; not twice", async () => {
      const { host } = chain;
      const { execution, path } = await chain.signed("docker", "pull", `${name}@${INDEX.digest}`);
      expect(execution.argv).toEqual(["docker", "pull", `${name}@${INDEX.digest}`]);
      expect(execution.policy_decision).toBe("allow");
      const applied = await chain.apply(path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      const made = await host.exec(["docker", "create", "--name", "one", `${name}@${INDEX.digest}`]);
      expect([made.status, made.stderr]).toEqual([0, ""]);
      expect((await host.exec(["docker", "cp", "one:/hello", "/var/tmp/hello"])).status).toBe(0);
      expect(host.read("/var/tmp/hello")).toBe("hello\n");
      expect((await chain.apply(path)).status).toBe(6);
      expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
    }, 240_000);

    test("a tag is resolved, and policy denies it until the digest is named", async () => {
      const { stdout, status } = await chain.aegis(["plan", "docker", "pull", name]);
      expect(status).toBe(3);
      expect(stdout).toContain(`aegis plan docker pull ${name}@${INDEX.digest}`);
    }, 60_000);

    test("an engine that is given another layer: the run fails, nothing is there, and the log says so", async () => {
      spoils = true;
      const { path } = await chain.signed("docker", "pull", `${name}@${SPOILT.digest}`);
      const applied = await chain.apply(path);
      spoils = false;
      expect(applied.status).toBe(7);
      const { stdout } = await chain.host.exec(["docker", "images", "--digests"]);
      expect(stdout).not.toContain(SPOILT.digest);
      expect(chain.audit().at(-1)).toMatchObject({ kind: "execution_completed", exit_status: 1 });
    }, 120_000);

    test("a registry that has the image no more: drift, and nothing is used up", async () => {
      const { path } = await chain.signed("docker", "pull", `${name}@${LATER.digest}`);
      gone = LATER.digest;
      expect((await chain.apply(path)).status).toBe(9);
      expect(chain.audit().at(-1)).toMatchObject({ kind: "execution_denied", details: { code: "drift" } });
      gone = "none";
      expect((await chain.apply(path)).status).toBe(0);
    }, 120_000);

    test("a tag that moves between plan and run: what it stood for is pulled", async () => {
      const { host } = chain;
      const { path } = await chain.signed("docker", "pull", `${name}@${IMAGE.digest}`);
      const [, asTag = ""] =
        /aegis plan docker pull (\S+)/.exec((await chain.aegis(["plan", "docker", "pull", name])).stdout) ??
        [];
      expect(asTag).toBe(`${name}@${INDEX.digest}`);
      const resolved = await chain.signed("docker", "pull", asTag);
      latest = MOVED;
      for (const one of [path, resolved.path]) expect((await chain.apply(one)).status).toBe(0);
      const { stdout } = await host.exec(["docker", "images", "--digests", "--no-trunc"]);
      expect(stdout).toContain(IMAGE.digest);
      expect(stdout).not.toContain(MOVED.digest);
      expect(chain.audit().at(-1)).toMatchObject({ kind: "execution_completed", exit_status: 0 });
      latest = INDEX;
    }, 120_000);

    test("a signer who signs a tag against the rules: refused, wherever the tag stands", async () => {
      const { execution } = await chain.signed("docker", "pull", `${name}@${INDEX.digest}`);
      const { plan } = await chain.plan("docker", "pull", name);
      const operation_plan = { ...plan, mutable_reference: false };
      const operation_plan_hash = canonicalHash(operation_plan);
      const policy_result = {
        ...{ ...execution.policy_result, plan_id: plan.plan_id, plan_hash: operation_plan_hash },
      };
      const forged = await chain.forge({
        ...{ ...execution, operation_plan, operation_plan_hash, operation_plan_id: plan.plan_id },
        ...{ policy_result, policy_result_hash: canonicalHash(policy_result) },
      });
      latest = MOVED;
      const applied = await chain.apply(forged);
      latest = INDEX;
      expect(applied.stderr).toContain("policy decides deny on this plan, which differs");
      expect(applied.status).toBe(6);
      expect(chain.audit().at(-1)).toMatchObject({
        ...{ kind: "execution_denied", plan_id: plan.plan_id },
        details: { code: "policy_mismatch", check: "policy" },
      });
    }, 120_000);

    test("a signature that comes between plan and run: drift", async () => {
      const { path } = await chain.signed("docker", "pull", `${name}@${LATER.digest}`);
      signed = LATER.digest;
      const applied = await chain.apply(path);
      signed = "none";
      expect(applied.stderr).toContain(
        "what is signed about the image has changed since the plan: signed nothing; now it would be",
      );
      expect(applied.status).toBe(9);
      expect(chain.audit().at(-1)).toMatchObject({
        ...{ kind: "execution_denied", details: { code: "drift", check: "plan-again", signed: [] } },
      });
    }, 120_000);

    test("Debian's docker-registry, behind a password: whose it is decides, for planning, for the executor and for the engine", async () => {
      const { host } = chain;
      const hash = await Bun.password.hash("s3cret", { algorithm: "bcrypt", cost: 4 });
      host.write("/var/tmp/htpasswd", `ops:${hash.replace("$2b$", "$2y$")}\n`);
      const settings = {
        version: 0.1,
        storage: { filesystem: { rootdirectory: "/var/tmp/registry" } },
        http: { addr: "127.0.0.1:5077" },
        auth: { htpasswd: { realm: "ours", path: "/var/tmp/htpasswd" } },
      };
      host.write("/var/tmp/registry.yml", JSON.stringify(settings));
      const registry = await host.spawn(["/usr/bin/docker-registry", "serve", "/var/tmp/registry.yml"]);
      const theirs = "127.0.0.1:5077/team/app";
      const must = async (...argv: string[]) => {
        const { status, stdout, stderr } = await host.exec(argv, { timeoutMs: 60_000 });
        if (status !== 0) throw new Error(`${argv.join(" ")}: ${stdout}${stderr}`);
        return stdout;
      };
      for (let n = 0; ; n++) {
        const { status } = await host.exec([
          "docker",
          "login",
          "-u",
          "ops",
          "-p",
          "s3cret",
          "127.0.0.1:5077",
        ]);
        if (status === 0) break;
        if (n > 50) throw new Error(registry.stderr());
        await Bun.sleep(100);
      }
      await must("docker", "tag", `${name}@${INDEX.digest}`, `${theirs}:1`);
      const [digest = ""] =
        /sha256:[0-9a-f]{64}(?= size)/.exec(await must("docker", "push", `${theirs}:1`)) ?? [];
      host.write(
        "/etc/aegis/policy.toml",
        `[container]\nallowed_registries = ["127.0.0.1:${server.port}", "127.0.0.1:5077"]\n`,
      );

      const stranger = await chain.aegis(["plan", "docker", "pull", `${theirs}@${digest}`], { user: "bob" });
      expect([stranger.status, stranger.stdout.replace(/\n│ +/g, " ")]).toEqual([
        3,
        expect.stringContaining("status 401: without a password, there is no such image or no access to it"),
      ]);
      // Root's own planning finds what docker login has left.
      const { path, execution } = await chain.signed("docker", "pull", `${theirs}@${digest}`);
      expect(JSON.stringify(execution)).not.toContain(Buffer.from("ops:s3cret").toString("base64"));
      const without = await chain.apply(path);
      expect([without.status, without.stderr]).toEqual([9, expect.stringContaining("status 401")]);
      host.write(
        "/etc/aegis/registries.toml",
        '[[registry]]\nhost = "127.0.0.1:5077"\nuser = "ops"\npassword = "s3cret"\n',
        0o600,
      );
      // The executor now plans it, and hands its own password to docker for this run.
      const applied = await chain.apply(path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      expect((await host.exec(["grep", "-rl", "s3cret", "/var/lib/aegis", "/var/log/aegis"])).stdout).toBe(
        "",
      );
      const encoded = Buffer.from("ops:s3cret").toString("base64");
      expect((await host.exec(["grep", "-rl", encoded, "/var/lib/aegis", "/var/log/aegis"])).stdout).toBe("");
      registry.kill();
    }, 240_000);

    // Last, since the engine writes its store anew with the next pull.
    test("an engine whose store has another image under the digest: a breach, in the log", async () => {
      const { host } = chain;
      const [id = ""] = NEWER.blobs.keys();
      const other = id.replace(/.{8}$/, "00000000");
      const store = "/var/lib/docker/image/vfs/repositories.json";
      const lying = `/usr/bin/docker "$@"; status=$?; sed -i 's/${id}/${other}/' ${store}; exit $status`;
      host.write("/usr/local/bin/docker", `#!/bin/sh\n${lying}\n`, 0o755);
      const { path } = await chain.signed("docker", "pull", `${name}@${NEWER.digest}`);
      const applied = await chain.apply(path);
      await host.exec(["rm", "/usr/local/bin/docker"]);
      expect(applied.status).toBe(9);
      expect(applied.stdout).toContain(`docker's store has ${other} under the signed digest, not ${id}`);
      expect(chain.audit().at(-1)).toMatchObject({
        kind: "execution_completed",
        details: { state: "failed", code: "evidence_mismatch" },
      });
    }, 120_000);
  }),
);
