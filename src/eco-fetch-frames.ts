import type { FetchAccess } from "./eco-managed.ts";
import { AegisError } from "./errors.ts";

/*
 * What root's process and the fetch process say to each other. Root's: one document, {@link FetchRequest}. The other's: frames of a file's index, a kind and a length, 32 bits each, big-endian, and as many bytes.
 */

/** The files to download; `way` is the index of how each is reached. */
export interface FetchRequest {
  ways: readonly FetchAccess[];
  files: readonly { url: string; size: number; way: number }[];
}

export const FRAME = { data: 0, end: 1, failed: 2 } as const;
const HEADER = 12;
const MAX_LENGTH = 64 * 1024;

export interface Frame {
  index: number;
  kind: number;
  data: Buffer;
}

export function frameHeader(index: number, kind: number, length: number): Buffer {
  const header = Buffer.alloc(HEADER);
  header.writeUInt32BE(index, 0);
  header.writeUInt32BE(kind, 4);
  header.writeUInt32BE(length, 8);
  return header;
}

/** Splits what comes into whole frames. */
export class FrameReader {
  #rest = Buffer.alloc(0);

  /** @throws AegisError `evidence_mismatch` for what is no frame */
  push(data: Buffer): Frame[] {
    let rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    const frames: Frame[] = [];
    while (rest.length >= HEADER) {
      const [index, kind, length] = [rest.readUInt32BE(0), rest.readUInt32BE(4), rest.readUInt32BE(8)];
      if (length > MAX_LENGTH || kind > FRAME.failed)
        throw new AegisError("evidence_mismatch", "the fetch process says what it never should");
      if (rest.length < HEADER + length) break;
      frames.push({ index, kind, data: rest.subarray(HEADER, HEADER + length) });
      rest = rest.subarray(HEADER + length);
    }
    this.#rest = Buffer.from(rest);
    return frames;
  }
}
