import { describe, expect, test } from "bun:test";
import { makePlan } from "../src/plan.ts";
import { vscode } from "../src/vscode.ts";
import type { RegistryAnswer } from "./registry-kit.ts";
import {
  API,
  CODE_SERVER,
  type FakeExtension,
  fakeGallery,
  GALLERY,
  sha256,
  vscodePlanning,
  vsixOf,
} from "./vscode-kit.ts";

type Host = Parameters<typeof vscodePlanning>[1];

const ONE: FakeExtension = { id: "Acme.One", version: "1.0.0", files: { "main.js": "1" } };

const planOf = (
  extensions: readonly FakeExtension[],
  target = "acme.one@1.0.0",
  { answers = {}, ...host }: Host & { answers?: Record<string, RegistryAnswer> } = {},
) => makePlan(vscode, "install", [target], vscodePlanning({ ...fakeGallery(extensions), ...answers }, host));

/** What a plan warns of, but for the vulnerabilities that nobody looked up. */
const told = ({ warnings }: { warnings: readonly string[] }) =>
  warnings.filter((text) => !text.startsWith("Vulnerabilities: "));

/** The planning of ONE, changed. */
const one = (over: Partial<FakeExtension>, host: Parameters<typeof planOf>[2] = {}) =>
  planOf([{ ...ONE, ...over }], undefined, host);

describe("nothing is planned, and the reason is told", () => {
  const CASES: [string, () => ReturnType<typeof planOf>, RegExp][] = [
    ["the gallery tells of another", () => one({ listed: { name: "two" } }), /answers about Acme\.two/],
    ["of another version", () => one({ listed: { version: "1.0.1" } }), /answers about Acme\.One 1\.0\.1/],
    ["of another platform", () => one({ listed: { targetPlatform: "web" } }), /answers about .*\(web\)/],
    ["no extension at all", () => one({ listed: { files: [] } }), /describes no extension/],
    [
      "a file over plain HTTP",
      () => one({ links: { download: "http://x.example/a" } }),
      /address that is not used/,
    ],
    [
      "a file on this machine",
      () => one({ links: { download: "http://127.0.0.1/a" } }),
      /address that is not used/,
    ],
    ["a local file", () => one({ links: { download: "file:///etc/passwd" } }), /address that is not used/],
    ["the file says another id", () => one({ manifest: { name: "other" } }), /says Acme\.other .* Acme\.One/],
    ["another version", () => one({ manifest: { version: "9.9.9" } }), /9\.9\.9/],
    [
      "file and description say another id",
      () => one({ manifest: { name: "x" }, described: { Id: "x" } }),
      /gallery says acme\.one .* its file is acme\.x/,
    ],
    [
      "another platform",
      () => one({ described: { TargetPlatform: "win32-x64" } }),
      /its file is .*win32-x64/,
    ],
    [
      "an id twice in the description",
      () => one({ described: { Publisher: 'a" Publisher="b' } }),
      /extension\.vsixmanifest/,
    ],
    ["no manifest", () => one({ manifest: { engines: null } }), /engines\.vscode/],
    ["no zip", () => one({ vsix: Buffer.from("hello") }), /no zip file/],
    ["a path out of it", () => one({ files: { "../../x": "1" } }), /no plain path/],
    [
      "a newer editor is needed",
      () => one({ manifest: { engines: { vscode: "^1.101.0" } } }),
      /made for VS Code \^1\.101\.0, and here is 1\.100\.3/,
    ],
    [
      "it needs what is no extension",
      () => one({ manifest: { extensionPack: ["a.b;c"] } }),
      /which is no extension/,
    ],
    [
      "it needs what the gallery lacks",
      () => one({ manifest: { extensionDependencies: ["acme.gone"] } }),
      /acme\.gone, which acme\.one 1\.0\.0 needs: open-vsx\.org has no acme\.gone/,
    ],
    [
      "an architecture without a platform",
      () => one({}, { architecture: "riscv64" }),
      /no platform for riscv64/,
    ],
    [
      "the gallery is down",
      () => one({}, { answers: { [`${API}/acme/one/linux-x64/1.0.0`]: { status: 503 } } }),
      /status 503/,
    ],
    [
      "it sends in a circle",
      () =>
        one(
          {},
          {
            answers: {
              [`${API}/acme/one/1.0.0/file/Acme.One-1.0.0.vsix`]: {
                status: 302,
                location: `${API}/acme/one/1.0.0/file/Acme.One-1.0.0.vsix`,
              },
            },
          },
        ),
      /status 302/,
    ],
    [
      "it sends to plain HTTP",
      () =>
        one(
          {},
          {
            answers: {
              [`${API}/acme/one/1.0.0/file/Acme.One-1.0.0.vsix`]: {
                status: 302,
                location: "http://x.example/",
              },
            },
          },
        ),
      /not used/,
    ],
  ];
  test.each(CASES)("%s", async (_case, plan, why) => {
    const found = await plan();
    expect(found.warnings.join("\n")).toMatch(why);
    expect(found).toMatchObject({ metadata_available: false, transaction: [], exact_targets: [] });
    expect(found.risk_signals).toContain("metadata-command-failed");
    expect(() => vscode.signedArgv(found)).toThrow("no exact version");
  });
  test("an extension or a version that isn't there is a mistake of whoever asked", async () => {
    await expect(planOf([ONE], "acme.two")).rejects.toThrow("open-vsx.org has no acme.two for linux-x64");
    await expect(planOf([ONE], "acme.one@2.0.0")).rejects.toThrow("has no acme.one 2.0.0");
  });
  test("a .vsix isn't looked at", async () => {
    const plan = await planOf([], "./x.vsix");
    expect(plan.denied_targets).toEqual([{ target: "./x.vsix", signal: "vsix-denied" }]);
    expect(plan.metadata_available).toBe(false);
  });
});

