import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { type Chain, type Planned, startChain } from "./e2e-kit.ts";
import { brokenInvariants, resultOf } from "./e2e-running.ts";
import type { PackageDefinition } from "./throwaway-packages.ts";
import { startRepository } from "./throwaway-repo.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * Versions and time. Those that the archive has dropped: a rollback finds them in what Aegis kept of its own executions. Those that are
 * too new. And the archive as of an earlier day.
 */

const KEPT = "/var/cache/aegis/kept";
const OLD = "1:1.0~rc1+b1-1";
const old: PackageDefinition = {
  ...{ name: "dropped", version: OLD, architecture: "amd64", fields: { Depends: "dropped-data (= 1.0)" } },
  files: { "/usr/bin/dropped": "#!/bin/sh\necho old\n" },
};
const oldData: PackageDefinition = {
  name: "dropped-data",
  version: "1.0",
  files: { "/usr/share/dropped": "old" },
};
const young: PackageDefinition = {
  ...{ ...old, version: "1:1.1-1", fields: { Depends: "dropped-data (= 1.1)" } },
  files: { "/usr/bin/dropped": "#!/bin/sh\necho new\n" },
};
const youngData: PackageDefinition = { ...oldData, version: "1.1", files: { "/usr/share/dropped": "new" } };

