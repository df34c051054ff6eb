import { describe, expect, test } from "bun:test";
import type { DpkgPackage } from "../src/apt-dpkg.ts";
import { type RebootHost, rebootAhead, rebootDue } from "../src/apt-reboot.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import type { UnitFiles } from "../src/sys-processes.ts";

const RUNNING = "6.1.0-28-amd64";
const OWN = `linux-image-${RUNNING}`;
const BOOTED = 1_000_000;

const packages = (...names: string[]): Map<string, DpkgPackage> =>
  new Map(
    names.map((one) => {
      const [name = "", state = "installed"] = one.split(" ");
      return [`${name}:amd64`, { name, architecture: "amd64", version: "1", state } as DpkgPackage];
    }),
  );
const host = (files: Readonly<Record<string, string>> = {}, changed: readonly string[] = []): RebootHost => ({
  readText: (path) => files[path] ?? (path === "/proc/sys/kernel/osrelease" ? `${RUNNING}\n` : null),
  changedAt: (path) => BOOTED + (changed.some((name) => path.endsWith(`/${name}.list`)) ? 1 : -1),
  bootedAt: BOOTED,
});
const CONTAINER = { "/run/systemd/container": "systemd-nspawn\n" };
const VIRTUAL = { "/proc/cpuinfo": "flags\t\t: fpu vme hypervisor lahf_lm\n" };

describe("before", () => {
  const ahead = (
    changes: readonly string[],
    files: Readonly<Record<string, string>> = {},
    installed = packages(OWN),
  ) => {
    const transaction = changes.map((one) => {
      const [action, name] = one.split(" ");
      return {
        action,
        name,
        from_version: action === "install" ? null : "1",
        to_version: "2",
      } as TransactionEntry;
    });
    return rebootAhead(transaction, [], installed, host(files)).join("\n");
  };
  const newer = "linux-image-6.1.0-30-amd64 is newer than the running kernel, 6.1.0-28-amd64";
  const cases: readonly [changes: string, found: string][] = [
    ["install linux-image-6.1.0-30-amd64", newer],
    ["install linux-image-6.1.0-9-amd64", ""],
    ["install linux-image-6.1.0-28-cloud-amd64", ""],
    ["install linux-image-6.1.0-30-amd64-dbg", ""],
    ["upgrade linux-image-amd64", ""],
    ["install linux-headers-6.1.0-30-amd64", ""],
    ["install linux-image-unsigned-6.1.0-30-amd64", "linux-image-unsigned-6.1.0-30-amd64 is newer"],
    ["install linux-image-6.12.43+deb13-amd64", "linux-image-6.12.43+deb13-amd64 is newer"],
    ["install proxmox-kernel-6.8.4-2-pve-signed", "proxmox-kernel-6.8.4-2-pve-signed is newer"],
    [`upgrade ${OWN}`, `${OWN}, the package of the running kernel, goes from 1 to 2`],
    [`remove ${OWN}`, `${OWN}, the package of the running kernel, is removed with its modules`],
    ["remove linux-image-6.1.0-30-amd64", ""],
    ["upgrade intel-microcode", "intel-microcode: loaded at the next boot"],
    ["install amd64-microcode", "amd64-microcode: loaded at the next boot"],
    ["upgrade firmware-linux-free", "firmware-linux-free: loaded at the next boot"],
    ["remove intel-microcode", ""],
    ["upgrade systemd", ""],
    ["upgrade libc6", ""],
    ["upgrade grub-pc", ""],
    ["upgrade nginx", ""],
  ];
  for (const [change, found] of cases) {
    test(change, () =>
      found === "" ? expect(ahead([change])).toBe("") : expect(ahead([change])).toStartWith(found),
    );
  }
  test("of several kernels, the newest", () =>
    expect(ahead(["install linux-image-6.1.0-29-amd64", "install linux-image-6.1.0-30-amd64"])).toBe(newer));
  for (const mark of ["/run/systemd/container", "/run/.containerenv", "/.dockerenv"]) {
    test(`in a container, by ${mark}: it has no kernel of its own`, () =>
      expect(ahead(["install linux-image-6.1.0-30-amd64", "upgrade intel-microcode"], { [mark]: "" })).toBe(
        "",
      ));
  }
  test("where the kernel is no package's, none replaces it", () =>
    expect(ahead(["install linux-image-6.1.0-30-amd64"], {}, packages("bash"))).toBe(""));
  test("a distribution's kernel whose package was purged", () => {
    const files = {
      "/proc/version": "Linux version 6.1.0-28-amd64 (debian-kernel@lists.debian.org) Debian 6.1.119-1",
    };
    expect(ahead(["install linux-image-6.1.0-30-amd64"], files, packages("bash"))).toBe(newer);
  });
  test("a virtual machine's microcode is its host's", () =>
    expect(ahead(["upgrade intel-microcode"], VIRTUAL)).toBe(""));
  test("D-Bus, for its own packages and libc6, in a container too", () => {
    const bus = (...of: string[]) =>
      rebootAhead([], [{ unit: "dbus.service", packages: of, risky: "x" }], packages(), host(CONTAINER));
    expect(bus("libc6", "libzstd1")).toEqual([
      "dbus.service can't be restarted in a running system and keeps the old libc6",
    ]);
    expect(bus("dbus-daemon").length).toBe(1);
    expect(bus("libzstd1")).toEqual([]);
  });
});

