import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cargoManaged } from "../src/cargo-managed.ts";
import type { SignedFile, Tree } from "../src/eco-managed.ts";
import { CRATES_IO, crateFile, type FakeCrate, lockOf, sha256 } from "./cargo-kit.ts";
import { npm } from "./policy-plans.ts";

const CRATES: FakeCrate[] = [
  {
    name: "tool",
    version: "1.0.0",
    files: { "src/main.rs": "" },
    dependencies: [
      { name: "a", version: "1.0.0" },
      { name: "w", version: "1.0.0", target: "cfg(windows)", features: ["Win32"] },
      { name: "t", version: "1.0.0", kind: "dev" },
    ],
    features: { extra: ["w/more"] },
  },
  {
    name: "a",
    version: "1.0.0",
    dependencies: [{ name: "off", version: "1.0.0", optional: true }],
    features: { std: [], all: ["std", "dep:off", "off?/x", "off/y"] },
  },
];
const NAMED: FakeCrate[] = ["w", "t", "off"].map((name) => ({ name, version: "1.0.0" }));

async function served(): Promise<Map<string, string>> {
  const directory = mkdtempSync(join(tmpdir(), "aegis-cargo-"));
  try {
    const [tool, a] = CRATES;
    if (tool === undefined || a === undefined) throw new Error("no crates");
    const file = crateFile(a);
    const sums = new Map(NAMED.map((one) => [`${one.name} 1.0.0`, "f".repeat(64)]));
    const bytes = {
      a: file,
      tool: crateFile(tool, lockOf([...CRATES, ...NAMED], sums.set("a 1.0.0", sha256(file)))),
    };
    const files = Object.entries(bytes).map(([name, data]): SignedFile => {
      const path = join(directory, name);
      writeFileSync(path, data);
      return {
        name,
        version: "1.0.0",
        isSupport: false,
        url: "",
        integrity: "",
        sha256: sha256(data),
        size: 1,
        path,
      };
    });
    const routes = await cargoManaged.routes(files, "http://127.0.0.1:1");
    return new Map([...routes].map(([path, route]) => [path, "body" in route ? route.body : route.file]));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("the closed registry has the signed crates, and entries of what is only named, without files", async () => {
  const routes = await served();
  expect([...routes.keys()].sort()).toEqual([
    ...["/crates/a/1.0.0", "/crates/tool/1.0.0", "/index/1/a", "/index/1/t", "/index/1/w"],
    ...["/index/config.json", "/index/to/ol/tool"],
  ]);
  expect(JSON.parse(routes.get("/index/config.json") ?? "")).toEqual({
    dl: "http://127.0.0.1:1/crates/{crate}/{version}",
  });
  const a = JSON.parse(routes.get("/index/1/a") ?? "");
  expect(a).toMatchObject({ deps: [], features2: { std: [], all: ["std"], off: [] }, v: 2 });
  const w = JSON.parse(routes.get("/index/1/w") ?? "");
  expect(w).toMatchObject({ cksum: "f".repeat(64), deps: [], features2: { Win32: [], more: [] } });
});

describe("what cargo leaves", () => {
  const KEY = `tool 1.0.0 (${CRATES_IO})`;
  const OTHER = `other 2.0.0 (${CRATES_IO})`;
  type Installed = Record<string, string[]>;
  const tree = (installed: Installed, over: Record<string, string> = {}, second = installed) => {
    const files: Record<string, string> = {
      ".crates.toml": `[v1]\n${Object.entries(installed)
        .map(([key, bins]) => `${JSON.stringify(key)} = ${JSON.stringify(bins)}`)
        .join("\n")}\n`,
      ".crates2.json": JSON.stringify({
        installs: Object.fromEntries(Object.entries(second).map(([key, bins]) => [key, { bins }])),
      }),
      ...Object.fromEntries(
        Object.values(installed)
          .flat()
          .map((name) => [`bin/${name}`, name]),
      ),
      ...over,
    };
    const entries = Object.entries(files).map(
      ([path, text]) =>
        [
          path,
          {
            kind: "file" as const,
            sha256: sha256(Buffer.from(text)),
            size: text.length,
            executable: path.startsWith("bin/"),
          },
        ] as const,
    );
    const read = (path: string) => Buffer.from(files[path] ?? "");
    return { tree: new Map(entries) satisfies Tree, read };
  };
  const check = async (before: ReturnType<typeof tree>, after: ReturnType<typeof tree>) => {
    const directory = mkdtempSync(join(tmpdir(), "aegis-cargo-"));
    try {
      const path = join(directory, "tool");
      const [tool] = CRATES;
      if (tool === undefined) throw new Error("no crates");
      writeFileSync(path, crateFile(tool));
      const files = [
        {
          name: "tool",
          version: "1.0.0",
          isSupport: false,
          url: "",
          integrity: "",
          sha256: "",
          size: 1,
          path,
        },
      ];
      const plan = npm({ tool: "cargo", exact_targets: ["tool@1.0.0"] });
      const found = await cargoManaged.check({
        plan,
        files,
        before: before.tree,
        stage: after.tree,
        read: after.read,
        readBefore: before.read,
      });
      return found.map((one) => one.package);
    } finally {
      rmSync(directory, { recursive: true });
    }
  };
  const nothing = { tree: new Map() as Tree, read: () => Buffer.of() } as unknown as ReturnType<typeof tree>;
  const good = { [KEY]: ["tool"] };

  test("as planned: nothing differs; into an empty root, beside another crate, in place of an older version", async () => {
    expect(await check(nothing, tree(good))).toEqual([]);
    expect(await check(tree({ [OTHER]: ["o"] }), tree({ [OTHER]: ["o"], ...good }))).toEqual([]);
    const old = { [KEY.replace("1.0.0", "0.9.0")]: ["tool", "dropped"] };
    expect(await check(tree(old), tree(good))).toEqual([]);
  });

  test.each([
    ["nothing installed", tree({ [OTHER]: ["o"] }), [`tool 1.0.0`]],
    ["another version", tree({ [OTHER]: ["o"], [KEY.replace("1.0.0", "1.0.1")]: ["tool"] }), ["tool 1.0.0"]],
    ["a command that the crate doesn't have", tree({ [OTHER]: ["o"], [KEY]: ["tool", "sudo"] }), ["sudo"]],
    ["another crate's command changed", tree({ [OTHER]: ["o"], ...good }, { "bin/o": "evil" }), ["bin/o"]],
    ["another crate gone from the record", tree(good, { "bin/o": "o" }), [OTHER]],
    [
      "another crate in the record",
      tree({ [OTHER]: ["o"], ...good, [`x 1.0.0 (${CRATES_IO})`]: [] }),
      [`x 1.0.0 (${CRATES_IO})`],
    ],
    ["a file that nobody planned", tree({ [OTHER]: ["o"], ...good }, { "bin/ls": "evil" }), ["bin/ls"]],
    ["the records differ", tree({ [OTHER]: ["o"], ...good }, {}, { [OTHER]: ["o"] }), [".crates2.json"]],
  ] as const)("%s", async (_, after, expected) => {
    expect(await check(tree({ [OTHER]: ["o"] }), after)).toEqual([...expected]);
  });

  test("inventory and commands", () => {
    const { tree: all, read } = tree({ [OTHER]: ["o"], ...good });
    expect(cargoManaged.inventory(all, read)).toEqual({ other: "2.0.0", tool: "1.0.0" });
    expect(cargoManaged.executables(all, read)).toEqual({ o: "bin/o", tool: "bin/tool" });
  });
});
