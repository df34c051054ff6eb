import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { ExecutionPlan } from "../src/doc.ts";
import type { OperationPlan, TransactionEntry } from "../src/doc-plan.ts";
import { type Chain, type Planned, startChain } from "./e2e-kit.ts";
import { evilTwin, type PackageDefinition, pick } from "./throwaway-packages.ts";
import { type Repository, startRepository } from "./throwaway-repo.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * What was approved is what runs: a host or repository that changed after signing, plans that lie, package files that are
 * not what the index said, and site configuration that would switch checks off.
 */

const CONF = "/etc/apt/apt.conf.d/99site";
const DPKG_CONF = "/etc/dpkg/dpkg.cfg.d/site";
const POLICY = "/etc/aegis/policy.toml";
const CACHE = "/var/cache/apt/archives/hello-aegis_1.0_all.deb";
/** Only in the evil twin. */
const EVIL = "/usr/share/doc/hello-aegis/evil";

describeOnThrowaway("what runs is what was approved", () => {
  let chain: Chain;

  const remove = (...paths: string[]) => chain.host.exec(["rm", "-rf", ...paths]);
  const purge = () => chain.host.exec(["dpkg", "--purge", "hello-aegis"]);
  const exists = async (path: string) => (await chain.host.exec(["test", "-e", path])).status === 0;
  const last = () => chain.audit().at(-1) ?? {};
  const receipt = ({ execution_plan_id }: ExecutionPlan): unknown =>
    JSON.parse(chain.host.read(`/var/lib/aegis/runs/${execution_plan_id}/receipt.json`));
  /** Fails where anything of hello-aegis was unpacked. */
  const untouched = async () => {
    expect(await chain.dpkgStatus("hello-aegis")).toBe("");
    expect(await exists("/usr/bin/hello-aegis")).toBe(false);
    expect(await exists(EVIL)).toBe(false);
    expect((await chain.host.exec(["dpkg", "--audit"])).stdout).toBe("");
  };
  const refused = async (path: string, status: number, code: string) => {
    const result = await chain.apply(path);
    expect([result.status, /\[([a-z_]+)\]/.exec(result.stderr)?.[1]]).toEqual([status, code]);
    expect(last()).toMatchObject({
      kind: "execution_denied",
      actor: expect.stringMatching(/^ops@example/),
      details: { code },
    });
    return result.stderr;
  };

  beforeAll(async () => {
    chain = await startChain();
    await chain.startDaemon();
  });
  afterEach(purge);
  afterAll(() => chain.stop());

  describe("drift after signing", () => {
    beforeEach(() => chain.offer("hello-aegis=1.0"));

    test.each([
      ["a newer version", pick("hello-aegis=1.1"), "install hello-aegis:all 1.1"],
      [
        "the same version with other bytes",
        [evilTwin("hello-aegis=1.0")],
        "install hello-aegis:all 1.0 sha256:",
      ],
      ["the package no longer", [], "nothing"],
      ["a version with one more dependency", [dependent()], "install bystander:all 1.0"],
    ])(
      "the repository offers %s: both transactions are shown, nothing is installed",
      async (_, offer, now) => {
        const { path, execution } = await chain.signed("apt", "install", "hello-aegis");
        await chain.host.repo.publish([...offer, ...pick("bystander=1.0")]);
        await chain.host.aptUpdate();
        const said = await refused(path, 9, "drift");
        const digest = execution.operation_plan.transaction[0]?.sha256?.slice(0, 12) ?? "";
        expect(said).toContain(`signed install hello-aegis:all 1.0 sha256:${digest}`);
        expect(said.slice(said.indexOf("now it would be"))).toContain(now);
        expect(Object(last()["details"]).signed).toEqual([`install hello-aegis:all 1.0 sha256:${digest}`]);
        await untouched();
      },
    );

    test("the package was installed meanwhile", async () => {
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      await chain.host.aptInstall("hello-aegis");
      await refused(path, 9, "drift");
    });

    test("other bytes under the signed name, and no update: apt's own check of the index holds", async () => {
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      await chain.host.repo.publish([evilTwin("hello-aegis=1.0")]);
      expect((await chain.apply(path)).status).toBe(7);
      expect(last()).toMatchObject({
        kind: "execution_completed",
        details: { state: "failed", code: "execution_failed" },
      });
      await untouched();
    });
  });

  describe("a vulnerability that the executor knows (S4)", () => {
    const ENV = "/etc/aegis/aegisd.env";
    const RECORD = {
      schema_version: "1.6.0",
      id: "DEBIAN-CVE-2026-0001",
      modified: new Date().toISOString(),
      severity: [{ type: "CVSS_V3", score: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N" }],
      affected: [
        {
          package: { ecosystem: "Debian", name: "hello-aegis" },
          ranges: [{ type: "ECOSYSTEM", events: [{ introduced: "0" }] }],
        },
      ],
    };
    beforeAll(async () => {
      await chain.offer("hello-aegis=1.0");
      chain.host.write("/etc/aegis/osv/Debian/one.json", JSON.stringify(RECORD));
      chain.host.write(ENV, "AEGIS_OSV_DIR=/etc/aegis/osv\n");
    });
    afterAll(() => remove(ENV, "/etc/aegis/osv"));

    test("hidden from the approver behind a soothing word: refused, and not used up", async () => {
      const planned = await chain.plan("apt", "install", "hello-aegis");
      expect(planned.plan.vulnerability_evidence).toMatchObject([{ severity: "high" }]);
      const { risk_signals, risk_contributions, risk_score } = planned.plan;
      const isOther = (name: string) => !name.startsWith("vulnerability-");
      const edited = chain.edit(planned, {
        vulnerability_evidence: [],
        warnings: ["Every version was checked: no vulnerability is known."],
        risk_signals: risk_signals.filter(isOther),
        risk_contributions: risk_contributions.filter(({ name }) => isOther(name)),
        risk_score: risk_score - 15,
      });
      const { path, execution } = await chain.sign(edited);
      expect(execution.policy_decision).toBe("require_human");
      const said = await refused(path, 9, "drift");
      expect(said).toContain("vulnerability-grave");
      expect(Object(last()["details"]).unsigned_rules).toEqual(["vulnerability-grave"]);
      await untouched();
      const record = ["grep", "-rq", execution.execution_plan_id, "/var/lib/aegis/spent"];
      expect((await chain.host.exec(record)).status).not.toBe(0);
    });

    test("told to the approver: runs, and the start event has the executor's own decision", async () => {
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      expect((await chain.apply(path)).status).toBe(0);
      const started = chain.audit().findLast(({ kind }) => kind === "execution_started");
      expect(started).toMatchObject({
        details: {
          executor_decision: {
            decision: "require_human",
            rules: expect.arrayContaining(["apt-install", "vulnerability-grave"]),
            reasons: expect.arrayContaining([expect.stringContaining("DEBIAN-CVE-2026-0001 (high)")]),
          },
        },
      });
    });
  });

  describe("a plan that lies, decided and signed in good faith", () => {
    beforeAll(() => chain.offer("hello-aegis=1.0"));

    /** Plans, edits the plan's file, decides, approves and signs. */
    const lie = async (wish: readonly string[], change: (plan: OperationPlan) => Partial<OperationPlan>) => {
      const planned = await chain.plan(...wish);
      const edited: Planned = chain.edit(planned, change(planned.plan));
      return (await chain.sign(edited)).path;
    };
    const hello = ["apt", "install", "hello-aegis"];
    const entries = (plan: OperationPlan, change: Partial<TransactionEntry>) => ({
      transaction: plan.transaction.map((entry) => ({ ...entry, ...change })),
    });

    test.each<[what: string, change: (plan: OperationPlan) => Partial<OperationPlan>, field: string]>([
      ["has no risk signals", () => ({ risk_signals: [] }), "risk_signals"],
      ["calls itself harmless", () => ({ risk_score: 0, risk_contributions: [] }), "risk_score"],
      [
        "promises a way back",
        () => ({ rollback_plan: { inverse: [], unobtainable: [], notes: ["all is undone"] } }),
        "rollback_plan",
      ],
      ["hides its new packages", () => ({ packages_installed: [] }), "packages_installed"],
      [
        "says that the signature of the index was verified by another key",
        (p) => ({
          repository_evidence: p.repository_evidence.map((r) => ({
            ...r,
            key_fingerprints: ["A".repeat(40)],
          })),
        }),
        "repository_evidence",
      ],
      [
        "has another maintainer",
        () => ({ publisher_or_maintainer: "Debian <debian@example.invalid>" }),
        "publisher_or_maintainer",
      ],
      ["names another version", () => ({ target_version: "1.1" }), "target_version"],
    ])("it %s", async (_, change, field) => {
      expect(await refused(await lie(hello, change), 9, "evidence_mismatch")).toContain(
        `the plan's ${field} `,
      );
      await untouched();
    });

    test.each<[what: string, change: (plan: OperationPlan) => Partial<OperationPlan>]>([
      ["has another .deb hash", (p) => entries(p, { sha256: "0".repeat(64) })],
      ["has another size", (p) => entries(p, { size: 1 })],
      ["has another version", (p) => entries(p, { to_version: "0.9" })],
      ["has another origin", (p) => entries(p, { origin: "Debian" })],
    ])("it %s", async (_, change) => {
      await refused(await lie(hello, change), 9, "drift");
      await untouched();
    });

    test("it leaves out a package that comes along", async () => {
      await chain.offer("app=1.0", "libapp=1.0");
      const said = await refused(
        await lie(["apt", "install", "app"], (p) => ({
          transaction: p.transaction.filter(({ name }) => name !== "libapp"),
          packages_installed: ["app"],
        })),
        9,
        "drift",
      );
      expect(said).toContain("signed nothing; now it would be install libapp:all 1.0");
      expect(await chain.dpkgStatus("app")).toBe("");
    });

    test("it hides a removal: from policy, or only from people", async () => {
      await chain.offer("hello-aegis=1.0", "conflictor=1.0");
      await chain.host.aptInstall("hello-aegis");
      const wish = ["apt", "install", "conflictor"];
      const hidden = await lie(wish, (p) => ({
        transaction: p.transaction.filter(({ action }) => action !== "remove"),
        packages_removed: [],
      }));
      expect(await refused(hidden, 9, "drift")).toContain("remove hello-aegis:all 1.0");
      chain.host.write(POLICY, "[apt]\nallow_removals = true\n");
      const said = await refused(await lie(wish, () => ({ packages_removed: [] })), 9, "evidence_mismatch");
      expect(said).toContain("packages_removed");
      await remove(POLICY);
      expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
      expect(await chain.dpkgStatus("conflictor")).toBe("");
    });

    test("it vouches for an untrusted repository", async () => {
      const local = await startRepository({ origin: "Local" });
      await local.publish(pick("bystander=1.0"));
      chain.host.addSource("local", local, { transport: "file" });
      await chain.host.aptUpdate();
      const wish = ["apt", "install", "bystander"];
      const honest = await chain.plan(...wish);
      expect((await chain.policy(honest.plan.plan_id)).result).toMatchObject({
        decision: "deny",
        rules: ["apt-install", "apt-repository-untrusted"],
      });
      const path = await lie(wish, (p) => ({
        repository_evidence: p.repository_evidence.map((r) => ({
          ...r,
          trust: "distribution",
          problems: [],
        })),
        risk_signals: p.risk_signals.filter((signal) => signal !== "untrusted-repository"),
      }));
      await refused(path, 9, "evidence_mismatch");
      expect(await chain.dpkgStatus("bystander")).toBe("");
      await remove("/etc/apt/sources.list.d/local.sources");
      await local.stop();
    });
  });

  describe("other bytes than the index says", () => {
    let evil: Repository;
    beforeAll(async () => {
      await chain.offer("hello-aegis=1.0");
      evil = await startRepository({ origin: "Evil" });
    });
    afterAll(() => evil.stop());

    test("an archive of the right size, planted in apt's cache, is not used", async () => {
      const { path, execution } = await chain.signed("apt", "install", "hello-aegis");
      const [entry] = execution.operation_plan.transaction;
      const planted = await twinOfSize(evil, entry?.size ?? 0);
      chain.host.write(CACHE, planted);
      // apt alone would take it: what makes this test one.
      await chain.host.aptInstall("hello-aegis");
      expect((await chain.host.exec(["hello-aegis"])).stdout).toContain("evil");
      await purge();
      chain.host.write(CACHE, planted);
      expect((await chain.apply(path)).status).toBe(0);
      expect((await chain.host.exec(["hello-aegis"])).stdout).toBe("hello-aegis 1.0\n");
      await remove(CACHE);
    });

    test.each(["http", "file"] as const)(
      "a second source over %s with the same version: denied",
      async (transport) => {
        await evil.publish([evilTwin("hello-aegis=1.0")]);
        chain.host.addSource("evil", evil, { transport });
        await chain.host.aptUpdate();
        const planned = await chain.plan("apt", "install", "hello-aegis");
        const { status, result } = await chain.policy(planned.plan.plan_id);
        expect(status).toBe(3);
        expect(result.rules).toContain("apt-source-conflict");
        await expect(chain.sign(planned)).rejects.toThrow("policy_denied");
        // A liar leaves the conflict out, and trusts a place on this host; the runner finds both again.
        const edited = chain.edit(planned, {
          provenance_evidence: planned.plan.provenance_evidence.filter(
            ({ kind }) => kind !== "apt-source-conflict",
          ),
          repository_evidence: planned.plan.repository_evidence.map((r) =>
            r.transport === "file" ? { ...r, trust: "pinned" as const, problems: [] } : r,
          ),
        });
        await refused((await chain.sign(edited)).path, 9, "evidence_mismatch");
        await untouched();
        await remove("/etc/apt/sources.list.d/evil.sources");
      },
    );

    test.each([
      ["before", "000-evil"],
      ["after", "zzz-evil"],
    ])("a second source, added after signing, that apt reads %s ours: refused", async (_, name) => {
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      await evil.publish([evilTwin("hello-aegis=1.0")]);
      chain.host.addSource(name, evil);
      await chain.host.aptUpdate();
      await refused(path, 9, "drift");
      await untouched();
      await remove(`/etc/apt/sources.list.d/${name}.sources`);
    });

    describe("on a file: source that policy trusts", () => {
      const DEB = "/srv/local/pool/hello-aegis_1.1_all.deb";
      const PRE_INVOKE = "/etc/apt/apt.conf.d/50swap";
      let local: Repository;
      let genuine: Uint8Array;
      beforeAll(async () => {
        local = await startRepository({ origin: "Local" });
        await local.publish(pick("hello-aegis=1.1"));
        genuine = local.files().get("pool/hello-aegis_1.1_all.deb") ?? new Uint8Array();
        const uri = chain.host.addSource("local", local, { transport: "file" });
        await chain.host.aptUpdate();
        const { plan } = await chain.plan("apt", "install", "hello-aegis");
        const [key] = plan.repository_evidence.find((r) => r.uri === uri)?.key_fingerprints ?? [];
        chain.host.write(POLICY, `[[apt.trusted_origins]]\nuri = "${uri}"\nfingerprint = "${key}"\n`);
        await local.publish([evilTwin("hello-aegis=1.1")]);
        chain.host.write("/srv/evil.deb", local.files().get("pool/hello-aegis_1.1_all.deb") ?? "");
      });
      afterEach(async () => {
        await remove(PRE_INVOKE, DEB);
        chain.host.write(DEB, genuine);
        await chain.host.exec(["chown", "-R", "root:root", "/srv/local"]);
      });
      afterAll(async () => {
        await remove(POLICY, "/etc/apt/sources.list.d/local.sources");
        await local.stop();
      });

      test("the genuine .deb is installed", async () => {
        const { path, execution } = await chain.signed("apt", "install", "hello-aegis");
        expect(execution.operation_plan.exact_targets).toEqual(["hello-aegis=1.1"]);
        expect((await chain.apply(path)).status).toBe(0);
        expect(await chain.dpkgVersion("hello-aegis")).toBe("1.1");
      });

      test("a .deb that was swapped after the index was made: dpkg is not started", async () => {
        const { path } = await chain.signed("apt", "install", "hello-aegis");
        await chain.host.exec(["cp", "/srv/evil.deb", DEB]);
        const { status, stderr } = await chain.apply(path);
        expect([status, stderr.includes("Hash Sum mismatch")]).toEqual([7, true]);
        expect(last()).toMatchObject({ kind: "execution_completed", details: { state: "failed" } });
        await untouched();
      });

      test.each<[what: string, script: string]>([
        ["is swapped after apt looked at it", `cp /srv/evil.deb ${DEB}`],
        ["others than root can write to by then", "chown alice /srv/local/pool"],
        ["is a symbolic link by then", `ln -sf /srv/evil.deb ${DEB}`],
      ])("a .deb that %s: the run has the genuine one as its own", async (_, script) => {
        // Stands for whoever is quick enough: apt runs it between its own check and the hook.
        chain.host.write(PRE_INVOKE, `DPkg::Pre-Invoke { "${script}"; };\n`);
        const { path, execution } = await chain.signed("apt", "install", "hello-aegis");
        expect((await chain.apply(path)).status).toBe(0);
        expect(receipt(execution)).toMatchObject({ ok: true, files_checked: 1 });
        expect((await chain.host.exec(["hello-aegis"])).stdout).toBe("hello-aegis 1.1\n");
      });
    });

    test("a .deb that is swapped in the run's own directory is refused by the hook", async () => {
      await evil.publish([evilTwin("hello-aegis=1.0")]);
      chain.host.write("/srv/evil.deb", evil.files().get("pool/hello-aegis_1.0_all.deb") ?? "");
      const swap = "for f in /var/cache/aegis/archives/*/*.deb; do cp /srv/evil.deb $f; done";
      chain.host.write(CONF, `DPkg::Pre-Invoke { "${swap}"; };\n`);
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      expect((await chain.apply(path)).status).toBe(7);
      expect(last()).toMatchObject({ details: { code: "hook_refused" } });
      await untouched();
      await remove(CONF);
    });
  });

  describe("site configuration", () => {
    beforeAll(() => chain.offer("hello-aegis=1.0"));
    afterEach(async () => {
      await remove(CONF);
    });

    /** Each line alone would keep a run from happening, or from being what was approved. */
    const WEAK = [
      'APT::Get::AllowUnauthenticated "true";',
      'Acquire::AllowInsecureRepositories "true";',
      'APT::GET::SIMULATE "true";',
      'APT::Get::Download-Only "true";',
      'APT::Get::Print-URIs "true";',
      'APT::Get::Assume-No "true";',
      'Dir::Cache::archives "/var/tmp/theirs/";',
      'Dir::Bin::dpkg "/bin/false";',
      'DPkg::Chroot-Directory "/srv";',
      'DPkg::Tools::Options::/usr/local/bin/aegis::Version "1";',
      'DPkg::Options { "--force-confnew,confmiss"; "--force-unsafe-io"; };',
      'Binary::apt::APT::Get::Simulate "true";',
      'APT::Get::Trivial-Only "true";',
      'APT::Get::Mark-Auto "true";',
      'APT::Status-deb822-Fd "7";',
      'Acquire::ForceHash "md5sum";',
      'DPkg::NoTriggers "true"; PackageManager::Configure "no";',
    ];
    test.each([
      ["allows, simulates and redirects whatever it can", WEAK.join("\n")],
      ["only simulates", 'APT::Get::Simulate "true";'],
      ["clears the hooks", "#clear DPkg::Pre-Install-Pkgs;"],
      ["clears all of dpkg's settings", "#clear DPkg;"],
      ["has another cache", 'Dir::Cache "/var/tmp/theirs/";'],
      ["has a hook of its own", 'DPkg::Pre-Install-Pkgs { "cat >/dev/null"; };'],
      ["works without dpkg's lock", 'Debug::NoLocking "true";'],
      ["shows dpkg's command line and runs none", 'debug::pkgdpkgpm "true";'],
      ["downloads nothing", 'Debug::pkgAcqArchive::NoQueue "true";'],
      ["debugs by a list", "Debug { pkgDPkgPM { true; }; };"],
      ["leaves packages unpacked", 'DPkg::ConfigurePending "false";'],
      ["starts dpkg nowhere", 'DPkg::Run-Directory "/nonexistent";'],
      ["cuts dpkg's command line to nothing", 'DPkg::MaxArgBytes "10";'],
      ["has our hook read from elsewhere", 'DPkg::Tools::Options::/usr/local/bin/aegis::InfoFD "20";'],
    ])("that %s: no effect, the hook has run", async (_, conf) => {
      chain.host.write(CONF, `${conf}\n`);
      const { path, execution } = await chain.signed("apt", "install", "hello-aegis");
      expect((await chain.apply(path)).status).toBe(0);
      expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
      expect(receipt(execution)).toMatchObject({ ok: true, reason: null, files_checked: 1 });
      expect(await exists("/var/tmp/theirs/hello-aegis_1.0_all.deb")).toBe(false);
      const given = chain.host.read(`/var/lib/aegis/runs/${execution.execution_plan_id}/apt.conf`);
      expect(given.match(/^APT::Get::AllowUnauthenticated .*$/gim)).toEqual([
        'APT::Get::AllowUnauthenticated "false";',
      ]);
    });

    test("that silences apt: what is held back stands in the plan, and it runs", async () => {
      await chain.offer("hello-aegis=1.0", "held=1.0");
      await chain.host.aptInstall("held");
      await chain.offer("hello-aegis=1.0", "held=2.0");
      const heldBack = async () => (await chain.plan("apt", "upgrade")).plan.packages_held_back;
      expect(await heldBack()).toContain("held");
      chain.host.write(CONF, 'quiet "3"; APT::Output-Version "30"; APT::Get::List-Columns "true";\n');
      expect(await heldBack()).toContain("held");
      await chain.host.exec(["dpkg", "--remove", "held"]);
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      expect((await chain.apply(path)).status).toBe(0);
    });

    test("that gives a hook a name: ours is before it, and holds dpkg's lock", async () => {
      const order = "/var/tmp/order";
      // Says nothing unless apt holds the lock (/proc/locks names it by its inode) and our hook has been there.
      const locked = "grep -q :$(stat -c %i /var/lib/dpkg/lock-frontend) /proc/locks";
      const lock = `${locked} && ls /var/lib/aegis/runs/*/receipt.json >> ${order}`;
      chain.host.write(CONF, `Debug::NoLocking "1"; DPkg::Pre-Install-Pkgs::first "${lock}";\n`);
      const { path, execution } = await chain.signed("apt", "install", "hello-aegis");
      expect((await chain.apply(path)).status).toBe(0);
      expect(chain.host.read(order)).toContain(`/${execution.execution_plan_id}/receipt.json\n`);
      await remove(order);
    });

    test.each([
      ["for apt-get alone", 'Binary::apt-get::APT::Get::Simulate "true";'],
      ["for apt-get alone, in capitals", 'BINARY::APT-GET::APT::Get::Simulate "true";'],
    ])("that sets something %s, after signing: nothing can be planned again", async (_, conf) => {
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      chain.host.write(CONF, `${conf}\n`);
      await refused(path, 9, "drift");
      await untouched();
    });

    test.each([
      ["makes dpkg force everything", 'DPkg::Options { "--force-all"; };'],
      ["makes dpkg overwrite other packages' files", 'DPkg::Options { "--force-confdef,overwrite"; };'],
      ["makes dpkg force everything, by another key", 'DPkg::Options::Site "--force-all";'],
      ["makes dpkg work elsewhere", 'DPkg::Options { "--root=/srv"; };'],
      ["makes dpkg simulate", 'DPkg::Options { "--no-act"; };'],
      ["reads another list of what is installed", 'Dir::State::status "/srv/status";'],
    ])("that %s: refused", async (_, conf) => {
      chain.host.write(CONF, `${conf}\n`);
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      await refused(path, 6, "refused");
      await untouched();
    });

    test.each([
      ["install elsewhere", "instdir=/srv"],
      ["keep its books elsewhere", "admindir=/srv"],
      ["work elsewhere", "root=/srv"],
      ["do nothing", "no-act"],
      ["ignore a dependency", "ignore-depends=libc6"],
      ["leave triggers unrun", "no-triggers"],
      ["fail", "no-such-option"],
    ])("of dpkg itself, that makes it %s: refused", async (_, line) => {
      chain.host.write(DPKG_CONF, `# site\n${line}\n`);
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      expect(await refused(path, 6, "refused")).toContain(`dpkg is configured with ${line}`);
      await remove(DPKG_CONF);
      await untouched();
    });

    test("of dpkg itself, with a hook that nobody approved: refused, and it has not run", async () => {
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      chain.host.write(DPKG_CONF, "pre-invoke=touch /var/tmp/unapproved\n");
      expect(await refused(path, 9, "drift")).toContain("pre-invoke=touch /var/tmp/unapproved");
      await remove(DPKG_CONF);
      await untouched();
      expect((await chain.host.exec(["test", "-e", "/var/tmp/unapproved"])).status).toBe(1);
    });

    test("of dpkg itself, with a hook that stands in the plan: it runs", async () => {
      const line = "post-invoke=touch /var/tmp/approved";
      chain.host.write(DPKG_CONF, `${line}\n`);
      const { path, planned } = await chain.signed("apt", "install", "hello-aegis");
      expect(planned.plan.host_hooks).toContainEqual({ configured_in: DPKG_CONF, command: line });
      expect((await chain.apply(path)).status).toBe(0);
      await remove(DPKG_CONF);
      expect((await chain.host.exec(["test", "-e", "/var/tmp/approved"])).status).toBe(0);
    });

    test("of dpkg itself, that forces and logs: no effect", async () => {
      chain.host.write(
        DPKG_CONF,
        "force-all\nstatus-logger=cat > /dev/null\npath-exclude=/usr/share/doc/*\n",
      );
      const { path } = await chain.signed("apt", "install", "hello-aegis");
      expect((await chain.apply(path)).status).toBe(0);
      await remove(DPKG_CONF);
    });
  });
});

function dependent(): PackageDefinition {
  const [hello] = pick("hello-aegis=1.0");
  if (hello === undefined) throw new Error("no such package");
  return { ...hello, fields: { Depends: "bystander" } };
}

/** Another hello-aegis, installable and exactly `size` bytes long. */
async function twinOfSize(repo: Repository, size: number): Promise<Uint8Array> {
  const [hello] = pick("hello-aegis=1.0");
  for (let n = 0; n < 64; n++) {
    const text = `#!/bin/sh\necho "evil ${"#".repeat(n % 16)} ${n * 7919}"\n`;
    await repo.publish([
      { ...hello, name: "hello-aegis", version: "1.0", files: { "/usr/bin/hello-aegis": text } },
    ]);
    const bytes = repo.files().get("pool/hello-aegis_1.0_all.deb");
    if (bytes?.length === size) return bytes;
  }
  throw new Error("no twin of that size was found");
}
