import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import { withLaunchers } from "../src/eco-build-check.ts";
import type { SignedFile, Tree, TreeEntry } from "../src/eco-managed.ts";
import { entryPoints, isShim, layOut } from "../src/pip-layout.ts";
import { pipManaged } from "../src/pip-managed.ts";
import { needs } from "./needs.ts";
import { type FakeWheel, FILES, infoOf, wheel, wheelFile } from "./pip-kit.ts";

const PYTHON = "/usr/bin/python3";
const HAS_PIP = Bun.spawnSync([PYTHON, "-m", "pip", "--version"]).exitCode === 0;

const TOOL: FakeWheel = {
  name: "a-tool",
  version: "1.0",
  requires: ["lib>=2"],
  files: {
    "space/one.py": "ONE = 1\n",
    "a_tool-1.0.data/scripts/old-style": "#!python\nprint('old')\n",
    "a_tool-1.0.data/data/share/doc/a-tool": "text\n",
    "a_tool-1.0.data/purelib/pure.py": "X = 1\n",
    [`${infoOf({ name: "a-tool", version: "1.0" })}/entry_points.txt`]:
      "[console_scripts]\na-tool = a_tool.cli:Main.run\n\n[gui_scripts]\na-gui=a_tool:gui\n",
    "a_tool/cli.py": "class Main:\n    run = staticmethod(lambda: print('runs'))\n",
  },
};
const LIB: FakeWheel = { name: "lib", version: "2.1", files: { "lib/data.txt": "data\n" } };
const OTHER: FakeWheel = { name: "other", version: "3.0", files: { "space/two.py": "TWO = 2\n" } };

let work = "";
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "aegis-pip-managed-"));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

function signed(...wheels: FakeWheel[]): SignedFile[] {
  return wheels.map((one) => {
    const bytes = wheel(one);
    const path = join(work, sha256Hex(bytes));
    writeFileSync(path, bytes);
    const sha256 = sha256Hex(bytes);
    const { name, version } = one;
    return {
      name,
      version,
      isSupport: false,
      url: `${FILES}/${wheelFile(one)}`,
      integrity: `sha256:${sha256}`,
      sha256,
      size: bytes.length,
      path,
    };
  });
}

function treeOf(root: string): Tree {
  const tree = new Map<string, TreeEntry>();
  for (const one of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(one.parentPath, one.name);
    if (!one.isFile()) continue;
    const data = readFileSync(path);
    const executable = Bun.spawnSync(["test", "-x", path]).exitCode === 0;
    tree.set(path.slice(root.length + 1), {
      kind: "file",
      sha256: sha256Hex(data),
      size: data.length,
      executable,
    });
  }
  return tree;
}
const reader = (root: string) => (path: string) => readFileSync(join(root, path));

/** Installs with the host's pip from the routes, into an empty directory. */
async function install(
  files: SignedFile[],
  ...targets: string[]
): Promise<{ status: number; stderr: string; stage: string; asked: string[] }> {
  const asked: string[] = [];
  let routes: Awaited<ReturnType<typeof pipManaged.routes>> = new Map();
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname } = new URL(request.url);
      asked.push(pathname);
      const route = routes.get(pathname);
      if (route === undefined) return new Response("", { status: 404 });
      const body = "file" in route ? readFileSync(route.file) : route.body;
      return new Response(body, { headers: { "content-type": route.type } });
    },
  });
  const registry = `http://127.0.0.1:${server.port}`;
  routes = await pipManaged.routes(files, registry);
  const home = mkdtempSync(join(work, "home-"));
  const stage = mkdtempSync(join(work, "stage-"));
  const { variables } = pipManaged.settings({ registry, home, scratch: home }, []);
  const argv = [
    "-m",
    "pip",
    "install",
    "--disable-pip-version-check",
    "--no-input",
    "--target",
    stage,
    ...targets,
  ];
  const child = Bun.spawn([PYTHON, ...argv], {
    env: { PATH: "/usr/bin:/bin", HOME: home, LC_ALL: "C.UTF-8", ...variables },
    cwd: home,
    stdout: "ignore",
    stderr: "pipe",
  });
  const stderr = await new Response(child.stderr).text();
  const status = await child.exited;
  server.stop(true);
  return { status, stderr, stage, asked };
}

