import { describe, expect, test } from "bun:test";
import { makePlan } from "../src/plan.ts";
import { evaluate } from "../src/policy.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";
import { services } from "../src/services.ts";
import { recordedUnits, unitFacts, unitPlanning } from "./services-kit.ts";

type Units = Parameters<typeof unitPlanning>[0];
const HOST = { boot_id: "0b6ffbe2-8c1f-4c57-9d3a-1f0c5d7e9a42" };

async function plan(units: Units, targets: string[], how: Parameters<typeof unitPlanning>[1] = {}) {
  const planning = unitPlanning(units, how);
  return makePlan(services, "restart", targets, { ...planning, host: { ...planning.host, ...HOST } });
}
const changed = (units: Units, name: string, change: Record<string, string>): Units => ({
  ...units,
  [name]: { ...units[name], ...change },
});

function withAlias(version: "249" | "259"): Units {
  const units = recordedUnits(version);
  return { ...units, "kache.service": units["cache.service"] ?? {} };
}

/** Recorded with a file that was changed afterwards; here it is read again. */
const RECORDED = changed(withAlias("259"), "part.service", { NeedDaemonReload: "no" });
const DROP_INS = {
  "/etc/systemd/system/web.service.d/a file.conf": "[Service]\nEnvironment=A=b\n",
  "/etc/systemd/system/web.service.d/limits.conf": "[Service]\nLimitNOFILE=4096\n",
};

describe("no plan", () => {
  const cases: [what: string, units: Units, targets: string[], error: object][] = [
    [
      "a unit that isn't there",
      RECORDED,
      ["nothing"],
      { code: "not_found", message: expect.stringContaining("no unit nothing.service") },
    ],
    ["one of two", RECORDED, ["web", "nothing"], { code: "not_found" }],
    [
      "a masked one",
      RECORDED,
      ["getty@tty9"],
      { code: "refused", message: expect.stringContaining("masked") },
    ],
    [
      "one that doesn't run, by its alias",
      RECORDED,
      ["kache"],
      {
        code: "not_found",
        message: expect.stringContaining("cache.service (kache.service) isn't running but inactive (dead)"),
      },
    ],
    [
      "one that failed",
      { "a.service": unitFacts("a.service", { ActiveState: "failed", SubState: "failed" }) },
      ["a"],
      { code: "not_found" },
    ],
    [
      "one that is starting",
      { "a.service": unitFacts("a.service", { ActiveState: "activating", SubState: "start" }) },
      ["a"],
      { code: "not_found" },
    ],
    [
      "RefuseManualStop=",
      RECORDED,
      ["barred"],
      { code: "refused", message: expect.stringContaining("RefuseManualStop=yes") },
    ],
    [
      "RefuseManualStart=",
      { "a.service": unitFacts("a.service", { RefuseManualStart: "yes" }) },
      ["a"],
      { code: "refused" },
    ],
    [
      "a transient one",
      { "a.service": unitFacts("a.service", { Transient: "yes" }) },
      ["a"],
      { code: "refused" },
    ],
    [
      "files that systemd has yet to read",
      recordedUnits("259"),
      ["part"],
      { code: "drift", hint: expect.stringContaining("daemon-reload") },
    ],
    [
      "files of what is restarted with it",
      recordedUnits("259"),
      ["web"],
      { code: "drift", message: expect.stringContaining("part.service") },
    ],
    [
      "a unit with errors",
      { "a.service": unitFacts("a.service", { LoadState: "bad-setting" }) },
      ["a"],
      { code: "refused" },
    ],
    ["an alias of another type", { "a.service": unitFacts("a.mount") }, ["a"], { code: "refused" }],
    [
      "an alias of a runner",
      { "a.service": unitFacts("aegis-runner@1.service") },
      ["a"],
      { code: "refused" },
    ],
    [
      "one that takes a runner along",
      {
        "a.service": unitFacts("a.service", { ConsistsOf: "aegis-runner@1.service" }),
        "aegis-runner@1.service": unitFacts("aegis-runner@1.service"),
      },
      ["a"],
      { code: "refused", message: expect.stringContaining("aegis-runner@1.service, which would do it") },
    ],
    [
      "one that would stop another",
      {
        "a.service": unitFacts("a.service", { Conflicts: "shutdown.target b.service" }),
        "b.service": unitFacts("b.service"),
      },
      ["a"],
      { code: "refused", message: expect.stringContaining("b.service, which runs, would be stopped") },
    ],
    [
      "a socket that a service holds",
      { "a.socket": unitFacts("a.socket", { Triggers: "a.service" }), "a.service": unitFacts("a.service") },
      ["a.socket"],
      { code: "refused", hint: "Type: aegis plan services restart a.service" },
    ],
    [
      "half the system",
      {
        "a.service": unitFacts("a.service", {
          RequiredBy: Array.from({ length: 201 }, (_, n) => `b${n}.service`).join(" "),
        }),
        ...Object.fromEntries(
          Array.from({ length: 201 }, (_, n) => [`b${n}.service`, unitFacts(`b${n}.service`)]),
        ),
      },
      ["a"],
      { code: "refused", message: expect.stringContaining("more than 200") },
    ],
  ];
  for (const [what, units, targets, error] of cases)
    test(what, () => expect(plan(units, targets, { files: DROP_INS })).rejects.toMatchObject(error));
  test("a drop-in that this account can't read", () =>
    expect(plan(RECORDED, ["web"])).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("a file.conf"),
    }));
  test("a host without systemd", () =>
    expect(plan(RECORDED, ["web"], { isBooted: false })).rejects.toMatchObject({ code: "unavailable" }));
  test("an answer about fewer units", () => {
    const answer = { status: 0, stdout: "Id=a.service\nLoadState=loaded\n" };
    expect(plan({}, ["a", "b"], { answer })).rejects.toMatchObject({ code: "unavailable" });
  });
});

