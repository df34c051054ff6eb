import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { sha256Hex } from "../src/canonical.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { type PackageDefinition, pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/* What a hostile reviewer of this code got through with, each now refused. */

/** A package whose postinst leaves a mark; `weight` characters of it don't compress. */
const marked = (mark: string, weight: number): PackageDefinition => ({
  name: "swapped",
  version: "1.0",
  files: { "/usr/share/swapped/weight": randomBytes(weight / 2).toString("hex") },
  control: { postinst: `#!/bin/sh\ntouch /${mark}-ran\n` },
});

/** A .deb that is as long as another: one more member of the archive, which dpkg passes over (deb(5)). */
function padded(deb: Uint8Array, length: number): Uint8Array {
  const size = length - deb.length - 60;
  const header = `${"_padding".padEnd(16)}${"0".padEnd(12)}${"0".padEnd(6)}${"0".padEnd(6)}${"100644".padEnd(8)}${`${size}`.padEnd(10)}\`\n`;
  return Buffer.concat([deb, Buffer.from(header), Buffer.alloc(size, "x")]);
}

/**
 * What a broken http method of apt's could do, as its user: opens each .deb while it is downloaded, and writes other bytes
 * from the moment at which the hook has come and gone until it is killed.
 */
const DOWNLOADER = `
use strict; use Fcntl; $| = 1;
my ($evil) = do { local $/; open my $f, "<", "/opt/evil.deb" or die; <$f> };
my (%held, $seen);
sub hook { for (</proc/[0-9]*/cmdline>) { open my $f, "<", $_ or next; return 1 if (<$f> // "") =~ /--hook/ } 0 }
until (%held) {
  for my $file (glob "/var/cache/aegis/archives/*/partial/swapped_*.deb") {
    sysopen my $f, $file, O_RDWR or next;
    $held{$file} = $f;
    print "held $file\n";
  }
}
sub pause { select undef, undef, undef, 0.001 }
pause() until hook();
pause() while hook();
for (my $n = 1; ; $n++) {
  for my $f (values %held) { sysseek $f, 0, 0; syswrite $f, $evil }
  print "written\n" if $n == 1;
  pause();
}
`;

/** As above, with an index: written once apt has made it root's, and what apt hashed on download is behind it. */
const INDEX_WRITER = `
use strict; use Fcntl; $| = 1;
my ($from, $to) = @ARGV;
my (%held, $index, $text);
until ($index) {
  for my $file (glob "/var/lib/apt/lists/partial/*Packages*") {
    sysopen my $f, $file, O_RDWR or next;
    $held{(stat $f)[1]} //= $f;
  }
  ($index) = grep { my @s = stat $_; $s[4] == 0 && $s[3] == 1 } values %held;
}
sleep 1;
sysread $index, $text, 1 << 24;
$text =~ s/$from/$to/ or die "no such hash";
sysseek $index, 0, 0; syswrite $index, $text;
print "written\n";
sleep 1000;
`;

