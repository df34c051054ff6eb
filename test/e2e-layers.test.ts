import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { compareLayer, readLayerTree, settleLayer } from "../src/image-unpack.ts";
import { tar } from "./archive-kit.ts";
import { debianPackages, unpackPackages } from "./debian-packages.ts";
import { digestOf, fakeImage, OCI } from "./image-kit.ts";
import { BASE_LAYER, LAST_LAYER, TOP_LAYER } from "./layer-kit.ts";
import { needs } from "./needs.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * An image with every kind of file, unpacked by Debian's podman as root and in a user namespace: the latter, compared and settled, is
 * the former, field by field. Python looks at both, so that the code under test isn't its own witness.
 */

const DEBS = debianPackages("podman");
const PYTHON = "/usr/bin/python3";
const BASE_ID = 700_000_000;
const LAYERS = [BASE_LAYER, TOP_LAYER, LAST_LAYER].map((entries) => gzipSync(tar(...entries)));
const DIFF_IDS = LAYERS.map((one) => digestOf(gunzipSync(one)));

/** Everything that lstat(2), readlink(2) and listxattr(2) say of a tree but when it was read and where it lies. */
const LIST = `
import os, sys, json, hashlib
out, inodes = {}, {}
def see(p, r):
    s = os.lstat(p); k = s.st_mode & 0o170000
    e = dict(mode=oct(s.st_mode), uid=s.st_uid, gid=s.st_gid, mtime=s.st_mtime_ns, rdev=s.st_rdev)
    e['xattrs'] = {n: os.getxattr(p, n, follow_symlinks=False).hex() for n in sorted(os.listxattr(p, follow_symlinks=False))}
    if k != 0o040000: e['nlink'] = s.st_nlink; e['size'] = s.st_size; e['same'] = inodes.setdefault(s.st_ino, r)
    if k == 0o120000: e['link'] = os.readlink(p)
    if k == 0o100000: e['sha256'] = hashlib.sha256(open(p, 'rb').read()).hexdigest()
    out[r] = e
    if k == 0o040000:
        for n in sorted(os.listdir(p)): see(p + '/' + n, r + '/' + n)
see(sys.argv[1], '')
json.dump(out, sys.stdout)
`;

/** Runs a command as user 0 of a user namespace that begins at another id. */
const SPACE = `
import os, sys, ctypes
a, b = os.pipe(); c, d = os.pipe(); pid = os.fork()
if pid == 0:
    if ctypes.CDLL(None).unshare(0x10000000 | 0x20000): os._exit(9)
    os.write(b, b'x'); os.read(c, 1); os.setgroups([]); os.setgid(0); os.setuid(0)
    for p in (b'/run', b'/dev/shm'):
        if ctypes.CDLL(None).mount(b'none', p, b'tmpfs', 0, None): os._exit(8)
    os.execv(sys.argv[2], sys.argv[2:])
os.read(a, 1)
for f in ('uid_map', 'gid_map'): open(f'/proc/{pid}/{f}', 'w').write(f'0 {sys.argv[1]} 65536')
os.write(d, b'x'); sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

needs(DEBS !== null && existsSync(PYTHON), "Debian's podman by apt-get, and python3").describe("podman", () =>
  describeOnThrowaway("layers unpacked in a user namespace", () => {
    let host: ThrowawayHost;
    beforeAll(async () => {
      host = await startHost();
      await unpackPackages(host, DEBS ?? "");
      const image = fakeImage({
        layers: LAYERS,
        configuration: { rootfs: { type: "layers", diff_ids: DIFF_IDS } },
      });
      for (const [digest, bytes] of image.blobs)
        host.write(`/tmp/oci/blobs/${digest.replace(":", "/")}`, bytes);
      host.write(`/tmp/oci/blobs/${image.digest.replace(":", "/")}`, image.bytes);
      host.write("/tmp/oci/oci-layout", '{"imageLayoutVersion":"1.0.0"}');
      const manifest = {
        mediaType: `${OCI}.manifest.v1+json`,
        digest: image.digest,
        size: Buffer.byteLength(image.bytes),
      };
      host.write("/tmp/oci/index.json", JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
      host.write("/tmp/list.py", LIST);
      host.write("/tmp/space.py", SPACE);
      for (const who of ["root", "space"]) {
        await host.exec([
          "install",
          "-d",
          ...(who === "root" ? [] : ["-o", `${BASE_ID}`, "-g", `${BASE_ID}`]),
          `/tmp/${who}/s`,
          `/tmp/${who}/r`,
          `/tmp/${who}/home`,
        ]);
        const podman = [
          "/usr/bin/env",
          `HOME=/tmp/${who}/home`,
          "/usr/bin/podman",
          "--root",
          `/tmp/${who}/s`,
          "--runroot",
          `/tmp/${who}/r`,
          "pull",
          "oci:/tmp/oci",
        ];
        const { status, stderr } = await host.exec(
          who === "root" ? podman : [PYTHON, "/tmp/space.py", `${BASE_ID}`, ...podman],
          { timeoutMs: 120_000 },
        );
        if (status !== 0) throw new Error(`podman as ${who}: ${stderr}`);
      }
    }, 240_000);
    afterAll(() => host?.stop());

    const list = async (path: string): Promise<Record<string, Record<string, unknown>>> =>
      JSON.parse((await host.exec([PYTHON, "/tmp/list.py", path])).stdout);
    /** The directory of a layer in a store, by the layer's diff id; with overlay's own links beside it. */
    const diffOf = (who: string, diffId: string | undefined): string => {
      const layers: unknown = JSON.parse(host.read(`/tmp/${who}/s/overlay-layers/layers.json`));
      const found = Array.isArray(layers) ? layers.find((one) => one["diff-digest"] === diffId) : undefined;
      return `/tmp/${who}/s/overlay/${found?.id}/diff`;
    };

    /** The layers below come first: podman takes the mode of a root from there. */
    let rootMode: number | null = null;
    test.each([0, 1, 2])("layer %d: compared, settled, it is what root's podman leaves", async (n) => {
      host.write("/tmp/layer", LAYERS[n] ?? "");
      const { tree, diffId, ...read } = await readLayerTree(host.path("/tmp/layer"), rootMode);
      rootMode = read.rootMode;
      expect(diffId).toBe(DIFF_IDS[n] ?? "");
      const [own, roots] = [diffOf("space", diffId), diffOf("root", diffId)];
      const before = await list(own);
      expect(await compareLayer(host.path(own), tree, { base: BASE_ID })).toEqual([]);
      await settleLayer(host.path(own), tree);
      const [expected, found] = [await list(roots), await list(own)];
      // podman says nothing of these times: they are those of the pull.
      for (const [path, { mtime }] of tree)
        if (mtime === null)
          for (const one of [expected, found]) delete one[path === "" ? "" : `/${path}`]?.["mtime"];
      expect(found).toEqual(expected);
      expect(before).not.toEqual(expected);
      expect(await compareLayer(host.path(roots), tree, "settled")).toEqual([]);
    });
  }),
);
