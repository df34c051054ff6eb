import { afterAll, beforeAll, expect, test } from "bun:test";
import { kindsOf } from "./e2e-running.ts";
import { fakeSource } from "./nuget-kit.ts";
import { serveAnswers } from "./registry-kit.ts";
import { describeOnSystemd, mustExec, type Production, startProduction } from "./systemd-kit.ts";
import { nugetRoot } from "./systemd-tools.ts";

/*
 * NuGet on a production host: nuget, which is a program of Mono's, in the units that `daemon install` writes.
 */

const ROOT = "/var/lib/aegis/nuget/packages";
const PACKAGES = [
  {
    ...{ id: "Greeter", version: "1.0.0", dependencies: [{ id: "Words", version: "1.0" }] },
    files: { "lib/net45/greeter.txt": "hello" },
  },
  { id: "Words", version: "1.0.0", files: { "lib/net45/words.txt": "words" } },
];

describeOnSystemd(
  "NuGet",
  (suite) => {
    let chain: Production;
    let server: ReturnType<typeof Bun.serve>;
    beforeAll(async () => {
      server = serveAnswers((base) => fakeSource(PACKAGES, { base }));
      chain = await startProduction(suite, nugetRoot);
      chain.host.write("/etc/aegis/aegisd.env", `AEGIS_NUGET_SOURCE=${server.url.origin}/v3/index.json\n`);
      const registries = `allowed_registries = ["127.0.0.1:${server.port}"]`;
      chain.host.write("/etc/aegis/policy.toml", `[nuget]\napply = "require_human"\n${registries}\n`);
    }, 180_000);
    afterAll(async () => {
      await chain?.stop();
      await server?.stop(true);
    });

    test("from intent to packages, not twice, and taken back", async () => {
      const { execution, path } = await chain.signed("nuget", "install", "Greeter@1.0.0");
      expect(execution.operation_plan.transaction.map(({ name }) => name)).toEqual(["Greeter", "Words"]);
      const applied = await chain.apply(path, "alice");
      // Mono says that it may not raise its threads' priorities, and goes on: "… failed, error: …".
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error [")]);
      const file = `${ROOT}/Greeter.1.0.0/lib/net45/greeter.txt`;
      expect(await mustExec(chain.host, ["cat", file])).toBe("hello");
      expect(await mustExec(chain.host, ["find", ROOT, "!", "-user", "root"])).toBe("");
      const again = await chain.apply(path, "alice");
      expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
      expect(kindsOf(chain, execution.execution_plan_id)).toEqual([
        ...["execution_started", "execution_completed", "execution_denied"],
      ]);
      const undone = await chain.signed("rollback", execution.execution_plan_id);
      expect((await chain.apply(undone.path, "alice")).status).toBe(0);
      expect((await chain.host.exec(["cat", file])).stderr).toContain("No such file");
      expect(await mustExec(chain.host, ["aegis", "audit", "verify", "--system"])).not.toBe("");
    }, 180_000);
  },
  nugetRoot,
);
