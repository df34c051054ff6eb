import { describe, expect, test } from "bun:test";
import type { OperationPlan } from "../src/doc-plan.ts";
import { nuget } from "../src/nuget.ts";
import { nugetConfig } from "../src/nuget-config.ts";
import { makePlan } from "../src/plan.ts";
import {
  CONFIG,
  configOfSources,
  type FakeNupkg,
  fakeSource,
  INDEX,
  nugetPlanning,
  nupkgFile,
  nuspecOf,
  SOURCE,
} from "./nuget-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";

const pkg = (id: string, version: string, over: Partial<FakeNupkg> = {}): FakeNupkg => ({
  id,
  version,
  ...over,
});
const needs = (id: string, ...dependencies: [string, string?][]) =>
  pkg(id, "1.0.0", {
    dependencies: dependencies.map(([of, version]) =>
      version === undefined ? { id: of } : { id: of, version },
    ),
  });
const LIBS = ["1.0.0", "1.0.1", "2.0.0", "3.0.0-rc"].map((version) => pkg("Lib", version));

type Host = Parameters<typeof nugetPlanning>[1];
const planOf = (answers: Record<string, RegistryAnswer>, target = "Root@1.0.0", host: Host = {}) =>
  makePlan(nuget, "install", [target], nugetPlanning(answers, host));
const namesOf = ({ transaction }: OperationPlan) =>
  transaction.map(({ name, to_version }) => `${name} ${to_version}`);
const saidBy = ({ warnings }: OperationPlan) =>
  warnings.filter((text) => !text.startsWith("Vulnerabilities: not"));

/** A plan that says why it knows nothing. */
async function refusedFor(answers: Record<string, RegistryAnswer>, why: string | RegExp, host: Host = {}) {
  const plan = await planOf(answers, "Root@1.0.0", host);
  expect(plan.metadata_available).toBe(false);
  expect(plan.transaction).toEqual([]);
  expect(plan.warnings.join("\n")).toMatch(why);
  expect(() => nuget.signedArgv(plan)).toThrow("no exact version");
}

describe("what can't be resolved is refused, with who needs it", () => {
  const cases: [string, FakeNupkg[], string | RegExp][] = [
    [
      "a package that isn't there",
      [needs("Root", ["Gone", "1.0"])],
      "has no package Gone (needed by Root 1.0.0)",
    ],
    ["no version that fits", [needs("Root", ["Lib", "[4.0]"]), ...LIBS], "Root 1.0.0 needs [4.0]"],
    ["only a prerelease", [needs("Root", ["Lib", "3.0.0-a"]), ...LIBS], "only with -Prerelease"],
    [
      "needs that contradict each other",
      [needs("Root", ["Lib", "[1.0]"], ["Two", "1.0"]), needs("Two", ["Lib", "2.0"]), ...LIBS],
      "Root 1.0.0 needs [1.0]; Two 1.0.0 needs 2.0",
    ],
    [
      "groups that contradict each other",
      [
        pkg("Root", "1.0.0", {
          groups: { net45: [{ id: "Lib", version: "[1.0]" }], net6: [{ id: "Lib", version: "[2.0]" }] },
        }),
        ...LIBS,
      ],
      "Root 1.0.0 needs [1.0]; Root 1.0.0 needs [2.0]",
    ],
    [
      "a circle",
      [needs("Root", ["A", "1.0"]), needs("A", ["Root", "1.0"])],
      "Root 1.0.0 → A 1.0.0 → Root 1.0.0",
    ],
    [
      "itself in another version",
      [needs("Root", ["A", "1.0"]), needs("A", ["Root", "2.0"]), pkg("Root", "2.0.0")],
      "A 1.0.0 needs 2.0",
    ],
    ["a floating range", [needs("Root", ["Lib", "1.*"]), ...LIBS], 'Lib "1.*", which is no range'],
    ["a dependency that is no id", [needs("Root", ["../x", "1.0"])], "which is no id"],
    [
      "a broken file deep in the closure",
      [
        needs("Root", ["A", "1.0"]),
        needs("A", ["Lib", "1.0"]),
        pkg("Lib", "1.0.0", { file: Buffer.from("x") }),
      ],
      "(needed by Root 1.0.0 → A 1.0.0)",
    ],
  ];
  test.each(cases)("%s", (_, packages, why) => refusedFor(fakeSource(packages), why));
});

