import { afterAll, beforeAll, expect, test } from "bun:test";
import { gunzipSync } from "node:zlib";
import { kindsOf } from "./e2e-running.ts";
import { BASE, digestOf, fakeImage, imageAnswers, layer } from "./image-kit.ts";
import { needs } from "./needs.ts";
import { describeOnSystemd, mustExec, type Production, startProduction } from "./systemd-kit.ts";
import { dockerRoot } from "./systemd-tools.ts";

/*
 * docker on a production host: the distribution's engine as its own unit starts it, and Aegis in the units that `daemon install` writes.
 */

const LAYER = layer("hello\n");
const IMAGE = fakeImage({
  ...{ layers: [LAYER], config: { User: "1000", Entrypoint: ["/hello"] } },
  configuration: { rootfs: { type: "layers", diff_ids: [digestOf(gunzipSync(LAYER))] } },
});

describeOnSystemd(
  "docker",
  (suite) => {
    let chain: Production;
    let registry: ReturnType<typeof Bun.serve>;
    let name = "";

    beforeAll(async () => {
      const answers = imageAnswers([IMAGE]);
      registry = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch(request) {
          const { pathname } = new URL(request.url);
          if (pathname === "/v2/") return new Response("{}");
          const answer = answers[`${BASE}${pathname.replace("/v2/team/app", "")}`];
          if (typeof answer !== "string" && !(answer instanceof Uint8Array))
            return new Response("{}", { status: 404 });
          const type = typeof answer === "string" ? JSON.parse(answer).mediaType : "application/octet-stream";
          return new Response(Buffer.from(answer), { headers: { "content-type": type } });
        },
      });
      name = `127.0.0.1:${registry.port}/team/app`;
      chain = await startProduction(suite, dockerRoot);
      chain.host.write(
        "/etc/aegis/policy.toml",
        `[container]\nallowed_registries = ["127.0.0.1:${registry.port}"]\n`,
      );
      await mustExec(chain.host, ["systemctl", "is-active", "docker"]);
    }, 240_000);
    afterAll(async () => {
      await chain?.stop();
      await registry?.stop(true);
    });

    needs(suite !== "bookworm" && suite !== "trixie", `docker 29, on ${suite}`).test(
      "an engine that keeps images in containerd's store, as docker 29 does by itself: refused, nothing used up",
      async () => {
        const { host } = chain;
        const { execution, path } = await chain.signed("docker", "pull", `${name}@${IMAGE.digest}`);
        const settings = host.read("/etc/docker/daemon.json");
        const { features: _, "storage-driver": __, ...alone } = JSON.parse(settings);
        host.write("/etc/docker/daemon.json", JSON.stringify(alone));
        // An overlay can't be on the container's root, which is one.
        const onTmpfs = ["docker", "containerd"]
          .map((one) => `mount -t tmpfs none /var/lib/${one}`)
          .join(" && ");
        const stop = "systemctl stop docker.socket docker containerd";
        await mustExec(host, ["sh", "-c", `${stop} && ${onTmpfs} && systemctl start docker`]);
        const applied = await chain.apply(path, "alice");
        await mustExec(host, ["sh", "-c", `${stop} && umount /var/lib/docker /var/lib/containerd`]);
        host.write("/etc/docker/daemon.json", settings);
        await mustExec(host, ["systemctl", "start", "docker"]);
        expect([applied.status, applied.stderr]).toEqual([
          8,
          expect.stringContaining("in containerd's store"),
        ]);
        expect(kindsOf(chain, execution.execution_plan_id)).toEqual(["execution_denied"]);
        expect((await chain.apply(path, "alice")).status).toBe(0);
        await mustExec(host, ["docker", "image", "rm", `${name}@${IMAGE.digest}`]);
      },
      180_000,
    );

    test("from intent to an image in the engine's store, by a member of aegis-admin; not twice", async () => {
      const { execution, path } = await chain.signed("docker", "pull", `${name}@${IMAGE.digest}`);
      const applied = await chain.apply(path, "alice");
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error [")]);
      // Newer engines list only what has a tag.
      const digests = [
        "docker",
        "image",
        "inspect",
        "--format",
        "{{.RepoDigests}}",
        `${name}@${IMAGE.digest}`,
      ];
      expect(await mustExec(chain.host, digests)).toBe(`[${name}@${IMAGE.digest}]\n`);
      const again = await chain.apply(path, "alice");
      expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
      expect(kindsOf(chain, execution.execution_plan_id)).toEqual([
        ...["execution_started", "execution_completed", "execution_denied"],
      ]);
      expect(await mustExec(chain.host, ["aegis", "audit", "verify", "--system"])).not.toBe("");
    }, 180_000);
  },
  dockerRoot,
);
