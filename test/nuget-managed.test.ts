import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SignedFile, Tree } from "../src/eco-managed.ts";
import { readZip } from "../src/eco-zip.ts";
import { nugetManaged } from "../src/nuget-managed.ts";
import { type FakeNupkg, nupkgFile } from "./nuget-kit.ts";
import { npm } from "./policy-plans.ts";

const sha256 = (bytes: string | Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const PACKAGES: FakeNupkg[] = [
  {
    ...{ id: "Root", version: "1.0", dependencies: [{ id: "LIB", version: "[1.0, 2.0)" }, { id: "Lib" }] },
    files: { "lib/a.dll": "code", "content/a%20b.txt": "text", "notes.odd": "not declared" },
  },
  { id: "Lib", version: "1.0.0", files: { "lib/b.dll": "more" } },
];

async function withFiles<T>(use: (files: SignedFile[]) => T | Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "aegis-nuget-"));
  try {
    return await use(
      PACKAGES.map((one) => {
        const path = join(directory, one.id);
        const bytes = nupkgFile(one);
        writeFileSync(path, bytes);
        const known = { name: one.id, version: "1.0.0", isSupport: false, url: "", integrity: "" };
        return { ...known, sha256: sha256(bytes), size: bytes.length, path };
      }),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe("the closed feed", () => {
  const REGISTRY = "http://127.0.0.1:1";
  const served = () =>
    withFiles(async (files) => {
      const routes = await nugetManaged.routes(files, REGISTRY);
      return new Map([...routes].map(([path, route]) => [path, "body" in route ? route.body : "a file"]));
    });

  test("answers for the signed packages and nothing else", async () => {
    expect([...(await served()).keys()].sort()).toEqual(
      [
        ...["/api/v2", "/api/v2/", "/api/v2/$metadata"],
        ...["root", "lib"]
          .map((id) => `/api/v2/Packages()?$filter=tolower(Id) eq '${id}'&$orderby=Id`)
          .sort(),
        ...["Lib',Version='1.0.0", "Root',Version='1.0", "Root',Version='1.0.0"].map(
          (key) => `/api/v2/Packages(Id='${key}')`,
        ),
        ...["/packages/Lib.1.0.0.nupkg", "/packages/Root.1.0.nupkg"],
      ].sort(),
    );
  });
  test("an entry tells what nuget resolves by", async () => {
    const entry = (await served()).get("/api/v2/Packages(Id='Root',Version='1.0')") ?? "";
    expect(entry).toContain("<d:Dependencies>LIB:[1.0, 2.0):|Lib::</d:Dependencies>");
    expect(entry).toContain(`src="${REGISTRY}/packages/Root.1.0.nupkg"`);
    const [root] = PACKAGES;
    const hash = createHash("sha512")
      .update(nupkgFile(root ?? { id: "", version: "" }))
      .digest("base64");
    expect(entry).toContain(`<d:PackageHash>${hash}</d:PackageHash>`);
  });
  test("nuget is pointed at it and at nothing else", () => {
    const { files = {} } = nugetManaged.settings({ registry: REGISTRY, home: "/h", scratch: "/s" }, []);
    expect(Object.keys(files)).toEqual([".config/NuGet/NuGet.Config"]);
    expect(Object.values(files)[0]).toContain(`<clear /><add key="signed" value="${REGISTRY}/api/v2/" />`);
  });
});

describe("what nuget leaves", () => {
  type Files = Record<string, string | Uint8Array>;
  /** As nuget 2.8.7 unpacks. */
  const installed = (over: Files = {}, without: string[] = []): Files => {
    const files: Files = {};
    for (const one of PACKAGES) {
      const name = `${one.id}.${one.version}`;
      files[`packages/${name}/${name}.nupkg`] = nupkgFile(one);
      for (const { path, data } of readZip(nupkgFile(one)))
        if (/^(?:lib|content)\//.test(path)) files[`packages/${name}/${decodeURIComponent(path)}`] = data;
    }
    for (const path of without) delete files[path];
    return { ...files, ...over };
  };
  const treeOf = (files: Files, programs: string[] = []): Tree =>
    new Map(
      Object.entries(files).map(([path, data]) => [
        path,
        {
          kind: "file" as const,
          sha256: sha256(data),
          size: data.length,
          executable: programs.includes(path),
        },
      ]),
    );
  const reader = (files: Files) => (path: string) => Buffer.from(files[path] ?? "");
  const differing = (files: Files, programs?: string[]) =>
    withFiles(async (signed) => {
      const plan = npm({ tool: "nuget", exact_targets: ["Root@1.0.0"] });
      const [stage, before] = [treeOf(files, programs), new Map()];
      const found = await nugetManaged.check({
        plan,
        files: signed,
        before,
        stage,
        read: reader(files),
        readBefore: reader({}),
      });
      return found.map((one) => one.package);
    });

  test("as signed: nothing differs", async () => {
    expect(await differing(installed())).toEqual([]);
    // A file whose type the package doesn't declare may be there or not, and then it has to be the package's.
    expect(await differing(installed({ "packages/Root.1.0/notes.odd": "not declared" }))).toEqual([]);
  });
  test.each<[string, Files, string[], string]>([
    [
      "another .nupkg",
      { "packages/Lib.1.0.0/Lib.1.0.0.nupkg": "x" },
      [],
      "packages/Lib.1.0.0/Lib.1.0.0.nupkg",
    ],
    ["no .nupkg", {}, ["packages/Lib.1.0.0/Lib.1.0.0.nupkg"], "packages/Lib.1.0.0/Lib.1.0.0.nupkg"],
    [
      "an unpacked file changed",
      { "packages/Root.1.0/lib/a.dll": "codf" },
      [],
      "packages/Root.1.0/lib/a.dll",
    ],
    [
      "an unpacked file missing",
      {},
      ["packages/Root.1.0/content/a b.txt"],
      "packages/Root.1.0/content/a b.txt",
    ],
    [
      "what isn't declared, changed",
      { "packages/Root.1.0/notes.odd": "x" },
      [],
      "packages/Root.1.0/notes.odd",
    ],
    ["a file more", { "packages/Root.1.0/lib/evil.dll": "x" }, [], "packages/Root.1.0/lib/evil.dll"],
    ["a package more", { "packages/Evil.1.0/a": "x" }, [], "packages/Evil.1.0/a"],
    ["something beside the packages", { evil: "x" }, [], "evil"],
  ])("%s", async (_, over, without, path) =>
    expect(await differing(installed(over, without))).toEqual([path]),
  );
  test("a program where the package has a file", async () => {
    const path = "packages/Root.1.0/lib/a.dll";
    expect(await differing(installed(), [path])).toEqual([path]);
  });

  test("other packages are kept, and the same one in the same version is replaced", () => {
    const before = { "packages/Old.1.0/a": "1", "packages/Root.1.0/old": "2", "packages/Root.0.9/a": "3" };
    const run = {
      before: treeOf(before),
      stage: treeOf(installed()),
      read: reader({}),
      readBefore: reader(before),
    };
    expect(nugetManaged.keeps?.(run)).toEqual(["packages/Old.1.0/a", "packages/Root.0.9/a"]);
  });
  test("the inventory is told by the packages' own descriptions; versions stand side by side", () => {
    const lib = { id: "Lib", version: "2.0.0" };
    const files = installed({
      "packages/Lib.2.0.0/Lib.2.0.0.nupkg": nupkgFile(lib),
      "packages/Odd.1/x": "x",
    });
    expect(nugetManaged.inventory(treeOf(files), reader(files))).toEqual({
      Root: "1.0.0",
      Lib: "1.0.0 2.0.0",
      "Odd.1": "unknown",
    });
  });
});
