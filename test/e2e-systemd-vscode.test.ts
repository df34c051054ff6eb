import { afterAll, beforeAll, expect, test } from "bun:test";
import { brokenInvariants, kindsOf } from "./e2e-running.ts";
import { describeOnSystemd, mustExec, type Production, startProduction } from "./systemd-kit.ts";
import { codeServerRoot } from "./systemd-tools.ts";
import { type FakeExtension, serveGallery } from "./vscode-kit.ts";

/*
 * VS Code's extensions on a production host: the real code-server, in the units that `daemon install` writes.
 */

const ROOT = "/var/lib/aegis/vscode/extensions";
const EXTENSIONS: FakeExtension[] = [
  {
    ...{ id: "acme.greeter", version: "1.0.0", files: { "main.js": "exports.activate = () => 'hello'" } },
    manifest: { main: "./main.js", extensionDependencies: ["acme.words"] },
  },
  { id: "acme.words", version: "2.0.0", files: { "words.js": "exports.word = 'hello'" } },
];

describeOnSystemd(
  "VS Code",
  (suite) => {
    let chain: Production;
    let server: ReturnType<typeof serveGallery>;
    beforeAll(async () => {
      server = serveGallery(() => EXTENSIONS);
      chain = await startProduction(suite, codeServerRoot);
      const gallery = `http://127.0.0.1:${server.port}/vscode/gallery`;
      chain.host.write("/etc/aegis/aegisd.env", `AEGIS_VSCODE_GALLERY=${gallery}\n`);
      const registries = `allowed_registries = ["127.0.0.1:${server.port}"]`;
      chain.host.write("/etc/aegis/policy.toml", `[vscode]\napply = "require_human"\n${registries}\n`);
    }, 180_000);
    afterAll(async () => {
      await chain?.stop();
      await server?.stop(true);
    });

    /** What code-server says is installed, as an ordinary user. */
    const listed = async () => {
      const own = ["--user-data-dir", "/tmp/bob-data", "--extensions-dir", ROOT];
      const argv = ["code-server", "--list-extensions", "--show-versions", ...own];
      return (await chain.host.exec(argv, { user: "bob" })).stdout.replace(/^\[.*\n/gm, "");
    };

    test("from intent to an extension that bob has, not twice, and taken back", async () => {
      const { execution, path } = await chain.signed("vscode", "install", "acme.greeter@1.0.0");
      const { command_preview, transaction } = execution.operation_plan;
      expect([command_preview[0], transaction.map(({ name }) => name)]).toEqual([
        "code-server",
        ["acme.greeter", "acme.words"],
      ]);
      const applied = await chain.apply(path, "alice");
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error [")]);
      expect(await listed()).toBe("acme.greeter@1.0.0\nacme.words@2.0.0\n");
      expect(await mustExec(chain.host, ["find", ROOT, "!", "-user", "root"])).toBe("");
      const again = await chain.apply(path, "alice");
      expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
      expect(kindsOf(chain, execution.execution_plan_id)).toEqual([
        ...["execution_started", "execution_completed", "execution_denied"],
      ]);
      const undone = await chain.signed("rollback", execution.execution_plan_id);
      expect((await chain.apply(undone.path, "alice")).status).toBe(0);
      expect(await listed()).toBe("");
      const redone = await chain.signed("rollback", undone.execution.execution_plan_id);
      expect((await chain.apply(redone.path, "alice")).status).toBe(0);
      expect(await listed()).toBe("acme.greeter@1.0.0\nacme.words@2.0.0\n");
      expect(await mustExec(chain.host, ["aegis", "audit", "verify", "--system"])).not.toBe("");
      expect(await brokenInvariants(chain)).toEqual([]);
    }, 240_000);
  },
  codeServerRoot,
);
