import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { HOST_DIRECTORIES } from "../src/host-accounts.ts";
import { NEEDRESTART_FILE, needrestartText } from "../src/host-drop-ins.ts";
import type { InstallReport } from "../src/host-install.ts";
import { UNIT_NAMES, unitText } from "../src/host-units.ts";
import { SHARED } from "../src/paths.ts";
import { VERSION } from "../src/self.ts";
import { UNIT_DIRECTORY } from "../src/sys-systemd.ts";
import { buildWhereNeeded, ROOT } from "./kit.ts";
import { needs } from "./needs.ts";
import { startHost, type ThrowawayHost, throwawayUnavailable } from "./throwaway.ts";

/*
 * Setting a host up and taking it down, on a throw-away host: real accounts, directories and files. In systemctl's place
 * stands a script that remembers what it was told; scripts/e2e-systemd does the same under a real systemd.
 */

const SYSTEMCTL = `#!/bin/bash
[ "$1" = --version ] && { cat /run/systemd/version; exit; }
mkdir -p /run/stub; cd /run/stub
[[ $* != *--timestamp=unix* ]] || { echo "Invalid value: unix." >&2; exit 1; } # as systemd 249 has it
[ "$1" = show ] || echo "$*" >>/run/systemctl.log
verb=$1; shift
units=(); for word; do case $word in -*) ;; *) units+=("$word") ;; esac; done
for unit in "\${units[@]}"; do
  case $verb in
    show)
      load=not-found; [ -e "/etc/systemd/system/\${unit/@any/@}" ] && load=loaded
      enabled=disabled; [ -e "enabled.$unit" ] && enabled=enabled
      active=inactive; since=; [ -e "active.$unit" ] && active=active since=$(date -ud "@$(stat -c %Y "active.$unit")" '+%a %F %T UTC')
      printf 'LoadState=%s\\nActiveState=%s\\nUnitFileState=%s\\nDropInPaths=\\nNeedDaemonReload=no\\nMainPID=0\\n' $load $active $enabled
      printf 'Result=success\\nActiveEnterTimestamp=%s\\n\\n' "$since" ;;
    enable) touch "enabled.$unit" ;;
    disable) rm -f "enabled.$unit" "active.$unit" ;;
    start | restart) touch "active.$unit" ;;
    stop) rm -f "active.$unit" ;;
  esac
done
`;

const obstacle = throwawayUnavailable();
const here = needs(obstacle === null, `a throw-away host (host-install.test.ts): ${obstacle}`);

