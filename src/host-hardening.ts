import { kernelTasks, MANAGED_LIMITS } from "./eco-sandbox-limits.ts";
import { SYSTEM } from "./paths.ts";

/*
 * The services' sandboxes. Measured on systemd 252 and 257, with apt installing kernels, databases, setuid programs and
 * services inside them.
 */

/** Directives of systemd.exec(5) and systemd.resource-control(5). A list becomes one line per member. */
export type Directives = Readonly<Record<string, string | readonly string[]>>;

/**
 * Variables that run foreign code in a Bun process, disable its TLS checks or redirect its requests. Listed one by one,
 * since UnsetEnvironment= takes no patterns.
 */
const UNSET = [
  "BUN_OPTIONS BUN_BE_BUN BUN_INSPECT BUN_INSPECT_CONNECT_TO BUN_INSPECT_NOTIFY BUN_INSPECT_PRELOAD",
  "BUN_INSTALL BUN_TMPDIR BUN_TCC_OPTIONS BUN_RUNTIME_TRANSPILER_CACHE_PATH BUN_CONFIG_VERBOSE_FETCH",
  "BUN_CONFIG_REGISTRY BUN_CONFIG_TOKEN BUN_CRASH_REPORT_URL BUN_ENABLE_CRASH_REPORTING BUN_JSC_useJIT",
  "NODE_OPTIONS NODE_PATH NODE_ENV NODE_DEBUG NODE_CHANNEL_FD NODE_UNIQUE_ID NODE_EXTRA_CA_CERTS",
  "NODE_TLS_REJECT_UNAUTHORIZED NODE_USE_ENV_PROXY NODE_USE_SYSTEM_CA NODE_PRESERVE_SYMLINKS",
  "LD_PRELOAD LD_AUDIT LD_LIBRARY_PATH LD_DEBUG SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE",
  "http_proxy https_proxy ftp_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY",
] as const;

/** For every service. */
const EVERY: Directives = {
  UnsetEnvironment: UNSET,
  NoNewPrivileges: "yes",
  // Implied by directives below; explicit, so that it stays if those change.
  PrivateMounts: "yes",
  LockPersonality: "yes",
  SystemCallArchitectures: "native",
  SystemCallErrorNumber: "EPERM",
  RestrictRealtime: "yes",
  RestrictNamespaces: "yes",
  ProtectKernelTunables: "yes",
  ProtectKernelLogs: "yes",
  ProtectControlGroups: "yes",
  ProtectClock: "yes",
  ProtectHostname: "yes",
  PrivateDevices: "yes",
  DevicePolicy: "closed",
  KeyringMode: "private",
  RemoveIPC: "yes",
};

/**
 * For units that run apt: everything that apt, dpkg and maintainer scripts were measured to survive. They do not survive
 * User= (written out, it costs CAP_SETUID on systemd 257), ProtectSystem=, PrivateUsers=, RestrictSUIDSGID=,
 * ProtectKernelModules= and MemoryDenyWriteExecute=. They would survive these, which are left out for other reasons:
 * - PrivateTmp=: when the runner dies, systemd deletes the directory under an apt that goes on running;
 * - ProtectProc=: a runner must see apt processes started elsewhere, for example by a daemon started by hand.
 */
export const RUNS_TOOLS: Directives = {
  ...EVERY,
  UMask: "0022",
  // CAP_KILL: maintainer scripts signal daemons of other users. CAP_MAC_ADMIN: see below.
  CapabilityBoundingSet:
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_SETUID CAP_SETGID CAP_SETFCAP CAP_KILL CAP_MAC_ADMIN",
  // Maintainer scripts load AppArmor profiles (dh_apparmor). That takes CAP_MAC_ADMIN and a path that ProtectKernelTunables=
  // makes read-only, and its failure is ignored: without either (seen in a virtual machine), the program runs unconfined or
  // under its old profile until the next boot. The `-` is for kernels without AppArmor.
  ReadWritePaths: "-/sys/kernel/security/apparmor",
  ProtectHome: "read-only",
  RestrictAddressFamilies: "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  SystemCallFilter: "@system-service",
  IPAddressDeny: "link-local multicast",
};

/** For units that run apt. Nothing may kill a running dpkg, however long it takes. */
export const NEVER_KILLED: Directives = {
  KillMode: "process",
  SendSIGKILL: "no",
  TimeoutStopSec: "infinity",
  OOMPolicy: "continue",
  TasksMax: "infinity",
  LimitNOFILE: "1024:524288",
};