const fileEntry = (text: string): TreeEntry => ({
  ...{ kind: "file", sha256: sha256Hex(text), size: text.length, executable: true },
});
const EMPTY: Tree = new Map();
const checked = (
  files: SignedFile[],
  stage: string,
  targets: string[],
  before: [Tree, string] = [EMPTY, "/"],
) =>
  pipManaged.check({
    plan: { exact_targets: targets } as Parameters<typeof pipManaged.check>[0]["plan"],
    files,
    before: before[0],
    stage: treeOf(stage),
    read: reader(stage),
    readBefore: reader(before[1]),
  });
const names = (found: Awaited<ReturnType<typeof checked>>) => found.map(({ package: path }) => path);

needs(HAS_PIP, "pip of Debian's python3-pip").describe("what the host's pip leaves", () => {
  const FILES_OF = () => signed(TOOL, LIB);
  let stage = "";
  beforeAll(async () => {
    const done = await install(FILES_OF(), "a-tool==1.0");
    expect({ status: done.status, stderr: done.status === 0 ? "" : done.stderr }).toEqual({
      status: 0,
      stderr: "",
    });
    expect(done.asked.toSorted()).toEqual([
      "/files/a_tool-1.0-py3-none-any.whl",
      "/files/lib-2.1-py3-none-any.whl",
      "/simple/a-tool/",
      "/simple/lib/",
    ]);
    stage = done.stage;
  });

  test("is what the signed wheels give", async () => {
    expect(await checked(FILES_OF(), stage, ["a-tool==1.0"])).toEqual([]);
    const tree = treeOf(stage);
    expect(pipManaged.inventory(tree, reader(stage))).toEqual({ "a-tool": "1.0", lib: "2.1" });
    expect(pipManaged.executables(tree, reader(stage))).toEqual({
      "a-gui": "bin/a-gui",
      "a-tool": "bin/a-tool",
    });
    const run = Bun.spawnSync([join(stage, "bin/a-tool")], { env: { PYTHONPATH: stage } });
    expect(run.stdout.toString()).toBe("runs\n");
    rmSync(join(stage, "a_tool/__pycache__"), { recursive: true, force: true });
  });

  test("its commands run without any setting, and heed none of the caller's", () => {
    const next = mkdtempSync(join(work, "next-"));
    Bun.spawnSync(["cp", "-a", `${stage}/.`, next]);
    writeFileSync(join(next, "bin/binary"), "\u007fELF", { mode: 0o755 });
    chmodSync(join(next, "bin/old-style"), 0o755);
    const tree = withLaunchers(pipManaged, treeOf(next), next);
    const commands = pipManaged.executables(tree, reader(next));
    expect(commands).toEqual({
      ...{ "a-gui": ".launchers/a-gui", "a-tool": ".launchers/a-tool", "old-style": ".launchers/old-style" },
      binary: "bin/binary",
    });
    expect(tree).toEqual(treeOf(next));
    const evil = mkdtempSync(join(work, "evil-"));
    for (const name of ["a_tool", "runpy", "sitecustomize"])
      writeFileSync(join(evil, `${name}.py`), "raise SystemExit('evil')\n");
    const links = mkdtempSync(join(work, "bin-"));
    symlinkSync(join(next, ".launchers/a-tool"), join(links, "a-tool"));
    for (const [command, said] of [
      [join(links, "a-tool"), "runs\n"],
      [join(next, ".launchers/old-style"), "old\n"],
    ] as const) {
      const env = { PYTHONPATH: evil, PYTHONHOME: evil, PYTHONSTARTUP: join(evil, "runpy.py") };
      const run = Bun.spawnSync([command], { env, cwd: evil });
      expect([run.stdout.toString(), run.stderr.toString()]).toEqual([said, ""]);
    }
    // Root may write there: what Python would keep of the compiled modules, nobody signed.
    expect(treeOf(next)).toEqual(tree as Map<string, TreeEntry>);
  });

  test("launchers are made anew: none is kept", () => {
    const before: Tree = new Map([...treeOf(stage), [".launchers/a-tool", fileEntry("old")]]);
    const kept = pipManaged.keeps?.({ before, stage: EMPTY, read: reader(stage), readBefore: reader(stage) });
    expect(kept).toContain("bin/a-tool");
    expect(kept).not.toContain(".launchers/a-tool");
  });

  const tampered: [string, (root: string) => void, RegExp][] = [
    ["one byte of a file", (root) => writeFileSync(join(root, "lib/data.txt"), "date\n"), /lib\/data\.txt/],
    ["a file more", (root) => writeFileSync(join(root, "lib/evil.py"), ""), /lib\/evil\.py/],
    [
      "a launcher of its own",
      (root) => {
        mkdirSync(join(root, ".launchers"));
        writeFileSync(join(root, ".launchers/a-tool"), "");
      },
      /\.launchers\/a-tool/,
    ],
    ["a startup file", (root) => writeFileSync(join(root, "evil.pth"), "import os"), /evil\.pth/],
    [
      "compiled code",
      (root) => {
        mkdirSync(join(root, "lib/__pycache__"));
        writeFileSync(join(root, "lib/__pycache__/x.pyc"), "");
      },
      /x\.pyc/,
    ],
    ["a file less", (root) => rmSync(join(root, "space/one.py")), /space\/one\.py/],
    [
      "another command",
      (root) => writeFileSync(join(root, "bin/a-tool"), "#!/usr/bin/python3\nimport os\n"),
      /bin\/a-tool/,
    ],
    [
      "another interpreter",
      (root) =>
        writeFileSync(
          join(root, "bin/a-tool"),
          readFileSync(join(root, "bin/a-tool"), "utf8").replace("/usr/bin/python3", "/tmp/python3"),
        ),
      /bin\/a-tool/,
    ],
    ["a command more", (root) => writeFileSync(join(root, "bin/sudo"), "#!/bin/sh\n"), /bin\/sudo/],
    [
      "another installer",
      (root) => writeFileSync(join(root, "lib-2.1.dist-info/INSTALLER"), "x"),
      /INSTALLER/,
    ],
    [
      "a RECORD with another hash",
      (root) => writeFileSync(join(root, "lib-2.1.dist-info/RECORD"), "lib/data.txt,sha256=x,5\n"),
      /RECORD/,
    ],
    [
      "asked for what was not",
      (root) => writeFileSync(join(root, "lib-2.1.dist-info/REQUESTED"), ""),
      /REQUESTED/,
    ],
  ];
  test.each(tampered)("%s: refused", async (_, change, which) => {
    const copy = mkdtempSync(join(work, "copy-"));
    Bun.spawnSync(["cp", "-a", `${stage}/.`, copy]);
    change(copy);
    expect(names(await checked(FILES_OF(), copy, ["a-tool==1.0"])).join("\n")).toMatch(which);
  });

  test("a package that the plan lacks stops pip", async () => {
    const { status, stderr } = await install(signed(TOOL), "a-tool==1.0");
    expect(status).not.toBe(0);
    expect(stderr).toContain("No matching distribution found for lib>=2");
  });

  test("a wheel that changed after it was signed stops pip", async () => {
    const [tool, lib] = FILES_OF();
    if (tool === undefined || lib === undefined) throw new Error("no files");
    const path = join(work, "changed");
    writeFileSync(path, wheel({ ...LIB, files: { "lib/data.txt": "evil\n" } }));
    const { status, stderr } = await install([tool, { ...lib, path }], "a-tool==1.0");
    expect(status).not.toBe(0);
    expect(stderr).toContain("THESE PACKAGES DO NOT MATCH THE HASHES");
  });

  test("what was there of other packages is kept, of the same ones replaced", async () => {
    const before = treeOf(stage);
    const next = await install(
      signed({ ...LIB, version: "2.2", files: { "lib/new.txt": "n\n" } }, OTHER),
      "other==3.0",
      "lib==2.2",
    );
    expect(next.status).toBe(0);
    const kept =
      pipManaged.keeps?.({
        before,
        stage: treeOf(next.stage),
        read: reader(next.stage),
        readBefore: reader(stage),
      }) ?? [];
    expect(kept).toContain("bin/a-tool");
    expect(kept).toContain("space/one.py");
    expect(kept.filter((path) => path.startsWith("lib"))).toEqual([]);
    expect(
      await checked(
        signed({ ...LIB, version: "2.2", files: { "lib/new.txt": "n\n" } }, OTHER),
        next.stage,
        ["other==3.0", "lib==2.2"],
        [before, stage],
      ),
    ).toEqual([]);
  });

  test("a file of another package is not replaced", async () => {
    const thief = signed({ ...OTHER, files: { "lib/data.txt": "stolen\n" } });
    const next = await install(thief, "other==3.0");
    expect(names(await checked(thief, next.stage, ["other==3.0"], [treeOf(stage), stage]))).toEqual([
      "lib/data.txt",
    ]);
  });
});

