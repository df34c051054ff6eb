import { describe, expect, test } from "bun:test";
import { isToGiveWay, unitOf } from "../src/exec-give-way.ts";
import { stoppingUnits } from "../src/sys-systemd.ts";

const UNIT = "aegis-runner@6-8198-995.service";

describe("stays", () => {
  const here = {
    unit: UNIT,
    stopping: async () => ({ units: [UNIT], hostToo: false }),
    isAtWork: () => Promise.resolve(true),
  };
  const CASES: [string, Partial<typeof here> | { unit: null } | object][] = [
    ["when the host goes down", { stopping: async () => ({ units: [UNIT], hostToo: true }) }],
    [
      "when it got a signal, and systemd knows of no stop",
      { stopping: async () => ({ units: [], hostToo: false }) },
    ],
    [
      "when another unit is stopped",
      { stopping: async () => ({ units: ["aegis-recover.service"], hostToo: false }) },
    ],
    ["when no apt is at work", { isAtWork: () => Promise.resolve(false) }],
    ["when it was started by hand", { unit: null }],
  ];
  for (const [what, change] of CASES)
    test(what, async () => expect(await isToGiveWay({ ...here, ...change })).toBe(false));
  test("and goes when it is stopped alone while apt is at work", async () =>
    expect(await isToGiveWay(here)).toBe(true));
});

describe("units that are asked to stop", () => {
  const block = (id: string, state: string, job: string) => `Id=${id}\nActiveState=${state}\nJob=${job}`;
  // As `systemctl show --property=Id,ActiveState,Job` of systemd 255 answers, and 257.
  const CASES: [string, string, string[]][] = [
    ["nothing loaded", "", []],
    ["one that runs", block(UNIT, "active", ""), []],
    ["one that is being started", block(UNIT, "activating", "12"), []],
    ["one whose stop was cancelled: nobody waits", block(UNIT, "deactivating", ""), []],
    ["one that waits", block(UNIT, "deactivating", "2148"), [UNIT]],
    [
      "one among others",
      [block("aegis-recover.service", "inactive", ""), block(UNIT, "deactivating", "7")].join("\n\n"),
      [UNIT],
    ],
  ];
  for (const [what, answer, units] of CASES)
    test(what, async () => {
      const asked = async (args: readonly string[]) =>
        args.includes("--property=SystemState") ? "SystemState=running\n" : `${answer}\n`;
      expect(await stoppingUnits(["x"], asked)).toEqual({ units, hostToo: false });
    });
  test("with the whole host", async () => {
    const asked = async (args: readonly string[]) =>
      args.includes("--property=SystemState")
        ? "SystemState=stopping\n"
        : `${block(UNIT, "deactivating", "7")}\n`;
    expect(await stoppingUnits(["x"], asked)).toEqual({ units: [UNIT], hostToo: true });
  });
});

test.each([
  [`0::/system.slice/system-aegis\\x2drunner.slice/${UNIT}\n`, UNIT],
  ["12:pids:/a.service\n1:name=systemd:/system.slice/aegis-recover.service\n", "aegis-recover.service"],
  ["0::/user.slice/user-1000.slice/session-2.scope\n", null],
  ["0::/\n", null],
  ["", null],
])("the unit in %j is %p", (cgroups, unit) => expect(unitOf(cgroups)).toBe(unit));
