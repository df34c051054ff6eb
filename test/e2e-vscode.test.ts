import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Chain, startChain } from "./e2e-kit.ts";
import { needs } from "./needs.ts";
import { provesRollback } from "./rollback-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { type FakeExtension, serveGallery } from "./vscode-kit.ts";
import { codeServer, installCodeServer } from "./vscode-peer.ts";

/*
 * VS Code's extensions from the plan to the log, with the real code-server and the compiled program, and a gallery of the test's own.
 */

const WORDS: FakeExtension = {
  id: "acme.words",
  version: "2.0.0",
  files: { "words.js": "exports.word = 'hello'" },
};
const ELF = Buffer.from("\x7fELF\x02\x01\x01", "latin1");
const GREETER: FakeExtension = {
  id: "Acme.Greeter",
  version: "1.0.0",
  manifest: { main: "./main.js", extensionDependencies: ["acme.words"] },
  files: { "main.js": "exports.activate = () => 'one'", "README.md": "# Greeter\n" },
};
const NEWER: FakeExtension = {
  ...GREETER,
  version: "1.1.0",
  manifest: { main: "./main.js", extensionPack: ["acme.words"] },
  files: { "main.js": "exports.activate = () => 'two'" },
};
const NATIVE: FakeExtension = {
  id: "acme.native",
  version: "1.0.0",
  platform: "linux-x64",
  // Part of the editor, so nobody is asked for it.
  manifest: { extensionDependencies: ["vscode.git"] },
  files: { "bin/run": ELF },
};
const DRAGS: FakeExtension = {
  id: "acme.drags",
  version: "1.0.0",
  manifest: { extensionPack: ["evil.other"] },
};

/**
 * In the place of Microsoft's `code`, which can't be had: unpacks what the gallery answers, as `code` does, and `also` besides. (The
 * real one has its gallery's address in its product.json, and doesn't read the variable.)
 */
const stubOfCode = (also: string) => `#!/usr/bin/python3
import io, json, os, sys, urllib.request, zipfile
if sys.argv[1:] == ["--version"]: print("1.100.3\\nabc\\nx64"); sys.exit()
base = json.loads(os.environ["EXTENSIONS_GALLERY"])["serviceUrl"]
at = sys.argv[sys.argv.index("--extensions-dir") + 1]
query = urllib.request.Request(base + "/extensionquery", data=b"{}", method="POST")
entries = []
def unpack(id, version, files):
    name = id + "-" + version
    for path, data in files.items():
        target = os.path.join(at, name, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "wb").write(data)
    entries.append({"identifier": {"id": id}, "version": version, "relativeLocation": name})
for one in json.load(urllib.request.urlopen(query))["results"][0]["extensions"]:
    id = one["publisher"]["publisherName"] + "." + one["extensionName"]
    version = one["versions"][0]
    url = version["assetUri"] + "/Microsoft.VisualStudio.Services.VSIXPackage"
    vsix = zipfile.ZipFile(io.BytesIO(urllib.request.urlopen(url).read()))
    files = {path[10:]: vsix.read(path) for path in vsix.namelist() if path.startswith("extension/")}
    unpack(id, version["version"], {**files, ".vsixmanifest": vsix.read("extension.vsixmanifest")})
${also}
json.dump(entries, open(os.path.join(at, "extensions.json"), "w"))
`;

const PEER = codeServer();
const ROOT = "/var/lib/aegis/vscode/extensions";