test("two packages of one plan with one file: refused", async () => {
  const files = signed(LIB, { ...OTHER, files: { "lib/data.txt": "other\n" } });
  const found = await checked(files, mkdtempSync(join(work, "empty-")), []);
  expect(found).toContainEqual({
    package: "lib/data.txt",
    architecture: "all",
    expected: "one file",
    found: "two packages have it",
  });
});

test("two packages of one plan with one file of the same bytes: accepted, since it doesn't matter whose it is", async () => {
  const files = signed(LIB, { ...OTHER, files: { "lib/data.txt": LIB.files?.["lib/data.txt"] ?? "" } });
  const found = await checked(files, mkdtempSync(join(work, "empty-")), []);
  expect(found.map((one) => one.found)).not.toContain("two packages have it");
});

test("two packages of one plan with one command: refused", async () => {
  const command = (one: FakeWheel, says: string): FakeWheel => ({
    ...one,
    files: { [`${infoOf(one)}/entry_points.txt`]: `[console_scripts]\ntool = ${says}\n` },
  });
  const found = (other: string) =>
    checked(signed(command(LIB, "lib:run"), command(OTHER, other)), mkdtempSync(join(work, "empty-")), []);
  const twice = {
    ...{ package: "bin/tool", architecture: "all" },
    ...{ expected: "one file", found: "two packages have it" },
  };
  expect(await found("other:run")).toContainEqual(twice);
  expect(await found("lib:run")).not.toContainEqual(twice);
});

