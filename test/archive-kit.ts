import { crc32, deflateRawSync } from "node:zlib";

/*
 * Archives entry by entry, sound or broken in one place, for the tests of whoever reads them.
 */

/** A tar header with the fields that a case changes. */
export function tarEntry(
  path: string,
  body: string | Uint8Array = "",
  over: {
    type?: string;
    mode?: string;
    size?: string;
    prefix?: string;
    magic?: string;
    link?: string;
    sum?: number;
    /** Other fields, by their offsets. */
    fields?: Readonly<Record<number, string>>;
  } = {},
): Buffer {
  const header = Buffer.alloc(512);
  const data = Buffer.from(body);
  header.write(path, 0, "utf8");
  header.write(over.mode ?? "0000644", 100);
  header.write(over.size ?? data.length.toString(8).padStart(11, "0"), 124);
  header.write("00000000000", 136);
  header.write(over.type ?? "0", 156);
  header.write(over.link ?? "", 157);
  header.write(over.magic ?? "ustar\x0000", 257, "latin1");
  header.write(over.prefix ?? "", 345);
  for (const [at, value] of Object.entries(over.fields ?? {})) header.write(value, Number(at), "latin1");
  header.write("        ", 148);
  const sum = over.sum ?? header.reduce((a, b) => a + b, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export const END = Buffer.alloc(1024);
export const tar = (...entries: Buffer[]) => Buffer.concat([...entries, END]);
export const pax = (...records: [string, string | Uint8Array][]) => {
  const lines = records.map(([key, value]) => {
    const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from("\n")]);
    let length = rest.length + 1;
    while (`${length}`.length + rest.length !== length) length++;
    return Buffer.concat([Buffer.from(`${length}`), rest]);
  });
  return tarEntry("PaxHeader", Buffer.concat(lines), { type: "x" });
};

/** A zip of one or more entries, with the fields that a case changes. */
interface ZipEntry {
  name: string;
  body?: string | Uint8Array;
  localName?: string;
  flags?: number;
  localFlags?: number;
  method?: number;
  size?: number;
  localSize?: number;
  crc?: number;
  mode?: number;
  descriptor?: "signed" | "plain" | "wrong";
  before?: string;
}

export function zip(
  entries: ZipEntry[],
  tail: { comment?: string; count?: number; behind?: string } = {},
): Buffer {
  const parts: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const { name, body = "", method = 8, flags = 0x800, descriptor, before = "" } = entry;
    const data = method === 8 ? deflateRawSync(body) : Buffer.from(body);
    const [crc, size] = [entry.crc ?? crc32(body), entry.size ?? Buffer.byteLength(body)];
    const bits = flags | (descriptor === undefined ? 0 : 8);
    const numbers = descriptor === undefined ? [crc, data.length, entry.localSize ?? size] : [0, 0, 0];
    const localName = Buffer.from(entry.localName ?? name);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(entry.localFlags ?? bits, 6);
    local.writeUInt16LE(method, 8);
    for (const [i, n] of numbers.entries()) local.writeUInt32LE(n, 14 + 4 * i);
    local.writeUInt16LE(localName.length, 26);
    const after = Buffer.alloc(descriptor === undefined ? 0 : descriptor === "plain" ? 12 : 16);
    if (descriptor !== undefined) {
      const at = descriptor === "plain" ? 0 : 4;
      if (at === 4) after.writeUInt32LE(0x08074b50, 0);
      for (const [i, n] of [crc, data.length, descriptor === "wrong" ? size + 1 : size].entries())
        after.writeUInt32LE(n, at + 4 * i);
    }
    parts.push(Buffer.from(before), local, localName, data, after);
    const record = Buffer.alloc(46);
    record.writeUInt32LE(0x02014b50, 0);
    record.writeUInt8(3, 5);
    record.writeUInt16LE(bits, 8);
    record.writeUInt16LE(method, 10);
    for (const [i, n] of [crc, data.length, size].entries()) record.writeUInt32LE(n, 16 + 4 * i);
    record.writeUInt16LE(Buffer.byteLength(name), 28);
    record.writeUInt32LE(((entry.mode ?? 0o100644) << 16) >>> 0, 38);
    record.writeUInt32LE(offset + before.length, 42);
    central.push(record, Buffer.from(name));
    offset += before.length + 30 + localName.length + data.length + after.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(tail.count ?? entries.length, 8);
  end.writeUInt16LE(tail.count ?? entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  end.writeUInt16LE(tail.comment?.length ?? 0, 20);
  return Buffer.concat([
    ...parts,
    directory,
    Buffer.from(tail.behind ?? ""),
    end,
    Buffer.from(tail.comment ?? ""),
  ]);
}
