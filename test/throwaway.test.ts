import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import { evilTwin, FOREIGN, NATIVE, type PackageKey, pick } from "./throwaway-packages.ts";
import { type Repository, startRepository } from "./throwaway-repo.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/** What must never change outside: dpkg's database, apt's sources and lists, the accounts, the host's name. */
function machine(): string {
  const files = [
    "/var/lib/dpkg/status",
    "/etc/passwd",
    "/etc/group",
    "/etc/machine-id",
    "/proc/sys/kernel/hostname",
  ];
  const directories = [
    "/etc/apt/sources.list.d",
    "/var/lib/apt/lists",
    "/usr/share/keyrings",
    "/mnt",
    "/srv",
  ];
  const contents = files.filter(existsSync).map((file) => sha256Hex(readFileSync(file)));
  const names = directories.filter(existsSync).map((directory) => readdirSync(directory).join(" "));
  return [...contents, ...names, readFileSync("/proc/self/mounts", "utf8")].join("\n");
}

describeOnThrowaway("throw-away host", () => {
  let before: string;
  let repo: Repository;
  let host: ThrowawayHost;

  const offer = async (...keys: readonly PackageKey[]) => {
    await repo.publish(pick(...keys));
    await host.aptUpdate();
  };
  const simulate = async (...args: readonly string[]) => {
    const { stdout } = await host.exec(["apt-get", "-s", ...args]);
    return stdout.split("\n").filter((line) => /^(Inst|Remv) /.test(line));
  };
  const state = async (name: string) => {
    const { stdout } = await host.exec(["dpkg", "-s", name]);
    return /^Status: \S+ ok (\S+)$/m.exec(stdout)?.[1] ?? "not-installed";
  };

  beforeAll(async () => {
    before = machine();
    repo = await startRepository();
  });
  beforeEach(async () => {
    host = await startHost({ repo, foreignArchitecture: true });
  });
  afterEach(() => host.stop());
  afterAll(async () => {
    await repo.stop();
    expect(machine()).toBe(before);
  });

  test("a package installed inside is unknown outside", async () => {
    await offer("hello-aegis=1.1");
    const { status } = await host.exec(["apt-get", "install", "-y", "hello-aegis"]);
    expect(status).toBe(0);
    expect(await state("hello-aegis")).toBe("installed");
    expect((await host.exec(["hello-aegis"])).stdout).toBe("hello-aegis 1.1\n");
    expect(existsSync("/usr/bin/hello-aegis")).toBe(false);
    expect(Bun.spawnSync(["dpkg", "-s", "hello-aegis"]).exitCode).toBe(1);
    expect(machine()).toBe(before);
  });

  test("it is a host of its own: name, machine id, first process, users, no Aegis", async () => {
    const { stdout } = await host.exec([
      "sh",
      "-c",
      "hostname; cat /etc/machine-id; id -Gn alice; id -Gn bob; ls /run",
    ]);
    const [name, machineId = "", alice, bob, ...run] = stdout.trim().split("\n");
    expect([name, alice, bob]).toEqual(["throwaway", "alice aegis-admin", "bob"]);
    expect(machineId).toMatch(/^[0-9a-f]{32}$/);
    expect(machineId).not.toBe(
      existsSync("/etc/machine-id") ? readFileSync("/etc/machine-id", "utf8").trim() : "",
    );
    expect(run).not.toContain("aegis");
    expect((await host.exec(["ischroot"])).status).toBe(1);
    expect((await host.exec(["test", "-e", "/etc/aegis"])).status).toBe(1);
  });

  test("the given executable is aegis; the distribution's keyring has the repository's key unless told otherwise", async () => {
    const keyrings = readdirSync("/usr/share/keyrings").filter((name) =>
      /^(debian|ubuntu)-archive-keyring\.gpg$/.test(name),
    );
    const keys = (of: ThrowawayHost) =>
      keyrings.map((name) =>
        Buffer.from(repo.key.public).equals(readFileSync(of.path(`/usr/share/keyrings/${name}`))),
      );
    const other = await startHost({ repo, binary: "/bin/echo", distribution: false });
    expect((await other.exec(["aegis", "hello"])).stdout).toBe("hello\n");
    expect((await host.exec(["test", "-e", "/usr/local/bin/aegis"])).status).toBe(1);
    expect(keys(host)).toEqual(keyrings.map(() => true));
    expect(keys(other)).toEqual(keyrings.map(() => false));
    await other.stop();
  });

  test("commands run as the user asked for, in the user's home, with their input and status", async () => {
    const script = 'id -un; pwd; echo "$HOME $GREETING"; cat; echo problem >&2; exit 7';
    const how = { user: "alice", env: { GREETING: "hi" }, stdin: "input" } as const;
    expect(await host.exec(["sh", "-c", script], how)).toEqual({
      status: 7,
      stdout: "alice\n/home/alice\n/home/alice hi\ninput",
      stderr: "problem\n",
    });
    expect(await host.exec(["sh", "-c", "kill -KILL $$"])).toEqual({
      status: 128 + 9,
      stdout: "",
      stderr: "",
    });
    await expect(host.exec(["sleep", "60"], { timeoutMs: 50 })).rejects.toThrow("still running");
  });

  test("a path that would lead to the machine's own file is refused", async () => {
    symlinkSync("/etc", host.path("/srv/link"));
    expect(() => host.write("/srv/link/passwd", "")).toThrow("absolute symbolic link");
  });

  test("a process may end before anybody has looked at it", async () => {
    const many = await Promise.all(Array.from({ length: 30 }, () => host.spawn(["echo", "done"])));
    expect(await Promise.all(many.map((one) => one.exited))).toEqual(Array(30).fill(0));
    expect(many.map((one) => one.stdout())).toEqual(Array(30).fill("done\n"));
  });

  test("a started process can be seen, signalled, and ends with the host", async () => {
    // A stopped process must not hold the host up.
    const stopped = host.exec(["sh", "-c", "kill -STOP $$"]);
    const running = await host.spawn(["sh", "-c", "echo started; sleep 600 & exec sleep 600"]);
    const other = await host.spawn(["sleep", "600"], { user: "bob" });
    while (running.stdout() !== "started\n") await Bun.sleep(5);
    expect((await host.exec(["ps", "-o", "user=", "-p", `${other.insidePid}`])).stdout.trim()).toBe("bob");
    running.kill("SIGKILL");
    expect(await running.exited).toBe(128 + 9);
    await host.stop();
    expect(existsSync(`/proc/${other.pid}`)).toBe(false);
    expect(await other.exited).toBe(128 + 9);
    expect((await stopped).status).toBe(128 + 9);
  });

  test("a host ends with the process that started it, even when that is killed", async () => {
    const script = `
      import { startHost } from ${JSON.stringify(join(import.meta.dir, "throwaway.ts"))};
      const host = await startHost();
      const { pid } = await host.spawn(["sleep", "600"]);
      console.log(pid);
      await Bun.sleep(600_000);`;
    const owner = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    const { value } = await owner.stdout.getReader().read();
    const pid = Number(Buffer.from(value ?? []).toString());
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    owner.kill("SIGKILL");
    await owner.exited;
    while (existsSync(`/proc/${pid}`)) await Bun.sleep(5);
  });

  test("an upgrade offers exactly our packages: upgraded, kept back, phased, and one that needs a new library", async () => {
    await offer(
      "hello-aegis=1.0",
      "held=1.0",
      "phased=1.0",
      "app=1.0",
      "libapp=1.0",
      "linux-image-9.9.9-aegis=1.0",
    );
    await host.aptInstall("hello-aegis", "held", "phased", "app", "linux-image-9.9.9-aegis");
    await offer(
      "hello-aegis=1.2",
      "held=2.0",
      "phased=2.0",
      "app=2.0",
      "libapp=1.0",
      "libapp-extra=1.0",
      "linux-image-9.9.9-aegis=1.1",
    );
    expect(await simulate("upgrade", "-o", "Dir::Bin::ischroot=/bin/false")).toEqual([
      "Inst hello-aegis [1.0] (1.2 Throwaway:stable [all])",
      "Inst linux-image-9.9.9-aegis [1.0] (1.1 Throwaway:stable [all])",
    ]);
  });

  test("a removal by conflict, of an essential package too, and a downgrade", async () => {
    await offer(
      "hello-aegis=1.0",
      "hello-aegis=1.1",
      "conflictor=1.0",
      "aegis-essential=1.0",
      "essential-remover=1.0",
    );
    await host.aptInstall("hello-aegis=1.1", "aegis-essential");
    expect(await simulate("install", "conflictor")).toContain("Remv hello-aegis [1.1]");
    expect(await simulate("install", "hello-aegis=1.0")).toEqual([
      "Inst hello-aegis [1.1] (1.0 Throwaway:stable [all])",
    ]);
    expect((await host.exec(["apt-get", "-s", "install", "essential-remover"])).status).toBe(100);
    expect(await simulate("install", "essential-remover", "aegis-essential-")).toContain(
      "Remv aegis-essential [1.0]",
    );
  });

  test("one package for two architectures", async () => {
    await offer("libmulti=1.0", "libmulti:foreign=1.0");
    await host.aptInstall(`libmulti:${NATIVE}`, `libmulti:${FOREIGN}`);
    await offer("libmulti=1.1", "libmulti:foreign=1.1");
    expect((await simulate("upgrade")).map((line) => line.split(" (")[0]).toSorted()).toEqual([
      "Inst libmulti [1.0]",
      `Inst libmulti:${FOREIGN} [1.0]`,
    ]);
  });

  test("a package whose postinst fails stays half-configured", async () => {
    await offer("postinst-fails=1.0");
    expect((await host.exec(["apt-get", "install", "-y", "postinst-fails"])).status).toBe(100);
    expect(await state("postinst-fails")).toBe("half-configured");
  });

  test("the sleeper is being configured until its time is over", async () => {
    await offer("sleeper=1.0");
    host.write("/etc/sleeper-seconds", "600");
    const apt = await host.spawn(["apt-get", "install", "-y", "sleeper"]);
    while ((await state("sleeper")) !== "half-configured") await Bun.sleep(20);
    expect((await host.exec(["pkill", "-x", "sleep"])).status).toBe(0);
    expect(await apt.exited).toBe(100);
  });

  test("the debconf question has its default where nobody can be asked", async () => {
    await offer("debconf-asker=1.0");
    await host.aptInstall("debconf-asker");
    expect(host.read("/etc/debconf-asker.answer")).toBe("unasked\n");
  });

  test("a conffile that the user changed is a conflict of the upgrade", async () => {
    await offer("conffile-owner=1.0");
    await host.aptInstall("conffile-owner");
    host.write("/etc/conffile-owner.conf", "# the user's own\n");
    await offer("conffile-owner=1.1");
    const upgrade = (force: string) =>
      host.exec(["apt-get", "upgrade", "-y", "-o", `Dpkg::Options::=--force-${force}`]);
    expect((await upgrade("confold")).status).toBe(0);
    expect(host.read("/etc/conffile-owner.conf")).toBe("# the user's own\n");
    expect(host.read("/etc/conffile-owner.conf.dpkg-dist")).toBe("# as shipped with 1.1\n");
  });

  test("a package that is removed behind apt's back is gone when apt ends", async () => {
    await offer("behind-our-back=1.0", "bystander=1.0");
    await host.aptInstall("bystander");
    expect(await state("bystander")).toBe("installed");
    expect((await host.exec(["apt-get", "install", "-y", "behind-our-back"])).status).toBe(0);
    expect(await state("behind-our-back")).toBe("installed");
    expect(await state("bystander")).toBe("not-installed");
  });

  test("a source whose key the host does not know is refused by apt", async () => {
    const other = await startRepository();
    await other.publish(pick("hello-aegis=1.0"));
    host.addSource("other", other);
    host.write("/usr/share/keyrings/other.gpg", repo.key.public);
    await expect(host.aptUpdate()).rejects.toThrow("NO_PUBKEY");
    await other.stop();
  });

  test.each(["http", "file"] as const)(
    "a second source over %s offers the same version with other bytes",
    async (transport) => {
      const evil = await startRepository({ origin: "Evil" });
      await evil.publish([evilTwin("hello-aegis=1.1")]);
      await repo.publish(pick("hello-aegis=1.1"));
      const uri = host.addSource("evil", evil, { transport });
      await host.aptUpdate();
      const { stdout } = await host.exec(["apt-cache", "show", "hello-aegis"]);
      expect(new Set(stdout.match(/^SHA256: .*$/gm)).size).toBe(2);
      expect((await host.exec(["apt-cache", "policy", "hello-aegis"])).stdout).toContain(uri);
      await evil.stop();
    },
  );
});
