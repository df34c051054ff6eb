import { type Directives, FRONT, MONITOR, REVIEWER, RUNS_TOOLS } from "./host-hardening.ts";
import { SYSTEM } from "./paths.ts";
import { BOOT_VARIABLE } from "./sys-boot.ts";
import { ADMIN_GROUP, type Directory, REVIEW_GROUP, STATE_DIRECTORIES, USERS } from "./sys-state.ts";
import { UNIT_DIRECTORY } from "./sys-systemd.ts";
import { RUNNER_PLACES } from "./wire-limits.ts";

/*
 * Everything that systemd is told, as data. systemd.unit(5), systemd.socket(5), systemd.service(5), systemd.kill(5),
 * systemd.timer(5), tmpfiles.d(5), sysusers.d(5).
 */

export const SYSUSERS_FILE = "/etc/sysusers.d/aegis.conf";
export const TMPFILES_FILE = "/etc/tmpfiles.d/aegis.conf";
/** Written whether needrestart is there or not: it may come later, also by a run of Aegis. */
export const NEEDRESTART_FILE = "/etc/needrestart/conf.d/aegis.conf";

type Section = "Unit" | "Socket" | "Service" | "Timer" | "Install";
type Unit = Readonly<Partial<Record<Section, Directives>>>;

const HEADER =
  "# Written by `aegis daemon install`, which writes it anew each time. Changes belong into a drop-in:";

/** Tried again every second and never given up, so that no number of failures needs a hand on the machine. */
const RESTARTED: Directives = { Restart: "on-failure", RestartSec: "1s" };
const NO_START_LIMIT: Directives = { StartLimitIntervalSec: "0" };

/**
 * Of what waits for apt. A hook of apt or a maintainer script that stops or restarts it would wait for its own apt, for ever;
 * systemd refuses that at once (systemd.unit(5)). A shutdown stops by dependency, and still does.
 */
const NOT_BY_HAND: Directives = { RefuseManualStop: "yes" };

/** Of what runs apt. Once dpkg is at work, nothing ends it: it stops when it is done, however long that takes. */
const NEVER_CUT: Directives = {
  KillMode: "process",
  SendSIGKILL: "no",
  TimeoutStopSec: "infinity",
  OOMPolicy: "continue",
  TasksMax: "infinity",
  LimitNOFILE: "1024:524288",
};

/** Of every socket. Only root makes them; a group decides who may connect. */
const GUARDED: Directives = {
  SocketMode: "0660",
  SocketUser: "root",
  RemoveOnStop: "yes",
  // However many come: a limit that is hit stops the socket until somebody starts it again.
  TriggerLimitIntervalSec: "0",
};

/** systemd would take the path over from an executor that was started by hand, if that didn't hold this lock. */
function unlessByHand(socket: string): Directives {
  return {
    ExecStartPre: `/usr/bin/flock --nonblock ${socket}.lock /usr/bin/true`,
    // Whoever could open the lock could hold it.
    UMask: "0077",
  };
}

/** When the monitor looks for the first time after its timer was started, in minutes, and how much later at the most. */
export const FIRST_LOOK = { after: 10, spread: 5 } as const;

