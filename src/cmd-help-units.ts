import type { Block } from "./cmd-help-text.ts";
import { BOOT_LOADER_DROP_IN } from "./host-drop-ins.ts";
import { UNIT_NAMES, type UnitName, unitText, WAIT_FOR_APT } from "./host-units.ts";
import { SYSTEM } from "./paths.ts";

/** What each unit is for. */
const PURPOSE: Readonly<Record<UnitName, string>> = {
  "aegisd.socket": `where clients connect, ${SYSTEM.socket}`,
  "aegisd.service":
    "the executor's front: speaks to clients; no capability, no network, nothing writable, no access to state or log",
  "aegis-runner.socket": "where the front hands requests over",
  "aegis-runner@.service":
    "one process for each request, reached by the front alone; verifies everything again and runs apt",
  "aegis-fetch.socket":
    "where the runner starts the downloads of a run of any tool but apt and docker; root alone can connect",
  "aegis-fetch@.service":
    "downloads the signed list and hands the bytes to the runner; sees no file of Aegis's but the program",
  "aegis-build.socket": "where the runner starts the sandbox of such a run; root alone can connect",
  "aegis-build@.service":
    "makes the sandbox, whose tool runs as aegis-build without capabilities and network; everything in it is killed with it",
  "aegis-unpack.socket": "the same for podman, which unpacks files of several users; root alone can connect",
  "aegis-unpack@.service":
    "as aegis-build@.service, with a user namespace: the tool is root in it, of the users from 700000000 on, and nobody on the host",
  "aegis-recover.service": "closes a run whose runner died: at boot, and when a runner fails",
  "aegis-reviewd.socket": `where the reviewer's clients connect, ${SYSTEM.reviewerSocket}`,
  "aegis-reviewd.service": `asks the model; settings in ${SYSTEM.reviewerEnv}`,
  "aegis-notify.path": "starts the notifier when a request has changed",
  "aegis-notify.service": "posts and mails what has changed, by [notify] of the policy file",
  "aegis-feeds.service": `downloads what is new of vulnerability data, and writes only ${SYSTEM.feeds}`,
  "aegis-feeds.timer": "starts that twice a day, after `aegis daemon install --feeds`",
  "aegis-processes.service":
    "looks which processes run old code, for the runner and the monitor, which may not look into those of others",
  "aegis-monitor.service": "looks for changes that no execution explains",
  "aegis-monitor.timer": "starts the monitor once an hour",
};

/** What `systemd-analyze security` says of each service, at most, on systemd 249 to 257. The end-to-end tests hold it to that. */
export const EXPOSURE: Readonly<Partial<Record<UnitName, number>>> = {
  "aegisd.service": 0.4,
  "aegis-runner@.service": 3.6,
  "aegis-fetch@.service": 1.3,
  "aegis-build@.service": 2.3,
  "aegis-unpack@.service": 2.6,
  "aegis-recover.service": 3.6,
  "aegis-reviewd.service": 1.3,
  "aegis-processes.service": 2,
  "aegis-monitor.service": 2.8,
  "aegis-notify.service": 3,
  "aegis-feeds.service": 1.3,
};

function unitTerm(name: UnitName): readonly [string, string] {
  if (!name.endsWith(".service")) return [`\`${name}\``, PURPOSE[name]];
  const user = /^User=(.+)$|--reuid=(\S+)/m.exec(unitText(name))?.slice(1).find(Boolean) ?? "root";
  return [`\`${name}\``, `${PURPOSE[name]}. Runs as ${user}; exposure ${EXPOSURE[name]}`];
}

