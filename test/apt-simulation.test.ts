import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { actionOf, type Installation, parseSimulation, splitRelease } from "../src/apt-simulation.ts";
import { fixture } from "./apt-kit.ts";

function inst(line: string): Installation | undefined {
  return parseSimulation(line).installations[0];
}

describe("malformed action lines make the whole simulation unusable", () => {
  for (const line of [
    "Inst nginx",
    "Inst nginx [1.0",
    "Inst nginx [1.0] (2.0 Debian:12/stable [amd64]",
    "Inst nginx [1.0] 2.0",
    "Inst nginx (2.0 Debian:12/stable)",
    "Inst NGINX (2.0 Debian:12/stable [amd64])",
    "Inst nginx (* Debian:12/stable [amd64])",
    "Inst nginx:i386 (2.0 Debian:12/stable [amd64])",
    "Inst nginx (2.0 Debian:12/stable [amd64]) (3.0 Debian [amd64])x",
    "Remv nginx",
    "Remv nginx- [1.0]",
    "Purg nginx 1.0",
  ]) {
    test(line, () => {
      const simulation = parseSimulation(line);
      expect(simulation.unreadable).toEqual([line]);
      expect(simulation.installations).toEqual([]);
      expect(simulation.removals).toEqual([]);
    });
  }
});

describe("Inst lines", () => {
  test("a fresh install has no old version", () => {
    expect(inst("Inst nginx (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [amd64])")).toEqual({
      name: "nginx",
      architecture: "amd64",
      from: null,
      to: "1.22.1-9+deb12u11",
      releases: ["Debian-Security:12/oldstable-security"],
    });
  });
  test("several releases, and an empty list of problems", () => {
    expect(
      inst(
        "Inst libgcrypt20-dev [1.10.1-3] (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64]) []",
      ),
    ).toMatchObject({
      from: "1.10.1-3",
      releases: ["Debian:12.15/oldstable", "Debian-Security:12/oldstable-security"],
    });
  });
  test("a foreign architecture, and what it breaks temporarily", () => {
    expect(
      inst(
        "Inst forp [1.0] (2.0 RepoA:st [amd64]) [forp:amd64 on forp:i386] [forp:i386 on forp:amd64] [forp:i386 ]",
      ),
    ).toMatchObject({ name: "forp", architecture: "amd64", from: "1.0", to: "2.0" });
    expect(inst("Inst forp:i386 [1.0] (2.0 RepoA:st [i386])")).toMatchObject({
      name: "forp",
      architecture: "i386",
    });
  });
  test("a label that imitates the end of the line changes neither name, version nor architecture", () => {
    expect(inst("Inst evil (1.0 Debian:12/stable [all]) (9 x:1 [i386]) [] (x:2/y [amd64])")).toMatchObject({
      name: "evil",
      architecture: "amd64",
      to: "1.0",
    });
  });
  test("no release", () => {
    expect(inst("Inst halfway (1.0  [amd64])")).toMatchObject({ to: "1.0", releases: [] });
  });
});

describe("actions", () => {
  for (const [from, to, action] of [
    [null, "1.0", "install"],
    ["1.0", "1.1", "upgrade"],
    ["1:2.0", "1:1.0", "downgrade"],
    ["1.0", "1.0~rc1", "downgrade"],
    ["1.0", "1.0", "reinstall"],
  ] as const) {
    test(`${from} to ${to} is ${action}`, () => {
      expect(actionOf({ name: "x1", architecture: "all", from, to, releases: [] })).toBe(action);
    });
  }
});

describe("recorded runs", () => {
  test("136 upgrades of Debian 12, none of them new", () => {
    const simulation = parseSimulation(fixture("bookworm/upgrade.txt"));
    expect(simulation.unreadable).toEqual([]);
    expect(simulation.installations).toHaveLength(136);
    expect(simulation.installations.map(actionOf)).toEqual(Array(136).fill("upgrade"));
    expect(simulation).toMatchObject({ removals: [], foreignConfigurations: [], keptBack: [], phased: [] });
  });
  test("two fresh installs are not upgrades", () => {
    const { installations } = parseSimulation(fixture("bookworm/install-nginx.txt"));
    expect(installations.map((i) => [i.name, i.architecture, actionOf(i)])).toEqual([
      ["nginx-common", "all", "install"],
      ["nginx", "amd64", "install"],
    ]);
  });
  test("apt 3, multi-arch", () => {
    const { installations, unreadable } = parseSimulation(fixture("trixie/install-multiarch.txt"));
    expect(unreadable).toEqual([]);
    expect(installations).toHaveLength(23);
    expect(installations.filter((i) => i.architecture === "i386").map((i) => i.name)).toEqual([
      "gcc-14-base",
      "libgcc-s1",
      "libc6",
      "libunistring5",
      "libidn2-0",
    ]);
  });
  for (const suite of ["bookworm", "trixie"]) {
    test(`${suite}: downgrade and removals by conflict`, () => {
      const { installations, removals } = parseSimulation(fixture(`${suite}/lab-install.txt`));
      expect(installations.map((i) => `${i.name} ${actionOf(i)}`)).toEqual([
        "conf-x install",
        "downer downgrade",
        "lib.dot+ install",
        "twin install",
      ]);
      expect(removals).toEqual([
        { name: "needs-old", architecture: null, from: "1" },
        { name: "old-y", architecture: null, from: "1.0" },
      ]);
    });
    test(`${suite}: an interrupted dpkg shows as a foreign Conf line`, () => {
      expect(parseSimulation(fixture(`${suite}/lab-broken.txt`))).toMatchObject({
        foreignConfigurations: ["halfway:amd64"],
        unfinished: 1,
      });
    });
    test(`${suite}: held packages that change, and foreign ones`, () => {
      const simulation = parseSimulation(fixture(`${suite}/lab-multiarch.txt`));
      expect(simulation.heldChanged).toEqual(["heldp"]);
      expect(simulation.installations.map((i) => `${i.name}:${i.architecture}`)).toEqual([
        "forp:amd64",
        "forp:i386",
        "heldp:amd64",
        "only32:i386",
      ]);
    });
    test(`${suite}: what is there already`, () => {
      const { alreadyNewest } = parseSimulation(fixture(`${suite}/lab-present.txt`));
      expect([...alreadyNewest]).toEqual([
        ["old-y", "1.0"],
        ["essen", "1.0"],
      ]);
    });
    test(`${suite}: providers of an ambiguous virtual package`, () => {
      expect(parseSimulation(fixture(`${suite}/lab-ambiguous.txt`)).explanations).toEqual([
        "Package virtm is a virtual package provided by:",
        "virt-b 1.0 (= 4)",
        "virt-a 1.0 (= 3)",
      ]);
    });
  }
  test("unmet dependencies are explained", () => {
    expect(parseSimulation(fixture("bookworm/unmet.txt")).explanations).toEqual([
      "The following packages have unmet dependencies:",
      "nginx : Depends: nginx-common (< 1.22.1-9+deb12u9.1~) but 1.22.1-9+deb12u11 is to be installed",
    ]);
  });
});