test("an extension with all facts", async () => {
  const plan = await planOf([ONE]);
  const vsix = vsixOf(ONE);
  expect(plan).toMatchObject({
    ...{ tool: "vscode", ecosystem: "vscode", target_type: "extension", metadata_available: true },
    ...{ exact_targets: ["acme.one@1.0.0"], target_version: "1.0.0", mutable_reference: false },
    ...{ source_registry: `${API}/`, publisher_or_maintainer: "somebody", deprecated: null },
    ...{ published_at: "2026-01-02T03:04:05.678Z", transitive_dependency_count: 0 },
  });
  expect(plan.transaction).toMatchObject([
    {
      ...{
        name: "acme.one",
        to_version: "1.0.0",
        architecture: "all",
        sha256: sha256(vsix),
        size: vsix.length,
      },
      url: `${API}/acme/one/1.0.0/file/Acme.One-1.0.0.vsix`,
      purl: "pkg:vscode-extension/acme/one@1.0.0?repository_url=https://open-vsx.org",
      origin: "open-vsx.org",
    },
  ]);
  expect(told(plan)).toEqual([]);
  expect(vscode.signedArgv(plan)).toEqual([
    ...["code-server", "--install-extension", "acme.one@1.0.0"],
    ...["--user-data-dir", "/var/lib/aegis/vscode/user-data"],
    ...["--extensions-dir", "/var/lib/aegis/vscode/extensions"],
  ]);
});

test("without a version the newest is found, and not signed for", async () => {
  const plan = await planOf([ONE, { ...ONE, version: "1.1.0" }], "Acme.ONE");
  expect(plan).toMatchObject({ mutable_reference: true, exact_targets: ["acme.one@1.1.0"] });
  expect(told(plan)).toEqual(["acme.one@1.1.0 is the newest version today; name it to keep it."]);
});

describe("the platform", () => {
  const linux = { ...ONE, platform: "linux-x64", version: "1.2.0" };
  test("its own file, and its name in the purl", async () => {
    const plan = await planOf([linux, { ...linux, platform: "linux-arm64" }], "acme.one@1.2.0");
    expect(plan.transaction).toMatchObject([
      { architecture: "amd64", purl: expect.stringContaining("platform=linux-x64") },
    ]);
  });
  test("the newest may be the one for all", async () => {
    expect((await planOf([ONE, linux], "acme.one")).exact_targets).toEqual(["acme.one@1.2.0"]);
    expect((await planOf([{ ...ONE, version: "2.0.0" }, linux], "acme.one")).exact_targets).toEqual([
      "acme.one@2.0.0",
    ]);
  });
});

