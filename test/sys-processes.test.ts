import { describe, expect, test } from "bun:test";
import { HOST_PROCESSES, lookAtProcesses } from "../src/sys-processes.ts";
import { type FakeProcess, fakeProc } from "./fake-proc.ts";

const SSL = "/usr/lib/x86_64-linux-gnu/libssl.so.3";
const DISK = { "/usr/sbin/demo": 1, [SSL]: 2, "/opt/app/bin/app": 3 };
const demo: FakeProcess = { pid: 10, maps: ["1 /usr/sbin/demo", `2 ${SSL}`] };

const namesOf = (processes: readonly FakeProcess[], options = {}) =>
  lookAtProcesses(fakeProc(processes, DISK, options)).units.map(({ unit }) => unit);

describe("the unit of a process", () => {
  const cases: readonly [cgroup: string, unit: string][] = [
    ["/system.slice/nginx.service", "nginx.service"],
    ["/system.slice/system-postgresql.slice/postgresql@15-main.service", "postgresql@15-main.service"],
    ["/system.slice/docker.service/inner", "docker.service"],
    ["/init.scope", "init.scope"],
    ["/user.slice/user-1000.slice/session-3.scope", "user-1000.slice"],
    ["/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service", "user-1000.slice"],
    ["/system.slice/snap.lxd.daemon.service", "snap.lxd.daemon.service"],
    ["/", "(demo)"],
    ["/some/group", "(demo)"],
  ];
  for (const [cgroup, unit] of cases) {
    test(cgroup, () => expect(namesOf([{ ...demo, cgroup }])).toEqual([unit]));
  }
  test("in a container without a cgroup namespace", () => {
    const cgroup = "/system.slice/nginx.service";
    expect(namesOf([{ ...demo, cgroup }], { prefix: "/machine.slice/x.scope/payload" })).toEqual([
      "nginx.service",
    ]);
  });
  for (const cgroup of [
    "4:memory:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n",
    "4:memory:/x\n1:name=systemd:/system.slice/cron.service\n",
    "4:memory:/x\n1:name=systemd:/\n0::/system.slice/cron.service\n",
    "4:memory:/x\n1:name=systemd:/system.slice/cron.service\n0::/system.slice/cron.service\n",
  ]) {
    test(`on a host with several hierarchies: ${cgroup.split("\n").slice(1).join(" ")}`, () => {
      const source = fakeProc([demo], DISK);
      const text = (path: string) => (path.endsWith("/cgroup") ? cgroup : source.text(path));
      expect(lookAtProcesses({ ...source, text }).units.map(({ unit }) => unit)).toEqual(["cron.service"]);
    });
  }
});

