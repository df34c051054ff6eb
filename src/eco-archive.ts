import { AegisError } from "./errors.ts";

/*
 * What every archive of a registry is held to before anything looks inside: bounded, and with only one way to read it. A tool that
 * unpacks the same bytes may resolve doubts in its own way, so an archive that leaves room for doubt is refused.
 */

/** One regular file of an archive. */
export interface ArchiveFile {
  /** Relative, `/` between components, none of them empty, `.` or `..`. */
  path: string;
  /** Some execute bit is set (tar; zip written on Unix). */
  executable: boolean;
  data: Uint8Array;
}

export interface ArchiveLimits {
  /** Entries, directories included. */
  maxEntries: number;
  /** Bytes of all files together, unpacked. */
  maxBytes: number;
  /** Unpacked bytes per packed byte, over the whole archive; small archives are exempt. */
  maxRatio: number;
}

/** Enough for the largest packages of npm, PyPI, crates.io and Go's proxy (whose own limit is 500 MiB), and a bound on memory. */
export const ARCHIVE_LIMITS: ArchiveLimits = {
  maxEntries: 100_000,
  maxBytes: 512 * 1024 * 1024,
  maxRatio: 200,
};

/** Below this many unpacked bytes no ratio is too high: a file of zeros is legal. */
const RATIO_FLOOR = 16 * 1024 * 1024;

const MAX_PATH = 4096;
const MAX_COMPONENT = 255;

/** An archive that can't be used, and why. */
export function badArchive(why: string): AegisError {
  return new AegisError(
    "refused",
    `the archive can't be used: ${why}`,
    "Don't install this package: report it to its registry.",
  );
}

/** How many unpacked bytes `packed` bytes may become. */
export function unpackedLimit(packed: number, { maxBytes, maxRatio }: ArchiveLimits): number {
  return Math.min(maxBytes, Math.max(RATIO_FLOOR, packed * maxRatio));
}

/**
 * A path as it stands in an archive, checked: what could leave the directory that it is unpacked into, or that file systems
 * read in different ways, is refused (absolute paths, `..`, backslashes, control characters, text that isn't NFC-stable UTF-8).
 * A trailing `/`, which marks a directory, is dropped, and so are components that are `.`: every reader does.
 * @throws AegisError `refused`
 */
export function archivePath(raw: string): string {
  const path = raw
    .replace(/\/$/, "")
    .split("/")
    .filter((part) => part !== ".")
    .join("/");
  const shown = JSON.stringify(raw.slice(0, 200));
  if (path === "" || path.length > MAX_PATH) throw badArchive(`${shown} is no path`);
  if (path.startsWith("/") || /^[A-Za-z]:/.test(path)) throw badArchive(`${shown} is an absolute path`);
  if (/[\p{Cc}\p{Cs}\uFFFD\\]/u.test(path))
    throw badArchive(`${shown} has characters that no file name needs`);
  for (const part of path.split("/")) {
    if (part === ".." || part === "") throw badArchive(`${shown} is no plain path`);
    if (Buffer.byteLength(part) > MAX_COMPONENT) throw badArchive(`${shown} has a name that is too long`);
  }
  return path;
}

/**
 * Collects the entries of an archive and refuses what two readers could understand differently: one path with two contents, paths that a
 * file system without case, or with normalised names, would make one, and a file that another entry needs as a directory.
 */
export class ArchiveContents {
  readonly files: ArchiveFile[] = [];
  readonly #paths = new Map<string, ArchiveFile>();
  readonly #directories = new Set<string>();
  readonly #limits: ArchiveLimits;
  #entries = 0;
  #bytes = 0;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  /** @throws AegisError `refused` */
  addDirectory(path: string): void {
    this.#count();
    this.#needDirectory(path);
  }

  /** @throws AegisError `refused` */
  addFile(file: ArchiveFile): void {
    this.#count();
    this.#bytes += file.data.length;
    if (this.#bytes > this.#limits.maxBytes)
      throw badArchive(`it unpacks to more than ${this.#limits.maxBytes} bytes`);
    const key = folded(file.path);
    const twin = this.#paths.get(key);
    if (twin?.path === file.path) {
      // pnpm packs some files twice. Whichever of the two a reader takes, it gets the same.
      if (twin.executable === file.executable && Buffer.compare(twin.data, file.data) === 0) return;
      throw badArchive(`${JSON.stringify(file.path)} is in it twice`);
    }
    if (twin !== undefined)
      throw badArchive(`${JSON.stringify(twin.path)} and ${JSON.stringify(file.path)} differ by case alone`);
    if (this.#directories.has(key))
      throw badArchive(`${JSON.stringify(file.path)} is a file and a directory in it`);
    this.#paths.set(key, file);
    const parent = file.path.lastIndexOf("/");
    if (parent > 0) this.#needDirectory(file.path.slice(0, parent));
    this.files.push(file);
  }

  #count(): void {
    this.#entries++;
    if (this.#entries > this.#limits.maxEntries)
      throw badArchive(`it has more than ${this.#limits.maxEntries} entries`);
  }

  #needDirectory(path: string): void {
    for (let end = path.length; end > 0; end = path.lastIndexOf("/", end - 1)) {
      const key = folded(path.slice(0, end));
      if (this.#directories.has(key)) return;
      if (this.#paths.has(key))
        throw badArchive(`${JSON.stringify(path.slice(0, end))} is a file and a directory in it`);
      this.#directories.add(key);
    }
  }
}

/** Equal for names that one of the usual file systems takes for the same. */
function folded(path: string): string {
  return path.normalize("NFC").toLowerCase();
}
