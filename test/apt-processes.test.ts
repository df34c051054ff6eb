import { describe, expect, test } from "bun:test";
import { processRecord } from "../src/apt-processes.ts";
import type { SeenProcesses } from "../src/doc-processes.ts";
import type { ProcessLook } from "../src/sys-processes.ts";

const BOOT = "8f14e45f-ceea-467f-a9d3-1a2b3c4d5e6f";
const [FIRST, LATER] = ["2026-11-30T19:00:00.000Z", "2026-11-30T20:00:00.000Z"];
const old = (unit: string) => ({
  unit,
  files: [],
  old: [{ path: "/usr/lib/x.so", processes: [{ pid: 1, start: 1 }] }],
});
const fine = (unit: string) => ({ unit, files: ["/usr/lib/x.so"], old: [] });
const look = (...units: ProcessLook["units"]): ProcessLook => ({ units, unseen: 0 });
const record = (seen: ProcessLook, reasons: string[], at: string, last: SeenProcesses | null) =>
  processRecord(seen, reasons, { at, boot: BOOT, last });
const sinceOf = ({ units, reboot }: SeenProcesses) => ({
  units: Object.fromEntries(units.flatMap(({ unit, since }) => (since === undefined ? [] : [[unit, since]]))),
  reboot: Object.fromEntries(reboot.map(({ reason, since }) => [reason, since])),
});

describe("since when", () => {
  const first = record(look(old("a.service"), fine("b.service")), ["kernel"], FIRST, null);
  const cases: readonly [
    what: string,
    seen: ProcessLook,
    reasons: string[],
    since: ReturnType<typeof sinceOf>,
  ][] = [
    [
      "seen again",
      look(old("a.service")),
      ["kernel"],
      { units: { "a.service": FIRST }, reboot: { kernel: FIRST } },
    ],
    ["restarted", look(fine("a.service")), [], { units: {}, reboot: {} }],
    [
      "another one",
      look(old("a.service"), old("b.service")),
      ["kernel", "dbus"],
      { units: { "a.service": FIRST, "b.service": LATER }, reboot: { kernel: FIRST, dbus: LATER } },
    ],
  ];
  test("at first", () =>
    expect(sinceOf(first)).toEqual({ units: { "a.service": FIRST }, reboot: { kernel: FIRST } }));
  for (const [what, seen, reasons, since] of cases) {
    test(what, () => expect(sinceOf(record(seen, reasons, LATER, first))).toEqual(since));
  }
  test("restarted, and old once more: anew", () => {
    const between = record(look(fine("a.service")), [], "2026-11-30T19:30:00.000Z", first);
    expect(sinceOf(record(look(old("a.service")), [], LATER, between)).units).toEqual({ "a.service": LATER });
  });
});