/** For services that need no privileges and change nothing. Without MemoryDenyWriteExecute=, since Bun has a JIT compiler. */
const UNPRIVILEGED: Directives = {
  ...EVERY,
  UMask: "0077",
  CapabilityBoundingSet: "",
  AmbientCapabilities: "",
  ProtectSystem: "strict",
  ProtectHome: "yes",
  ProtectKernelModules: "yes",
  ProtectProc: "invisible",
  ProcSubset: "pid",
  PrivateTmp: "yes",
  RestrictSUIDSGID: "yes",
  SystemCallFilter: ["@system-service", "~@privileged @resources"],
  NoExecPaths: "/",
  // The `-` is for paths that some architectures lack.
  ExecPaths: "/usr/local/bin/aegis -/usr/lib -/usr/lib64 -/lib -/lib64",
};

/** For the front, which uses unix sockets only. Without PrivateUsers=, which shows every peer as uid 65534. */
export const FRONT: Directives = {
  ...UNPRIVILEGED,
  PrivateNetwork: "yes",
  RestrictAddressFamilies: "AF_UNIX",
  IPAddressDeny: "any",
  // Of the host's sockets (D-Bus, systemd) it sees only Aegis's own.
  TemporaryFileSystem: "/run:ro",
  BindReadOnlyPaths: "/run/aegis",
  // It needs to write nothing, so it can't fill a file system either.
  ReadOnlyPaths: "/tmp /var/tmp /dev/shm /dev/mqueue",
};

/** For the reviewer, which also talks to a model server. */
export const REVIEWER: Directives = {
  ...UNPRIVILEGED,
  RestrictAddressFamilies: "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  IPAddressDeny: "link-local multicast",
  // Not all of /run: name resolution needs parts of it.
  InaccessiblePaths: "-/run/dbus",
};

/**
 * For the notifier: as the reviewer, but that it may start sendmail, which writes its queue, and in most mail servers is set-group-id or
 * set-user-id for that. Nothing else of Aegis is visible to it but its notices. Without User=: of an unprivileged user's service, systemd
 * before 254 takes every seccomp filter to mean NoNewPrivileges=, under which postfix's sendmail waits for ever (measured on 252). So
 * root's setpriv is what it starts, and the filters hold for the mail server too.
 */
export const NOTIFIER: Directives = {
  ...REVIEWER,
  NoNewPrivileges: "no",
  CapabilityBoundingSet: "CAP_SETUID CAP_SETGID CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE",
  SystemCallFilter: "@system-service",
  ReadWritePaths: "/var/lib/aegis/notify -/var/spool -/var/mail -/var/log/exim4",
  InaccessiblePaths: "-/run/dbus -/run/aegis -/run/systemd/private -/var/log/aegis -/var/cache/aegis",
  // Where exim delivers to somebody of this host, it goes to their home first.
  ProtectHome: "read-only",
  // Mail servers, and none of the programs that make a user root: sudo, su, pkexec, mount.
  ExecPaths: `${REVIEWER["ExecPaths"]} /usr/bin/setpriv /usr/sbin -/usr/bin/msmtp -/usr/bin/nullmailer-inject`,
  // Some mail servers deliver after sendmail has ended.
  KillMode: "process",
};

/**
 * For the downloads of vulnerability data: as the reviewer. It unpacks what strangers packed, so of Aegis it sees the program, its
 * settings and its own directory; xz is for Ubuntu's VEX.
 */
export const FEEDS: Directives = {
  ...REVIEWER,
  ReadWritePaths: SYSTEM.feeds,
  InaccessiblePaths: "-/run/dbus -/run/aegis -/run/systemd/private -/var/log -/var/cache",
  ExecPaths: `${REVIEWER["ExecPaths"]} -/usr/bin/xz`,
};

/**
 * For what the runner starts by a socket: it ends with its connection, and at shutdown at once. The run has then failed, and its root
 * is as it was.
 */
export const ENDS_WITH_RUNNER: Directives = { CollectMode: "inactive-or-failed" };
const BY_CONNECTION: Directives = {
  StandardInput: "socket",
  StandardOutput: "socket",
  StandardError: "journal",
  LimitCORE: "0",
  TimeoutStopSec: "5s",
  // If everything else fails: longer than the runner lets a run take.
  RuntimeMaxSec: "2h",
  OOMPolicy: "kill",
  MemorySwapMax: "0",
};

