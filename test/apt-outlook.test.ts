import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShownPackages } from "../src/apt-cache.ts";
import { parseDpkgStatus } from "../src/apt-dpkg.ts";
import { aptGrammar } from "../src/apt-grammar.ts";
import { lookAhead } from "../src/apt-outlook.ts";
import { parseSimulation } from "../src/apt-simulation.ts";
import { isStableWarning } from "../src/doc-evidence.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import type { Disk } from "../src/eco-planning.ts";
import { md5Of, sizeOf, spaceOf } from "../src/sys-disk.ts";
import { type Answer, fakePlanning, fixture } from "./apt-kit.ts";
import { entry, removal } from "./policy-plans.ts";

const md5 = (letter: string) => letter.repeat(32);
const EMPTY: Disk = { md5: () => null, size: () => null, space: () => null };

interface Setup {
  transaction?: TransactionEntry[];
  simulated?: string;
  held?: string[];
  status?: string;
  shown?: string;
  files?: Record<string, string>;
  answers?: Record<string, Answer>;
  disk?: Partial<Disk> | null;
}

async function look({
  transaction = [],
  simulated = "",
  held = [],
  status = "",
  shown = "",
  disk = {},
  ...host
}: Setup) {
  const planning = fakePlanning(host);
  const facts = {
    ...{ shown: new ShownPackages(shown), policy: new Map(), installed: parseDpkgStatus(status) },
    ...{ repositories: [], native: "amd64", kept: [] },
  };
  const found = await lookAhead(
    ...([transaction, parseSimulation(simulated), held, facts, "/var/lib/dpkg/status"] as const),
    disk === null ? planning : { ...planning, disk: { ...EMPTY, ...disk } },
    "",
  );
  return { ...found, calls: planning.calls.map(({ command }) => command) };
}

test("nobody reads it: nothing is looked for", async () => {
  const found = await look({ disk: null, held: ["x"], simulated: fixture("ubuntu/jammy-esm.txt") });
  expect(found).toEqual({ warnings: [], calls: [] });
});

describe("configuration files", () => {
  const status = (name: string, conffiles: string) =>
    `Package: ${name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nConffiles:\n${conffiles}\nDescription: x\n /etc/no ${md5("0")}\n`;
  const of = async (
    conffiles: string,
    found: Record<string, string>,
    change: Partial<TransactionEntry> = {},
  ) => {
    const { outlook } = await look({
      transaction: [entry("ssh", change)],
      status: status("ssh", conffiles),
      files: {
        "/var/lib/dpkg/diversions": "/etc/moved\n/etc/moved.orig\nother\n/etc/own\n/etc/own.orig\nssh\n",
      },
      disk: { md5: (path) => found[path] ?? null },
    });
    return outlook?.configuration_files?.map(({ path, state }) => `${path} ${state}`) ?? [];
  };
  const line = (path: string) => ` ${path} ${md5("a")}`;
  test.each<[what: string, conffiles: string, found: Record<string, string>, expected: string[]]>([
    ["as the package brought it", line("/etc/a"), { "/etc/a": md5("a") }, []],
    ["changed", line("/etc/a"), { "/etc/a": md5("b") }, ["/etc/a modified"]],
    ["not for this user", line("/etc/a"), { "/etc/a": "unreadable" }, ["/etc/a unknown"]],
    ["deleted: it stays so", line("/etc/a"), {}, []],
    ["a space in its name", line("/etc/a b"), { "/etc/a b": md5("b") }, ["/etc/a b modified"]],
    ["no longer the package's", `${line("/etc/a")} obsolete`, { "/etc/a": md5("b") }, []],
    ["to be removed", `${line("/etc/a")} remove-on-upgrade`, { "/etc/a": md5("b") }, []],
    ["never installed", " /etc/a newconffile", { "/etc/a": md5("b") }, []],
    [
      "diverted by another package",
      line("/etc/moved"),
      { "/etc/moved": md5("b"), "/etc/moved.orig": md5("a") },
      [],
    ],
    [
      "diverted by itself",
      line("/etc/own"),
      { "/etc/own": md5("b"), "/etc/own.orig": md5("a") },
      ["/etc/own modified"],
    ],
  ])("%s", async (_what, conffiles, found, expected) => {
    expect(await of(conffiles, found)).toEqual(expected);
  });
  test("only of packages that get another version", async () => {
    for (const action of ["install", "reinstall", "remove", "configure"] as const)
      expect(await of(line("/etc/a"), { "/etc/a": md5("b") }, { action })).toEqual([]);
    expect(await of(line("/etc/a"), { "/etc/a": md5("b") }, { action: "downgrade" })).toHaveLength(1);
  });
});