const UNITS = {
  "aegisd.socket": {
    Unit: { Description: "Aegis executor, where clients connect" },
    Socket: {
      ListenStream: SYSTEM.socket,
      SocketGroup: ADMIN_GROUP,
      ...GUARDED,
      ...unlessByHand(SYSTEM.socket),
    },
    Install: { WantedBy: "sockets.target" },
  },
  "aegisd.service": {
    Unit: {
      Description: "Aegis executor, the front",
      Requires: "aegisd.socket",
      Wants: "aegis-runner.socket",
      After: "aegisd.socket aegis-runner.socket",
      ...NO_START_LIMIT,
    },
    Service: {
      Type: "exec",
      User: USERS.front,
      Group: USERS.front,
      ExecStart: `${SYSTEM.binary} daemon --executor`,
      ...RESTARTED,
      TimeoutStopSec: "10s",
      LimitNOFILE: "1024",
      LimitCORE: "0",
      TasksMax: "256",
      MemoryMax: "512M",
      MemorySwapMax: "0",
      ...FRONT,
      // Of root's places the front needs the socket of the runner and what is trusted, nothing of the state and the log.
      // The last two for systemd 249, which leaves the host's /run in place of the empty one of FRONT.
      InaccessiblePaths: `-${SYSTEM.state} -${SYSTEM.auditDir} -/var/cache/aegis -${SYSTEM.reviewKey} -/run/dbus -/run/systemd/private`,
    },
    Install: { WantedBy: "multi-user.target", Also: "aegisd.socket" },
  },
  "aegis-runner.socket": {
    Unit: { Description: "Aegis executor, where the front hands over requests" },
    Socket: {
      ListenStream: SYSTEM.runnerSocket,
      SocketGroup: USERS.front,
      ...GUARDED,
      ...unlessByHand(SYSTEM.runnerSocket),
      Accept: "yes",
      MaxConnections: String(RUNNER_PLACES),
    },
    Install: { WantedBy: "sockets.target" },
  },
  "aegis-runner@.service": {
    Unit: {
      Description: "Aegis executor, one request",
      // What stands here is stopped later than a run at shutdown: downloads and maintainer scripts need it, and the front
      // tells its clients how it ends.
      After:
        "aegisd.service network.target nss-lookup.target dbus.socket systemd-journald.socket local-fs.target remote-fs.target",
      OnFailure: "aegis-recover.service",
      CollectMode: "inactive-or-failed",
      ...NOT_BY_HAND,
      ...NO_START_LIMIT,
    },
    Service: {
      ExecStart: `${SYSTEM.binary} daemon --runner`,
      Environment: `${BOOT_VARIABLE}=%b`,
      StandardInput: "socket",
      StandardOutput: "journal",
      StandardError: "journal",
      ...NEVER_CUT,
      ...RUNS_TOOLS,
    },
  },
  "aegis-recover.service": {
    Unit: {
      Description: "Aegis executor, the end of an interrupted run",
      After: "local-fs.target remote-fs.target",
      ...NOT_BY_HAND,
      ...NO_START_LIMIT,
    },
    Service: {
      Type: "oneshot",
      ExecStart: `${SYSTEM.binary} daemon --recover`,
      Environment: `${BOOT_VARIABLE}=%b`,
      TimeoutStartSec: "infinity",
      ...NEVER_CUT,
      ...RUNS_TOOLS,
    },
    Install: { WantedBy: "multi-user.target" },
  },
  "aegis-reviewd.socket": {
    Unit: { Description: "Aegis reviewer, where clients connect" },
    Socket: {
      ListenStream: SYSTEM.reviewerSocket,
      SocketGroup: REVIEW_GROUP,
      ...GUARDED,
    },
    Install: { WantedBy: "sockets.target" },
  },
  "aegis-reviewd.service": {
    Unit: {
      Description: "Aegis reviewer",
      Requires: "aegis-reviewd.socket",
      After: "aegis-reviewd.socket network.target nss-lookup.target",
      ...NO_START_LIMIT,
    },
    Service: {
      Type: "exec",
      User: USERS.reviewer,
      Group: USERS.reviewer,
      ExecStart: `${SYSTEM.binary} daemon --reviewer`,
      LoadCredential: `aegis-review-key:${SYSTEM.reviewKey}`,
      Environment: `HOME=${SYSTEM.reviewerState} AEGIS_AUDIT_LOG_DIR=${SYSTEM.reviewerAudit}`,
      ...RESTARTED,
      TimeoutStopSec: "20s",
      LimitNOFILE: "1024",
      LimitCORE: "0",
      TasksMax: "256",
      MemoryMax: "1G",
      MemorySwapMax: "0",
      ...REVIEWER,
      ReadWritePaths: `${SYSTEM.reviewerState} ${SYSTEM.reviewerAudit}`,
    },
    Install: { WantedBy: "multi-user.target", Also: "aegis-reviewd.socket" },
  },
  "aegis-monitor.service": {
    Unit: { Description: "Aegis monitor", After: "aegisd.socket network.target", ...NOT_BY_HAND },
    Service: {
      Type: "oneshot",
      ExecStart: `${SYSTEM.binary} daemon --monitor`,
      Environment: `${BOOT_VARIABLE}=%b`,
      TimeoutStartSec: "15min",
      ...MONITOR,
      ReadWritePaths: `${SYSTEM.state} ${SYSTEM.auditDir}`,
    },
  },
  "aegis-monitor.timer": {
    Unit: { Description: "Aegis monitor, hourly" },
    Timer: {
      OnActiveSec: `${FIRST_LOOK.after}min`,
      OnUnitInactiveSec: "1h",
      RandomizedDelaySec: `${FIRST_LOOK.spread}min`,
    },
    Install: { WantedBy: "timers.target" },
  },
} as const satisfies Record<string, Unit>;