/** For the process that downloads the files of a managed run: as the reviewer, and of Aegis it sees the program alone. */
export const FETCHER: Directives = {
  ...REVIEWER,
  ...BY_CONNECTION,
  TasksMax: "256",
  MemoryMax: "1G",
  InaccessiblePaths:
    "-/run/dbus -/run/aegis -/run/systemd/private -/etc/aegis -/var/lib/aegis -/var/log -/var/cache",
  ReadOnlyPaths: "/tmp /var/tmp /dev/shm /dev/mqueue",
};

/**
 * For the first process of a sandbox, which makes its root directory and starts the tool as another user, and for the tool, which
 * inherits all of this but the capabilities.
 */
export const SANDBOX: Directives = {
  ...EVERY,
  ...BY_CONNECTION,
  // A little more than what the first process allows the tool, so that it can say which limit was exceeded.
  TasksMax: String(kernelTasks(MANAGED_LIMITS.tasks) + 256),
  LimitNPROC: String(kernelTasks(MANAGED_LIMITS.tasks)),
  MemoryMax: String(MANAGED_LIMITS.memory + 1024 ** 3),
  UMask: "0077",
  RestrictNamespaces: "mnt pid",
  CapabilityBoundingSet: "CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SETUID CAP_SETGID CAP_DAC_READ_SEARCH",
  ProtectSystem: "strict",
  ProtectHome: "yes",
  ProtectKernelModules: "yes",
  PrivateTmp: "yes",
  // Network, IPC and UTS namespaces (ProtectHostname=) are the unit's, mount and PID namespaces are unshare's.
  PrivateNetwork: "yes",
  PrivateIPC: "yes",
  ProtectProc: "invisible",
  ProcSubset: "pid",
  RestrictSUIDSGID: "yes",
  // socketpair(2), by which tools speak with their children, isn't affected.
  RestrictAddressFamilies: "AF_INET AF_INET6",
  SystemCallFilter: [
    "@system-service @mount",
    "~@resources @keyring io_uring_setup io_uring_enter io_uring_register",
  ],
  IPAddressDeny: "any",
  IPAddressAllow: "localhost",
};

const { RestrictSUIDSGID: _, ...WITH_SPECIAL_MODES } = SANDBOX;
/**
 * For the sandbox of a program that makes files of several users: as {@link SANDBOX}, with set-user-id files, and with the user namespace
 * in which the program is root and outside of which it is nobody.
 */
export const UNPACKER: Directives = { ...WITH_SPECIAL_MODES, RestrictNamespaces: "mnt pid user" };

/**
 * For a look at the processes: CAP_SYS_PTRACE lets it read which files they map, and nothing here lets it do more to them: no ptrace(2),
 * no access to their memory by system calls, and a /proc that can't be written. CAP_CHOWN: the record's group.
 */
export const PROCESSES: Directives = {
  ...EVERY,
  UMask: "0077",
  CapabilityBoundingSet: "CAP_SYS_PTRACE CAP_CHOWN",
  ProtectSystem: "strict",
  ReadOnlyPaths: "/proc",
  ProtectHome: "yes",
  ProtectKernelModules: "yes",
  PrivateTmp: "yes",
  PrivateNetwork: "yes",
  RestrictSUIDSGID: "yes",
  RestrictAddressFamilies: "AF_UNIX",
  SystemCallFilter: ["@system-service", "~@resources process_vm_readv process_vm_writev"],
  IPAddressDeny: "any",
  NoExecPaths: "/",
  ExecPaths: "/usr/local/bin/aegis -/usr/lib -/usr/lib64 -/lib -/lib64",
};

/** For the monitor: root, reads everything, writes its own findings only. */
export const MONITOR: Directives = {
  ...EVERY,
  UMask: "0022",
  CapabilityBoundingSet: "CAP_DAC_READ_SEARCH CAP_SETUID CAP_SETGID CAP_CHOWN",
  ProtectSystem: "strict",
  ProtectHome: "read-only",
  ProtectKernelModules: "yes",
  PrivateTmp: "yes",
  RestrictSUIDSGID: "yes",
  RestrictAddressFamilies: "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  SystemCallFilter: "@system-service",
  IPAddressDeny: "link-local multicast",
};