/** The services of a host, how they are changed and stopped. */
export function unitsText(): readonly Block[] {
  return [
    "`aegis daemon install` writes these units, `aegis daemon status` shows how they are. Exposure is what `systemd-analyze security` prints.",
    { terms: UNIT_NAMES.map(unitTerm) },
    "Each install writes the units anew, so changes belong in drop-ins: `systemctl edit <unit>`. Configuration, keys and the record of used plans stay. The program is replaced when its turn comes in the queue of runs, because apt calls the installed file as its hook. An older program needs `--downgrade`; builds of one version don't count as older. `aegis daemon uninstall` removes services and program; log, configuration and record stay, so that no used plan runs again after the next install.",
    "The monitor looks once right after the first installation: what it sees then becomes the baseline.",
    `Environment files (${SYSTEM.daemonEnv}, ${SYSTEM.reviewerEnv}, ${SYSTEM.feedsEnv}) are read by the services themselves and may hold only the names that \`aegis help environment\` lists for them.`,
    "Stopping: nothing ends a dpkg that has begun. `systemctl daemon-reexec` and a reboot wait for it: on SIGTERM the runner begins nothing new, ends a download, refuses what waits, and is stopped before the file systems are unmounted (measured: a poweroff in the middle of dpkg waited 43 s for it). `systemctl stop` and `restart` of the units that wait for apt are refused at once (`RefuseManualStop=`), because the caller may be a hook of the very apt that the runner waits for, such as needrestart; /etc/needrestart/conf.d/aegis.conf tells needrestart the same. Those units are:",
    { items: WAIT_FOR_APT.map((name) => `\`${name}\``) },
    "If the runner is stopped all the same while the host stays up (by a drop-in, or with its slice), it gives way: apt goes on, and the run is closed as `interrupted`. If the runner itself is killed, aegis-recover.service holds the shutdown back in its place. Not covered: reboot.target of systemd gives up after 30 minutes; `reboot -f` and power cuts don't ask. The next boot then logs `execution_interrupted`, and `aegis plan apt repair` puts dpkg right.",
    "Waiting: one execution runs at a time. Users take turns, each with their own plans in order of arrival. A run that hangs before dpkg begins is ended: `apt update` after 10 minutes, any other download after 30.",
    "What maintainer scripts can't do: the runner's unit denies what apt was seen to survive without. This concerns what a package's scripts do themselves, not what its services do later under systemd. Seen to be denied, in a virtual machine: `modprobe`, `mknod`, `mount`, `swapon`, `chattr +i`, `udevadm trigger`, setting sysctls, ports below 1024, writing to /home and /root. Many scripts go on after such a failure, and then the run ends as done; their output is in /var/lib/aegis/runs/<id>/. A reboot makes up for most of it, a drop-in for the rest. AppArmor profiles are loaded (the unit has CAP_MAC_ADMIN); SELinux modules are not (not tried). /tmp stays shared, since systemd deletes a private one when the runner dies while apt goes on.",
    "Kernels and boot loaders: the runner's unit hides block devices. On a machine with a boot loader, EFI or RAID tools of its own (`aegis daemon status` says so) allow what their packages need. Tried in a virtual machine with grub-pc on LVM and a Debian kernel package; EFI, RAID and real hardware were not:",
    { lines: [`# ${BOOT_LOADER_DROP_IN.path}`, ...BOOT_LOADER_DROP_IN.lines] },
    "needrestart, called by apt below the runner, sees only processes with no more privileges than the runner, so it restarts few services and does not mention the others. What is left, `aegis apply` and `aegis daemon status` name; `aegis plan services restart <unit>` finishes it. Or add `CapabilityBoundingSet=CAP_SYS_PTRACE` to aegis-runner@.service by a drop-in (seen to work on Ubuntu 24.04; exposure 3.9).",
    "Snapshots of LVM and ZFS need a drop-in too: `aegis help snapshots`.",
    "Without systemd, or to try it out, run `aegis daemon --executor` as root. It makes its directories, runs the client-facing part as user aegis-front (or, where there is none, under an unused number), and lets the group aegis-admin submit where it exists. A host with the services refuses a second executor started beside them, and the reverse.",
  ];
}
