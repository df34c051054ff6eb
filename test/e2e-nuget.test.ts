import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import { readZip } from "../src/eco-zip.ts";
import { nugetManaged } from "../src/nuget-managed.ts";
import { makeSigner, REPOSITORY, signedData, signedPackage, signerInfo } from "./cms-kit.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { kindsOf } from "./e2e-running.ts";
import { needs } from "./needs.ts";
import { NUGET_DEBS, unpackNuget } from "./nuget-debian.ts";
import { type FakeNupkg, fakeSource, nupkgFile } from "./nuget-kit.ts";
import { type RegistryAnswer, serveAnswers } from "./registry-kit.ts";
import { provesRollback } from "./rollback-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * NuGet from the plan to the log, with Debian's nuget on Mono and the compiled program, and a package source of the test's own.
 */

const ROOT = "/var/lib/aegis/nuget/packages";
const words = (version: string, text: string): FakeNupkg => ({
  ...{ id: "Words", version, files: { "lib/net45/words.txt": text, "content/a%20b.txt": "escaped" } },
});
const CHANGING: FakeNupkg = {
  ...{ id: "Changing", version: "1.0.0", files: { "lib/net45/c.txt": "before" } },
};
const PACKAGES: FakeNupkg[] = [
  words("1.0.0", "hello"),
  words("1.1.0", "hello again"),
  words("2.0.0", "hi"),
  {
    ...{
      id: "Greeter",
      version: "1.0",
      files: { "tools/init.ps1": "Write-Host hi", "lib/net45/greeter.txt": "1" },
    },
    groups: {
      ".NETFramework4.5": [{ id: "words", version: "1.0" }],
      "net6.0": [{ id: "Words", version: "1.1" }],
    },
  },
  {
    id: "Greeter",
    version: "1.2.0",
    files: { "lib/net45/greeter.txt": "2" },
    dependencies: [{ id: "Words", version: "[2.0.0]" }],
  },
  { id: "Lone", version: "1.0.0", files: { "lib/net45/lone.txt": "alone" } },
  CHANGING,
  { id: "Wants", version: "1.0.0", dependencies: [{ id: "Words", version: "[1.0.5, 2.0)" }] },
];

const signer = makeSigner("e2e-repository");
/** A package that its source has signed. */
const SIGNED: FakeNupkg = {
  ...{ id: "Signed", version: "1.0.0" },
  file: signedPackage(
    readZip(nupkgFile({ id: "Signed", version: "1.0.0" })).map(({ path, data }) => ({
      name: path,
      body: data,
    })),
    (content) => signedData(content, [signerInfo(content, { by: signer, kinds: [REPOSITORY] })], [signer]),
  ).file,
};

