import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { debianPackages, unpackPackages } from "./debian-packages.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { brokenInvariants, eventually, kill, processes } from "./e2e-running.ts";
import { AMD64, fakeIndex, imageAnswers, type MadeImage } from "./image-kit.ts";
import { layerEntry, NET_RAW } from "./layer-kit.ts";
import { needs } from "./needs.ts";
import { directory, helloProgram, imageOf, imageOfFiles, PodmanRegistry, STORE } from "./podman-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * podman from the plan to the log, with Debian's podman and a registry of the test's own.
 */

const PODMAN_DEBS = debianPackages("podman", "crun");

const BOTTOM = [
  // Layers above, without an entry for their root, get its mode.
  directory("/", { mode: 0o751 }),
  directory("bin"),
  layerEntry("bin/hello", { mode: 0o4755 }, helloProgram()),
  layerEntry("bin/hello2", { type: "1", link: "bin/hello", mode: 0o4755 }),
  layerEntry("bin/wall", { mode: 0o2755, gid: 5 }, "wall"),
  layerEntry("bin/ping", { mode: 0o755, xattrs: { "security.capability": NET_RAW } }, "ping"),
  directory("etc"),
  layerEntry("etc/shadow", { mode: 0o640, gid: 42 }, "secret\n"),
  directory("home"),
  directory("home/u", { mode: 0o700, uid: 1000, gid: 1000 }),
  layerEntry("home/u/old", { uid: 1000, gid: 1000 }, "old"),
  layerEntry("up", { type: "2", link: "../../../../etc/passwd" }),
  directory("dev"),
  layerEntry("dev/sda", { type: "4", device: [8, 0] }),
];
const onTop = (text: string) => [
  directory("home"),
  layerEntry("home/.wh..wh..opq"),
  layerEntry("said", {}, `${text}\n`),
];
const IMAGE = imageOf([BOTTOM, onTop("first")], { config: { Entrypoint: ["/bin/hello"], User: "1000" } });
const INDEX = fakeIndex([[IMAGE, AMD64]]);
const said = (text: string) => imageOf([BOTTOM, onTop(text)]);
const [SECOND, GONE, CHANGED, LAST] = [said("second"), said("gone"), said("changed"), said("last")];
const SECRET = said("secret");
const OTHERS = ["a", "b", "c"].map(said);
const KILLED = Array.from({ length: 6 }, (_, n) => said(`killed ${n}`));
const BIG = imageOfFiles([bigLayer()]);
const ARM = imageOf([BOTTOM], { architecture: "arm64" });
const ARM_INDEX = fakeIndex([[ARM, { architecture: "arm64", os: "linux" }]]);

/** More zeros than the disk of the test has room for. */
function bigLayer(): Buffer {
  const parts = Array.from({ length: 6 }, (_, n) => layerEntry(`zeros${n}`, {}, Buffer.alloc(64 << 20)));
  return gzipSync(Buffer.concat([...parts, Buffer.alloc(1024)]), { level: 1 });
}

/** Layers that want to reach what is outside of them: what podman unpacks (6), or refuses itself (7). */
const HOSTILE: [what: string, status: number, image: MadeImage][] = [
  ["a path upwards", 6, imageOf([[layerEntry("../../../evil", {}, "x")]])],
  [
    "a file behind a link out of it",
    7,
    imageOf([[layerEntry("out", { type: "2", link: "/var/tmp" }), layerEntry("out/evil", {}, "x")]]),
  ],
  [
    "a hard link to a file of the host",
    7,
    imageOf([[layerEntry("evil", { type: "1", link: "/etc/shadow" })]]),
  ],
  ["a user that the namespace lacks", 7, imageOf([[layerEntry("evil", { uid: 4_000_000 }, "x")]])],
  ["a file that comes twice, as two things", 7, imageOf([[directory("evil"), layerEntry("evil", {}, "x")]])],
];