export type UnitName = keyof typeof UNITS;
export const UNIT_NAMES = Object.keys(UNITS) as readonly UnitName[];

/** The services that wait for apt, the monitor for a minute or three; systemd does not stop them by hand. */
export const WAIT_FOR_APT = [
  "aegis-runner@.service",
  "aegis-recover.service",
  "aegis-monitor.service",
] as const satisfies readonly UnitName[];

/** The text of a unit file. */
export function unitText(name: UnitName): string {
  const sections = Object.entries(UNITS[name] satisfies Unit).map(([section, directives]) => {
    const lines = Object.entries(directives as Directives).flatMap(([key, value]) =>
      typeof value === "string" ? [`${key}=${value}`] : value.map((one) => `${key}=${one}`),
    );
    return `[${section}]\n${lines.join("\n")}\n`;
  });
  return `${HEADER}\n# systemctl edit ${name}\n\n${sections.join("\n")}`;
}

/**
 * What a boot loader's, an EFI or a RAID package needs beyond the runner's unit: block devices, EFI variables, and the
 * privilege to ask the kernel about them. A drop-in, since most virtual machines can do without.
 */
export const BOOT_LOADER_DROP_IN = {
  path: `${UNIT_DIRECTORY}/aegis-runner@.service.d/boot-loader.conf`,
  lines: [
    "[Service]",
    "PrivateDevices=no",
    "DevicePolicy=auto",
    "ProtectKernelTunables=no",
    "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_RAWIO CAP_LINUX_IMMUTABLE CAP_MKNOD",
  ],
} as const;

/** Every directory of a production host, parents first. */
export const HOST_DIRECTORIES: readonly Directory[] = [
  { path: SYSTEM.config, mode: 0o755, user: "root", group: "root" },
  { path: SYSTEM.run, mode: 0o755, user: "root", group: "root" },
  ...STATE_DIRECTORIES,
  // An unprivileged service owns directories of its own only, and systemd makes none: it would hand over the parents too.
  { path: SYSTEM.reviewerState, mode: 0o700, user: USERS.reviewer, group: USERS.reviewer },
  { path: SYSTEM.reviewerAudit, mode: 0o700, user: USERS.reviewer, group: USERS.reviewer },
];

/** What systemd-tmpfiles makes at each boot, and puts right where it was changed. */
export function tmpfilesText(): string {
  const lines = HOST_DIRECTORIES.map(
    ({ path, mode, user, group }) => `d ${path} ${mode.toString(8).padStart(4, "0")} ${user} ${group} -`,
  );
  return `# Written by \`aegis daemon install\`.\n${lines.join("\n")}\n`;
}

/**
 * What needrestart leaves alone. apt calls it as a hook, Ubuntu's restarts services without asking, and after an upgrade of
 * libc6 every service runs old code. In Perl, read by needrestart.conf; apt-daily.service stands there for the same reason.
 */
export function needrestartText(): string {
  const names = WAIT_FOR_APT.map((name) => name.replace(/^aegis-(\w+).*$/, "$1")).join("|");
  return `# Written by \`aegis daemon install\`. These wait for the very apt that calls needrestart.\n$nrconf{override_rc}{qr(^aegis-(?:${names})\\b)} = 0;\n`;
}

/** The accounts, for systemd-sysusers: locked, without a shell and a home. */
export function sysusersText(): string {
  const users = [
    `u ${USERS.front} - "Aegis executor, the front"`,
    `u ${USERS.reviewer} - "Aegis reviewer"`,
    `u ${USERS.build} - "Aegis, builds from source"`,
  ];
  const groups = [ADMIN_GROUP, REVIEW_GROUP].map((group) => `g ${group} -`);
  return `# Written by \`aegis daemon install\`.\n${[...groups, ...users].join("\n")}\n`;
}
