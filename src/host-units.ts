import {
  type Directives,
  ENDS_WITH_RUNNER,
  FETCHER,
  FRONT,
  NEVER_KILLED,
  REVIEWER,
  RUNS_TOOLS,
  SANDBOX,
  UNPACKER,
} from "./host-hardening.ts";
import { NO_MANUAL_STOP, NO_START_LIMIT, OCCASIONAL_UNITS, type Unit } from "./host-units-occasional.ts";
import { SYSTEM } from "./paths.ts";
import { BOOT_VARIABLE } from "./sys-boot.ts";
import { ADMIN_GROUP, REVIEW_GROUP, STATE, USERS } from "./sys-state.ts";
import { RUNNER_SLOTS } from "./wire-limits.ts";

/*
 * The units and other systemd configuration, as data. systemd.unit(5), systemd.socket(5), systemd.service(5),
 * systemd.kill(5), systemd.timer(5).
 */

const HEADER = "# Written by `aegis daemon install`, which overwrites it. Put changes into a drop-in:";

/** Restarts every second without a limit, so that the service recovers from any number of failures by itself. */
const RESTARTED: Directives = { Restart: "on-failure", RestartSec: "1s" };

/** For every socket: root creates it, and members of a group may connect. */
const GUARDED: Directives = {
  SocketMode: "0660",
  SocketUser: "root",
  RemoveOnStop: "yes",
  // No limit: hitting one stops the socket until somebody starts it again.
  TriggerLimitIntervalSec: "0",
};

/** For the sockets by which the runner starts what confines a managed run. One run at a time needs two, one of them ending. */
const ROOT_ONLY: Directives = {
  ...GUARDED,
  SocketMode: "0600",
  SocketGroup: "root",
  Accept: "yes",
  MaxConnections: "4",
};

/** Keeps systemd from taking the path over from an executor started by hand, which holds this lock. */
function unlessStartedByHand(socket: string): Directives {
  return {
    ExecStartPre: `/usr/bin/flock --nonblock ${socket}.lock /usr/bin/true`,
    // Anyone who can open the lock file can hold the lock.
    UMask: "0077",
  };
}

/**
 * The first process of a sandbox is of Aegis too. When it ends, the kernel kills all others of its PID namespace.
 * Without --mount-proc util-linux 2.37 (Ubuntu 22.04) can't drop capabilities: setpriv(1) reads /proc/self, which isn't there.
 */
function sandboxUnit(what: string, hardening: Directives) {
  const start = "/usr/bin/unshare --mount --pid --fork --kill-child --mount-proc --";
  return {
    Unit: { Description: `Aegis executor, ${what}`, ...ENDS_WITH_RUNNER, ...NO_START_LIMIT },
    Service: {
      ExecStart: `${start} ${SYSTEM.binary} daemon --confined init`,
      ...hardening,
      // It opens the files for the tool's output. The stage it mounts anew.
      ReadWritePaths: STATE.runs,
    },
  };
}

const UNITS = {
  "aegisd.socket": {
    Unit: { Description: "Aegis executor, where clients connect" },
    Socket: {
      ListenStream: SYSTEM.socket,
      SocketGroup: ADMIN_GROUP,
      ...GUARDED,
      ...unlessStartedByHand(SYSTEM.socket),
    },
    Install: { WantedBy: "sockets.target" },
  },
  "aegisd.service": {
    Unit: {
      Description: "Aegis executor, the front",
      Requires: "aegisd.socket",
      Wants: "aegis-runner.socket aegis-build.socket aegis-unpack.socket aegis-fetch.socket",
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
      // Of root's files the front needs the runner's socket and the trusted keys, not the state and the log. The last two
      // paths are for systemd 249, which keeps the host's /run in spite of FRONT's TemporaryFileSystem=.
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
      ...unlessStartedByHand(SYSTEM.runnerSocket),
      Accept: "yes",
      MaxConnections: String(RUNNER_SLOTS),
    },
    Install: { WantedBy: "sockets.target" },
  },
  "aegis-runner@.service": {
    Unit: {
      Description: "Aegis executor, one request",
      // At shutdown these stop after the run: downloads and maintainer scripts need them, and the front reports the outcome.
      After:
        "aegisd.service network.target nss-lookup.target dbus.socket systemd-journald.socket local-fs.target remote-fs.target",
      OnFailure: "aegis-recover.service",
      CollectMode: "inactive-or-failed",
      ...NO_MANUAL_STOP,
      ...NO_START_LIMIT,
    },
    Service: {
      ExecStart: `${SYSTEM.binary} daemon --runner`,
      Environment: `${BOOT_VARIABLE}=%b`,
      StandardInput: "socket",
      StandardOutput: "journal",
      StandardError: "journal",
      ...NEVER_KILLED,
      ...RUNS_TOOLS,
    },
  },
  "aegis-fetch.socket": {
    Unit: { Description: "Aegis executor, where downloads start" },
    Socket: { ListenStream: SYSTEM.fetchSocket, ...ROOT_ONLY },
    Install: { WantedBy: "sockets.target" },
  },
  "aegis-fetch@.service": {
    Unit: { Description: "Aegis executor, downloads of one run", ...ENDS_WITH_RUNNER, ...NO_START_LIMIT },
    Service: {
      User: USERS.fetch,
      Group: USERS.fetch,
      ExecStart: `${SYSTEM.binary} daemon --confined fetch`,
      ...FETCHER,
    },
  },
  "aegis-build.socket": {
    Unit: { Description: "Aegis executor, where sandboxes start" },
    Socket: { ListenStream: SYSTEM.buildSocket, ...ROOT_ONLY },
    Install: { WantedBy: "sockets.target" },
  },
  "aegis-build@.service": sandboxUnit("the sandbox of one run", SANDBOX),
  "aegis-unpack.socket": {
    Unit: {
      Description: "Aegis executor, where sandboxes start that unpack",
    },
    Socket: { ListenStream: SYSTEM.unpackSocket, ...ROOT_ONLY },
    Install: { WantedBy: "sockets.target" },
  },
  "aegis-unpack@.service": sandboxUnit("the sandbox of one run that unpacks", UNPACKER),
  "aegis-recover.service": {
    Unit: {
      Description: "Aegis executor, the end of an interrupted run",
      After: "local-fs.target remote-fs.target",
      ...NO_MANUAL_STOP,
      ...NO_START_LIMIT,
    },
    Service: {
      Type: "oneshot",
      ExecStart: `${SYSTEM.binary} daemon --recover`,
      Environment: `${BOOT_VARIABLE}=%b`,
      TimeoutStartSec: "infinity",
      ...NEVER_KILLED,
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
  ...OCCASIONAL_UNITS,
} as const satisfies Record<string, Unit>;

export type UnitName = keyof typeof UNITS;
export const UNIT_NAMES = Object.keys(UNITS) as readonly UnitName[];

/** The services that wait for apt (the monitor for a few minutes). systemd refuses to stop them by hand. */
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
