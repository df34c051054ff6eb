import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { snapshotProof } from "../src/exec-snapshot-id.ts";
import { type Chain, type Planned, startChain } from "./e2e-kit.ts";
import { needs } from "./needs.ts";
import { throwawayUnavailable } from "./throwaway.ts";

/*
 * Snapshots as the executor looks them up, made by Debian's own btrfs-progs, snapper and lvm2 on loop devices: a
 * throw-away host whose /etc, /usr and /var/lib/dpkg are on a btrfs.
 */

setDefaultTimeout(180_000);

const downloads = mkdtempSync(join(tmpdir(), "aegis-tools-"));
afterAll(() => rmSync(downloads, { recursive: true }));

/** Why the tools can't be had, or null once their packages are in `downloads`. Nothing is installed on this machine. */
function toolsUnavailable(): string | null {
  const reason = throwawayUnavailable();
  if (reason !== null) return `a throw-away host: ${reason}`;
  if (!/^\tbtrfs$/m.test(readFileSync("/proc/filesystems", "utf8"))) return "btrfs in this kernel";
  mkdirSync(join(downloads, "partial"));
  const ran = spawnSync(
    "/usr/bin/apt-get",
    [
      ...["install", "-y", "--download-only", "--no-install-recommends"],
      ...[
        "-o",
        `Dir::Cache::archives=${downloads}`,
        "-o",
        "Debug::NoLocking=1",
        "-o",
        "APT::Sandbox::User=root",
      ],
      ...["btrfs-progs", "snapper", "lvm2"],
    ],
    { encoding: "utf8", timeout: 120_000, env: { PATH: process.env.PATH ?? "", LC_ALL: "C.UTF-8" } },
  );
  if (ran.status === 0) return null;
  return `Debian's btrfs-progs, snapper and lvm2 (${ran.stderr.trim().split("\n").at(-1)})`;
}

const missing = toolsUnavailable();
const deviceMapper = /device-mapper/.test(readFileSync("/proc/devices", "utf8"));

/** The system's directories move onto subvolume @: /etc and dpkg's as copies, below /usr what was there, bound in. */
const MOVE_TO_BTRFS = `
set -e
truncate -s 1G /srv/btrfs.img
mkfs.btrfs -q /srv/btrfs.img
mkdir /b
mount -o loop /srv/btrfs.img /b
btrfs subvolume create /b/@
btrfs subvolume create /b/home
mkdir -p /b/@/usr /b/@/var/lib
cp -a /etc /b/@/etc
cp -a /var/lib/dpkg /b/@/var/lib/dpkg
for directory in /usr/*; do
  if [ -L "$directory" ]; then cp -a "$directory" /b/@/usr/; continue; fi
  mkdir "/b/@$directory"
  mount --bind "$directory" "/b/@$directory"
done
mount --bind /b/@/etc /etc
mount --bind /b/@/var/lib/dpkg /var/lib/dpkg
mount --rbind /b/@/usr /usr
btrfs subvolume snapshot -r /b/@ /b/before
`;