describeOnThrowaway("kept package files", () => {
  let chain: Chain;
  let upgrade: string;
  beforeAll(async () => {
    chain = await startChain();
    policy("");
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  const policy = (apt: string) =>
    chain.host.write("/etc/aegis/policy.toml", `[snapshot]\naccept_declared = true\n[apt]\n${apt}\n`);
  const offer = async (...packages: PackageDefinition[]) => {
    await chain.host.repo.publish(packages);
    await chain.host.aptUpdate();
  };
  const run = async (...args: readonly string[]): Promise<string> => {
    const { execution, path } = await chain.signed(...args);
    const { status, stdout, stderr } = await chain.apply(path, "alice");
    if (status !== 0) throw new Error(`apply ended with ${status}: ${stdout}${stderr}`);
    return execution.execution_plan_id;
  };
  const names = () =>
    readdirSync(chain.host.path(KEPT)).map((name) => name.replace(/[0-9a-f]{64}/, "<sha256>"));
  const fileOf = (start: string) =>
    `${KEPT}/${readdirSync(chain.host.path(KEPT)).find((name) => name.startsWith(start))}`;
  const rows = ({ plan }: Planned) =>
    plan.transaction.map(
      (e) => `${e.action} ${e.name} ${e.from_version} -> ${e.to_version} from ${e.sources.join(" ")}`,
    );
  const BACK = [
    `downgrade dropped 1:1.1-1 -> ${OLD} from ${KEPT}`,
    `downgrade dropped-data 1.1 -> 1.0 from ${KEPT}`,
  ];

  test("an execution keeps what it installed: names for all, contents for members", async () => {
    await offer(old, oldData);
    await run("apt", "install", `dropped=${OLD}`);
    expect(names().sort()).toEqual([
      "dropped-data_1.0_all.<sha256>.deb",
      "dropped_1%3a1.0~rc1+b1-1_amd64.<sha256>.deb",
    ]);
    const modes = await chain.host.exec(["bash", "-c", `stat -c '%a %U:%G %h' ${KEPT} ${KEPT}/*`]);
    expect(modes.stdout).toBe("755 root:root 2\n640 root:aegis-admin 1\n640 root:aegis-admin 1\n");
    const file = fileOf("dropped_");
    expect((await chain.host.exec(["cat", file], { user: "bob" })).status).not.toBe(0);
    expect((await chain.host.exec(["bash", "-c", `> ${KEPT}/x`], { user: "alice" })).status).not.toBe(0);
  });

  test("a plan tells which old versions only Aegis has", async () => {
    await offer(young, youngData);
    const { plan } = await chain.plan("apt", "upgrade");
    expect(plan.rollback_plan).toMatchObject({
      unobtainable: [],
      kept: [`dropped:amd64=${OLD}`, "dropped-data:amd64=1.0"],
    });
    upgrade = await run("apt", "upgrade");
    expect(resultOf(chain, upgrade)?.state).toBe("completed");
    expect(names()).toHaveLength(4);
  });

  test("a file that was changed comes back neither in a plan nor in a run", async () => {
    const file = chain.host.path(fileOf("dropped_1%3a1.0"));
    const bytes = await Bun.file(file).bytes();
    const { execution, path } = await chain.signed("rollback", upgrade);
    expect(rows({ plan: execution.operation_plan, plan_hash: "" })).toEqual(BACK);
    await Bun.write(file, Buffer.concat([bytes, Buffer.from("x")]));
    const { plan } = await chain.plan("rollback", upgrade);
    expect([plan.metadata_available, plan.warnings.join("\n")]).toEqual([
      false,
      expect.stringContaining("but that file has been changed since"),
    ]);
    expect((await chain.policy(plan.plan_id)).result.decision).toBe("deny");
    const refused = await chain.apply(path);
    expect([refused.status, refused.stderr]).toEqual([9, expect.stringContaining("changed since")]);
    await Bun.write(file, bytes);
  });

  test("a file that was removed after signing: refused, with nothing used up", async () => {
    const file = chain.host.path(fileOf("dropped-data_1.0"));
    const bytes = await Bun.file(file).bytes();
    const { path } = await chain.signed("rollback", upgrade);
    await chain.host.exec(["rm", fileOf("dropped-data_1.0")]);
    const refused = await chain.apply(path);
    expect([refused.status, refused.stderr]).toEqual([9, expect.stringContaining("and it isn't kept")]);
    const { plan } = await chain.plan("rollback", upgrade);
    expect(plan.metadata_available).toBe(false);
    await Bun.write(file, bytes);
    await chain.host.exec(["bash", "-c", `chmod 640 ${KEPT}/*; chgrp aegis-admin ${KEPT}/*`]);
    expect((await chain.apply(path)).status).toBe(0);
    expect(await chain.dpkgVersion("dropped")).toBe(OLD);
    await run("apt", "upgrade");
  });

  test("a plan that says a file of another version were kept", async () => {
    const honest = await chain.plan("apt", "install", "dropped");
    const lie = await chain.plan("rollback", upgrade);
    const edited = chain.edit(lie, {
      transaction: lie.plan.transaction.map((e) => ({ ...e, sources: ["/var/tmp"] })),
    });
    expect(honest.plan.nothing_to_do).toBe(true);
    expect((await chain.policy(edited.plan.plan_id)).result.rules).toContain("apt-repository-untrusted");
  });

  test("a member plans the rollback, and it is run: the old bytes are back", async () => {
    const { document } = await chain.json(["plan", "rollback", upgrade], "alice");
    const planned = await chain.plan("rollback", upgrade);
    expect((document as Planned).plan.transaction).toEqual(planned.plan.transaction);
    expect(rows(planned)).toEqual(BACK);
    expect(planned.plan.command_preview).toEqual([
      ...["apt-get", "install", "-y", "--allow-downgrades"],
      ...["dropped-data=1.0", `dropped=${OLD}`],
    ]);
    expect((await chain.policy(planned.plan.plan_id)).result).toMatchObject({
      decision: "require_human",
      rules: ["apt-rollback"],
    });
    await run("rollback", upgrade);
    expect(await chain.dpkgVersion("dropped")).toBe(OLD);
    expect(chain.host.read("/usr/bin/dropped")).toContain("echo old");
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  describe("too new", () => {
    const RECORD = "/var/lib/aegis/first-seen";
    const fresh: PackageDefinition = { name: "fresh", version: "1", files: { "/usr/share/fresh": "x" } };
    const reasons = async ({ plan }: Planned) => {
      const { result } = await chain.policy(plan.plan_id);
      return {
        decision: result.decision,
        reason: result.reasons.find((text) => text.includes("minimum_age_days")),
      };
    };
    beforeAll(() => policy("minimum_age_days = 3"));
    afterAll(() => policy(""));

    test("what only today's index tells of is denied, with names and days; so is what the monitor saw today", async () => {
      await offer(fresh, young, youngData);
      const today = new Date().toISOString().slice(0, 10);
      expect(await reasons(await chain.plan("apt", "install", "fresh"))).toEqual({
        decision: "deny",
        reason: expect.stringMatching(new RegExp(`: fresh 1 \\(in an index of ${today}: 0 days of 3\\)$`)),
      });
      expect((await chain.aegis(["daemon", "--monitor"])).status).toBe(0);
      const planned = await chain.plan("apt", "install", "fresh");
      expect(planned.plan.first_seen).toEqual({ "fresh:all=1": today });
      expect((await reasons(planned)).decision).toBe("deny");
    });

    test("a member reads the same record; once it is old enough it runs, not without the record", async () => {
      chain.host.write(RECORD, chain.host.read(RECORD).replaceAll(/ \d{4}-\d\d-\d\d$/gm, " 2026-01-02"));
      const { document } = await chain.json(["plan", "apt", "install", "fresh"], "alice");
      expect((document as Planned).plan.first_seen).toEqual({ "fresh:all=1": "2026-01-02" });
      const { path } = await chain.signed("apt", "install", "fresh");
      const record = chain.host.read(RECORD);
      await chain.host.exec(["rm", RECORD]);
      const refused = await chain.apply(path);
      expect([refused.status, refused.stderr]).toEqual([9, expect.stringContaining("it was never seen")]);
      chain.host.write(RECORD, record);
      expect((await chain.apply(path)).status).toBe(0);
    });

    test("the security pocket is exempt", async () => {
      const security = await startRepository({ key: chain.host.repo.key, suite: "stable-security" });
      const list = "/etc/apt/sources.list.d/security.list";
      try {
        await security.publish([{ ...fresh, version: "2" }]);
        chain.host.write(
          list,
          `deb [signed-by=/usr/share/keyrings/throwaway.gpg] ${security.url} stable-security main\n`,
        );
        await chain.host.aptUpdate();
        expect((await reasons(await chain.plan("apt", "upgrade"))).reason).toBeUndefined();
      } finally {
        await chain.host.exec(["rm", list]);
        await chain.host.aptUpdate();
        await security.stop();
      }
    });
  });

  test("a snapshot service brings back what was dropped, where the policy names it", async () => {
    const service = await startRepository({
      key: chain.host.repo.key,
      asOf: new Date("2026-01-02T03:04:05Z"),
    });
    try {
      await service.publish([old, oldData]);
      chain.host.write(
        "/etc/apt/sources.list.d/snapshot.list",
        `deb [signed-by=/usr/share/keyrings/throwaway.gpg check-valid-until=no] ${service.url} stable main\n`,
      );
      await chain.host.exec(["bash", "-c", `rm ${KEPT}/*`]);
      await chain.host.aptUpdate();
      const id = await run("apt", "upgrade");
      const planned = await chain.plan("rollback", id);
      expect(planned.plan.transaction.map(({ sources }) => sources)).toEqual([
        [`${service.url} stable`],
        [`${service.url} stable`],
      ]);
      expect(planned.plan.warnings.join("\n")).toContain(
        "/archive/debian/20260102T030405Z stable is as of 2026-01-02",
      );
      expect((await chain.policy(planned.plan.plan_id)).result.rules).toContain("apt-repository-untrusted");
      policy(`snapshot_services = ["${new URL(service.url).host}"]`);
      expect((await chain.policy(planned.plan.plan_id)).result).toMatchObject({
        decision: "require_human",
        rules: ["apt-rollback"],
      });
      await run("rollback", id);
      expect(await chain.dpkgVersion("dropped")).toBe(OLD);
    } finally {
      await service.stop();
    }
  });
});