describeOnThrowaway("attacks that once worked", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    chain.host.write("/etc/sleeper-seconds", "4\n");
    await chain.host.repo.publish(pick("hello-aegis=1.0", "sleeper=1.0", "libapp=1.0", "openssh-aegis=1.0"));
    await chain.host.aptUpdate();
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  /** Submits the sleeping package and resolves when it runs; `done` when it has ended. */
  const occupy = async () => {
    const { path, execution } = await chain.signed("apt", "install", "sleeper");
    const done = chain.apply(path);
    const running = async () => {
      const { document } = await chain.json(["daemon", "status"]);
      return JSON.stringify(document).includes(`"running":"${execution.execution_plan_id}"`);
    };
    while (!(await running())) await Bun.sleep(50);
    return { done };
  };

  test("a key that is revoked while its plan waits in the queue", async () => {
    const trusted = chain.host.read("/etc/aegis/trusted-keys.toml");
    const waiting = await chain.signed("apt", "install", "openssh-aegis");
    const occupied = await occupy();
    const refused = chain.apply(waiting.path, "alice");
    await Bun.sleep(700);
    chain.host.write(
      "/etc/aegis/trusted-keys.toml",
      trusted.replaceAll(/^role = /gm, "revoked = true\nrole = "),
    );
    const { status, stderr } = await refused;
    chain.host.write("/etc/aegis/trusted-keys.toml", trusted);
    expect(stderr).toContain("[key_untrusted]");
    expect(status).toBe(6);
    // The other run went well, and says that the keys are others than when it began.
    const other = await occupied.done;
    expect([other.status, other.stdout]).toEqual([
      9,
      expect.stringContaining("/etc/aegis/trusted-keys.toml"),
    ]);
    expect(await chain.dpkgStatus("openssh-aegis")).not.toContain("installed");
    await chain.host.exec(["apt-get", "remove", "-y", "sleeper"]);
  });

  test("one plan that is submitted again and again has one place in the queue", async () => {
    const waiting = await chain.signed("apt", "install", "libapp");
    const occupied = await occupy();
    const first = chain.apply(waiting.path, "alice");
    await Bun.sleep(500);
    const again = await chain.apply(waiting.path, "alice");
    expect(again.status).toBe(6);
    expect(again.stderr).toContain("already been submitted");
    expect((await first).status).toBe(0);
    expect((await occupied.done).status).toBe(0);
  });

  test("a used plan that is submitted again and again fills no log", async () => {
    const { path, execution } = await chain.signed("apt", "update");
    expect((await chain.apply(path)).status).toBe(0);
    for (let n = 0; n < 6; n++) expect((await chain.apply(path)).status).toBe(6);
    const denied = chain
      .audit()
      .filter((e) => e["kind"] === "execution_denied" && e["execution_id"] === execution.execution_plan_id);
    expect(denied).toHaveLength(1);
    const counted = () => JSON.stringify(chain.audit().filter((e) => e["kind"] === "requests_refused"));
    while (!counted().includes('"code":"replay"')) await Bun.sleep(100);
  });

  test("an update that apt's configuration sends to other sources than were planned", async () => {
    chain.host.write("/opt/evil.d/evil.list", "deb [trusted=yes] http://127.0.0.1:9 stable main\n");
    chain.host.write("/etc/apt/apt.conf.d/99evil", 'Dir::Etc::sourceparts "/opt/evil.d";\n');
    const { path } = await chain.signed("apt", "update");
    const { status, stdout, stderr } = await chain.apply(path);
    await chain.host.exec(["rm", "/etc/apt/apt.conf.d/99evil"]);
    expect(stdout + stderr).not.toContain("127.0.0.1:9");
    expect(stderr).toContain(chain.host.repo.url);
    expect(status).toBe(0);
  });

  const UNCLEAR: [name: string, file: string, text: string][] = [
    ["an encoded yes", "x.list", "deb [trusted=%79es] http://127.0.0.1:9 stable main\n"],
    ["a quoted yes", "x.list", 'deb [trusted="yes"] http://127.0.0.1:9 stable main\n'],
    ["a yes in hexadecimal", "x.list", "deb [trusted=0x1] http://127.0.0.1:9 stable main\n"],
    ["a quoted URI", "x.list", 'deb [trusted=yes] "http://127.0.0.1:9" stable main\n'],
    [
      "a carriage return",
      "x.sources",
      "Types: deb\rTrusted: yes\nURIs: http://127.0.0.1:9\nSuites: s\nComponents: m\n",
    ],
    [
      "no, then yes",
      "x.sources",
      "Types: deb\nTrusted: no\nTrusted: yes\nURIs: http://127.0.0.1:9\nSuites: s\nComponents: m\n",
    ],
  ];
  for (const [name, file, text] of UNCLEAR) {
    test(`an update of a source that apt need not verify, hidden behind ${name}`, async () => {
      chain.host.write(`/etc/apt/sources.list.d/${file}`, text);
      const { plan } = await chain.plan("apt", "update");
      const { result } = await chain.policy(plan.plan_id);
      await chain.host.exec(["rm", `/etc/apt/sources.list.d/${file}`]);
      expect(["require_human", "deny"]).toContain(result.decision);
    });
  }

  test("a search path for dpkg's programs in apt's configuration", async () => {
    chain.host.write(
      "/opt/evil/dpkg-deb",
      '#!/bin/sh\ntouch /evil-ran\nexec /usr/bin/dpkg-deb "$@"\n',
      0o755,
    );
    chain.host.write("/etc/apt/apt.conf.d/99evil", 'DPkg::Path "/opt/evil:/usr/sbin:/usr/bin:/sbin:/bin";\n');
    const { path } = await chain.signed("apt", "install", "hello-aegis");
    const { status } = await chain.apply(path);
    await chain.host.exec(["rm", "/etc/apt/apt.conf.d/99evil"]);
    expect(status).toBe(0);
    expect((await chain.host.exec(["test", "-e", "/evil-ran"])).status).toBe(1);
  });

  test("a .deb that apt's download user holds open, and overwrites between the hook and dpkg", async () => {
    const { repo } = chain.host;
    const pool = () => repo.files().get("pool/swapped_1.0_all.deb") ?? new Uint8Array();
    await repo.publish([marked("evil", 2)]);
    const evil = pool();
    // With five more, apt names them to dpkg by links in a directory of its own (--recursive).
    const others = pick("bystander=1.0", "libapp-extra=1.0", "phased=1.0", "held=1.0", "app=1.0");
    await repo.publish([marked("genuine", 16_000_000), ...others, ...pick("libapp=1.0")]);
    await chain.host.aptUpdate();
    chain.host.write("/opt/evil.deb", padded(evil, pool().length));
    chain.host.write("/opt/downloader.pl", DOWNLOADER);
    const asApt = ["setpriv", "--reuid=_apt", "--regid=nogroup", "--clear-groups"];
    const attacker = await chain.host.spawn([...asApt, "perl", "/opt/downloader.pl"]);
    const { path, execution } = await chain.signed(
      "apt",
      "install",
      "swapped",
      ...others.map(({ name }) => name),
    );
    const { status } = await chain.apply(path);
    // It tried to the end.
    expect(attacker.stdout()).toBe(
      `held /var/cache/aegis/archives/${execution.execution_plan_id}/partial/swapped_1.0_all.deb\nwritten\n`,
    );
    attacker.kill("SIGKILL");
    expect(await attacker.exited).toBe(128 + 9);
    const ran = (mark: string) => chain.host.exec(["test", "-e", `/${mark}-ran`]);
    expect({ evil: (await ran("evil")).status, genuine: (await ran("genuine")).status }).toEqual({
      evil: 1,
      genuine: 0,
    });
    expect(status).toBe(0);
    const ended = chain.audit().findLast((e) => e["kind"] === "execution_completed");
    expect(ended?.["details"]).toMatchObject({ state: "completed", not_as_planned: [] });
  });

  describe("a .deb that takes over files of a package that stays", () => {
    const TAC = "/usr/bin/tac";
    const taking = (name: string, replaced: string, file: string): PackageDefinition => ({
      name,
      version: "1.0",
      fields: { Replaces: replaced },
      files: { [file]: "#!/bin/sh\n" },
    });
    /** The index's record without a word of it. */
    const hiding = (taken: PackageDefinition): PackageDefinition => ({
      ...taken,
      record: [
        `Package: ${taken.name}`,
        "Version: 1.0",
        "Architecture: all",
        "Filename: @FILENAME@",
        "Size: @SIZE@",
        "SHA256: @SHA256@",
        "",
      ].join("\n"),
    });
    const VICTIM: PackageDefinition = {
      name: "victim",
      version: "1.0",
      files: { "/opt/victim": "victim\n" },
    };
    const ownerOf = async (file: string) => (await chain.host.exec(["dpkg", "-S", file])).stdout.trim();
    beforeAll(async () => {
      await chain.host.repo.publish([
        VICTIM,
        hiding(taking("hides-victim", "victim", "/opt/victim")),
        hiding(taking("hides-tac", "coreutils", TAC)),
        taking("says-tac", "coreutils", TAC),
      ]);
      await chain.host.aptUpdate();
      await chain.host.aptInstall("victim");
    });

    test.each([
      ["all of its files, so that dpkg takes it away", "hides-victim", "victim", "/opt/victim"],
      ["one of coreutils", "hides-tac", "coreutils", TAC],
    ])("hidden from the index, %s", async (_, name, taken, file) => {
      const { path } = await chain.signed("apt", "install", name);
      const applied = await chain.apply(path);
      expect([applied.status, applied.stdout]).toEqual([
        7,
        expect.stringContaining(`takes over files of ${taken}`),
      ]);
      expect(await ownerOf(file)).toBe(`${taken}: ${file}`);
    });

    test("told in the index: the plan names it, and it runs", async () => {
      const { path, planned } = await chain.signed("apt", "install", "says-tac");
      expect(planned.plan.transaction.map(({ takes_over }) => takes_over)).toEqual([["coreutils"]]);
      expect((await chain.apply(path)).status).toBe(0);
      expect(await ownerOf(TAC)).toBe(`says-tac: ${TAC}`);
      await chain.host.exec(["dpkg", "--remove", "says-tac"]);
    });
  });

  test("a file of coreutils, overwritten under its other name, without a Replaces", async () => {
    const { host } = chain;
    const TRUE = "/usr/bin/true";
    const owner = (await host.exec(["dpkg", "-S", "/bin/true"])).stdout.trim();
    expect(owner).toBe("coreutils: /bin/true");
    await host.repo.publish([{ name: "aliased", version: "1.0", files: { [TRUE]: "#!/bin/sh\n" } }]);
    await host.aptUpdate();
    await host.exec(["cp", TRUE, "/root/true"]);
    const { path } = await chain.signed("apt", "install", "aliased");
    const { status, stdout } = await chain.apply(path);
    await host.exec(["sh", "-c", `dpkg --purge aliased; cp /root/true ${TRUE}`]);
    const said = `files of other packages were overwritten: /bin/true of coreutils, which aliased has as ${TRUE}`;
    expect([status, stdout]).toEqual([9, expect.stringContaining(said)]);
    const ended = chain.audit().findLast((e) => e["kind"] === "execution_completed");
    expect(ended?.["details"]).toMatchObject({ code: "drift", message: `done as planned, but ${said}` });
  });

  test("a package that ships Aegis's policy and changes its keys: the run says so, and so does the log", async () => {
    const { host } = chain;
    const [POLICY, KEYS] = ["/etc/aegis/policy.toml", "/etc/aegis/trusted-keys.toml"];
    host.write(POLICY, "# ours\n");
    const keys = host.read(KEYS);
    await host.repo.publish([
      {
        name: "takeover",
        version: "1.0",
        files: { [POLICY]: "# theirs\n" },
        control: { postinst: `#!/bin/sh\necho '# theirs' >> ${KEYS}\n` },
      },
    ]);
    await host.aptUpdate();
    const { path } = await chain.signed("apt", "install", "takeover");
    const { status, stdout } = await chain.apply(path);
    await host.exec(["dpkg", "--purge", "takeover"]);
    await host.exec(["rm", "-f", POLICY]);
    host.write(KEYS, keys);
    const said = `files of Aegis itself changed during the run: ${POLICY}, ${KEYS}`;
    expect([status, stdout]).toEqual([9, expect.stringContaining(said)]);
    const ended = chain.audit().findLast((e) => e["kind"] === "execution_completed");
    expect(ended?.["details"]).toMatchObject({ code: "drift", message: `done as planned, but ${said}` });
  });

  test("old run directories go when a run ends", async () => {
    const { host } = chain;
    const made = `for i in $(seq 100 320); do d=/var/lib/aegis/runs/00000000-0000-4000-8000-000000000$i; mkdir $d; touch -d @$i $d; done`;
    await host.exec(["sh", "-c", made]);
    const { path, execution } = await chain.signed("apt", "update");
    expect((await chain.apply(path)).status).toBe(0);
    const left = (await host.exec(["ls", "/var/lib/aegis/runs"])).stdout.trim().split("\n");
    expect([left.length, left.includes(execution.execution_plan_id)]).toEqual([200, true]);
    await host.exec(["sh", "-c", "rmdir /var/lib/aegis/runs/00000000-*"]);
  });

  test("a new package that is Protected is planned as one, and runs", async () => {
    const guarded = (field: string): PackageDefinition => ({
      name: `guarded-${field.toLowerCase()}`,
      version: "1.0",
      fields: { [field]: "yes" },
    });
    const both = ["Protected", "Essential"].map(guarded);
    await chain.host.repo.publish(both);
    await chain.host.aptUpdate();
    for (const { name } of both) {
      const { path, planned } = await chain.signed("apt", "install", name);
      expect(planned.plan.transaction.map(({ essential }) => essential)).toEqual([true]);
      expect([name, (await chain.apply(path)).status]).toEqual([name, 0]);
    }
  });

  test("an index that apt's download user holds open, and changes after apt has checked it", async () => {
    const { repo } = chain.host;
    const pool = () => Buffer.from(repo.files().get("pool/swapped_1.1_all.deb") ?? "");
    const version = (mark: string) => ({ ...marked(mark, 2), version: "1.1" });
    await chain.host.exec(["rm", "-f", "/etc/apt/apt.conf.d/docker-gzip-indexes"]);
    await repo.publish([version("evil")]);
    const evil = pool();
    // Heavy, so that there is time while the index is downloaded.
    const stanza = (n: number) =>
      `Package: filler-${n}\nVersion: 1\nArchitecture: all\nWeight: ${"x".repeat(400)}\n`;
    const filler = {
      name: "filler",
      version: "1",
      record: Array.from({ length: 20_000 }, (_, n) => stanza(n)).join("\n"),
    };
    await repo.publish([{ ...marked("genuine", 16_000), version: "1.1" }, filler]);
    const hashes = [sha256Hex(pool()), sha256Hex(padded(evil, pool().length))];
    // apt-get update replaces what it finds changed.
    await chain.host.exec(["sh", "-c", "rm -f /var/lib/apt/lists/*_*"]);
    chain.host.write("/opt/writer.pl", INDEX_WRITER);
    const asApt = ["setpriv", "--reuid=_apt", "--regid=nogroup", "--clear-groups"];
    const attacker = await chain.host.spawn([...asApt, "perl", "/opt/writer.pl", ...hashes]);
    await chain.host.aptUpdate();
    while (attacker.stdout() !== "written\n") await Bun.sleep(50);
    const { path, execution } = await chain.signed("apt", "install", "swapped");
    // The plan has the evil hash from an index whose signature verifies.
    expect(execution.operation_plan.transaction[0]?.sha256).toBe(hashes[1] ?? "");
    expect(execution.operation_plan.repository_evidence[0]).toMatchObject({ trust: "distribution" });
    const refused = async (why: string) => {
      const { status, stderr } = await chain.apply(path);
      expect([status, stderr]).toEqual([6, expect.stringContaining(why)]);
      expect(chain.audit().at(-1)).toMatchObject({ kind: "execution_denied", details: { code: "refused" } });
    };
    await refused("is open for writing");
    attacker.kill("SIGKILL");
    await attacker.exited;
    await refused("is not the index that its signed Release file names");
    expect((await chain.host.exec(["test", "-e", "/evil-ran"])).status).toBe(1);
  });

  test("apt's binary cache, built from a list that said something else and is again what was signed", async () => {
    const { repo } = chain.host;
    await chain.host.exec(["sh", "-c", "rm -f /etc/apt/apt.conf.d/docker-*"]);
    await repo.publish(["1.0", "1.1"].map((version) => ({ name: "cached", version })));
    await chain.host.aptUpdate();
    // apt believes the cache while the list has the size and the time that it had then.
    const done = await chain.host.exec([
      "sh",
      "-euc",
      `list=$(echo /var/lib/apt/lists/*_binary-amd64_Packages); touch -d '2026-01-01' "$list"; cp -a "$list" /opt/list
      sed -i 's/^Version: 1.1/Version: 0.1/' "$list"; touch -d '2026-01-01' "$list"; rm -f /var/cache/apt/*.bin
      apt-cache policy cached >/dev/null; cp -a /opt/list "$list"; ls /var/cache/apt/pkgcache.bin`,
    ]);
    expect(done).toMatchObject({ status: 0, stdout: "/var/cache/apt/pkgcache.bin\n" });
    const { path, planned } = await chain.signed("apt", "install", "cached");
    expect(planned.plan.transaction.map(({ to_version }) => to_version)).toEqual(["1.0"]);
    const { status, stderr } = await chain.apply(path);
    expect([status, stderr]).toEqual([9, expect.stringContaining("now it would be install cached:all 1.1")]);
    expect(await chain.dpkgVersion("cached")).toBe("");
  });
});