needs(NUGET_DEBS !== null, "Debian's packages of nuget, by apt-get").describe("Debian's nuget", () =>
  describeOnThrowaway("from intent to packages", () => {
    let server: ReturnType<typeof Bun.serve>;
    let chain: Chain;
    let answers: Record<string, RegistryAnswer> = {};
    /** Changes what the source sends. */
    let spoiled: ((body: Buffer, request: Request) => Buffer) | null = null;
    const policy = (more = "") =>
      chain.host.write(
        "/etc/aegis/policy.toml",
        `[nuget]\napply = "require_human"\nallowed_registries = ["127.0.0.1:${server.port}"]\n${more}`,
      );
    const found = async () => {
      const { stdout } = await chain.host.exec(["find", ROOT, "-type", "f", "-printf", "%P\\n"]);
      return stdout
        .split("\n")
        .filter((line) => line !== "")
        .sort();
    };
    const text = async (path: string) => (await chain.host.exec(["cat", `${ROOT}/${path}`])).stdout;

    beforeAll(async () => {
      server = serveAnswers(
        () => answers,
        (body, request) => spoiled?.(body, request) ?? body,
      );
      const base = server.url.origin;
      const signatures = { "@id": `${base}/signatures`, "@type": "RepositorySignatures/5.0.0" };
      answers = fakeSource([...PACKAGES, SIGNED], { base, more: [signatures] });
      const fingerprints = { "2.16.840.1.101.3.4.2.1": signer.fingerprint };
      answers[signatures["@id"]] = JSON.stringify({ signingCertificates: [{ fingerprints }] });
      chain = await startChain();
      const { host } = chain;
      for (const user of ["aegis-build", "aegis-fetch"])
        await host.exec(["useradd", "--system", "--no-create-home", user]);
      await unpackNuget(host);
      host.write("/etc/aegis/aegisd.env", `AEGIS_NUGET_SOURCE=${base}/v3/index.json\n`);
      policy();
      await chain.startDaemon();
    }, 180_000);
    afterAll(async () => {
      await chain.stop();
      await server.stop(true);
    });

    test("a package is planned with what it needs, approved, signed, installed without a network; not twice", async () => {
      const { execution, path } = await chain.signed("nuget", "install", "greeter@1.0.0");
      const { transaction, raw_evidence, risk_signals } = execution.operation_plan;
      expect(transaction.map(({ name, to_version }) => `${name} ${to_version}`)).toEqual([
        "Greeter 1.0.0",
        "Words 1.1.0",
      ]);
      expect(raw_evidence.commands).toEqual([]);
      expect(risk_signals).toContain("powershell-risk");
      const applied = await chain.apply(path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      expect(await found()).toEqual([
        ...[
          "Greeter.1.0/Greeter.1.0.nupkg",
          "Greeter.1.0/lib/net45/greeter.txt",
          "Greeter.1.0/tools/init.ps1",
        ],
        ...[
          "Words.1.1.0/Words.1.1.0.nupkg",
          "Words.1.1.0/content/a b.txt",
          "Words.1.1.0/lib/net45/words.txt",
        ],
      ]);
      expect(await text("Words.1.1.0/lib/net45/words.txt")).toBe("hello again");
      const { stdout } = await chain.host.exec(["find", "/var/lib/aegis/nuget", "!", "-user", "root"]);
      expect(stdout).toBe("");
      expect((await chain.apply(path)).status).toBe(6);
      expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
    }, 180_000);

    test("another package leaves what is there", async () => {
      const { path } = await chain.signed("nuget", "install", "Lone@1.0.0");
      const before = await found();
      expect((await chain.apply(path)).status).toBe(0);
      const added = ["Lone.1.0.0/Lone.1.0.0.nupkg", "Lone.1.0.0/lib/net45/lone.txt"];
      expect(await found()).toEqual([...before, ...added].sort());
    }, 120_000);

    test(
      "what an upgrade brought goes again, and comes back",
      () => provesRollback(chain, "nuget", "Greeter@1.2.0", async () => (await found()).join("\n"), "remove"),
      300_000,
    );

    const changing = (over: Partial<FakeNupkg>) => () =>
      fakeSource([{ ...CHANGING, ...over }], { base: server.url.origin });
    const versionsOf = (...versions: string[]) => ({
      [`${server.url.origin}/flat/words/index.json`]: JSON.stringify({ versions }),
    });
    /** What happens at the source between plan and run, and what apply says of it. */
    const CHANGES: [string, string, () => Record<string, RegistryAnswer>, RegExp][] = [
      [
        "another package under the same version, catalog and all",
        "Changing@1.0.0",
        changing({ files: { "lib/net45/c.txt": "after" } }),
        /Changing/,
      ],
      [
        "another file, the catalog as it was",
        "Changing@1.0.0",
        () => {
          const file = nupkgFile({ ...CHANGING, files: { "lib/net45/c.txt": "after" } });
          return { [`${server.url.origin}/flat/changing/1.0.0/changing.1.0.0.nupkg`]: file };
        },
        /a file that doesn't match its metadata/,
      ],
      [
        "another hash in the catalog, the file as it was",
        "Changing@1.0.0",
        changing({ entry: { packageHash: Buffer.alloc(64, 7).toString("base64") } }),
        /a file that doesn't match its metadata/,
      ],
      [
        "a dependency that the plan lacks",
        "Changing@1.0.0",
        changing({ dependencies: [{ id: "Lone", version: "1.0" }] }),
        /Lone/,
      ],
      [
        "a lower version that suits, which nuget would take",
        "Wants@1.0.0",
        () => ({
          ...fakeSource([words("1.0.5", "hello, too")], { base: server.url.origin }),
          ...versionsOf("1.0.0", "1.0.5", "1.1.0", "2.0.0"),
        }),
        /Words/,
      ],
      [
        "the planned version is gone from the list",
        "Wants@1.0.0",
        () => versionsOf("1.0.0", "2.0.0"),
        /Words/,
      ],
    ];
    test.each(CHANGES)(
      "between plan and run: %s: refused with exit status 9, audited, and nothing is left",
      async (_, target, change, says) => {
        const before = await found();
        const { path, execution } = await chain.signed("nuget", "install", target);
        const kept = answers;
        answers = { ...answers, ...change() };
        const applied = await chain.apply(path);
        answers = kept;
        expect([applied.status, applied.stderr]).toEqual([9, expect.stringMatching(says)]);
        const [event, ...more] = chain
          .audit()
          .filter((one) => one["execution_id"] === execution.execution_plan_id);
        expect([event, more]).toMatchObject([{ kind: "execution_denied", details: { code: "drift" } }, []]);
        expect(await found()).toEqual(before);
      },
      120_000,
    );

    test("a source that gives another file for the run than for planning: refused at the first difference", async () => {
      const before = await found();
      const { path, execution } = await chain.signed("nuget", "install", "Changing@1.0.0");
      let asked = 0;
      // First the executor plans again, then the file is fetched for the run.
      spoiled = (body, request) => {
        if (request.url.endsWith(".nupkg") && ++asked > 1)
          body.writeUInt8(body.readUInt8(body.length - 1) ^ 1, body.length - 1);
        return body;
      };
      const applied = await chain.apply(path);
      spoiled = null;
      expect([applied.status, applied.stderr]).toEqual([9, expect.stringContaining("evidence_mismatch")]);
      expect(kindsOf(chain, execution.execution_plan_id)).toEqual(["execution_denied"]);
      expect(await found()).toEqual(before);
    }, 120_000);

    describe("nuget by itself, from a feed like ours", () => {
      /** Runs Debian's nuget against the closed feed's routes for these packages, `change` applied. */
      const install = async (
        packages: readonly FakeNupkg[],
        target: string,
        change: (body: string) => string = (same) => same,
      ) => {
        const { host } = chain;
        const directory = mkdtempSync(join(tmpdir(), "aegis-nuget-feed-"));
        const files = packages.map((one) => {
          const path = join(directory, one.id);
          const bytes = nupkgFile(one);
          writeFileSync(path, bytes);
          const known = { name: one.id, version: one.version, isSupport: false, url: "", integrity: "" };
          return { ...known, sha256: sha256Hex(bytes), size: bytes.length, path };
        });
        const feed = Bun.serve({
          ...{ hostname: "127.0.0.1", port: 0 },
          async fetch(request) {
            const { pathname, search, origin } = new URL(request.url);
            const routes = await nugetManaged.routes(files, origin);
            const route = routes.get(decodeURIComponent(`${pathname}${search}`));
            if (route === undefined) return new Response(null, { status: 404 });
            return new Response("body" in route ? change(route.body) : Bun.file(route.file), {
              headers: { "content-type": route.type },
            });
          },
        });
        const address = feed.url.origin;
        const { files: settings = {} } = nugetManaged.settings(
          { registry: address, home: "", scratch: "" },
          [],
        );
        // nuget keeps what it has downloaded in HOME.
        await host.exec(["rm", "-rf", "/root/out", "/root/feed"]);
        for (const [name, text] of Object.entries(settings)) host.write(`/root/feed/${name}`, text);
        const words = [
          "install",
          target,
          "-Version",
          "1.0.0",
          "-OutputDirectory",
          "/root/out",
          "-NonInteractive",
        ];
        const ran = await host.exec(["nuget", ...words], { env: { HOME: "/root/feed" }, timeoutMs: 60_000 });
        const { stdout } = await host.exec(["find", "/root/out", "-name", "*.nupkg", "-printf", "%f\n"]);
        await feed.stop(true);
        rmSync(directory, { recursive: true });
        return { status: ran.status, said: `${ran.stdout}${ran.stderr}`, left: stdout.trim().split("\n") };
      };
      const LONE: FakeNupkg = { id: "Lone", version: "1.0.0", files: { "lib/net45/lone.txt": "alone" } };
      const WANTS: FakeNupkg = {
        id: "Wants",
        version: "1.0.0",
        dependencies: [{ id: "Lone", version: "1.0" }],
      };

      test("it takes a package whose hash in the feed is another: nothing rests on nuget's own check", async () => {
        const wrong = (body: string) =>
          body.replace(
            /(<d:PackageHash>)[^<]+/g,
            (_, tag: string) => `${tag}${Buffer.alloc(64, 7).toString("base64")}`,
          );
        const { status, left } = await install([LONE], "Lone", wrong);
        expect([status, left]).toEqual([0, ["Lone.1.0.0.nupkg"]]);
      }, 90_000);
      test("a dependency that the plan lacks is in no feed of a run, so it fails", async () => {
        expect(await install([WANTS, LONE], "Wants")).toMatchObject({ status: 0 });
        const { status, said, left } = await install([WANTS], "Wants");
        expect([status, said, left]).toEqual([1, expect.stringContaining("Lone"), [""]]);
      }, 90_000);
    });

    test("another hash in the source's catalog than the file has: nothing is planned, and policy denies", async () => {
      const kept = answers;
      const entry = { packageHash: Buffer.alloc(64, 7).toString("base64") };
      const wrong: FakeNupkg = { id: "Lone", version: "1.0.0", entry };
      answers = { ...answers, ...fakeSource([wrong], { base: server.url.origin }) };
      const { plan } = await chain.plan("nuget", "install", "Lone@1.0.0");
      answers = kept;
      expect([plan.metadata_available, plan.transaction]).toEqual([false, []]);
      expect(plan.warnings.join()).toContain("a file that doesn't match its metadata");
      const { status, result } = await chain.policy(plan.plan_id);
      expect([status, result.decision, result.rules]).toEqual([
        ...[3, "deny"],
        expect.arrayContaining(["metadata-not-understood"]),
      ]);
    }, 60_000);

    test("require_provenance: what nobody has signed is denied, and what the source has signed is not", async () => {
      policy("require_provenance = true\n");
      const { plan } = await chain.plan("nuget", "install", "Lone@1.0.0");
      const { result } = await chain.policy(plan.plan_id);
      expect([result.decision, result.rules]).toEqual(["deny", expect.arrayContaining(["nuget-signature"])]);
      expect(result.reasons.join()).toContain(
        "no verified signature of its source, nor of an author in [nuget] authors",
      );
      const { path, execution } = await chain.signed("nuget", "install", "Signed@1.0.0");
      expect(execution.operation_plan.signature_or_checksum_status).toBe("signature-verified");
      expect((await chain.apply(path)).status).toBe(0);
      expect(await found()).toContain("Signed.1.0.0/Signed.1.0.0.nupkg");
      policy();
    }, 180_000);
  }),
);
