import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { PolicyResult } from "../src/doc.ts";
import { type Chain, type Planned, startChain } from "./e2e-kit.ts";
import {
  everyPackage,
  FOREIGN,
  NATIVE,
  type PackageDefinition,
  type PackageKey,
  pick,
} from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * What apt can do to a host, each kind of change once through the whole chain: what the plan says of it, what policy
 * decides, and what dpkg has afterwards.
 */

const CONF = "/etc/apt/apt.conf.d/99site";
const DPKG_CONF = "/etc/dpkg/dpkg.cfg.d/site";
const POLICY = "/etc/aegis/policy.toml";

describeOnThrowaway("apt through policy and executor", () => {
  let chain: Chain;

  const last = () => chain.audit().at(-1) ?? {};
  const remove = (...paths: string[]) => chain.host.exec(["rm", "-f", ...paths]);
  const OURS = new Set([
    ...everyPackage().map(({ name, architecture }: PackageDefinition) =>
      architecture === undefined ? name : `${name}:${architecture}`,
    ),
    "curl-aegis",
    "bash-aegis",
  ]);
  /** The host as it was: none of our packages, whatever state they are in, no site configuration, no policy. */
  const reset = async () => {
    const purge = ["dpkg", "--purge", "--force-all", ...OURS];
    const { status, stderr } = await chain.host.exec(purge, { env: { DEBIAN_FRONTEND: "noninteractive" } });
    expect(status, stderr).toBe(0);
    await remove(POLICY, CONF, DPKG_CONF);
  };
  /** Offers `before`, installs `packages` of it, then offers `now`. */
  const given = async (
    before: readonly PackageKey[],
    packages: readonly string[],
    now: readonly PackageKey[],
  ) => {
    await chain.offer(...before);
    await chain.host.aptInstall(...packages);
    await chain.offer(...now);
  };
  const decided = async (
    ...wish: string[]
  ): Promise<Planned & { status: number | null; result: PolicyResult }> => {
    const planned = await chain.plan("apt", ...wish);
    return { ...planned, ...(await chain.policy(planned.plan.plan_id)) };
  };
  const applied = async (planned: Planned) => {
    const { path } = await chain.sign(planned);
    const { status, stdout, stderr } = await chain.apply(path, "alice");
    return { status, stdout, stderr };
  };
  const versions = async (...names: string[]) =>
    Object.fromEntries(await Promise.all(names.map(async (name) => [name, await chain.dpkgVersion(name)])));

  beforeAll(async () => {
    chain = await startChain({ foreignArchitecture: true });
    await chain.startDaemon();
  });
  afterEach(reset);
  afterAll(() => chain.stop());

  describe("upgrade", () => {
    test("of several: kept back, phased and held ones stay", async () => {
      await given(
        [
          "hello-aegis=1.0",
          "conffile-owner=1.0",
          "held=1.0",
          "phased=1.0",
          "app=1.0",
          "libapp=1.0",
          "bystander=1.0",
        ],
        ["hello-aegis", "conffile-owner", "held", "phased", "app"],
        [
          "hello-aegis=1.2",
          "conffile-owner=1.1",
          "held=2.0",
          "phased=2.0",
          "app=2.0",
          "libapp=1.0",
          "libapp-extra=1.0",
        ],
      );
      await chain.host.exec(["apt-mark", "hold", "conffile-owner"]);
      const planned = await decided("upgrade");
      expect(planned).toMatchObject({
        status: 5,
        result: { decision: "allow_with_snapshot", rules: ["apt-upgrade"] },
      });
      expect(planned.plan).toMatchObject({
        packages_upgraded: ["hello-aegis"],
        packages_installed: [],
        packages_held_back: ["app", "conffile-owner", "held", "phased"],
      });
      const why = planned.plan.outlook?.held_back?.map(({ package: name, why }) => `${name}: ${why}`) ?? [];
      expect(why).toEqual([
        "app: needs new packages: libapp-extra",
        "conffile-owner: on hold (apt-mark hold)",
        "held: Depends: nobody-offers-this but it is not installable",
        "phased: phased update: not for this host yet, for 0% of hosts so far",
      ]);
      await expect(chain.sign(planned)).rejects.toThrow("snapshot_required");
      chain.host.write(POLICY, "[snapshot]\naccept_declared = true\n");
      expect((await applied(await decided("upgrade"))).status).toBe(0);
      expect(await versions("hello-aegis", "conffile-owner", "held", "phased", "app")).toEqual({
        "hello-aegis": "1.2",
        "conffile-owner": "1.0",
        held: "1.0",
        phased: "1.0",
        app: "1.0",
      });
    });

    test("of a package on hold, asked for by name: a human decides", async () => {
      await given(["hello-aegis=1.0"], ["hello-aegis"], ["hello-aegis=1.1"]);
      await chain.host.exec(["apt-mark", "hold", "hello-aegis"]);
      const planned = await decided("install", "hello-aegis");
      expect(planned.status).toBe(4);
      expect(planned.result.rules).toEqual(["apt-held-change", "apt-install"]);
      expect((await applied(planned)).status).toBe(0);
      expect(await chain.dpkgVersion("hello-aegis")).toBe("1.1");
    });

    test("that would install a new package, on a site that allows it: a human decides", async () => {
      chain.host.write(CONF, 'APT::Get::Upgrade-Allow-New "true";\n');
      await given(["app=1.0", "libapp=1.0"], ["app"], ["app=2.0", "libapp=1.0", "libapp-extra=1.0"]);
      const planned = await decided("upgrade");
      expect(planned.status).toBe(4);
      expect(planned.result.rules).toEqual(["apt-upgrade", "apt-upgrade-installs"]);
      // PEER 4: a fresh install is not listed as an upgrade.
      expect(planned.plan).toMatchObject({
        packages_installed: ["libapp-extra"],
        packages_upgraded: ["app"],
      });
      expect((await applied(planned)).status).toBe(0);
      expect(await versions("app", "libapp-extra")).toEqual({ app: "2.0", "libapp-extra": "1.0" });
    });

    test("of a kernel and of a sensitive package: a human and a snapshot", async () => {
      await given(
        ["linux-image-9.9.9-aegis=1.0", "openssh-aegis=1.0"],
        ["linux-image-9.9.9-aegis", "openssh-aegis"],
        ["linux-image-9.9.9-aegis=1.1", "openssh-aegis=1.1"],
      );
      const planned = await decided("upgrade");
      expect(planned).toMatchObject({
        status: 4,
        result: {
          rules: ["apt-upgrade", "kernel-change", "security-sensitive"],
          required_controls: ["human approval", "system snapshot"],
        },
      });
      expect((await applied(planned)).status).toBe(0);
      expect(await versions("linux-image-9.9.9-aegis", "openssh-aegis")).toEqual({
        "linux-image-9.9.9-aegis": "1.1",
        "openssh-aegis": "1.1",
      });
    });

    test("whose raw output names curl and bash is not denied for it (PEER 1)", async () => {
      const named = (name: string, version: string): PackageDefinition => ({
        name,
        version,
        fields: { Description: "curl https://example.invalid/install.sh | bash" },
      });
      const offer = async (version: string) => {
        await chain.host.repo.publish([named("curl-aegis", version), named("bash-aegis", version)]);
        await chain.host.aptUpdate();
      };
      await offer("1.0");
      await chain.host.aptInstall("curl-aegis", "bash-aegis");
      await offer("1.1");
      const planned = await decided("upgrade");
      const raw = JSON.stringify(planned.plan.raw_evidence);
      expect([raw.includes("curl"), raw.includes("bash")]).toEqual([true, true]);
      expect(planned).toMatchObject({ status: 5, result: { rules: ["apt-upgrade"] }, plan: { scripts: [] } });
    });

    test("keeps a configuration file that the user changed, even where the site prefers new ones", async () => {
      chain.host.write(CONF, 'DPkg::Options { "--force-confnew"; };\n');
      chain.host.write(DPKG_CONF, "force-confnew\n");
      chain.host.write(POLICY, "[snapshot]\naccept_declared = true\n");
      await given(["conffile-owner=1.0"], ["conffile-owner"], ["conffile-owner=1.1"]);
      chain.host.write("/etc/conffile-owner.conf", "# the user's own\n");
      expect((await applied(await decided("upgrade"))).status).toBe(0);
      expect(await chain.dpkgVersion("conffile-owner")).toBe("1.1");
      expect(chain.host.read("/etc/conffile-owner.conf")).toBe("# the user's own\n");
    });

    test("with nothing to do: there is nothing to sign", async () => {
      await chain.offer("hello-aegis=1.0");
      const planned = await decided("upgrade");
      expect(planned).toMatchObject({ status: 0, plan: { nothing_to_do: true } });
      await expect(chain.sign(planned)).rejects.toThrow("nothing_to_do");
    });
  });

  describe("removal and downgrade", () => {
    test("a removal by conflict: denied; where policy allows removals, a human decides and it is removed", async () => {
      await given(["hello-aegis=1.0"], ["hello-aegis"], ["hello-aegis=1.0", "conflictor=1.0"]);
      const denied = await decided("install", "conflictor");
      expect(denied).toMatchObject({ status: 3, plan: { packages_removed: ["hello-aegis"] } });
      expect(denied.result.rules).toContain("apt-removal");
      await expect(chain.sign(denied)).rejects.toThrow("policy_denied");
      chain.host.write(POLICY, "[apt]\nallow_removals = true\n");
      const planned = await decided("install", "conflictor");
      expect(planned.status).toBe(4);
      expect((await applied(planned)).status).toBe(0);
      expect(await chain.dpkgStatus("conflictor")).toBe("install ok installed");
      expect(await chain.dpkgStatus("hello-aegis")).not.toContain(" ok installed");
    });

    test("a plan that allows a removal here does not run where policy forbids it again", async () => {
      await given(["hello-aegis=1.0"], ["hello-aegis"], ["hello-aegis=1.0", "conflictor=1.0"]);
      chain.host.write(POLICY, "[apt]\nallow_removals = true\n");
      const { path } = await chain.sign(await decided("install", "conflictor"));
      await remove(POLICY);
      expect((await chain.apply(path)).status).toBe(3);
      expect(last()).toMatchObject({ kind: "execution_denied", details: { code: "policy_denied" } });
      expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
    });

    test("a downgrade is called one (PEER 5): denied; where policy allows downgrades, it is done", async () => {
      await given(["hello-aegis=1.1"], ["hello-aegis"], ["hello-aegis=1.0", "hello-aegis=1.1"]);
      const denied = await decided("install", "hello-aegis=1.0");
      expect(denied).toMatchObject({
        status: 3,
        plan: { packages_downgraded: ["hello-aegis"], packages_upgraded: [] },
      });
      expect(denied.result.rules).toContain("apt-downgrade");
      chain.host.write(POLICY, "[apt]\nallow_downgrades = true\n");
      expect((await applied(await decided("install", "hello-aegis=1.0"))).status).toBe(0);
      expect(await chain.dpkgVersion("hello-aegis")).toBe("1.0");
    });

    test("an essential package is never removed, whatever policy allows", async () => {
      await given(
        ["aegis-essential=1.0"],
        ["aegis-essential"],
        ["aegis-essential=1.0", "essential-remover=1.0"],
      );
      chain.host.write(POLICY, "[apt]\nallow_removals = true\n");
      const planned = await decided("install", "essential-remover");
      expect(planned.status).toBe(3);
      await expect(chain.sign(planned)).rejects.toThrow("policy_denied");
      expect(await chain.dpkgStatus("aegis-essential")).toBe("install ok installed");
    });
  });

  test("a plan that an ordinary user made is the one that root finds", async () => {
    await given(
      ["hello-aegis=1.0", "held=1.0"],
      ["hello-aegis", "held"],
      ["hello-aegis=1.1", "held=2.0", "app=1.0", "libapp=1.0"],
    );
    for (const wish of [["install", "app"], ["upgrade"]]) {
      const { document } = await chain.json(["plan", "apt", ...wish], "alice");
      const { plan, plan_hash } = Object(document);
      chain.host.write(POLICY, "[snapshot]\naccept_declared = true\n");
      expect((await applied(chain.edit({ plan, plan_hash }, {}))).status).toBe(0);
    }
    expect(await versions("app", "hello-aegis")).toEqual({ app: "1.0", "hello-aegis": "1.1" });
  });

  describe("targets", () => {
    const libmulti = async (arch: string) => chain.dpkgVersion(`libmulti:${arch}`);

    test("of a foreign architecture; both architectures are upgraded together (PEER 6)", async () => {
      await chain.offer("libmulti=1.0", "libmulti:foreign=1.0");
      const planned = await decided("install", `libmulti:${FOREIGN}`, `libmulti:${NATIVE}`);
      expect(planned.plan.exact_targets.toSorted()).toEqual(
        [`libmulti:${FOREIGN}=1.0`, `libmulti:${NATIVE}=1.0`].toSorted(),
      );
      // PEER 4: two fresh installs, no upgrade.
      expect(planned.plan.packages_upgraded).toEqual([]);
      expect((await applied(planned)).status).toBe(0);
      expect([await libmulti(NATIVE), await libmulti(FOREIGN)]).toEqual(["1.0", "1.0"]);
      await chain.offer("libmulti=1.1", "libmulti:foreign=1.1");
      chain.host.write(POLICY, "[snapshot]\naccept_declared = true\n");
      const upgrade = await decided("upgrade");
      expect(upgrade.plan.transaction.map(({ architecture }) => architecture).toSorted()).toEqual(
        [NATIVE, FOREIGN].toSorted(),
      );
      expect((await applied(upgrade)).status).toBe(0);
      expect([await libmulti(NATIVE), await libmulti(FOREIGN)]).toEqual(["1.1", "1.1"]);
    });

    test("with a version: exactly that one, though a newer one was published since (PEER 7)", async () => {
      await chain.offer("hello-aegis=1.0");
      const { path, execution } = await chain.signed("apt", "install", "hello-aegis=1.0");
      expect(execution.argv).toEqual(["apt-get", "install", "-y", "hello-aegis=1.0"]);
      await chain.offer("hello-aegis=1.0", "hello-aegis=1.1");
      expect((await chain.apply(path)).status).toBe(0);
      expect(await chain.dpkgVersion("hello-aegis")).toBe("1.0");
    });

    test("without a version are signed with the one that was planned (PEER 7)", async () => {
      await chain.offer("hello-aegis=1.0", "hello-aegis=1.1");
      const { execution } = await chain.signed("apt", "install", "hello-aegis");
      expect(execution.argv).toEqual(["apt-get", "install", "-y", "hello-aegis=1.1"]);
    });

    test.each([
      "hello-aegis-",
      "hello*",
      "^hello",
      "hello-aegis/stable",
      "-oAPT::Get::Simulate=false",
      "hello-aegis;id",
      "$(id)",
      "hello aegis",
    ])("%s is no target (PEER 8)", async (target) => {
      const { status, stdout } = await chain.aegis(["plan", "--json", "apt", "install", "--", target]);
      expect(status).toBe(2);
      expect(JSON.parse(stdout)).toMatchObject({ error: { code: "invalid_target" } });
    });

    test.each(["hello-.+", "hello-aegis+", "hello.aegis", "hello-aegi.", "../hello", "./hello.deb"])(
      "%s, which apt takes for a pattern, an operator or a file: denied (PEER 8)",
      async (target) => {
        const planned = await decided("install", target);
        expect(planned).toMatchObject({ status: 3, plan: { transaction: [], exact_targets: [] } });
      },
    );

    test("nobody-offers-this, which apt does not know: no plan", async () => {
      const { status, document } = await chain.json(["plan", "apt", "install", "nobody-offers-this"]);
      expect(status).toBe(2);
      expect(document).toMatchObject({ error: { code: "not_found" } });
    });

    test("installed already: there is nothing to sign", async () => {
      await chain.host.aptInstall("hello-aegis");
      const planned = await decided("install", "hello-aegis");
      expect(planned.plan.nothing_to_do).toBe(true);
      await expect(chain.sign(planned)).rejects.toThrow("nothing_to_do");
    });
  });

  describe("what happens while it runs", () => {
    test("a package that changes behind our back is reported (post-check)", async () => {
      await chain.offer("behind-our-back=1.0", "bystander=1.0");
      await chain.host.aptInstall("bystander");
      const planned = await decided("install", "behind-our-back");
      const { status, stdout } = await applied(planned);
      expect(status).toBe(9);
      expect(stdout).toContain(`changed besides: bystander:all is not installed, expected 1.0 installed`);
      expect(last()).toMatchObject({
        kind: "execution_completed",
        exit_status: 0,
        details: {
          state: "completed",
          code: "drift",
          not_as_planned: [],
          changed_besides: [{ package: "bystander", expected: "1.0 installed", found: null }],
        },
      });
    });

    test("a failing maintainer script is a failure, with dpkg's state (PEER 12)", async () => {
      await chain.offer("postinst-fails=1.0", "hello-aegis=1.0");
      const { path } = await chain.signed("apt", "install", "postinst-fails");
      const { status, document } = await chain.json(["apply", path]);
      expect(status).toBe(7);
      expect(document).toMatchObject({
        ok: false,
        state: "failed",
        code: "execution_failed",
        exit_status: 100,
      });
      expect(Object(document).message).toContain("postinst-fails");
      expect(last()).toMatchObject({
        kind: "execution_completed",
        exit_status: 100,
        details: {
          state: "failed",
          code: "execution_failed",
          not_as_planned: [
            { package: "postinst-fails", expected: "1.0 installed", found: "1.0 half-configured" },
          ],
        },
      });

      // apt would now configure it in any further run: none is started that the plan does not say so of.
      const next = await chain.signed("apt", "install", "hello-aegis");
      expect((await chain.apply(next.path)).status).toBe(8);
      expect(last()).toMatchObject({
        kind: "execution_denied",
        details: { code: "unavailable", message: expect.stringContaining("postinst-fails") },
      });
      expect(await chain.dpkgStatus("hello-aegis")).toBe("");
    });

    test("a file of another package is not overwritten, even where dpkg is configured to", async () => {
      const [hello] = pick("hello-aegis=1.0");
      await given(["hello-aegis=1.0"], ["hello-aegis"], ["hello-aegis=1.0"]);
      await chain.host.repo.publish([
        ...pick("hello-aegis=1.0"),
        { ...hello, name: "bystander", version: "1.0" },
      ]);
      await chain.host.aptUpdate();
      chain.host.write(DPKG_CONF, "force-overwrite\n");
      expect((await applied(await decided("install", "bystander"))).status).toBe(7);
      expect((await chain.host.exec(["dpkg", "-S", "/usr/bin/hello-aegis"])).stdout).toBe(
        "hello-aegis: /usr/bin/hello-aegis\n",
      );
    });

    test("a debconf question gets its default; nothing waits", async () => {
      await chain.offer("debconf-asker=1.0");
      expect((await applied(await decided("install", "debconf-asker"))).status).toBe(0);
      expect(chain.host.read("/etc/debconf-asker.answer")).toBe("unasked\n");
    });

    test("update: allowed, refreshes the lists; fails when a source can't be reached", async () => {
      await chain.offer();
      await chain.host.repo.publish(pick("hello-aegis=1.2"));
      const planned = await decided("update");
      expect(planned).toMatchObject({ status: 0, result: { decision: "allow" } });
      expect((await applied(planned)).status).toBe(0);
      expect((await decided("install", "hello-aegis")).plan.exact_targets).toEqual(["hello-aegis=1.2"]);
      chain.host.write(CONF, 'Acquire::Retries "0";\n');
      const source = "/etc/apt/sources.list.d/gone.list";
      chain.host.write(
        source,
        `deb [signed-by=/usr/share/keyrings/throwaway.gpg] http://127.0.0.1:9/ stable main\n`,
      );
      const { path } = await chain.signed("apt", "update");
      expect((await chain.apply(path)).status).toBe(7);
      await remove(source);
    });

    test("the log of all that is whole", async () => {
      expect((await chain.aegis(["audit", "verify", "--path", "/var/log/aegis"])).status).toBe(0);
    });
  });
});
