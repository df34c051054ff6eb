import { afterAll, beforeAll, expect, test } from "bun:test";
import { readZip } from "../src/eco-zip.ts";
import { makeSigner, REPOSITORY, signedData, signedPackage, signerInfo } from "./cms-kit.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { needs } from "./needs.ts";
import { NUGET_DEBS, unpackNuget } from "./nuget-debian.ts";
import { type FakeNupkg, fakeSource, nupkgFile } from "./nuget-kit.ts";
import type { RegistryAnswer } from "./registry-kit.ts";
import { provesRollback } from "./rollback-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * NuGet from the plan to the log, with Debian's nuget on Mono and the compiled program, and a package source of the test's own.
 */

const ROOT = "/var/lib/aegis/nuget/packages";
const words = (version: string, text: string): FakeNupkg => ({
  ...{ id: "Words", version, files: { "lib/net45/words.txt": text, "content/a%20b.txt": "escaped" } },
});
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
  { id: "Changing", version: "1.0.0", files: { "lib/net45/c.txt": "before" } },
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
      server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch(request) {
          const answer = answers[request.url];
          const isBody = typeof answer === "string" || answer instanceof Uint8Array;
          return isBody ? new Response(Buffer.from(answer)) : new Response(null, { status: 404 });
        },
      });
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

    test("a package that was changed at its source since it was planned: refused, and nothing is left", async () => {
      const before = await found();
      const { path } = await chain.signed("nuget", "install", "Changing@1.0.0");
      const changed: FakeNupkg = { id: "Changing", version: "1.0.0", files: { "lib/net45/c.txt": "after" } };
      const kept = answers;
      answers = { ...answers, ...fakeSource([changed], { base: server.url.origin }) };
      const applied = await chain.apply(path);
      answers = kept;
      expect([applied.status, applied.stderr]).toEqual([9, expect.stringContaining("Changing")]);
      // The catalog as it was, and another file.
      const url = `${server.url.origin}/flat/changing/1.0.0/changing.1.0.0.nupkg`;
      answers = { ...kept, [url]: nupkgFile(changed) };
      const other = await chain.apply(path);
      answers = kept;
      expect([other.status, other.stderr]).toEqual([
        9,
        expect.stringContaining("a file that doesn't match its metadata"),
      ]);
      expect(await found()).toEqual(before);
    }, 180_000);

    test("another hash in the source's catalog than the file has: nothing is planned, and policy denies", async () => {
      const kept = answers;
      const entry = { packageHash: Buffer.alloc(64, 7).toString("base64") };
      const wrong: FakeNupkg = { id: "Lone", version: "1.0.0", entry };
      answers = { ...answers, ...fakeSource([wrong], { base: server.url.origin }) };
      const { plan } = await chain.plan("nuget", "install", "Lone@1.0.0");
      answers = kept;
      expect([plan.metadata_available, plan.transaction]).toEqual([false, []]);
      expect(plan.warnings.join()).toContain("a file that doesn't match its metadata");
      expect((await chain.policy(plan.plan_id)).result.decision).toBe("deny");
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
