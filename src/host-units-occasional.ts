import { type Directives, FEEDS, MONITOR, NOTIFIER, PROCESSES } from "./host-hardening.ts";
import { SYSTEM } from "./paths.ts";
import { BOOT_VARIABLE } from "./sys-boot.ts";
import { USERS } from "./sys-state.ts";

/*
 * The units that nobody connects to: they start at a time or when something has changed, look or tell, and end.
 */

type Section = "Unit" | "Socket" | "Service" | "Timer" | "Path" | "Install";
export type Unit = Readonly<Partial<Record<Section, Directives>>>;

export const NO_START_LIMIT: Directives = { StartLimitIntervalSec: "0" };

/**
 * For units that wait for apt. An apt hook or maintainer script that stops or restarts one would wait forever for its own
 * apt; with this, systemd refuses at once (systemd.unit(5)). A shutdown stops units by dependency and still works.
 */
export const NO_MANUAL_STOP: Directives = { RefuseManualStop: "yes" };

/** Minutes from the start of the timer to the monitor's first run, and the maximum random delay on top. */
export const FIRST_LOOK = { after: 10, spread: 5 } as const;

export const OCCASIONAL_UNITS = {
  "aegis-notify.path": {
    Unit: { Description: "Aegis notifier, started by a new notice" },
    Path: { PathChanged: SYSTEM.notices },
    Install: { WantedBy: "paths.target" },
  },
  "aegis-notify.service": {
    Unit: { Description: "Aegis notifier", After: "network.target nss-lookup.target", ...NO_START_LIMIT },
    Service: {
      ExecStart: `/usr/bin/setpriv --reuid=${USERS.notify} --regid=${USERS.notify} --clear-groups --inh-caps=-all ${SYSTEM.binary} daemon --notify`,
      SyslogIdentifier: "aegis",
      Restart: "on-failure",
      RestartSec: "1min",
      TimeoutStopSec: "30s",
      LimitCORE: "0",
      TasksMax: "256",
      MemoryMax: "512M",
      MemorySwapMax: "0",
      ...NOTIFIER,
    },
  },
  "aegis-feeds.service": {
    Unit: {
      Description: "Aegis, vulnerability data",
      Wants: "network-online.target",
      After: "network-online.target nss-lookup.target",
      ...NO_START_LIMIT,
    },
    Service: {
      Type: "oneshot",
      User: USERS.feeds,
      Group: USERS.feeds,
      ExecStart: `${SYSTEM.binary} daemon --feeds`,
      TimeoutStartSec: "3h",
      // Nobody waits for it.
      Nice: "19",
      IOSchedulingClass: "idle",
      LimitCORE: "0",
      TasksMax: "256",
      MemoryMax: "1G",
      MemorySwapMax: "0",
      ...FEEDS,
    },
  },
  "aegis-feeds.timer": {
    Unit: { Description: "Aegis, vulnerability data, twice a day" },
    Timer: {
      OnCalendar: "*-*-* 00/12:00:00",
      RandomizedDelaySec: "6h",
      // After a night switched off, at the next boot.
      Persistent: "yes",
    },
    Install: { WantedBy: "timers.target" },
  },
  "aegis-processes.service": {
    Unit: { Description: "Aegis, a look at which processes run old code", ...NO_START_LIMIT },
    Service: {
      Type: "oneshot",
      ExecStart: `${SYSTEM.binary} daemon --processes`,
      Environment: `${BOOT_VARIABLE}=%b`,
      TimeoutStartSec: "1min",
      ...PROCESSES,
      ReadWritePaths: SYSTEM.run,
    },
  },
  "aegis-monitor.service": {
    Unit: { Description: "Aegis monitor", After: "aegisd.socket network.target", ...NO_MANUAL_STOP },
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
