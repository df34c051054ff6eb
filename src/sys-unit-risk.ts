/*
 * Units whose restart may cost more than a moment's pause. The choice follows needrestart's default configuration (`override_rc`), which
 * restarts none of them by itself, and adds sshd, containers, databases and storage. Names are those of Debian's and Ubuntu's units.
 */

/** What a restart of a unit does besides. */
interface RestartRisk {
  /** For a sentence's end. */
  effect: string;
  /** A signed restart of it is denied unless the host's policy permits it by name. */
  isNever: boolean;
}

/** Units that others can't do without until the next login or boot, and what their restart does. */
const NEVER: readonly [RegExp, string][] = [
  [/^(?:dbus|dbus-broker)\.(?:service|socket)$/, "whatever speaks by D-Bus breaks: reboot instead"],
  [/^(?:systemd-logind|elogind)\.service$/, "it keeps track of the logins, and graphical sessions may end"],
  [/^init\.scope$/, "systemd itself: it is not restarted, but systemctl daemon-reexec loads its new code"],
  [
    /^(?:user|user-runtime-dir)@\d+\.service$|^user-\d+\.slice$|^session-/,
    "a login: its programs end; logging in again does it",
  ],
  [
    /^(?:gdm3?|sddm|lightdm|xdm|kdm|wdm|nodm|slim|lxdm|greetd|display-manager)\.service$/,
    "it ends graphical sessions",
  ],
  [
    // Their stop unmounts: blkdeactivate --umount, zfs unmount -a.
    /^systemd-(?:crypt|verity|integrity)setup@.*\.service$|^(?:blk-availability|zfs-mount)\.service$/,
    "the disk is taken away from what uses it",
  ],
  [/^aegis-(?:runner|recover|build|unpack|fetch)\b/, "it ends by itself after its run"],
];

/** Other units. The first match counts, here too. */
const RISKY: readonly [RegExp, string][] = [
  [
    /^(?:ssh|sshd|dropbear)(?:@.*)?\.(?:service|socket)$/,
    "remote logins come by it; open sessions stay, and if it doesn't start again nobody gets in",
  ],
  [
    /^(?:networking|network|systemd-networkd|systemd-resolved|NetworkManager|wpa_supplicant|ifup|netplan|dhcpcd|connman|ModemManager|openvswitch-switch|ovs-vswitchd|cloud-init)\b.*\.service$/,
    "the network may be cut off, and you with it",
  ],
  [
    /^(?:nftables|iptables|netfilter-persistent|firewalld|ufw|shorewall|wg-quick|openvpn|strongswan|ipsec|tailscaled|zerotier-one|bird|frr|keepalived)\b.*\.service$/,
    "routes, tunnels or the firewall are gone for a moment, and perhaps you with them",
  ],
  [/^(?:serial-)?getty@.*\.service$|^con(?:sole|tainer)-getty\b/, "it ends the login on that terminal"],
  [
    /^(?:docker|containerd|podman|crio|k3s|k3s-agent|kubelet|nomad|lxc|lxcfs|lxd|incus|snap\.(?:docker|lxd|microk8s)\..*)(?:@.*)?\.service$/,
    "it may stop containers",
  ],
  [/^(?:libvirtd|virtqemud|virtlogd|virtlockd|xendomains|qemu-.*)\.service$/, "it may stop virtual machines"],
  [
    /^(?:postgresql|mariadb|mysql|mysqld|mongod|redis|redis-server|valkey-server|slapd|etcd|cassandra|elasticsearch|opensearch|rabbitmq-server)(?:@.*)?\.service$/,
    "open connections to the database end",
  ],
  [/^(?:sssd|winbind|nslcd|krb5-kdc)\b.*\.service$/, "logins of accounts in a directory wait for it"],
  [
    /^(?:multipathd|iscsid|open-iscsi|zfs-fuse|drbd|rpc-statd|autofs|glusterd|nfs-server|nfs-kernel-server|pacemaker|corosync)\b.*\.service$/,
    "storage hangs on it",
  ],
  [
    /^(?:unattended-upgrades|apt-daily|apt-daily-upgrade|packagekit|snapd)\.service$/,
    "it cuts off a change of packages that it is making",
  ],
];

/** What restarting a unit may break; null if nothing is known of it. Pure. */
export function restartRisk(unit: string): RestartRisk | null {
  for (const [isNever, rows] of [
    [true, NEVER],
    [false, RISKY],
  ] as const) {
    const found = rows.find(([pattern]) => pattern.test(unit));
    if (found !== undefined) return { effect: found[1], isNever };
  }
  return null;
}

/** The same in words alone. */
export function riskOf(unit: string): string | null {
  return restartRisk(unit)?.effect ?? null;
}

/** Whether a unit's full name is one of `patterns`, each a full name or one that ends in `*`. */
export function isUnitNamed(unit: string, patterns: readonly string[]): boolean {
  return patterns.some((one) => (one.endsWith("*") ? unit.startsWith(one.slice(0, -1)) : unit === one));
}