here.describe("aegis daemon install", () => {
  let host: ThrowawayHost;
  const run = (argv: readonly string[], env: Record<string, string> = {}, user?: "alice") =>
    host.exec(argv, { env, ...(user === undefined ? {} : { user }) });
  const install = async (...args: string[]) => {
    const { status, stdout, stderr } = await run(["/root/aegis", "daemon", "install", "--json", ...args]);
    return { status, report: JSON.parse(stdout) as InstallReport, stderr };
  };
  const open = ({ steps }: InstallReport) =>
    steps.filter(({ done }) => done !== null).map(({ what }) => what);
  const sh = async (script: string) => (await run(["bash", "-c", script])).stdout.trim();
  const told = async () =>
    (await sh("cat /run/systemctl.log 2>/dev/null; rm -f /run/systemctl.log")).split("\n");

  beforeAll(async () => {
    buildWhereNeeded();
    host = await startHost({ binary: join(ROOT, "dist/aegis") });
    await sh("cp /usr/local/bin/aegis /root/aegis; rm /usr/local/bin/aegis; chmod 755 /root /usr/local/bin");
    host.write("/usr/local/sbin/systemctl", SYSTEMCTL, 0o755);
  }, 120_000);
  afterAll(() => host?.stop());

  describe("refuses", () => {
    const refused = (argv: readonly string[], env?: Record<string, string>, user?: "alice") =>
      run([...argv, "daemon", "install"], env, user);

    test("a machine that systemd does not run", async () => {
      const { status, stderr } = await refused(["/root/aegis"]);
      expect(status).toBe(8);
      expect(stderr).toContain("systemd does not run this host");
      await sh("mkdir -p /run/systemd/system");
    });
    test("a systemd too old for the units", async () => {
      host.write("/run/systemd/version", "systemd 247 (247.3-7+deb11u5)\n+PAM\n");
      const { status, stderr } = await refused(["/root/aegis"]);
      expect({ status, stderr }).toEqual({
        status: 8,
        stderr: expect.stringContaining("systemd 247 is too old: before 248 it ignores NoExecPaths="),
      });
      host.write("/run/systemd/version", "systemd 249 (249.11-0ubuntu3)\n+PAM\n");
    });
    test("users other than root", async () => {
      for (const verb of ["install", "uninstall"]) {
        await sh("install -m 755 /root/aegis /home/alice/aegis");
        for (const [typed, repeated] of [
          ["/home/alice/aegis", "/home/alice/aegis"],
          ["./aegis", "./aegis"],
          ["PATH=/home/alice:$PATH aegis", "/home/alice/aegis"],
        ] as const) {
          const script = `cd /home/alice; ${typed} daemon ${verb} --dry-run`;
          const { status, stderr } = await run(["bash", "-c", script], {}, "alice");
          expect(status).toBe(2);
          expect(stderr).toContain("[usage] only root");
          expect(stderr).toContain(`sudo ${repeated} daemon ${verb} `);
        }
      }
    });
    test("run from sources", async () => {
      // In one file, since the checkout need not be visible on the host.
      const built = await Bun.build({ entrypoints: [join(ROOT, "src/cli.ts")], target: "bun" });
      const [output] = built.outputs;
      if (output === undefined) throw new Error(built.logs.join("\n"));
      host.write("/root/cli.js", await output.text());
      const { status, stderr } = await refused([process.execPath, "/root/cli.js"]);
      expect(status).toBe(6);
      expect(stderr).toContain("from its sources");
    });
    const FILES = [
      ["one that others can write", "chmod 775 /root/other", "can be written by others"],
      ["one of another user", "chown alice /root/other", "belongs to another user"],
    ] as const;
    for (const [what, change, why] of FILES) {
      test(what, async () => {
        await sh(`cp /root/aegis /root/other; ${change}`);
        const { status, stderr } = await refused(["/root/other"]);
        expect({ status, stderr }).toEqual({ status: 6, stderr: expect.stringContaining(why) });
        await sh("rm /root/other");
      });
    }
    test("a directory that others can write", async () => {
      await sh("chmod 775 /usr/local/bin");
      expect((await refused(["/root/aegis"])).stderr).toContain("/usr/local/bin can be written by others");
      await sh("chmod 755 /usr/local/bin");
    });
    test("an environment that runs foreign code", async () => {
      const { status, stderr } = await refused(["/root/aegis"], { NODE_OPTIONS: "--x" });
      expect(status).toBe(6);
      expect(stderr).toContain("NODE_OPTIONS");
    });
    test("PEER 24: while an executor started by hand has the socket", async () => {
      await sh("mkdir -p /run/aegis; touch /run/aegis/aegisd.sock.lock");
      const held = await host.spawn(["flock", "--no-fork", "/run/aegis/aegisd.sock.lock", "sleep", "60"]);
      while ((await run(["flock", "-n", "/run/aegis/aegisd.sock.lock", "true"])).status === 0)
        await Bun.sleep(20);
      const { status, stderr } = await refused(["/root/aegis"]);
      expect(status).toBe(2);
      expect(stderr).toContain("started by hand");
      held.kill("SIGKILL");
      await held.exited;
      await sh("rm -r /run/aegis");
    });
    test("and none of these changed anything", async () => {
      expect(await sh("ls -d /etc/aegis /var/lib/aegis /etc/systemd/system/aegis* 2>/dev/null")).toBe("");
      expect(await told()).toEqual([""]);
    });
  });

  let shown: string[] = [];
  test("--dry-run shows every step and changes nothing", async () => {
    await sh("touch /marker; sleep 0.05");
    const { status, report } = await install("--dry-run");
    expect(status).toBe(0);
    expect(open(report)).toContain("accounts");
    for (const name of UNIT_NAMES) expect(open(report)).toContain(join(UNIT_DIRECTORY, name));
    for (const path of Object.values(SHARED)) expect(open(report)).toContain(path);
    shown = open(report);
    expect(
      await sh(
        "find /etc /usr/local /var/lib/aegis /var/log/aegis /run -newer /marker -type f ! -path '/run/stub/*' 2>/dev/null",
      ),
    ).toBe("");
    expect(await told()).toEqual([""]);
  });

  test("creates accounts, directories, units and the reviewer's key", async () => {
    const { status, report } = await install();
    expect(status).toBe(0);
    expect(report.dry_run).toBe(false);
    expect(open(report)).toEqual(shown);
    for (const { path, mode, user, group } of HOST_DIRECTORIES)
      expect(await sh(`stat -c '%a %U %G' ${path}`)).toBe(`${mode.toString(8)} ${user} ${group}`);
    for (const name of UNIT_NAMES) expect(host.read(join(UNIT_DIRECTORY, name))).toBe(unitText(name));
    for (const path of Object.values(SHARED))
      expect(await sh(`stat -c '%a %U %G' ${path}`)).toBe("644 root root");
    // With the very text that the program prints, and where man(1) finds it.
    expect(await sh(`/usr/local/bin/aegis help --man | cmp - ${SHARED.manual} && echo same`)).toBe("same");
    for (const shell of ["bash", "zsh", "fish"] as const) {
      const script = `/usr/local/bin/aegis completion ${shell} | cmp - ${SHARED[shell]} && echo same`;
      expect(await sh(script)).toBe("same");
    }
    // Each shell finds its own by itself.
    const FINDS = {
      "/usr/share/bash-completion/bash_completion": [
        "bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader aegis; complete -p aegis'",
        "complete -F _aegis aegis",
      ],
      "/usr/bin/zsh": ["zsh -fc 'autoload -Uz compinit; compinit -D; print $_comps[aegis]'", "_aegis"],
      "/usr/bin/fish": ["fish -c 'complete -C \"aegis sign k\"'", expect.stringMatching(/^keygen\t/)],
    } as const;
    for (const [needed, [script, says]] of Object.entries(FINDS))
      if (existsSync(needed)) expect(await sh(script)).toEqual(says);
    if (Bun.which("man") !== null) expect(await sh('readlink -f "$(man -w aegis)"')).toBe(SHARED.manual);
    // needrestart is not there, and may come: then it is to know.
    expect(host.read(NEEDRESTART_FILE)).toBe(needrestartText());
    expect(open(report)).toContain(NEEDRESTART_FILE);
    expect(
      await sh("stat -c '%a %U %G' /etc/aegis/review-key /etc/aegis/aegisd.env /etc/aegis/aegis-reviewd.env"),
    ).toBe("600 root root\n644 root root\n640 root aegis-reviewd");
    expect(await sh("getent passwd aegis-front aegis-reviewd aegis-build | cut -d: -f7 | sort -u")).toBe(
      "/usr/sbin/nologin",
    );
    expect(report.review_public_key_hex).toMatch(/^[0-9a-f]{64}$/);
    expect(await sh("cmp /root/aegis /usr/local/bin/aegis && stat -c '%a %u %g' /usr/local/bin/aegis")).toBe(
      "755 0 0",
    );
    // No approval key is ever made, and without an execution key the executor is not started.
    expect(await sh("ls /etc/aegis")).not.toContain("approv");
    expect(report.next[0]).toContain("No execution key is trusted yet");
    const all = await told();
    expect(all.filter((line) => line.includes("aegisd"))).toEqual([]);
    // What is on the host now counts as known, not what is there when its timer comes round.
    expect(all.at(-1)).toBe("start --no-block aegis-monitor.service");
  });

  test("a second run has nothing to do", async () => {
    const { status, report } = await install();
    expect({ status, open: open(report) }).toEqual({ status: 0, open: [] });
    expect(await told()).toEqual([""]);
  });

  test("an older installation is upgraded; the administrator's files and the record stay", async () => {
    const installed = host.read("/var/lib/aegis/installed");
    host.write("/etc/aegis/aegisd.env", "AEGIS_LOG=debug\n");
    host.write("/var/lib/aegis/spent/spent.ndjson", "kept\n", 0o600);
    host.write(join(UNIT_DIRECTORY, "aegisd.service"), "[Service]\nExecStart=/usr/libexec/aegis/aegisd\n");
    await sh("printf old >/usr/local/bin/aegis");
    const key = host.read("/etc/aegis/review-key");
    const { report } = await install();
    expect(open(report)).toEqual([
      "/usr/local/bin/aegis",
      join(UNIT_DIRECTORY, "aegisd.service"),
      "systemd's view of the units",
    ]);
    expect(host.read("/etc/aegis/aegisd.env")).toBe("AEGIS_LOG=debug\n");
    expect(host.read("/var/lib/aegis/spent/spent.ndjson")).toBe("kept\n");
    expect(host.read("/var/lib/aegis/installed")).toBe(installed);
    expect(host.read("/etc/aegis/review-key")).toBe(key);
  });

  describe("another version", () => {
    const fake = (says: string) =>
      host.write("/usr/local/bin/aegis", `#!/bin/sh\n[ "$*" = --version ] && printf '${says}'\n`, 0o755);
    const step = ({ steps }: InstallReport) =>
      steps.find(({ what }) => what === "/usr/local/bin/aegis")?.done ?? null;

    test("a newer version is installed: refused before any change, unless --downgrade is given", async () => {
      fake("aegis 99.0.0\\n");
      host.write(join(UNIT_DIRECTORY, "aegisd.service"), "changed\n");
      for (const flags of [[], ["--dry-run"]]) {
        const { status, stderr } = await run(["/root/aegis", "daemon", "install", ...flags]);
        expect([status, stderr]).toEqual([
          2,
          expect.stringContaining(`aegis ${VERSION}, but 99.0.0 is installed`),
        ]);
        expect(stderr).toContain("--downgrade");
      }
      expect(host.read(join(UNIT_DIRECTORY, "aegisd.service"))).toBe("changed\n");
      const { status, report } = await install("--downgrade");
      expect([status, step(report)]).toEqual([0, `downgrade from 99.0.0 to ${VERSION}`]);
      expect(report.version).toEqual({ from: "99.0.0", to: VERSION });
    });
    test.each([
      ["aegis 0.0.1\\n", `upgrade from 0.0.1 to ${VERSION}`],
      [`aegis ${VERSION}\\n`, `replace ${VERSION} with ${VERSION} (same version, another build)`],
      ["aegis 99.0.0 and more\\n", `replace an unknown version with ${VERSION}`],
    ])("%s: %s", async (says, words) => {
      fake(says);
      const { stdout } = await run(["/root/aegis", "daemon", "install"]);
      expect(stdout).toContain(`✓ /usr/local/bin/aegis: ${words}\n`);
      expect(await sh("cmp /root/aegis /usr/local/bin/aegis && echo same")).toBe("same");
    });
    test("a file that others can write is replaced without being run", async () => {
      fake("aegis 99.0.0\\n");
      await sh("chmod 777 /usr/local/bin/aegis");
      expect(step((await install()).report)).toBe(`replace an unknown version with ${VERSION}`);
    });
  });

  test("a directory that others can write gets neither manual page nor completion, and install says so", async () => {
    const zsh = join(SHARED.zsh, "..");
    await sh(`rm ${Object.values(SHARED).join(" ")}; chmod 775 ${zsh}`);
    const { status, report } = await install();
    expect([status, open(report)]).toEqual([0, [SHARED.manual, SHARED.bash, SHARED.fish]]);
    expect(report.next[0]).toBe(`${SHARED.zsh} is not written: ${zsh} can be written by others than root`);
    expect(await sh(`ls ${SHARED.zsh} 2>&1`)).toContain("No such file");
    await sh(`chmod 755 ${zsh}; rm ${SHARED.manual}; ln -s /etc/passwd ${SHARED.manual}`);
    const { report: second } = await install();
    expect(open(second)).toEqual([SHARED.zsh]);
    expect(second.next[0]).toBe(
      `${SHARED.manual} is not written: ${SHARED.manual} is not one that Aegis wrote`,
    );
    expect(await sh("head -c 5 /etc/passwd")).toBe("root:");
    await sh(`rm ${SHARED.manual}`);
    expect(open((await install()).report)).toEqual([SHARED.manual]);
  });

  test("every key revoked while the executor runs: not reported as stopped", async () => {
    const keys =
      '[[key]]\nid = "x"\npublic_key_hex = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"\nrole = "execution"\nrevoked = true\n';
    const before = host.read("/etc/aegis/trusted-keys.toml");
    host.write("/etc/aegis/trusted-keys.toml", keys);
    expect((await install()).report.next[0]).toContain("No execution key is trusted yet");
    await sh("touch /run/stub/active.aegisd.service");
    expect((await install()).report.next[0]).toBe(
      "No execution key is trusted any more: the executor runs but refuses every plan.",
    );
    await sh("rm /run/stub/active.aegisd.service");
    host.write("/etc/aegis/trusted-keys.toml", before);
  });

  test("failing to start the monitor's first run is no error", async () => {
    await sh("rm -f /run/stub/active.aegis-monitor.service");
    host.write(
      "/usr/local/sbin/systemctl",
      SYSTEMCTL.replace("cd /run/stub", 'cd /run/stub; [ "$1" != start ] || exit 1'),
      0o755,
    );
    const { status, report } = await install();
    expect([status, open(report)]).toEqual([0, ["the monitor's first look"]]);
    host.write("/usr/local/sbin/systemctl", SYSTEMCTL, 0o755);
    await sh("mkdir -p /var/lib/aegis/monitor; touch /var/lib/aegis/monitor/state.json");
    expect(open((await install()).report)).toEqual([]);
  });

  test("for people, steps with nothing to do have a mark too", async () => {
    const { stdout } = await run(["/root/aegis", "daemon", "install"]);
    expect(stdout).toContain("= leftovers of an interrupted install: nothing to do\n");
    expect(stdout.split("\n").filter((line) => line.startsWith(" "))).toEqual([]);
  });

  test("no line is wider than the terminal; a pipe gets one line per step", async () => {
    await sh("mv /etc/tmpfiles.d/aegis.conf /root; chmod 755 /var/lib/aegis/{runs,spent,lock,results}");
    const lines = (await run(["/root/aegis", "daemon", "install", "--dry-run"])).stdout.trimEnd().split("\n");
    const step = lines.find((line) => line.startsWith("· directories: "));
    expect(step?.length).toBeGreaterThan(80);
    const shell = "stty cols 60; /root/aegis daemon install --dry-run";
    const { stdout } = await run(["script", "--quiet", "--command", shell, "/dev/null"]);
    const folded = stdout.replaceAll("\r", "").trimEnd().split("\n");
    // Only a word that has no room in a line is longer: a key.
    expect(folded.filter((line) => line.length > 60 && /\S +\S/.test(line.trim()))).toEqual([]);
    expect(folded.join("\n").replace(/\n +/g, " ").split("\n")).toEqual(lines);
    await sh("mv /root/aegis.conf /etc/tmpfiles.d");
    expect(open((await install()).report)).toEqual(["directories"]);
  });

  test("files of an executor started by hand get the group", async () => {
    await sh(
      "cd /var/lib/aegis/results; chgrp root . ; chmod 750 .; echo {} >a.json; cd /var/log/aegis; chgrp root .; chmod 750 .; echo >audit.ndjson; chmod 600 audit.ndjson; chgrp root audit.ndjson",
    );
    await install();
    expect(await sh("stat -c '%a %G' /var/lib/aegis/results{,/a.json} /var/log/aegis{,/audit.ndjson}")).toBe(
      "2750 aegis-admin\n640 aegis-admin\n2751 aegis-admin\n640 aegis-admin",
    );
  });

  test("replacing the program waits for a run to end, configuration does not", async () => {
    const held = await host.spawn(["flock", "--no-fork", "/var/lib/aegis/lock/run", "sleep", "60"]);
    while ((await run(["flock", "-n", "/var/lib/aegis/lock/run", "true"])).status === 0) await Bun.sleep(20);
    expect(open((await install()).report)).toEqual([]);
    await sh("printf old >/usr/local/bin/aegis");
    const waiting = await host.spawn(["/root/aegis", "daemon", "install", "--json"]);
    while (!(await sh("ls /var/lib/aegis/lock")).includes("set-up")) await Bun.sleep(20);
    await Bun.sleep(300);
    expect(await sh("cat /usr/local/bin/aegis")).toBe("old");
    const { status, stderr } = await run(["/root/aegis", "daemon", "uninstall"]);
    expect({ status, stderr }).toEqual({
      status: 8,
      stderr: expect.stringContaining("an execution is running"),
    });
    held.kill("SIGKILL");

    expect(await waiting.exited).toBe(0);
    expect(await sh("cmp /root/aegis /usr/local/bin/aegis && echo same")).toBe("same");
  });

  describe("aegis daemon uninstall", () => {
    test("--dry-run changes nothing", async () => {
      await told();
      expect((await run(["/root/aegis", "daemon", "uninstall", "--dry-run"])).status).toBe(0);
      expect(await told()).toEqual([""]);
      expect(await sh("ls /usr/local/bin/aegis")).toBe("/usr/local/bin/aegis");
    });
    test("removes services and program, and keeps log, configuration and the record of used plans", async () => {
      const { status, stdout } = await run(["/usr/local/bin/aegis", "daemon", "uninstall"]);
      expect(status).toBe(0);
      expect(
        await sh(
          "ls -d /etc/systemd/system/aegis* /usr/local/bin/aegis /etc/tmpfiles.d/aegis.conf 2>/dev/null",
        ),
      ).toBe("");
      expect(await sh("ls -d /etc/needrestart 2>/dev/null")).toBe("");
      expect(await sh(`ls ${Object.values(SHARED).join(" ")} 2>/dev/null`)).toBe("");
      for (const kept of ["/var/log/aegis", "/var/lib/aegis", "/etc/aegis"]) expect(stdout).toContain(kept);
      expect(host.read("/var/lib/aegis/spent/spent.ndjson")).toBe("kept\n");
      expect(host.read("/etc/aegis/aegisd.env")).toBe("AEGIS_LOG=debug\n");
      const [first, second] = await told();
      expect(first).toStartWith("disable --now ");
      // Which systemd refuses to stop.
      expect(first).not.toContain("aegis-recover");
      expect(second).toBe("disable aegis-recover.service");
    });
    test("and installing again restores it", async () => {
      const { status, report } = await install();
      expect(status).toBe(0);
      expect(open(report)).not.toContain("accounts");
      expect(open(report)).not.toContain("/etc/aegis/review-key");
    });
  });
});
