import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import fc from "fast-check";
import {
  compareDebVersions,
  formatAptTarget,
  isDebVersion,
  parseAptTarget,
  parseAptTargets,
} from "../src/apt-target.ts";
import type { DeniedTarget } from "../src/doc-plan.ts";
import { AegisError } from "../src/errors.ts";
import { needs } from "./needs.ts";

const REFUSED: [string, string][] = [
  ["the removal operator", "jq-"],
  ["the removal operator on an architecture", "jq:amd64-"],
  ["a regular expression", "nginx-.+$"],
  ["a regular expression of legal characters and `*`", "nginx.*"],
  ["a glob", "nginx*"],
  ["a glob with a question mark", "ngin?"],
  ["a character class", "ngin[x]"],
  ["an apt pattern", "?installed"],
  ["an anchored expression", "^nginx"],
  ["a task", "lamp-server^"],
  ["a suite", "nginx/bookworm-backports"],
  ["an option", "-o"],
  ["a long option", "--allow-unauthenticated"],
  ["white space", "nginx apache2"],
  ["a line feed", "nginx\n"],
  ["a control character", "nginx\u0000"],
  ["a shell's semicolon", "nginx;reboot"],
  ["a substitution", "$(reboot)"],
  ["upper case", "Nginx"],
  ["letters of another script", "ngіnx"],
  ["one letter", "n"],
  ["nothing", ""],
  ["a name that is too long", "a".repeat(200)],
  ["an empty version", "nginx="],
  ["a version glob", "nginx=1.22*"],
  ["a version with a space", "nginx=1 2"],
  ["a version that ends in the removal operator", "nginx=1.0-"],
  ["two versions", "nginx=1=2"],
  ["a colon in a version's revision", "nginx=1:2-3:4"],
  ["an empty architecture", "nginx:"],
  ["any architecture", "nginx:any"],
  ["the `native` wildcard", "nginx:native"],
  ["two architectures", "nginx:amd64:i386"],
];

describe("refused as an apt target", () => {
  for (const [what, target] of REFUSED) {
    test(what, () => {
      let caught: unknown;
      try {
        parseAptTargets([target]);
      } catch (error) {
        caught = error;
      }
      expect(caught).toBeInstanceOf(AegisError);
      expect(caught).toMatchObject({ code: "invalid_target" });
    });
  }
});

const DENIED: [string, DeniedTarget["signal"]][] = [
  ["./nginx.deb", "local-path-denied"],
  ["/tmp/nginx.deb", "local-path-denied"],
  ["../x", "local-path-denied"],
  ["nginx.deb", "local-path-denied"],
  ["~/nginx.deb", "local-path-denied"],
  ["file:/tmp/nginx.deb", "local-path-denied"],
  ["https://example.org/nginx.deb", "url-denied"],
  ["ftp://example.org/nginx", "url-denied"],
  ["FILE:///tmp/x", "url-denied"],
];

describe("recorded, to be denied by policy", () => {
  for (const [target, signal] of DENIED) {
    test(target, () => {
      expect(parseAptTargets(["nginx", target])).toEqual({
        targets: ["nginx", target],
        denied: [{ target, signal }],
        targetType: "package",
      });
    });
  }
});

const TAKEN: [string, string, string | null, string | null][] = [
  ["nginx", "nginx", null, null],
  ["nginx:amd64", "nginx", "amd64", null],
  ["libc6:i386", "libc6", "i386", null],
  ["nginx=1.22.1-9+deb12u11", "nginx", null, "1.22.1-9+deb12u11"],
  ["libc6:i386=2.36-9+deb12u10", "libc6", "i386", "2.36-9+deb12u10"],
  ["downer=1:1.0", "downer", null, "1:1.0"],
  ["x1:amd64=9:1.18.36:5.4-20", "x1", "amd64", "9:1.18.36:5.4-20"],
  ["g++", "g++", null, null],
  ["libstdc++6:kfreebsd-amd64", "libstdc++6", "kfreebsd-amd64", null],
  ["lib.dot+", "lib.dot+", null, null],
  ["0ad", "0ad", null, null],
];

describe("accepted as an apt target", () => {
  for (const [text, name, architecture, version] of TAKEN) {
    test(text, () => {
      expect(parseAptTarget(text)).toEqual({ name, architecture, version });
      expect(formatAptTarget({ name, architecture, version })).toBe(text);
    });
  }
  test("duplicates are removed", () => {
    expect(parseAptTargets(["jq", "nginx", "jq"]).targets).toEqual(["jq", "nginx"]);
  });
});

test("an accepted target has nothing that apt or a shell could read differently", () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[a-z0-9+.:=^*?~/-]{1,12}$/));
  fc.assert(
    fc.property(text, (target) => {
      try {
        if (parseAptTargets([target]).denied.length > 0) return;
      } catch {
        return;
      }
      expect(target).toMatch(/^[a-z0-9][a-z0-9+.-]*[a-z0-9+.](:[a-z0-9-]+)?(=[0-9A-Za-z.+~:-]+)?$/);
    }),
  );
});

