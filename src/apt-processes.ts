import { readdirSync, readFileSync, statSync } from "node:fs";
import { readDpkgStatus } from "./apt-dpkg.ts";
import { rebootDue } from "./apt-reboot.ts";
import { hostLink, ReplacedFiles, unitsUsing } from "./apt-services.ts";
import type { Afterwards } from "./doc-outlook.ts";
import type { TransactionEntry } from "./doc-plan.ts";
import { readProcesses, runningProcesses, type SeenProcesses, writeProcesses } from "./doc-processes.ts";
import { BOOT_VARIABLE, bootId } from "./sys-boot.ts";
import { readText } from "./sys-files.ts";
import { startTimeOf } from "./sys-process.ts";
import { lookAtProcesses, type ProcessLook } from "./sys-processes.ts";
import { resolveProgram, run, SYSTEM_PATH } from "./sys-spawn.ts";
import { isInstalled } from "./sys-systemd.ts";

/*
 * Which units run old code now, since when, and whether only a reboot helps. Root alone may look into every process, and only with
 * CAP_SYS_PTRACE, which neither the runner nor the monitor has: a unit of its own looks for them, and can do nothing else.
 */

const PROCESSES_UNIT = "aegis-processes.service";

/** How often the unit is started before what this process sees itself must do, and how long it is waited for, in milliseconds. */
const TRIES = 2;
const WAIT_MS = 3000;
const POLL_MS = 50;

function thisBoot(): string {
  return bootId(readText, process.env[BOOT_VARIABLE]) ?? "";
}

/** A look as a record: what was there at the last look keeps the time when it was first seen. Pure. */
export function processRecord(
  look: ProcessLook,
  reasons: readonly string[],
  { at, boot, last }: { at: string; boot: string; last: SeenProcesses | null },
): SeenProcesses {
  const before = new Map(last?.units.map(({ unit, since }) => [unit, since]));
  const known = new Map(last?.reboot.map(({ reason, since }) => [reason, since]));
  return {
    schema_version: "1.0",
    seen_at: at,
    boot_id: boot,
    unseen: look.unseen,
    units: look.units.map((one) =>
      one.old.length === 0 ? one : { ...one, since: before.get(one.unit) ?? at },
    ),
    reboot: reasons.map((reason) => ({ reason, since: known.get(reason) ?? at })),
  };
}

/** What this process can see of the host now, and since when. @throws an error of the file system */
function seeProcesses(): SeenProcesses {
  const boot = thisBoot();
  const at = new Date();
  const look = lookAtProcesses();
  return processRecord(look, dueOn(look, at), { at: at.toISOString(), boot, last: readProcesses(boot) });
}

/** Why this host needs a reboot now. */
function dueOn({ units }: Pick<ProcessLook, "units">, now: Date): string[] {
  const status = readDpkgStatus("/var/lib/dpkg/status", { readText, list: (path) => readdirSync(path) });
  const uptime = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
  return rebootDue(status?.packages ?? new Map(), units, {
    readText,
    changedAt: (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? null,
    bootedAt: now.getTime() - uptime * 1000,
  });
}

/**
 * Looks now, as root, and keeps the record. Where this process may not see everything, the unit is asked; if that doesn't answer, what
 * is seen has to do, and the record stays as it was.
 * @throws AegisError `io`, an error of the file system
 */
export async function freshProcesses(): Promise<SeenProcesses> {
  const own = seeProcesses();
  if (own.unseen === 0) writeProcesses(own);
  if (own.unseen === 0 || !isInstalled()) return own;
  return (await askUnit(own.boot_id)) ?? own;
}

/** The unit's own look: it keeps what it sees. @throws AegisError `io`, an error of the file system */
export function recordProcesses(): void {
  writeProcesses(seeProcesses());
}

/** Starts the unit and waits for its record. If it was running already, that one may have begun too early. */
async function askUnit(boot: string): Promise<SeenProcesses | null> {
  const program = resolveProgram("systemctl");
  if (program === null) return null;
  const asked = new Date().toISOString();
  for (let n = 0; n < TRIES; n++) {
    await run(program, ["start", "--no-block", PROCESSES_UNIT], {
      env: { PATH: SYSTEM_PATH.join(":"), LC_ALL: "C.UTF-8" },
      cwd: "/",
      timeoutMs: WAIT_MS,
      maxBytes: 64 * 1024,
    });
    for (const end = performance.now() + WAIT_MS; performance.now() < end; await Bun.sleep(POLL_MS)) {
      const seen = readProcesses(boot);
      if (seen !== null && seen.seen_at >= asked) return seen;
    }
  }
  return null;
}

/**
 * Notes whose files a transaction replaces. The returned function says after the run which units still execute the old ones, whatever
 * restarted the others, and why a reboot is needed now.
 */
export function watchProcesses(transaction: readonly TransactionEntry[]): () => Promise<Afterwards> {
  const replaced = new ReplacedFiles(transaction, { readText, readLink: hostLink });
  return async () => {
    const { units, seen_at, unseen, reboot } = await freshProcesses();
    const old = unitsUsing(replaced, units, (unit) => unit.old.map(({ path }) => path));
    return {
      services: { units: old, seen_at, unseen },
      reboot: { reasons: reboot.map(({ reason }) => reason) },
    };
  };
}

/** What runs old code, and why to reboot, as of now: for status, doctor and metrics. */
export interface OldCode {
  /** Since when each unit runs which files. */
  units: { unit: string; files: string[]; since: string }[];
  reboot: { reason: string; since: string }[];
  seen_at: string;
  unseen: number;
}

/** What this user can find out, without changing anything: of a record, what has ended since is left out. */
export function oldCode(): OldCode {
  const now = new Date();
  const boot = thisBoot();
  const known = runningProcesses(boot, now);
  const record =
    "boot_id" in known
      ? withoutEnded(known)
      : processRecord(known, dueOn(known, now), { at: known.seen_at, boot, last: readProcesses(boot) });
  return {
    units: record.units
      .filter(({ old }) => old.length > 0)
      .map(({ unit, old, since = record.seen_at }) => ({ unit, files: old.map(({ path }) => path), since })),
    reboot: record.reboot,
    seen_at: record.seen_at,
    unseen: record.unseen,
  };
}

/** The record without old code of processes that have ended. Where other users' processes are hidden, nobody can tell. */
function withoutEnded(record: SeenProcesses): SeenProcesses {
  if (startTimeOf(1) === null) return record;
  const isThere = ({ pid, start }: { pid: number; start: number }) => startTimeOf(pid) === start;
  return {
    ...record,
    units: record.units.map((one) => ({
      ...one,
      old: one.old.filter(({ processes }) => processes.some(isThere)),
    })),
  };
}