describe("the file has to be the package", () => {
  const cases: [string, Partial<FakeNupkg>, string | RegExp][] = [
    ["another id", { nuspec: nuspecOf(pkg("Other", "1.0.0")) }, "it is Other 1.0.0"],
    ["another version", { nuspec: nuspecOf(pkg("Root", "1.0.1")) }, "it is Root 1.0.1"],
    ["no XML", { nuspec: "{}" }, "a document of XML can't be used"],
    [
      "a document type",
      { nuspec: `<!DOCTYPE a [<!ENTITY x "y">]>${nuspecOf(pkg("Root", "1.0.0"))}` },
      "can't be read from",
    ],
    ["an entity", { more: "<title>&xxe;</title>" }, "is no character"],
    ["two ids", { more: "<id>Root</id>" }, "<id> is there twice"],
    ["two nuspecs", { files: { "other.nuspec": "<a/>" } }, "it has two nuspecs"],
    ["UTF-16", { nuspec: '<?xml version="1.0" encoding="utf-16"?><a/>' }, "it is not UTF-8"],
    ["a name that escapes", { files: { "lib/%2e%2e/%2e%2e/x.dll": "x" } }, "is no plain path"],
    ["an absolute name", { files: { "%2Fetc/x": "x" } }, "is an absolute path"],
    ["a name that is broken", { files: { "lib/%zz": "x" } }, "is not escaped as a name"],
    ["one file under two names", { files: { "lib/a.dll": "1", "lib/%61.dll": "2" } }, "is in it twice"],
    ["a script too long to judge", { files: { "tools/install.ps1": "x".repeat(65_537) } }, "is longer than"],
  ];
  test.each(cases)("%s", (_, over, why) => refusedFor(fakeSource([pkg("Root", "1.0.0", over)]), why));

  test("other bytes than the catalog tells of", async () => {
    const answers = fakeSource([pkg("Root", "1.0.0")]);
    answers[`${SOURCE}/flat/root/1.0.0/root.1.0.0.nupkg`] = nupkgFile(
      pkg("Root", "1.0.0", { more: "<title>x</title>" }),
    );
    await refusedFor(answers, "another file");
  });
  test("a registration that leads to another version", async () => {
    const answers = fakeSource([pkg("Root", "1.0.0")]);
    answers[`${SOURCE}/catalog/root.1.0.0.json`] = JSON.stringify({ version: "2.0.0" });
    await refusedFor(answers, "leads to another version");
  });
});

describe("the source", () => {
  const whole = fakeSource([pkg("Root", "1.0.0")]);
  test.each([
    ["redirects", { [INDEX]: { status: 302, location: "https://evil.example/" } }, "which is not followed"],
    ["wants a password", { [INDEX]: { status: 401 } }, "status 401"],
    ["asks for patience", { [INDEX]: { status: 429 } }, "status 429"],
    ["isn't there", { [INDEX]: { status: 404 } }, "no source of NuGet's protocol 3"],
    ["is of version 2", { [INDEX]: "<service/>" }, "it is no JSON"],
    [
      "names no files",
      { [INDEX]: JSON.stringify({ version: "3.0.0", resources: [] }) },
      "names no package files",
    ],
    [
      "leads away from TLS",
      {
        [INDEX]: JSON.stringify({
          version: "3.0.0",
          resources: [{ "@id": "http://x.example/", "@type": "PackageBaseAddress/3.0.0" }],
        }),
      },
      "an address that can't be used",
    ],
  ])("%s", (_, answers, why) => expect(planOf({ ...whole, ...answers })).rejects.toThrow(why));
  test("lacks the id, or the version", async () => {
    await expect(planOf(whole, "Nothing@1.0.0")).rejects.toMatchObject({ code: "not_found" });
    await expect(planOf(whole, "Root@2.0.0")).rejects.toMatchObject({ code: "not_found" });
  });
  test("gives credentials to its own host alone", async () => {
    const base = "https://files.example";
    const answers = { ...fakeSource([pkg("Root", "1.0.0")], { base }) };
    answers[INDEX] = answers[`${base}/v3/index.json`] ?? "";
    const credentials = `<packageSourceCredentials><ours><add key="Username" value="me" /><add key="ClearTextPassword" value="s&amp;cret" /></ours></packageSourceCredentials>`;
    const planning = nugetPlanning(answers, {
      files: { [CONFIG]: configOfSources({ ours: INDEX }, credentials) },
    });
    const plan = await makePlan(nuget, "install", ["Root@1.0.0"], planning);
    expect(plan.metadata_available).toBe(true);
    const sent = planning.requests.map(({ url, headers }) => [
      new URL(url).host,
      headers.authorization ?? null,
    ]);
    expect(new Set(sent.map(([host, header]) => `${host} ${header}`))).toEqual(
      new Set([`nuget.example Basic ${Buffer.from("me:s&cret").toString("base64")}`, "files.example null"]),
    );
    expect(JSON.stringify(plan)).not.toContain("cret");
  });
});

