import { describe, expect, test } from "bun:test";
import type { OldCode } from "../src/apt-processes.ts";
import { oldCodeFindings } from "../src/doctor-processes.ts";

const SINCE = "2026-11-30T19:00:00.000Z";
const found = (change: Partial<OldCode>): OldCode => ({
  units: [],
  reboot: [],
  seen_at: SINCE,
  unseen: 0,
  ...change,
});
const running = (unit: string, ...files: string[]) => ({ unit, files, since: SINCE });
const linesOf = (change: Partial<OldCode>) =>
  oldCodeFindings(() => found(change)).map(
    ({ level, check, message, fix }) => `${level} ${check}: ${message} | ${fix}`,
  );

describe("units on old code", () => {
  const SSL = "/usr/lib/x86_64-linux-gnu/libssl.so.3";
  const cases: readonly [what: string, change: Partial<OldCode>, line: string][] = [
    [
      "a service",
      { units: [running("nginx.service", SSL)] },
      "warn old code: nginx.service runs code that is no longer on disk: libssl.so.3; since 2026-11-30 19:00Z | Type: aegis plan services restart nginx.service",
    ],
    [
      "its files, some of them",
      { units: [running("a.service", "/a/d", "/b/a", "/a/a", "/a/b", "/a/c")] },
      "warn old code: a.service runs code that is no longer on disk: a, b, c and 1 more; since 2026-11-30 19:00Z | Type: aegis plan services restart a.service",
    ],
    [
      "a login",
      { units: [running("user-1000.slice", SSL)] },
      "warn old code: user-1000.slice runs code that is no longer on disk: libssl.so.3; since 2026-11-30 19:00Z | The logins of uid 1000: log out and in again.",
    ],
    [
      "systemd itself",
      { units: [running("init.scope", SSL)] },
      "warn old code: init.scope runs code that is no longer on disk: libssl.so.3; since 2026-11-30 19:00Z | Type as root: systemctl daemon-reexec",
    ],
    [
      "a reboot",
      { reboot: [{ reason: "linux-image-2 is newer", since: SINCE }] },
      "warn reboot: a reboot is needed: linux-image-2 is newer; since 2026-11-30 19:00Z | When it suits, as root: systemctl reboot",
    ],
    ["none", {}, "ok old code: no unit runs replaced code, no reboot is needed (seen 2026-11-30 19:00Z) | "],
  ];
  for (const [what, change, line] of cases) test(what, () => expect(linesOf(change)).toEqual([line]));

  test("many: some are named", () => {
    const lines = linesOf({ units: Array.from({ length: 30 }, (_, n) => running(`u${n}.service`, SSL)) });
    expect(lines.length).toBe(21);
    expect(lines.at(-1)).toBe("warn old code: and 10 more units | See: aegis daemon status --json");
  });
});
