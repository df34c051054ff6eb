/*
 * What the services are denied. Measured on systemd 252 and 257, with apt installing kernels, databases, setuid programs and
 * services below it.
 */

/** Directives of systemd.exec(5) and systemd.resource-control(5). A list is one line for each of its members. */
export type Directives = Readonly<Record<string, string | readonly string[]>>;

/**
 * Variables that run foreign code in a Bun process, switch its TLS checks off or send its requests elsewhere. Names only:
 * UnsetEnvironment= knows no patterns.
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

/** Of every service. */
const EVERY: Directives = {
  UnsetEnvironment: UNSET,
  NoNewPrivileges: "yes",
  // Implied by what follows; said, so that it stays when that changes.
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
 * Of whatever runs apt: everything that apt, dpkg and maintainer scripts were seen to survive. No User= (written out, it
 * costs CAP_SETUID on systemd 257), no ProtectSystem=, PrivateUsers=, RestrictSUIDSGID=, ProtectKernelModules=,
 * MemoryDenyWriteExecute=. And of what would pass, not:
 * - PrivateTmp=: systemd deletes the directory when the runner dies, under an apt that goes on without it;
 * - ProtectProc=: a runner must see whether an apt lives that was started otherwise, e.g. by a daemon started by hand.
 */
export const RUNS_TOOLS: Directives = {
  ...EVERY,
  UMask: "0022",
  // CAP_KILL: maintainer scripts signal daemons that run as other users. CAP_MAC_ADMIN: see below.
  CapabilityBoundingSet:
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_SETUID CAP_SETGID CAP_SETFCAP CAP_KILL CAP_MAC_ADMIN",
  // Maintainer scripts load the AppArmor profile of what they install, by CAP_MAC_ADMIN and what ProtectKernelTunables= would
  // make read-only, and go on where that fails (dh_apparmor): without either, seen in a virtual machine, a program runs
  // unconfined, or by its old profile, until the next boot. A kernel without AppArmor has no such path.
  ReadWritePaths: "-/sys/kernel/security/apparmor",
  ProtectHome: "read-only",
  RestrictAddressFamilies: "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  SystemCallFilter: "@system-service",
  IPAddressDeny: "link-local multicast",
};

/** Of services that have no privilege and change nothing. Not MemoryDenyWriteExecute=: Bun compiles as it runs. */
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
  // Not every architecture has all of them.
  ExecPaths: "/usr/local/bin/aegis -/usr/lib -/usr/lib64 -/lib -/lib64",
};

/** Of the front: it speaks over unix sockets only. Not PrivateUsers=: behind it every peer is 65534. */
export const FRONT: Directives = {
  ...UNPRIVILEGED,
  PrivateNetwork: "yes",
  RestrictAddressFamilies: "AF_UNIX",
  IPAddressDeny: "any",
  // Of all sockets of the host, D-Bus and systemd's included, it sees Aegis's own.
  TemporaryFileSystem: "/run:ro",
  BindReadOnlyPaths: "/run/aegis",
  // It writes nothing, so it can fill nothing.
  ReadOnlyPaths: "/tmp /var/tmp /dev/shm /dev/mqueue",
};

/** Of the reviewer: it speaks to a model's server besides. */
export const REVIEWER: Directives = {
  ...UNPRIVILEGED,
  RestrictAddressFamilies: "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  IPAddressDeny: "link-local multicast",
  // Not all of /run, where names are resolved.
  InaccessiblePaths: "-/run/dbus",
};

/** Of the monitor: root that looks at everything and writes its own findings. */
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
