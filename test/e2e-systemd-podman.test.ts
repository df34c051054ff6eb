import { afterAll, beforeAll, expect, test } from "bun:test";
import { SYSTEM } from "../src/paths.ts";
import { USERS } from "../src/sys-state.ts";
import { brokenInvariants, kindsOf } from "./e2e-running.ts";
import { AMD64, fakeIndex, imageAnswers } from "./image-kit.ts";
import { layerEntry, NET_RAW } from "./layer-kit.ts";
import { needs } from "./needs.ts";
import { directory, helloProgram, imageOf, PodmanRegistry, STORE } from "./podman-kit.ts";
import { describeOnSystemd, mustExec, type Production, startProduction } from "./systemd-kit.ts";
import { podmanRoot } from "./systemd-tools.ts";

/*
 * podman on a production host: in aegis-unpack@.service, as `daemon install` writes it.
 */

const IMAGE = imageOf(
  [
    [
      directory("bin"),
      layerEntry("bin/hello", { mode: 0o4755 }, helloProgram()),
      directory("home/u", { mode: 0o700, uid: 1000, gid: 1000 }),
      layerEntry("home/u/old", { uid: 1000, gid: 1000 }, "old"),
      layerEntry("bin/ping", {
        mode: 0o755,
        xattrs: { "security.capability": NET_RAW },
      }),
    ],
    [directory("home"), layerEntry("home/.wh..wh..opq"), layerEntry("new", {}, "new\n")],
  ],
  { config: { Entrypoint: ["/bin/hello"], User: "1000" } },
);
const INDEX = fakeIndex([[IMAGE, AMD64]]);
const isOfStore = (details: unknown) =>
  JSON.stringify(details).includes('"managed_root":"/var/lib/aegis/podman"');
const CONNECT = 'IO::Socket::UNIX->new(Peer => $ARGV[0]) or print "$!"';

describeOnSystemd(
  "podman",
  (suite) => {
    let chain: Production;
    let registry: PodmanRegistry;
    beforeAll(async () => {
      registry = new PodmanRegistry(imageAnswers([INDEX, IMAGE]));
      chain = await startProduction(suite, podmanRoot);
      chain.host.write("/etc/aegis/policy.toml", registry.policy);
      // overlayfs doesn't lie on overlayfs, which the container is.
      const move =
        "mount -t tmpfs -o mode=0755 none /mnt && cp -a /var/lib/aegis/. /mnt && mount --bind /mnt /var/lib/aegis";
      await mustExec(chain.host, ["sh", "-ec", move]);
      await mustExec(chain.host, [
        "sh",
        "-ec",
        "mkdir -p /var/lib/containers && mount -t tmpfs none /var/lib/containers",
      ]);
    }, 180_000);
    afterAll(async () => {
      await chain?.stop();
      await registry?.stop();
    });

    const podman = (...args: readonly string[]) => mustExec(chain.host, [...STORE, ...args]);
    const state = async (user: "root" | "alice") => {
      const { status, document } = await chain.json(["audit", "installed", "podman"], user);
      const { roots } = document as { roots: { tool: string; state: string }[] };
      return [status, roots.find(({ tool }) => tool === "container")?.state];
    };

    const can = needs(suite !== "jammy", `podman 4 or later, which unpacks in the namespace, on ${suite}`);
    can.test(
      "from intent to an image, not twice, taken back, and brought again",
      async () => {
        const image = `${registry.name}@${INDEX.digest}`;
        const { execution, path } = await chain.signed("podman", "pull", image);
        const applied = await chain.apply(path, "alice");
        expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error [")]);
        expect(await podman("images", "--digests", "--format", "{{.Repository}}@{{.Digest}}")).toBe(
          `${image}\n`,
        );
        const layers = "/var/lib/aegis/podman/storage/overlay/*/diff";
        const seen = ["sh", "-c", `stat -c '%A %u:%g' ${layers}/bin/* ${layers}/home/u && cat ${layers}/new`];
        expect((await mustExec(chain.host, seen)).split("\n").sort()).toEqual([
          ...["", "-rwsr-xr-x 0:0", "-rwxr-xr-x 0:0", "c--------- 0:0", "drwx------ 1000:1000", "new"],
        ]);
        expect([await state("root"), await state("alice")]).toEqual([
          [0, "signed"],
          [0, "closed"],
        ]);
        const again = await chain.apply(path, "alice");
        expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
        expect(kindsOf(chain, execution.execution_plan_id)).toEqual([
          ...["execution_started", "execution_completed", "execution_denied"],
        ]);
        const undone = await chain.signed("rollback", execution.execution_plan_id);
        expect((await chain.apply(undone.path, "alice")).status).toBe(0);
        expect(await podman("images", "--quiet")).toBe("");
        const redone = await chain.signed("rollback", undone.execution.execution_plan_id);
        expect((await chain.apply(redone.path, "alice")).status).toBe(0);
        expect(await podman("images", "--quiet")).not.toBe("");
        expect(await state("root")).toEqual([0, "signed"]);
      },
      180_000,
    );

    const strangers = ["bob", "alice", USERS.front, USERS.build, USERS.fetch, USERS.reviewer];
    test.each(strangers)("%s can't start what unpacks", async (user) => {
      const ids = [`--reuid=${user}`, `--regid=${user}`, "--init-groups"];
      const argv = ["setpriv", ...ids, "perl", "-MIO::Socket::UNIX", "-e", CONNECT, SYSTEM.unpackSocket];
      expect((await chain.host.exec(argv)).stdout).toBe("Permission denied");
    });

    can.test(
      "a layer that somebody changes: the monitor tells once, and a signed pull puts it right",
      async () => {
        const { host } = chain;
        const changed =
          "f=$(ls -d /var/lib/aegis/podman/storage/overlay/*/diff/new) && rm $f && echo evil > $f";
        await mustExec(host, ["sh", "-ec", changed]);
        for (let n = 0; n < 2; n++) await host.systemctl("start", "aegis-monitor.service");
        const told = () =>
          chain.audit().filter(({ kind, details }) => kind === "unmanaged_change" && isOfStore(details));
        expect(told()).toHaveLength(1);
        expect(JSON.stringify(told())).toMatch(/changed: storage\/overlay\/[0-9a-f]{64}\/diff/);
        const { path } = await chain.signed("podman", "pull", `${registry.name}@${IMAGE.digest}`);
        expect((await chain.apply(path, "alice")).status).toBe(0);
        expect(await state("root")).toEqual([0, "signed"]);
      },
      180_000,
    );

    test("the log is intact, nothing is left over, and doctor knows the unit", async () => {
      expect(await mustExec(chain.host, ["aegis", "audit", "verify", "--system"])).not.toBe("");
      expect(await brokenInvariants(chain)).toEqual([]);
      expect((await chain.aegis(["daemon", "status"])).stdout).toMatch(
        /aegis-unpack\.socket +active +enabled/,
      );
      await chain.host.systemctl("stop", "aegis-unpack.socket");
      const { stdout } = await chain.aegis(["doctor"]);
      expect(stdout.replace(/\s+/g, " ")).toContain("aegis-unpack.socket doesn't listen");
    });
  },
  podmanRoot,
);
