import { readFileSync } from "node:fs";
import { AegisError } from "./errors.ts";
import { ADMIN_GROUP, REVIEW_GROUP, USERS } from "./state.ts";

/** System accounts end here (SYS_UID_MAX of login.defs(5)); people begin behind it. */
const LAST_SYSTEM_ID = 999;
const NO_LOGIN = /\/(?:nologin|false)$/;

/**
 * Why accounts that have the names of ours are not what the services need, one reason each; empty when all are, or are
 * missing. An account of root's, of a person, or with groups of its own gives a service what its unit was to deny it.
 * @throws an error of the file system
 */
export function accountProblems(
  passwd: string = readFileSync("/etc/passwd", "utf8"),
  group: string = readFileSync("/etc/group", "utf8"),
): string[] {
  const users = entries(passwd);
  const groups = entries(group);
  const problems = Object.values(USERS).flatMap((name) => {
    const user = users.find(([found]) => found === name);
    const own = groups.find(([found]) => found === name);
    const members = own?.[3] ?? "";
    const others = groups.filter((one) => one[0] !== name && (one[3] ?? "").split(",").includes(name));
    return [
      ...(user === undefined ? [] : userProblems(name, user, own?.[2], users)),
      ...(members === "" || members === name ? [] : [`group ${name} has other members: ${members}`]),
      ...(others.length === 0 ? [] : [`${name} is in other groups: ${others.map(([of]) => of).join(", ")}`]),
    ];
  });
  const root = [ADMIN_GROUP, REVIEW_GROUP, ...Object.values(USERS)].filter(
    (name) => Number(groups.find(([found]) => found === name)?.[2] ?? 1) === 0,
  );
  return [...problems, ...root.map((name) => `group ${name} is root's (gid 0)`)];
}

function userProblems(
  name: string,
  [, , uid = "", gid = "", , , shell = ""]: readonly string[],
  ownGid: string | undefined,
  users: readonly (readonly string[])[],
): string[] {
  const alike = users.filter((one) => one[2] === uid && one[0] !== name).map(([found]) => found);
  const number = Number(uid);
  return [
    ...(number >= 1 && number <= LAST_SYSTEM_ID ? [] : [`${name} is no system account (uid ${uid})`]),
    ...(alike.length === 0 ? [] : [`${name} has the uid of ${alike.join(", ")}`]),
    ...(gid === ownGid ? [] : [`the group of ${name} is not ${name}`]),
    ...(NO_LOGIN.test(shell) ? [] : [`${name} can log in (${shell})`]),
  ];
}

/** @throws AegisError `refused` where {@link accountProblems} finds something */
export function refuseForeignAccounts(): void {
  const problems = accountProblems();
  if (problems.length === 0) return;
  throw new AegisError(
    "refused",
    `services can't run under accounts that are not made for them: ${problems.join("; ")}`,
    "Rename or remove these accounts, or take them out of the groups; install makes its own.",
  );
}

function entries(text: string): string[][] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split(":"));
}