describe("settings", () => {
  const read = (files: Record<string, string>, env: Record<string, string> = { HOME: "/home/u" }) =>
    nugetConfig(
      env,
      (path) => files[path] ?? null,
      (path) =>
        Object.keys(files).flatMap((file) =>
          file.startsWith(`${path}/`) ? [file.slice(path.length + 1)] : [],
        ),
    );
  const machine = "/etc/opt/NuGet/Config/a.config";
  const dotnet = "/home/u/.nuget/NuGet/NuGet.Config";

  test.each([
    ["no XML", "<configuration>", "it ends too early"],
    ["something else", "<other/>", "it has no <configuration>"],
    ["a directory", configOfSources({ a: "/srv/feed" }), "is no http or https address"],
    ["a relative one", configOfSources({ a: "feed" }), "is no http or https address"],
    [
      "a proxy that is none",
      configOfSources({ a: INDEX }, '<config><add key="http_proxy" value="ftp://x" /></config>'),
      "http_proxy",
    ],
  ])("%s can't be used", (_, text, why) => expect(() => read({ [CONFIG]: text })).toThrow(why));

  test.each<[string, Record<string, string>, string]>([
    ["none: nuget.org", {}, "https://api.nuget.org/v3/index.json"],
    ["the user's, for Mono's nuget", { [CONFIG]: configOfSources({ a: INDEX }) }, INDEX],
    ["the user's, for dotnet", { [dotnet]: configOfSources({ a: INDEX }) }, INDEX],
    ["the machine's", { [machine]: configOfSources({ a: INDEX }) }, INDEX],
    [
      "nuget.org's old address",
      { [CONFIG]: configOfSources({ a: "https://www.nuget.org/api/v2/" }) },
      "https://api.nuget.org/v3/index.json",
    ],
    [
      "cleared by the user's file",
      {
        [machine]: configOfSources({ m: "https://m.example/index.json" }),
        [CONFIG]: configOfSources({ a: INDEX }).replace("<add", "<clear /><add"),
      },
      INDEX,
    ],
    [
      "all but one switched off",
      {
        [CONFIG]: configOfSources(
          { a: INDEX, b: "https://b.example/" },
          '<disabledPackageSources><add key="B" value="true" /></disabledPackageSources>',
        ),
      },
      INDEX,
    ],
  ])("%s", (_, files, source) => {
    const config = read(files);
    expect([config.source.href, config.refused]).toEqual([source, null]);
  });
  test("two sources are refused: dependency confusion", async () => {
    const files = { [CONFIG]: configOfSources({ a: INDEX, b: "https://me:secret@b.example/v3/index.json" }) };
    expect(read(files).refused).toMatch(/another source \(b\.example\).*dependency confusion/);
    expect(
      read({
        [CONFIG]: configOfSources({ a: INDEX }),
        [dotnet]: configOfSources({ b: "https://b.example/" }),
      }).refused,
    ).not.toBeNull();
    await refusedFor(fakeSource([pkg("Root", "1.0.0")]), "dependency confusion", { files });
  });
  test("the host's own source wins, with the password that the settings have for it", () => {
    const credentials =
      "<packageSourceCredentials><our_x0020_own><add key='Username' value='u' /><add key='ClearTextPassword' value='p' /></our_x0020_own></packageSourceCredentials>";
    const files = { [CONFIG]: configOfSources({ "our own": INDEX, b: "https://b.example/" }, credentials) };
    const config = read(files, { HOME: "/home/u", AEGIS_NUGET_SOURCE: INDEX });
    expect([config.source.href, config.refused]).toEqual([INDEX, null]);
    expect(config.request.headers).toEqual({
      authorization: `Basic ${Buffer.from("u:p").toString("base64")}`,
    });
    const other = read(files, { HOME: "/home/u", AEGIS_NUGET_SOURCE: "https://c.example/i.json" });
    expect([other.source.host, other.request.headers]).toEqual(["c.example", undefined]);
  });
  test("an encrypted password is not used, and said to be", () => {
    const credentials =
      "<packageSourceCredentials><a><add key='Username' value='u' /><add key='Password' value='x' /></a></packageSourceCredentials>";
    const config = read({ [CONFIG]: configOfSources({ a: INDEX }, credentials) });
    expect([config.request.headers, config.notes.join()]).toEqual([
      undefined,
      expect.stringContaining("only Windows can read it"),
    ]);
  });
});

