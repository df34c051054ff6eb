import { badArchive } from "./eco-archive.ts";
import { decoded, paxRecords, paxSize, type TarHeader, tarOctal, tarPath, tarText } from "./eco-tar.ts";

/*
 * One entry of a layer, from its header and the extension headers before it. Where POSIX.1-2017 pax(1) leaves a choice, Go's archive/tar
 * is followed, since podman and docker read layers with it; where Go and others read different things, the layer is refused.
 */

const KINDS = {
  "0": "file",
  "\0": "file",
  "1": "hard link",
  "2": "symlink",
  "3": "character device",
  "4": "block device",
  "5": "directory",
  "6": "fifo",
} as const;
/** Why other types are refused. podman refuses all of these but `g`, which it ignores in most places. */
const OTHERS: Readonly<Record<string, string>> = {
  g: "a global pax header, which layers have no use for",
  S: "a sparse file",
  7: "a contiguous file",
};

/** `whiteout`: what a lower layer has at this path is removed. `opaque`: all that lower layers have in this directory. */
type LayerKind = (typeof KINDS)[keyof typeof KINDS] | "whiteout" | "opaque";

export interface LayerEntry {
  /** Relative, with `/` between components, none of them empty, `.` or `..`; "" is the root of the layer. */
  path: string;
  kind: LayerKind;
  /** The lower twelve bits. */
  mode: number;
  uid: number;
  gid: number;
  /** Nanoseconds since 1970; negative before. */
  mtime: bigint;
  size: number;
  /** Of a file's content, in hex. */
  sha256: string | null;
  /** Of a symlink, as it stands there; of a hard link, a path like {@link path}. */
  target: string | null;
  /** Of a device, major and minor. */
  device: readonly [number, number] | null;
  xattrs: ReadonlyMap<string, Uint8Array>;
}

const MAX_PATH = 4000;
const MAX_NAME = 255;
const MAX_ID = 0xfffffffe;
/** Linux: 12 bits of major, 20 of minor. */
const [MAX_MAJOR, MAX_MINOR] = [0xfff, 0xfffff];
const XATTR = "SCHILY.xattr.";
/** Of xattr(7): a name, all names of a file together, a value, with room for what else the file system stores. */
const [MAX_XATTR_NAME, MAX_XATTRS, MAX_XATTR_VALUE] = [255, 64, 64 * 1024];
const NANOSECONDS = 1_000_000_000n;
/** Go's int64 of nanoseconds ends in 2262. */
const MAX_SECONDS = 9_223_372_036n;
const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

/** Records that an entry's meaning doesn't depend on; vendors' own are all in capitals before the dot. */
const HARMLESS =
  /^(?:atime|ctime|comment|charset|hdrcharset|uname|gname|(?!GNU\.sparse\.)[A-Z][A-Za-z0-9_]*\..*)$/;
const USED: ReadonlySet<string> = new Set(["path", "linkpath", "size", "uid", "gid", "mtime"]);

/** What the extension headers before an entry say of it. */
interface Extension {
  records: ReadonlyMap<string, string>;
  xattrs: ReadonlyMap<string, Uint8Array>;
}

/** Extension headers: pax's `x`, and GNU's `L` and `K`, each at most once before an entry. */
export class LayerExtensions {
  #records = new Map<string, string>();
  #xattrs = new Map<string, Uint8Array>();
  #types = "";

  get isEmpty(): boolean {
    return this.#types === "";
  }