describe("what it brings along", () => {
  const two = { id: "acme.two", version: "2.0.0", manifest: { extensionPack: ["acme.three"] } };
  const three = {
    id: "acme.three",
    version: "3.0.0",
    manifest: { extensionDependencies: ["acme.one", "vscode.git"] },
  };
  test("dependencies and packs, as deep as they go; what belongs to the editor isn't fetched", async () => {
    const plan = await planOf([{ ...ONE, manifest: { extensionDependencies: ["ACME.two"] } }, two, three]);
    expect(
      plan.transaction.map(({ name, to_version, required_by }) => [name, to_version, required_by]),
    ).toEqual([
      ["acme.one", "1.0.0", undefined],
      ["acme.three", "3.0.0", "acme.two 2.0.0"],
      ["acme.two", "2.0.0", "acme.one 1.0.0"],
    ]);
    expect(plan).toMatchObject({ exact_targets: ["acme.one@1.0.0"], transitive_dependency_count: 2 });
    expect(plan.warnings.join()).toContain("acme.three 3.0.0 needs vscode.git, which is part of the editor");
    expect(plan.provenance_evidence.filter(({ verified }) => verified)).toHaveLength(6);
  });
});

describe("what runs, and when", () => {
  const elf = Buffer.from("\x7fELF\x02\x01\x01 binary", "latin1");
  const CASES: [string, Partial<FakeExtension>, string[], RegExp | null][] = [
    ["a theme", { manifest: { contributes: { themes: [{}] } } }, [], null],
    [
      "only when a language is opened",
      { manifest: { main: "./x", activationEvents: ["onLanguage:c"] } },
      [],
      null,
    ],
    [
      "always",
      { manifest: { main: "./x", activationEvents: ["*"] } },
      ["activation-events-risk"],
      /runs in every window/,
    ],
    [
      "after the start",
      { manifest: { main: "./x", activationEvents: ["onStartupFinished"] } },
      ["activation-events-risk"],
      /onStartupFinished/,
    ],
    [
      "by a command",
      { manifest: { main: "./x", activationEvents: ["onCommand:a.b"] } },
      ["command-activation-risk"],
      null,
    ],
    [
      "by a command that only contributes",
      { manifest: { browser: "./x", contributes: { commands: [{ command: "a" }] } } },
      ["command-activation-risk"],
      null,
    ],
    [
      "by files",
      { manifest: { main: "./x", activationEvents: ["workspaceContains:**/x"] } },
      ["workspace-contains-risk"],
      /workspaceContains:\*\*\/x/,
    ],
    [
      "in any workspace",
      { manifest: { main: "./x", capabilities: { untrustedWorkspaces: { supported: true } } } },
      ["workspace-access-risk"],
      /doesn't trust/,
    ],
    [
      "a little in any workspace",
      { manifest: { main: "./x", capabilities: { untrustedWorkspaces: { supported: "limited" } } } },
      ["workspace-access-risk"],
      /doesn't trust/,
    ],
    [
      "in trusted ones only",
      { manifest: { main: "./x", capabilities: { untrustedWorkspaces: { supported: false } } } },
      [],
      null,
    ],
    [
      "a program",
      { files: { "bin/server": elf } },
      ["bundled-binary-risk"],
      /machine code: bin\/server \(ELF\)/,
    ],
    ["a Windows program", { files: { "bin/x.dll": "MZ\x90" } }, ["bundled-binary-risk"], /PE/],
  ];
  test.each(CASES)("%s", async (_case, over, signals, warning) => {
    const plan = await one(over);
    expect(plan.risk_signals.filter((signal) => vscode.signals.includes(signal))).toEqual(signals as never);
    if (warning === null) expect(told(plan)).toEqual([]);
    else expect(plan.warnings.join("\n")).toMatch(warning);
    expect(plan.binary_artifact_risk).toBe(signals.includes("bundled-binary-risk"));
  });
  test("a native module is native code; the script of the removal is shown", async () => {
    const plan = await one({
      files: { "x.node": elf },
      manifest: { scripts: { "vscode:uninstall": "node x", test: "y" } },
    });
    expect(plan).toMatchObject({
      native_code_risk: true,
      scripts: [{ package: "acme.one", name: "vscode:uninstall", body: "node x" }],
    });
  });
});