/** Older first. From python-debian's and apt's tests, each checked with `dpkg --compare-versions`. */
const ORDERED: [string, string][] = [
  ["0", "a"],
  ["1.0", "1.1"],
  ["1.2", "1.11"],
  ["1.0-0.1", "1.1"],
  ["1.0-0.1", "1.0-1"],
  ["1.0final-5", "1.0final-5sarge1"],
  ["1.0a7-2", "1.0final-5"],
  ["0.9.2-5", "0.9.2+cvs.1.0.dev.2004.07.28-1.5"],
  ["1:500", "1:5000"],
  ["11:5000", "100:500"],
  ["1.0pre7-2", "1.0.4-2"],
  ["1.5~rc1", "1.5"],
  ["1.5~rc1", "1.5+b1"],
  ["1.5~rc1", "1.5~rc2"],
  ["1.5~dev0", "1.5~rc1"],
  ["1.0~~", "1.0~~a"],
  ["1.0~~a", "1.0~"],
  ["1.0~", "1.0"],
  ["9", "1:0"],
  ["1.0-1~bpo12+1", "1.0-1"],
  ["1.0-1", "1.0-1+b1"],
  ["1.0-1+b1", "1.0-1.1"],
  ["1.0-2", "1.0-1-1"],
  ["2.0", "2.0-0ubuntu1"],
  ["1.22.1-9+deb12u9", "1.22.1-9+deb12u11"],
  ["20230311+deb12u1", "20250419~deb12u2"],
  ["3.0.13-0ubuntu3.4", "3.0.13-0ubuntu3.15"],
  ["99999999999999999998", "99999999999999999999"],
];
const EQUAL: [string, string][] = [
  ["1.0", "1.0"],
  ["0:1.0", "1.0"],
  ["1.0", "1.00"],
  ["12.04", "12.4"],
  ["1.0-0", "1.0"],
  ["1.0-00", "1.0-0"],
  ["1:1.0-0.1", "1:1.0-0.1"],
];

describe("compareDebVersions", () => {
  for (const [older, newer] of ORDERED) {
    test(`${older} is older than ${newer}`, () => {
      expect(compareDebVersions(older, newer)).toBeLessThan(0);
      expect(compareDebVersions(newer, older)).toBeGreaterThan(0);
    });
  }
  for (const [a, b] of EQUAL) {
    test(`${a} equals ${b}`, () => {
      expect(compareDebVersions(a, b)).toBe(0);
      expect(compareDebVersions(b, a)).toBe(0);
    });
  }

  const version = fc.stringMatching(/^(?:[0-3]:)?[0-9][0-9a.+~-]{0,5}[0-9a.+~]$/);
  test("is an order: antisymmetric and transitive", () => {
    fc.assert(
      fc.property(version, version, version, (a, b, c) => {
        expect(Math.sign(compareDebVersions(a, b))).toBe(-Math.sign(compareDebVersions(b, a)) + 0);
        const sorted = [a, b, c].sort(compareDebVersions);
        expect(compareDebVersions(sorted[0] ?? "", sorted[2] ?? "")).toBeLessThanOrEqual(0);
      }),
    );
  });
});

describe("isDebVersion", () => {
  for (const text of [
    "",
    "1*",
    "1.0 ",
    "/1.0/",
    "-1",
    "a:1",
    "1:",
    "1_0",
    "1.0-",
    "1.0\n",
    "v1.0",
    "~1",
    ":1",
    "1:v1",
    "1:-1",
    "1:2-3:4",
    "+1:1",
    "0x1:1",
    "2147483648:1",
    "1:1é",
    `1${"0".repeat(300)}`,
  ]) {
    test(`refuses ${JSON.stringify(text.slice(0, 20))}`, () => expect(isDebVersion(text)).toBe(false));
  }
  for (const text of [
    "1",
    "1:2.0~rc1+dfsg-1+b2",
    "0.4.23debian1",
    "20250419~deb12u2",
    "9:1.18.36:5.4-20",
    "1:2:3:-4",
    "2147483647:1",
    "0000000000001:1",
    "1--1",
    "1.0~",
  ]) {
    test(`takes ${text}`, () => expect(isDebVersion(text)).toBe(true));
  }
});

needs(existsSync("/usr/bin/dpkg"), "dpkg").describe("dpkg is the judge", () => {
  const ask = (...words: string[]) =>
    spawnSync("/usr/bin/dpkg", words, { env: { LC_ALL: "C.UTF-8" } }).status;
  const odd = fc.oneof(
    fc.stringMatching(/^(?:[0-9]{1,2}:)?[0-9][0-9ab.+~:-]{0,7}$/),
    fc.stringMatching(/^[0-9a.+~:_ -]{1,8}$/),
    fc.string({ maxLength: 6 }).filter((text) => !text.includes("\0")),
  );
  /** Accepted by dpkg but deliberately not by Aegis: an epoch that is not plain digits, surrounding blanks. */
  const isStricter = (text: string) => /^\s|\s$|^\+/.test(text);

  test("of what is a version", () => {
    fc.assert(
      fc.property(odd, (text) => {
        // dpkg would read a word starting with a dash as an option.
        const valid = !text.startsWith("-") && ask("--validate-version", text) === 0;
        expect([text, isDebVersion(text)]).toEqual([text, valid && !isStricter(text)]);
      }),
      { numRuns: 300 },
    );
  });

  test("of which is newer", () => {
    const version = odd.filter(isDebVersion);
    fc.assert(
      fc.property(version, version, (a, b) => {
        const order = compareDebVersions(a, b);
        const word = order < 0 ? "lt" : order > 0 ? "gt" : "eq";
        expect([a, word, b, ask("--compare-versions", a, word, b)]).toEqual([a, word, b, 0]);
      }),
      { numRuns: 200 },
    );
  });
});
