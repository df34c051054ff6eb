import { pax, tarEntry } from "./archive-kit.ts";

/*
 * Entries of layers, and whole layers with every kind of file that an image may have.
 */

export interface LayerEntryFields {
  type?: "0" | "1" | "2" | "3" | "4" | "5" | "6";
  mode?: number;
  uid?: number;
  gid?: number;
  /** Seconds, with a fraction where it is given as text. */
  mtime?: number | string;
  link?: string;
  device?: readonly [number, number];
  xattrs?: Readonly<Record<string, string | Uint8Array>>;
}

const octal = (value: number) => `${value.toString(8).padStart(7, "0")}\0`;

/** One entry, with a pax header for what ustar has no place for. */
export function layerEntry(
  path: string,
  given: LayerEntryFields = {},
  body: string | Uint8Array = "",
): Buffer {
  const { type = "0", mode = type === "5" ? 0o755 : 0o644, uid = 0, gid = 0, mtime = 1_700_000_000 } = given;
  const { link = "", device = [0, 0], xattrs = {} } = given;
  const records: [string, string | Uint8Array][] = [
    ["path", path],
    ["mtime", `${mtime}`],
  ];
  if (link !== "") records.push(["linkpath", link]);
  for (const [name, value] of Object.entries(xattrs)) records.push([`SCHILY.xattr.${name}`, value]);
  const fields = { 108: octal(uid), 116: octal(gid), 329: octal(device[0]), 337: octal(device[1]) };
  const header = { type, mode: octal(mode).slice(0, 7), fields };
  return Buffer.concat([
    pax(...records),
    tarEntry(path.slice(0, 20).replaceAll(/[^a-z/]/g, "_"), body, header),
  ]);
}

const dir = (path: string, given: LayerEntryFields = {}) => layerEntry(path, { type: "5", ...given });
const hard = (path: string, link: string, given: LayerEntryFields = {}) =>
  layerEntry(path, { type: "1", link, ...given });

/** vfs_cap_data of linux/capability.h: `cap_net_raw+ep`, version 2. */
export const NET_RAW = Buffer.from("0100000200200000000000000000000000000000", "hex");
const DEEP = `deep/${Array.from({ length: 12 }, (_, n) => `${n}${"d".repeat(150)}`).join("/")}`;
const CAPABLE = { mode: 0o755, xattrs: { "security.capability": NET_RAW } };

/** Every kind of file, in the order in which real layers have them, and in some in which they seldom do. */
export const BASE_LAYER: readonly Buffer[] = [
  dir("./"),
  dir("bin"),
  layerEntry("bin/su", { mode: 0o4755 }, "su"),
  hard("bin/su2", "bin/su", { mode: 0o4755 }),
  layerEntry("bin/wall", { mode: 0o2755, gid: 5 }, "wall"),
  layerEntry("bin/both", { mode: 0o6711, uid: 7, gid: 8 }, "both"),
  layerEntry("bin/ping", CAPABLE, "ping"),
  layerEntry("bin/lost", CAPABLE, "its link takes the capability away"),
  hard("bin/lost2", "bin/lost", { mode: 0o755, uid: 9 }),
  layerEntry("bin/kept", CAPABLE, "its link has the same owner"),
  hard("bin/kept2", "bin/kept", { mode: 0o755 }),
  layerEntry("bin/again", {}, "gets a capability by its link"),
  hard("bin/again2", "bin/again", { ...CAPABLE, uid: 65_534 }),
  dir("etc"),
  layerEntry("etc/shadow", { mode: 0o640, gid: 42 }, "x"),
  layerEntry("etc/zero", { mode: 0 }, "z"),
  layerEntry("etc/empty"),
  dir("home/u", { mode: 0o700, uid: 1000, gid: 1000, mtime: "1699999999.123456789" }),
  layerEntry("home/u/f", { mode: 0o600, uid: 1000, gid: 1000, mtime: "1600000000.5" }, "f"),
  layerEntry("home/u/old", { mtime: -5 }, "older than 1970"),
  dir("tmp", { mode: 0o1777 }),
  dir("srv", { mode: 0o2775, gid: 100, xattrs: { "user.kind": "directory" } }),
  layerEntry("srv/nobody", { uid: 65_534, gid: 65_534, xattrs: { "user.a": "1\n\0=2", "user.b": "" } }, "n"),
  layerEntry("srv/apple", { xattrs: { "com.apple.provenance": "x", "security.selinux": "label" } }, "a"),
  layerEntry("srv/signed", { xattrs: { "security.ima": Buffer.from([3, 2, 4, 1, 2, 3]) } }, "s"),
  layerEntry("abs", { type: "2", link: "/etc/shadow", mode: 0o777, uid: 3, gid: 4 }),
  layerEntry("up", { type: "2", link: "../../../../etc/passwd", mode: 0o777, mtime: "1500000000.25" }),
  layerEntry("loop", { type: "2", link: "loop", mode: 0o644 }),
  hard("hardsym", "up", { uid: 5, mode: 0o600 }),
  dir("dev"),
  layerEntry("dev/null", { type: "3", mode: 0o666, device: [1, 3] }),
  layerEntry("dev/sd", { type: "4", mode: 0o660, gid: 6, device: [259, 0x12345] }),
  layerEntry("dev/fifo", { type: "6", mode: 0o602, uid: 1, gid: 2 }),
  hard("dev/fifo2", "dev/fifo", { mode: 0o602, uid: 1, gid: 2 }),
  hard("implicit/below/link", "etc/shadow", { mode: 0o640, gid: 42 }),
  layerEntry("implicit/null", { type: "3", mode: 0o600, device: [1, 3] }),
  layerEntry(`${DEEP}/${"f".repeat(255)}`, {}, "deep"),
  layerEntry("odd/ \n\t\x1b[2J\\\"'$`*\u{1F600}e\u0301\u202e"),
  layerEntry("odd/-rf", {}, "x"),
  layerEntry("odd/.wh", {}, "no whiteout"),
  layerEntry("late/below", {}, "comes before its directory"),
  dir("late", { mode: 0o751, gid: 3, mtime: 1_650_000_000, xattrs: { "user.a": "1" } }),
  layerEntry("/ko-app/x", { mode: 0o555 }, "absolute"),
  layerEntry("big", {}, "0123456789abcdef".repeat(200_000)),
];

/** What a second layer takes away. */
export const TOP_LAYER: readonly Buffer[] = [
  dir("/", { mode: 0o750, uid: 0, gid: 12, mtime: 1_640_000_000 }),
  dir("etc"),
  layerEntry("etc/.wh.zero", { uid: 11, gid: 12 }),
  dir("home", { mode: 0o711 }),
  layerEntry("home/.wh..wh..opq"),
  layerEntry("home/new", { uid: 1000, gid: 1000 }, "new"),
  layerEntry("srv/.wh..wh..opq"),
  layerEntry(".wh.tmp"),
  layerEntry("tmp/.wh.x"),
  layerEntry("bin/.wh.wall"),
  layerEntry("bin/wall", { mode: 0o755 }, "another"),
];

/** One without an entry for its root, on top of one that has one. */
export const LAST_LAYER: readonly Buffer[] = [layerEntry("last", {}, "last")];