test("a wheel with a launcher: refused, be it installed or not", async () => {
  const files = signed({ ...LIB, files: { ".launchers/lib": "" } });
  expect(names(await checked(files, mkdtempSync(join(work, "empty-")), []))).toContain(".launchers/lib");
});

test("a wheel that puts files elsewhere: refused", () => {
  const bytes = wheel({ ...LIB, files: { "lib-2.1.data/headers/x.h": "" } });
  expect(() => layOut(bytes, LIB)).toThrow("isn't supported");
});

test("entry points", () => {
  const text = "[console_scripts]\na = m.n:f\nb=m:C.run [extra]\nbad = m\n[other]\nc = m:f\n";
  expect(entryPoints(text)).toEqual([
    { name: "a", module: "m.n", attribute: "f" },
    { name: "b", module: "m", attribute: "C.run" },
  ]);
});

test.each([
  [
    "pip 20 to 25",
    "#!/usr/bin/python3\n# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom m import f\nif __name__ == '__main__':\n    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    sys.exit(f())\n",
    true,
  ],
  [
    "pip 26",
    "#!/usr/bin/python3.13\nimport sys\nfrom m import f\nif __name__ == '__main__':\n    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(f())\n",
    true,
  ],
  [
    "another function",
    "#!/usr/bin/python3\nimport sys\nfrom m import g\nif __name__ == '__main__':\n    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(g())\n",
    false,
  ],
  [
    "something before",
    "#!/usr/bin/python3\nimport evil\nimport sys\nfrom m import f\nif __name__ == '__main__':\n    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(f())\n",
    false,
  ],
  [
    "an option of the interpreter",
    "#!/usr/bin/python3 -i\nimport sys\nfrom m import f\nif __name__ == '__main__':\n    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(f())\n",
    false,
  ],
])("%s", (_, text, expected) => expect(isShim(text, "m", "f")).toBe(expected));
