import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { sha256Hex } from "../src/canonical.ts";
import { type Chain, type Planned, startChain } from "./e2e-kit.ts";
import { brokenInvariants } from "./e2e-running.ts";
import { clearSign, newSigningKey } from "./throwaway-gpg.ts";
import { pick } from "./throwaway-packages.ts";
import { type Repository, startRepository } from "./throwaway-repo.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * A repository that is added, used, replaced and removed through the whole chain, with the real apt.
 */

const PARTS = "/etc/apt/sources.list.d";
const FILE = `${PARTS}/vendor.sources`;
const ADD = [
  ...["apt", "add-repository", "vendor"],
  ...["--stanza", "/root/vendor.sources", "--key", "/root/vendor.key"],
];

describeOnThrowaway("repositories", () => {
  let chain: Chain;
  let vendor: Repository;
  let stanza: string;
  const stranger = newSigningKey("Stranger");
  beforeAll(async () => {
    chain = await startChain();
    vendor = await startRepository({ origin: "Vendor", suite: "stable" });
    await vendor.publish(pick("hello-aegis=1.1"));
    stanza = `Types: deb\nURIs: ${vendor.url}\nSuites: stable\nComponents: main\n`;
    await chain.startDaemon();
    await run(await chain.plan("apt", "update"));
  });
  afterAll(async () => {
    await chain.stop();
    await vendor.stop();
  });
  afterEach(async () => {
    await chain.host.exec(["bash", "-c", `rm -f ${PARTS}/vendor.* ${PARTS}/legacy.list`]);
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  const give = (text: string, key: Uint8Array = vendor.key.public) => {
    chain.host.write("/root/vendor.sources", text);
    chain.host.write("/root/vendor.key", Buffer.from(key));
  };
  const file = () => (existsSync(chain.host.path(FILE)) ? chain.host.read(FILE) : null);
  const rules = async ({ plan }: Planned) => {
    const { result } = await chain.policy(plan.plan_id);
    return [result.decision, ...result.rules.filter((id) => id !== "apt-repository-plain-http")];
  };
  /** Decided, approved, signed and applied as alice; the execution's id. */
  const run = async (planned: Planned): Promise<string> => {
    const { execution, path } = await chain.sign(planned);
    const { status, stdout, stderr } = await chain.apply(path, "alice");
    if (status !== 0) throw new Error(`apply ended with ${status}: ${stdout}${stderr}`);
    return execution.execution_plan_id;
  };
  const screen = async (...args: readonly string[]) => {
    const { stdout } = await chain.aegis(["plan", ...args]);
    return stdout.replaceAll(/[│\s]+/g, " ");
  };
  const apt = async (...args: readonly string[]) => {
    const { status, stdout, stderr } = await chain.host.exec(["apt-get", ...args]);
    return { status, text: stdout + stderr };
  };

  describe("refused before anything is planned", () => {
    test.each<
      [what: string, text: (plain: string) => string, key: (own: Uint8Array) => Uint8Array, why: string]
    >([
      [
        "a field behind a line separator",
        (s) => s.replace("main", "main\u2028Trusted: yes"),
        (k) => k,
        "U+2028",
      ],
      [
        "a field behind a carriage return",
        (s) => s.replace("main", "main\rTrusted: yes"),
        (k) => k,
        "U+000D",
      ],
      [
        "a field in a continuation line",
        (s) => s.replace("main", "main\n Trusted: yes"),
        (k) => k,
        "another line",
      ],
      ["Trusted: yes", (s) => `${s}Trusted: yes\n`, (k) => k, "Trusted is not allowed"],
      [
        "a place on this host",
        (s) => s.replace(/http:\S+/, "file:/srv/throwaway"),
        (k) => k,
        "file: is no web address",
      ],
      ["a password", (s) => s.replace("http://", "http://me:hunter2@"), (k) => k, "a user or password"],
      [
        "a key with two primary keys",
        (s) => s,
        (k) => Buffer.concat([k, stranger.public]),
        "holds 2 primary keys",
      ],
      ["a secret key", (s) => s, () => Buffer.from(vendor.key.secret), "holds a secret key"],
    ])("%s", async (_, text, key, why) => {
      give(text(stanza), key(vendor.key.public));
      const { status, stdout, stderr } = await chain.aegis(["plan", ...ADD]);
      expect([status, stdout]).toEqual([2, ""]);
      expect(stderr.replaceAll(/\s+/g, " ")).toContain(why);
      expect(stderr).not.toContain("hunter2");
    });
  });

  describe("denied", () => {
    test("an index that another key has signed", async () => {
      give(stanza, stranger.public);
      const planned = await chain.plan(...ADD);
      expect(await rules(planned)).toEqual(["deny", "apt-add-repository", "apt-repository-unverified"]);
      expect(planned.plan.repository_evidence).toMatchObject([
        {
          signature_verified: false,
          trust: "untrusted",
          problems: ["no good signature by a key it is bound to"],
        },
      ]);
    });

    test("a source that is configured already: apt would refuse every update", async () => {
      give(stanza);
      chain.host.write(`${PARTS}/legacy.list`, `deb [trusted=yes] ${vendor.url} stable main\n`);
      const planned = await chain.plan(...ADD);
      expect((await rules(planned))[0]).toBe("deny");
      expect(planned.plan.warnings[0]).toContain(`already configured in ${PARTS}/legacy.list:1`);
      // And so it is: the file that would have been written.
      chain.host.write(FILE, planned.plan.repository?.after ?? "");
      expect((await apt("update")).text).toContain("Conflicting values set for option");
    });

    test("the distribution's own archive is not removed", async () => {
      const planned = await chain.plan("apt", "remove-repository", "throwaway");
      expect((await rules(planned))[0]).toBe("deny");
      expect(planned.plan.warnings[0]).toContain("the distribution's own archive");
    });

    test("a plan that was edited: the executor finds another file", async () => {
      give(stanza);
      const { execution } = await chain.signed(...ADD);
      const { operation_plan: plan } = execution;
      const text = `${plan.repository?.after}\n`;
      const path = await chain.forge({
        ...execution,
        operation_plan: { ...plan, repository: { ...plan.repository, after: text } },
      });
      expect(await chain.submit(chain.host.read(path), "runner")).not.toBeNull();
      expect(file()).toBeNull();
    });

    test("somebody wrote the file since", async () => {
      give(stanza);
      const { path } = await chain.signed(...ADD);
      chain.host.write(FILE, "# mine\n");
      expect(await chain.submit(chain.host.read(path))).toBe("evidence_mismatch");
      expect(file()).toBe("# mine\n");
    });

    test("a directory that can't be written: nothing is used up", async () => {
      give(stanza);
      const { path } = await chain.signed(...ADD);
      const mount = async (...args: string[]) =>
        expect((await chain.host.exec(["mount", ...args])).status).toBe(0);
      await mount("--bind", PARTS, PARTS);
      await mount("-o", "remount,ro,bind", PARTS);
      const { status, stderr } = await chain.apply(path);
      expect([status, stderr]).toEqual([8, expect.stringContaining("can't be written: EROFS")]);
      expect((await chain.host.exec(["umount", PARTS])).status).toBe(0);
      // The same plan again.
      expect((await chain.apply(path)).status).toBe(0);
      expect(file()).toContain(`URIs: ${vendor.url}\n`);
    });
  });

  test("added, updated, installed from, and rolled back", async () => {
    give(stanza);
    const shown = await screen(...ADD);
    expect(shown).toContain(`${FILE}, a new file:`);
    expect(shown).toContain("Ed25519, made 20");
    expect(shown).toMatch(/Index \S+ stable: signed by (?:[0-9A-F]{4} ?){10}; it says: origin "Vendor"/);
    const planned = await chain.plan(...ADD);
    expect(await rules(planned)).toEqual(["require_human", "apt-add-repository"]);
    expect(planned.plan.transaction).toEqual([]);
    const added = await run(planned);
    expect(file()).toBe(planned.plan.repository?.after ?? "");
    expect((await chain.host.exec(["stat", "-c", "%a %U:%G", FILE])).stdout).toBe("644 root:root\n");
    expect((await chain.host.exec(["ls", "-A", PARTS])).stdout).toBe("throwaway.sources\nvendor.sources\n");
    expect(chain.audit().at(-1)).toMatchObject({
      kind: "execution_completed",
      argv: ["aegis", "repository", "add", "vendor", `sha256:${planned.plan.repository?.after_sha256}`],
      details: {
        operation: "apt add-repository vendor",
        repository: { path: FILE, before_sha256: null, key: planned.plan.repository?.key?.fingerprint },
        repository_left: { path: FILE },
      },
    });

    // Nothing can be had from it before apt has its index.
    expect((await chain.json(["plan", "apt", "install", "hello-aegis=1.1"])).document).toMatchObject({
      error: { code: "not_found" },
    });
    await run(await chain.plan("apt", "update"));
    const install = await chain.plan("apt", "install", "hello-aegis");
    expect(install.plan.repository_evidence.find(({ uri }) => uri === vendor.url)).toMatchObject({
      ...{ trust: "pinned", signed_by: "embedded", signature_verified: true },
    });
    expect((await rules(install))[0]).toBe("require_human");
    await run(install);
    expect(await chain.dpkgVersion("hello-aegis")).toBe("1.1");

    const back = await chain.plan("rollback", added);
    expect(await rules(back)).toEqual(["require_human", "apt-rollback"]);
    await run(back);
    expect(file()).toBeNull();
    expect(await chain.dpkgVersion("hello-aegis")).toBe("1.1");
    expect((await chain.plan("rollback", added)).plan.nothing_to_do).toBe(true);
  });

  test("what the next upgrade would take from it is said beforehand, and what Aegis added it removes", async () => {
    await chain.host.exec(["bash", "-c", "dpkg --purge hello-aegis"]);
    await chain.host.repo.publish(pick("hello-aegis=1.0"));
    await apt("update");
    await apt("install", "-y", "hello-aegis=1.0");
    give(stanza);
    const planned = await chain.plan(...ADD);
    expect(planned.plan.outlook?.repository).toEqual([
      {
        source: `${vendor.url} stable`,
        ...{ packages: 1, automatic: true, newer_left_out: 0 },
        newer: [{ package: "hello-aegis", from: "1.0", to: "1.1" }],
      },
    ]);
    expect(await screen(...ADD)).toContain("an upgrade would take them: hello-aegis 1.0 → 1.1");
    await run(planned);
    await run(await chain.plan("apt", "remove-repository", "vendor"));
    expect(file()).toBeNull();
  });

  describe("a repository hides what it offers from the plan, and not from apt", () => {
    const index = (packages: string) => vendorText().replace(/^Package:/m, packages);
    const vendorText = () =>
      new TextDecoder().decode([...vendor.files()].find(([path]) => path.endsWith("/Packages"))?.[1]);
    test.each<[what: string, files: () => Record<string, Uint8Array>]>([
      ["a field's name in small letters", () => ({ Packages: Buffer.from(index("package:")) })],
      [
        "one compressed index for the plan, another for apt",
        () => {
          const evil = Buffer.from(vendorText());
          const xz = Bun.spawnSync(["xz", "--stdout"], { stdin: evil }).stdout;
          return { "Packages.xz": xz, "Packages.gz": gzipSync(""), Packages: evil };
        },
      ],
    ])("%s", async (_, files) => {
      await chain.host.exec(["bash", "-c", "dpkg --purge hello-aegis"]);
      await chain.host.repo.publish(pick("hello-aegis=1.0"));
      await apt("update");
      await apt("install", "-y", "hello-aegis=1.0");
      const architecture = (await chain.host.exec(["dpkg", "--print-architecture"])).stdout.trim();
      const served = new Map(
        Object.entries(files()).map(([name, bytes]) => [`main/binary-${architecture}/${name}`, bytes]),
      );
      const lines = [...served].map(([path, bytes]) => ` ${sha256Hex(bytes)} ${bytes.length} ${path}\n`);
      const release = `Origin: V\nSuite: stable\nCodename: stable\nDate: ${new Date().toUTCString().replace("GMT", "UTC")}\nArchitectures: ${architecture}\nComponents: main\nSHA256:\n${lines.join("")}`;
      served.set("InRelease", Buffer.from(clearSign(stranger, release)));
      const server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch({ url }) {
          const bytes = served.get(new URL(url).pathname.replace("/dists/stable/", ""));
          return bytes === undefined ? new Response("", { status: 404 }) : new Response(Buffer.from(bytes));
        },
      });
      try {
        give(stanza.replace(vendor.url, server.url.origin), stranger.public);
        const planned = await chain.plan(...ADD);
        await run(planned);
        await apt("update");
        const { stdout } = await chain.host.exec(["apt-cache", "policy", "hello-aegis"]);
        expect(stdout).toContain("Candidate: 1.1");
        expect(JSON.stringify([planned.plan.outlook ?? {}, planned.plan.warnings])).toMatch(
          /"to":"1\.1"|could not be read/,
        );
      } finally {
        await server.stop(true);
      }
    });
  });

  test("a plan that keeps quiet about what the repository offers", async () => {
    await chain.host.exec(["bash", "-c", "dpkg --purge hello-aegis"]);
    await chain.host.repo.publish(pick("hello-aegis=1.0"));
    await apt("update");
    await apt("install", "-y", "hello-aegis=1.0");
    give(stanza);
    const planned = await chain.plan(...ADD);
    const [offer] = planned.plan.outlook?.repository ?? [];
    if (offer === undefined) throw new Error("it offers nothing");
    for (const outlook of [{}, { repository: [{ ...offer, newer: [] }] }]) {
      const { path } = await chain.sign(chain.edit(planned, { outlook }));
      expect(await chain.submit(chain.host.read(path))).toBe("drift");
      expect(file()).toBeNull();
    }
  });

  test("replaced by another key: old and new are shown, and a rollback brings the old bytes back", async () => {
    give(stanza);
    await run(await chain.plan(...ADD));
    const old = file() ?? "";
    const other = await startRepository({ origin: "Vendor", suite: "stable", key: stranger });
    try {
      give(stanza.replace(vendor.url, other.url), stranger.public);
      const planned = await chain.plan(...ADD);
      expect(await rules(planned)).toEqual([
        "require_human",
        "apt-add-repository",
        "apt-repository-key-changes",
      ]);
      const { key, previous_key } = planned.plan.repository ?? {};
      expect(planned.plan.warnings).toContain(
        `its key would change from ${previous_key?.fingerprint} to ${key?.fingerprint}`,
      );
      const shown = await screen(...ADD);
      expect(shown).toContain(`${FILE} would be replaced`);
      expect(shown.indexOf("Old key:")).toBeLessThan(shown.indexOf(" Key: "));
      const replaced = await run(planned);
      expect(file()).toContain(other.url);
      expect((await apt("update")).text).not.toMatch(/^[EW]:/m);
      await run(await chain.plan("rollback", replaced));
      expect(file()).toBe(old);
    } finally {
      await other.stop();
    }
  });

  test("of another hand: removed, and brought back to the byte", async () => {
    const own = `# by hand\nTypes: deb\nURIs: ${vendor.url}\nSuites: stable\nComponents: main\nTrusted: yes\n`;
    chain.host.write(FILE, own);
    const planned = await chain.plan("apt", "remove-repository", "vendor");
    expect(await rules(planned)).toEqual(["require_human", "apt-remove-repository"]);
    const removed = await run(planned);
    expect(file()).toBeNull();
    await run(await chain.plan("rollback", removed));
    expect(file()).toBe(own);
  });

  test("the monitor takes what an execution did for what it is, and an edit for what that is", async () => {
    give(stanza);
    const monitor = async () => {
      const before = chain.audit().length;
      expect((await chain.aegis(["daemon", "--monitor"])).status).toBe(0);
      return chain
        .audit()
        .slice(before)
        .filter(({ kind }) => kind === "repository_drift");
    };
    await monitor();
    await run(await chain.plan(...ADD));
    expect(await monitor()).toEqual([]);
    await run(await chain.plan("apt", "update"));
    expect(await monitor()).toEqual([]);
    chain.host.write(FILE, `${file()?.replace("Components:", "Trusted: yes\nComponents:")}`);
    expect(await monitor()).toMatchObject([
      { details: { message: expect.stringContaining("trusted_option") } },
    ]);
  });
});