describe("the closure", () => {
  const root = (dependency: [string, string?], packages: FakeNupkg[] = LIBS) =>
    fakeSource([needs("Root", dependency), ...packages]);
  test.each<[string, Record<string, RegistryAnswer>, string[]]>([
    ["a minimum: the lowest", root(["Lib", "1.0"]), ["Lib 1.0.0"]],
    ["more than a version", root(["Lib", "(1.0,)"]), ["Lib 1.0.1"]],
    ["at most a version: the lowest", root(["Lib", "(,2.0]"]), ["Lib 1.0.0"]],
    ["no limit: the newest release", root(["Lib"]), ["Lib 2.0.0"]],
    ["a prerelease as the minimum: the lowest release", root(["Lib", "1.0.1-a"]), ["Lib 1.0.1"]],
    ["in other letters", root(["LIB", "1.0"]), ["Lib 1.0.0"]],
    [
      "what isn't listed is passed over",
      root(["Lib", "1.0"], [pkg("Lib", "1.0.0", { entry: { listed: false } }), pkg("Lib", "1.5.0")]),
      ["Lib 1.5.0"],
    ],
    [
      "but taken where it is named",
      root(["Lib", "[1.0]"], [pkg("Lib", "1.0.0", { entry: { listed: false } })]),
      ["Lib 1.0.0"],
    ],
    [
      "a later need lifts it",
      fakeSource([needs("Root", ["Lib", "1.0"], ["Two", "1.0"]), needs("Two", ["Lib", "2.0"]), ...LIBS]),
      ["Lib 2.0.0", "Two 1.0.0"],
    ],
    [
      "every target framework counts",
      fakeSource([
        pkg("Root", "1.0.0", {
          groups: {
            ".NETFramework4.5": [{ id: "Lib", version: "1.0" }],
            "net6.0": [
              { id: "Lib", version: "2.0" },
              { id: "A", version: "1.0" },
            ],
            "": [],
          },
        }),
        needs("A"),
        ...LIBS,
      ]),
      ["A 1.0.0", "Lib 2.0.0"],
    ],
  ])("%s", async (_, answers, others) => {
    const plan = await planOf(answers);
    expect(namesOf(plan)).toEqual([...others, "Root 1.0.0"].sort());
    expect(plan.metadata_available).toBe(true);
  });

  test("a plan in whole", async () => {
    const packages = [
      pkg("Root", "1.0.0.0", {
        dependencies: [{ id: "Lib", version: "1.0" }],
        more: '<license type="expression">MIT</license>',
      }),
      ...LIBS,
    ];
    const plan = await planOf(fakeSource(packages), "root@1.0");
    expect(plan.exact_targets).toEqual(["Root@1.0.0"]);
    expect(plan.transaction.find(({ name }) => name === "Lib")).toMatchObject({
      ...{
        to_version: "1.0.0",
        origin: "nuget.example",
        required_by: "Root 1.0.0",
        purl: "pkg:nuget/Lib@1.0.0",
      },
      ...{ url: `${SOURCE}/flat/lib/1.0.0/lib.1.0.0.nupkg`, published_at: "2024-01-01T00:00:00.000Z" },
      integrity: expect.stringMatching(/^sha512:[0-9a-f]{128}$/),
    });
    expect(
      plan.provenance_evidence.map(({ kind, subject, verified }) => `${kind} ${subject} ${verified}`),
    ).toEqual(["nuget-sha512 Root@1.0.0 true", "nuget-sha512 Lib@1.0.0 true"]);
    expect(plan.signature_or_checksum_status).toBe("checksum-verified");
    expect(nuget.signedArgv(plan).join(" ")).toBe(
      "nuget install Root -Version 1.0.0 -OutputDirectory /var/lib/aegis/nuget/packages -NonInteractive",
    );
    expect(plan.raw_evidence.commands).toEqual([]);
    expect([plan.transaction[1]?.license, saidBy(plan)]).toEqual(["MIT", []]);
  });

  test("without a version the newest release is named, and nothing is signed", async () => {
    const plan = await planOf(fakeSource(LIBS), "Lib");
    expect([plan.mutable_reference, plan.exact_targets]).toEqual([true, ["Lib@2.0.0"]]);
    expect(saidBy(plan)).toEqual(["Lib@2.0.0 is the newest version today; name it to keep it."]);
  });

  test("dotnet's search is asked where there is a dotnet", async () => {
    const planning = nugetPlanning(fakeSource(LIBS), { programs: { nuget: "", dotnet: "" } });
    await makePlan(nuget, "install", ["Lib@1.0.0"], planning);
    expect(planning.ran).toEqual(["dotnet nuget search Lib"]);
  });
  test("nothing is started where there is no dotnet, nuget neither", async () => {
    const planning = nugetPlanning(fakeSource(LIBS));
    await makePlan(nuget, "install", ["Lib@1.0.0"], planning);
    expect(planning.ran).toEqual([]);
  });
  test("owners, by the source's search", async () => {
    const search = `${SOURCE}/query?q=packageid%3ALib&prerelease=true&semVerLevel=2.0.0&take=1`;
    const answers = {
      ...fakeSource(LIBS),
      [search]: JSON.stringify({ data: [{ id: "Lib", owners: ["a", "b"] }] }),
    };
    expect((await planOf(answers, "Lib@1.0.0")).publisher_or_maintainer).toBe("a, b");
  });
  test("what the source tells of a version", async () => {
    const entry = {
      ...{ listed: false, published: "1900-01-01T00:00:00Z", packageHash: undefined },
      ...{
        deprecation: { reasons: ["Legacy"] },
        vulnerabilities: [{ advisoryUrl: "https://x.example/A", severity: "2" }],
      },
    };
    const plan = await planOf(fakeSource([pkg("Root", "1.0.0", { entry })]));
    expect([plan.published_at, plan.deprecated, plan.signature_or_checksum_status]).toEqual([
      null,
      "Legacy",
      "unverified",
    ]);
    expect(saidBy(plan).join("\n")).toMatch(
      /vulnerable: https:\/\/x\.example\/A.*no longer listed.*deprecated: Legacy.*does not tell when.*tells no SHA-512/s,
    );
  });
  test.each([
    [
      "a newer nuget",
      pkg("Root", "1.0.0", { attributes: 'minClientVersion="3.0"' }),
      "needs NuGet 3.0, and Debian's is",
    ],
    ["a version of semantic versioning 2", pkg("Root", "1.0.0-a.1"), "can't read such a version"],
  ])("it says that it can't be run here: %s", async (_, one, why) =>
    expect(saidBy(await planOf(fakeSource([one]), `Root@${one.version}`)).join()).toContain(why),
  );
  test("without a nuget it can be planned", async () => {
    const plan = await planOf(fakeSource([pkg("Root", "1.0.0")]), "Root@1.0.0", { programs: {} });
    expect(saidBy(plan)).toEqual(["nuget is not installed: the plan can't be run here."]);
    expect(plan.metadata_available).toBe(true);
  });
});

