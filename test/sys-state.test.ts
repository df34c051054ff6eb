import { describe, expect, test } from "bun:test";
import { accountProblems } from "../src/sys-state.ts";

const FRONT = "aegis-front:x:994:994:Aegis executor, the front:/:/usr/sbin/nologin";
const OWN = "aegis-front:x:994:";
const ROOT = "root:x:0:0:root:/root:/bin/bash";

describe("accounts that services must not run under", () => {
  test.each([
    ["root's uid", "aegis-front:x:0:994::/:/usr/sbin/nologin", OWN, "no system account (uid 0)"],
    ["root's uid, as the account it is", "aegis-front:x:0:994::/:/usr/sbin/nologin", OWN, "the uid of root"],
    ["a person's", "aegis-front:x:1000:994::/:/usr/sbin/nologin", OWN, "no system account (uid 1000)"],
    ["no number", "aegis-front:x::994::/:/usr/sbin/nologin", OWN, "no system account (uid )"],
    ["one to log in with", "aegis-front:x:994:994::/:/bin/bash", OWN, "can log in (/bin/bash)"],
    ["one without a shell named, which is sh", "aegis-front:x:994:994::/:", OWN, "can log in ()"],
    ["another group first", "aegis-front:x:994:100::/:/usr/sbin/nologin", OWN, "is not aegis-front"],
    ["its uid twice", `${FRONT}\nmallory:x:994:1000::/:/bin/bash`, OWN, "the uid of mallory"],
    ["a group with others in it", FRONT, `${OWN}mallory`, "group aegis-front has other members: mallory"],
    ["another group besides", FRONT, `${OWN}\ndocker:x:900:alice,aegis-front`, "in other groups: docker"],
    ["a group of root's number", FRONT, `${OWN}\naegis-admin:x:0:`, "group aegis-admin is root's"],
  ])("%s", (_, passwd, group, why) => {
    expect(accountProblems(`${ROOT}\n${passwd}\n`, `root:x:0:\n${group}\n`).join("; ")).toContain(why);
  });

  test.each([
    ["none yet", "", ""],
    ["as install makes them", FRONT, `${OWN}\naegis-admin:x:993:alice,agent`],
  ])("and those that are right: %s", (_, passwd, group) => {
    expect(accountProblems(`${ROOT}\n${passwd}\n`, `root:x:0:\n${group}\n`)).toEqual([]);
  });
});
