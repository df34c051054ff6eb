import { readFileSync } from "node:fs";
import { AegisError } from "./errors.ts";
import { readText } from "./sys-files.ts";
import { idsInUse } from "./sys-process.ts";
import { resolveProgram } from "./sys-spawn.ts";
import { userIds } from "./sys-state.ts";

/** A user other than root, with its own group. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
}

/**
 * The account a program should run as; null for `root`, which changes nothing.
 * @throws AegisError `unavailable` if the account doesn't exist, `refused` if it is root under another name
 */
export function accountOf(
  name: string,
  ids: (name: string) => ReturnType<typeof userIds> = userIds,
): Account | null {
  if (name === "root") return null;
  const found = ids(name);
  if (found === null) {
    throw new AegisError(
      "unavailable",
      `the tool should run as the user ${name}, which doesn't exist on this host`,
      "Have an administrator create it: aegis daemon install",
    );
  }
  if (found.uid <= 0 || found.gid <= 0) {
    throw new AegisError(
      "refused",
      `the user ${name} is root's (uid ${found.uid}, gid ${found.gid}), and the tool must not run as root`,
      "Give it its own uid and group, or remove it and type: aegis daemon install",
    );
  }
  return { name, ...found };
}

/**
 * The command line that runs a program as an account: without supplementary groups, capabilities, or a way to gain
 * privileges (setpriv(1)). setpriv execs the program, so the pid stays the same. Unchanged for null.
 * @throws AegisError `unavailable` if util-linux's setpriv is missing
 */
export function commandAs(
  account: Account | null,
  program: string,
  args: readonly string[],
): [program: string, args: string[]] {
  if (account === null) return [program, [...args]];
  const setpriv = resolveProgram("setpriv");
  if (setpriv === null) {
    throw new AegisError("unavailable", "setpriv is not installed", "Install util-linux.");
  }
  const ids = ["--reuid", String(account.uid), "--regid", String(account.gid), "--clear-groups"];
  return [setpriv, [...ids, "--inh-caps=-all", "--no-new-privs", "--", program, ...args]];
}

/** Ids that systemd assigns temporarily (DynamicUser= of systemd.exec(5)), never to a person or package. */
const DYNAMIC_IDS = { first: 61184, last: 65519 };

/**
 * An id that no user, group or process has.
 * @throws AegisError `unavailable` if all are taken
 */
export function unusedId(): number {
  const named = new Set(
    ["/etc/passwd", "/etc/group"].flatMap((file) =>
      readFileSync(file, "utf8")
        .split("\n")
        .map((line) => Number(line.split(":")[2])),
    ),
  );
  const running = idsInUse();
  for (let id = DYNAMIC_IDS.first; id <= DYNAMIC_IDS.last; id++) {
    if (!named.has(id) && !running.has(id)) return id;
  }
  throw new AegisError(
    "unavailable",
    "no user id is free for the front",
    "Create the system user aegis-front.",
  );
}

/** Who logged in before becoming root, as the kernel keeps it (pam_loginuid(8)); null where nobody did. */
export function loginUid(): number | null {
  const text = readText("/proc/self/loginuid");
  return text === null || !/^\d+$/.test(text) || text === "4294967295" ? null : Number(text);
}
