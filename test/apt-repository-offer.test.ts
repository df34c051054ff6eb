import { describe, expect, test } from "bun:test";
import { gzipSync } from "node:zlib";
import { parseDpkgStatus } from "../src/apt-dpkg.ts";
import { offerOf } from "../src/apt-repository-offer.ts";
import { parseDeb822Sources } from "../src/apt-source-stanzas.ts";
import { sha256Hex } from "../src/canonical.ts";
import { AegisError } from "../src/errors.ts";

const stanza = (name: string, version: string, more = "") =>
  `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\n${more}`;
const INSTALLED = parseDpkgStatus(
  [
    ...[
      ["bash", "5.2-1"],
      ["curl", "7.88.1-10"],
      ["nginx", "1:1.22"],
    ].map(([name = "", version = ""]) => stanza(name, version, "Status: install ok installed\n")),
    stanza("gone", "1.0", "Status: deinstall ok config-files\n"),
  ].join("\n"),
);
const INDEX = [
  stanza("bash", "5.3-1"),
  stanza("curl", "7.0"),
  stanza("curl", "8.0"),
  stanza("curl", "7.99"),
  stanza("nginx", "1.27"),
  stanza("gone", "2.0"),
  stanza("new", "1.0"),
  stanza("bash", "9;rm"),
].join("\n");
const BASH = { package: "bash", from: "5.2-1", to: "5.3-1" };
const CURL = { package: "curl", from: "7.88.1-10", to: "8.0" };

const SOURCE = "Types: deb\nURIs: https://v.example/d\nSuites: stable\nComponents: main\n";
interface Served {
  files?: Record<string, Uint8Array>;
  listed?: Record<string, { hex?: string; size?: number }>;
  fields?: string;
  source?: string;
  fails?: Error;
  /** What the server has; else all files. */
  served?: readonly string[];
}
/** The offer of a repository with these files, and what was asked for. */
async function offer({ files = {}, listed = {}, fields = "", source = SOURCE, fails, served }: Served) {
  const [first] = parseDeb822Sources(source, "x", "amd64").sources;
  if (first === undefined) throw new Error("no source");
  const lines = Object.entries(files).map(([path, bytes]) => {
    const { hex = sha256Hex(bytes), size = bytes.length } = listed[path] ?? {};
    return ` ${hex} ${size} ${path}`;
  });
  const release = `Suite: stable\n${fields}SHA256:\n${lines.join("\n")}\n`;
  const asked: string[] = [];
  const found = await offerOf(first, release, INSTALLED, "amd64", {
    async get(url) {
      const path = url.href.replace(/^https:\/\/v\.example\/d\/(?:dists\/stable\/)?/, "");
      asked.push(path);
      if (fails !== undefined) throw fails;
      const named = Object.entries(files).find(
        ([name, bytes]) => name === path || path.endsWith(sha256Hex(bytes)),
      );
      return named !== undefined && served?.includes(named[0]) !== false ? named[1] : null;
    },
  });
  return { found, asked };
}
const GZ = "main/binary-amd64/Packages.gz";
const PLAIN = "main/binary-amd64/Packages";
const BOTH = { [GZ]: gzipSync(INDEX), [PLAIN]: Buffer.from(INDEX) };

describe("nothing is known", () => {
  test.each<[what: string, served: Served]>([
    ["no index is listed", {}],
    [
      "another file than the signed one",
      { files: BOTH, listed: { [GZ]: { hex: "0".repeat(64) } }, served: [GZ] },
    ],
    [
      "an index that is too large",
      { files: { [PLAIN]: Buffer.from(INDEX) }, listed: { [PLAIN]: { size: 9 << 20 } } },
    ],
    ["a file that is no gzip", { files: { ...BOTH, [GZ]: Buffer.from(INDEX) }, served: [GZ] }],
    [
      "more than 64 MiB out of a small file",
      { files: { ...BOTH, [GZ]: gzipSync(Buffer.alloc(65 << 20)) }, served: [GZ] },
    ],
    ["a server that gives out", { files: BOTH, fails: new AegisError("unavailable", "x") }],
    [
      "no uncompressed index is listed, so that apt's xz may be another",
      { files: { [GZ]: gzipSync(INDEX) } },
    ],
    [
      "a compressed index of something else",
      { files: { [GZ]: gzipSync(""), [PLAIN]: Buffer.from(INDEX) }, served: [GZ] },
    ],
    ...(
      [
        ["a return behind the name", "Package: bash\r\nVersion: 9\n"],
        ["a name twice", "Package: x\nPackage: bash\nVersion: 9\n"],
        ["a blank before the colon", "Package : bash\nVersion: 9\n"],
        ["a stanza without a version", "Package: bash\n"],
      ] as const
    ).map(([what, text]): [string, Served] => [what, { files: { [PLAIN]: Buffer.from(text) } }]),
    [
      "an index for all architectures that can't be had",
      { files: { [PLAIN]: Buffer.from(""), "main/binary-all/Packages.xz": Buffer.from("x") } },
    ],
    ["only another architecture", { files: { "main/binary-arm64/Packages.gz": gzipSync(INDEX) } }],
  ])("%s", async (_, served) => expect((await offer(served)).found).toBeNull());
});

test("newer versions of what is installed, the newest of each", async () => {
  const { found, asked } = await offer({ files: { [GZ]: gzipSync(INDEX), [PLAIN]: Buffer.from(INDEX) } });
  expect(asked).toEqual([GZ]);
  expect(found).toEqual({
    source: "https://v.example/d stable",
    ...{ packages: 8, automatic: true, newer: [BASH, CURL], newer_left_out: 0 },
  });
});
test.each<[what: string, files: Record<string, Uint8Array>]>([
  ["small letters", { [PLAIN]: Buffer.from("package: bash\nversion: 5.3-1\n") }],
  [
    "an index for all architectures",
    { [PLAIN]: Buffer.from(""), "main/binary-all/Packages": Buffer.from("Package: bash\nVersion: 5.3-1\n") },
  ],
])("what apt reads too: %s", async (_, files) =>
  expect((await offer({ files })).found?.newer).toEqual([BASH]),
);
test("uncompressed", async () =>
  expect((await offer({ files: { [PLAIN]: Buffer.from(INDEX) } })).found?.newer).toEqual([BASH, CURL]));
test("by hash", async () => {
  const { found, asked } = await offer({
    files: { [GZ]: gzipSync(INDEX), [PLAIN]: Buffer.from(INDEX) },
    fields: "Acquire-By-Hash: yes\n",
  });
  expect(asked).toEqual([`main/binary-amd64/by-hash/SHA256/${sha256Hex(gzipSync(INDEX))}`]);
  expect(found?.newer).toHaveLength(2);
});
test("a repository without suites", async () => {
  const source = SOURCE.replace("stable", "./").replace(/Components.*\n/, "");
  const { found, asked } = await offer({ files: { Packages: Buffer.from(INDEX) }, source });
  expect([found?.packages, asked]).toEqual([8, ["Packages"]]);
});
test.each([
  ["NotAutomatic: yes\n", false],
  ["NotAutomatic: yes\nButAutomaticUpgrades: yes\n", true],
  ["NotAutomatic: no\n", true],
])("%j: automatic is %p", async (fields, automatic) =>
  expect((await offer({ files: { [PLAIN]: Buffer.from(INDEX) }, fields })).found?.automatic).toBe(automatic),
);
