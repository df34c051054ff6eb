import { afterAll, beforeAll, expect, test } from "bun:test";
import { gated, plain } from "./e2e-running.ts";
import { needs } from "./needs.ts";
import { VM_ROOT, vmUnavailable } from "./vm-image.ts";
import {
  answer,
  dropInOfHelp,
  events,
  kindsOf,
  setDropIn,
  signedInstall,
  startVmChain,
  submitted,
  timesBegun,
  untilInside,
  type VmChain,
} from "./vm-kit.ts";

/*
 * What only a machine with a kernel, a clock and a disk of its own shows: LVM, a boot loader, AppArmor, a failing disk, clocks
 * that jump and power that fails in the middle of a run, the limits of unified cgroups.
 */

const wanted = process.env["AEGIS_E2E_VM"] === "1";
const missing = wanted ? vmUnavailable() : "not asked for: scripts/e2e-vm takes a quarter of an hour";
const COMPLETED = ["execution_started", "execution_completed"];
const INTERRUPTED = ["execution_started", "execution_interrupted"];
const LOG = "/var/log/aegis";

const BOOT_WRITER = {
  name: "boot-writer",
  version: "1.0",
  control: { postinst: "#!/bin/sh\nset -e\ngrub-install /dev/vda\nupdate-grub\n" },
};
/** With a profile for its program, that its postinst loads in the words of dh_apparmor: a failure is none of the package's. */
const CONFINED = {
  name: "confined",
  version: "1.0",
  files: {
    "/usr/bin/confined": "#!/bin/sh\ncat /proc/self/attr/current\ncat /etc/machine-id\n",
    "/etc/apparmor.d/usr.bin.confined":
      "/usr/bin/confined {\n  /usr/bin/confined r,\n  /{,usr/}bin/* mrix,\n  /{,usr/}lib{,64}/** mr,\n  /etc/ld.so.* r,\n  /proc/** r,\n}\n",
  },
  control: {
    postinst: `#!/bin/sh
set -e
if [ "$1" = "configure" ]; then
    APP_PROFILE="/etc/apparmor.d/usr.bin.confined"
    if [ -f "$APP_PROFILE" ]; then
        if aa-enabled --quiet 2>/dev/null; then
            apparmor_parser -r -T -W "$APP_PROFILE" || true
        fi
    fi
fi
`,
  },
};
const GATED = ["front-dies", "disk-dies", "power-dpkg", "back", "forward"];

