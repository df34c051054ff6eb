import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Chain, startChain } from "./e2e-kit.ts";
import { pick } from "./throwaway-packages.ts";
import { type Repository, startRepository } from "./throwaway-repo.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * What a source that nobody trusts can do to a plan, and what the host's own apt configuration can: a repository's records
 * are written for apt and for us, and each must see the same in them.
 */

const LIST = "/etc/apt/sources.list.d/aaa.list";
const CONF = "/etc/apt/apt.conf.d/99site";

describeOnThrowaway("sources", () => {
  let chain: Chain;
  let shady: Repository;
  beforeAll(async () => {
    chain = await startChain();
    // Origin and suite as the distribution's own source has them here.
    shady = await startRepository({ origin: "Throwaway", suite: "stable" });
  });
  afterAll(async () => {
    await chain.stop();
    await shady.stop();
  });
  afterEach(() => chain.host.exec(["rm", "-f", LIST, CONF]));

  const update = () => chain.host.exec(["apt-get", "update"]);
  const hashOf = async (name: string) => {
    const { stdout } = await chain.host.exec(["apt-cache", "show", name]);
    return /^SHA256: (\w+)$/m.exec(stdout)?.[1] ?? "";
  };

  describe("a distrusted source offers the distribution's own version with other bytes", () => {
    const head = "Package: hello-aegis\nVersion: 1.1\nArchitecture: all\nMaintainer: T <t@example.invalid>\n";
    const evil = "Filename: @FILENAME@\nSize: @SIZE@\nSHA256: @SHA256@\n";
    const good = (hash: string) => `Filename: @FILENAME@\nSize: @SIZE@\nSHA256: ${hash}\n`;
    const end = "Description: x\n";
    /** Records in which one reader may find the distribution's hash and another the evil one. */
    const records: [what: string, record: (hash: string) => string][] = [
      ["plainly", () => head + evil + end],
      ["the last field counts", (hash) => `${head}${good(hash)}SHA256: @SHA256@\n${end}`],
      ["the first field counts", (hash) => `${head}${evil}SHA256: ${hash}\n${end}`],
      ["behind a line of one space", (hash) => `${head}${good(hash)}${end} \n${head}${evil}`],
      [
        "on both sides of a line of one space",
        (hash) => `${head}${evil}SHA256: ${hash}\n${end} \n${head}Size: @SIZE@\nSHA256: @SHA256@\n`,
      ],
      ["behind a line of one tab", (hash) => `${head}${good(hash)}${end}\t\n${head}${evil}`],
      ["behind a carriage return", (hash) => `${head}${good(hash)}${end}\r\n${head}${evil}`],
      ["a carriage return before the field", (hash) => `${head}${good(hash)}\rSHA256: @SHA256@\n${end}`],
      ["a space before the colon", (hash) => `${head}${good(hash)}SHA256 : @SHA256@\n${end}`],
      ["behind a no-break space", (hash) => `${head}${good(hash)}${end}\u00a0\n${head}${evil}`],
      ["behind a comment", (hash) => `${head}${good(hash)}#\nSHA256: @SHA256@\n${end}`],
      ["in a second record", (hash) => `${head}${good(hash)}${end}\n${head}Depends: dpkg\n${evil}${end}`],
      ["in a first record", (hash) => `${head}Depends: dpkg\n${evil}${end}\n${head}${good(hash)}${end}`],
    ];

    beforeAll(async () => {
      await chain.host.repo.publish(pick("hello-aegis=1.0"));
      await update();
      await chain.host.aptInstall("hello-aegis");
      await chain.host.repo.publish(pick("hello-aegis=1.1"));
    });
    beforeEach(update);

    const offer = async (record: (hash: string) => string, options: string) => {
      const hash = await hashOf("hello-aegis=1.1");
      expect(hash).toMatch(/^[0-9a-f]{64}$/);
      await shady.publish([
        {
          ...{ name: "hello-aegis", version: "1.1", record: record(hash) },
          control: { postinst: "#!/bin/sh\nid > /root/pwned\n" },
        },
      ]);
      chain.host.write(LIST, `deb [${options}] ${shady.url} stable main\n`);
      // An index that apt itself refuses is no danger; it keeps the one before.
      await update();
    };

    for (const operation of ["upgrade", "install"]) {
      test.each(records)(`${operation}: %s`, async (_, record) => {
        await offer(record, "trusted=yes");
        const words = operation === "install" ? ["install", "hello-aegis=1.1"] : ["upgrade"];
        const { plan } = await chain.plan("apt", ...words);
        const { result } = await chain.policy(plan.plan_id);
        expect(result.decision).toBe("deny");
        // Either nothing could be read for certain, and the plan says why, or the source is seen for what it is.
        if (plan.metadata_available) {
          expect(result.rules).toContain("apt-repository-untrusted");
          expect(plan.transaction[0]?.sources).toContain(`${shady.url} stable`);
          expect(plan.provenance_evidence.filter((p) => p.verified)).toEqual([]);
        } else {
          expect(plan.warnings.join("\n")).toMatch(/as apt reads it|two different things/);
        }
      });
    }

    test("the same bytes from a source nobody trusts: denied all the same, and shown as what it is", async () => {
      await chain.host.exec(["rm", "-f", LIST]);
      await shady.publish(pick("hello-aegis=1.1"));
      chain.host.write(LIST, `deb [trusted=yes] ${shady.url} stable main\n`);
      await update();
      const { plan } = await chain.plan("apt", "upgrade");
      expect(plan.transaction[0]?.sources).toHaveLength(2);
      expect((await chain.policy(plan.plan_id)).result).toMatchObject({
        decision: "deny",
        rules: expect.arrayContaining(["apt-repository-untrusted"]),
      });
      const { stdout } = await chain.aegis(["plan", "apt", "upgrade"]);
      // Lines of a long text go on behind a bar.
      const shown = stdout.replace(/\n│ /g, " ");
      expect(shown).toContain(`${shady.url} stable (untrusted: trusted=yes`);
      expect(shown).toContain('calls itself "Throwaway stable"');
    });

    test("main and security, both the distribution's: allowed with a snapshot, as ever", async () => {
      const security = await startRepository({ key: chain.host.repo.key, suite: "stable-security" });
      try {
        await security.publish(pick("hello-aegis=1.1"));
        chain.host.write(
          LIST,
          `deb [signed-by=/usr/share/keyrings/throwaway.gpg] ${security.url} stable-security main\n`,
        );
        await chain.host.aptUpdate();
        const { plan } = await chain.plan("apt", "upgrade");
        expect(plan.transaction[0]?.sources).toHaveLength(2);
        expect((await chain.policy(plan.plan_id)).result.decision).toBe("allow_with_snapshot");
      } finally {
        await security.stop();
      }
    });
  });

  test("an update of a source in a file that has a colon in its name, which apt reads: a person decides", async () => {
    const file = "/etc/apt/sources.list.d/a:a.list";
    chain.host.write(file, `deb [trusted=yes] ${shady.url} stable main\n`);
    const { plan } = await chain.plan("apt", "update");
    const { result } = await chain.policy(plan.plan_id);
    await chain.host.exec(["rm", file]);
    expect(plan.repository_evidence.map(({ id }) => id)).toContain(`${shady.url} stable`);
    expect(result).toMatchObject({ decision: "require_human" });
  });

  describe("the host's apt configuration", () => {
    const MARK = "/root/hook-ran";
    const marked = () => existsSync(chain.host.path(MARK));
    const HOOKS = [
      ...["Install", "Upgrade", "Search", "Update"].map((on) => `AptCli::Hooks::${on}:: "touch ${MARK}";`),
      ...["Install", "Update"].map((on) => `APT::${on}::Pre-Invoke:: "touch ${MARK}";`),
      `DPkg::Pre-Invoke:: "touch ${MARK}";`,
      `DPkg::Pre-Install-Pkgs:: "touch ${MARK}";`,
    ].join("\n");
    beforeAll(async () => {
      await chain.host.repo.publish([...pick("hello-aegis=1.1"), ...pick("conffile-owner=1.0")]);
      await chain.host.aptUpdate();
    });
    afterEach(() => chain.host.exec(["rm", "-f", MARK]));

    test("its hooks run in a bare simulation, and in no plan", async () => {
      chain.host.write(CONF, `${HOOKS}\n`);
      await chain.host.exec(["apt-get", "-s", "install", "conffile-owner"]);
      expect(marked()).toBe(true);
      await chain.host.exec(["rm", "-f", MARK]);
      for (const words of [["install", "conffile-owner"], ["upgrade"], ["update"]]) {
        const { plan } = await chain.plan("apt", ...words);
        expect(plan.metadata_available).toBe(true);
        expect(marked()).toBe(false);
      }
    });

    test("settings for apt-get alone: the plan says so, and is denied", async () => {
      chain.host.write(CONF, 'Binary::apt-get::APT::Get::AllowUnauthenticated "true";\n');
      const { plan } = await chain.plan("apt", "install", "conffile-owner");
      expect(plan).toMatchObject({ metadata_available: false, transaction: [] });
      expect(plan.warnings.join("\n")).toContain("Binary::apt-get");
      expect((await chain.policy(plan.plan_id)).result.decision).toBe("deny");
    });

    test("a planner of its own: it isn't run, and the plan says why there is none", async () => {
      const planner = "/root/planners/mine";
      chain.host.write(
        CONF,
        'apt::planner "mine";\nDir::Bin::Planners:: "/root/planners";\nAPT::Sandbox::User "root";\nAPT::Planner::RunAsUser "root";\n',
      );
      chain.host.write(planner, `#!/bin/sh\ntouch ${MARK}\n`);
      await chain.host.exec(["chmod", "-R", "755", "/root/planners"]);
      await chain.host.exec(["apt-get", "-s", "install", "conffile-owner"]);
      expect(marked()).toBe(true);
      await chain.host.exec(["rm", "-f", MARK]);
      const { plan } = await chain.plan("apt", "install", "conffile-owner");
      expect(plan).toMatchObject({ metadata_available: false, transaction: [] });
      expect(plan.warnings.join("\n")).toContain("the planner mine");
      expect(marked()).toBe(false);
    });

    test("a simulation leaves a record of itself; a plan does not, wherever the host wants it", async () => {
      const records = ["/var/log/apt/eipp.log.xz", "/root/eipp.log", "/root/edsp.log"];
      const remains = () => records.filter((path) => existsSync(chain.host.path(path)));
      await chain.host.exec(["rm", "-f", ...records]);
      await chain.host.exec(["apt-get", "-s", "install", "conffile-owner"]);
      expect(remains()).toEqual(["/var/log/apt/eipp.log.xz"]);
      for (const conf of ["", 'dir::log::planner "/root/eipp.log";\nDIR::LOG::SOLVER "/root/edsp.log";\n']) {
        chain.host.write(CONF, conf);
        await chain.host.exec(["rm", "-f", ...records]);
        const { plan } = await chain.plan("apt", "install", "conffile-owner");
        expect(plan.metadata_available).toBe(true);
        expect(remains()).toEqual([]);
      }
      expect((await chain.host.exec(["test", "-c", "/dev/null"])).status).toBe(0);
    });

    test("root and an ordinary user plan the same, with the host's own pins and settings", async () => {
      chain.host.write(CONF, 'APT::Default-Release "stable";\nAPT::Install-Recommends "false";\n');
      for (const words of [["install", "conffile-owner"], ["upgrade"]]) {
        const root = await chain.plan("apt", ...words);
        const { document } = await chain.json(["plan", "apt", ...words], "alice");
        expect((document as typeof root).plan.transaction).toEqual(root.plan.transaction);
        expect((document as typeof root).plan.repository_evidence).toEqual(root.plan.repository_evidence);
      }
    });
  });
});
