import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatAptTarget, parseAptTarget, parseAptTargets } from "../src/apt-target.ts";
import { AegisError } from "../src/errors.ts";
import type { DeniedTarget } from "../src/operation-plan.ts";

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
  ["another script's letters", "ngіnx"],
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
  ["whichever is native", "nginx:native"],
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

describe("written down, to be denied by policy", () => {
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

describe("taken as an apt target", () => {
  for (const [text, name, architecture, version] of TAKEN) {
    test(text, () => {
      expect(parseAptTarget(text)).toEqual({ name, architecture, version });
      expect(formatAptTarget({ name, architecture, version })).toBe(text);
    });
  }
  test("twice the same is once", () => {
    expect(parseAptTargets(["jq", "nginx", "jq"]).targets).toEqual(["jq", "nginx"]);
  });
});

test("what is taken holds nothing that apt or a shell could read otherwise", () => {
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