describe("after", () => {
  const due = (
    installed: Map<string, DpkgPackage>,
    files: Readonly<Record<string, string>> = {},
    changed: readonly string[] = [],
    units: readonly UnitFiles[] = [],
  ) => rebootDue(installed, units, host(files, changed)).join("\n");
  const old = (unit: string, ...paths: string[]): UnitFiles[] => [
    { unit, files: [], old: paths.map((path) => ({ path, processes: [{ pid: 1, start: 1 }] })) },
  ];
  test("nothing", () => expect(due(packages(OWN, "intel-microcode"))).toBe(""));
  test("a newer kernel is installed", () =>
    expect(due(packages(OWN, "linux-image-6.1.0-30-amd64"))).toBe(
      "linux-image-6.1.0-30-amd64 is newer than the running kernel, 6.1.0-28-amd64",
    ));
  test("a newer one was removed again", () =>
    expect(due(packages(OWN, "linux-image-6.1.0-30-amd64 config-files"))).toBe(""));
  test("the running one was removed", () =>
    expect(due(packages(`${OWN} config-files`, "linux-image-6.1.0-9-amd64"))).toBe(
      `${OWN}, the package of the running kernel, was removed with its modules`,
    ));
  test("the running one was replaced", () =>
    expect(due(packages(OWN), {}, [OWN])).toBe(
      `${OWN}, the package of the running kernel, was replaced after this boot`,
    ));
  test("microcode changed after this boot", () => {
    expect(due(packages(OWN, "intel-microcode"), {}, ["intel-microcode"])).toBe(
      "intel-microcode: changed after this boot, loaded at the next",
    );
    expect(due(packages(OWN, "intel-microcode"), VIRTUAL, ["intel-microcode"])).toBe("");
  });
  test("in a container only what runs in it", () =>
    expect(due(packages(OWN, "linux-image-6.1.0-30-amd64"), CONTAINER, [OWN])).toBe(""));
  test("D-Bus", () => {
    expect(
      due(packages(), CONTAINER, [], old("dbus.service", "/usr/lib/x/libc.so.6", "/usr/lib/x/libz.so.1")),
    ).toBe("dbus.service can't be restarted in a running system and still runs the old /usr/lib/x/libc.so.6");
    expect(due(packages(), {}, [], old("dbus.service", "/usr/lib/x/libz.so.1"))).toBe("");
    expect(due(packages(), {}, [], old("nginx.service", "/usr/lib/x/libc.so.6"))).toBe("");
  });
  test("systemd that was not re-executed", () => {
    const shared = "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so";
    expect(due(packages(), {}, [], old("init.scope", shared))).toContain("systemctl daemon-reexec");
    expect(due(packages(), {}, [], old("init.scope", "/usr/lib/x/libkmod.so.2"))).toBe("");
  });
  test("/run/reboot-required, with whose it is", () => {
    const files = {
      "/run/reboot-required": "*** System restart required ***\n",
      "/run/reboot-required.pkgs": "libc6\nlinux-base\nlibc6\n",
    };
    expect(due(packages(OWN), files)).toBe("/run/reboot-required is there, written for libc6, linux-base");
    expect(due(packages(OWN), { "/run/reboot-required": "" })).toBe("/run/reboot-required is there");
  });
});
