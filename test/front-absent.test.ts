import { expect, test } from "bun:test";
import { AegisError } from "../src/errors.ts";
import { executorAbsence } from "../src/front-absent.ts";

type Case = [
  what: string,
  installed: boolean,
  trusts: () => boolean,
  level: string,
  why: string,
  fix: string,
];

const unreadable = (): boolean => {
  throw new AegisError("invalid_config", "broken");
};

const CASES: Case[] = [
  ["not installed", false, () => false, "warn", "no executor runs", "aegis daemon install"],
  [
    "no key trusted",
    true,
    () => false,
    "warn",
    "no execution key is trusted",
    "/etc/aegis/trusted-keys.toml",
  ],
  ["a key trusted", true, () => true, "fail", "not running", "systemctl start aegisd.service"],
  ["the keys can't be read", true, unreadable, "fail", "not running", "journalctl -b -u aegisd"],
];
for (const [what, installed, trusts, level, why, fix] of CASES) {
  test(what, () => {
    const absence = executorAbsence({ isInstalled: () => installed, trusts });
    expect(absence.level).toBe(level === "warn" ? "warn" : "fail");
    expect(absence.why).toContain(why);
    expect(absence.fix).toContain(fix);
    // No circle: nobody is sent to the command that has just said this.
    expect(absence.fix).not.toMatch(/aegis daemon status|aegis doctor/);
  });
}
