import { afterAll, beforeAll, expect, test } from "bun:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { tar } from "./archive-kit.ts";
import { debianPackages, unpackPackages } from "./debian-packages.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { AMD64, BASE, digestOf, type FakeImage, fakeImage, fakeIndex, imageAnswers } from "./image-kit.ts";
import { type LayerEntryFields, layerEntry } from "./layer-kit.ts";
import { needs } from "./needs.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * podman from the plan to the log, with Debian's podman and a registry of the test's own.
 */

const STORE = ["podman", "--root", "/var/lib/aegis/podman/storage", "--runroot", "/run/aegis/podman"];

/** An image of layers, each of entries. */
function imageOf(layers: readonly (readonly Buffer[])[], given: FakeImage = {}) {
  const files = layers.map((entries) => gzipSync(tar(...entries)));
  const diff_ids = files.map((one) => digestOf(gunzipSync(one)));
  return fakeImage({ ...given, layers: files, configuration: { rootfs: { type: "layers", diff_ids } } });
}
const directory = (path: string, given: LayerEntryFields = {}) => layerEntry(path, { type: "5", ...given });

const BOTTOM = [
  // Layers above, without an entry for their root, get its mode.
  directory("/", { mode: 0o751 }),
  directory("bin"),
  layerEntry("bin/su", { mode: 0o4755 }, "su"),
  layerEntry("bin/su2", { type: "1", link: "bin/su", mode: 0o4755 }),
  layerEntry("bin/wall", { mode: 0o2755, gid: 5 }, "wall"),
  layerEntry(
    "bin/ping",
    {
      mode: 0o755,
      xattrs: { "security.capability": Buffer.from("0100000200200000000000000000000000000000", "hex") },
    },
    "ping",
  ),
  directory("etc"),
  layerEntry("etc/shadow", { mode: 0o640, gid: 42 }, "secret\n"),
  directory("home"),
  directory("home/u", { mode: 0o700, uid: 1000, gid: 1000 }),
  layerEntry("home/u/old", { uid: 1000, gid: 1000 }, "old"),
  layerEntry("up", { type: "2", link: "../../../../etc/passwd" }),
  directory("dev"),
  layerEntry("dev/sda", { type: "4", device: [8, 0] }),
];
const IMAGE = imageOf(
  [BOTTOM, [directory("home"), layerEntry("home/.wh..wh..opq"), layerEntry("hello", {}, "hello\n")]],
  {
    config: { Entrypoint: ["/hello"], User: "1000" },
  },
);
const INDEX = fakeIndex([[IMAGE, AMD64]]);
const DEBS = debianPackages("podman", "crun");

needs(DEBS !== null, "Debian's packages of podman, by apt-get").describe("Debian's podman", () =>
  describeOnThrowaway("from intent to an image", () => {
    let server: ReturnType<typeof Bun.serve>;
    let chain: Chain;
    let name = "";

    beforeAll(async () => {
      const answers = imageAnswers([INDEX, IMAGE], { latest: INDEX });
      server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch(request) {
          const { pathname } = new URL(request.url);
          const answer = answers[`${BASE}${pathname.replace("/v2/team/app", "")}`];
          if (typeof answer !== "string" && !(answer instanceof Uint8Array))
            return new Response("{}", { status: 404 });
          const bytes = Buffer.from(answer);
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
      for (const user of ["aegis-build", "aegis-fetch"])
        await host.exec(["useradd", "--system", "--no-create-home", user]);
      // overlayfs doesn't lie on overlayfs, which the throw-away host is.
      const mounted = "mkdir -p /var/lib/aegis && mount -t tmpfs -o mode=0755 none /var/lib/aegis";
      expect((await host.exec(["sh", "-c", mounted])).status).toBe(0);
      host.write(
        "/etc/aegis/policy.toml",
        `[container]\nallowed_registries = ["127.0.0.1:${server.port}"]\n`,
      );
      await chain.startDaemon();
    }, 240_000);
    afterAll(async () => {
      await chain?.stop();
      await server?.stop(true);
    });

    test("an image is planned, signed, pulled without a network, compared, and podman's; not twice", async () => {
      const { host } = chain;
      const image = `${name}@${INDEX.digest}`;
      const { execution, path } = await chain.signed("podman", "pull", image);
      expect([execution.argv, execution.policy_decision]).toEqual([[...STORE, "pull", image], "allow"]);
      const applied = await chain.apply(path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      expect(applied.stderr).toContain("dev/sda in a layer is a device, and left out");
      const { stdout } = await host.exec([
        ...STORE,
        "images",
        "--digests",
        "--format",
        "{{.Repository}}@{{.Digest}}",
      ]);
      expect(stdout).toBe(`${image}\n`);
      expect((await chain.apply(path)).status).toBe(6);
      expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
    }, 240_000);
  }),
);