describe("old code", () => {
  const old = (maps: readonly string[], disk: Readonly<Record<string, number>> = DISK, options = {}) =>
    lookAtProcesses(fakeProc([{ ...demo, maps }], disk, options)).units.flatMap((unit) =>
      unit.old.map(({ path }) => path),
    );
  test("none", () => expect(old(demo.maps ?? [])).toEqual([]));
  test("a library deleted", () => expect(old(["1 /usr/sbin/demo", `2 ${SSL} (deleted)`])).toEqual([SSL]));
  test("the program itself, a static one", () =>
    expect(old(["1 /usr/sbin/demo (deleted)"])).toEqual(["/usr/sbin/demo"]));
  test("another inode", () => expect(old([`7 ${SSL}`])).toEqual([SSL]));
  test("another device", () => expect(old([`2 ${SSL}`], DISK, { shownDev: "08:02" })).toEqual([SSL]));
  test("numbers of a file system without a device say nothing", () => {
    expect(old([`7 ${SSL}`], DISK, { dev: 0x2f })).toEqual([]);
    expect(old([`7 ${SSL}`], DISK, { shownDev: "00:2f" })).toEqual([]);
    expect(old([`7 ${SSL} (deleted)`], DISK, { dev: 0x2f })).toEqual([SSL]);
  });
  test("a path that leads nowhere, and is not called deleted", () =>
    expect(old(["5 /usr/lib/elsewhere.so"])).toEqual([]));
  test("dpkg's names while it exchanges files", () => {
    expect(old([`2 ${SSL}.dpkg-tmp (deleted)`])).toEqual([SSL]);
    expect(old([`2 ${SSL}.dpkg-new`])).toEqual([]);
  });
  for (const path of [
    "/memfd:doublemapper (deleted)",
    "/dev/zero (deleted)",
    "/SYSV00000000 (deleted)",
    "/tmp/jna123.tmp (deleted)",
    "/home/ann/bin/tool (deleted)",
    "/usr/local/bin/tool (deleted)",
    "/var/lib/app/x.so (deleted)",
  ]) {
    test(`no package's: ${path}`, () => expect(old([`1 ${path}`])).toEqual([]));
  }
  test("data that is mapped is no code", () => {
    const data = [
      `7f0000000000-7f0000001000 r--p 00000000 08:01 2                          ${SSL} (deleted)`,
    ];
    const { units } = lookAtProcesses(fakeProc([{ ...demo, data }], DISK));
    expect(units).toEqual([{ unit: "demo.service", files: ["/usr/sbin/demo", SSL].sort(), old: [] }]);
  });
  test("of several processes of a unit, those that run it", () => {
    const processes = [
      demo,
      { ...demo, pid: 11, start: 200, maps: [`2 ${SSL} (deleted)`] },
      { ...demo, pid: 12, start: 300, maps: [`2 ${SSL} (deleted)`, `2 ${SSL} (deleted)`] },
    ];
    const { units } = lookAtProcesses(fakeProc(processes, DISK));
    const running = [
      { pid: 11, start: 200 },
      { pid: 12, start: 300 },
    ];
    expect(units).toEqual([
      {
        unit: "demo.service",
        files: ["/usr/sbin/demo", SSL].sort(),
        old: [{ path: SSL, processes: running }],
      },
    ]);
  });
});

describe("who is looked at", () => {
  test("a container, with another root in another mount namespace: not", () =>
    expect(namesOf([{ ...demo, mounts: "mnt:[2]", root: 77 }])).toEqual([]));
  test("a service in a sandbox, with the host's root in another mount namespace", () =>
    expect(namesOf([{ ...demo, mounts: "mnt:[2]" }])).toEqual(["demo.service"]));
  test("a daemon that changed its root directory alone", () =>
    expect(namesOf([{ ...demo, root: 77 }])).toEqual(["demo.service"]));
  test("a kernel thread: not", () => expect(namesOf([{ pid: 2, cgroup: "/" }])).toEqual([]));
  test("this process: not", () => expect(namesOf([{ ...demo, pid: 999999 }])).toEqual([]));
  test("one that ends meanwhile: neither seen nor missed", () => {
    const look = lookAtProcesses(fakeProc([demo, { ...demo, pid: 11, error: "ENOENT" }], DISK));
    expect([look.units.length, look.unseen]).toEqual([1, 0]);
  });
  test("those that this user may not look into are counted, kernel threads not", () => {
    const others: FakeProcess[] = [
      { ...demo, pid: 11, error: "EACCES" },
      { ...demo, pid: 12, error: "EACCES" },
      { pid: 13, error: "EACCES" },
    ];
    expect(lookAtProcesses(fakeProc([demo, ...others], DISK)).unseen).toBe(2);
  });
});

test("calls: three for each process, one for each file, and four at the start", () => {
  const many = Array.from({ length: 50 }, (_, n) => ({ ...demo, pid: 100 + n }));
  const source = fakeProc(many, DISK);
  lookAtProcesses(source);
  // maps, the mount namespace and the control group of each process.
  expect(source.calls.length).toBe(50 * 3 + 2 + 4);
});

test("this machine", () => {
  const { units } = lookAtProcesses(HOST_PROCESSES);
  expect(
    units.every(({ files, old }) =>
      [...files, ...old.map(({ path }) => path)].every((p) => p.startsWith("/")),
    ),
  ).toBe(true);
});
