import { describe, expect, test } from "bun:test";
import { accountProblems, userIds } from "../src/sys-state.ts";

const FRONT = "aegis-front:x:994:994:Aegis executor, the front:/:/usr/sbin/nologin";
const OWN = "aegis-front:x:994:";
const ROOT = "root:x:0:0:root:/root:/bin/bash";

describe("accounts unfit for services", () => {
  test.each([
    ["root's uid", "aegis-front:x:0:994::/:/usr/sbin/nologin", OWN, "not a system account (uid 0)"],
    ["root's uid, shared with root", "aegis-front:x:0:994::/:/usr/sbin/nologin", OWN, "the uid of root"],
    ["a person's", "aegis-front:x:1000:994::/:/usr/sbin/nologin", OWN, "not a system account (uid 1000)"],
    ["no uid", "aegis-front:x::994::/:/usr/sbin/nologin", OWN, "not a system account (uid )"],
    ["one with a login shell", "aegis-front:x:994:994::/:/bin/bash", OWN, "can log in (/bin/bash)"],
    ["one without a shell, which means sh", "aegis-front:x:994:994::/:", OWN, "can log in ()"],
    ["another primary group", "aegis-front:x:994:100::/:/usr/sbin/nologin", OWN, "is not aegis-front"],
    ["its uid twice", `${FRONT}\nmallory:x:994:1000::/:/bin/bash`, OWN, "the uid of mallory"],
    ["a group with other members", FRONT, `${OWN}mallory`, "group aegis-front has other members: mallory"],
    ["a supplementary group", FRONT, `${OWN}\ndocker:x:900:alice,aegis-front`, "in other groups: docker"],
    ["a group with gid 0", FRONT, `${OWN}\naegis-admin:x:0:`, "group aegis-admin is root's"],
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

describe("the ids of a user", () => {
  const idsOf = (entry: string) => userIds("tool", `root:x:0:0::/root:/bin/bash\n${entry}\n`);
  const NONE: [what: string, entry: string][] = [
    ["no such user", "tools:x:5:6::/:/bin/sh"],
    ["a name that only begins so", "tool:x"],
    // By setpriv(1) these run as root: setresuid(2) leaves an id of 2^32 - 1 as it is, and a larger one is cut.
    ["2^32 - 1", "tool:x:4294967295:6::/:/bin/sh"],
    ["2^32", "tool:x:4294967296:6::/:/bin/sh"],
    ["a group of 2^32", "tool:x:5:4294967296::/:/bin/sh"],
    ["below zero", "tool:x:-1:6::/:/bin/sh"],
    // No users for glibc either.
    ["empty", "tool:x:::::"],
    ["hexadecimal", "tool:x:0x10:0x10::/:/bin/sh"],
    ["an exponent", "tool:x:1e3:1e3::/:/bin/sh"],
    ["white space", "tool:x: 7 :6::/:/bin/sh"],
    ["the first entry counts", "tool:x:x:6::/:/bin/sh\ntool:x:5:6::/:/bin/sh"],
  ];
  for (const [what, entry] of NONE) test(`none: ${what}`, () => expect(idsOf(entry)).toBeNull());
  test("the largest", () =>
    expect(idsOf("tool:x:4294967294:6::/:/bin/sh")).toEqual({ uid: 4294967294, gid: 6 }));
  test("a name with a colon is none", () => expect(userIds("tool:x", "tool:x:5:6::/:/bin/sh\n")).toBeNull());
});
