import { afterEach, beforeEach, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { join } from "node:path";
import { MANAGED_LIMITS, managedLimits } from "../src/eco-sandbox-limits.ts";
import { fakeManaged, fakeStore } from "./managed-fake.ts";
import { compiledAegis, ManagedTest, managed, processesOf, script } from "./managed-kit.ts";

/*
 * What a hostile tool can do inside. It is a real shell with the host's real programs; each case installs what was signed, and tries
 * something besides.
 */

const TOOL = { name: "tool", bytes: "signed\n" };
const INSTALL = "get tool > $R/tool";

const TASKS: [processors: number, tasks: number][] = [
  [1, 576],
  [2, 640],
  [16, 1536],
  [64, 4096],
  [256, 4096],
];
test.each(TASKS)("with %i processors a run may have %i processes and threads", (processors, tasks) => {
  expect(managedLimits(processors)).toEqual({ ...MANAGED_LIMITS, tasks });
});

managed.describe("a hostile tool", () => {
  const aegis = compiledAegis();
  let at: ManagedTest;
  beforeEach(() => {
    at = new ManagedTest(aegis(), fakeManaged, {
      limits: { memory: 256 << 20, tasks: 200, disk: 64 << 20, entries: 3000 },
    });
    at.place("kept", "as before");
  });
  afterEach(() => at.close());

  const OLD: Record<string, string> = { kept: "as before" };
  const NEW: Record<string, string> = { ...OLD, tool: TOOL.bytes };

  managed.test("sees programs, its directory, and nothing else of the host", async () => {
    const look = `
      for path in /root /home /etc/aegis /etc/shadow /etc/ssh /var/log /var/cache /srv /mnt /boot /sys /dev/sda /dev/vda /dev/mem; do
        test -e $path && echo "sees $path"; done
      echo "state: $(ls -A /var/lib/aegis)"
      echo "run: $(ls -A /run)"
      echo "cwd: $(pwd) $(ls -A . | wc -l)"
      echo "home: $HOME $(cat ~/.config/fake)"
      echo "id: $(id -u) $(id -G)"
      grep -E '^(CapPrm|CapEff|CapInh|CapAmb|NoNewPrivs)' /proc/self/status | tr -s '\\t' ' '
      echo "processes: $(ls /proc | grep -c '^[0-9]')"
      echo "descriptors: $(ls -l /proc/self/fd | grep -v -e pipe: -e /proc/ -e total | awk '{print $9, $11}' | sort | tr '\\n' ';')"
      echo "environment: $(env | cut -d= -f1 | sort | tr '\\n' ' ')"
      echo "interfaces: $(grep -c : /proc/net/dev)"`;
    const { stdout, result } = await at.run([TOOL], script(`${INSTALL}\n${look}`));
    expect(result.state).toBe("completed");
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => line.trim());
    const { uid, gid } = at.account;
    expect(lines).toEqual([
      "state: fake",
      "run:",
      "cwd: /build/empty 0",
      "home: /build/home settings",
      `id: ${uid} ${gid}`,
      ...["CapInh", "CapPrm", "CapEff", "CapAmb"].map((name) => `${name}: 0000000000000000`),
      "NoNewPrivs: 1",
      expect.stringMatching(/^processes: [1-4]$/),
      `descriptors: 0 /dev/null;2 ${at.runDirectory()}/stderr;`,
      expect.stringMatching(
        /^environment: FAKE_REGISTRY HOME LC_ALL (?:OLDPWD )?PATH PWD SHLVL TERM TMPDIR _$/,
      ),
      "interfaces: 1",
    ]);
  });

  const ATTEMPTS: [what: string, command: string][] = [
    ["reach a server of the host", "exec 8<>/dev/tcp/127.0.0.1/HOSTPORT"],
    // A socket with a name below /usr or /opt is in another network and yet within reach.
    [
      "have a local socket",
      "perl -MSocket -e 'socket(my $s, AF_INET, SOCK_STREAM, 0) or exit 0; exit(socket($s, AF_UNIX, SOCK_STREAM, 0) ? 0 : 1)'",
    ],
    ["have a ring of system calls", "perl -e 'exit(syscall(425, 8, \"x\" x 200) < 0 && $!{EPERM} ? 1 : 0)'"],
    ["reach the network", "exec 8<>/dev/tcp/192.0.2.1/80"],
    ["signal the first process", "kill -9 1"],
    ["read its environment", "cat /proc/1/environ"],
    ["leave by the first process's root", "ls /proc/1/root/"],
    ["mount", "mount -t tmpfs none /tmp"],
    ["make its root writable", "mount -o remount,rw /"],
    ["make the host's programs writable", "mount -o remount,bind,rw /usr"],
    ["make a user namespace", "unshare --user true"],
    ["make a mount namespace", "unshare --mount true"],
    ["join another namespace", "nsenter --target 1 --mount true"],
    ["change the host's programs", "touch /usr/bin/evil"],
    ["change accounts", "echo 'x::0:0::/:' >> /etc/passwd"],
    ["write beside its directories", "touch /var/lib/aegis/other"],
    ["make a device", "mknod $R/device b 8 0"],
    ["give a file away", "chown 0 $R/tool"],
    ["give a file capabilities", "setcap cap_setuid+ep $R/tool || /sbin/setcap cap_setuid+ep $R/tool"],
    ["become root", "setpriv --reuid 0 true"],
    [
      "get root by a set-user-id program",
      "test $(find /usr/bin -perm -4000 -name 'su' -exec {} -c 'id -u' \\; ) = 0",
    ],
    ["change the files of the registry", "ls /files"],
    ["set the clock", "date -s 2030-01-01"],
    ["raise its limits", "ulimit -u 100000"],
  ];
  managed.test("can't do what takes rights or a way out", async () => {
    const tries = ATTEMPTS.map(
      ([what, command]) =>
        `( ${command.replace("HOSTPORT", String(at.port))} ) >/dev/null 2>&1 </dev/null && echo 'could ${what.replaceAll("'", "")}'`,
    );
    const { stdout, result } = await at.run([TOOL], script([INSTALL, ...tries, "true"].join("\n")));
    expect(stdout).toBe("");
    expect(result.state).toBe("completed");
    expect(at.installed()).toEqual(NEW);
    expect(at.leftOver()).toEqual([]);
  });

  const REFUSED: [what: string, script: string, why: RegExp][] = [
    ["other bytes", `${INSTALL}; echo more >> $R/tool`, /isn't what was signed: tool/],
    ["a further file", `${INSTALL}; echo x > $R/evil`, /isn't what was signed: evil/],
    ["a file less", "rm $R/kept; true", /isn't what was signed: (kept|tool)/],
    ["a file of before, changed", `${INSTALL}; echo x > $R/kept`, /isn't what was signed: kept/],
    ["a link to the host", `${INSTALL}; ln -s /etc/passwd $R/evil`, /"evil" is a link to "\/etc\/passwd"/],
    ["a link upwards", `${INSTALL}; mkdir $R/a; ln -s ../../x $R/a/evil`, /is a link to/],
    ["a link in the place of a file", `get tool > $R/t; ln -s t $R/tool`, /isn't what was signed: (t|tool)/],
    ["a second name", `${INSTALL}; ln $R/tool $R/evil`, /has a second name/],
    ["a set-user-id bit", `${INSTALL}; chmod 4755 $R/tool`, /has special mode bits/],
    ["a set-group-id directory", `${INSTALL}; mkdir $R/d; chmod 2755 $R/d`, /has special mode bits/],
    ["a pipe", `${INSTALL}; mkfifo $R/evil`, /is a device, pipe or socket/],
    ["a name with a line break", `${INSTALL}; touch $R/$'a\\nb'`, /has characters/],
    ["a name that is no text", `${INSTALL}; touch $R/$'a\\xff'`, /has characters/],
    ["a deep tree", `${INSTALL}; cd $R; for i in $(seq 100); do mkdir d; cd d; done`, /too deep/],
    [
      "many files",
      `${INSTALL}; cd $R; for i in $(seq 3500); do : > f$i; done; sleep 5`,
      /more than 3000 files|one of more than/,
    ],
    [
      "a full disk, by one file",
      `${INSTALL}; head -c 80000000 /dev/zero > $TMPDIR/big && sleep 5`,
      /status 1|wrote more than 64 MiB/,
    ],
    [
      "a full disk, by many files",
      `${INSTALL}; for i in 1 2 3; do head -c 30000000 /dev/zero > $R/$i; done; sleep 5`,
      /wrote more than 64 MiB/,
    ],
    [
      "a full disk, where names are too long to be looked at",
      `${INSTALL}; cd $R; n=$(printf 'd%.0s' $(seq 200)); for i in $(seq 30); do mkdir $n; cd $n; done; for i in 1 2 3; do head -c 30000000 /dev/zero > $i; done; sleep 5`,
      /directories too deep/,
    ],
    ["a memory hog", `perl -e '$x = "a" x 400000000; sleep 5'`, /status|memory/],
    [
      "memory hogs together",
      `for i in 1 2 3 4; do perl -e '$x = "a" x 80000000; sleep 9' & done; wait`,
      /256 MiB of memory/,
    ],
    // What fails to fork tries again: a bomb of shells ends by itself at the kernel's limit.
    ["a fork bomb", "perl -e 'fork while 1'", /it had 200 processes and threads at once/],
    ["a signal to itself", "kill -9 $$", /ended with/],
  ];
  for (const [what, attack, why] of REFUSED) {
    managed.test(`${what}: refused, and the directory stays as it was`, async () => {
      const { result } = await at.run([TOOL], script(attack));
      expect(result.state).toBe("failed");
      expect(result.message ?? "").toMatch(why);
      expect(at.installed()).toEqual(OLD);
      expect(at.leftOver()).toEqual([]);
    });
  }

  managed.test("processes speak with their children over pairs of sockets", async () => {
    const pair =
      "perl -MSocket -e 'socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0) and print qq(paired\\n)'";
    expect((await at.run([TOOL], script(`${INSTALL}\n${pair}`))).stdout).toBe("paired\n");
  });

  managed.test("what outlives the tool is dead before root looks", async () => {
    const outlive = `(setsid bash -c 'while true; do echo evil > $0/tool; done' $R &) ; sleep 0.2; rm $R/tool; ${INSTALL}`;
    const { result } = await at.run([TOOL], script(outlive));
    // It may still have written last; then the comparison has seen it. Nothing changes afterwards.
    const after = at.installed();
    expect([NEW, OLD]).toContainEqual(after);
    expect(result.state).toBe(after.tool === undefined ? "failed" : "completed");
    expect(processesOf(at.account.uid)).toEqual([]);
    await Bun.sleep(300);
    expect(at.installed()).toEqual(after);
  });

  managed.test("processes whose parents ended are taken away, and don't count", async () => {
    const orphans = `for i in $(seq 100); do (true &); done; sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l`;
    const { stdout, result } = await at.run([TOOL], script(`${INSTALL}; ${orphans}`));
    expect(result.state).toBe("completed");
    expect(stdout.trim()).toBe("0");
  });

  managed.test("an empty directory and user attributes don't go along", async () => {
    const { result } = await at.run(
      [TOOL],
      script(
        `${INSTALL}; setfattr -n user.evil -v 1 $R/tool 2>/dev/null; touch -d 1990-01-01 $R/tool; chmod 0666 $R/tool`,
      ),
    );
    expect(result.state).toBe("completed");
  });
});

/*
 * The same as root of a user namespace, with the capabilities that unpacking takes.
 */
managed.describe("a hostile tool that is root of its own namespace", () => {
  const aegis = compiledAegis();
  let at: ManagedTest;
  beforeEach(() => {
    at = new ManagedTest(aegis(), fakeStore, {
      limits: { memory: 256 << 20, tasks: 200, disk: 64 << 20, entries: 3000 },
    });
  });
  afterEach(() => at.close());

  managed.test("is nobody on the host, with few capabilities and one user range", async () => {
    const look = `
      echo "id: $(id -u) $(id -G)"
      grep -E '^(CapPrm|CapEff|CapBnd|CapInh|CapAmb|NoNewPrivs)' /proc/self/status | tr -s '\\t' ' '
      echo "map:$(tr -s ' ' < /proc/self/uid_map)"
      echo "state: $(ls -A /var/lib/aegis)"
      echo "cwd: $(pwd)"
      echo "interfaces: $(grep -c : /proc/net/dev)"`;
    const { stdout, result } = await at.run([TOOL], script(`${INSTALL}\n${look}`));
    expect(result.state).toBe("completed");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SYS_CHROOT, SYS_ADMIN, SETFCAP.
    const capabilities = (0b11011 | (1 << 18) | (1 << 21)) + 2 ** 31;
    const hex = capabilities.toString(16).padStart(16, "0");
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => line.trim()),
    ).toEqual([
      "id: 0 0",
      ...["CapInh: 0000000000000000", `CapPrm: ${hex}`, `CapEff: ${hex}`, `CapBnd: ${hex}`],
      ...["CapAmb: 0000000000000000", "NoNewPrivs: 1", "map: 0 700000000 65536", "state: fake"],
      ...["cwd: /build/empty", "interfaces: 1"],
    ]);
  });

  const OUT: [what: string, command: string][] = [
    ["reach a server of the host", "exec 8<>/dev/tcp/127.0.0.1/HOSTPORT"],
    ["signal the first process", "kill -9 1"],
    ["read its environment", "cat /proc/1/environ"],
    ["leave by the first process's root", "ls /proc/1/root/"],
    ["make the host's programs writable", "mount -o remount,bind,rw /usr"],
    ["make its root writable", "mount -o remount,bind,rw /"],
    ["let set-user-id programs count", "mount -o remount,bind,suid /tmp"],
    ["let devices count", "mount -o remount,bind,dev /tmp"],
    ["take a mount away", "umount /usr"],
    ["take its root away", "umount -l / && ls /files"],
    ["see what its root covers", "ls /files || ls /../files"],
    ["see it from a chroot", "mkdir -p /tmp/c && chroot /tmp/c /bin/true; cd / && ls ../../files"],
    ["change the host's programs", "touch /usr/bin/evil"],
    ["make a device", "mknod $R/device b 8 0"],
    ["change a setting of the kernel", "echo x > /proc/sys/kernel/core_pattern"],
    [
      "see all processes",
      "mkdir /tmp/p && mount -t proc proc /tmp/p && test $(ls /tmp/p | grep -c '^[0-9]') -gt 10",
    ],
    ["see the host's devices", "mkdir /tmp/s && mount -t sysfs sysfs /tmp/s"],
    ["give a file to a user of the host", "touch $R/x && chown 12345678 $R/x"],
    ["have a local socket", "perl -MSocket -e 'exit(socket(my $s, AF_UNIX, SOCK_STREAM, 0) ? 0 : 1)'"],
    ["set the clock", "date -s 2030-01-01"],
    ["join the first process's namespaces", "nsenter --target 1 --user --mount true"],
    ["become another user", "setpriv --reuid 1000 true"],
  ];
  managed.test("can't do what takes rights or a way out of it", async () => {
    const tries = OUT.map(
      ([what, command]) =>
        `( ${command.replace("HOSTPORT", String(at.port))} ) >/dev/null 2>&1 </dev/null && echo 'could ${what.replaceAll("'", "")}'`,
    );
    const { stdout, result } = await at.run(
      [TOOL],
      script([INSTALL, ...tries, "rm -f $R/x; true"].join("\n")),
    );
    expect(stdout).toBe("");
    expect(result.state).toBe("completed");
    expect(at.installed()).toEqual({ tool: TOOL.bytes });
    expect(at.leftOver()).toEqual([]);
  });

  managed.test("what it makes for other users is theirs in its namespace, and is told apart", async () => {
    const { result } = await at.run([TOOL], script(`${INSTALL}; touch $R/other; chown 5 $R/other`));
    expect(result).toMatchObject({
      code: "hash_mismatch",
      message: expect.stringContaining("other:all is 700000005"),
    });
    expect(at.installed()).toEqual({});
  });

  managed.test(
    "directories taken whole keep owners, modes and names from one content to the next",
    async () => {
      const whole =
        "mkdir -p $R/whole/a && echo su > $R/whole/a/su && chmod 4755 $R/whole/a/su && ln $R/whole/a/su $R/whole/a/su2";
      const first = await at.run([TOOL], script(`${INSTALL}; ${whole}; touch $R/passing`));
      expect(first.result).toMatchObject({ state: "completed" });
      const at2 = (path: string) => statSync(join(at.root, path));
      const [directory, file] = [at2("whole/a").ino, at2("whole/a/su")];
      expect([file.mode & 0o7777, file.nlink, file.uid]).toEqual([0o4755, 2, 0]);
      expect((await at.run([{ ...TOOL, bytes: "two" }], script(INSTALL))).result.state).toBe("completed");
      // The same directory, and the same files in the content before.
      expect([at2("whole/a").ino, at2("whole/a/su").ino, at2("whole/a/su").nlink]).toEqual([
        directory,
        file.ino,
        4,
      ]);
      expect(at.installed()).toMatchObject({ tool: "two", "whole/a/su2": "su\n" });
      expect(Object.keys(at.installed())).not.toContain("passing");
      expect(statSync(at.root).mode & 0o777).toBe(0o700);
    },
  );
});