describe("what is in the packages", () => {
  const PE = (clr: number) => {
    const bytes = Buffer.alloc(0x200);
    bytes.write("MZ");
    bytes.writeUInt32LE(0x80, 0x3c);
    bytes.write("PE\0\0", 0x80, "latin1");
    bytes.writeUInt16LE(0x20b, 0x98);
    bytes.writeUInt32LE(16, 0x98 + 108);
    bytes.writeUInt32LE(clr, 0x98 + 112 + 14 * 8);
    return bytes;
  };
  test.each<[string, FakeNupkg, string[], RegExp]>([
    [
      "build targets",
      pkg("Root", "1.0.0", { files: { "build/Root.targets": "<Project/>" } }),
      ["build-targets-risk"],
      /changes the build.*build\/Root\.targets/,
    ],
    [
      "for who uses it indirectly",
      pkg("Root", "1.0.0", { files: { "buildTransitive/net6.0/Root.props": "x" } }),
      ["build-targets-risk"],
      /buildTransitive/,
    ],
    [
      "scripts",
      pkg("Root", "1.0.0", { files: { "tools/init.ps1": "iex" } }),
      ["lifecycle-scripts", "powershell-risk"],
      /Visual Studio runs: tools\/init\.ps1/,
    ],
    [
      "PowerShell elsewhere",
      pkg("Root", "1.0.0", { files: { "content/x.psm1": "iex" } }),
      ["powershell-risk"],
      /brings PowerShell/,
    ],
    [
      "a native library",
      pkg("Root", "1.0.0", { files: { "lib/a.dll": PE(0) } }),
      ["native-build-risk", "binary-download-risk", "native-dll-risk"],
      /lib\/a\.dll \(PE\)/,
    ],
    [
      "whatever is for native code",
      pkg("Root", "1.0.0", { files: { "runtimes/linux-x64/native/x.so": "?" } }),
      ["native-build-risk", "binary-download-risk", "native-dll-risk"],
      /of unknown kind/,
    ],
    ["its id", pkg("Microsoft.AspNetCore.Mvc", "1.0.0"), ["aspnet-sensitive"], /web applications.*its id/],
    [
      "what it is built on",
      pkg("Root", "1.0.0", {
        more: '<frameworkReferences><group targetFramework="net6.0"><frameworkReference name="Microsoft.AspNetCore.App" /></group></frameworkReferences>',
      }),
      ["aspnet-sensitive"],
      /built on Microsoft/,
    ],
    [
      "a web site's configuration",
      pkg("Root", "1.0.0", { files: { "content/web.config.transform": "x" } }),
      ["aspnet-sensitive"],
      /web\.config/,
    ],
    [
      "an assembly of .NET is nothing special",
      pkg("Root", "1.0.0", { files: { "lib/net6.0/a.dll": PE(0x2008) } }),
      [],
      /^$/,
    ],
  ])("%s", async (_, one, signals, said) => {
    const plan = await planOf(fakeSource([one]), `${one.id}@1.0.0`);
    const own = [
      "lifecycle-scripts",
      "native-build-risk",
      "binary-download-risk",
      ...nuget.signals,
    ] as string[];
    expect((plan.risk_signals as string[]).filter((signal) => own.includes(signal)).sort()).toEqual(
      signals.toSorted(),
    );
    expect(saidBy(plan).join("\n")).toMatch(said);
  });
  test("scripts stand in the plan, for policy to read", async () => {
    const plan = await planOf(
      fakeSource([pkg("Root", "1.0.0", { files: { "tools/net45/install.ps1": "Write-Host hi" } })]),
    );
    expect(plan.scripts).toEqual([
      { package: "Root", name: "tools/net45/install.ps1", body: "Write-Host hi" },
    ]);
  });
});
