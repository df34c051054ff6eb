import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeDifference } from "../src/doc-result.ts";
import type { LayerTree } from "../src/image-layer-tree.ts";
import { compareLayer, readLayerTree, settleLayer } from "../src/image-unpack.ts";
import { openBeneath, removeXattr, setXattr } from "../src/sys-beneath.ts";
import { tar } from "./archive-kit.ts";
import { layerEntry, NET_RAW } from "./layer-kit.ts";
import { needs } from "./needs.ts";

/*
 * Directories made by hand as podman leaves them in a user namespace (e2e-layers.test.ts has podman's own), changed in one place.
 */

const BASE = 700_000_000;
const dir = (path: string, given = {}) => layerEntry(path, { type: "5", ...given });
const LAYER = tar(
  dir("bin"),
  layerEntry("bin/su", { mode: 0o4755, uid: 3, gid: 4 }, "su"),
  layerEntry("bin/su2", { type: "1", link: "bin/su", mode: 0o4755, uid: 3, gid: 4 }),
  layerEntry("bin/ping", { mode: 0o755, xattrs: { "security.capability": NET_RAW, "user.a": "b" } }, "ping"),
  dir("etc", { mode: 0o700 }),
  layerEntry("etc/passwd", { mode: 0o600 }, "root:x:0:0"),
  layerEntry("link", { type: "2", link: "/etc/passwd" }),
  layerEntry("pipe", { type: "6", mode: 0o600 }),
  layerEntry("null", { type: "3", mode: 0o666, device: [1, 3] }),
  layerEntry(".wh.gone"),
  dir("opaque"),
  layerEntry("opaque/.wh..wh..opq"),
);

