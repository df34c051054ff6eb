import { describe, expect, test } from "bun:test";
import { LayerParser } from "../src/image-layer.ts";
import { type LayerTree, LayerTreeBuilder } from "../src/image-layer-tree.ts";
import { tar } from "./archive-kit.ts";
import { layerEntry, NET_RAW } from "./layer-kit.ts";

/** What entries make of an empty directory. */
function treeOf(...entries: Buffer[]): LayerTree {
  const builder = new LayerTreeBuilder(65_536, 0o555);
  const parser = new LayerParser((entry) => builder.add(entry));
  parser.push(tar(...entries));
  parser.end();
  return builder.tree;
}

const dir = (path: string, given = {}) => layerEntry(path, { type: "5", ...given });
const hard = (path: string, link: string, given = {}) => layerEntry(path, { type: "1", link, ...given });
const symlink = (path: string, link: string) => layerEntry(path, { type: "2", link });
const xattr = (name: string, value: string | Uint8Array = "x") => ({ xattrs: { [name]: value } });

describe("refused", () => {
  const version3 = Buffer.concat([NET_RAW, Buffer.alloc(4)]);
  version3[3] = 3;
  const cases: [string, () => Buffer[], RegExp][] = [
    ["a file twice", () => [layerEntry("a"), layerEntry("a")], /"a" is in it twice/],
    ["a file twice, once absolute", () => [layerEntry("a"), layerEntry("/a")], /in it twice/],
    ["a directory twice", () => [dir("a"), dir("a/")], /in it twice/],
    ["the root twice", () => [dir("/"), dir("//")], /in it twice/],
    ["a file and a directory", () => [layerEntry("a"), dir("a")], /in it twice/],
    ["a directory and a file", () => [dir("a"), layerEntry("a")], /in it twice/],
    ["a directory without an entry and a file", () => [layerEntry("a/b"), layerEntry("a")], /in it twice/],
    ["a file and its whiteout", () => [layerEntry("a"), layerEntry(".wh.a")], /in it twice/],
    ["a whiteout twice", () => [layerEntry(".wh.a"), layerEntry("/.wh.a")], /in it twice/],
    ["opaque twice", () => [layerEntry(".wh..wh..opq"), layerEntry("/.wh..wh..opq")], /opaque twice/],
    ["below a file", () => [layerEntry("a"), layerEntry("a/b")], /"a" is a file with something below/],
    ["below a symlink", () => [symlink("a", "/etc"), layerEntry("a/passwd")], /symlink with something below/],
    [
      "deep below a symlink",
      () => [symlink("a", "/"), layerEntry("a/b/c/d")],
      /symlink with something below/,
    ],
    ["a directory below a symlink", () => [symlink("a", "b"), dir("a/b")], /symlink with something below/],
    ["a whiteout below a symlink", () => [symlink("a", "/"), layerEntry("a/.wh.b")], /something below/],
    ["opaque, of a symlink", () => [symlink("a", "/"), layerEntry("a/.wh..wh..opq")], /something below/],
    [
      "a file below a whiteout",
      () => [layerEntry(".wh.a"), layerEntry("a/b")],
      /whiteout with something below/,
    ],
    ["opaque, of a whiteout", () => [layerEntry(".wh.a"), layerEntry("a/.wh..wh..opq")], /whiteout with/],
    ["a hard link to nothing", () => [hard("a", "b")], /hard link to what isn't there/],
    ["a hard link to itself", () => [hard("a", "a")], /hard link to what isn't there/],
    ["a hard link to what comes later", () => [hard("a", "b"), layerEntry("b")], /what isn't there/],
    ["a hard link to a directory", () => [dir("b"), hard("a", "b")], /hard link to directory/],
    ["a hard link to a whiteout", () => [layerEntry(".wh.b"), hard("a", "b")], /hard link to whiteout/],
    [
      "a hard link to a device, which the namespace lacks",
      () => [layerEntry("b", { type: "3", device: [1, 3] }), hard("a", "b")],
      /hard link to character device/,
    ],
    [
      "a hard link through a symlink",
      () => [dir("d"), layerEntry("d/b"), symlink("s", "d"), hard("a", "s/b")],
      /what isn't there/,
    ],
    [
      "a user that the namespace lacks",
      () => [layerEntry("a", { uid: 65_536 })],
      /user 65536 .*65535 is the highest/,
    ],
    ["a group that it lacks", () => [dir("a", { gid: 100_000 })], /group 100000/],
    [
      "an attribute of a symlink",
      () => [layerEntry("a", { type: "2", link: "b", ...xattr("user.a") })],
      /a symlink with/,
    ],
    [
      "overlayfs's own attribute",
      () => [dir("a", xattr("trusted.overlay.redirect"))],
      /"trusted.overlay.redirect"/,
    ],
    [
      "overlayfs's own, in a namespace",
      () => [dir("a", xattr("user.overlay.opaque", "y"))],
      /"user.overlay.opaque"/,
    ],
    [
      "an access list",
      () => [layerEntry("a", xattr("system.posix_acl_access"))],
      /"system.posix_acl_access"/,
    ],
    ["another label", () => [layerEntry("a", xattr("security.SMACK64"))], /"security.SMACK64"/],
    [
      "a capability of a namespace",
      () => [layerEntry("a", xattr("security.capability", version3))],
      /"security.capability"/,
    ],
    [
      "half a capability",
      () => [layerEntry("a", xattr("security.capability", NET_RAW.subarray(0, 12)))],
      /security.cap/,
    ],
    ["a directory's capability", () => [dir("a", xattr("security.capability", NET_RAW))], /a directory with/],
    [
      "a symlink's capability, by a hard link",
      () => [symlink("b", "c"), hard("a", "b", xattr("security.capability", NET_RAW))],
      /a symlink with/,
    ],
  ];
  test.each(cases)("%s", (_, make, message) => expect(() => treeOf(...make())).toThrow(message));

  test("names and attributes of more than 128 MiB", () => {
    const builder = new LayerTreeBuilder(65_536, 0o555);
    const value = "x".repeat(60_000);
    const parser = new LayerParser((entry) => builder.add(entry));
    const push = () => {
      for (let n = 0; n < 3000; n++) parser.push(layerEntry(`f${n}`, xattr("user.a", value)));
    };
    expect(push).toThrow("too long, taken together");
    expect(builder.tree.size).toBeLessThan(2300);
  });
});

describe("made", () => {
  const modes = (tree: LayerTree) =>
    [...tree].map(
      ([path, { kind, mode, uid, gid, mtime }]) =>
        `${path} ${kind} ${mode.toString(8)} ${uid}:${gid} ${mtime}`,
    );
  const AT = 1_700_000_000_000_000_000n;

  test("directories that have no entry, or a later one", () => {
    const tree = treeOf(layerEntry("a/b/c"), dir("a", { mode: 0o700, uid: 1 }), layerEntry("x/.wh..wh..opq"));
    expect(modes(tree)).toEqual([
      " directory 555 0:0 null",
      `a directory 700 1:0 ${AT}`,
      "a/b directory 755 0:0 null",
      `a/b/c file 644 0:0 ${AT}`,
      "x directory 755 0:0 null",
    ]);
    expect([...tree].filter(([, { isOpaque }]) => isOpaque).map(([path]) => path)).toEqual(["x"]);
  });

  test("a hard link sets the owner, mode and time of what it links to, but of a symlink the owner alone", () => {
    const tree = treeOf(
      layerEntry("f", { mode: 0o600 }),
      hard("g", "f", { mode: 0o4755, uid: 7, mtime: 5 }),
      symlink("s", "f"),
      hard("t", "s", { mode: 0o600, uid: 8, mtime: 6 }),
    );
    expect(tree.get("f")).toBe(tree.get("g"));
    expect(modes(tree).slice(1)).toEqual([
      "f file 4755 7:0 5000000000",
      "g file 4755 7:0 5000000000",
      `s symlink 777 8:0 ${AT}`,
      `t symlink 777 8:0 ${AT}`,
    ]);
    expect(tree.get("f")?.links).toBe(2);
  });

  test("a file in the place of its whiteout; a whiteout below a whiteout is passed over", () => {
    const tree = treeOf(
      layerEntry(".wh.a"),
      layerEntry("a", { uid: 3 }),
      layerEntry(".wh.b"),
      layerEntry("b/.wh.c"),
    );
    expect(modes(tree).slice(1)).toEqual([`a file 644 3:0 ${AT}`, "b whiteout 0 0:0 null"]);
  });

  test("a time before 1970 is 1970's, but a symlink's; SELinux's labels and names without a namespace are dropped", () => {
    const given = { mtime: -1, xattrs: { "security.selinux": "x", "com.apple.a": "x", "user.a": "x" } };
    const tree = treeOf(layerEntry("a", given), layerEntry("s", { type: "2", link: "a", mtime: -1 }));
    expect([tree.get("a")?.mtime, tree.get("s")?.mtime]).toEqual([0n, -1_000_000_000n]);
    expect([...(tree.get("a")?.xattrs.keys() ?? [])]).toEqual(["user.a"]);
  });
});
