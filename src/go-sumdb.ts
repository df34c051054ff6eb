import { hash } from "node:crypto";
import type { ArchiveFile } from "./eco-archive.ts";
import {
  consistencyRanges,
  inclusionRanges,
  isExtension,
  isIncluded,
  leafHash,
  type RangeHash,
} from "./eco-merkle.ts";
import { openNote, parseNoteKey } from "./eco-note.ts";
import { tileHashes, tilePath } from "./eco-tiles.ts";
import { AegisError } from "./errors.ts";

/*
 * Go's checksum database: a public log of the hashes of every module version, so that everybody gets the same bytes. What it says of
 * a module is believed once the record is proven to be in a tree that the database has signed.
 * https://go.dev/ref/mod#checksum-database, https://go.dev/design/25530-sumdb
 */

/** The hashes of one module version, as in go.sum. */
export interface GoSums {
  /** `h1:…` of the module's zip file. */
  zip: string;
  /** `h1:…` of its go.mod alone. */
  mod: string;
  /** Leaves of the signed tree. */
  treeSize: number;
}

interface Tree {
  size: number;
  root: Uint8Array;
  hashOf: RangeHash;
  /** Of which it is proven to be the beginning. */
  extendedBy?: Tree;
}

/** Reads a file of the database by its path, `lookup/…` or `tile/…`; null where there is none. */
type ReadSumdb = (path: string) => Promise<Uint8Array | null>;

/** A path or version as proxies and the database write it: a capital letter as `!` and the small one. */
export function escapeGo(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => `!${letter.toLowerCase()}`);
}

/** Undoes {@link escapeGo}. */
export function unescapeGo(text: string): string {
  return text.replace(/![a-z]/g, (pair) => pair.slice(1).toUpperCase());
}

/** The checksum database with this key. Tiles of one tree are read once. */
export class GoSumdb {
  readonly #key: ReturnType<typeof parseNoteKey>;
  readonly #read: ReadSumdb;
  /** The signed trees that were seen, by their notes. */
  readonly #trees = new Map<string, Promise<Tree>>();
  /** The tree that the database has now, which the older ones are checked against, each by itself. */
  #latest: Promise<Tree | null> | null = null;
  /** Of the trees that are newer than that, the last: each is checked against the one before. */
  #newest: Promise<Tree | null> | null = null;

  /** @throws AegisError `invalid_key` */
  constructor(key: string, read: ReadSumdb) {
    this.#key = parseNoteKey(key);
    this.#read = read;
  }

  /** The key that signs, as GOSUMDB writes it, without the key itself. */
  get keyId(): string {
    return `${this.#key.name}+${this.#key.id}`;
  }

  /**
   * What the database says of a module version, proven.
   * @throws AegisError `evidence_mismatch` for a record that is malformed, of another module, or not in the signed tree,
   * `signature_invalid` for a tree that the database hasn't signed, `unavailable`
   */
  async sums(module: string, version: string): Promise<GoSums> {
    const path = `lookup/${escapeGo(module)}@${escapeGo(version)}`;
    const bytes = await this.#read(path);
    if (bytes === null)
      throw new AegisError("unavailable", `the checksum database has no ${module} ${version}`);
    const text = new TextDecoder("utf-8").decode(bytes);
    const [, number = "", record = "", note = ""] =
      /^(\d{1,15})\n((?:[^\n]+\n)+)\n([\s\S]+)$/.exec(text) ?? [];
    const tree = await this.#tree(note);
    const index = Number(number);
    if (record === "" || index >= tree.size) throw mismatch(module, version, "its record is malformed");
    // A tree is the beginning of the one that extends it, so what is in its range there is in it; all records share one tree's tiles.
    const { size, root, hashOf } = tree.extendedBy ?? tree;
    const proof = await Promise.all(inclusionRanges(index, size).map(hashOf));
    if (!isIncluded(leafHash(Buffer.from(record)), index, size, proof, root))
      throw mismatch(module, version, "its record is not in the tree that it has signed");
    return { ...readRecord(record, module, version), treeSize: tree.size };
  }

