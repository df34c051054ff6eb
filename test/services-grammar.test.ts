import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isAllowedArgv } from "../src/eco-argv.ts";
import { isRestartable, servicesGrammar } from "../src/services-grammar.ts";

const parse = (...targets: string[]) => servicesGrammar.parseTargets("restart", targets);

const REFUSED: [target: string, why: string][] = [
  ["", "it is empty"],
  ["--force", "option"],
  ["-H", "option"],
  ["foo.service;reboot", "shell metacharacters"],
  ["foo.service reboot", "white space"],
  ["foo.service\nreboot", "white space"],
  ["foo.service\0", "control characters"],
  ["foo\u202e.service", "control characters"],
  ["*.service", "shell metacharacters"],
  ["foo?.service", "no name of a unit"],
  ["foo[ab].service", "shell metacharacters"],
  ["foo!", "shell metacharacters"],
  ["../x.service", "path"],
  ["/etc/systemd/system/x.service", "path"],
  ["./x", "path"],
  ["foo\\x2dbar.service", "shell metacharacters"],
  ["foo%i.service", "no name of a unit"],
  ["foo@.service", "template"],
  ["foo@", "template"],
  ["@foo.service", "no name of a unit"],
  [".service", "no name of a unit"],
  [".", "no name of a unit"],
  [".hidden.service", "no name of a unit"],
  ["ünit.service", "no name of a unit"],
  ["foo=bar", "no name of a unit"],
  ["foo,bar", "no name of a unit"],
  ["foo~", "no name of a unit"],
  ["root@evil:x/y", "path"],
  ["multi-user.target", "a target"],
  ["system.slice", "a slice"],
  ["init.scope", "a scope"],
  ["session-2.scope", "a scope"],
  ["home.mount", "a mount"],
  ["apt-daily.timer", "a timer"],
  ["dev-sda.device", "a device"],
  ["aegis-notify.path", "a path"],
  ["aegis-runner@1-2-0.service", "Aegis's own run"],
  ["aegis-runner.socket", "Aegis's own run"],
  ["aegis-recover", "Aegis's own run"],
  ["aegis-build@3-4-0", "Aegis's own run"],
  ["aegis-unpack.socket", "Aegis's own run"],
  ["aegis-fetch@1", "Aegis's own run"],
  [`${"a".repeat(248)}.service`, "longer than 255"],
  ["a".repeat(248), "longer than 255"],
  ["a".repeat(100_000), "longer than 255"],
];

describe("no unit to restart", () => {
  for (const [target, why] of REFUSED)
    test(JSON.stringify(target.slice(0, 40)), () => {
      expect(() => parse(target)).toThrow(why);
      expect(isAllowedArgv(["systemctl", "restart", target])).toBe(false);
    });
  test("another operation", () =>
    expect(() => servicesGrammar.parseTargets("stop", ["nginx"])).toThrow("nothing else"));
  test("more than fifty", () =>
    expect(() => parse(...Array.from({ length: 51 }, (_, n) => `web${n}`))).toThrow("at most 50"));
});

const TAKEN: [target: string, unit: string][] = [
  ["nginx", "nginx.service"],
  ["nginx.service", "nginx.service"],
  ["php8.2-fpm", "php8.2-fpm.service"],
  ["postgresql@15-main", "postgresql@15-main.service"],
  ["foo@bar@bar", "foo@bar@bar.service"],
  ["systemd-journald.socket", "systemd-journald.socket"],
  ["foo.waldo", "foo.waldo.service"],
  ["NetworkManager", "NetworkManager.service"],
  ["aegisd", "aegisd.service"],
  ["aegis-reviewd", "aegis-reviewd.service"],
  ["a".repeat(247), `${"a".repeat(247)}.service`],
];

describe("a unit to restart", () => {
  for (const [target, unit] of TAKEN)
    test(target.slice(0, 40), () => {
      expect(parse(target).targets).toEqual([unit]);
      // The plan's own targets are parsed again, and must come out as they are.
      expect(parse(unit).targets).toEqual([unit]);
      expect(isAllowedArgv(["systemctl", "restart", unit])).toBe(true);
    });
  test("twice is once", () =>
    expect(parse("nginx", "nginx.service", "ssh").targets).toEqual(["nginx.service", "ssh.service"]));
});

/** unit_name_is_valid() of src/test/test-unit-name.c, systemd at 052d4514f5868ddcbe5ddf7a447fc1a0d49b8258: all but templates. */
const SYSTEMD: [name: string, valid: boolean][] = [
  ["foo.service", true],
  ["foo@bar.service", true],
  ["foo@bar@bar.service", true],
  ["_strange::::.service", true],
  [".service", false],
  ["", false],
  ["foo.waldo", false],
  ["@.service", false],
  ["@piep.service", false],
  ["foo@%i.service", false],
  ["foo@%%i.service", false],
  ["foo@%%i%f.service", false],
  ["foo@%F.service", false],
  ["foo.target.wants/plain.service", false],
  ["foo.target.conf/foo.conf", false],
  ["foo.target.requires/plain.socket", false],
  ["foobar-meh...waldi.service", true],
];
/** Names that systemd takes and Aegis doesn't: templates, hidden files, and other types. */
const STRICTER = ["foo@.service", ".test.service", ".test@.service", "user@1000.slice"];

describe("names by systemd's own test", () => {
  for (const [name, valid] of SYSTEMD) test(name, () => expect(isRestartable(name)).toBe(valid));
  for (const name of STRICTER) test(`not ${name}`, () => expect(isRestartable(name)).toBe(false));
});

/** unit_name_is_valid() with UNIT_NAME_PLAIN|UNIT_NAME_INSTANCE (src/basic/unit-name.c), for services and sockets. */
function isValidToSystemd(name: string): boolean {
  const dot = name.lastIndexOf(".");
  const at = name.indexOf("@");
  const prefix = name.slice(0, dot);
  return (
    [...name].length === name.length &&
    name.length < 256 &&
    dot > 0 &&
    ["service", "socket"].includes(name.slice(dot + 1)) &&
    /^[0-9A-Za-z:\-_.\\@]*$/.test(prefix) &&
    at !== 0 &&
    (at < 0 || at > dot || dot > at + 1)
  );
}

const piece = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 6 }),
  fc.constantFrom(
    "@",
    ".",
    "-",
    "..",
    "/",
    "*",
    "\\x2d",
    ".service",
    ".socket",
    ".mount",
    "nginx",
    ":",
    "_",
    " ",
    "\n",
  ),
);
const word = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(""));

test("whatever is asked for, what comes out is a name that systemd takes as it is, and that may be signed", () => {
  fc.assert(
    fc.property(word, (target) => {
      let units: string[];
      try {
        units = parse(target).targets;
      } catch {
        return;
      }
      for (const unit of units) {
        expect(isValidToSystemd(unit)).toBe(true);
        expect(unit).toMatch(/^[A-Za-z0-9_:]/);
        expect(isAllowedArgv(["systemctl", "restart", unit])).toBe(true);
        expect(parse(unit).targets).toEqual([unit]);
      }
    }),
    { numRuns: 5000 },
  );
});
