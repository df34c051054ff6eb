import { readFileSync } from "node:fs";

export interface Elf {
  /** `e_machine`: 62 is x86-64, 183 is AArch64. */
  machine: number;
  /** DT_NEEDED: the shared libraries it needs. */
  needed: string[];
  /** Symbol versions it needs of them, e.g. `GLIBC_2.17`. */
  versions: string[];
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NEEDED = 1n;
const DT_STRTAB = 5n;
const DT_VERNEED = 0x6ffffffen;

/** Requirements of a 64-bit little-endian executable: elf(5). */
export function readElf(path: string): Elf {
  const file = readFileSync(path);
  if (file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1)
    throw new Error(`${path} is no 64-bit little-endian ELF file`);
  const segments = Array.from({ length: file.readUInt16LE(56) }, (_, i) => {
    const at = Number(file.readBigUInt64LE(32)) + i * file.readUInt16LE(54);
    return {
      type: file.readUInt32LE(at),
      offset: Number(file.readBigUInt64LE(at + 8)),
      address: Number(file.readBigUInt64LE(at + 16)),
      size: Number(file.readBigUInt64LE(at + 32)),
    };
  });
  const offsetOf = (address: number) => {
    const home = segments.find(
      (s) => s.type === PT_LOAD && s.address <= address && address < s.address + s.size,
    );
    if (home === undefined) throw new Error(`${path}: nothing is loaded at ${address}`);
    return home.offset + address - home.address;
  };
  const dynamic = segments.find((s) => s.type === PT_DYNAMIC);
  if (dynamic === undefined) throw new Error(`${path} is linked statically`);
  const entries = Array.from({ length: dynamic.size / 16 }, (_, i) => ({
    tag: file.readBigInt64LE(dynamic.offset + i * 16),
    value: Number(file.readBigUInt64LE(dynamic.offset + i * 16 + 8)),
  }));
  const dynamicValue = (tag: bigint) => {
    const entry = entries.find((one) => one.tag === tag);
    if (entry === undefined) throw new Error(`${path} has no dynamic entry ${tag}`);
    return entry.value;
  };
  const strings = offsetOf(dynamicValue(DT_STRTAB));
  const text = (index: number) => file.toString("latin1", strings + index, file.indexOf(0, strings + index));

  const versions = new Set<string>();
  // Verneed: version, count, file, aux, next; each Vernaux: hash, flags, other, name, next.
  for (let need = offsetOf(dynamicValue(DT_VERNEED)); ; ) {
    let aux = need + file.readUInt32LE(need + 8);
    for (let i = 0; i < file.readUInt16LE(need + 2); i++) {
      versions.add(text(file.readUInt32LE(aux + 8)));
      aux += file.readUInt32LE(aux + 12);
    }
    const next = file.readUInt32LE(need + 12);
    if (next === 0) break;
    need += next;
  }
  return {
    machine: file.readUInt16LE(18),
    needed: entries.filter(({ tag }) => tag === DT_NEEDED).map(({ value }) => text(value)),
    versions: [...versions].toSorted(),
  };
}
