import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { canonicalJson } from "../src/canonical.ts";
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
  processes,
  resultOf,
  submit,
} from "./e2e-running.ts";
import { type PackageDefinition, type PackageKey, pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

const OWN: PackageDefinition[] = [
  gated("halfway"),
  gated("slow-to-configure"),
  { name: "aegis-protected", version: "1.0", fields: { Protected: "yes" } },
];
const ALL: PackageKey[] = [
  "hello-aegis=1.0",
  "hello-aegis=1.1",
  "conflictor=1.0",
  "app=1.0",
  "app=2.0",
  "libapp=1.0",
  "libapp-extra=1.0",
  "aegis-essential=1.0",
  "openssh-aegis=1.0",
  "conffile-owner=1.0",
  "conffile-owner=1.1",
  "bystander=1.0",
  "postinst-fails=1.0",
];

describeOnThrowaway("removing, undoing and repairing", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    await chain.host.repo.publish([...pick(...ALL), ...OWN]);
    await chain.host.aptUpdate();
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  const rows = ({ plan }: Planned) =>
    plan.transaction.map((e) => `${e.action} ${e.name} ${e.from_version ?? "-"} -> ${e.to_version ?? "-"}`);
  const decide = async (planned: Planned) => {
    const { result } = await chain.policy(planned.plan.plan_id);
    return [result.decision, ...result.rules];
  };
  /** Plans, has it approved and signed, applies it as alice; returns the execution's id. */
  const run = async (...args: readonly string[]): Promise<string> => {
    const { execution, path } = await chain.signed(...args);
    const { status, stdout, stderr } = await chain.apply(path, "alice");
    if (status !== 0) throw new Error(`apply ended with ${status}: ${stdout}${stderr}`);
    return execution.execution_plan_id;
  };
  /** The code with which the executor answers to a plan that was edited, decided and signed like an honest one. */
  const lie = async (planned: Planned): Promise<string | null> => {
    const { path } = await chain.sign(planned);
    return chain.submit(chain.host.read(path));
  };
  const sound = async () => expect(await brokenInvariants(chain)).toEqual([]);

  describe("apt remove: denied", () => {
    test("an essential package, by name, whatever the policy allows", async () => {
      await chain.host.aptInstall("aegis-essential");
      chain.host.write("/etc/aegis/policy.toml", "[apt]\nallow_removals = true\n");
      const planned = await chain.plan("apt", "remove", "aegis-essential");
      expect(rows(planned)).toEqual(["remove aegis-essential 1.0 -> -"]);
      expect(await decide(planned)).toEqual(["deny", "apt-essential-removal", "apt-remove"]);
      await chain.host.exec(["rm", "/etc/aegis/policy.toml"]);
    });

    test("what is protected, which apt would refuse to remove when it is too late", async () => {
      await chain.host.aptInstall("aegis-protected");
      const planned = await chain.plan("apt", "remove", "aegis-protected");
      expect(await decide(planned)).toEqual(["deny", "apt-essential-removal", "apt-remove"]);
    });

    test("what depends on it and would go along, unless it is named too", async () => {
      await chain.host.aptInstall("app=1.0", "libapp");
      const planned = await chain.plan("apt", "remove", "libapp");
      expect(rows(planned)).toEqual(["remove app 1.0 -> -", "remove libapp 1.0 -> -"]);
      const { result } = await chain.policy(planned.plan.plan_id);
      expect(result.decision).toBe("deny");
      expect(result.reasons.join("\n")).toContain("nobody asked to remove: app");
      const both = await chain.plan("apt", "remove", "libapp", "app");
      expect(await decide(both)).toEqual(["require_human", "apt-remove"]);
    });

    test("what goes along, also when it was approved and signed under a laxer policy", async () => {
      const own = "/etc/aegis/policy.toml";
      chain.host.write(own, "[apt]\nallow_removals = true\n");
      const planned = await chain.plan("apt", "remove", "libapp");
      expect(await decide(planned)).toEqual(["require_human", "apt-removal", "apt-remove"]);
      const { path } = await chain.sign(planned);
      await chain.host.exec(["rm", own]);
      expect(await chain.submit(chain.host.read(path))).toBe("policy_denied");
      expect(await chain.dpkgStatus("app")).toBe("install ok installed");
    });

    test("a plan that says somebody asked for what goes along", async () => {
      const planned = await chain.plan("apt", "remove", "libapp");
      const edited = chain.edit(planned, {
        target: "libapp app",
        targets: ["libapp", "app"],
        exact_targets: ["libapp", "app"],
        command_preview: ["apt-get", "remove", "-y", "libapp", "app"],
      });
      // It is then an honest plan to remove both, and that is what a person approves; apt is asked for both.
      expect((await decide(edited))[0]).toBe("require_human");
      const honest = await chain.plan("apt", "remove", "app");
      const foreign = chain.edit(honest, {
        transaction: (await chain.plan("apt", "remove", "libapp", "app")).plan.transaction,
        packages_removed: ["app", "libapp"],
      });
      expect((await decide(foreign))[0]).toBe("deny");
    });

    test("a plan about a package that nobody knows: none of its claims are taken for the host's", async () => {
      await chain.host.aptInstall("bystander");
      const honest = await chain.plan("apt", "remove", "bystander");
      const unknown = {
        target: "nosuchpkg",
        targets: ["nosuchpkg"],
        exact_targets: ["nosuchpkg"],
        command_preview: ["apt-get", "remove", "-y", "nosuchpkg"],
      };
      const named = honest.plan.transaction.map((entry) => ({ ...entry, name: "nosuchpkg" }));
      const invented = { ...unknown, transaction: named, packages_removed: ["nosuchpkg"] };
      expect(await lie(chain.edit(honest, invented))).toBe("drift");
      const empty = chain.edit(await chain.plan("apt", "remove", "bystander"), {
        ...unknown,
        transaction: [],
        packages_removed: [],
      });
      expect(await lie(empty)).toBe("drift");
    });

    test.each([
      ["a pattern that fits an installed package", ["hello-aegi."]],
      ["an installed one and a pattern", ["bystander", "hello-aegi."]],
    ])("%s", async (_what, targets) => {
      await chain.host.aptInstall("hello-aegis=1.1", "bystander");
      expect((await decide(await chain.plan("apt", "remove", ...targets)))[0]).toBe("deny");
    });
    test.each([["hello-aegis=1.1"], ["hello-aegis-"], ["-y"], ["./x"]])("the target %s", async (target) => {
      const { status } = await chain.aegis(["plan", "apt", "remove", "--", target]);
      if (target === "./x") expect(status).toBe(3);
      else expect(status).toBe(2);
    });
  });

  test("apt remove: what is not there is nothing to do", async () => {
    const { plan: known } = await chain.plan("apt", "remove", "conffile-owner");
    expect([known.nothing_to_do, known.transaction]).toEqual([true, []]);
    // A name that apt has never heard of is a mistake, not something that is gone already.
    const targets = ["nobody-installed-this", "conffile-owner"];
    expect(await chain.json(["plan", "apt", "remove", ...targets])).toEqual({
      status: 2,
      document: {
        error: {
          code: "not_found",
          message: "apt doesn't know the package nobody-installed-this",
          hint: expect.stringContaining("aegis plan apt update"),
          details: { packages: ["nobody-installed-this"] },
        },
      },
    });
  });

  test("a removal fetches nothing, so nobody says that vulnerabilities were not looked up", async () => {
    await chain.host.aptInstall("bystander");
    expect((await chain.plan("apt", "remove", "bystander")).plan.warnings).toEqual([]);
    expect((await chain.plan("apt", "install", "libapp-extra")).plan.warnings).toEqual([
      expect.stringContaining("not looked up"),
    ]);
  });

  test("apt remove takes the package, keeps its configuration, and can be undone", async () => {
    await chain.host.aptInstall("conffile-owner=1.1");
    expect((await chain.plan("apt", "remove", "conffile-owner")).plan.network_access).toBe(false);
    const id = await run("apt", "remove", "conffile-owner");
    expect(await chain.dpkgStatus("conffile-owner")).toBe("deinstall ok config-files");
    expect(existsSync(chain.host.path("/etc/conffile-owner.conf"))).toBe(true);
    expect(resultOf(chain, id)?.inverse).toEqual([
      { package: "conffile-owner", architecture: "all", before: "1.1", left: null },
    ]);
    const planned = await chain.plan("rollback", id);
    expect(planned.plan.command_preview).toEqual([
      "apt-get",
      "install",
      "-y",
      "--allow-downgrades",
      "conffile-owner=1.1",
    ]);
    expect(await decide(planned)).toEqual(["require_human", "apt-rollback"]);
    await run("rollback", id);
    expect(await chain.dpkgStatus("conffile-owner")).toBe("install ok installed");
    await sound();
  });

  test("a sensitive package says so too", async () => {
    await chain.host.aptInstall("openssh-aegis");
    expect(await decide(await chain.plan("apt", "remove", "openssh-aegis"))).toEqual([
      "require_human",
      "apt-remove",
      "security-sensitive",
    ]);
  });

  test("install, rollback, gone; the id may be shortened, and alice can plan it too", async () => {
    await chain.host.exec(["apt-get", "purge", "-y", "hello-aegis"]);
    const id = await run("apt", "install", "hello-aegis=1.1");
    const { status, document } = await chain.json(["plan", "rollback", id.slice(0, 8)], "alice");
    expect(status).toBe(0);
    expect(document).toMatchObject({
      plan: { operation: "rollback", targets: [id], exact_targets: ["hello-aegis"] },
    });
    expect((await chain.aegis(["plan", "rollback", id], { user: "bob" })).stdout).toContain("aegis-admin");
    const planned = await chain.plan("rollback", "latest");
    expect(planned.plan.targets).toEqual([id]);
    expect(rows(planned)).toEqual(["remove hello-aegis 1.1 -> -"]);
    expect(planned.plan.command_preview).toEqual(["apt-get", "remove", "-y", "hello-aegis"]);
    const undo = await run("rollback", id);
    expect(await chain.dpkgStatus("hello-aegis")).toBe("");
    // Undone already: nothing to do. And undoing can be undone.
    expect((await chain.plan("rollback", id)).plan.nothing_to_do).toBe(true);
    expect(rows(await chain.plan("rollback", undo))).toEqual(["install hello-aegis - -> 1.1"]);
    await sound();
  });

  test("upgrade, rollback, the old version; what changed since is said", async () => {
    await chain.host.aptInstall("hello-aegis=1.0");
    const id = await run("apt", "install", "hello-aegis=1.1");
    const planned = await chain.plan("rollback", id);
    expect(rows(planned)).toEqual(["downgrade hello-aegis 1.1 -> 1.0"]);
    expect(await decide(planned)).toEqual(["require_human", "apt-rollback"]);
    // The same downgrade for its own sake stays denied.
    expect((await decide(await chain.plan("apt", "install", "hello-aegis=1.0")))[0]).toBe("deny");
    await run("rollback", id);
    expect(await chain.dpkgVersion("hello-aegis")).toBe("1.0");
    await chain.host.exec(["apt-get", "remove", "-y", "hello-aegis"]);
    const { plan } = await chain.plan("rollback", id);
    expect(plan.warnings.join("\n")).toContain("the execution left it 1.1, now it is not installed");
    await sound();
  });

  test("what needs both is two plans, the versions first", async () => {
    await chain.host.aptInstall("app=1.0", "libapp");
    const id = await run("apt", "install", "app=2.0");
    const first = await chain.plan("rollback", id);
    expect(rows(first)).toEqual(["downgrade app 2.0 -> 1.0"]);
    expect(first.plan.warnings.join("\n")).toContain("plan the same rollback again");
    await run("rollback", id);
    const second = await chain.plan("rollback", id);
    expect(rows(second)).toEqual(["remove libapp-extra 1.0 -> -"]);
    await run("rollback", id);
    expect((await chain.plan("rollback", id)).plan.nothing_to_do).toBe(true);
    await sound();
  });

  test("what the execution brought in may go on the way, without a word in the policy", async () => {
    chain.host.write("/etc/aegis/policy.toml", "[apt]\nallow_removals = true\n");
    await chain.host.aptInstall("hello-aegis=1.0");
    const id = await run("apt", "install", "conflictor");
    expect(await chain.dpkgStatus("hello-aegis")).not.toBe("install ok installed");
    await chain.host.exec(["rm", "/etc/aegis/policy.toml"]);
    const planned = await chain.plan("rollback", id);
    expect(rows(planned)).toEqual(["remove conflictor 1.0 -> -", "install hello-aegis - -> 1.0"]);
    expect(await decide(planned)).toEqual(["require_human", "apt-rollback"]);
    await run("rollback", id);
    expect((await chain.plan("rollback", id)).plan.nothing_to_do).toBe(true);
    await sound();
  });

  describe("a lying rollback", () => {
    test("of an execution that did something else: the executor goes by its own record", async () => {
      await chain.host.aptInstall("hello-aegis=1.1", "bystander");
      const other = await run("apt", "install", "libapp-extra");
      const honest = await chain.plan("rollback", other);
      const removal = (await chain.plan("apt", "remove", "bystander")).plan;
      const edited = chain.edit(honest, {
        transaction: removal.transaction,
        packages_removed: ["bystander"],
        exact_targets: ["bystander"],
        command_preview: ["apt-get", "remove", "-y", "bystander"],
        provenance_evidence: [
          {
            kind: "apt-recorded-inverse",
            subject: "bystander:all-",
            verified: true,
            key: null,
            detail: "trust me",
          },
        ],
      });
      // On paper it looks asked for. Nothing on paper is believed.
      expect((await decide(edited))[0]).toBe("require_human");
      expect(await lie(edited)).toBe("drift");
      const added = chain.edit(honest, {
        provenance_evidence: [
          ...honest.plan.provenance_evidence,
          { kind: "apt-recorded-inverse", subject: "bystander:all-", verified: true, key: null, detail: "" },
        ],
      });
      expect(await lie(added)).toBe("evidence_mismatch");
      expect(await chain.dpkgStatus("bystander")).toBe("install ok installed");
    });

    test("of an execution that never was", async () => {
      const { plan } = await chain.plan("rollback", crypto.randomUUID());
      expect(plan.warnings.join("\n")).toContain("can't read an outcome of execution");
      expect((await chain.policy(plan.plan_id)).result.decision).toBe("deny");
      expect((await chain.aegis(["plan", "rollback", "00000000"])).status).toBe(2);
    });
  });

  test("an old version that is no longer available is named, and nothing is planned", async () => {
    await chain.host.aptInstall("hello-aegis=1.0");
    // Aegis had installed it once.
    await chain.host.exec(["bash", "-c", "rm -f /var/cache/aegis/kept/hello-aegis_1.0_*"]);
    const id = await run("apt", "install", "hello-aegis=1.1");
    await chain.host.repo.publish([...pick(...ALL.filter((key) => key !== "hello-aegis=1.0")), ...OWN]);
    await chain.host.aptUpdate();
    const planned = await chain.plan("rollback", id);
    expect(planned.plan.warnings.join("\n")).toContain("hello-aegis=1.0 is no longer available");
    expect((await decide(planned)).slice(0, 2)).toEqual(["deny", "apt-rollback"]);
    await chain.host.repo.publish([...pick(...ALL), ...OWN]);
    await chain.host.aptUpdate();
    expect(rows(await chain.plan("rollback", id))).toEqual(["downgrade hello-aegis 1.1 -> 1.0"]);
  });

  test("a run that failed halfway is undone by what it did", async () => {
    const { execution, path } = await chain.signed("apt", "install", "postinst-fails");
    expect((await chain.apply(path)).status).toBe(7);
    const id = execution.execution_plan_id;
    expect(resultOf(chain, id)?.inverse).toEqual([
      { package: "postinst-fails", architecture: "all", before: null, left: "1.0" },
    ]);
    // A repair tries again, fails again, and says so.
    const repair = await chain.signed("apt", "repair");
    const failed = await chain.apply(repair.path);
    expect([failed.status, failed.stdout]).toEqual([7, expect.stringContaining("dpkg ended with status 1")]);
    await run("rollback", id);
    expect(await chain.dpkgStatus("postinst-fails")).not.toContain("half");
    await sound();
  });

  describe("apt repair", () => {
    test("has nothing to do where dpkg has nothing half-done", async () => {
      const { plan } = await chain.plan("apt", "repair");
      expect([plan.nothing_to_do, plan.transaction]).toEqual([true, []]);
      expect((await chain.aegis(["plan", "apt", "repair", "hello-aegis"])).status).toBe(2);
    });

    test("finishes what a killed dpkg left: everybody names it, then all is well and undone as ever", async () => {
      const { execution, path } = await chain.signed("apt", "install", "halfway");
      const id = execution.execution_plan_id;
      const client = await submit(chain, path);
      await atGate(chain, "halfway");
      kill(processes(chain).filter(({ name }) => name === "apt-get" || name === "dpkg"));
      expect(await client.exited).toBe(7);
      expect(client.stdout()).toContain("aegis plan apt repair");
      openGate(chain, "halfway");

      const doctor = await chain.aegis(["doctor"]);
      expect(doctor.stdout).toContain("aegis plan apt repair");
      expect((await chain.aegis(["daemon", "status"])).stdout).toContain("aegis plan apt repair");
      const other = await chain.signed("apt", "remove", "bystander");
      expect(other.planned.plan.warnings.join("\n")).toContain("aegis plan apt repair");
      const refused = await chain.apply(other.path);
      expect([refused.status, refused.stderr]).toEqual([8, expect.stringContaining("aegis plan apt repair")]);

      const planned = await chain.plan("apt", "repair");
      expect(rows(planned)).toEqual(["configure halfway 1.0 -> 1.0"]);
      expect(await decide(planned)).toEqual(["require_human", "apt-repair"]);
      const lied = chain.edit(planned, {
        transaction: [],
        nothing_to_do: false,
      });
      expect(await lie(lied)).toBe("drift");
      const again = await chain.plan("apt", "repair");
      const { execution: repair, path: repairPath } = await chain.sign(again);
      expect(repair.argv).toEqual(["dpkg", "--configure", "-a"]);
      const done = await chain.apply(repairPath, "alice");
      expect([done.status, done.stdout]).toEqual([0, expect.stringContaining("done")]);
      expect(await chain.dpkgStatus("halfway")).toBe("install ok installed");
      expect(lastEvent(chain, "execution_completed")).toMatchObject({
        execution_id: repair.execution_plan_id,
        argv: ["dpkg", "--configure", "-a"],
        exit_status: 0,
        details: { state: "completed", not_as_planned: [], changed_besides: [] },
      });
      expect(resultOf(chain, repair.execution_plan_id)?.inverse).toEqual([]);
      expect((await chain.apply(repairPath)).status).toBe(6);
      await sound();

      await run("rollback", id);
      expect(await chain.dpkgStatus("halfway")).toBe("");
      await sound();
    });

    test("an unfinished package stands in the way of others, and nothing is used up", async () => {
      await chain.host.aptInstall("postinst-fails").catch(() => {});
      expect(await chain.dpkgStatus("postinst-fails")).toBe("install ok half-configured");
      const { path } = await chain.signed("apt", "remove", "openssh-aegis");
      const refused = await chain.apply(path, "alice");
      expect([refused.status, refused.stderr]).toEqual([8, expect.stringContaining("aegis plan apt repair")]);
      // A plan about that very package is no other, and an update touches no package.
      await run("apt", "update");
      await run("apt", "remove", "postinst-fails");
      expect((await chain.apply(path, "alice")).status).toBe(0);
      await sound();
    });

    test("an ordinary user plans it, and what it can't mend is said with a way out that works", async () => {
      const { host } = chain;
      const unpack = (file: string) => [
        "bash",
        "-c",
        `cd /root && apt-get download ${file} && dpkg --unpack *.deb && rm *.deb`,
      ];
      await host.exec(["apt-get", "purge", "-y", "app", "libapp", "bystander"]);
      await host.exec(unpack("app=1.0 bystander=1.0"));
      expect(await chain.dpkgStatus("app")).toBe("install ok unpacked");
      expect((await host.exec(["dpkg", "--audit"], { user: "bob" })).status).toBe(2);
      expect((await chain.aegis(["doctor"], { user: "bob" })).stdout).toContain(
        "unfinished packages: app, bystander",
      );

      const planBy = async (user: "root" | "alice" | "bob"): Promise<Planned> =>
        JSON.parse((await chain.aegis(["plan", "apt", "repair", "--json"], { user })).stdout);
      const plans = await Promise.all((["root", "alice", "bob"] as const).map(planBy));
      const [root, alice] = plans;
      if (root === undefined || alice === undefined) throw new Error("no plans");
      for (const planned of plans) {
        expect(rows(planned)).toEqual(["configure app 1.0 -> 1.0", "configure bystander 1.0 -> 1.0"]);
        const { plan_id, created_at, raw_evidence } = planned.plan;
        expect(planned.plan).toEqual({ ...root.plan, plan_id, created_at, raw_evidence });
      }
      expect(alice.plan.warnings).toEqual([
        "app:all can't be configured; missing: libapp",
        expect.stringContaining("after this repair has configured the others: aegis plan apt remove app;"),
      ]);
      for (const user of ["root", "bob"] as const) {
        const { status, document } = await chain.json(["policy", "latest"], user);
        expect(status).toBe(4);
        expect(document).toMatchObject({ policy_result: { rules: ["apt-repair"] } });
      }

      // Installing what is missing is refused, since apt would configure app along with it; that says where to look.
      const missing = await chain.signed("apt", "install", "libapp");
      const refused = await chain.apply(missing.path);
      expect([refused.status, refused.stderr]).toEqual([8, expect.stringContaining("and how to proceed")]);

      // The executor comes to alice's plan, and dpkg does what it can of it.
      host.write(
        `/root/.local/share/aegis/plans/${alice.plan.plan_id}.json`,
        canonicalJson(alice.plan),
        0o600,
      );
      const tried = await chain.apply((await chain.sign(alice)).path, "alice");
      expect([tried.status, tried.stdout]).toEqual([7, expect.stringContaining("dpkg ended with status 1")]);
      expect(await chain.dpkgStatus("bystander")).toBe("install ok installed");

      const only = await chain.plan("apt", "repair");
      expect(only.plan.warnings.at(-1)).toContain("(this repair fixes nothing): aegis plan apt remove app;");
      // Its removal says no more that it should be repaired first.
      const removal = await chain.signed("apt", "remove", "app");
      expect(removal.planned.plan.warnings).toEqual([]);
      expect((await chain.apply(removal.path)).status).toBe(0);
      await run("apt", "install", "app=1.0");
      expect(await chain.dpkgStatus("app")).toBe("install ok installed");
      await sound();
    });

    test("an ordinary user reads dpkg's journal too", async () => {
      chain.host.write("/var/lib/dpkg/updates/0000", "", 0o644);
      const { status, stdout } = await chain.aegis(["plan", "apt", "repair"], { user: "bob" });
      expect([status, stdout]).toEqual([0, expect.stringContaining("dpkg merges its journal first")]);
      await run("apt", "repair");
      expect(existsSync(chain.host.path("/var/lib/dpkg/updates/0000"))).toBe(false);
    });

    test("whose runner is killed goes on, and is closed as interrupted", async () => {
      const fetch =
        "cd /root && apt-get download slow-to-configure && dpkg --unpack slow-to-configure_1.0_all.deb";
      await chain.host.exec(["bash", "-c", fetch]);
      const { execution, path } = await chain.signed("apt", "repair");
      const client = await submit(chain, path);
      await atGate(chain, "slow-to-configure");
      kill(executorProcesses(chain, "runner").filter(({ argv }) => argv.includes("--runner")));
      openGate(chain, "slow-to-configure");
      expect(await client.exited).toBe(7);
      expect(client.stdout()).toContain("every package is as planned");
      expect(resultOf(chain, execution.execution_plan_id)).toMatchObject({
        state: "interrupted",
        inverse: [],
      });
      expect(await chain.dpkgStatus("slow-to-configure")).toBe("install ok installed");
      expect((await chain.apply(path)).status).toBe(6);
      await sound();
    });

    test("keeps the administrator's configuration files, whatever dpkg.cfg says, and asks nothing", async () => {
      await chain.host.exec(["apt-get", "purge", "-y", "conffile-owner"]);
      await chain.host.aptInstall("conffile-owner=1.0");
      chain.host.write("/etc/conffile-owner.conf", "the administrator's\n");
      chain.host.write("/etc/dpkg/dpkg.cfg.d/zz-new", "force-confnew\n");
      await chain.host.exec([
        "bash",
        "-c",
        "cd /root && apt-get download conffile-owner=1.1 && dpkg --unpack conffile-owner_1.1_all.deb",
      ]);
      expect(await chain.dpkgStatus("conffile-owner")).toBe("install ok unpacked");
      await run("apt", "repair");
      expect(await chain.dpkgVersion("conffile-owner")).toBe("1.1");
      expect(await chain.dpkgStatus("conffile-owner")).toBe("install ok installed");
      expect(chain.host.read("/etc/conffile-owner.conf")).toBe("the administrator's\n");
      await chain.host.exec(["rm", "/etc/dpkg/dpkg.cfg.d/zz-new"]);
      await sound();
    });

    test("waits while somebody else has dpkg's lock", async () => {
      await chain.host.exec([
        "bash",
        "-c",
        "cd /root && apt-get download bystander && dpkg --unpack bystander_1.0_all.deb",
      ]);
      const { path } = await chain.signed("apt", "repair");
      const lock =
        'use Fcntl; open(F, "+<", "/var/lib/dpkg/lock-frontend"); my $all = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $all) or die; open(G, ">", "/run/locked"); close(G); select(undef, undef, undef, 0.05) until -e "/run/unlock"';
      const other = await chain.host.spawn(["perl", "-e", lock]);
      await eventually(() => existsSync(chain.host.path("/run/locked")));
      const client = await submit(chain, path);
      await eventually(() => client.stderr().includes("planning again"));
      await Bun.sleep(1500);
      expect(await chain.dpkgStatus("bystander")).toBe("install ok unpacked");
      chain.host.write("/run/unlock", "");
      expect(await client.exited).toBe(0);
      await other.exited;
      expect(await chain.dpkgStatus("bystander")).toBe("install ok installed");
      await sound();
    });
  });
});