test("systemctl that fails: a plan that policy can only deny, and why", async () => {
  const stderr = "Failed to connect to bus: No such file or directory\n";
  const made = await plan(RECORDED, ["web"], { answer: { status: 1, stderr } });
  expect(made).toMatchObject({ metadata_available: false, transaction: [] });
  expect(made.warnings).toEqual([
    expect.stringContaining("without D-Bus (the package dbus) only root can ask systemd"),
  ]);
  const { decision, rules } = evaluate({
    ...{
      plan: made,
      planHash: "0".repeat(64),
      config: parsePolicyConfig("", "test"),
      configHash: "1".repeat(64),
    },
  });
  expect([decision, rules]).toEqual(["deny", expect.arrayContaining(["metadata-command-failed"])]);
  expect(() => services.signedArgv(made)).toThrow("no unit");
});

for (const version of ["249", "259"] as const)
  test(`systemd ${version}: what systemd restarts with it is named, escaped names and drop-ins with spaces too`, async () => {
    const units = changed(recordedUnits(version), "part.service", { NeedDaemonReload: "no" });
    const made = await plan(units, ["web"], { files: DROP_INS });
    expect(made.transaction.map(({ name, action, required_by }) => [name, action, required_by])).toEqual([
      ["web.service", "restart", undefined],
      ["odd@a\\x2db.service", "restart", "web.service"],
      ["part.service", "restart", "web.service"],
    ]);
    expect(made.transaction[0]).toMatchObject({
      from_version: expect.stringMatching(/^2026-11-30 20:0\d:\d\d UTC \([0-9a-f]{8}\)$/),
      ...{
        to_version: null,
        origin: "/etc/systemd/system/web.service",
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    });
    expect(made).toMatchObject({
      network_access: false,
      requires_root: true,
      exact_targets: ["web.service"],
      nothing_to_do: false,
    });
    expect(made.warnings).toEqual([
      "web.service is changed or made by: /etc/systemd/system/web.service.d/a file.conf, /etc/systemd/system/web.service.d/limits.conf",
      "web.service may also start what it needs and what doesn't run: cache.service",
    ]);
    expect(services.signedArgv(made)).toEqual(["systemctl", "restart", "web.service"]);
    expect(made.rollback_plan.notes).toHaveLength(1);
  });

test("a socket restarts with the service that requires it", async () => {
  const made = await plan(RECORDED, ["web.socket"], { files: DROP_INS });
  expect(made.transaction.map(({ name }) => name)).toEqual([
    ...["web.socket", "odd@a\\x2db.service", "part.service", "web.service"],
  ]);
});

test("an alias stands for its unit, and both are one", async () => {
  const units = { "ssh.service": unitFacts("ssh.service"), "sshd.service": unitFacts("ssh.service") };
  const made = await plan(units, ["sshd", "ssh"]);
  expect([made.targets, made.exact_targets]).toEqual([["sshd.service", "ssh.service"], ["ssh.service"]]);
  expect(made.command_preview).toEqual(["systemctl", "restart", "ssh.service"]);
  expect(made.risk_signals).toContain("critical-service");
  expect(made.warnings).toEqual([expect.stringContaining("nobody gets in")]);
});

test("a dependant that doesn't run is left alone, and one of a dependant is not", async () => {
  const made = await plan(
    {
      "a.service": unitFacts("a.service", { RequiredBy: "b.service c.service", BoundBy: "d.target" }),
      "b.service": unitFacts("b.service", { ActiveState: "inactive" }),
      "c.service": unitFacts("c.service", { ActiveState: "activating" }),
      "d.target": unitFacts("d.target", { ConsistsOf: "e.service", FragmentPath: "", InvocationID: "" }),
      "e.service": unitFacts("e.service", { ConsistsOf: "a.service" }),
    },
    ["a"],
  );
  expect(
    made.transaction.map(({ name, required_by, sha256 }) => [name, required_by ?? null, sha256 === null]),
  ).toEqual([
    ["a.service", null, false],
    ["c.service", "a.service", false],
    ["d.target", "a.service", true],
    ["e.service", "d.target", false],
  ]);
});

test("what ran once is said to do it again", async () => {
  const { warnings } = await plan(RECORDED, ["once"]);
  expect(warnings).toEqual(["once.service has done its work and isn't running: a restart does it again"]);
});

describe("two plans differ", () => {
  const one = {
    "a.service": unitFacts("a.service", { SourcePath: "/etc/init.d/a", DropInPaths: "/x/b.conf /x/c.conf" }),
  };
  const files = { "/etc/init.d/a": "1", "/x/b.conf": "2", "/x/c.conf": "3" };
  const entryWith = async (units: Units, other: Record<string, string> = {}) =>
    (await plan(units, ["a"], { files: { ...files, ...other } })).transaction[0];
  const cases: [what: string, units: Units, files: Record<string, string>][] = [
    ["the unit's file", one, { "/usr/lib/systemd/system/a.service": "[Service]\nExecStart=/tmp/evil\n" }],
    ["a drop-in", one, { "/x/b.conf": "4" }],
    ["the script that it was generated from", one, { "/etc/init.d/a": "5" }],
    [
      "a drop-in more",
      changed(one, "a.service", { DropInPaths: "/x/b.conf /x/c.conf /x/d.conf" }),
      { "/x/d.conf": "" },
    ],
    ["a drop-in less", changed(one, "a.service", { DropInPaths: "/x/b.conf" }), {}],
    ["drop-ins in another order", changed(one, "a.service", { DropInPaths: "/x/c.conf /x/b.conf" }), {}],
    ["another run of it", changed(one, "a.service", { InvocationID: "6".repeat(32) }), {}],
  ];
  for (const [what, units, other] of cases)
    test(what, async () => expect(await entryWith(units, other)).not.toEqual(await entryWith(one)));
  test("not the same twice", async () => expect(await entryWith(one)).toEqual(await entryWith(one)));
});