test("what the gallery says of a publisher, a time and an end is told", async () => {
  const plan = await one({
    listed: {
      verified: false,
      deprecated: true,
      replacement: { displayName: "Acme Two" },
      timestamp: "yesterday",
    },
  });
  expect(plan.warnings.join("\n")).toMatch(
    /not verified that somebody may publish[\s\S]*doesn't tell when[\s\S]*deprecated; instead: Acme Two/,
  );
  expect(plan).toMatchObject({ published_at: null, deprecated: expect.stringContaining("deprecated") });
});

describe("where a file really is stands in the plan, since a run follows nothing", () => {
  const file = `${API}/acme/one/1.0.0/file/Acme.One-1.0.0`;
  const storage = "https://openvsx.eclipsecontent.org/acme/one/1.0.0/Acme.One-1.0.0";
  const moved = (answers: Record<string, RegistryAnswer>) =>
    Object.fromEntries(
      ["vsix", "sha256", "sigzip"].flatMap((end): [string, RegistryAnswer][] => [
        [`${file}.${end}`, { status: 302, location: `${storage}.${end}` }],
        [`${storage}.${end}`, answers[`${file}.${end}`] ?? ""],
      ]),
    );
  test("as Open VSX does it: its storage", async () => {
    const plan = await one({}, { answers: moved(fakeGallery([ONE])) });
    expect(plan.transaction).toMatchObject([
      { url: `${storage}.vsix`, origin: "openvsx.eclipsecontent.org" },
    ]);
    expect(plan.provenance_evidence.map(({ verified }) => verified)).toEqual([true, true]);
  });
});

describe("the editor", () => {
  const argvOf = async (editors: Record<string, string>) =>
    (await one({}, { programs: editors })).command_preview[0];
  test("code-server first, then code; without either the plan can't be run", async () => {
    const code = { code: "1.100.3\nabc\nx64\n" };
    expect(await argvOf({ ...CODE_SERVER, ...code })).toBe("code-server");
    expect(await argvOf(code)).toBe("code");
    const none = await one({}, { programs: {} });
    expect(told(none)).toEqual(["Neither code-server nor code is installed: the plan can't be run here."]);
  });
});

describe("the gallery", () => {
  const product = {
    "/usr/share/code/resources/app/product.json":
      '{"extensionsGallery":{"serviceUrl":"https://code.example/g"}}',
  };
  const own = "https://gallery.example:8443/base/vscode/gallery/";
  const CASES: [string, Host, string][] = [
    ["code-server's own", {}, `${API}/`],
    ["code's own", { programs: { code: "1.100.3\n" }, files: product }, "https://code.example/g"],
    ["code-server doesn't ask code's", { files: product }, `${API}/`],
    [
      "code-server's variable",
      { env: { EXTENSIONS_GALLERY: JSON.stringify({ serviceUrl: own }) } },
      "https://gallery.example:8443/base/api/",
    ],
    [
      "Aegis's variable",
      { env: { AEGIS_VSCODE_GALLERY: own, EXTENSIONS_GALLERY: "x" } },
      "https://gallery.example:8443/base/api/",
    ],
  ];
  test.each(CASES)("%s", async (_case, host, registry) => {
    const base = registry === `${API}/` ? GALLERY : registry.replace(/\/api\/$/, "");
    const answers = {
      ...fakeGallery([ONE], base),
      [`${registry}/vscode/acme/one/latest`]: { status: 500 },
    };
    const plan = await makePlan(vscode, "install", ["acme.one@1.0.0"], vscodePlanning(answers, host));
    expect(plan.source_registry).toBe(registry);
  });
  test.each([
    ["no address", "x", "no http or https"],
    ["a file", "file:///x", "no http or https"],
    ["a password", "https://me:secret@x.example/vscode/gallery", "without a password"],
    ["a query", "https://x.example/vscode/gallery?a=b", "without a password or a query"],
  ])("refused: %s", async (_case, address, why) => {
    const plan = one({}, { env: { AEGIS_VSCODE_GALLERY: address } });
    await expect(plan).rejects.toThrow(why);
    await expect(plan).rejects.not.toThrow("secret");
  });
  test("refused: a variable that is no JSON", async () => {
    await expect(one({}, { env: { EXTENSIONS_GALLERY: "{" } })).rejects.toThrow("no JSON with a serviceUrl");
  });
});
