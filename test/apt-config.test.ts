import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { checkAptConfig, hookCommand, runSettings } from "../src/apt-config.ts";
import { parseAptDump, renderAptConfig } from "../src/apt-settings.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { RunPlace } from "../src/eco-driver.ts";
import { needs } from "./needs.ts";
import { DEBIAN, entry, upgrade } from "./policy-plans.ts";
import { refuses } from "./signing-kit.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const PLACES: RunPlace = {
  directory: "/var/lib/aegis/runs/id",
  archives: "/var/cache/aegis/archives/id",
  aegis: "/usr/local/bin/aegis",
  account: null,
};
const HOOK = "/usr/local/bin/aegis daemon --hook apt --run /var/lib/aegis/runs/id";
const RECORDED = readFileSync(join(import.meta.dir, "fixtures/apt/bookworm/config-dump.txt"), "utf8");

const settingsFor = (dump: string, plan: OperationPlan = upgrade(), places = PLACES) =>
  runSettings(parseAptDump(dump), plan, places);
/** A setting by its exact name, without apt's other spellings. */
const get = (settings: ReadonlyMap<string, string[]>, key: string) => settings.get(key);

describe("a dump that can't be reproduced exactly is refused", () => {
  const CASES: [name: string, dump: string][] = [
    ["a quotation mark in a value", 'A::B "x"y";'],
    ["a value over two lines", 'A::B "x\ny";'],
    ["no quotation marks", "A::B x;"],
    ["no semicolon", 'A::B "x"'],
    ["a space in the name", 'A B "x";'],
    ["no name", ' "x";'],
    ["a comment", "# A::B"],
    ["#clear", "#clear A::B;"],
    ["two settings on a line", 'A "1"; B "2";'],
    ["an error message for a dump", "E: Syntax error /etc/apt/apt.conf:1"],
  ];
  for (const [name, dump] of CASES)
    test(name, () => refuses(() => parseAptDump(dump), "refused", "can't be reproduced exactly"));
});

describe("settings that can't be overridden are refused", () => {
  const ELSEWHERE = ['RootDir "/srv";', 'rootdir "/srv";', 'Dir::State::status "/srv/status";'];
  for (const line of ELSEWHERE)
    test(line, () => refuses(() => settingsFor(line), "refused", "another system than dpkg changes"));
  for (const line of ['RootDir "";', 'RootDir "/";', 'dir::state::status "/var/lib/dpkg/status";'])
    test(`${line} is not`, () => void settingsFor(line));
  test("a package from a disc", () => {
    const disc = { ...DEBIAN, id: "disc", transport: "cdrom" };
    const plan = upgrade({
      repository_evidence: [disc],
      transaction: [entry("nginx", { sources: ["disc"] })],
    });
    refuses(() => settingsFor("", plan), "refused", "nginx comes from a disc");
  });
  // apt 3.2: its level for apt-get is below 1, and it stops at a level that is not a number with a dot.
  const OWN = ["Binary::apt-get", "Binary::apt-get::APT::Get::Simulate", "BINARY::APT-GET::x"];
  const LEVELS = ["0.31::Dir::State::status", "0.0::DPkg::Post-Invoke::", "1::quiet", "x::quiet", "0.31", ""];
  for (const key of [...OWN, ...LEVELS.map((rest) => `Version::${rest}`), "vERSION::0.31.5::quiet"])
    test(key, () => refuses(() => settingsFor(`${key} "1";`), "refused", key));
  const DPKG: [option: string, refused: boolean][] = [
    ["--force-overwrite", true],
    ["--force-all", true],
    ["--force-depends", true],
    ["--force-confnew,overwrite", true],
    ["--force-confnew,", true],
    ["--force-not-root", true],
    ["--root=/mnt", true],
    ["--admindir=/tmp", true],
    ["--instdir=/tmp", true],
    ["--status-fd=9", true],
    ["--pre-invoke=/bin/sh", true],
    ["", false],
    ["--force-confnew", false],
    ["--force-confdef,confold", false],
    ["--no-force-confask", false],
    ["--force-unsafe-io", false],
    ["--path-exclude=/usr/share/doc/*", false],
    ["--log=/var/log/dpkg.log", false],
  ];
  for (const [option, refused] of DPKG) {
    // apt uses the options in every child of the list, whatever its name.
    for (const key of ["DPkg::Options::", "dpkg::options::named"]) {
      const dump = `${key} "${option}";`;
      test(`${dump}${refused ? "" : " is not"}`, () =>
        refused
          ? refuses(() => settingsFor(dump), "refused", "which no plan would show")
          : void settingsFor(dump));
    }
  }
  const PATHS: Partial<RunPlace>[] = [
    { directory: "/run/a b" },
    { archives: "/x;rm" },
    { aegis: "aegis" },
    { aegis: "/a/$(id)" },
    { aegis: '/a"b' },
    { directory: "/x\n" },
    { directory: "/" },
  ];
  for (const change of PATHS)
    test(JSON.stringify(change), () =>
      refuses(() => settingsFor("", upgrade(), { ...PLACES, ...change }), "refused", "can't be named"),
    );
});

