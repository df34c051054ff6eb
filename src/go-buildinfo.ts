/*
 * What the linker of Go writes into a program about the modules that it is made of: the section `.go.buildinfo` of an ELF file. Read
 * from the section that the file's own table names, not searched for, since a program's data may have anything in it.
 * https://pkg.go.dev/debug/buildinfo, debug/buildinfo/buildinfo.go
 */

const MAGIC = Buffer.from("\xff Go buildinf:", "latin1");
/** Strings follow the header, rather than pointers to them: every go command from 1.18 on. */
const INLINE = 2;
const HEADER = 32;
/** Marks around the list of modules. */
const SENTINEL = 16;
const MAX_SECTIONS = 10_000;

export interface BuiltFrom {
  path: string;
  version: string;
  /** `h1:…`, or empty. */
  sum: string;
}

export interface BuildInfo {
  /** `go1.19.8`. */
  goVersion: string;
  /** The package that the program is. */
  path: string;
  main: BuiltFrom | null;
  dependencies: BuiltFrom[];
  /** Whether something was replaced. */
  isReplaced: boolean;
  settings: ReadonlyMap<string, string>;
}

/** The build information of an ELF program; null where it has none, or is damaged. */
export function readBuildInfo(program: Uint8Array): BuildInfo | null {
  try {
    const section = sectionOf(Buffer.from(program.buffer, program.byteOffset, program.byteLength));
    if (section === null || !section.subarray(0, MAGIC.length).equals(MAGIC)) return null;
    if (((section[MAGIC.length + 1] ?? 0) & INLINE) === 0) return null;
    const goVersion = readString(section, HEADER);
    const modules = readString(section, goVersion.end);
    const text = modules.bytes.subarray(SENTINEL, -SENTINEL).toString("utf8");
    return text.endsWith("\n") ? readModules(goVersion.bytes.toString("utf8"), text) : null;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function readModules(goVersion: string, text: string): BuildInfo {
  const settings = new Map<string, string>();
  const info: BuildInfo = { goVersion, path: "", main: null, dependencies: [], isReplaced: false, settings };
  for (const line of text.split("\n")) {
    const [word, first = "", version = "", sum = ""] = line.split("\t");
    if (word === "path") info.path = first;
    else if (word === "mod") info.main = { path: first, version, sum };
    else if (word === "dep") info.dependencies.push({ path: first, version, sum });
    else if (word === "=>") info.isReplaced = true;
    else if (word === "build") settings.set(first.split("=")[0] ?? "", first.slice(first.indexOf("=") + 1));
  }
  return info;
}

/** A string with its length before it, as a varint. @throws RangeError */
function readString(data: Buffer, at: number): { bytes: Buffer; end: number } {
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = data.readUInt8(at++);
    length += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) break;
    if (shift > 21) throw new RangeError("a string that is too long");
  }
  if (at + length > data.length) throw new RangeError("a string that ends outside");
  return { bytes: data.subarray(at, at + length), end: at + length };
}

/** The contents of `.go.buildinfo`, by the section headers. elf(5). @throws RangeError */
function sectionOf(elf: Buffer): Buffer | null {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46) return null;
  const [wide, little] = [elf[4] === 2, elf[5] === 1];
  const half = (at: number) => (little ? elf.readUInt16LE(at) : elf.readUInt16BE(at));
  const word = (at: number) => (little ? elf.readUInt32LE(at) : elf.readUInt32BE(at));
  const long = (at: number) =>
    wide ? Number(little ? elf.readBigUInt64LE(at) : elf.readBigUInt64BE(at)) : word(at);
  const [table, size, count, names] = wide
    ? [long(0x28), half(0x3a), half(0x3c), half(0x3e)]
    : [long(0x20), half(0x2e), half(0x30), half(0x32)];
  const span = (index: number) => {
    const at = table + index * size;
    return wide
      ? { from: long(at + 0x18), size: long(at + 0x20) }
      : { from: word(at + 0x10), size: word(at + 0x14) };
  };
  const strings = span(names);
  for (let i = 0; i < Math.min(count, MAX_SECTIONS); i++) {
    const nameAt = strings.from + word(table + i * size);
    const name = elf.toString("latin1", nameAt, nameAt + 14);
    if (name !== ".go.buildinfo\0") continue;
    const { from, size: length } = span(i);
    if (from + length > elf.length) throw new RangeError("a section that ends outside");
    return elf.subarray(from, from + length);
  }
  return null;
}
