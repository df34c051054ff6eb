import { describe, expect, test } from "bun:test";
import { apt } from "../src/apt.ts";
import { canonicalJson, sha256Hex } from "../src/canonical.ts";
import { askedOtherwise } from "../src/doc-request.ts";
import type { ChangedRepository } from "../src/doc-result.ts";
import { assertPlanningArgv } from "../src/eco-planning-argv.ts";
import { AegisError } from "../src/errors.ts";
import { contentOfPlan, makePlan } from "../src/plan.ts";
import { fakePlanning, fixture } from "./apt-kit.ts";
import { adding, replacing, STANZA, vendorFile } from "./policy-repository-cases.ts";

const FILE = "/etc/apt/sources.list.d/vendor.sources";
const LIST = "/etc/apt/sources.list.d/legacy.list";
const DUMP = 'Dir "/";\nDir::Etc "etc/apt";\nDir::Etc::sourceparts "sources.list.d";\n';
const KEY = "8F0814313638E86483C5C178AF2DB912AF39821F";
const ID = "1b7b4a3e-7c9e-4f6a-9a44-af0c2d3e4f50";
const IN_RELEASE = fixture("keys/InRelease");
const GOOD = fixture("keys/gpgv-good.txt");

interface Host {
  files?: Record<string, string>;
  dump?: string;
  /** What the repository's server answers, by path. */
  served?: Record<string, string>;
  fails?: AegisError;
  gpgv?: string;
}

async function plan(operation: string, target: string, content: string | undefined, host: Host = {}) {
  const { files = {}, dump = DUMP, served = { InRelease: IN_RELEASE }, fails, gpgv = GOOD } = host;
  const asked: { url: string; proxy: string | undefined }[] = [];
  const planning = fakePlanning({
    files,
    answers: (command) => (command === "apt-config dump" ? { stdout: dump } : { stdout: gpgv }),
  });
  planning.get = (url, request) => {
    asked.push({ url: url.href, proxy: request?.proxy });
    if (fails !== undefined) return Promise.reject(fails);
    const text = served[url.pathname.split("/").at(-1) ?? ""];
    return Promise.resolve({
      ...{ status: text === undefined ? 404 : 200, contentType: "", location: "", header: () => "" },
      bytes: Buffer.from(text ?? ""),
    });
  };
  const made = await makePlan(apt, operation, [target], planning, content);
  for (const { command } of planning.calls) assertPlanningArgv(command.split(" "));
  return { ...made, asked, temporaries: planning.temporaries };
}
const add = (host?: Host, content = vendorFile()) => plan("add-repository", "vendor", content, host);

describe("a plan that can't be carried out", () => {
  test.each<[what: string, host: Host, problem: string]>([
    [
      "sources elsewhere",
      { dump: DUMP.replace("sources.list.d", "elsewhere.d") },
      "apt reads its sources from /etc/apt/elsewhere.d",
    ],
    [
      "the same source in a one-line file",
      { files: { [LIST]: "deb https://vendor.example/debian stable main\n" } },
      `already configured in ${LIST}:1`,
    ],
    [
      "by http, which apt takes for the same",
      { files: { [LIST]: "deb http://vendor.example/debian/ stable contrib\n" } },
      "already configured in",
    ],
    [
      "for source packages only",
      { files: { [LIST]: "deb-src https://vendor.example/debian stable main\n" } },
      "already configured in",
    ],
    [
      "a file of its name that is binary",
      { files: { [FILE]: "\ufffd" } },
      "not a text file that could be brought back",
    ],
    [
      "a file of its name with a password",
      { files: { [FILE]: STANZA.replace("https://", "https://me:hunter2@") } },
      "has a password, which a plan must not repeat",
    ],
    [
      "apt of Debian 11",
      {
        files: {
          "/var/lib/dpkg/status":
            "Package: apt\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.2.4\n",
        },
      },
      "apt 2.2.4 can't read a key inside a source file",
    ],
  ])("%s", async (_, host, problem) => {
    const { metadata_available, warnings, asked } = await add(host);
    expect([metadata_available, warnings[0]]).toEqual([false, expect.stringContaining(problem)]);
    // Nobody is asked in vain.
    expect(asked).toEqual([]);
  });

  test.each<[what: string, name: string, text: string]>([
    ["by its keyring", "vendor", `${STANZA}Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n`],
    ["by its name", "debian", STANZA],
    ["by its name, a part", "debian-security", STANZA],
  ])("the distribution's own archive, known %s, isn't removed", async (_, name, text) => {
    const found = await plan("remove-repository", name, undefined, {
      files: { [`/etc/apt/sources.list.d/${name}.sources`]: text },
    });
    expect([found.metadata_available, found.warnings[0]]).toEqual([
      false,
      expect.stringContaining("the distribution's own"),
    ]);
  });

  test.each<[what: string, operation: string, target: string, content: string | undefined, code: string]>([
    ["nothing to write", "add-repository", "vendor", undefined, "usage"],
    ["a file to remove with", "remove-repository", "vendor", vendorFile(), "usage"],
    ["a file for an update", "update", "", vendorFile(), "usage"],
    [
      "a stanza that is refused",
      "add-repository",
      "vendor",
      `${vendorFile()}Trusted: yes\n`,
      "invalid_target",
    ],
    ["a path as name", "add-repository", "../evil", vendorFile(), "invalid_target"],
    ["an ending in the name", "add-repository", "vendor.sources", vendorFile(), "invalid_target"],
    ["a capital", "add-repository", "Vendor", vendorFile(), "invalid_target"],
    ["an option", "remove-repository", "-vendor", undefined, "invalid_target"],
    ["a hidden name", "remove-repository", ".vendor", undefined, "invalid_target"],
    ["a name of 64 letters", "add-repository", "v".repeat(64), vendorFile(), "invalid_target"],
    ["no name", "add-repository", "", vendorFile(), "invalid_target"],
  ])("%s", (_, operation, target, content, code) =>
    expect(plan(operation, target, content)).rejects.toMatchObject({ code }),
  );
});