describe("our settings override the host's", () => {
  const HOST = `APT "";
APT::Get "";
APT::Get::Simulate "true";
apt::get::allowunauthenticated "true";
APT::Get::Download-Only "1";
APT::Get::Purge "true";
Dir::Bin::dpkg "/tmp/dpkg";
Dir::Etc::parts "apt.conf.d";
Dir::Etc::main "apt.conf";
Acquire::AllowInsecureRepositories "1";
DPkg "";
DPkg::Options "";
dpkg::options:: "--force-confnew";
DPkg::Pre-Install-Pkgs "";
DPkg::Pre-Install-Pkgs:: "/usr/sbin/dpkg-preconfigure --apt || true";
DPkg::Pre-Install-Pkgs:: "/usr/bin/host-hook";
DPkg::Post-Invoke:: "/usr/bin/after";
APT::Install-Recommends "0";
Binary "apt-config";
Binary::apt::APT::Color "1";
CommandLine::AsString "apt-config dump";
`;
  const settings = settingsFor(HOST);
  const CASES: [key: string, expected: string[] | undefined][] = [
    ["APT::Get::Simulate", ["false"]],
    ["APT::Get::AllowUnauthenticated", ["false"]],
    ["apt::get::allowunauthenticated", undefined],
    ["APT::Get::Download-Only", ["false"]],
    ["APT::Get::Purge", ["false"]],
    ["Dir::Bin::dpkg", ["/usr/bin/dpkg"]],
    ["Dir::Bin::ischroot", ["/bin/false"]],
    ["Dir::Etc::parts", ["/dev/null"]],
    ["Dir::Etc::main", ["/dev/null"]],
    ["Dir::Cache::archives", ["/var/cache/aegis/archives/id/"]],
    ["Acquire::AllowInsecureRepositories", ["false"]],
    // dpkg's defaults before the host's options, ours last.
    [
      "DPkg::Options::",
      [
        "--no-force-all",
        "--force-security-mac",
        "--force-confnew",
        "--no-force-confnew,confask",
        "--force-confold",
      ],
    ],
    ["dpkg::options::", undefined],
    ["DPkg::Pre-Install-Pkgs::", [HOOK, "/usr/sbin/dpkg-preconfigure --apt || true", "/usr/bin/host-hook"]],
    ["DPkg::Tools::Options::/usr/local/bin/aegis::Version", ["3"]],
    ["DPkg::Post-Invoke::", ["/usr/bin/after"]],
    ["APT::Install-Recommends", ["0"]],
    ["APT::Status-Fd", ["3"]],
    ["DPkg::Lock::Timeout", ["120"]],
    ["Binary", undefined],
    ["Binary::apt::APT::Color", undefined],
    ["CommandLine::AsString", undefined],
  ];
  for (const [key, expected] of CASES) test(key, () => expect(get(settings, key)).toEqual(expected));
  test("our hook comes first, also on a host without hooks", () => {
    expect(hookCommand(PLACES)).toBe(HOOK);
    expect(get(settingsFor(""), "DPkg::Pre-Install-Pkgs::")).toEqual([HOOK]);
  });
});

