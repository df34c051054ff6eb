import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
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
import { type Repository, startRepository } from "./throwaway-repo.ts";
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

const REMOVING: PackageDefinition[] = [
  { name: "mover", version: "1.0" },
  {
    name: "mover",
    version: "2.0",
    fields: { Conflicts: "openssh-aegis", Replaces: "openssh-aegis", Provides: "openssh-aegis" },
  },
  { name: "soon-essential", version: "1.0" },
  { name: "soon-essential", version: "1.1", fields: { Essential: "yes" } },
];

describeOnThrowaway("full-upgrade, autoremove, purge", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    await chain.host.repo.publish([
      ...pick("app=1.0", "app=2.0", "libapp=1.0", "libapp-extra=1.0", "conffile-owner=1.1", "bystander=1.0"),
      ...pick("aegis-essential=1.0", "openssh-aegis=1.0"),
      ...REMOVING,
    ]);
    await chain.host.aptUpdate();
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  const decide = async (planned: Planned) => {
    const { result } = await chain.policy(planned.plan.plan_id);
    return [result.decision, ...result.rules];
  };
  const rows = ({ plan }: Planned) =>
    plan.transaction.map((e) => `${e.action} ${e.name} ${e.from_version ?? "-"} -> ${e.to_version ?? "-"}`);
  const run = async (...args: readonly string[]): Promise<string> => {
    const { execution, path } = await chain.signed(...args);
    const { status, stdout, stderr } = await chain.apply(path, "alice");
    if (status !== 0) throw new Error(`apply ended with ${status}: ${stdout}${stderr}`);
    return execution.execution_plan_id;
  };
  const left = (path: string) => existsSync(chain.host.path(path));

  test("a purge takes the configuration too; its rollback brings the package back as new", async () => {
    await chain.host.aptInstall("conffile-owner=1.1");
    chain.host.write("/etc/conffile-owner.conf", "# edited\n");
    const planned = await chain.plan("apt", "purge", "conffile-owner");
    expect(planned.plan.warnings.join()).toContain("What a purge deletes is lost");
    expect(await decide(planned)).toEqual(["require_human", "apt-purge"]);
    const { path, execution } = await chain.sign(planned);
    expect((await chain.apply(path, "alice")).status).toBe(0);
    expect([await chain.dpkgStatus("conffile-owner"), left("/etc/conffile-owner.conf")]).toEqual(["", false]);
    expect((await chain.aegis(["audit", "show", "--system"])).stdout).toContain("purge conffile-owner");
    await run("rollback", execution.execution_plan_id);
    expect(chain.host.read("/etc/conffile-owner.conf")).toBe("# as shipped with 1.1\n");
  });

  test("what an earlier removal left is purged, and there is nothing to undo", async () => {
    await chain.host.exec(["apt-get", "remove", "-y", "conffile-owner"]);
    expect(left("/etc/conffile-owner.conf")).toBe(true);
    const id = await run("apt", "purge", "conffile-owner");
    expect([await chain.dpkgStatus("conffile-owner"), left("/etc/conffile-owner.conf")]).toEqual(["", false]);
    expect(resultOf(chain, id)).toMatchObject({ state: "completed", not_as_planned: [], inverse: [] });
    expect((await chain.plan("rollback", id)).plan.nothing_to_do).toBe(true);
  });

  test.each([["aegis-essential"], ["aegis-essential:amd64"], ["dash"]])(
    "no purge of what is essential: %p",
    async (asked) => {
      await chain.host.aptInstall("aegis-essential");
      const decided = await decide(await chain.plan("apt", "purge", asked));
      expect([decided[0], decided.includes("apt-essential-removal")]).toEqual(["deny", true]);
    },
  );

  test("a package that became essential after its purge was signed stays", async () => {
    await chain.host.aptInstall("soon-essential=1.0");
    const { path } = await chain.signed("apt", "purge", "soon-essential");
    await chain.host.aptInstall("soon-essential=1.1");
    expect(await chain.submit(chain.host.read(path))).toBe("drift");
    expect(await chain.dpkgStatus("soon-essential")).toBe("install ok installed");
  });

  test("autoremove takes what nobody needs; one more that was marked meanwhile is not what was signed", async () => {
    await chain.host.aptInstall("app=1.0", "bystander");
    await chain.host.exec(["apt-get", "remove", "-y", "app"]);
    const mine = (planned: Planned) => rows(planned).filter((row) => /libapp|bystander/.test(row));
    const early = await chain.signed("apt", "autoremove");
    expect(mine(early.planned)).toEqual(["remove libapp 1.0 -> -"]);
    await chain.host.exec(["apt-mark", "auto", "bystander"]);
    const refused = await chain.apply(early.path, "alice");
    expect([refused.status, refused.stderr]).toEqual([9, expect.stringContaining("remove bystander:all")]);
    await chain.host.exec(["apt-mark", "manual", "bystander"]);
    const id = await run("apt", "autoremove");
    expect([await chain.dpkgStatus("libapp"), await chain.dpkgStatus("bystander")]).toEqual([
      "",
      "install ok installed",
    ]);
    expect((await chain.plan("apt", "autoremove")).plan.nothing_to_do).toBe(true);
    expect(rows(await chain.plan("rollback", id))).toContain("install libapp - -> 1.0");
  });

  test("a full upgrade installs what upgrades need; where it would remove, it is denied", async () => {
    await chain.host.aptInstall("app=1.0");
    const planned = await chain.plan("apt", "full-upgrade");
    expect(rows(planned).filter((row) => row.includes("app"))).toEqual([
      "upgrade app 1.0 -> 2.0",
      "install libapp-extra - -> 1.0",
    ]);
    expect((await decide(planned)).slice(0, 1)).toEqual(["require_human"]);
    await run("apt", "full-upgrade");
    expect(await chain.dpkgVersion("app")).toBe("2.0");
    await chain.host.aptInstall("mover=1.0", "openssh-aegis");
    const removing = await chain.plan("apt", "full-upgrade");
    expect(rows(removing)).toContain("remove openssh-aegis 1.0 -> -");
    const decided = await decide(removing);
    expect([decided[0], decided.includes("apt-removal")]).toEqual(["deny", true]);
  });

  test("a runner that is killed during a purge: the next one compares what is left, and closes the run", async () => {
    await chain.host.aptInstall("bystander");
    const prerm = "#!/bin/sh\ntouch /run/purge.here; while [ ! -e /run/purge.go ]; do sleep 0.1; done\n";
    chain.host.write("/var/lib/dpkg/info/bystander.prerm", prerm, 0o755);
    const { execution, path } = await chain.signed("apt", "purge", "bystander");
    const client = await submit(chain, path);
    await eventually(() => left("/run/purge.here"));
    kill(executorProcesses(chain, "runner"));
    chain.host.write("/run/purge.go", "");
    expect(await client.exited).toBe(7);
    expect(resultOf(chain, execution.execution_plan_id)).toMatchObject({
      ...{ state: "interrupted", not_as_planned: [] },
      inverse: [{ package: "bystander", before: "1.0", left: null }],
    });
    await run("rollback", execution.execution_plan_id);
    expect(await chain.dpkgStatus("bystander")).toBe("install ok installed");
    expect(await brokenInvariants(chain)).toEqual([]);
  });
});