  /** @throws AegisError `refused` */
  add(type: string, data: Uint8Array): void {
    if (this.#types.includes(type)) throw badArchive("two extension headers are of one kind");
    this.#types += type;
    if (type === "L") this.#set("path", tarText(data));
    else if (type === "K") this.#set("linkpath", tarText(data));
    else for (const [name, value] of paxRecords(data)) this.#record(name, value);
  }

  /** All of them, which then are for the entry that follows, and for no other. */
  take(): Extension {
    const taken = { records: this.#records, xattrs: this.#xattrs };
    if (!this.isEmpty) [this.#records, this.#xattrs, this.#types] = [new Map(), new Map(), ""];
    return taken;
  }

  #record(name: string, value: Uint8Array): void {
    if (name.startsWith(XATTR)) this.#xattr(name.slice(XATTR.length), value);
    else if (USED.has(name)) this.#set(name, decoded(value));
    else if (!HARMLESS.test(name)) throw badArchive(`a pax header sets ${JSON.stringify(name.slice(0, 64))}`);
  }

  #xattr(name: string, value: Uint8Array): void {
    const shown = JSON.stringify(name.slice(0, 64));
    if (this.#xattrs.has(name)) throw badArchive(`a pax header sets the attribute ${shown} twice`);
    const isLong = Buffer.byteLength(name) > MAX_XATTR_NAME || value.length > MAX_XATTR_VALUE;
    if (name === "" || name.includes("\0") || isLong || this.#xattrs.size >= MAX_XATTRS)
      throw badArchive(`a pax header sets the attribute ${shown}, which no file can have`);
    // Go passes over records without a value.
    if (value.length === 0) return;
    // A copy: the header's buffer would live as long as the entry.
    this.#xattrs.set(name, Uint8Array.from(value));
  }

  /** An empty value would stand for the header's own one. */
  #set(name: string, value: string): void {
    if (this.#records.has(name) || value === "" || value.includes("\0"))
      throw badArchive(`extension headers set ${name} twice, or to nothing that it can be`);
    this.#records.set(name, value);
  }
}

/**
 * The entry of a header, without a file's hash; null for `.`, to which podman applies nothing.
 * @throws AegisError `refused`
 */
export function entryOf(
  block: Uint8Array,
  header: TarHeader,
  headerSize: number,
  { records, xattrs }: Extension,
): LayerEntry | null {
  const { type } = header;
  refuseHybrids(block, header);
  const given = records.get("path") ?? tarPath(block, header);
  const shown = JSON.stringify(given.slice(0, 200));
  const kind = kindOf(type);
  if (kind === null) throw badArchive(`${shown} is ${OTHERS[type] ?? "of a kind that nothing unpacks"}`);
  if (kind === "file" && /\/\.?$/.test(given))
    throw badArchive(`${shown} is a file that is called like a directory`);
  const size = sizeOf(records.get("size"), headerSize);
  if (kind !== "file" && size !== 0) throw badArchive(`${shown} is a ${kind} with content`);
  const path = layerPath(given);
  // Go cleans "./" to "." and leaves "/" as it is; podman passes over the former alone.
  if (path === "" && kind !== "directory") throw badArchive(`${shown} is a ${kind} in the place of the root`);
  if (path === "" && !given.startsWith("/")) return null;
  const entry: LayerEntry = {
    ...{ path, kind, size, sha256: null },
    mode: numberField(block, 100, 8) & 0o7777,
    uid: idOf(records.get("uid"), numberField(block, 108, 8)),
    gid: idOf(records.get("gid"), numberField(block, 116, 8)),
    mtime: timeOf(records.get("mtime"), block),
    target: kind === "symlink" || kind === "hard link" ? targetOf(block, kind, records, shown) : null,
    device: kind === "character device" || kind === "block device" ? deviceOf(block, shown) : null,
    xattrs: xattrs.size === 0 ? NO_XATTRS : xattrs,
  };
  return whiteoutOf(entry, shown);
}

function kindOf(type: string): (typeof KINDS)[keyof typeof KINDS] | null {
  for (const [key, kind] of Object.entries(KINDS)) if (key === type) return kind;
  return null;
}

/** star's format, and GNU's as Go wrote it before 1.8, have something else where others have a part of the path. */
function refuseHybrids(block: Uint8Array, { isGnu }: TarHeader): void {
  const times = Buffer.from(block.subarray(345, 369)).toString("latin1");
  const isOdd = isGnu
    ? !/^(?:[0-7 \0]{12}|[\x80\xff].{11}){2}$/s.test(times)
    : Buffer.from(block.subarray(508)).toString("latin1") === "tar\0";
  if (isOdd) throw badArchive("a header is in a format between two others");
}

/**
 * A path of a layer. Leading slashes are dropped, as every engine does: ko writes them.
 * @throws AegisError `refused`
 */
function layerPath(raw: string): string {
  const parts = raw.split("/").filter((part) => part !== "" && part !== ".");
  const path = parts.join("/");
  const shown = JSON.stringify(raw.slice(0, 200));
  if (raw === "" || raw.includes("\0") || raw.includes("\uFFFD")) throw badArchive(`${shown} is not a path`);
  if (parts.includes("..")) throw badArchive(`${shown} is no plain path`);
  if (Buffer.byteLength(path) > MAX_PATH || parts.some((part) => Buffer.byteLength(part) > MAX_NAME))
    throw badArchive(`${shown} is too long`);
  return path;
}

/** Python and Go write 0 into the header where a pax header has the size; where they differ otherwise, readers do too. */
function sizeOf(pax: string | undefined, header: number): number {
  const size = pax === undefined ? header : paxSize(pax);
  if (header !== 0 && header !== size) throw badArchive("it gives two sizes for one file");
  return size;
}

function idOf(pax: string | undefined, header: number): number {
  const id = pax === undefined ? header : /^\d{1,10}$/.test(pax) ? Number(pax) : Number.NaN;
  if (!(id >= 0 && id <= MAX_ID)) throw badArchive("a header has an invalid user or group");
  return id;
}

function timeOf(pax: string | undefined, block: Uint8Array): bigint {
  const [, sign, seconds, fraction = ""] = /^(-?)(\d{1,12})(?:\.(\d*))?$/.exec(pax ?? "") ?? [];
  if (pax !== undefined && seconds === undefined) throw badArchive("a pax header has an invalid time");
  const whole = seconds === undefined ? BigInt(numberField(block, 136, 12)) : BigInt(seconds);
  if (whole > MAX_SECONDS || whole < -MAX_SECONDS)
    throw badArchive("a header has a time that no file can have");
  const nanoseconds = whole * NANOSECONDS + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
  return sign === "-" ? -nanoseconds : nanoseconds;
}

function targetOf(
  block: Uint8Array,
  kind: "symlink" | "hard link",
  records: ReadonlyMap<string, string>,
  shown: string,
): string {
  const target = records.get("linkpath") ?? tarText(block.subarray(157, 257));
  const path = kind === "symlink" ? target : layerPath(target);
  if (path === "" || path.includes("\uFFFD") || Buffer.byteLength(path) > MAX_PATH)
    throw badArchive(`${shown} is a ${kind} with an invalid target`);
  return path;
}

function deviceOf(block: Uint8Array, shown: string): readonly [number, number] {
  const [major, minor] = [numberField(block, 329, 8), numberField(block, 337, 8)];
  if (major < 0 || major > MAX_MAJOR || minor < 0 || minor > MAX_MINOR)
    throw badArchive(`${shown} has device numbers that Linux doesn't have`);
  return [major, minor];
}

/**
 * A file called `.wh.name` removes `name`; `.wh..wh..opq` makes its directory opaque. Other names of AUFS, and directories called so,
 * are refused: engines differ over them.
 */
function whiteoutOf(entry: LayerEntry, shown: string): LayerEntry {
  const parts = entry.path.split("/");
  const name = parts.pop() ?? "";
  const isMark = name.startsWith(".wh.");
  if (!isMark && !parts.some((part) => part.startsWith(".wh."))) return entry;
  const removed = name.slice(4);
  const isOpaque = removed === ".wh..opq";
  const isOdd = removed === "" || removed === "." || removed === ".." || removed.startsWith(".wh.");
  const isUsable = isMark && (isOpaque || !isOdd) && entry.kind === "file" && entry.size === 0;
  if (!isUsable || parts.some((part) => part.startsWith(".wh.")))
    throw badArchive(`${shown} is a mark of a removal that engines read differently`);
  const path = (isOpaque ? parts : [...parts, removed]).join("/");
  return { ...entry, path, kind: isOpaque ? "opaque" : "whiteout", xattrs: NO_XATTRS };
}

/**
 * A number of a header: octal, or GNU's binary form, whose first byte has its highest bit set (256-based, two's complement).
 * @throws AegisError `refused`
 */
export function numberField(block: Uint8Array, at: number, length: number): number {
  const field = block.subarray(at, at + length);
  const first = field[0] ?? 0;
  if ((first & 0x80) === 0) return tarOctal(field);
  const isNegative = (first & 0x40) !== 0;
  let value = BigInt(isNegative ? (first | 0x80) - 256 : first & 0x7f);
  for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte);
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw badArchive("a header has an invalid number");
  return number;
}
