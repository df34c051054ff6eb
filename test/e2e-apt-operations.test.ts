import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Chain, type Planned, startChain } from "./e2e-kit.ts";
import {
  atGate,
  brokenInvariants,
  eventually,
  executorProcesses,
  gated,
  kill,
  lastEvent,
  openGate,
  resultOf,
  submit,
} from "./e2e-running.ts";
import { type PackageDefinition, pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/* The operations besides install, upgrade and remove, each through the whole chain, with what an attacker or bad luck would do. */

const OWN: PackageDefinition[] = [gated("gate")];

describeOnThrowaway("holds", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    await chain.host.repo.publish([
      ...pick("hello-aegis=1.0", "hello-aegis=1.1", "bystander=1.0", "openssh-aegis=1.0"),
      ...OWN,
    ]);
    await chain.host.aptUpdate();
    await chain.host.aptInstall("hello-aegis=1.0", "bystander", "openssh-aegis");
    // A snapshot can't be had here.
    chain.host.write("/etc/aegis/policy.toml", '[apt]\nupgrade = "require_human"\n');
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  const decide = async (planned: Planned) => {
    const { result } = await chain.policy(planned.plan.plan_id);
    return [result.decision, ...result.rules];
  };
  const run = async (...args: readonly string[]): Promise<string> => {
    const { execution, path } = await chain.signed(...args);
    const { status, stdout, stderr } = await chain.apply(path, "alice");
    if (status !== 0) throw new Error(`apply ended with ${status}: ${stdout}${stderr}`);
    return execution.execution_plan_id;
  };

  test("hold, its rollback, and unhold: signed, compared with dpkg's selections, recorded", async () => {
    const planned = await chain.plan("apt", "hold", "hello-aegis");
    expect(planned.plan.command_preview).toEqual(["apt-mark", "hold", "hello-aegis"]);
    expect(await decide(planned)).toEqual(["require_human", "apt-hold"]);
    const { path, execution } = await chain.sign(planned);
    const id = execution.execution_plan_id;
    expect((await chain.apply(path, "alice")).status).toBe(0);
    expect(await chain.dpkgStatus("hello-aegis")).toBe("hold ok installed");
    expect(resultOf(chain, id)).toMatchObject({
      ...{ state: "completed", not_as_planned: [], changed_besides: [] },
      inverse: [{ package: "hello-aegis", before: "1.0", left: "1.0", held: false }],
    });
    expect((await chain.plan("apt", "hold", "hello-aegis")).plan.nothing_to_do).toBe(true);
    expect((await chain.plan("apt", "upgrade")).plan.packages_held_back).toContain("hello-aegis");
    const undo = await chain.plan("rollback", id);
    expect(undo.plan.command_preview).toEqual(["apt-mark", "unhold", "hello-aegis"]);
    expect(await decide(undo)).toEqual(["require_human", "apt-rollback"]);
    const undone = await run("rollback", id);
    expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
    expect((await chain.plan("rollback", id)).plan.nothing_to_do).toBe(true);
    await run("rollback", undone);
    expect(await chain.dpkgStatus("hello-aegis")).toBe("hold ok installed");
    await run("apt", "unhold", "hello-aegis");
    expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  test("of what keeps the host safe says that its security updates stop", async () => {
    const planned = await chain.plan("apt", "hold", "openssh-aegis");
    expect(await decide(planned)).toEqual(["require_human", "apt-hold", "apt-hold-sensitive"]);
    expect(planned.plan.warnings).toEqual([
      "No upgrade changes a package on hold, a security update neither: openssh-aegis",
    ]);
  });

  test("an upgrade that was signed before the hold is refused after it", async () => {
    const upgrade = await chain.signed("apt", "upgrade");
    expect(upgrade.planned.plan.packages_upgraded).toEqual(["hello-aegis"]);
    await run("apt", "hold", "hello-aegis");
    const { status, stderr } = await chain.apply(upgrade.path, "alice");
    expect([status, stderr]).toEqual([
      9,
      expect.stringContaining("signed upgrade hello-aegis:all 1.0 -> 1.1"),
    ]);
    expect(await chain.dpkgVersion("hello-aegis")).toBe("1.0");
    await run("apt", "unhold", "hello-aegis");
  });

  test("a hold of a package that another run replaces meanwhile is refused: it would hold another version", async () => {
    const hold = await chain.signed("apt", "hold", "hello-aegis");
    const upgrade = await chain.signed("apt", "install", "hello-aegis=1.1", "gate");
    const upgrading = await submit(chain, upgrade.path);
    await atGate(chain, "gate");
    const holding = await submit(chain, hold.path);
    openGate(chain, "gate");
    expect(await upgrading.exited).toBe(0);
    expect([await holding.exited, holding.stderr()]).toEqual([
      9,
      expect.stringContaining("hold hello-aegis:all 1.0 -> 1.0"),
    ]);
    expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
  });

  test("while another program has dpkg's lock, nothing is used up", async () => {
    const { path } = await chain.signed("apt", "hold", "bystander");
    const locker = await chain.host.spawn([
      "python3",
      "-c",
      "import fcntl,time;f=open('/var/lib/dpkg/lock-frontend','w');fcntl.lockf(f,fcntl.LOCK_EX);print(1,flush=True);time.sleep(60)",
    ]);
    await Bun.sleep(500);
    const waiting = await submit(chain, path);
    await eventually(() => executorProcesses(chain, "runner").length > 0);
    await Bun.sleep(1500);
    expect(await chain.dpkgStatus("bystander")).toBe("install ok installed");
    locker.kill("SIGKILL");
    expect(await waiting.exited).toBe(0);
    expect(await chain.dpkgStatus("bystander")).toBe("hold ok installed");
    await run("apt", "unhold", "bystander");
  });

  describe("lies", () => {
    test("a hold that says it is an unhold, and one of a package that isn't installed", async () => {
      const honest = await chain.plan("apt", "hold", "bystander");
      const entries = honest.plan.transaction;
      const other = chain.edit(honest, {
        transaction: entries.map((e) => ({ ...e, action: "unhold" as const })),
      });
      expect((await decide(other))[0]).toBe("deny");
      const absent = chain.edit(await chain.plan("apt", "hold", "bystander"), {
        ...{ target: "gate:i386", targets: ["gate:i386"], exact_targets: ["gate:i386"] },
        transaction: entries.map((e) => ({ ...e, name: "gate", architecture: "i386" })),
        command_preview: ["apt-mark", "hold", "gate:i386"],
      });
      const { path } = await chain.sign(absent);
      expect(await chain.submit(chain.host.read(path))).toBe("drift");
    });
  });

  test("a runner that is killed while apt-mark runs: the next one compares and closes the run", async () => {
    const { execution, path } = await chain.signed("apt", "hold", "bystander");
    await chain.host.exec(["mv", "/usr/bin/apt-mark", "/usr/bin/apt-mark.real"]);
    chain.host.write(
      "/usr/bin/apt-mark",
      '#!/bin/bash\ntouch /run/mark.here; while [ ! -e /run/mark.go ]; do sleep 0.1; done; exec -a apt-mark /usr/bin/apt-mark.real "$@"\n',
      0o755,
    );
    const client = await submit(chain, path);
    await eventually(() => existsSync(chain.host.path("/run/mark.here")));
    kill(executorProcesses(chain, "runner"));
    chain.host.write("/run/mark.go", "");
    expect(await client.exited).toBe(7);
    await eventually(() => lastEvent(chain, "execution_interrupted") !== undefined);
    expect(resultOf(chain, execution.execution_plan_id)).toMatchObject({
      ...{ state: "interrupted", not_as_planned: [] },
      inverse: [{ package: "bystander", held: false }],
    });
    expect(await chain.dpkgStatus("bystander")).toBe("hold ok installed");
    await chain.host.exec(["mv", "/usr/bin/apt-mark.real", "/usr/bin/apt-mark"]);
    await run("rollback", execution.execution_plan_id);
    expect(await chain.dpkgStatus("bystander")).toBe("install ok installed");
    expect(await brokenInvariants(chain)).toEqual([]);
  });
});
