/*
 * Units whose restart does more than to replace a process: it may cut off whoever asked for it. By the names of Debian's and
 * Ubuntu's packages; needrestart(1) leaves those alone that are never restarted here (override_rc in its needrestart.conf).
 */

/** What a restart of a unit does besides. */
interface RestartRisk {
  /** What happens to the host and to whoever is connected, as the second half of a sentence. */
  effect: string;
  /** Denied unless the host's policy names the unit. */
  isNever: boolean;
}

/** Effects, with the names of units without their suffix; `*` stands for any characters. The first that matches counts. */
const RISKS: readonly (RestartRisk & { units: readonly string[] })[] = [
  {
    isNever: true,
    effect:
      "everything that speaks D-Bus loses its connection, and much of it works again only after a reboot",
    units: ["dbus", "dbus-broker", "dbus@*"],
  },
  {
    isNever: true,
    effect: "logins lose their seats and devices, and graphical sessions may end",
    units: ["systemd-logind"],
  },
  {
    isNever: true,
    effect: "every graphical session ends, with unsaved work",
    units: ["display-manager", "gdm", "gdm3", "lightdm", "sddm", "lxdm", "xdm", "wdm", "slim", "greetd"],
  },
  {
    isNever: true,
    effect: "everything that the user has running under their own service manager ends",
    units: ["user@*", "user-runtime-dir@*"],
  },
  {
    isNever: true,
    effect: "the encrypted device is taken away from what uses it",
    units: ["systemd-cryptsetup@*", "systemd-veritysetup@*", "systemd-integritysetup@*"],
  },
  {
    isNever: false,
    effect: "open SSH sessions stay, new ones wait; if the new one doesn't start, nobody gets in",
    units: ["ssh", "sshd", "ssh@*", "sshd@*", "dropbear", "teleport"],
  },
  {
    isNever: false,
    effect: "this host may become unreachable, and connections through it may break",
    units: [
      ...["systemd-networkd", "systemd-resolved", "NetworkManager", "networking", "networkd-dispatcher"],
      ...[
        "ifup@*",
        "wpa_supplicant*",
        "connman",
        "dhcpcd*",
        "netplan-*",
        "wg-quick@*",
        "openvpn*",
        "tailscaled",
      ],
      ...["strongswan*", "ipsec", "firewalld", "ufw", "nftables", "netfilter-persistent", "shorewall*"],
      ...["openvswitch-switch", "ovs-vswitchd", "ovsdb-server", "frr", "bird", "keepalived", "zerotier-one"],
      ...["cloud-init*", "cloud-config", "cloud-final"],
    ],
  },
  {
    isNever: false,
    effect: "whoever is logged in on that console is logged out",
    units: ["getty@*", "serial-getty@*", "console-getty", "container-getty@*", "autovt@*"],
  },
  {
    isNever: false,
    effect: "logins by directory accounts wait or fail until it answers again",
    units: ["sssd*", "winbind", "nslcd", "slapd", "krb5-kdc", "nscd", "autofs", "ypbind"],
  },
  {
    isNever: false,
    effect: "containers or virtual machines may stop with it",
    units: [
      ...["docker", "containerd", "crio", "kubelet", "k3s*", "rke2*", "nomad", "podman*", "lxd*", "incus*"],
      ...[
        "snap.docker.*",
        "snap.lxd.*",
        "snap.microk8s.*",
        "libvirtd",
        "virtqemud",
        "qemu-kvm",
        "xendomains",
      ],
    ],
  },
  {
    isNever: false,
    effect: "connections to the database are cut, and its recovery may take long",
    units: [
      ...["postgresql*", "mysql*", "mariadb*", "mongod", "mongodb", "redis*", "valkey*", "cassandra", "etcd"],
      ...[
        "elasticsearch",
        "opensearch",
        "influxdb",
        "clickhouse-server",
        "neo4j",
        "couchdb",
        "rabbitmq-server",
      ],
    ],
  },
  {
    isNever: false,
    effect: "file systems that it serves or needs may hang until it is back",
    units: [
      ...["nfs-server", "nfs-kernel-server", "rpcbind", "rpc-statd", "iscsid", "open-iscsi", "multipathd"],
      ...["glusterd", "ceph*", "zfs-*", "lvm2-lvmpolld", "drbd*", "pacemaker", "corosync", "smbd"],
    ],
  },
  {
    isNever: false,
    effect: "a change of packages that it is making may be cut off",
    units: ["unattended-upgrades", "apt-daily", "apt-daily-upgrade", "packagekit", "snapd"],
  },
  {
    isNever: false,
    effect: "clients of the executor lose their connection; runs go on, and aegis apply --watch shows them",
    units: ["aegisd"],
  },
];

const MATCHERS = RISKS.map(({ units, ...risk }) => ({ risk, matches: matcherOf(units) }));

/** What a restart of this unit, a service or a socket, would do besides; null if it may be restarted. Pure. */
export function restartRisk(unit: string): RestartRisk | null {
  const name = unit.replace(/\.(?:service|socket)$/, "");
  return name === unit ? null : (MATCHERS.find(({ matches }) => matches.test(name))?.risk ?? null);
}

/** Whether a unit's full name is one of `patterns`, each a full name or one that ends in `*`. */
export function isUnitNamed(unit: string, patterns: readonly string[]): boolean {
  return patterns.some((one) => (one.endsWith("*") ? unit.startsWith(one.slice(0, -1)) : unit === one));
}

function matcherOf(names: readonly string[]): RegExp {
  const alternatives = names.map((one) => one.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*"));
  return new RegExp(`^(?:${alternatives.join("|")})$`, "u");
}
