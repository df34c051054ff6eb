/*
 * Units whose restart may cost more than a moment's pause. The choice follows needrestart's default configuration (`override_rc`), which
 * restarts none of them by itself, and adds sshd, containers and databases. Names are those of Debian's and Ubuntu's units.
 */

/** What a restart does, by unit. The first match counts. */
const RISKS: readonly [RegExp, string][] = [
  [/^(?:ssh|sshd)(?:@.*)?\.(?:service|socket)$/, "remote logins come by it; open sessions stay"],
  [
    /^(?:networking|network|systemd-networkd|systemd-resolved|NetworkManager|wpa_supplicant|ifup|netplan|dhcpcd|connman|ModemManager|openvswitch-switch|ovs-vswitchd)\b.*\.service$/,
    "the network may be cut off, and you with it",
  ],
  [
    /^(?:nftables|iptables|netfilter-persistent|firewalld|ufw|wg-quick|openvpn|strongswan|ipsec|tailscaled|bird|frr|keepalived)\b.*\.service$/,
    "routes, tunnels or the firewall are gone for a moment, and perhaps you with them",
  ],
  [/^(?:dbus|dbus-broker)\.service$/, "whatever speaks by D-Bus breaks: reboot instead"],
  [/^(?:systemd-logind|elogind)\.service$/, "it keeps track of the logins"],
  [/^init\.scope$/, "systemd itself: it is not restarted, but systemctl daemon-reexec loads its new code"],
  [/^user@\d+\.service$|^user-\d+\.slice$|^session-/, "a login: its programs end; logging in again does it"],
  [
    /^(?:gdm3?|sddm|lightdm|xdm|kdm|wdm|nodm|slim|lxdm|display-manager)\.service$/,
    "it ends graphical sessions",
  ],
  [/^(?:serial-)?getty@.*\.service$/, "it ends the login on that terminal"],
  [
    /^(?:docker|containerd|podman|crio|k3s|k3s-agent|kubelet|lxc|lxcfs|lxd|incus)(?:@.*)?\.service$/,
    "it may stop containers",
  ],
  [/^(?:libvirtd|virtqemud|virtlogd|virtlockd|xendomains|qemu-.*)\.service$/, "it may stop virtual machines"],
  [
    /^(?:postgresql|mariadb|mysql|mysqld|mongod|redis-server|slapd)(?:@.*)?\.service$/,
    "open connections to the database end",
  ],
  [
    /^(?:multipathd|iscsid|open-iscsi|zfs-fuse|drbd|rpc-statd|autofs|glusterd)\b.*\.service$/,
    "storage hangs on it",
  ],
  [/^aegis-(?:runner|recover|build|unpack|fetch)\b/, "it ends by itself after its run"],
];

/** What restarting a unit may break, for a sentence's end; null if nothing is known of it. */
export function riskOf(unit: string): string | null {
  return RISKS.find(([pattern]) => pattern.test(unit))?.[1] ?? null;
}