describe("added", () => {
  test("the file to the byte, the key, and the index as its key has signed it", async () => {
    const made = await add();
    expect(made.asked).toEqual([
      { url: "https://vendor.example/debian/dists/stable/InRelease", proxy: undefined },
    ]);
    expect(made.repository).toMatchObject({
      ...{ name: "vendor", path: FILE, before: null, after: vendorFile(), previous_key: null },
      key: { fingerprint: KEY, algorithm: "Ed25519" },
    });
    expect(made.command_preview).toEqual([
      "aegis",
      "repository",
      "add",
      "vendor",
      `sha256:${sha256Hex(vendorFile())}`,
    ]);
    expect(apt.signedArgv(made)).toEqual(made.command_preview);
    expect(made.transaction).toEqual([]);
    expect(made.repository_evidence).toMatchObject([
      { signed_by: "embedded", signature_verified: true, release_sha256: sha256Hex(IN_RELEASE) },
    ]);
    // gpgv got exactly the key that is written.
    const [keyring] = [...made.temporaries].filter(([path]) => path.endsWith("keyring.gpg"));
    expect(Buffer.from(keyring?.[1] ?? "").toString("base64")).toContain(
      fixture("keys/repository/ed25519.asc").split("\n")[2] ?? "?",
    );
  });

  test("through apt's own proxy, unless it says DIRECT", async () => {
    const proxy = async (settings: string) => (await add({ dump: `${DUMP}${settings}` })).asked[0]?.proxy;
    expect(await proxy('Acquire::http::Proxy "http://cache:3142/";\n')).toBe("http://cache:3142/");
    expect(
      await proxy('Acquire::http::Proxy "http://cache:3142/";\nAcquire::https::proxy "http://other:1/";\n'),
    ).toBe("http://other:1/");
    expect(
      await proxy('Acquire::http::Proxy "http://cache:3142/";\nAcquire::https::Proxy "DIRECT";\n'),
    ).toBeUndefined();
    expect(
      await proxy('Acquire::http::Proxy "http://c:1/";\nAcquire::https::Proxy::vendor.example "DIRECT";\n'),
    ).toBeUndefined();
  });

  test("Release with a signature beside it", async () => {
    const { asked, repository_evidence } = await add({
      served: { Release: "Origin: V\nSuite: stable\n", "Release.gpg": "x" },
    });
    expect(asked.map(({ url }) => url.split("/").at(-1))).toEqual(["InRelease", "Release", "Release.gpg"]);
    expect(repository_evidence).toMatchObject([{ release_origin: "V", signature_verified: true }]);
  });

  test.each<[what: string, host: Host]>([
    ["a server that doesn't answer", { fails: new AegisError("unavailable", "can't reach vendor.example") }],
    ["plain http, which planning doesn't fetch", { fails: new AegisError("refused", "plain HTTP") }],
    ["no index there", { served: {} }],
  ])("%s: a warning, and nothing verified", async (_, host) => {
    const made = await add(host);
    expect(made.metadata_available).toBe(true);
    expect(made.warnings).toEqual([expect.stringMatching(/^W: /)]);
    expect(made.repository_evidence).toMatchObject([
      { release_sha256: null, signature_verified: false, problems: ["its index was not fetched"] },
    ]);
  });

  test("what apt could not use is not fetched, and no update is advised that would not bring it", async () => {
    const made = await add({
      files: { [FILE]: "Types: deb\nURIs: https://me:secret@vendor.example/\nSuites: ./\n" },
    });
    expect([made.metadata_available, made.asked]).toEqual([false, []]);
    expect(made.repository_evidence.map(({ problems }) => problems)).toEqual([["its index was not fetched"]]);
  });

  test("already there: nothing to do", async () => {
    const made = await add({ files: { [FILE]: vendorFile() } });
    expect([made.nothing_to_do, made.repository]).toEqual([true, undefined]);
  });

  test("in place of another: both keys, and the change of key is a warning", async () => {
    const made = await add({ files: { [FILE]: vendorFile("rsa2048") } });
    expect(made.repository).toMatchObject({
      before: vendorFile("rsa2048"),
      previous_key: { algorithm: "RSA 2048" },
    });
    expect(made.command_preview.slice(2, 4)).toEqual(["replace", "vendor"]);
    expect(made.warnings.join("\n")).toContain(
      `its key would change from F9E00D5B06C6081F14AE49A9BFE1C8079EF2FD1D to ${KEY}`,
    );
  });

  test("a weak key is a warning", async () =>
    expect((await add({}, vendorFile("dsa1024-sha1"))).warnings.join("\n")).toContain("SHA-1 only"));

  test("what is planned again is what was planned", async () => {
    const made = await add();
    expect(contentOfPlan(made)).toBe(vendorFile());
    expect((await add({}, contentOfPlan(made))).repository).toEqual(made.repository);
    expect(
      contentOfPlan(
        await plan("remove-repository", "vendor", undefined, { files: { [FILE]: vendorFile() } }),
      ),
    ).toBeUndefined();
  });
});