test("the blocks of apt 3.2 for other programs are in every dump, and are ignored", () => {
  const builtIn =
    'Version "";\nVersion::0.31 "";\nVersion::1.2::APT::Color "1";\nVersion::2.11::APT::Solver "3.0";\n';
  const settings = settingsFor(builtIn);
  expect(renderAptConfig(settings)).not.toMatch(/^Version/m);
  checkAptConfig(builtIn + renderAptConfig(settings).replaceAll(/^#clear .*\n/gm, ""), settings);
});

describe("settings that would make the run differ from the plan are dropped or set", () => {
  const LEFT_OUT = [
    'Debug "x";',
    'Debug:: "x";',
    'Debug::pkgDPkgPM "true";',
    'DEBUG::pkgdpkgpm "true";',
    'Debug::pkgAcqArchive::NoQueue "true";',
    'Debug::Acquire::Http:: "true";',
    'PackageManager::Configure "no";',
    'OrderList::Score::Delete "1";',
    'EDSP::Scenario "/x";',
    'EIPP::Scenario "/x";',
    'Help "true";',
    'version "true";',
    'Acquire::ForceHash "md5sum";',
    'APT::Cache::show::version "2";',
    'APT::Cmd::Pattern-Only "true";',
    'APT::Config::Dump::Format "x";',
    'APT::Keep-Fds:: "7";',
    'APT::Sources::With:: "/srv/x.deb";',
    'APT::Status-deb822-Fd "7";',
    'APT::System "Debian EDSP";',
    'DPkg::NoTriggers "true";',
    'DPkg::ConfigurePending "false";',
    'DPkg::TriggersPending "false";',
    'DPkg::StopOnError "false";',
    'DPkg::Run-Directory "/nonexistent";',
    'DPkg::MaxArgBytes "10";',
    'DPkg::Install::Recursive::minimum "1";',
    'DPkg::Selection::Remove::Approved "false";',
    'DPkg::Tools::Options::/usr/local/bin/aegis::InfoFD "20";',
    'dpkg::tools::options::/usr/local/bin/AEGIS::x::y "1";',
    'DPkg::Options::a::b "--root=/srv";',
    'DPkg::Pre-Install-Pkgs::a::b "evil";',
  ];
  const plain = settingsFor("");
  for (const line of LEFT_OUT) test(line, () => expect(settingsFor(line)).toEqual(plain));
  const SET: [line: string, value: string][] = [
    ['debug::NOLOCKING "true";', "false"],
    ['APT::Get::Trivial-Only "true";', "false"],
    ['APT::Get::Mark-Auto "true";', "false"],
    ['APT::Get::ReInstall "true";', "false"],
    ['APT::Get::AutomaticRemove "true";', "false"],
    ['APT::Get::Allow-Solver-Remove-Essential "true";', "false"],
    ['APT::Force-LoopBreak "true";', "false"],
    ['Dir::Bin::methods "/srv";', "/usr/lib/apt/methods"],
    ['dir::bin::methods::FILE "false";', "/usr/lib/apt/methods/copy"],
    ['quiet "-1";', "1"],
  ];
  for (const [line, value] of SET) {
    test(line, () => {
      const key = line.split(" ")[0]?.toLowerCase() ?? "";
      expect([...settingsFor(line)].filter(([name]) => name.toLowerCase() === key)).toEqual([
        [expect.any(String), [value]],
      ]);
    });
  }
  test("NoLocking is set explicitly, and debug settings are cleared", () => {
    expect(renderAptConfig(plain)).toContain('\nDebug::NoLocking "false";\n');
    expect(renderAptConfig(plain)).toContain("#clear Debug;\n");
  });
  test("an update reads file: sources like planning", () => {
    expect(get(settingsFor("", upgrade({ operation: "update" })), "Dir::Bin::Methods::file")).toBeUndefined();
  });
  test("named hooks and options go between ours", () => {
    const settings = settingsFor(
      'DPkg::Pre-Install-Pkgs::one "a";\nDPkg::Pre-Install-Pkgs:: "b";\nDPkg::Options::one "--force-confnew";\n',
    );
    expect(get(settings, "DPkg::Pre-Install-Pkgs::")).toEqual([HOOK, "a", "b"]);
    expect(get(settings, "DPkg::Options::")?.slice(2)).toEqual([
      "--force-confnew",
      "--no-force-confnew,confask",
      "--force-confold",
    ]);
    expect([...settings.keys()].filter((key) => key.endsWith("one"))).toEqual([]);
  });
});

describe("only signed permissions are given", () => {
  const NAMES = { downgrades: "allow-downgrades", held: "allow-change-held-packages", removal: "Remove" };
  const held = (name: string) => ({ packages_held_back: [name], transaction: [entry("nginx")] });
  const CASES: [name: string, change: Partial<OperationPlan>, given: (keyof typeof NAMES)[]][] = [
    ["an upgrade", {}, []],
    ["something else is held back", held("hello"), []],
    ["another architecture is held back", held("nginx:i386"), []],
    ["a removal", { packages_removed: ["x"] }, ["removal"]],
    ["a downgrade", { packages_downgraded: ["x"] }, ["downgrades"]],
    ["a held package that is changed", held("nginx"), ["held"]],
    ["a held package that is changed, with its architecture", held("nginx:amd64"), ["held"]],
  ];
  for (const [name, change, given] of CASES) {
    test(name, () => {
      const settings = settingsFor("", upgrade(change));
      const allowed = Object.entries(NAMES).filter(
        ([, key]) => get(settings, `APT::Get::${key}`)?.[0] === "true",
      );
      expect(allowed.map(([one]) => one)).toEqual(given);
      const dpkgDowngrades = get(settings, "DPkg::Options::")?.includes("--force-security-mac,downgrade");
      expect(dpkgDowngrades).toBe(given.includes("downgrades"));
      expect(get(settings, "APT::Get::allow-remove-essential")).toEqual(["false"]);
      expect(get(settings, "APT::Get::AutomaticRemove")).toEqual(["false"]);
    });
  }
});

describe("checkAptConfig", () => {
  const meant = settingsFor(RECORDED);
  const dump = [...meant].flatMap(([key, values]) => values.map((value) => `${key} "${value}";`)).join("\n");
  const CASES: [name: string, seen: string, says: string][] = [
    [
      "a setting has another value",
      dump.replace('APT::Get::Simulate "false"', 'APT::Get::Simulate "true"'),
      'apt::get::simulate is ["true"], not ["false"]',
    ],
    ["a setting is missing", dump.replace('APT::Status-Fd "3";', ""), "apt::status-fd is null"],
    ["an extra setting", `${dump}\nAPT::Extra "1";`, 'apt::extra is ["1"], not null'],
    ["an extra hook", `${dump}\nDPkg::Pre-Install-Pkgs:: "/bin/evil";`, "dpkg::pre-install-pkgs::"],
    ["another hook is first", `DPkg::Pre-Install-Pkgs:: "/bin/evil";\n${dump}`, "dpkg::pre-install-pkgs::"],
    [
      "our hook is gone",
      dump.replace(`DPkg::Pre-Install-Pkgs:: "${HOOK}";`, ""),
      "dpkg::pre-install-pkgs:: is null",
    ],
    ["apt said nothing", "", "is null"],
    ["apt said something else", "E: broken", "can't be reproduced"],
  ];
  for (const [name, seen, says] of CASES)
    test(name, () => refuses(() => checkAptConfig(seen, meant), "refused", says));
  test("passes: other spelling, empty parents, the dumping program's own name", () => {
    checkAptConfig(dump, meant);
    checkAptConfig(`${dump}\nX "";\nBinary "apt-config";\nBinary::apt::APT::Color "1";`, meant);
    checkAptConfig(dump.replace("APT::Status-Fd", "apt::STATUS-fd"), meant);
  });
});

test("property: a dump round-trips", () => {
  const key = fc.stringMatching(/^[A-Za-z][A-Za-z0-9/._-]{0,8}(::[A-Za-z0-9/._-]{1,8}){0,3}$/);
  const value = fc.string({ unit: fc.constantFrom(..."ab \\#/;{}%'$`ü") });
  fc.assert(
    fc.property(fc.dictionary(key, fc.array(value, { minLength: 1, maxLength: 3 })), (lists) => {
      const settings = new Map(Object.entries(lists).map(([name, values]) => [`${name}::`, values]));
      const lines = renderAptConfig(settings)
        .split("\n")
        .filter((line) => !line.startsWith("#clear "));
      expect(parseAptDump(lines.join("\n"))).toEqual(settings);
    }),
  );
});

needs(Bun.which("apt-config") !== null, "apt-config").describe(
  "this machine's apt-config sees exactly the intended settings",
  () => {
    const { path: directory, remove } = temporaryDirectory();
    afterAll(remove);
    /** `apt-config dump` with `text` as the file named by APT_CONFIG. */
    const dump = (text: string) => {
      const file = join(directory, "apt.conf");
      writeFileSync(file, text);
      const env = { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", APT_CONFIG: file };
      const { exitCode, stdout, stderr } = Bun.spawnSync(["apt-config", "dump"], { env });
      if (exitCode !== 0) throw new Error(`apt-config failed: ${stderr}`);
      return stdout.toString();
    };
    const HOSTS: [name: string, host: string][] = [
      ["as it is", ""],
      [
        "everything we disable is enabled",
        'APT::Get::Simulate "true"; APT::Get::AllowUnauthenticated "true"; apt::get::download-only "1";',
      ],
      [
        "own hooks and options",
        'DPkg::Pre-Install-Pkgs { "/bin/one || exit 1"; "/bin/two"; }; dpkg::options { "--force-confnew"; };',
      ],
      ["lists of its own emptied", "#clear APT::NeverAutoRemove; #clear DPkg::Pre-Install-Pkgs;"],
      [
        "lists that apt brings along emptied",
        "#clear Dir::Ignore-Files-Silently; #clear APT::Compressor; #clear Acquire::CompressionTypes;",
      ],
      ["values that look like syntax", 'A::B "back\\slash"; A::C "# // ; { } %22 \'"; A::D "ü  x"; A::E "";'],
      ["names that need escapes", 'A::"sp ace" "x"; A::"e=q" "1";'],
      [
        "lists in lists",
        'X { "a" { "b"; "c"; }; }; Acquire::Languages { "de"; "en"; }; APT::Architectures { "amd64"; "i386"; };',
      ],
      ["settings for another program", 'Binary::apt::APT::Color "1"; Binary::apt-cache { Quiet "2"; };'],
    ];
    for (const [name, host] of HOSTS) {
      test(name, () => {
        const settings = settingsFor(dump(host));
        checkAptConfig(dump(renderAptConfig(settings)), settings);
      });
    }
    test("settings for apt-get alone are refused", () =>
      refuses(
        () => settingsFor(dump('Binary::apt-get::APT::Get::Simulate "true";')),
        "refused",
        "Binary::apt-get",
      ));
  },
);

describeOnThrowaway("a real apt-get run with the frozen settings", () => {
  let host: ThrowawayHost;
  beforeAll(async () => {
    host = await startHost();
    await host.repo.publish(pick("conffile-owner=1.0", "conffile-owner=1.1"));
    await host.aptUpdate();
    await host.aptInstall("conffile-owner=1.0");
  });
  afterAll(() => host.stop());

  test("against a host that contradicts", async () => {
    const run = "/var/lib/aegis/runs/id";
    host.write("/etc/conffile-owner.conf", "the administrator's\n");
    host.write(
      "/etc/apt/apt.conf.d/zz-host",
      `APT::Get::Simulate "true"; APT::Get::Download-Only "true"; APT::Get::Assume-No "true";
       DPkg::Options { "--force-confnew"; "--force-confask"; };
       DPkg::Pre-Install-Pkgs { "echo host >> /root/order"; };
       #clear DPkg::Tools; #clear Dir::Ignore-Files-Silently;\n`,
    );
    // Stands in for Aegis: stores its input from apt.
    host.write(
      "/usr/local/bin/aegis",
      `#!/bin/sh\ncat > /root/input\necho "aegis $*" >> /root/order\n`,
      0o755,
    );
    host.write(`${run}/here`, "");
    host.write("/var/cache/aegis/archives/id/partial/here", "");
    const dump = async (env: Record<string, string>) =>
      (await host.exec(["apt-config", "dump"], { env })).stdout;
    const settings = runSettings(parseAptDump(await dump({})), upgrade(), PLACES);
    host.write(`${run}/apt.conf`, renderAptConfig(settings));
    checkAptConfig(await dump({ APT_CONFIG: `${run}/apt.conf` }), settings);

    const command = "exec apt-get install -y conffile-owner=1.1 3>/root/status";
    const env = { APT_CONFIG: `${run}/apt.conf`, DEBIAN_FRONTEND: "noninteractive" };
    const { status, stdout, stderr } = await host.exec(["sh", "-c", command], { env });
    expect({ status, stderr, stdout }).toMatchObject({ status: 0 });
    expect(host.read("/root/order")).toBe(`aegis daemon --hook apt --run ${run}\nhost\n`);
    const input = host.read("/root/input");
    expect(input).toStartWith("VERSION 3\n");
    expect(input).toContain(
      "\nconffile-owner 1.0 all none < 1.1 all none /var/cache/aegis/archives/id/conffile-owner_1.1_all.deb\n",
    );
    expect(host.read("/etc/conffile-owner.conf")).toBe("the administrator's\n");
    expect(host.read("/root/status")).toContain("pmstatus:conffile-owner:");
    expect((await host.exec(["dpkg-query", "-W", "-f", "$" + "{Version}", "conffile-owner"])).stdout).toBe(
      "1.1",
    );
  });
});