needs(missing === null, `a virtual machine: ${missing}`).describe("in a virtual machine", () => {
  let chain: VmChain;
  beforeAll(async () => {
    chain = await startVmChain();
    await chain.host.repo.publish([...GATED.map(gated), ...plain("quick", 9), BOOT_WRITER, CONFINED]);
    await chain.host.aptUpdate();
  }, 1_200_000);
  afterAll(() => chain?.host.stop());

  const untilGate = (name: string) => untilInside(chain, `test -e /run/${name}.here`);
  const untilWaiting = (id: string) => untilInside(chain, `aegis daemon status | grep '^waiting.*${id}'`);
  const openGate = (name: string) => chain.vm.sh(`touch /run/${name}.go`);
  const status = async (name: string) => (await chain.dpkgStatus(name)).split(" ").at(-1);

  test("the services run, within the limits of unified cgroups; a front that needs more is started anew", async () => {
    const { vm } = chain;
    expect((await vm.sh("stat -f -c %T /sys/fs/cgroup")).trim()).toBe("cgroup2fs");
    const limit = async (unit: string, file: string) =>
      (await vm.sh(`cat /sys/fs/cgroup/system.slice/${unit}/${file}`)).trim();
    for (const [unit, memory] of [
      ["aegisd.service", 512],
      ["aegis-reviewd.service", 1024],
    ] as const) {
      expect(await limit(unit, "memory.max")).toBe(String(memory * 1024 * 1024));
      expect(await limit(unit, "memory.swap.max")).toBe("0");
      expect(await limit(unit, "pids.max")).toBe("256");
    }
    const { id, path } = await signedInstall(chain, "front-dies");
    const client = submitted(chain, path);
    await untilGate("front-dies");
    await vm.sh("systemctl set-property --runtime aegisd.service MemoryMax=2M");
    const restarts = "systemctl show -P NRestarts aegisd.service";
    await untilInside(chain, `[ $(${restarts}) -gt 0 ]`);
    await vm.sh("systemctl set-property --runtime aegisd.service MemoryMax=512M");
    await openGate("front-dies");
    expect((await client).status).toBe(0);
    expect(await kindsOf(chain, id)).toEqual(COMPLETED);
    expect((await vm.sh("journalctl -b -u aegisd.service -o cat")).toLowerCase()).toContain("oom");
  }, 900_000);

  test("LVM: snapshots, thick and thin, of what holds the system, with the documented drop-in alone", async () => {
    const { vm } = chain;
    vm.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow_with_snapshot"\n');
    // dpkg's own data on a thin volume, with a layer between.
    await vm.sh(`
      lvcreate -qq -y -Zn -L 600M -T vg/pool; lvcreate -qq -y -V 400M -T vg/pool -n dpkg
      dmsetup create layer --table "0 $(blockdev --getsz /dev/vg/dpkg) linear /dev/vg/dpkg 0"
      mkfs.ext4 -q /dev/mapper/layer; mount /dev/mapper/layer /mnt; cp -a /var/lib/dpkg/. /mnt/; umount /mnt
      mount /dev/mapper/layer /var/lib/dpkg
      lvcreate -qq -y -Wn -L 32M -n other vg
      lvcreate -qq -y -s -L 96M -n early vg/root; sleep 2`);
    const planned = await chain.plan("apt", "install", "quick0");
    await chain.policy(planned.plan.plan_id);
    await vm.sh(`sleep 1
      lvcreate -qq -y -s -L 96M -n thick vg/root; lvcreate -qq -y -s -n thin vg/dpkg
      lvcreate -qq -y -s -L 8M -n full vg/root; lvcreate -qq -y -s -L 8M -n stray vg/other`);
    const sign = (...names: readonly string[]) => {
      const words = ["--key", "/root/keys/sign", "--signer", "ops@example"];
      const snapshots = names.flatMap((name) => ["--snapshot-id", `lvm:vg/${name}`]);
      return chain.aegis(["sign", planned.plan.plan_id, ...words, ...snapshots, "--out", "/tmp/signed"]);
    };
    // While it is whole, what will be full is as good as any.
    expect((await sign("full", "thin")).status).toBe(0);
    await vm.sh("install -m 644 /tmp/signed /tmp/with-full; rm /tmp/signed");
    await vm.sh("dd if=/dev/urandom of=/root/filler bs=1M count=12 conv=fsync status=none; rm /root/filler");
    const refused: [names: string[], why: string][] = [
      [["thick"], "none contains /var/lib/dpkg"],
      [["thin"], "none contains /etc, /usr"],
      [["early", "thin"], "before the plan"],
      [["full", "thin"], "full or not active"],
      [["thick", "thin", "stray"], "it is of vg/other, which contains none of"],
      [["root"], "not a snapshot"],
      [["pool"], "not a snapshot"],
      [["absent"], "Failed to find logical volume"],
    ];
    for (const [names, why] of refused) {
      const { status: ended, stderr } = await sign(...names);
      expect([names, ended, stderr]).toEqual([names, 6, expect.stringContaining(why)]);
    }
    const signed = await sign("thick", "thin");
    expect([signed.status, signed.stderr]).toEqual([0, expect.any(String)]);
    await vm.sh("chmod 644 /tmp/signed");
    const withoutDropIn = await submitted(chain, "/tmp/signed");
    expect([withoutDropIn.status, withoutDropIn.stderr]).toEqual([
      6,
      expect.stringContaining("/dev/mapper/control is hidden: see the drop-in: aegis help snapshots"),
    ]);
    await setDropIn(chain, dropInOfHelp("snapshots", "aegis-runner@.service"));
    const full = await submitted(chain, "/tmp/with-full");
    expect([full.status, full.stderr]).toEqual([6, expect.stringContaining("full or not active")]);
    expect(await status("quick0")).toBe("");
    expect(await answer(chain, "/tmp/signed")).toBe("0");
    expect(await status("quick0")).toBe("installed");

    await setDropIn(chain, null);
    vm.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow"\n');
    await vm.sh(`mount /dev/vg/root /mnt; cp -a /var/lib/dpkg/. /mnt/var/lib/dpkg/; umount /mnt /var/lib/dpkg
      dmsetup remove layer
      lvremove -qq -y vg/thick vg/full vg/early vg/stray vg/other vg/thin vg/dpkg vg/pool`);
  }, 1_800_000);

  test("a failing disk under the log: nothing starts; what runs goes on, once; afterwards the log verifies", async () => {
    const { vm } = chain;
    const table = (type: string) =>
      `dmsetup suspend --nolockfs logdisk; dmsetup load logdisk --table "0 $(blockdev --getsz /dev/vg/log) ${type}"; dmsetup resume logdisk`;
    await vm.sh(`
      lvcreate -qq -y -Wn -L 64M -n log vg; dmsetup create logdisk --table "0 $(blockdev --getsz /dev/vg/log) linear /dev/vg/log 0"
      mkfs.ext4 -q /dev/mapper/logdisk; mount /dev/mapper/logdisk /mnt; chmod --reference=${LOG} /mnt; chown --reference=${LOG} /mnt
      cp -a ${LOG}/. /mnt/; umount /mnt; mount /dev/mapper/logdisk ${LOG}`);
    const repaired = `umount ${LOG}; ${table("linear /dev/vg/log 0")}; e2fsck -fy /dev/mapper/logdisk >/dev/null || [ $? = 1 ]; mount /dev/mapper/logdisk ${LOG}`;
    const [before, during] = [await signedInstall(chain, "quick1"), await signedInstall(chain, "disk-dies")];

    await vm.sh(table("error"));
    expect(await answer(chain, before.path)).toMatch(/^1 io|^6 log_tampered|^8 /);
    expect(await status("quick1")).toBe("");
    await vm.sh(repaired);
    expect(await answer(chain, before.path)).toBe("0");
    expect(await kindsOf(chain, before.id)).toEqual(COMPLETED);

    const client = submitted(chain, during.path);
    await untilGate("disk-dies");
    await vm.sh(table("error"));
    await openGate("disk-dies");
    const told = await client;
    expect([told.status, told.stderr]).toEqual([1, expect.stringContaining("[io]")]);
    expect(await status("disk-dies")).toBe("installed");
    await vm.sh(repaired);
    // The next that comes, or the service that closes interrupted runs, writes the end down.
    await vm.sh("systemctl start aegis-recover.service");
    expect(await kindsOf(chain, during.id)).toEqual(INTERRUPTED);
    expect(await answer(chain, during.path)).toBe("6 replay");
    expect(await timesBegun(chain, "disk-dies")).toBe(1);
    await vm.sh(
      `cp -a ${LOG} /root/log; umount ${LOG}; cp -a /root/log/. ${LOG}/; dmsetup remove logdisk; lvremove -qq -y vg/log`,
    );
  }, 900_000);

  test("a boot loader's tools work under the runner's unit with the documented drop-in alone", async () => {
    const { vm } = chain;
    const first = await signedInstall(chain, "boot-writer");
    expect(await answer(chain, first.path)).toMatch(/^7/);
    expect(await status("boot-writer")).not.toBe("installed");
    await vm.sh("dpkg --remove --force-remove-reinstreq boot-writer");
    await setDropIn(chain, dropInOfHelp("units", "Kernels and boot loaders"));
    const second = await signedInstall(chain, "boot-writer");
    expect(await answer(chain, second.path)).toBe("0");
    expect(await kindsOf(chain, second.id)).toEqual(COMPLETED);
    await setDropIn(chain, null);
    await vm.powerOff();
    await vm.boot(VM_ROOT, { firmware: true });
    expect(await vm.sh("cat /proc/cmdline")).toContain("BOOT_IMAGE=");
  }, 1_800_000);

  test("AppArmor: a maintainer script loads its package's profile under the runner's unit as it is", async () => {
    const { vm } = chain;
    expect(await vm.sh("aa-enabled")).toBe("Yes\n");
    const { path } = await signedInstall(chain, "confined");
    expect(await answer(chain, path)).toBe("0");
    const { stdout, stderr } = await vm.exec(["confined"]);
    expect([stdout, stderr]).toEqual([
      "/usr/bin/confined (enforce)\n",
      expect.stringContaining("/etc/machine-id: Permission denied"),
    ]);
    expect(await vm.sh("cat /sys/kernel/security/apparmor/profiles")).toContain(
      "/usr/bin/confined (enforce)\n",
    );
  }, 300_000);

  test("the power fails in dpkg, and before a run that waits: one is closed, neither runs again", async () => {
    const { vm } = chain;
    const runs = await signedInstall(chain, "power-dpkg");
    const waits = await signedInstall(chain, "quick2");
    await vm.sh("sync");
    const clients = [submitted(chain, runs.path)];
    await untilGate("power-dpkg");
    clients.push(submitted(chain, waits.path));
    await untilWaiting(waits.id);
    await vm.cutPower();
    for (const client of clients) expect((await client).status).not.toBe(0);
    await vm.boot(VM_ROOT);
    expect(await kindsOf(chain, runs.id)).toEqual(INTERRUPTED);
    expect(await kindsOf(chain, waits.id)).toEqual([]);
    await openGate("power-dpkg");
    await vm.sh("dpkg --configure -a");
    // What was signed before a boot is out of date after it, used or not.
    for (const { path } of [runs, waits]) expect(await answer(chain, path)).toBe("6 expired");
    expect(await timesBegun(chain, "power-dpkg")).toBeLessThanOrEqual(1);
    const anew = await signedInstall(chain, "quick2");
    expect(await answer(chain, anew.path)).toBe("0");
    expect(await kindsOf(chain, anew.id)).toEqual(COMPLETED);
  }, 900_000);

  test("the power fails right after the client heard that it is done: all of it is there", async () => {
    const { vm } = chain;
    const { id, path } = await signedInstall(chain, "quick3");
    await vm.sh("sync");
    let cut: Promise<void> | null = null;
    const client = vm.exec(["aegis", "apply", path], {
      user: "alice",
      timeoutMs: 120_000,
      heard(text) {
        if (text.includes("done")) cut ??= vm.cutPower();
      },
    });
    await client;
    expect(cut).not.toBeNull();
    await cut;
    await vm.boot(VM_ROOT);
    expect(await status("quick3")).toBe("installed");
    expect(await kindsOf(chain, id)).toEqual(COMPLETED);
    expect(await answer(chain, path)).toBe("6 expired");
  }, 900_000);

  test("the clock goes back in the middle of a run, and before one that waits: one ends once, one is refused", async () => {
    const { vm } = chain;
    const [runs, waits] = [await signedInstall(chain, "back"), await signedInstall(chain, "quick4")];
    const clients = [submitted(chain, runs.path)];
    await untilGate("back");
    clients.push(submitted(chain, waits.path));
    await untilWaiting(waits.id);
    await vm.sh("date -s '-1 day'");
    await openGate("back");
    const [ran, waited] = await Promise.all(clients);
    expect(ran?.status).toBe(0);
    expect(await kindsOf(chain, runs.id)).toEqual(COMPLETED);
    expect(await timesBegun(chain, "back")).toBe(1);
    expect(waited?.status).toBe(6);
    expect(waited?.stderr).toMatch(/\[(?:clock_behind|not_yet_valid)\]/);
    expect(await kindsOf(chain, waits.id)).toEqual(["execution_denied"]);
    await vm.sh("date -s '+1 day'");
    expect(await answer(chain, waits.path)).toBe("0");
    const times = events(chain).map((event) => String(event["timestamp"]));
    expect(times).toEqual([...times].sort());
  }, 900_000);

  test("the clock goes forward in the middle of a run: it ends once; put right again, nothing starts before its time", async () => {
    const { vm } = chain;
    const { id, path } = await signedInstall(chain, "forward");
    const later = await signedInstall(chain, "quick6");
    const client = submitted(chain, path);
    await untilGate("forward");
    await vm.sh("date -s '+1 day'");
    await openGate("forward");
    expect((await client).status).toBe(0);
    expect(await kindsOf(chain, id)).toEqual(COMPLETED);
    expect(await timesBegun(chain, "forward")).toBe(1);
    await vm.sh("date -s '-1 day'");
    expect(await answer(chain, later.path)).toBe("6 clock_behind");
    expect(await status("quick6")).toBe("");
    await vm.sh("date -s '+1 day +1 minute'");
    expect(await answer(chain, later.path)).toBe("6 expired");
    const anew = await signedInstall(chain, "quick7");
    expect(await answer(chain, anew.path)).toBe("0");
  }, 900_000);
});
