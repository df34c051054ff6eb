import { closeSync, constants, fstatSync, openSync, type Stats } from "node:fs";
import { type AuditLog, type AuditLogOptions, openAuditLog } from "./audit-log.ts";
import { keepNumber, keptNumber } from "./audit-newest.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { DAEMON_VARIABLES, withEnvironmentFile } from "./sys-environment-file.ts";
import { fileProblem } from "./sys-files.ts";

/*
 * Root's log in a directory whose parent others may be able to write. On Ubuntu /var/log is 0775 root:syslog, so the
 * syslog user can rename /var/log/aegis and put another directory in its place, its own or another of root's.
 *
 * They can't change the directory itself. So it is opened once, without following a link, checked, and used through
 * that descriptor; its name no longer matters. Whether it is the log this host has written is determined by the number
 * of the newest event, kept in directories only root can change: a log with fewer events is another one, and root then
 * neither runs anything nor writes to it.
 */

/** Opens a directory that only root can change. @throws AegisError `io` */
export function openLogDirectory(path: string): number {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    throw unfit(path, `can't be opened as a directory: ${fileProblem(error)}`);
  }
  const problem = logDirectoryProblem(fstatSync(fd));
  if (problem === null) return fd;
  closeSync(fd);
  throw unfit(path, problem);
}

function unfit(path: string, problem: string): AegisError {
  return new AegisError(
    "io",
    `${path} ${problem}`,
    `Check who created it: ls -ld ${path}; then, as root: aegis daemon install`,
  );
}

/** Why a directory is unfit for root's log, or null. */
export function logDirectoryProblem(stat: Pick<Stats, "uid" | "mode">): string | null {
  if (stat.uid !== 0) return "does not belong to root";
  return (stat.mode & 0o022) === 0 ? null : "can be written by others than root";
}

/** Paths of the log and of the number of its newest event. */
export interface LogPaths {
  path: string;
  newest: string;
}

const MIB = 1024 ** 2;
const ROTATE_MIB = "AEGIS_AUDIT_ROTATE_MIB";

/** The size at which the log is rotated, in bytes; undefined if root has set none. @throws AegisError `invalid_config`, `io` */
function rotationSize(): number | undefined {
  const text = withEnvironmentFile({}, SYSTEM.daemonEnv, DAEMON_VARIABLES)[ROTATE_MIB] ?? "";
  if (text === "") return undefined;
  const size = Number(text);
  if (/^[1-9]\d{0,3}$/.test(text) && size <= 4096) return size * MIB;
  throw new AegisError(
    "invalid_config",
    `${SYSTEM.daemonEnv}: ${ROTATE_MIB} must be a number of MiB from 1 to 4096`,
  );
}

/**
 * The production log, accessed through its directory's descriptor.
 * @throws AegisError `io` for a directory others can change, `log_tampered` for a log that ends before the newest event
 */
export function openProductionLog(
  { path, newest: kept }: LogPaths = { path: SYSTEM.auditDir, newest: SYSTEM.newestEvent },
  options: AuditLogOptions = {},
): AuditLog {
  const fd = openLogDirectory(path);
  const held = `/proc/self/fd/${fd}`;
  // The dot makes this the directory rather than a link to it.
  const rotateAt = rotationSize();
  const settings = { mode: 0o640, ...(rotateAt === undefined ? {} : { rotateAt }), ...options };
  const log = renamingErrors(held, path, () => openAuditLog(`${held}/.`, settings));
  const named: AuditLog = {
    append(event) {
      const recorded = renamingErrors(held, path, () => log.append(event));
      keepNumber(kept, recorded.sequence);
      return recorded;
    },
    head: () => renamingErrors(held, path, () => log.head()),
    reserve: (bytes) => renamingErrors(held, path, () => log.reserve(bytes)),
    releaseReserve: () => renamingErrors(held, path, () => log.releaseReserve()),
    close() {
      log.close();
      closeSync(fd);
    },
  };
  // In this order: another process may append an event at any time, and record its number after that.
  const seen = keptNumber(kept);
  const newest = newestOf(named);
  if (newest === null || newest >= seen) return named;
  named.close();
  throw new AegisError(
    "log_tampered",
    `the log in ${path} ends with event ${newest}, but this host has written event ${seen}: it was cut, or replaced by another directory`,
    `Restore it; look for it with: ls -ld ${path}*. If it is lost for good, type as root: rm ${kept}`,
  );
}

/** The newest event's number; null if the log's end was changed, which every use of it reports. */
function newestOf(log: AuditLog): number | null {
  try {
    return log.head()?.sequence ?? 0;
  } catch (error) {
    if (error instanceof AegisError) return null;
    throw error;
  }
}

/** Replaces the descriptor's path with the log's path in errors. */
function renamingErrors<T>(held: string, path: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    if (!(error instanceof AegisError) || !error.message.includes(held)) throw error;
    const named = (text: string) => text.replaceAll(`${held}/.`, path).replaceAll(held, path);
    throw new AegisError(error.code, named(error.message), named(error.hint), error.details);
  }
}