needs(PODMAN_DEBS !== null, "Debian's packages of podman, by apt-get").describe("Debian's podman", () =>
  describeOnThrowaway("from intent to an image", () => {
    let registry: PodmanRegistry;
    let chain: Chain;
    let name = "";

    const exec = async (argv: readonly string[]) => {
      const { status, stdout, stderr } = await chain.host.exec(argv, { timeoutMs: 60_000 });
      if (status !== 0) throw new Error(`${argv.join(" ")}: ${stdout}${stderr}`);
      return stdout.trim();
    };
    /** Digests of the store's images, by podman. */
    const images = async () => {
      const stdout = await exec([...STORE, "images", "--digests", "--format", "{{.Digest}}"]);
      return stdout
        .split("\n")
        .filter((line) => line !== "")
        .sort();
    };
    const installed = async (user: "root" | "alice" = "root") => {
      const { status, document } = await chain.json(["audit", "installed", "podman"], user);
      const { roots } = document as {
        roots: { tool: string; state: string; deviations: { path: string }[] }[];
      };
      const root = roots.find(({ tool }) => tool === "container");
      return { status, state: root?.state, paths: root?.deviations.map(({ path }) => path) };
    };
    const pulled = async (image: { digest: string }) => {
      const signed = await chain.signed("podman", "pull", `${name}@${image.digest}`);
      const applied = await chain.apply(signed.path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      return signed.execution;
    };
    /** That an execution is refused, and nothing changes. */
    const refused = async (image: { digest: string }, status: number) => {
      const before = await images();
      const { path, execution } = await chain.signed("podman", "pull", `${name}@${image.digest}`);
      const applied = await chain.apply(path);
      expect(applied.status).toBe(status);
      expect(await images()).toEqual(before);
      expect(await installed()).toEqual({ status: 0, state: "signed", paths: [] });
      expect(existsSync(chain.host.path(`/var/lib/aegis/stage/${execution.execution_plan_id}`))).toBe(false);
      return `${applied.stdout}${applied.stderr}`;
    };

    beforeAll(async () => {
      const all = [
        IMAGE,
        SECOND,
        GONE,
        CHANGED,
        SECRET,
        LAST,
        BIG,
        ARM,
        ...OTHERS,
        ...KILLED,
        ...HOSTILE.map(([, , image]) => image),
      ];
      registry = new PodmanRegistry(imageAnswers([INDEX, ARM_INDEX, ...all], { latest: INDEX }));
      ({ name } = registry);
      chain = await startChain();
      const { host } = chain;
      await unpackPackages(host, PODMAN_DEBS ?? "");
      for (const user of ["aegis-build", "aegis-fetch"])
        await host.exec(["useradd", "--system", "--no-create-home", user]);
      // overlayfs doesn't lie on overlayfs, which the throw-away host is.
      const mounted = "mkdir -p /var/lib/aegis && mount -t tmpfs -o mode=0755,size=300m none /var/lib/aegis";
      await exec(["sh", "-c", mounted]);
      const settings = {
        storage: {
          driver: '"overlay"',
          runroot: '"/run/containers/storage"',
          graphroot: '"/var/lib/aegis/own"',
        },
        "storage.options": { additionalimagestores: '["/var/lib/aegis/podman/storage"]' },
      };
      const lines = Object.entries(settings).flatMap(([section, values]) => [
        `[${section}]`,
        ...Object.entries(values).map(([key, value]) => `${key} = ${value}`),
      ]);
      host.write("/etc/containers/storage.conf", `${lines.join("\n")}\n`);
      // crun wants to see control groups, although nothing is started in one.
      await exec(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"]);
      host.write("/etc/aegis/policy.toml", registry.policy);
      await chain.startDaemon();
    }, 240_000);
    afterAll(async () => {
      await chain?.stop();
      await registry?.stop();
    });

    test("an image is planned, signed, pulled without a network, compared, and used; not twice", async () => {
      const image = `${name}@${INDEX.digest}`;
      const { execution, path } = await chain.signed("podman", "pull", image);
      expect([execution.argv, execution.policy_decision]).toEqual([[...STORE, "pull", image], "allow"]);
      const applied = await chain.apply(path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      expect(applied.stderr).toContain("dev/sda in a layer is a device, and left out");
      expect(await images()).toEqual([INDEX.digest]);
      const inspected = JSON.parse(await exec([...STORE, "image", "inspect", image]));
      expect(inspected).toMatchObject([
        { Digest: INDEX.digest, Config: { User: "1000" }, Size: expect.any(Number) },
      ]);
      // As a whole, again with the digests of its layers.
      await exec([...STORE, "save", "--format", "oci-archive", "--output", "/var/tmp/saved.tar", image]);
      // podman's own store sees it, and its containers stay there.
      await exec(["podman", "create", "--name", "one", image]);
      const mount = await exec(["podman", "mount", "one"]);
      expect(await exec(["cat", `${mount}/said`])).toBe("first");
      expect(await exec(["ls", "-A", `${mount}/home`])).toBe("");
      const stats = await exec(["sh", "-c", `cd ${mount} && stat -c '%n %A %u:%g %h' bin/* etc/shadow`]);
      expect(stats.split("\n")).toEqual([
        ...["bin/hello -rwsr-xr-x 0:0 2", "bin/hello2 -rwsr-xr-x 0:0 2", "bin/ping -rwxr-xr-x 0:0 1"],
        ...["bin/wall -rwxr-sr-x 0:5 1", "etc/shadow -rw-r----- 0:42 1"],
      ]);
      expect(await exec(["getcap", `${mount}/bin/ping`])).toContain("cap_net_raw");
      const alone = ["--network=none", "--cgroups=disabled", "--pids-limit=0"];
      expect(await exec(["podman", "run", "--rm", ...alone, image])).toBe("hello");
      expect(await installed()).toEqual({ status: 0, state: "signed", paths: [] });
      expect((await chain.apply(path)).status).toBe(6);
      expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
    }, 240_000);

    test("nobody but root enters the store, and who may read the log is told what the log says", async () => {
      const looked = await chain.host.exec(["ls", "/var/lib/aegis/podman/storage"], { user: "alice" });
      expect(looked.stderr).toContain("Permission denied");
      expect(await installed("alice")).toEqual({ status: 0, state: "closed", paths: [] });
    }, 60_000);

    test("images share layers; a container keeps its own when the contents that it was made from are gone", async () => {
      const layers = "/var/lib/aegis/podman/storage/overlay";
      const inodes = () => exec(["sh", "-c", `stat -c '%n %i' ${layers}/*/diff | sort`]);
      const mount = await exec(["podman", "mount", "one"]);
      const before = await inodes();
      await pulled(SECOND);
      const after = await inodes();
      expect(after.split("\n")).toEqual(expect.arrayContaining(before.split("\n")));
      expect(after.split("\n")).toHaveLength(3);
      // Pulled again under its other name: the same image has two.
      await pulled(IMAGE);
      for (const digest of [INDEX.digest, IMAGE.digest, SECOND.digest])
        await exec([...STORE, "image", "exists", `${name}@${digest}`]);
      for (const one of OTHERS) await pulled(one);
      expect(await exec(["sh", "-c", "ls /var/lib/aegis/previous/podman | wc -l"])).toBe("3");
      expect(await exec(["sh", "-c", `cat ${mount}/said ${mount}/etc/shadow`])).toBe("first\nsecret");
      expect(await installed()).toEqual({ status: 0, state: "signed", paths: [] });
    }, 240_000);

    test("what a pull brought goes again, and comes back", async () => {
      const before = await images();
      const { execution_plan_id: id } = await pulled(LAST);
      const undo = await chain.signed("rollback", id);
      expect(undo.execution.argv).toEqual(["aegis", "rollback", "container", "/var/lib/aegis/podman", id]);
      expect((await chain.apply(undo.path)).status).toBe(0);
      expect(await images()).toEqual(before);
      expect(await installed()).toEqual({ status: 0, state: "signed", paths: [] });
      const redo = await chain.signed("rollback", undo.execution.execution_plan_id);
      expect((await chain.apply(redo.path)).status).toBe(0);
      expect(await images()).toContain(LAST.digest);
    }, 240_000);

    test("a tag is resolved and denied; a digest that the registry has no more is drift", async () => {
      const { stdout, status } = await chain.aegis(["plan", "podman", "pull", name]);
      expect([status, stdout]).toEqual([
        3,
        expect.stringContaining(`aegis plan podman pull ${name}@${INDEX.digest}`),
      ]);
      const { path } = await chain.signed("podman", "pull", `${name}@${GONE.digest}`);
      registry.trick = (asked) => (asked.endsWith(GONE.digest) ? new Response("{}", { status: 404 }) : null);
      const applied = await chain.apply(path);
      registry.trick = null;
      expect(applied.status).toBe(9);
    }, 120_000);

    test("a layer that the registry changes: refused when it is fetched, and nothing is used up", async () => {
      const [layer = ""] = [...CHANGED.blobs.keys()].slice(-1);
      registry.trick = (path) => (path.endsWith(layer) ? new Response("another layer") : null);
      const words = await refused(CHANGED, 9);
      registry.trick = null;
      expect(words).toContain("the registry gives another file");
    }, 120_000);

    test("a registry with a password, tokens and its layers elsewhere: the executor fetches with its own", async () => {
      const basic = `Basic ${Buffer.from("ops:s3cret").toString("base64")}`;
      const asked: string[] = [];
      registry.trick = (path, answer, { headers, url }) => {
        const authorization = headers.get("authorization");
        asked.push(`${path.replace(/sha256:.*/, "")} ${authorization?.split(" ")[0]}`);
        if (path === "/token")
          return authorization === basic
            ? Response.json({ token: "t0ken" })
            : new Response("{}", { status: 401 });
        if (path.startsWith("/elsewhere/"))
          return authorization === null
            ? registry.answerOf(path.replace("/elsewhere", ""))
            : new Response("", { status: 400 });
        const realm = `Bearer realm="${new URL(url).origin}/token",service="ours"`;
        if (authorization !== "Bearer t0ken")
          return new Response("{}", { status: 401, headers: { "www-authenticate": realm } });
        return path.includes("/blobs/")
          ? new Response("", { status: 307, headers: { location: `/elsewhere${path}` } })
          : answer();
      };
      const auths = { [registry.host]: { auth: basic.replace("Basic ", "") } };
      chain.host.write("/root/.docker/config.json", JSON.stringify({ auths }), 0o600);
      const { path, execution } = await chain.signed("podman", "pull", `${name}@${SECRET.digest}`);
      const without = await chain.apply(path);
      expect([without.status, without.stderr]).toEqual([9, expect.stringContaining("status 401")]);
      const own = `[[registry]]\nhost = "${registry.host}"\nuser = "ops"\npassword = "s3cret"\n`;
      chain.host.write("/etc/aegis/registries.toml", own, 0o600);
      asked.length = 0;
      const applied = await chain.apply(path);
      registry.trick = null;
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      expect(asked).toContain("/elsewhere/v2/team/app/blobs/ undefined");
      expect(await images()).toContain(SECRET.digest);
      // podman has never seen it, nor the token, and nothing has kept them.
      const secrets = ["grep", "-rlE", `s3cret|t0ken|${basic.replace("Basic ", "")}`];
      const kept = await chain.host.exec([
        ...secrets,
        "/var/lib/aegis",
        "/var/log/aegis",
        "/var/cache/aegis",
      ]);
      expect([kept.stdout, JSON.stringify(execution).includes("s3cret")]).toEqual(["", false]);
    }, 120_000);

    test("an index without this platform is not planned", async () => {
      const { plan } = await chain.plan("podman", "pull", `${name}@${ARM_INDEX.digest}`);
      expect([plan.metadata_available, plan.warnings.join()]).toEqual([
        false,
        expect.stringContaining("there is none for linux/amd64, only for linux/arm64"),
      ]);
    }, 60_000);

    test.each(HOSTILE)(
      "a layer with %s: refused, and nothing of it is anywhere",
      async (_, status, image) => {
        await refused(image, status);
        expect(existsSync(chain.host.path("/var/tmp/evil"))).toBe(false);
        expect(existsSync(chain.host.path("/evil"))).toBe(false);
      },
      120_000,
    );

    test("a full disk: the store stays as it was, and the reason is told", async () => {
      expect(await refused(BIG, 7)).toMatch(/is full|no space left on device/);
    }, 240_000);

    const MOMENTS: [when: string, file: string, text: string][] = [
      ["as it begins", "process.json", "pid"],
      ["while podman works", "status", "installing"],
      ["while it compares", "status", "comparing"],
      ["when it has decided", "decision", "exchange"],
      ["when the receipt is there", "receipt.json", "}"],
      ["when it is done", "status", "done"],
    ];
    test.each(MOMENTS)(
      "SIGKILL %s: the old store or the new one",
      async (_, file, text) => {
        const image = KILLED[MOMENTS.findIndex(([, one, said]) => one === file && said === text)] ?? IMAGE;
        const before = await images();
        const { execution, path } = await chain.signed("podman", "pull", `${name}@${image.digest}`);
        const run = chain.host.path(`/var/lib/aegis/runs/${execution.execution_plan_id}/${file}`);
        const ended = chain.apply(path);
        await eventually(() => existsSync(run) && readFileSync(run, "utf8").includes(text), 1);
        kill(processes(chain).filter(({ argv, state }) => argv.includes("--build") && state !== "Z"));
        const { status } = await ended;
        const after = await images();
        const whole = [...before, image.digest].sort();
        // Killed after the exchange the run is closed as interrupted, with what is there.
        expect(status === 0 ? [whole] : [before, whole]).toContainEqual(after);
        expect(await installed()).toEqual({ status: 0, state: "signed", paths: [] });
        // The next run works, whatever was left.
        await pulled(image);
        expect(await images()).toEqual(whole);
        expect(await brokenInvariants(chain)).toEqual([]);
      },
      240_000,
    );

    test("whoever uses the store by hand: no run begins beside containers and mounts, and what they made is gone then", async () => {
      const before = await images();
      const made = () => exec([...STORE, "create", `${name}@${SECOND.digest}`, "/x"]);
      const { path } = await chain.signed("podman", "pull", `${name}@${GONE.digest}`);
      const answers = async (status: number, words: string) => {
        const applied = await chain.apply(path);
        expect([applied.status, applied.stderr]).toEqual([status, expect.stringContaining(words)]);
      };
      await exec([...STORE, "image", "mount", `${name}@${SECOND.digest}`]);
      await answers(8, "mounted, by somebody's use of the store");
      await exec([...STORE, "image", "unmount", "--all"]);
      const container = await made();
      await answers(6, "there are containers in it");
      await exec([...STORE, "commit", "--quiet", container, "evil"]);
      await exec([...STORE, "rm", "--all"]);
      expect(await installed()).toMatchObject({ status: 6, state: "deviating" });
      await answers(0, "");
      expect(await images()).toEqual([...before, GONE.digest].sort());
      expect(await installed()).toEqual({ status: 0, state: "signed", paths: [] });
    }, 240_000);

    test("a store that somebody changes is seen, and a signed pull of the same image puts it right", async () => {
      const path = await exec(["sh", "-c", "ls -d /var/lib/aegis/podman/storage/overlay/*/diff/bin/hello"]);
      await exec(["sh", "-c", `cp ${path} /tmp/x; echo evil >> /tmp/x; rm ${path}; cp /tmp/x ${path}`]);
      const found = await installed();
      expect(found).toEqual({
        status: 6,
        state: "deviating",
        paths: [path.replace(/^.*podman\/|\/bin\/hello$/g, "")],
      });
      await pulled(IMAGE);
      expect(await installed()).toEqual({ status: 0, state: "signed", paths: [] });
      expect(await brokenInvariants(chain)).toEqual([]);
    }, 240_000);
  }),
);
