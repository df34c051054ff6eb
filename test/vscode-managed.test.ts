import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import type { SignedFile, Tree, TreeEntry } from "../src/eco-managed.ts";
import { vscodeManaged } from "../src/vscode-managed.ts";
import { readVsix } from "../src/vscode-vsix.ts";
import { install } from "./policy-plans.ts";
import { type FakeExtension, vsixOf } from "./vscode-kit.ts";

/*
 * What code-server must leave, with a directory that looks like what it leaves (e2e-vscode.test.ts has the real one).
 */

const work = mkdtempSync(join(tmpdir(), "aegis-vscode-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));

const ONE: FakeExtension = {
  id: "Acme.One",
  version: "1.0.0",
  manifest: { extensionDependencies: ["acme.two"] },
  files: { "main.js": "1", "x/y": "2" },
};
const TWO: FakeExtension = { id: "acme.two", version: "2.0.0", platform: "linux-x64" };

function signed(...extensions: FakeExtension[]): SignedFile[] {
  return extensions.map((one) => {
    const bytes = vsixOf(one);
    const path = join(work, sha256Hex(bytes));
    writeFileSync(path, bytes);
    const { id: name, version } = one;
    return {
      name,
      version,
      isSupport: false,
      url: "",
      integrity: "",
      sha256: sha256Hex(bytes),
      size: bytes.length,
      path,
    };
  });
}

type Files = Record<string, string>;

/** What the editor leaves for these extensions: package.json written anew, with a note. */
function left(...extensions: FakeExtension[]): Files {
  const files: Files = { "user-data/machineid": "x", "user-data/logs/1.log": "y" };
  const list: object[] = [];
  for (const one of extensions) {
    const vsix = readVsix(vsixOf(one));
    const name = `${vsix.id}-${vsix.version}${one.platform === undefined ? "" : `-${one.platform}`}`;
    for (const [path, { data }] of vsix.files)
      files[`extensions/${name}/${path}`] = Buffer.from(data).toString();
    const note = { installedTimestamp: 1, targetPlatform: one.platform ?? "undefined", size: 3 };
    files[`extensions/${name}/package.json`] = JSON.stringify(
      { ...vsix.manifest, __metadata: note },
      null,
      "\t",
    );
    files[`extensions/${name}/.vsixmanifest`] = Buffer.from(vsix.description).toString();
    list.push({ identifier: { id: vsix.id }, version: vsix.version, relativeLocation: name });
  }
  return { ...files, "extensions/extensions.json": JSON.stringify(list) };
}

const treeOf = (files: Files): Tree =>
  new Map(
    Object.entries(files).map(([path, text]): [string, TreeEntry] => [
      path,
      { kind: "file", sha256: sha256Hex(text), size: text.length, executable: false },
    ]),
  );
const reader = (files: Files) => (path: string) => Buffer.from(files[path] ?? "");

async function differences(files: Files, extensions: FakeExtension[] = [ONE, TWO]): Promise<string[]> {
  const found = await vscodeManaged.check({
    ...{ plan: install(), files: signed(...extensions), before: new Map(), stage: treeOf(files) },
    ...{ read: reader(files), readBefore: () => Buffer.alloc(0) },
  });
  return found.map((one) => one.package);
}

describe("refused", () => {
  const base = left(ONE, TWO);
  const DIR = "extensions/acme.one-1.0.0";
  const manifest = (over: object) =>
    JSON.stringify({ ...JSON.parse(base[`${DIR}/package.json`] ?? ""), ...over });
  const without = (path: string) => Object.fromEntries(Object.entries(base).filter(([one]) => one !== path));
  const LIST = "extensions/extensions.json";
  const CASES: [string, Files, string][] = [
    ["a changed file", { ...base, [`${DIR}/main.js`]: "2" }, `${DIR}/main.js`],
    ["another file", { ...base, [`${DIR}/new.js`]: "2" }, `${DIR}/new.js`],
    ["a missing file", without(`${DIR}/x/y`), `${DIR}/x/y`],
    ["a changed description", { ...base, [`${DIR}/.vsixmanifest`]: "<x/>" }, `${DIR}/.vsixmanifest`],
    [
      "a manifest with another start",
      { ...base, [`${DIR}/package.json`]: manifest({ main: "./evil.js" }) },
      `${DIR}/package.json`,
    ],
    ["a manifest that is none", { ...base, [`${DIR}/package.json`]: "{" }, `${DIR}/package.json`],
    [
      "a note that it belongs to the editor",
      { ...base, [`${DIR}/package.json`]: manifest({ __metadata: { isBuiltin: true } }) },
      `${DIR}/package.json`,
    ],
    [
      "another extension",
      left(ONE, TWO, { id: "evil.x", version: "1.0.0" }),
      "extensions/evil.x-1.0.0/package.json",
    ],
    [
      "another, which isn't listed",
      { ...base, "extensions/evil.x-1.0.0/package.json": "{}" },
      "extensions/evil.x-1.0.0/package.json",
    ],
    [
      "another version",
      left(ONE, { ...TWO, version: "2.0.1" }),
      "extensions/acme.two-2.0.1-linux-x64/package.json",
    ],
    ["one of the two only", left(ONE), "extensions/acme.two-2.0.0-linux-x64/package.json"],
    ["a file beside them", { ...base, "extensions/.obsolete": "{}" }, "extensions/.obsolete"],
    ["a list of another", { ...base, [LIST]: (base[LIST] ?? "").replace("acme.two", "evil.two") }, LIST],
    [
      "a list of another place",
      { ...base, [LIST]: (base[LIST] ?? "").replace('"acme.two-2', '"../x-2') },
      LIST,
    ],
    ["an empty list", { ...base, [LIST]: "[]" }, LIST],
    ["no list", without(LIST), LIST],
    ["a list that is none", { ...base, [LIST]: "{" }, LIST],
    ["nothing at all", {}, LIST],
  ];
  test.each(CASES)("%s", async (_case, files, what) => {
    expect(await differences(files)).toContain(what);
  });
});

test("what the editor leaves is what was signed; its own files and its list are not taken over", async () => {
  const files = left(ONE, TWO);
  expect(await differences(files)).toEqual([]);
  expect(vscodeManaged.discards?.(treeOf(files))).toEqual([
    "user-data/machineid",
    "user-data/logs/1.log",
    "extensions/extensions.json",
  ]);
});

describe("what a root holds", () => {
  const files = left(ONE, TWO);
  test("by its directories", () => {
    expect(vscodeManaged.inventory(treeOf(files), reader(files))).toEqual({
      "acme.one": "1.0.0",
      "acme.two": "2.0.0",
    });
  });
  test("root writes the list that the editor reads", () => {
    const made = vscodeManaged.launchers?.(treeOf(files), reader(files)) ?? {};
    expect(JSON.parse(made["extensions/extensions.json"] ?? "")).toMatchObject([
      { identifier: { id: "acme.one" }, version: "1.0.0", relativeLocation: "acme.one-1.0.0" },
      {
        identifier: { id: "acme.two" },
        location: { path: "/var/lib/aegis/vscode/extensions/acme.two-2.0.0-linux-x64", scheme: "file" },
        metadata: { targetPlatform: "linux-x64", isBuiltin: false },
      },
    ]);
  });
  test("others stay beside what is installed; another version of the same goes", () => {
    const before = left({ ...ONE, version: "0.9.0" }, { id: "acme.other", version: "3.0.0" });
    const stage = left(ONE, TWO);
    const kept = vscodeManaged.keeps?.({
      ...{ before: treeOf(before), stage: treeOf(stage), read: reader(stage), readBefore: reader(before) },
    });
    expect(kept?.toSorted()).toEqual([
      "extensions/acme.other-3.0.0/.vsixmanifest",
      "extensions/acme.other-3.0.0/package.json",
    ]);
  });
});

test("the closed gallery answers with the signed files and their own manifests", async () => {
  const routes = await vscodeManaged.routes(signed(ONE, TWO), "http://127.0.0.1:1");
  expect([...routes.keys()].sort()).toEqual([
    "/assets/acme.one/1.0.0/Microsoft.VisualStudio.Code.Manifest",
    "/assets/acme.one/1.0.0/Microsoft.VisualStudio.Services.VSIXPackage",
    "/assets/acme.two/2.0.0/Microsoft.VisualStudio.Code.Manifest",
    "/assets/acme.two/2.0.0/Microsoft.VisualStudio.Services.VSIXPackage",
    "POST /extensionquery",
  ]);
  const query = routes.get("POST /extensionquery");
  const answer = query !== undefined && "body" in query ? JSON.parse(query.body) : {};
  expect(answer.results[0].extensions).toMatchObject([
    {
      extensionName: "one",
      versions: [{ version: "1.0.0", assetUri: "http://127.0.0.1:1/assets/acme.one/1.0.0" }],
    },
    { extensionName: "two", versions: [{ version: "2.0.0", targetPlatform: "linux-x64" }] },
  ]);
});