describe("removed", () => {
  test("the file, whoever wrote it", async () => {
    const made = await plan("remove-repository", "vendor", undefined, {
      files: { [FILE]: `# mine\n${STANZA}` },
    });
    expect(made.command_preview).toEqual([
      "aegis",
      "repository",
      "remove",
      "vendor",
      `sha256:${sha256Hex(`# mine\n${STANZA}`)}`,
    ]);
    expect([made.repository?.after, made.network_access]).toEqual([null, false]);
    expect(made.asked).toEqual([]);
  });
  test("there is none: nothing to do", async () =>
    expect((await plan("remove-repository", "vendor", undefined)).nothing_to_do).toBe(true));
});

describe("undone", () => {
  const record = (repository: ChangedRepository | undefined) =>
    canonicalJson({
      ...{ schema_version: "1.0", execution_plan_id: ID, plan_id: ID, state: "completed" },
      argv: ["aegis", "repository", "add", "vendor", `sha256:${"0".repeat(64)}`],
      ...{ exit_status: 0, code: null, message: null, started_at: "", ended_at: "", submitted_by_uid: 0 },
      ...{ not_as_planned: [], changed_besides: [], inverse: [] },
      ...(repository === undefined ? {} : { repository }),
    });
  const undo = (repository: ChangedRepository | undefined, now: string | null) =>
    plan("rollback", ID, undefined, {
      files: {
        [`/var/lib/aegis/results/${ID}.json`]: record(repository),
        ...(now === null ? {} : { [FILE]: now }),
      },
    });
  const left = { name: "vendor", after_sha256: sha256Hex(vendorFile()) };

  test("a new file goes", async () => {
    const made = await undo({ ...left, before: null }, vendorFile());
    expect(made.command_preview.slice(2, 4)).toEqual(["remove", "vendor"]);
    expect(made.provenance_evidence).toMatchObject([
      { kind: "apt-recorded-inverse", subject: FILE, verified: true },
    ]);
  });
  test("the old bytes come back", async () => {
    const made = await undo({ ...left, before: STANZA }, vendorFile());
    expect([made.repository?.after, made.command_preview[2]]).toEqual([STANZA, "replace"]);
    expect(made.asked).toEqual([]);
  });
  test("it is as it was: nothing to do", async () =>
    expect((await undo({ ...left, before: null }, null)).nothing_to_do).toBe(true));
  test("it changed nothing: nothing to do", async () =>
    expect((await undo(undefined, vendorFile())).nothing_to_do).toBe(true));
  test("changed since: not undone", async () => {
    const made = await undo({ ...left, before: null }, `${vendorFile()}# mine\n`);
    expect([made.metadata_available, made.warnings[0]]).toEqual([
      false,
      expect.stringContaining("has been changed since"),
    ]);
  });
});

describe("a request is about one file", () => {
  test("another text is another request", () =>
    expect(askedOtherwise(adding(), adding({}, vendorFile("rsa2048")))).toBe("repository"));
  test("the same text is the same, whatever it replaces", () =>
    expect(askedOtherwise(adding(), replacing(vendorFile("rsa2048")))).toBeUndefined());
});
