import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunSubject } from "../src/eco-driver.ts";
import { servicesDriver } from "../src/services-driver.ts";
import { restart } from "./policy-plans.ts";

const base = mkdtempSync(join(tmpdir(), "aegis-services-"));
afterAll(() => rmSync(base, { recursive: true }));

/** `systemctl show`, of units by their name, as `active running run`. */
const shown = (units: Readonly<Record<string, string>>) =>
  Object.entries(units)
    .map(([id, text]) => {
      const [active, sub, run = ""] = text.split(" ");
      return `Id=${id}\nActiveState=${active}\nSubState=${sub}\nInvocationID=${run}`;
    })
    .join("\n\n");
const driverOf = (units: Readonly<Record<string, string>>, ...asked: string[]) =>
  servicesDriver(asked, {
    show: () => `${shown(units)}\n`,
    sleep: () => Promise.resolve(),
    isBooted: () => true,
  });

const BEFORE = {
  "web.service": "active running 1",
  "part.service": "active running 2",
  "web.socket": "active listening",
  "other.service": "active running 3",
  "idle.service": "inactive dead 4",
  "all.target": "active active 5",
  "aegis-runner@7-1-0.service": "active running 6",
};
const SUBJECT: RunSubject = {
  argv: ["systemctl", "restart", "web.service"],
  transaction: restart(["web.service"], ["part.service"]).transaction,
};
const RESTARTED = { "web.service": "active running 11", "part.service": "active running 12" };
const compared = (after: Readonly<Record<string, string>>, subject = SUBJECT, before = BEFORE) => {
  const { not_as_planned, changed_besides, inverse } = driverOf({}).compare(
    subject,
    driverOf(before).observe(),
    driverOf({ ...before, ...after }).observe(),
  );
  const words = (list: typeof not_as_planned) => list.map(({ package: unit, found }) => `${unit} ${found}`);
  return { not: words(not_as_planned), besides: words(changed_besides), inverse };
};

describe("after a run", () => {
  const cases: [what: string, after: Record<string, string>, not: string[], besides: string[]][] = [
    [
      "nothing was restarted",
      {},
      ["web.service still in the run before", "part.service still in the run before"],
      [],
    ],
    ["one wasn't", { "web.service": "active running 11" }, ["part.service still in the run before"], []],
    ["one failed", { ...RESTARTED, "web.service": "failed failed 11" }, ["web.service failed (failed)"], []],
    [
      "one tries again",
      { ...RESTARTED, "web.service": "activating auto-restart 11" },
      ["web.service activating (auto-restart)"],
      [],
    ],
    ["one ended", { ...RESTARTED, "part.service": "inactive dead 12" }, ["part.service inactive (dead)"], []],
    ["as planned", RESTARTED, [], []],
    [
      "another one too",
      { ...RESTARTED, "other.service": "active running 9" },
      [],
      ["other.service started anew"],
    ],
    [
      "another one failed",
      { ...RESTARTED, "other.service": "failed failed 3" },
      [],
      ["other.service failed (failed)"],
    ],
    ["the run's own unit", { ...RESTARTED, "aegis-runner@7-1-0.service": "failed failed 6" }, [], []],
    ["another one ended, as many do", { ...RESTARTED, "other.service": "inactive dead 3" }, [], []],
    ["another one began", { ...RESTARTED, "idle.service": "active running 9" }, [], []],
    ["a target, which has no processes", { ...RESTARTED, "all.target": "active active 9" }, [], []],
  ];
  for (const [what, after, not, besides] of cases)
    test(what, () => expect(compared(after)).toEqual({ not, besides, inverse: [] }));
  test("a unit that is gone", () => {
    const driver = driverOf({});
    const { not_as_planned } = driver.compare(SUBJECT, driverOf(BEFORE).observe(), {});
    expect(not_as_planned.map(({ found }) => found)).toEqual(["gone", "gone"]);
  });
  test("a socket, which has no runs, is as planned where it listens", () => {
    const subject = { ...SUBJECT, transaction: restart(["web.socket"]).transaction };
    expect(compared({}, subject).not).toEqual([]);
    expect(compared({ "web.socket": "failed failed" }, subject).not).toEqual(["web.socket failed (failed)"]);
  });
});

describe("a run", () => {
  const place = (name: string) => ({
    ...{
      directory: join(base, name),
      archives: join(base, `${name}-archives`),
      aegis: "/aegis",
      account: null,
    },
  });
  const preparing = { stop: new AbortController().signal, alive() {}, progress() {} };

  test("is refused where systemd doesn't run the host", () => {
    const driver = servicesDriver([], { isBooted: () => false });
    expect(driver.ready(restart(["web.service"]), { stop() {}, alive() {} })).rejects.toMatchObject({
      code: "unavailable",
    });
  });
  test("is refused without the program", () => {
    const prepared = driverOf({}).prepare(
      restart(["a.service"]),
      ["no-such-systemctl"],
      place("none"),
      preparing,
    );
    expect(prepared).rejects.toMatchObject({ code: "unavailable" });
  });
  test("gets an environment of its own, without a pager", async () => {
    const prepared = await driverOf({}).prepare(restart(["a.service"]), ["sh"], place("one"), preparing);
    expect(prepared).toMatchObject({ cwd: "/", environment: { SYSTEMD_PAGER: "", SYSTEMD_COLORS: "0" } });
    expect(Object.keys(prepared.environment).filter((name) => /PASS|BUS|RUNTIME|PROXY/.test(name))).toEqual(
      [],
    );
    expect(existsSync(join(base, "one-archives"))).toBe(true);
  });
  test("may be left waiting once, and says that systemd goes on", () => {
    const driver = driverOf({});
    const directory = join(base, "one");
    expect([driver.wasStopped(directory), driver.mayStop(directory), driver.mayStop(directory)]).toEqual([
      null,
      true,
      false,
    ]);
    expect(driver.wasStopped(directory)).toContain("systemd, which goes on");
  });
  test("that failed: which units to look at, and nothing from their journals", async () => {
    const units = { ...BEFORE, "web.service": "failed failed 1", "part.service": "failed failed 2" };
    expect(await driverOf(units, "web.service", "other.service").advice()).toEqual({
      text: "to see why: journalctl --unit web.service --lines 30",
      facts: { not_running: "web.service failed (failed)" },
    });
    expect((await driverOf(BEFORE, "web.service").advice()).text).toBe("");
  });
});
