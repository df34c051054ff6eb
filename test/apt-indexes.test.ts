import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { sealIndexes } from "../src/apt-indexes.ts";
import { sha256Hex } from "../src/canonical.ts";
import { AegisError } from "../src/errors.ts";
import { needs } from "./needs.ts";
import { refuses } from "./signing-kit.ts";

const BASE = "example.org_debian_dists_st";
const PACKAGES = `${BASE}_main_binary-amd64_Packages`;
const TEXT = "Package: hello\nVersion: 1.1\n";
const TAMPERED = "Package: hello\nVersion: 6.6\n";
const release = (...entries: [path: string, text: string][]) =>
  `Origin: x\nSHA256:\n${entries.map(([path, text]) => ` ${sha256Hex(text)} ${text.length} ${path}\n`).join("")}`;
const signed = (text: string) =>
  `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n${text}-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n`;
const NAMED = release(["main/binary-amd64/Packages", TEXT]);

needs(process.getuid?.() === 0, "root").describe("apt's indexes", () => {
  let root: string;
  let lists: string;
  beforeAll(() => {
    root = mkdtempSync("/root/aegis-apt-indexes-");
  });
  afterAll(() => rmSync(root, { recursive: true }));
  beforeEach(() => {
    lists = mkdtempSync(join(root, "lists-"));
    put(`${BASE}_InRelease`, signed(NAMED));
    put(PACKAGES, TEXT);
  });
  const at = (name: string) => join(lists, name);
  const put = (name: string, text: string) => writeFileSync(at(name), text);
  const seal = (...used: string[]) =>
    sealIndexes(lists, used, async (path) => sha256Hex(`content of ${path}`));
  /** The error of the hash check, or null. */
  const checked = async (...used: string[]) => {
    try {
      await seal(...used).check();
      return null;
    } catch (error) {
      if (error instanceof AegisError) return `${error.code}: ${error.message}`;
      throw error;
    }
  };

  const WRITABLE: [what: string, prepare: () => unknown, says: string][] = [
    ["an index that isn't root's", () => chownSync(at(PACKAGES), 65534, 0), "does not belong to root"],
    ["a world-writable index", () => chmodSync(at(PACKAGES), 0o666), "can be written by others"],
    ["a world-writable lists directory", () => chmodSync(lists, 0o777), "can be written by others"],
    [
      "a link to what isn't root's",
      () => {
        renameSync(at(PACKAGES), at("real"));
        symlinkSync("real", at(PACKAGES));
        chownSync(at("real"), 65534, 0);
      },
      "real does not belong to root",
    ],
    [
      "a link into a directory that others write to",
      () => {
        mkdirSync(at("open"));
        renameSync(at(PACKAGES), at("open/real"));
        symlinkSync(at("open/real"), at(PACKAGES));
        chmodSync(at("open"), 0o777);
      },
      "can be written by others",
    ],
    [
      "a link to nothing",
      () => {
        rmSync(at(PACKAGES));
        symlinkSync("real", at(PACKAGES));
      },
      "can't examine",
    ],
    ["a Release file that isn't root's", () => chownSync(at(`${BASE}_InRelease`), 65534, 0), "InRelease"],
  ];
  for (const [what, prepare, says] of WRITABLE) {
    test(`refused: ${what}`, () => {
      prepare();
      refuses(() => seal(), "refused", says);
    });
  }
  for (const name of [
    PACKAGES,
    `${BASE}_InRelease`,
    `${BASE}_Release`,
    `${BASE}_Release.gpg`,
    `${PACKAGES}.lz4`,
  ]) {
    test(`refused: open for writing, ${name}`, () => {
      if (name.includes("Release.gpg") || name.endsWith(".lz4") || name.endsWith("_Release")) put(name, "");
      const kept = openSync(at(name), "r+");
      refuses(() => seal(), "refused", `${name} is open for writing`);
      closeSync(kept);
      expect(seal()).toBeDefined();
    });
  }
  test("for a file: source apt keeps links, and their targets count", async () => {
    renameSync(at(PACKAGES), at("real"));
    symlinkSync("real", at(PACKAGES));
    expect(await checked()).toBeNull();
    const kept = openSync(at("real"), "r+");
    refuses(() => seal(), "refused", "real is open for writing");
    closeSync(kept);
    const sealed = seal();
    writeFileSync(at("real"), TAMPERED);
    refuses(() => sealed.refuseReplaced(), "drift", "were refreshed");
    expect(await checked()).toContain("is not the index");
  });
  test("an index open for reading is fine", async () => {
    const kept = openSync(at(PACKAGES), "r");
    expect(await checked()).toBeNull();
    closeSync(kept);
  });

  const OTHER = `refused: PATH is not the index that its signed Release file names`;
  const HASHES: [what: string, prepare: () => unknown, says: string | null][] = [
    ["the index as signed", () => {}, null],
    ["other bytes of the same length", () => put(PACKAGES, TAMPERED), OTHER],
    [
      "other bytes, a detached signature",
      () => {
        rmSync(at(`${BASE}_InRelease`));
        put(`${BASE}_Release`, NAMED);
        put(PACKAGES, TAMPERED);
      },
      OTHER,
    ],
    ["an index that no Release file names", () => put(PACKAGES.replace("main", "extra"), TAMPERED), null],
    ["an index without a Release file", () => put("other.org_Packages", TAMPERED), null],
    ["not an index", () => put(`${BASE}_main_i18n_Translation-en`, TAMPERED), null],
    [
      "a compressed one, named compressed",
      () => put(`${BASE}_InRelease`, signed(release(["main/binary-all/Packages.gz", "zipped"]))),
      null,
    ],
  ];
  for (const [what, prepare, says] of HASHES) {
    test(`${says === null ? "passes" : "refused"}: ${what}`, async () => {
      prepare();
      expect(await checked()).toBe(says?.replace("PATH", at(PACKAGES)) ?? null);
    });
  }
  describe("an index not listed in its Release file, of a source the plan uses", () => {
    const ST = "http://example.org/debian st";
    const [EXTRA, NOTHING] = [PACKAGES.replace("main", "extra"), "so its content can't be verified"];
    test("refused", async () => {
      put(EXTRA, TAMPERED);
      expect(await checked(ST)).toContain(NOTHING);
      expect(await checked("http://other.org st", ST)).toContain(NOTHING);
    });
    test("refused: in a flat repository", async () => {
      put("flat.org_._InRelease", signed(NAMED));
      put("flat.org_._Packages", TAMPERED);
      expect(await checked("http://flat.org ./")).toContain(NOTHING);
      put("flat.org_._InRelease", signed(release(["./Packages", TEXT])));
      expect(await checked("http://flat.org ./")).toContain("is not the index");
      put("flat.org_._Packages", TEXT);
      expect(await checked("http://flat.org ./")).toBeNull();
    });
    test("passes: of another source, of one without a Release file, and listed ones", async () => {
      put(EXTRA, TAMPERED);
      expect(await checked("http://example.org/debian sta", "http://other.org st")).toBeNull();
      rmSync(at(EXTRA));
      expect(await checked(ST)).toBeNull();
      rmSync(at(`${BASE}_InRelease`));
      expect(await checked(ST)).toBeNull();
    });
  });
  describe("a Release file can't vouch for a file that another signed differently", () => {
    const [ST, DEBIAN] = ["http://example.org/debian st", "example.org_debian_Release"];
    const evil = (path: string) => release([path, TAMPERED]);
    const CASES: [what: string, prepare: () => unknown, says: string][] = [
      [
        "a Release file beside InRelease",
        () => put(`${BASE}_Release`, evil("main/binary-amd64/Packages")),
        "is not the index",
      ],
      [
        "of a source with the same prefix",
        () => put(DEBIAN, evil("dists/st/main/binary-amd64/Packages")),
        "is not the index",
      ],
      [
        "of one that claims more of the name",
        () => put(`${BASE}_main_Release`, evil("binary-amd64/Packages")),
        "is not the index",
      ],
      [
        "of another source, where its own names only a compressed one",
        () => {
          put(`${BASE}_InRelease`, signed(release(["main/binary-amd64/Packages.gz", "zipped"])));
          put(DEBIAN, evil("dists/st/main/binary-amd64/Packages"));
        },
        "so its content can't be verified",
      ],
    ];
    for (const [what, prepare, says] of CASES) {
      test(`refused: ${what}`, async () => {
        put(PACKAGES, TAMPERED);
        prepare();
        expect(await checked(ST)).toContain(says);
        expect(await checked("http://example.org/ debian/", ST)).toContain(says);
      });
    }
    test("passes: an index of a used source with another used source's prefix", async () => {
      put(DEBIAN, release(["Packages", TEXT]));
      put("example.org_debian_Packages", TEXT);
      expect(await checked("http://example.org/ debian/", ST)).toBeNull();
    });
  });
  test("a compressed index is checked by content, or by its bytes if those are listed", async () => {
    const zipped = `${PACKAGES}.lz4`;
    renameSync(at(PACKAGES), at(zipped));
    expect(await checked()).toContain(`${zipped} is not the index`);
    put(`${BASE}_InRelease`, signed(release(["main/binary-amd64/Packages", `content of ${at(zipped)}`])));
    expect(await checked()).toBeNull();
    put(`${BASE}_InRelease`, signed(release(["main/binary-amd64/Packages.lz4", TEXT])));
    expect(await checked()).toBeNull();
    put(`${BASE}_InRelease`, signed(release(["main/binary-amd64/Packages.lz4", TAMPERED])));
    expect(await checked()).toContain("is not the index");
  });
  needs(Bun.which("lz4") !== null || Bun.which("gzip") !== null, "gzip").describe("with apt-helper", () => {
    test("a compressed index is decompressed as by apt", async () => {
      rmSync(at(PACKAGES));
      writeFileSync(at(`${PACKAGES}.gz`), Bun.gzipSync(Buffer.from(TEXT)));
      await sealIndexes(lists).check();
      writeFileSync(at(`${PACKAGES}.gz`), Bun.gzipSync(Buffer.from(TAMPERED)));
      await expect(sealIndexes(lists).check()).rejects.toThrow("is not the index");
    });
  });

  const REPLACED: [what: string, change: () => unknown][] = [
    [
      "an index, with the same bytes",
      () => {
        put("new", TEXT);
        renameSync(at("new"), at(PACKAGES));
      },
    ],
    ["an index that is written to", () => writeSync(openSync(at(PACKAGES), "r+"), "P")],
    ["one more", () => put("other.org_Packages", "")],
    ["one fewer", () => rmSync(at(PACKAGES))],
  ];
  for (const [what, change] of REPLACED) {
    test(`replaced since: ${what}`, () => {
      const sealed = seal();
      sealed.refuseReplaced();
      utimesSync(at(`${BASE}_InRelease`), new Date(), new Date());
      change();
      refuses(() => sealed.refuseReplaced(), "drift", "were refreshed");
    });
  }
});
