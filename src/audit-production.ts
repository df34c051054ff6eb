import { closeSync, constants, fstatSync, openSync, type Stats } from "node:fs";
import { type AuditLog, type AuditLogOptions, openAuditLog } from "./audit-log.ts";
import { keepNumber, keptNumber } from "./audit-newest.ts";
import { AegisError } from "./errors.ts";
import { SYSTEM } from "./paths.ts";
import { fileProblem } from "./sys-files.ts";

/*
 * Root's log in a directory whose parent others can write. On Ubuntu /var/log is 0775 root:syslog, so that whoever runs as
 * syslog can rename /var/log/aegis away and put another directory in its place: one of their own, or another of root's.
 *
 * What they can't do is change it. So it is opened once, without following a link, looked at by descriptor, and used through
 * that descriptor: from then on its name does not matter. Whether it is the log that this host has written so far is told by
 * the number of the newest event, which is kept below directories that are root's alone: a log that has fewer events is
 * another one, and root neither runs anything nor writes into it.
 */

/** The descriptor of a directory that only root can change. @throws AegisError `io` */
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
    `Look who put it there: ls -ld ${path}; then, as root: aegis daemon install`,
  );
}

/** What is wrong with a directory for root's log, in words, or null. */
export function logDirectoryProblem(stat: Pick<Stats, "uid" | "mode">): string | null {
  if (stat.uid !== 0) return "does not belong to root";
  return (stat.mode & 0o022) === 0 ? null : "can be written by others than root";
}

/** Where the log is, and where the number of its newest event is kept. */
export interface LogPlaces {
  path: string;
  newest: string;
}

/**
 * The production log, used through its directory's descriptor.
 * @throws AegisError `io` for a directory of others, `log_tampered` for a log that ends before the newest event
 */
export function openProductionLog(
  { path, newest: kept }: LogPlaces = { path: SYSTEM.auditDir, newest: SYSTEM.newestEvent },
  options: AuditLogOptions = {},
): AuditLog {
  const fd = openLogDirectory(path);
  const held = `/proc/self/fd/${fd}`;
  // With the dot it is the directory, and no link to it.
  const log = inWords(held, path, () => openAuditLog(`${held}/.`, { mode: 0o640, ...options }));
  const throughName: AuditLog = {
    append(event) {
      const recorded = inWords(held, path, () => log.append(event));
      keepNumber(kept, recorded.sequence);
      return recorded;
    },
    head: () => inWords(held, path, () => log.head()),
    reserve: (bytes) => inWords(held, path, () => log.reserve(bytes)),
    releaseReserve: () => inWords(held, path, () => log.releaseReserve()),
    close() {
      log.close();
      closeSync(fd);
    },
  };
  // In this order: another process may write an event at any moment, and the number after it.
  const seen = keptNumber(kept);
  const newest = newestOf(throughName);
  if (newest === null || newest >= seen) return throughName;
  throughName.close();
  throw new AegisError(
    "log_tampered",
    `the log in ${path} ends with event ${newest}, but this host had written event ${seen}: it was cut, or another directory put in its place`,
    `Put it back: ls -ld ${path}*. Where it is lost for good, type as root: rm ${kept}`,
  );
}

/** Null where the log's end is not what was written: every use of it says so. */
function newestOf(log: AuditLog): number | null {
  try {
    return log.head()?.sequence ?? 0;
  } catch (error) {
    if (error instanceof AegisError) return null;
    throw error;
  }
}

/** Errors name the log as people know it. */
function inWords<T>(held: string, path: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    if (!(error instanceof AegisError) || !error.message.includes(held)) throw error;
    const named = (text: string) => text.replaceAll(`${held}/.`, path).replaceAll(held, path);
    throw new AegisError(error.code, named(error.message), named(error.hint), error.details);
  }
}
