import { AegisError } from "./errors.ts";
import { resolveProgram } from "./sys-spawn.ts";
import { userIds } from "./sys-state.ts";

/** A user other than root, with its own group. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
}

/**
 * The account that a program is to run as; null for `root`, which stays what it is.
 * @throws AegisError `unavailable` for an account that doesn't exist, `refused` for one that is root under another name
 */
export function accountOf(name: string, ids: typeof userIds = userIds): Account | null {
  if (name === "root") return null;
  const found = ids(name);
  if (found === null) {
    throw new AegisError(
      "unavailable",
      `there is no user ${name} on this host, as whom the tool would run`,
      "Have an administrator create it: aegis daemon install",
    );
  }
  if (found.uid <= 0 || found.gid <= 0) {
    throw new AegisError(
      "refused",
      `the user ${name} is root's (uid ${found.uid}, gid ${found.gid}), and the tool must not run as root`,
      "Give it a uid and a group of its own, or remove it and type: aegis daemon install",
    );
  }
  return { name, ...found };
}

/**
 * The command line that runs a program as an account: no supplementary groups, no capabilities, and no way to new privileges
 * (setpriv(1)). It replaces itself by the program, so the process keeps its pid. For null the command line stays as it is.
 * @throws AegisError `unavailable` where util-linux's setpriv is missing
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
