import { describe, expect, test } from "bun:test";
import { isLong, pagerArgv } from "../src/sys-pager.ts";

/** Programs of a host, by path. */
const find = (name: string, path: readonly string[] = ["/usr/local/bin", "/usr/bin"]) =>
  [
    "/usr/bin/less",
    "/usr/bin/more",
    "/usr/bin/pg",
    "/usr/bin/most",
    "/usr/local/bin/bat",
    "/usr/bin/false",
  ].find((program) => path.some((directory) => program === `${directory}/${name}`)) ?? null;

describe("the pager", () => {
  const CASES: [pager: string | undefined, argv: string[] | null][] = [
    [undefined, ["/usr/bin/less", "-R"]],
    ["", null],
    ["  ", null],
    ["cat", null],
    ["/usr/bin/cat", null],
    ["most", ["/usr/bin/most"]],
    ["/usr/bin/most", ["/usr/bin/most"]],
    ["bat --plain  -p", ["/usr/local/bin/bat", "--plain", "-p"]],
    // Outside the system directories, missing, or malformed: less.
    ["/home/alice/bin/pager", ["/usr/bin/less", "-R"]],
    ["./less", ["/usr/bin/less", "-R"]],
    ["nonexistent", ["/usr/bin/less", "-R"]],
    ["$(id)", ["/usr/bin/less", "-R"]],
    // Never run by a shell: plain words.
    ["less -R; rm -rf /", ["/usr/bin/less", "-R;", "rm", "-rf", "/"]],
    ["less `id`", ["/usr/bin/less", "`id`"]],
  ];
  for (const [pager, argv] of CASES) {
    test(JSON.stringify(pager ?? "unset"), () =>
      expect(pagerArgv(pager === undefined ? {} : { PAGER: pager }, find)).toEqual(argv),
    );
  }
  const BEHIND_SUDO: [pager: string, argv: string[] | null][] = [
    ["sh -c id", ["/usr/bin/less", "-R"]],
    ["/usr/bin/false", ["/usr/bin/less", "-R"]],
    ["bat", ["/usr/bin/less", "-R"]],
    ["less -o /etc/passwd", ["/usr/bin/less", "-R"]],
    // They start a shell at a key.
    ["most", ["/usr/bin/less", "-R"]],
    ["/usr/bin/more", ["/usr/bin/less", "-R"]],
    ["pg", ["/usr/bin/less", "-R"]],
    ["cat", null],
  ];
  for (const [pager, argv] of BEHIND_SUDO) {
    test(`under sudo: ${pager}`, () =>
      expect(pagerArgv({ PAGER: pager, SUDO_UID: "1000" }, find)).toEqual(argv));
  }
  test("none installed", () => expect(pagerArgv({}, () => null)).toBeNull());
});

test("long text has more lines than the terminal, less one for the prompt", () => {
  const terminal = { interactive: true, colour: false, width: 80, height: 3 };
  expect([1, 2, 3, 9].map((n) => isLong("x\n".repeat(n - 1), terminal))).toEqual([false, false, true, true]);
  expect(isLong("x\n".repeat(99), { interactive: false, colour: false, width: 80 })).toBe(false);
});