  #tree(note: string): Promise<Tree> {
    const known = this.#trees.get(note);
    if (known !== undefined) return known;
    const tree = this.#related(note);
    this.#trees.set(note, tree);
    return tree;
  }

  /** A tree that the database has signed, and that has one history with every other one here. */
  async #related(note: string): Promise<Tree> {
    const tree = this.#openTree(note);
    this.#latest ??= this.#readLatest();
    const latest = await this.#latest;
    if (latest !== null && tree.size <= latest.size) {
      await assertSameHistory(tree, latest);
      return { ...tree, extendedBy: latest };
    }
    const previous = this.#newest ?? this.#latest;
    this.#newest = previous.then(async (other) => {
      if (other !== null) await assertSameHistory(tree, other);
      return tree;
    });
    await this.#newest;
    return tree;
  }

  /** Null where it can't be had: then the trees are checked against each other. */
  async #readLatest(): Promise<Tree | null> {
    try {
      const bytes = await this.#read("latest");
      return bytes === null ? null : this.#openTree(new TextDecoder("utf-8").decode(bytes));
    } catch (error) {
      // Nothing rests on it: a proxy that passes on lookups may have no such file, or something else there.
      if (error instanceof AegisError) return null;
      throw error;
    }
  }

  /** A tree that the database has signed. */
  #openTree(note: string): Tree {
    const [head, digits = "", base64 = "", ...rest] = openNote(note, [this.#key]).split("\n");
    const [size, root] = [Number(digits), Buffer.from(base64, "base64")];
    if (
      head !== "go.sum database tree" ||
      !/^\d{1,15}$/.test(digits) ||
      root.length !== 32 ||
      rest.length < 1
    )
      throw new AegisError("evidence_mismatch", "what the checksum database has signed is not a tree");
    return { size, root, hashOf: tileHashes(size, (tile) => this.#tile(tilePath(tile))) };
  }

  async #tile(path: string): Promise<Uint8Array> {
    const bytes = await this.#read(`tile/${path}`);
    if (bytes === null) throw new AegisError("unavailable", `the checksum database lacks its tile ${path}`);
    return bytes;
  }
}

/** @throws AegisError `evidence_mismatch` where neither tree is the beginning of the other */
async function assertSameHistory(a: Tree, b: Tree): Promise<void> {
  const [older, newer] = a.size < b.size ? [a, b] : [b, a];
  const proof = await Promise.all(consistencyRanges(older.size, newer.size).map(newer.hashOf));
  if (isExtension(older.size, newer.size, proof, older.root, newer.root)) return;
  throw new AegisError(
    "evidence_mismatch",
    "the checksum database has signed two trees that contradict each other",
    "Don't install anything by it, and tell security@golang.org: it shows different people different hashes.",
  );
}

/** Exactly two lines, of this module and version. */
function readRecord(record: string, module: string, version: string): { zip: string; mod: string } {
  const lines = record.split("\n");
  const hashOf = (line: string | undefined, expected: string) =>
    line?.startsWith(`${expected} `) === true ? line.slice(expected.length + 1) : "";
  const zip = hashOf(lines[0], `${module} ${version}`);
  const mod = hashOf(lines[1], `${module} ${version}/go.mod`);
  if (lines.length !== 3 || !isH1(zip) || !isH1(mod))
    throw mismatch(module, version, "its record is of something else");
  return { zip, mod };
}

function isH1(text: string): boolean {
  return /^h1:[A-Za-z0-9+/]{43}=$/.test(text);
}

function mismatch(module: string, version: string, why: string): AegisError {
  return new AegisError(
    "evidence_mismatch",
    `the checksum database can't be believed about ${module} ${version}: ${why}`,
    "Don't install it. Plan again over another network, and tell the proxy's administrator.",
  );
}

/** Go's hash of files: SHA-256 over their sorted list of SHA-256 and name. golang.org/x/mod/sumdb/dirhash, `Hash1` */
export function dirHash(files: readonly Pick<ArchiveFile, "path" | "data">[]): string {
  const lines = files
    .toSorted((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)))
    .map(({ path, data }) => `${hash("sha256", data)}  ${path}\n`);
  return `h1:${hash("sha256", lines.join(""), "base64")}`;
}

/** The hash of a go.mod alone. */
export function goModHash(data: Uint8Array): string {
  return dirHash([{ path: "go.mod", data }]);
}
