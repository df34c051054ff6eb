import { afterAll, beforeAll, expect, test } from "bun:test";
import { brokenInvariants, kindsOf, resultOf } from "./e2e-running.ts";
import { needs } from "./needs.ts";
import { describeOnSystemd, mustExec, type Production, startProduction } from "./systemd-kit.ts";
import { repackDirectory, repacked } from "./systemd-repack.ts";
import { archiveReachable, isUbuntu, type Suite } from "./systemd-root.ts";

/*
 * needrestart, which Ubuntu Server ships: apt's hook that restarts what runs old code. After an upgrade of libc6 that is
 * every service, the runner that waits for this very apt among them.
 */

const OVERRIDE = "/etc/needrestart/conf.d/aegis.conf";
/** An upgrade takes seconds; one whose hook waits for its own apt never ends. */
const LIMIT_MS = 150_000;

describeOnSystemd("needrestart", (suite) => {
  needs(archiveReachable(suite), `the archive of ${suite}`).describe("upgrades", () => upgrades(suite));
});

function upgrades(suite: Suite): void {
  let chain: Production;
  const kept = repackDirectory();

  beforeAll(async () => {
    chain = await startProduction(suite);
    const { host } = chain;
    host.addDebian({ updates: true });
    await host.aptUpdate();
    await host.aptInstall("needrestart");
    // What Ubuntu does by itself: restart everything without asking.
    if (!isUbuntu(suite)) host.write("/etc/needrestart/conf.d/auto.conf", "$nrconf{restart} = 'a';\n");
    host.write("/etc/aegis/policy.toml", "[snapshot]\naccept_declared = true\n");
  }, 300_000);
  afterAll(async () => {
    await chain?.stop();
    kept.remove();
  });

  /** Runs a plan in the whole chain, with a limit, and says how long apt took. */
  const upgrade = async (what: string, ...words: readonly string[]) => {
    const before = await chain.dpkgVersion("libc6");
    const { execution, path } = await chain.signed("apt", ...words);
    const id = execution.execution_plan_id;
    const begun = performance.now();
    const { status, stderr } = await chain.host.exec(["aegis", "apply", path], {
      user: "alice",
      timeoutMs: LIMIT_MS,
    });
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    const after = await chain.dpkgVersion("libc6");
    const packages = execution.operation_plan.transaction.length;
    process.stderr.write(
      `${suite}: ${what}: ${packages} packages, libc6 ${before} → ${after}, ${seconds} s\n`,
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.any(String) });
    expect(after).not.toBe(before);
    return id;
  };
  const completed = (id: string) => {
    expect(resultOf(chain, id)?.state).toBe("completed");
    expect(kindsOf(chain, id)).toEqual(["execution_started", "execution_completed"]);
  };

  test(
    "an upgrade of everything, libc6 among it, ends",
    async () => {
      if (!isUbuntu(suite))
        await chain.host.repo.publish([await repacked(chain.host, "libc6", "+a1", kept.path)]);
      await chain.host.aptUpdate();
      completed(await upgrade("apt upgrade", "upgrade"));
    },
    LIMIT_MS + 90_000,
  );

  test(
    "without needrestart's override file too: systemd refuses to stop the runner, and needrestart goes on",
    async () => {
      const { host } = chain;
      host.write("/etc/needrestart/conf.d/auto.conf", "$nrconf{restart} = 'a';\n");
      await mustExec(host, ["mv", OVERRIDE, "/root"]);
      await host.repo.publish([await repacked(host, "libc6", "+a2", kept.path)]);
      await host.aptUpdate();
      const id = await upgrade("libc6 without the override file", "upgrade");
      completed(id);
      const said =
        host.read(`/var/lib/aegis/runs/${id}/stdout`) + host.read(`/var/lib/aegis/runs/${id}/stderr`);
      // needrestart itself asks systemd whether a unit may be stopped (RefuseManualStop=).
      expect(said).toMatch(/restarts being refused by systemd:\n\s*aegis-runner@/);
      await mustExec(host, ["mv", "/root/aegis.conf", OVERRIDE]);
    },
    LIMIT_MS + 90_000,
  );

  test("nothing is left over", async () => {
    expect((await chain.aegis(["daemon", "status"], { user: "root" })).stdout).not.toContain("told to stop");
    expect(await brokenInvariants(chain)).toEqual([]);
  });
}
