import { describe, expect, test } from "bun:test";
import { accountOf, commandAs } from "../src/sys-account.ts";

const KNOWN: Record<string, { uid: number; gid: number }> = {
  "aegis-build": { uid: 990, gid: 989 },
  toor: { uid: 0, gid: 0 },
  wheel: { uid: 990, gid: 0 },
};
const look = (name: string) => accountOf(name, (one) => KNOWN[one] ?? null);

describe("as whom a tool runs", () => {
  const CASES: [name: string, code: string][] = [
    ["no-such-user", "unavailable"],
    ["", "unavailable"],
    ["toor", "refused"],
    ["wheel", "refused"],
  ];
  for (const [name, code] of CASES) {
    test(`not ${JSON.stringify(name)}`, () =>
      expect(() => look(name)).toThrow(expect.objectContaining({ code })));
  }
  test("an account of its own", () =>
    expect(look("aegis-build")).toEqual({ name: "aegis-build", uid: 990, gid: 989 }));
  test("root", () => expect(look("root")).toBeNull());
});

test("the command line", () => {
  expect(commandAs(null, "/usr/bin/x", ["-a"])).toEqual(["/usr/bin/x", ["-a"]]);
  expect(commandAs(look("aegis-build"), "/usr/bin/x", ["-a", "--", "b"])).toEqual([
    "/usr/bin/setpriv",
    [
      ...["--reuid", "990", "--regid", "989", "--clear-groups", "--inh-caps=-all", "--no-new-privs"],
      ...["--", "/usr/bin/x", "-a", "--", "b"],
    ],
  ]);
});
