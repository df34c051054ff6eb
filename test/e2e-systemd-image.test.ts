import { afterAll, beforeAll, expect, test } from "bun:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { kindsOf } from "./e2e-running.ts";
import { AMD64, BASE, digestOf, fakeImage, fakeIndex, imageAnswers, layer, OCI } from "./image-kit.ts";
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

const INDEX = fakeIndex([[IMAGE, AMD64]]);
const LATER_LAYER = layer("later\n");
const LATER = fakeImage({
  layers: [LATER_LAYER],
  configuration: { rootfs: { type: "layers", diff_ids: [digestOf(gunzipSync(LATER_LAYER))] } },
});

/** Two images with one layer, packed in one of them. */
const SAME_LAYER = gunzipSync(layer("the same\n"));
const SAME_FILES = { configuration: { rootfs: { type: "layers", diff_ids: [digestOf(SAME_LAYER)] } } };
const SAME = fakeImage({ ...SAME_FILES, layers: [gzipSync(SAME_LAYER)] });
const PLAIN = fakeImage({ ...SAME_FILES, layers: [SAME_LAYER], layerType: `${OCI}.layer.v1.tar` });

describeOnSystemd(
  "docker",
  (suite) => {
    let chain: Production;
    let registry: ReturnType<typeof Bun.serve>;
    let name = "";

    beforeAll(async () => {
      const answers = imageAnswers([INDEX, IMAGE, LATER, SAME, PLAIN]);
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

    needs(suite !== "bookworm" && suite !== "trixie", `docker 29, on ${suite}`).describe(
      "an engine that keeps images in containerd's store, as docker 29 does by itself",
      () => {
        const stop = "systemctl stop docker.socket docker containerd";
        // Whoever restarts it more often than a host would has to say so.
        const start = "systemctl reset-failed docker; systemctl start docker";
        let settings = "";
        const sh = (text: string) => mustExec(chain.host, ["sh", "-c", text]);
        beforeAll(async () => {
          const { host } = chain;
          settings = host.read("/etc/docker/daemon.json");
          const { features: _, "storage-driver": __, ...alone } = JSON.parse(settings);
          host.write("/etc/docker/daemon.json", JSON.stringify(alone));
          // An overlay can't be on the container's root, which is one.
          const onTmpfs = ["docker", "containerd"].map((one) => `mount -t tmpfs none /var/lib/${one}`);
          await sh([stop, ...onTmpfs, start].join(" && "));
        }, 120_000);
        afterAll(async () => {
          await sh(`${stop} && umount /var/lib/docker /var/lib/containerd`);
          chain.host.write("/etc/docker/daemon.json", settings);
          await sh(start);
        }, 120_000);

        test("an image is pulled, compared byte for byte, and holds what was signed", async () => {
          const { host } = chain;
          const { execution, path } = await chain.signed("docker", "pull", `${name}@${INDEX.digest}`);
          const applied = await chain.apply(path, "alice");
          expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error [")]);
          expect(kindsOf(chain, execution.execution_plan_id)).toEqual([
            ...["execution_started", "execution_completed"],
          ]);
          expect(chain.audit().findLast(({ kind }) => kind === "execution_started")).toMatchObject({
            details: { store: "/var/lib/containerd" },
          });
          await mustExec(host, ["docker", "create", "--name", "one", `${name}@${INDEX.digest}`]);
          await mustExec(host, ["docker", "cp", "one:/hello", "/var/tmp/hello"]);
          expect(host.read("/var/tmp/hello")).toBe("hello\n");
        }, 180_000);

        test("a layer that another image brought in another form, so that the engine has it already", async () => {
          await mustExec(chain.host, ["docker", "pull", `${name}@${PLAIN.digest}`]);
          const { path } = await chain.signed("docker", "pull", `${name}@${SAME.digest}`);
          const applied = await chain.apply(path, "alice");
          expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error [")]);
        }, 180_000);

        test("a store with other bytes as one of its files: a breach, in the log", async () => {
          const { host } = chain;
          const [, blob = ""] = [...LATER.blobs.keys()];
          const store = "/var/lib/containerd/io.containerd.content.v1.content/blobs";
          const file = `${store}/${blob.replace(":", "/")}`;
          const change = `printf x | dd of=${file} bs=1 seek=20 conv=notrunc status=none`;
          const lying = `#!/bin/sh\n/usr/bin/docker "$@"; status=$?\n[ "$1" != pull ] || ${change}\nexit $status\n`;
          host.write("/usr/local/bin/docker", lying, 0o755);
          const { path } = await chain.signed("docker", "pull", `${name}@${LATER.digest}`);
          const applied = await chain.apply(path, "alice");
          await mustExec(host, ["rm", "/usr/local/bin/docker"]);
          expect([applied.status, applied.stdout]).toEqual([
            9,
            expect.stringMatching(/docker's store has other bytes \(sha256:[0-9a-f]{64}\)/),
          ]);
          expect(chain.audit().findLast(({ kind }) => kind === "execution_completed")).toMatchObject({
            details: { state: "failed", code: "evidence_mismatch" },
          });
        }, 180_000);

        test("a containerd that has its state elsewhere: refused, nothing used up", async () => {
          const { host } = chain;
          const { execution, path } = await chain.signed("docker", "pull", `${name}@${IMAGE.digest}`);
          const config =
            "mkdir -p /etc/containerd /var/lib/docker/elsewhere && echo 'root = \"/var/lib/docker/elsewhere\"' > /etc/containerd/config.toml";
          await sh(`${stop} && ${config} && ${start}`);
          const applied = await chain.apply(path, "alice");
          await sh(`${stop} && rm /etc/containerd/config.toml && ${start}`);
          expect([applied.status, applied.stderr]).toEqual([
            8,
            expect.stringContaining("doesn't have that in /var/lib/containerd"),
          ]);
          expect(kindsOf(chain, execution.execution_plan_id)).toEqual(["execution_denied"]);
          expect((await chain.apply(path, "alice")).status).toBe(0);
          expect(await mustExec(host, ["aegis", "audit", "verify", "--system"])).not.toBe("");
        }, 180_000);

        test("docker's own containerd, where the system has none", async () => {
          const { host } = chain;
          const { path } = await chain.signed("docker", "pull", `${name}@${INDEX.digest}`);
          host.write(
            "/run/systemd/system/docker.service.d/own.conf",
            "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd -H fd://\n",
          );
          await sh(
            `${stop} && systemctl mask --runtime containerd && rm -f /run/containerd/containerd.sock && systemctl daemon-reload && ${start}`,
          );
          const applied = await chain.apply(path, "alice");
          await sh(
            `${stop}; systemctl unmask --runtime containerd && rm -r /run/systemd/system/docker.service.d && systemctl daemon-reload && ${start}`,
          );
          expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error [")]);
          expect(chain.audit().findLast(({ kind }) => kind === "execution_started")).toMatchObject({
            details: { store: "/var/lib/docker/containerd/daemon" },
          });
        }, 180_000);
      },
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