needs(process.getuid?.() === 0, "root").describe("a layer in a directory", () => {
  let scratch = "";
  let diff = "";
  let tree: LayerTree = new Map();
  const at = (path: string) => join(diff, path);

  /** Runs `use` with a descriptor by path of a file in the layer. */
  const withFd = (path: string, use: (fd: number) => void) => {
    const root = openSync(diff, "r");
    const fd = openBeneath(root, path) ?? -1;
    use(fd);
    for (const one of [root, fd]) closeSync(one);
  };
  const program = (...argv: [string, ...string[]]) => {
    const [name, ...args] = argv;
    const { status, stderr } = spawnSync(name, args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${name}: ${stderr}`);
  };

  beforeEach(async () => {
    scratch = mkdtempSync(join(tmpdir(), "aegis-unpack-"));
    diff = join(scratch, "diff");
    writeFileSync(join(scratch, "layer"), LAYER);
    ({ tree } = await readLayerTree(join(scratch, "layer"), null));
    mkdirSync(diff);
    for (const path of ["bin", "etc", "opaque"]) mkdirSync(at(path));
    writeFileSync(at("bin/su"), "su");
    linkSync(at("bin/su"), at("bin/su2"));
    writeFileSync(at("bin/ping"), "ping");
    writeFileSync(at("etc/passwd"), "root:x:0:0");
    symlinkSync("/etc/passwd", at("link"));
    program("/usr/bin/mkfifo", at("pipe"));
    program("/usr/bin/mknod", at("gone"), "c", "0", "0");
    for (const [path, { kind, mode, uid, gid }] of tree) {
      if (kind === "character device") continue;
      lchownSync(at(path), BASE + uid, BASE + gid);
      if (kind !== "symlink") chmodSync(at(path), mode);
    }
    const bound = Buffer.concat([NET_RAW, Buffer.alloc(4)]);
    bound[3] = 3;
    bound.writeUInt32LE(BASE, 20);
    withFd("bin/ping", (fd) => setXattr(fd, "security.capability", bound));
    withFd("bin/ping", (fd) => setXattr(fd, "user.a", Buffer.from("b")));
    withFd("opaque", (fd) => setXattr(fd, "user.overlay.opaque", Buffer.from("y")));
  });
  afterEach(() => rmSync(scratch, { recursive: true, force: true }));

  const compared = async () => (await compareLayer(diff, tree, { base: BASE })).map(describeDifference);

  test("as the namespace leaves it there is no difference, and settled none either", async () => {
    expect(await compared()).toEqual([]);
    await settleLayer(diff, tree);
    expect(await compareLayer(diff, tree, "settled")).toEqual([]);
    const su = lstatSync(at("bin/su"), { bigint: true });
    expect([su.mode, su.uid, su.gid, su.mtimeNs]).toEqual([0o104755n, 3n, 4n, 1_700_000_000_000_000_000n]);
    expect(lstatSync(at("null"), { bigint: true }).rdev).toBe(0x103n);
    expect((await compared()).length).toBeGreaterThan(5);
  });

  test("a root without an entry has the mode of the layer below, and the first one podman's", async () => {
    const file = join(scratch, "layer");
    writeFileSync(file, tar(dir("/", { mode: 0o750, uid: 3 })));
    const lower = await readLayerTree(file, null);
    writeFileSync(file, LAYER);
    const upper = await readLayerTree(file, lower.rootMode);
    const modes = [tree, lower.tree, upper.tree].map((one) => one.get("")?.mode.toString(8));
    expect([...modes, upper.tree.get("")?.uid]).toEqual(["555", "750", "750", 0]);
  });

  const own = (path: string) => lchownSync(at(path), BASE, BASE);
  const cases: [string, () => void, string[]][] = [
    [
      "a changed byte",
      () => writeFileSync(at("etc/passwd"), "root:x:0:1"),
      [expect.stringContaining("/etc/passwd is SHA-256")],
    ],
    [
      "a byte more",
      () => appendFileSync(at("etc/passwd"), "x"),
      ["/etc/passwd is size 11, expected size 10"],
    ],
    [
      "a changed byte of a linked file",
      () => writeFileSync(at("bin/su2"), "sU"),
      [expect.stringContaining("/bin/su is SHA-256")],
    ],
    ["a file more", () => writeFileSync(at("etc/new"), ""), ["/etc/new is there, expected absent"]],
    [
      "a file more, in no entry's directory",
      () => mkdirSync(at("etc/new/deep"), { recursive: true }),
      ["/etc/new is there, expected absent"],
    ],
    ["a file missing", () => unlinkSync(at("etc/passwd")), ["/etc/passwd is absent, expected file"]],
    ["a link missing", () => unlinkSync(at("link")), ["/link is absent, expected symlink"]],
    ["a whiteout missing", () => unlinkSync(at("gone")), ["/gone is absent, expected whiteout"]],
    ["a device that is there", () => writeFileSync(at("null"), ""), ["/null is file, expected absent"]],
    [
      "a changed mode",
      () => chmodSync(at("etc/passwd"), 0o644),
      ["/etc/passwd is mode 644, expected mode 600"],
    ],
    [
      "set-user-id added",
      () => chmodSync(at("bin/ping"), 0o4755),
      ["/bin/ping is mode 4755, expected mode 755"],
    ],
    [
      "set-user-id lost",
      () => chmodSync(at("bin/su"), 0o755),
      ["/bin/su is mode 755, expected mode 4755", "/bin/su2 is mode 755, expected mode 4755"],
    ],
    ["a directory's mode", () => chmodSync(at("etc"), 0o777), ["/etc is mode 777, expected mode 700"]],
    ["the root's mode", () => chmodSync(diff, 0o777), ["/ is mode 777, expected mode 555"]],
    [
      "another owner",
      () => chownSync(at("etc/passwd"), BASE + 1, BASE),
      [`/etc/passwd is owner ${BASE + 1}:${BASE}, expected owner ${BASE}:${BASE}`],
    ],
    ["root's file", () => chownSync(at("etc/passwd"), 0, 0), [expect.stringContaining("is owner 0:0")]],
    [
      "a link in the place of a file",
      () => {
        unlinkSync(at("etc/passwd"));
        symlinkSync("/etc/passwd", at("etc/passwd"));
        own("etc/passwd");
      },
      ["/etc/passwd is symlink, expected file"],
    ],
    [
      "a file in the place of a link",
      () => {
        unlinkSync(at("link"));
        writeFileSync(at("link"), "/etc/passwd");
        own("link");
      },
      ["/link is file, expected symlink"],
    ],
    [
      "a link to elsewhere",
      () => {
        unlinkSync(at("link"));
        symlinkSync("/etc/shadow", at("link"));
        own("link");
      },
      ["/link is link to /etc/shadow, expected link to /etc/passwd"],
    ],
    [
      "a link in the place of a directory, to one with the same content",
      () => {
        renameSync(at("etc"), join(scratch, "etc"));
        symlinkSync(join(scratch, "etc"), at("etc"));
        own("etc");
      },
      ["/etc is symlink, expected directory", "/etc/passwd is absent, expected file"],
    ],
    [
      "a copy in the place of a hard link",
      () => {
        unlinkSync(at("bin/su2"));
        writeFileSync(at("bin/su2"), "su");
        chownSync(at("bin/su2"), BASE + 3, BASE + 4);
        chmodSync(at("bin/su2"), 0o4755);
      },
      [
        "/bin/su is paths of this file 1, expected paths of this file 2",
        expect.stringContaining("/bin/su2 is paths of this file 1"),
        expect.stringContaining("/bin/su2 is file"),
      ],
    ],
    [
      "a name outside for a file inside",
      () => linkSync(at("bin/ping"), join(scratch, "out")),
      ["/bin/ping is paths of this file 2, expected paths of this file 1"],
    ],
    [
      "a capability lost",
      () => withFd("bin/ping", (fd) => removeXattr(fd, "security.capability")),
      [
        expect.stringContaining(
          "/bin/ping is attributes user.a=62, expected attributes security.capability=",
        ),
      ],
    ],
    [
      "a capability more",
      () => withFd("etc/passwd", (fd) => setXattr(fd, "security.capability", NET_RAW)),
      [expect.stringContaining("/etc/passwd is attributes security.capability=0100000200")],
    ],
    [
      "a capability of the host",
      () => withFd("bin/ping", (fd) => setXattr(fd, "security.capability", NET_RAW)),
      [expect.stringContaining("security.capability=0100000200")],
    ],
    [
      "not opaque",
      () => withFd("opaque", (fd) => removeXattr(fd, "user.overlay.opaque")),
      ["/opaque is attributes , expected attributes user.overlay.opaque=79"],
    ],
    [
      "opaque besides",
      () => withFd("etc", (fd) => setXattr(fd, "trusted.overlay.opaque", Buffer.from("y"))),
      ["/etc is attributes trusted.overlay.opaque=79, expected attributes "],
    ],
    [
      "a pipe that is a socket",
      () => {
        unlinkSync(at("pipe"));
        program(
          "/usr/bin/python3",
          "-c",
          `import socket; socket.socket(socket.AF_UNIX).bind(${JSON.stringify(at("pipe"))})`,
        );
      },
      ["/pipe is socket, expected fifo"],
    ],
  ];
  test.each(cases)("%s", async (_, change, expected) => {
    change();
    expect(await compared()).toEqual(expected);
  });

  test("a name of bytes that are no UTF-8 is none of the layer's", async () => {
    writeFileSync(Buffer.concat([Buffer.from(`${diff}/passw`), Buffer.from([0xff])]), "");
    expect(await compared()).toEqual(["/passw\uFFFD is there, expected absent"]);
  });

  test("differences are at most twenty, of bounded length", async () => {
    for (let n = 0; n < 1000; n++) writeFileSync(at(`${"n".repeat(240)}${n}`), "");
    const found = await compareLayer(diff, tree, { base: BASE });
    expect(found).toHaveLength(20);
    expect(Math.max(...found.map((one) => one.package.length))).toBe(201);
  });

  describe("settling", () => {
    test("follows no link that took a directory's place, and changes nothing behind it", async () => {
      renameSync(at("etc"), join(scratch, "etc"));
      symlinkSync(join(scratch, "etc"), at("etc"));
      await expect(settleLayer(diff, tree)).rejects.toThrow('"etc" in a layer changed while it was checked');
      expect(lstatSync(join(scratch, "etc/passwd")).uid).toBe(BASE);
    });

    test("follows no link that took a file's place", async () => {
      const outside = join(scratch, "outside");
      writeFileSync(outside, "", { mode: 0o600 });
      rmSync(at("bin/su"));
      rmSync(at("bin/su2"));
      symlinkSync(outside, at("bin/su"));
      await expect(settleLayer(diff, tree)).rejects.toThrow('"bin/su" in a layer changed');
      expect([lstatSync(outside).mode & 0o7777, lstatSync(outside).uid]).toEqual([0o600, 0]);
    });

    test("makes no device where there is something", async () => {
      writeFileSync(at("null"), "");
      await expect(settleLayer(diff, tree)).rejects.toThrow("making a device failed");
    });

    test("takes away attributes that the layer lacks", async () => {
      withFd("etc", (fd) => setXattr(fd, "trusted.overlay.redirect", Buffer.from("/bin")));
      await settleLayer(diff, tree);
      expect(await compareLayer(diff, tree, "settled")).toEqual([]);
    });

    const GETCAP = "/usr/sbin/getcap";
    needs(existsSync(GETCAP), "getcap").test("the capability is one that the host heeds", async () => {
      await settleLayer(diff, tree);
      const { stdout } = spawnSync(GETCAP, ["-n", at("bin/ping")], { encoding: "utf8" });
      expect(stdout).toBe(`${at("bin/ping")} cap_net_raw=ep\n`);
      expect(readFileSync(at("bin/ping"), "utf8")).toBe("ping");
    });
  });
});
