import { describe, expect, test } from "bun:test";
import { hostLink, ReplacedFiles, servicesAhead, servicesOutlook } from "../src/apt-services.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import type { UnitFiles } from "../src/sys-processes.ts";

const SEEN = "2026-11-30T20:00:00.000Z";
const SSL = "/usr/lib/x86_64-linux-gnu/libssl.so.3";

const entry = (name: string, action: TransactionEntry["action"] = "upgrade", architecture = "amd64") =>
  ({ name, action, architecture, from_version: "1", to_version: "2" }) as TransactionEntry;
const unit = (name: string, files: string[], old: string[] = []): UnitFiles => ({
  unit: name,
  files,
  old: old.map((path) => ({ path, processes: [{ pid: 1, start: 1 }] })),
});
const reading = (lists: Readonly<Record<string, string>>, merged = true) => {
  const asked: string[] = [];
  return {
    asked,
    readText(path: string) {
      asked.push(path);
      return lists[path.replace("/var/lib/dpkg/info/", "").replace("/var/lib/dpkg/", "")] ?? null;
    },
    readLink: (path: string) => (merged ? `usr${path}` : null),
  };
};
const ahead = (
  transaction: readonly TransactionEntry[],
  units: UnitFiles[],
  lists: Readonly<Record<string, string>>,
  merged?: boolean,
) =>
  servicesAhead(transaction, { units, unseen: 3, seen_at: SEEN }, reading(lists, merged)).units.map(
    ({ unit: name, packages }) => `${name}: ${packages.join(" ")}`,
  );

const LISTS = {
  "libssl3:amd64.list": `/.\n/usr\n${SSL}\n/usr/share/doc/libssl3\n`,
  "nginx.list": "/usr/sbin/nginx\n",
  "libc6:amd64.list": "/lib/x86_64-linux-gnu/libc.so.6\n",
};

describe("which units use what changes", () => {
  const nginx = unit("nginx.service", ["/usr/sbin/nginx", SSL, "/usr/lib/x86_64-linux-gnu/libc.so.6"]);
  const cases: readonly [what: string, transaction: TransactionEntry[], found: string[]][] = [
    ["a library, in the list of its architecture", [entry("libssl3")], ["nginx.service: libssl3"]],
    ["the program, in the list without one", [entry("nginx")], ["nginx.service: nginx"]],
    ["several packages", [entry("nginx"), entry("libssl3")], ["nginx.service: libssl3 nginx"]],
    ["a name from before /usr was merged", [entry("libc6")], ["nginx.service: libc6"]],
    ["removed", [entry("libssl3", "remove")], ["nginx.service: libssl3"]],
    ["downgraded", [entry("libssl3", "downgrade")], ["nginx.service: libssl3"]],
    ["reinstalled", [entry("libssl3", "reinstall")], ["nginx.service: libssl3"]],
    ["another architecture's", [entry("libssl3", "upgrade", "i386")], []],
    ["new, so that nothing runs it", [entry("libssl3", "install")], []],
    ["only configured", [entry("libssl3", "configure")], []],
    ["a package without a list", [entry("unknown")], []],
  ];
  for (const [what, transaction, found] of cases) {
    test(what, () => expect(ahead(transaction, [nginx], LISTS)).toEqual(found));
  }
  test("old code too, which it still runs afterwards", () =>
    expect(ahead([entry("libssl3")], [unit("a.service", [], [SSL])], LISTS)).toEqual(["a.service: libssl3"]));
  test("on a host where /lib is a directory, /lib and /usr/lib are two files", () => {
    const usr = unit("a.service", ["/usr/lib/x86_64-linux-gnu/libc.so.6"]);
    const lib = unit("b.service", ["/lib/x86_64-linux-gnu/libc.so.6"]);
    expect(ahead([entry("libc6")], [usr, lib], LISTS, false)).toEqual(["b.service: libc6"]);
  });
  test("only lists of packages that change are read, and no diversions where none does", () => {
    const host = reading(LISTS);
    servicesAhead([entry("libssl3"), entry("nginx")], { units: [nginx], unseen: 0, seen_at: SEEN }, host);
    expect(host.asked.map((path) => path.slice("/var/lib/dpkg/".length))).toEqual([
      "info/libssl3:amd64.list",
      "info/nginx:amd64.list",
      "info/nginx.list",
      "diversions",
    ]);
    const other = reading(LISTS);
    servicesAhead([entry("nginx", "install")], { units: [nginx], unseen: 0, seen_at: SEEN }, other);
    expect(other.asked).toEqual([]);
  });
  test("the runner that makes the plan is none of them", () =>
    expect(
      ahead(
        [entry("libssl3")],
        [unit("aegis-runner@3-1-0.service", [SSL]), unit("aegisd.service", [SSL])],
        LISTS,
      ),
    ).toEqual(["aegisd.service: libssl3"]));
});

describe("diversions", () => {
  const lists = {
    "dash.list": "/bin/sh\n",
    "bash.list": "/bin/bash\n/bin/sh\n",
    diversions: "/bin/sh\n/bin/sh.distrib\nbash\n",
  };
  const running = [unit("a.service", ["/usr/bin/sh"]), unit("b.service", ["/usr/bin/sh.distrib"])];
  test("the file of the package that diverts keeps its name", () =>
    expect(ahead([entry("bash")], running, lists)).toEqual(["a.service: bash"]));
  test("that of the others is elsewhere", () =>
    expect(ahead([entry("dash")], running, lists)).toEqual(["b.service: dash"]));
});

describe("what restarting does", () => {
  const riskOfUnit = (name: string) =>
    servicesAhead(
      [entry("nginx")],
      { units: [unit(name, ["/usr/sbin/nginx"])], unseen: 0, seen_at: SEEN },
      reading(LISTS),
    ).units[0]?.risky;
  for (const name of [
    "ssh.service",
    "systemd-networkd.service",
    "dbus.service",
    "user-1000.slice",
    "init.scope",
  ]) {
    test(name, () => expect(riskOfUnit(name)).toBeString());
  }
  test("nginx.service", () => expect(riskOfUnit("nginx.service")).toBeNull());
});

test("nothing is said where nobody looked, or nothing changes", () => {
  const host = reading(LISTS);
  const look = { units: [], unseen: 0, seen_at: SEEN };
  expect(servicesOutlook([entry("nginx")], new Map(), undefined, host)).toEqual({});
  expect(servicesOutlook([], new Map(), look, host)).toEqual({});
  expect(servicesOutlook([entry("nginx")], new Map(), { ...look, unseen: 4 }, host)).toEqual({
    services: { units: [], seen_at: SEEN, unseen: 4 },
    reboot: { reasons: [] },
  });
});

test("this machine's file lists", () => {
  const files = new ReplacedFiles([entry("bash")], {
    readText: (path) => (path.endsWith("/bash.list") ? "/bin/bash\n" : null),
    readLink: hostLink,
  });
  const path = hostLink("/bin") === null ? "/bin/bash" : "/usr/bin/bash";
  expect([...files.ownersOf([path])]).toEqual([[path, new Set(["bash"])]]);
});