needs(PEER !== null, "code-server from npm, and what builds its native modules").describe("code-server", () =>
  describeOnThrowaway("from intent to an extension", () => {
    let server: ReturnType<typeof Bun.serve>;
    let chain: Chain;
    let extensions = [WORDS, GREETER, NEWER, NATIVE, DRAGS];
    /** The gallery shows planning, which asks for the first byte to begin with, another file than it gives for the run. */
    let isTwoFaced = false;

    beforeAll(async () => {
      const alter = (body: Buffer, { url, headers }: Request) => {
        if (isTwoFaced && url.endsWith(".vsix") && !headers.has("range"))
          body.writeUInt8(body.readUInt8(body.length - 1) ^ 1, body.length - 1);
        return body;
      };
      server = serveGallery(() => extensions, alter);
      chain = await startChain();
      const { host } = chain;
      for (const user of ["aegis-build", "aegis-fetch"])
        await host.exec(["useradd", "--system", "--no-create-home", user]);
      await installCodeServer(host, PEER ?? "");
      const { port } = server;
      host.write("/etc/aegis/aegisd.env", `AEGIS_VSCODE_GALLERY=http://127.0.0.1:${port}/vscode/gallery\n`);
      const policy = ['apply = "require_human"', `allowed_registries = ["127.0.0.1:${port}"]`];
      host.write("/etc/aegis/policy.toml", `[vscode]\n${policy.join("\n")}\n`);
      await chain.startDaemon();
    }, 240_000);
    afterAll(async () => {
      await chain.stop();
      await server.stop(true);
    });

    /** What code-server itself says is installed, as an ordinary user. */
    const listed = async () => {
      const args = ["--list-extensions", "--show-versions", "--extensions-dir", ROOT];
      const own = ["--user-data-dir", "/tmp/bob-data"];
      const { stdout } = await chain.host.exec(["code-server", ...args, ...own], { user: "bob" });
      return stdout.replace(/^\[.*\n/gm, "");
    };
    const apply = async (target: string) => {
      const { path } = await chain.signed("vscode", "install", target);
      const { status, stderr } = await chain.apply(path);
      expect([status, stderr]).toEqual([0, expect.not.stringContaining("error")]);
      return path;
    };

    test("an extension is planned, approved, signed, installed with what it needs, and listed; not twice", async () => {
      const { host } = chain;
      const path = await apply("acme.greeter@1.0.0");
      expect(await listed()).toBe("acme.greeter@1.0.0\nacme.words@2.0.0\n");
      const files = await host.exec(["find", "/var/lib/aegis/vscode", "-type", "f", "-printf", "%u %m %P\n"]);
      expect(files.stdout.trim().split("\n").sort()).toEqual([
        "root 644 extensions/acme.greeter-1.0.0/.vsixmanifest",
        "root 644 extensions/acme.greeter-1.0.0/README.md",
        "root 644 extensions/acme.greeter-1.0.0/main.js",
        "root 644 extensions/acme.greeter-1.0.0/package.json",
        "root 644 extensions/acme.words-2.0.0/.vsixmanifest",
        "root 644 extensions/acme.words-2.0.0/package.json",
        "root 644 extensions/acme.words-2.0.0/words.js",
        "root 644 extensions/extensions.json",
      ]);
      const main = await host.exec(["cat", `${ROOT}/acme.greeter-1.0.0/main.js`], { user: "bob" });
      expect(main.stdout).toBe("exports.activate = () => 'one'");
      expect((await chain.apply(path)).status).toBe(6);
      expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
    }, 120_000);

    test("one for this platform comes beside it", async () => {
      await apply("acme.native@1.0.0");
      expect(await listed()).toBe("acme.greeter@1.0.0\nacme.native@1.0.0\nacme.words@2.0.0\n");
    }, 120_000);

    test(
      "what an upgrade replaced comes back, and what that replaced",
      () => provesRollback(chain, "vscode", "acme.greeter@1.1.0", listed),
      300_000,
    );

    test("a package file that the gallery has changed since the plan: refused, and nothing is installed", async () => {
      const before = await listed();
      const { path } = await chain.signed("vscode", "install", "acme.words@2.0.0");
      extensions = extensions.map((one) =>
        one === WORDS ? { ...WORDS, files: { "words.js": "evil()" } } : one,
      );
      const { status, stderr } = await chain.apply(path);
      expect([status, stderr]).toEqual([expect.any(Number), expect.stringContaining("drift")]);
      expect(status).not.toBe(0);
      expect(await listed()).toBe(before);
      extensions = extensions.map((one) => (one.id === WORDS.id ? WORDS : one));
    }, 120_000);

    test("a gallery that gives another file for the run than for planning: refused at the first difference", async () => {
      const before = await listed();
      const { path } = await chain.signed("vscode", "install", "acme.words@2.0.0");
      isTwoFaced = true;
      const { status, stderr } = await chain.apply(path);
      isTwoFaced = false;
      expect([status, stderr]).toEqual([9, expect.stringContaining("evidence_mismatch")]);
      expect(await listed()).toBe(before);
    }, 120_000);

    test("an extension that drags in another, which the gallery has: in the plan, and for a person", async () => {
      extensions = [...extensions, { id: "evil.other", version: "6.6.6" }];
      const { plan } = await chain.plan("vscode", "install", "acme.drags@1.0.0");
      expect(plan.transaction.map(({ name, required_by }) => [name, required_by])).toEqual([
        ["acme.drags", undefined],
        ["evil.other", "acme.drags 1.0.0"],
      ]);
    });

    test("one that the gallery begins to have between plan and run is another change", async () => {
      const tame = { ...DRAGS, version: "1.0.1", manifest: {} };
      extensions = [...extensions, tame];
      const { path } = await chain.signed("vscode", "install", "acme.drags@1.0.1");
      extensions = extensions.map((one) =>
        one === tame ? { ...tame, manifest: DRAGS.manifest ?? {} } : one,
      );
      const { status, stderr } = await chain.apply(path);
      expect(status).not.toBe(0);
      expect(stderr).toContain("evil.other");
      expect(await listed()).not.toContain("evil.other");
    }, 120_000);

    describe("a program named code (a stub)", () => {
      const useCode = async (also: string) => {
        chain.host.write("/usr/local/bin/code", stubOfCode(also));
        await chain.host.exec(["chmod", "755", "/usr/local/bin/code"]);
        await chain.host.exec(["mv", "/usr/local/bin/code-server", "/root/code-server"]);
      };
      const back = () => chain.host.exec(["mv", "/root/code-server", "/usr/local/bin/code-server"]);

      test("is run as it was signed, and what it left is compared", async () => {
        await useCode("");
        const { execution, path } = await chain.signed("vscode", "install", "acme.native@1.0.0");
        expect(execution.argv.slice(0, 3)).toEqual(["code", "--install-extension", "acme.native@1.0.0"]);
        const { status, stderr } = await chain.apply(path);
        await back();
        // It takes the extension for one of all platforms.
        expect([status, stderr]).toEqual([6, expect.stringContaining("acme.native-1.0.0-linux-x64")]);
        await useCode("");
        await apply("acme.greeter@1.1.0");
        await back();
        expect(await listed()).toContain("acme.greeter@1.1.0\n");
      }, 120_000);

      const ATTACKS: [string, string, string][] = [
        [
          "installs another",
          'unpack("evil.other", "6.6.6", {"package.json": b\'{"publisher":"evil","name":"other","version":"6.6.6"}\'})',
          "evil.other",
        ],
        [
          "lists another",
          'entries.append({"identifier": {"id": "evil.other"}, "version": "1.0.0", "relativeLocation": "x"})',
          "evil.other",
        ],
        [
          "changes a file",
          'open(os.path.join(at, "acme.words-2.0.0/words.js"), "w").write("evil()")',
          "words.js",
        ],
        ["adds a file", 'open(os.path.join(at, "acme.words-2.0.0/more.js"), "w").write("evil()")', "more.js"],
        ["leaves one out", 'os.remove(os.path.join(at, "acme.words-2.0.0/words.js"))', "words.js"],
      ];
      test.each(ATTACKS)(
        "that %s: refused, and the directory is as it was",
        async (_what, also, why) => {
          const before = await listed();
          await useCode(also);
          const { path } = await chain.signed("vscode", "install", "acme.words@2.0.0");
          const { status, stderr } = await chain.apply(path);
          await back();
          expect([status, stderr]).toEqual([6, expect.stringContaining(why)]);
          expect(await listed()).toBe(before);
        },
        60_000,
      );
    });
  }),
);
