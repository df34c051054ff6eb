/*
 * ELF files with the build information of Go in them, and nothing else.
 */

interface Format {
  wide?: boolean;
  little?: boolean;
  /** The section's name. */
  section?: string;
}

const SENTINEL = Buffer.from("3077af0c9274080241e1c107e6d618e6f932433186182072008242104116d8f2", "hex");

/** A program that says it is made of these modules, one line each, as `go version -m` shows them. */
export function goProgram(
  modules: readonly string[],
  { wide = true, little = true, section = ".go.buildinfo" }: Format = {},
): Buffer {
  const text = Buffer.concat([
    SENTINEL.subarray(0, 16),
    Buffer.from(`${modules.join("\n")}\n`),
    SENTINEL.subarray(16),
  ]);
  const header = Buffer.alloc(32);
  header.write("\xff Go buildinf:", "latin1");
  header[14] = 8;
  header[15] = 2;
  const info = Buffer.concat([header, sized(Buffer.from("go1.19.8")), sized(text)]);
  const names = Buffer.from(`\0.shstrtab\0${section}\0`);
  const start = wide ? 64 : 52;
  const entry = wide ? 64 : 40;
  const table = start + info.length + names.length;
  const elf = Buffer.alloc(table + 3 * entry);
  const half = (at: number, n: number) => (little ? elf.writeUInt16LE(n, at) : elf.writeUInt16BE(n, at));
  const word = (at: number, n: number) => (little ? elf.writeUInt32LE(n, at) : elf.writeUInt32BE(n, at));
  const long = (at: number, n: number) => {
    if (!wide) word(at, n);
    else if (little) elf.writeBigUInt64LE(BigInt(n), at);
    else elf.writeBigUInt64BE(BigInt(n), at);
  };
  elf.write("\x7fELF", "latin1");
  elf[4] = wide ? 2 : 1;
  elf[5] = little ? 1 : 2;
  long(wide ? 0x28 : 0x20, table);
  half(wide ? 0x3a : 0x2e, entry);
  half(wide ? 0x3c : 0x30, 3);
  half(wide ? 0x3e : 0x32, 1);
  info.copy(elf, start);
  names.copy(elf, start + info.length);
  const describe = (index: number, name: number, from: number, size: number) => {
    const at = table + index * entry;
    word(at, name);
    long(at + (wide ? 0x18 : 0x10), from);
    long(at + (wide ? 0x20 : 0x14), size);
  };
  describe(1, 1, start + info.length, names.length);
  describe(2, 11, start, info.length);
  return elf;
}

function sized(bytes: Buffer): Buffer {
  const length: number[] = [];
  for (let left = bytes.length; ; left = Math.floor(left / 128)) {
    length.push(left < 128 ? left : (left % 128) + 128);
    if (left < 128) return Buffer.concat([Buffer.from(length), bytes]);
  }
}