describe("disk space", () => {
  const KIB = 1024;
  const shown = ["hello", "linux-image-6.1.0-40-amd64"]
    .map(
      (name) =>
        `Package: ${name}\nVersion: 1.0-2\nArchitecture: amd64\nInstalled-Size: 3000\nFilename: x\nSHA256: ${"e".repeat(64)}\nSize: 1000\n`,
    )
    .join("\n");
  const status =
    "Package: hello\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\nInstalled-Size: 1000\n";
  const devices: Record<string, number> = { "/": 1, "/usr": 1, "/var/cache/aegis/archives": 2, "/boot": 3 };
  const disk = (available: number): Partial<Disk> => ({
    space: (path) => ({ device: devices[path] ?? 9, available }),
    size: (path) => (path.endsWith("-9") ? 50 : 7),
  });
  const KERNEL = entry("linux-image-6.1.0-40-amd64", { action: "install", from_version: null });
  const files = { "/boot/vmlinuz-8": "", "/boot/vmlinuz-9": "", "/boot/initrd.img-9": "", "/boot/grub": "" };
  test("downloads, growth and the largest package besides, and a kernel's files below /boot", async () => {
    const { outlook, warnings } = await look({
      transaction: [entry("hello"), KERNEL],
      shown,
      status,
      files,
      disk: disk(1e9),
    });
    expect(outlook?.space).toEqual([
      { path: "/var/cache/aegis/archives", needed: 2000, available: 1e9 },
      { path: "/", needed: (2000 + 3000 + 3000) * KIB, available: 1e9 },
      { path: "/boot", needed: 100, available: 1e9 },
    ]);
    expect(warnings).toEqual([]);
  });
  test("what doesn't fit is warned about, which the executor doesn't compare", async () => {
    const { warnings } = await look({ transaction: [KERNEL], shown, files, disk: disk(99) });
    expect(warnings).toEqual([
      "Disk space: not enough on /var/cache/aegis/archives: 1.0 kB needed, 99 B free",
      "Disk space: not enough on /: 6.1 MB needed, 99 B free",
      "Disk space: not enough on /boot: 100 B needed, 99 B free",
    ]);
    for (const text of warnings)
      expect(isStableWarning(text, aptGrammar.claims.mayDiffer.warnings)).toBe(false);
  });
  test("a removal needs none", async () => {
    expect((await look({ transaction: [removal("hello")], status, disk: disk(0) })).outlook).toEqual({});
  });
  test("one file system is named once", async () => {
    const one: Partial<Disk> = { space: () => ({ device: 1, available: 5 }) };
    const { outlook } = await look({ transaction: [entry("hello")], shown, status, disk: one });
    expect(outlook?.space).toEqual([{ path: "/", needed: 1000 + 5000 * KIB, available: 5 }]);
  });
});

test("what autoremove would take, in the words of apt 2 and 3, one package and several", async () => {
  const { outlook } = await look({ simulated: fixture("ubuntu/jammy-esm.txt") });
  expect(outlook?.unneeded).toEqual(["apache2-data", "apache2-utils", "ssl-cert"]);
  const one =
    "The following package was automatically installed and is no longer required:\n  libold:i386\nUse 'apt autoremove' to remove it.\n";
  expect((await look({ simulated: one })).outlook?.unneeded).toEqual(["libold:i386"]);
});

