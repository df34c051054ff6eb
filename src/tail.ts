import { closeSync, openSync, readSync } from "node:fs";
import { errnoOf } from "./errors.ts";

/** Follows a growing file: each call of `read` returns what has come since, at most `limit` bytes. */
export class Tail {
  readonly #path: string;
  #offset = 0;

  constructor(path: string) {
    this.#path = path;
  }

  read(limit = 64 * 1024): Buffer {
    let fd: number;
    try {
      fd = openSync(this.#path, "r");
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return Buffer.alloc(0);
      throw error;
    }
    try {
      const buffer = Buffer.allocUnsafe(limit);
      const n = readSync(fd, buffer, 0, limit, this.#offset);
      this.#offset += n;
      return buffer.subarray(0, n);
    } finally {
      closeSync(fd);
    }
  }
}

/** Whole lines out of pieces; what follows the last newline waits for the next piece. */
export class Lines {
  #rest = "";

  push(piece: string): string[] {
    const lines = (this.#rest + piece).split("\n");
    this.#rest = (lines.pop() ?? "").slice(-64 * 1024);
    return lines;
  }
}