/** This machine's release, which is the throw-away host's too. */
const CODENAME = /^VERSION_CODENAME=(\S+)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "";

const lib = (version: string): PackageDefinition => ({ name: "aegis-lib", version });

describeOnThrowaway("upgrade --security", () => {
  let chain: Chain;
  let pocket: Repository;
  let liar: Repository;
  beforeAll(async () => {
    chain = await startChain();
    const { repo } = chain.host;
    pocket = await startRepository({ key: repo.key, suite: `${CODENAME}-security` });
    liar = await startRepository({ origin: "Debian-Security", suite: `${CODENAME}-security` });
    await repo.publish([
      ...pick("hello-aegis=1.0", "hello-aegis=1.2", "bystander=1.0"),
      lib("1.0"),
      lib("1.3"),
    ]);
    await pocket.publish([...pick("hello-aegis=1.1"), lib("1.1")]);
    await liar.publish([{ name: "bystander", version: "6.6" }, lib("6.6")]);
    chain.host.addSource("security", pocket);
    chain.host.addSource("liar", liar);
    await chain.host.aptUpdate();
    await chain.host.aptInstall("hello-aegis=1.0", "aegis-lib=1.0", "bystander=1.0");
    await chain.host.exec(["apt-mark", "auto", "aegis-lib"]);
    chain.host.write("/etc/aegis/policy.toml", '[apt]\nupgrade = "require_human"\n');
    await chain.startDaemon();
  });
  afterAll(async () => {
    await chain.stop();
    await pocket.stop();
    await liar.stop();
  });

  const autos = async () => (await chain.host.exec(["apt-mark", "showauto"])).stdout.split("\n");

  test("to the pocket's versions and no others, whatever apt would prefer; marks stay as they are", async () => {
    const ordinary = await chain.plan("apt", "upgrade");
    expect(ordinary.plan.transaction.map((e) => `${e.name} ${e.to_version}`)).toContain("bystander 6.6");
    const planned = await chain.plan("apt", "upgrade", "--security");
    expect(planned.plan.operation).toBe("security-upgrade");
    expect(planned.plan.command_preview).toEqual([
      ...["apt-get", "install", "-y", "--only-upgrade", "aegis-lib=1.1", "hello-aegis=1.1"],
    ]);
    const { result } = await chain.policy(planned.plan.plan_id);
    expect([result.decision, ...result.rules]).toEqual(["require_human", "apt-security-upgrade"]);
    const { path, execution } = await chain.sign(planned);
    const { status, stderr } = await chain.apply(path, "alice");
    expect([status, stderr]).toEqual([0, expect.not.stringContaining("no longer marked")]);
    expect([await chain.dpkgVersion("aegis-lib"), await chain.dpkgVersion("hello-aegis")]).toEqual([
      "1.1",
      "1.1",
    ]);
    expect(await chain.dpkgVersion("bystander")).toBe("1.0");
    expect(await autos()).toContain("aegis-lib");
    expect((await chain.plan("apt", "upgrade", "--security")).plan.nothing_to_do).toBe(true);
    const undo = await chain.signed("rollback", execution.execution_plan_id);
    expect((await chain.apply(undo.path, "alice")).status).toBe(0);
    expect(await chain.dpkgVersion("aegis-lib")).toBe("1.0");
    expect(await autos()).toContain("aegis-lib");
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  test("a package on hold is kept back, and one that was put on hold after signing is drift", async () => {
    const { path } = await chain.signed("apt", "upgrade", "--security");
    await chain.host.exec(["apt-mark", "hold", "hello-aegis"]);
    const refused = await chain.apply(path, "alice");
    expect([refused.status, refused.stderr]).toEqual([9, expect.stringContaining("hello-aegis")]);
    const { plan } = await chain.plan("apt", "upgrade", "--security");
    expect(plan.exact_targets).toEqual(["aegis-lib=1.1"]);
    expect(plan.warnings.join("\n")).toContain("hello-aegis=1.1 is not installed: it is on hold");
    await chain.host.exec(["apt-mark", "unhold", "hello-aegis"]);
  });

  test("without the distribution's pocket there is no plan, though a third party calls itself one", async () => {
    await chain.host.exec(["rm", "/etc/apt/sources.list.d/security.sources"]);
    await chain.host.aptUpdate();
    const { plan } = await chain.plan("apt", "upgrade", "--security");
    expect(plan.warnings.join()).toContain(`no configured source is the security pocket of ${CODENAME}`);
    expect((await chain.policy(plan.plan_id)).result.decision).toBe("deny");
  });
});