describe("kept back and phased", () => {
  const cases: [string, string[], string[]][] = [
    ["bookworm/lab-upgrade.txt", ["forheld:i386", "heldp", "keptp", "phasep"], []],
    ["trixie/lab-upgrade.txt", ["forheld:i386", "heldp", "keptp"], ["phasep"]],
    ["trixie/lab-apt-upgrade.txt", ["forheld:i386", "heldp"], ["phasep"]],
    ["ubuntu/jammy-esm.txt", ["python3-update-manager", "update-manager-core"], []],
    ["ubuntu/show-versions-phasing.txt", [], ["ceph-common", "dhcpcd-base", "libcephfs2"]],
  ];
  for (const [file, keptBack, phased] of cases) {
    test(file, () => expect(parseSimulation(fixture(file))).toMatchObject({ keptBack, phased }));
  }
  test("Ubuntu 24.04 with phasing", () => {
    const simulation = parseSimulation(fixture("ubuntu/noble-phasing.txt"));
    expect(simulation.phased).toHaveLength(11);
    expect(simulation.phased).toContain("systemd-timesyncd");
    expect(simulation.installations.map((i) => i.name)).toEqual(["libdrm-common", "libdrm2"]);
  });
  test("apt 3 in columns", () => {
    const { phased } = parseSimulation(fixture("ubuntu/apt3-phasing.txt"));
    expect(phased).toHaveLength(10);
    expect(phased).toContain("gir1.2-packagekitglib-1.0");
  });
  test("the security updates that Ubuntu Pro would offer are not held back", () => {
    expect(parseSimulation(fixture("ubuntu/jammy-esm.txt")).keptBack).not.toContain("redis-server");
  });
});

describe("releases", () => {
  for (const [release, origin, archive] of [
    ["Debian-Security:12/oldstable-security", "Debian-Security", "oldstable-security"],
    ["RepoA:st", "RepoA", "st"],
    ["Docker CE:jammy", "Docker CE", "jammy"],
    ["localhost", "localhost", null],
    ["odd:", "odd", null],
  ] as const) {
    test(release, () => expect(splitRelease(release)).toEqual({ origin, archive }));
  }
});

const name = fc.stringMatching(/^[a-z0-9][a-z0-9+.-]{0,8}[a-z0-9+.]$/);
const version = fc.stringMatching(/^(?:[0-9]:)?[0-9][0-9A-Za-z.+~-]{0,7}[0-9A-Za-z.+~]$/);
const architecture = fc.constantFrom("amd64", "i386", "all");

test("an Inst line round-trips, whatever the label", () => {
  const label = fc.string({ maxLength: 30 }).map((text) => text.replace(/[\r\n]/g, ""));
  fc.assert(
    fc.property(name, version, fc.option(version), architecture, label, (n, to, from, arch, text) => {
      const qualified = arch === "i386" ? `${n}:${arch}` : n;
      const line = `Inst ${qualified}${from === null ? "" : ` [${from}]`} (${to} ${text} [${arch}])`;
      expect(inst(line)).toMatchObject({ name: n, architecture: arch, from, to });
    }),
  );
});

test("arbitrary text never throws and never invents a package", () => {
  const line = fc.oneof(
    fc.string(),
    fc.string().map((text) => `Inst ${text}`),
    fc.string().map((text) => `Remv ${text}`),
    fc.constantFrom("Not upgrading:", "The following packages have been kept back:"),
    fc.string().map((text) => `  ${text}`),
  );
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      const text = lines.join("\n");
      const simulation = parseSimulation(text);
      for (const { name: n } of [...simulation.installations, ...simulation.removals]) {
        expect(
          text.split("\n").some((l) => /^(?:Inst|Remv|Purg) /.test(l) && l.split(/[\s:]/)[1] === n),
        ).toBe(true);
      }
      for (const n of [...simulation.keptBack, ...simulation.phased]) expect(text).toContain(n);
    }),
  );
});