describe("why a package is kept back", () => {
  const kept = (...names: string[]) => `The following packages have been kept back:\n  ${names.join(" ")}\n`;
  const inst = (name: string, from = "") => `Inst ${name} ${from}(2.0 Debian:12/stable [amd64])\n`;
  const reasons = async (setup: Setup) => {
    const { outlook, calls } = await look(setup);
    return { calls, why: Object.fromEntries(outlook?.held_back?.map((one) => [one.package, one.why]) ?? []) };
  };
  test("a hold explains itself, and apt isn't asked", async () => {
    const status = "Package: a1\nStatus: hold ok installed\nArchitecture: amd64\nVersion: 1\n";
    expect(await reasons({ held: ["a1"], simulated: kept("a1"), status })).toEqual({
      calls: [],
      why: { a1: "on hold (apt-mark hold)" },
    });
  });
  test.each<[what: string, answer: Answer, why: string]>([
    ["new packages", { stdout: inst("libnew") + inst("a1", "[1.0] ") }, "needs new packages: libnew"],
    ["removals", { stdout: `Remv b1 [1.0]\n${inst("a1", "[1.0] ")}` }, "would remove: b1"],
    [
      "nothing but being asked for",
      { stdout: inst("a1", "[1.0] ") },
      "apt upgrades it only if it is asked for by name",
    ],
    [
      "a dependency that nobody has",
      {
        status: 100,
        stdout:
          "The following packages have unmet dependencies:\n a1 : Depends: gone (>= 2) but it is not installable\n",
      },
      "Depends: gone (>= 2) but it is not installable",
    ],
    ["no reason from apt", { status: 100 }, "apt finds no way to upgrade it"],
  ])("%s", async (_what, answer, why) => {
    const found = await reasons({
      ...{ held: ["a1"], simulated: kept("a1"), answers: { "apt-get -s install a1": answer } },
    });
    expect(found).toEqual({ calls: ["apt-cache policy a1", "apt-get -s install a1"], why: { a1: why } });
  });
  test("one that apt did not name: it is not asked about", async () => {
    expect(await reasons({ held: ["a1"], simulated: "" })).toEqual({ calls: [], why: {} });
  });
  test("more than three are asked for together, and the answer says so", async () => {
    const held = ["a1", "a2", "a3", "a4"];
    const found = await reasons({
      ...{ held, simulated: kept(...held) },
      answers: { "apt-get -s install a1 a2 a3 a4": { stdout: inst("libnew") } },
    });
    expect(found.calls).toHaveLength(2);
    expect(found.why.a4).toBe("needs new packages (with the others that are kept back): libnew");
  });
  test("a phased update, with the share of hosts that apt-cache policy says", async () => {
    const simulated = "The following upgrades have been deferred due to phasing:\n  a1 a2\n";
    const stdout =
      "a1:\n  Installed: 1\n  Candidate: 2\n  Version table:\n     2 500 (phased 20%)\n        500 http://x noble/main amd64 Packages\n *** 1 100\n        100 /var/lib/dpkg/status\na2:\n  Installed: 1\n  Candidate: 2\n  Version table:\n     2 500\n";
    const found = await reasons({
      ...{ held: ["a1", "a2"], simulated, answers: { "apt-cache policy a1 a2": { stdout } } },
    });
    expect(found.why).toEqual({
      a1: "phased update: not for this host yet, for 20% of hosts so far",
      a2: "phased update: not for this host yet",
    });
  });
});

describe("the real disk", () => {
  const home = mkdtempSync(join(tmpdir(), "aegis-disk-"));
  afterAll(() => rmSync(home, { recursive: true }));
  test("MD5 as dpkg records it; what is no file or too far away is said to be unreadable or absent", () => {
    const file = join(home, "x");
    writeFileSync(file, "hello\n");
    expect(md5Of(file)).toBe("b1946ac92492d2347c6235b4d2611184");
    expect(md5Of(join(home, "none"))).toBeNull();
    expect(md5Of(join(file, "below"))).toBeNull();
    expect(md5Of(home)).toBe("unreadable");
    chmodSync(file, 0);
    if (process.getuid?.() !== 0) expect(md5Of(file)).toBe("unreadable");
  });
  test("sizes, and the file system of a path that does not exist yet", () => {
    expect(sizeOf(join(home, "x"))).toBe(6);
    expect(sizeOf(join(home, "none"))).toBeNull();
    const [here, there] = [spaceOf(home), spaceOf(join(home, "a/b/c"))];
    expect(there?.device).toBe(here?.device ?? -1);
    expect(there?.available).toBeGreaterThan(0);
  });
});