needs(missing === null, missing ?? "").describe("snapshots on a real btrfs", () => {
  let chain: Chain;
  const sh = async (script: string) => {
    const { status, stdout, stderr } = await chain.host.exec(["bash", "-c", script], { timeoutMs: 240_000 });
    if (status !== 0) throw new Error(`${script}\nexit ${status}\n${stdout}${stderr}`);
    return stdout;
  };

  beforeAll(async () => {
    chain = await startChain();
    const debs = readdirSync(downloads).filter((name) => name.endsWith(".deb"));
    for (const deb of debs) chain.host.write(`/srv/debs/${deb}`, readFileSync(join(downloads, deb)));
    // No service of a package starts on this host.
    chain.host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755);
    if (debs.length > 0) await sh("DEBIAN_FRONTEND=noninteractive dpkg -i /srv/debs/*.deb");
    await sh(MOVE_TO_BTRFS);
    await chain.startDaemon();
  });
  afterAll(() => chain?.stop());

  /** A plan for an upgrade, which needs a snapshot and nobody's approval. */
  const upgradable = async (): Promise<Planned> => {
    await chain.offer("hello-aegis=1.0");
    await chain.host.aptInstall("hello-aegis=1.0");
    await chain.offer("hello-aegis=1.1");
    const planned = await chain.plan("apt", "upgrade");
    expect((await chain.policy(planned.plan.plan_id)).result.decision).toBe("allow_with_snapshot");
    return planned;
  };
  const message = () => JSON.stringify(chain.audit().at(-1));

  describe("refused", () => {
    let planned: Planned;
    /** A plan that names a good snapshot, to be signed again with others by who has the key and no scruples. */
    let signed: Awaited<ReturnType<Chain["sign"]>>;
    beforeAll(async () => {
      planned = await upgradable();
      await sh("btrfs subvolume snapshot -r /b/@ /b/first; btrfs subvolume snapshot -r /b/home /b/of-home");
      await sh("btrfs subvolume create /b/plain; mkdir -p /b/first.d; ln -s /b/first /b/link");
      await sh("truncate -s 64M /srv/lvm.img; vgcreate vgt $(losetup --show -f /srv/lvm.img) 2>/dev/null");
      signed = await chain.sign(planned, ["--snapshot-id", "btrfs:/b/first"]);
    });
    afterAll(() =>
      sh("vgremove -ff -y vgt 2>/dev/null; losetup -j /srv/lvm.img -O NAME -n | xargs -r losetup -d"),
    );

    const CASES: [what: string, id: string, says: string][] = [
      ["one that is not there (PEER 9)", "btrfs:/anything", "no btrfs subvolume"],
      ["a directory of no btrfs", "btrfs:/srv", "no btrfs subvolume"],
      ["a directory on the btrfs", "btrfs:/b/first.d", "a directory, not a subvolume"],
      ["a link to a good one", "btrfs:/b/link", "no btrfs subvolume"],
      ["a subvolume that is no snapshot", "btrfs:/b/plain", "not a snapshot"],
      ["the system's own subvolume", "btrfs:/b/@", "not a snapshot"],
      ["a snapshot of something else", "btrfs:/b/of-home", "contains none of"],
      ["a snapshot that is older than the plan", "btrfs:/b/before", "before the plan"],
      ["a snapshot of no configuration of snapper's", "snapper:1", "there is no /etc/snapper/configs/root"],
      ["a logical volume that is not there", "lvm:vgt/anything", "vgt/anything"],
      ["a volume group that is not there", "lvm:any/thing", "any"],
      ["a dataset where there is no ZFS", "zfs:any@thing", "zfs is not installed"],
    ];
    for (const [what, id, says] of CASES) {
      test(what, async () => {
        await expect(chain.sign(planned, ["--snapshot-id", id])).rejects.toThrow(says);
        const forged = await chain.forge({
          ...signed.execution,
          execution_plan_id: crypto.randomUUID(),
          control_proofs: [snapshotProof(id, new Date(signed.execution.control_proofs[0]?.created_at ?? ""))],
        });
        expect(await chain.submit(chain.host.read(forged))).toBe("control_invalid");
        expect(message()).toContain("execution_denied");
        expect(message()).toContain(says);
      });
    }
    test("a good one that is gone when the plan is submitted; with it back, the plan runs", async () => {
      await sh("btrfs subvolume snapshot -r /b/@ /b/gone");
      const { execution, path } = await chain.sign(planned, ["--snapshot-id", "btrfs:/b/gone"]);
      await sh("mv /b/gone /b/elsewhere");
      expect((await chain.apply(path)).status).toBe(6);
      expect(message()).toContain("no btrfs subvolume");
      await sh("mv /b/elsewhere /b/gone");
      const { status, stderr } = await chain.apply(path);
      expect(status, stderr).toBe(0);
      expect(await chain.dpkgVersion("hello-aegis")).toBe("1.1");
      const started = chain
        .audit()
        .find(
          ({ kind, execution_id }) =>
            kind === "execution_started" && execution_id === execution.execution_plan_id,
        );
      expect(started).toMatchObject({
        details: {
          snapshots_found: [
            {
              proof_type: "btrfs-snapshot",
              value: "/b/gone",
              of: "subvolume @",
              holds: ["/etc", "/usr", "/var/lib/dpkg"],
            },
          ],
        },
      });
    });
  });

  test("btrfs-progs and the kernel's answer agree on the time", async () => {
    const planned = await upgradable();
    await sh("btrfs subvolume snapshot /b/@ /b/writable");
    const shown = /Creation time:\s+(\S+) (\S+) \+0000/.exec(
      await sh("TZ=UTC btrfs subvolume show /b/writable"),
    );
    const { stdout } = await chain.aegis([
      ...["sign", planned.plan.plan_id, "--key", "/root/keys/sign", "--signer", "ops@example"],
      ...["--snapshot-id", "btrfs:/b/writable"],
    ]);
    expect(stdout).toContain(`found: of subvolume @, made ${shown?.[1]}T${shown?.[2]}.`);
  });

  test("snapper's own snapshot", async () => {
    await sh("snapper --no-dbus -c system create-config /b/@");
    const planned = await upgradable();
    const number = (await sh("snapper --no-dbus -c system create -p -d before")).trim();
    const { path } = await chain.sign(planned, ["--snapshot-id", `snapper:system/${number}`]);
    const { status, stderr } = await chain.apply(path);
    expect(status, stderr).toBe(0);
    await expect(chain.sign(planned, ["--snapshot-id", "snapper:system/99"])).rejects.toThrow(
      "no btrfs subvolume",
    );
  });

  test("without CAP_SYS_ADMIN, as in the executor's unit, where btrfs-progs fails", async () => {
    const planned = await upgradable();
    await sh("btrfs subvolume snapshot -r /b/@ /b/unprivileged");
    const without = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    const tool = await chain.host.exec([...without, "btrfs", "subvolume", "show", "/b/unprivileged"]);
    expect(tool.status).not.toBe(0);
    const signed = await chain.host.exec([
      ...[...without, "aegis", "sign", planned.plan.plan_id, "--key", "/root/keys/sign"],
      ...["--signer", "ops@example", "--snapshot-id", "btrfs:/b/unprivileged"],
    ]);
    expect(signed.stdout).toContain("found: of subvolume @");
  });

  needs(
    deviceMapper,
    "device-mapper in this kernel (LVM snapshots are looked up on recorded answers only)",
  ).test("lvm: a snapshot of the volume under a mounted file system, and a full one", async () => {
    const lvm = "export DM_DISABLE_UDEV=1;";
    await sh(
      `${lvm} truncate -s 256M /srv/pv.img; vgcreate vgr $(losetup --show -f /srv/pv.img); lvcreate -y -n root -L 64M vgr; mkfs.ext4 -q /dev/mapper/vgr-root; mkdir /srv/p; mount /dev/mapper/vgr-root /srv/p; lvcreate -s -n snap -L 4M vgr/root`,
    );
    const code = `
        import { snapshotHost } from "${join(import.meta.dir, "../src/exec-snapshot-host.ts")}";
        import { LOOK_UPS } from "${join(import.meta.dir, "../src/exec-snapshot-providers.ts")}";
        console.log(JSON.stringify(await LOOK_UPS["lvm-snapshot"]("vgr/snap", snapshotHost(["/srv/p"]))));`;
    chain.host.write("/srv/look.ts", code);
    const look = () => chain.host.exec([process.execPath, "/srv/look.ts"]);
    try {
      expect(JSON.parse((await look()).stdout)).toMatchObject({ of: "vgr/root", holds: ["/srv/p"] });
      await sh("dd if=/dev/urandom of=/srv/p/fill bs=1M count=32 conv=fsync 2>/dev/null");
      expect((await look()).stderr).toContain("full");
    } finally {
      await sh(
        `${lvm} umount /srv/p; vgremove -ff -y vgr; losetup -j /srv/pv.img -O NAME -n | xargs -r losetup -d`,
      );
    }
  });
});
