import { describe, expect, test } from "bun:test";
import { planningConfig } from "../src/apt-planning.ts";
import { fixture } from "./apt-kit.ts";

const HOST = fixture("bookworm/config-dump.txt");
const lines = (dump: string) => planningConfig(dump).split("\n");

describe("a host configuration that planning can't reproduce", () => {
  const cases: [what: string, line: string, message: string][] = [
    [
      "settings for apt-get alone",
      'Binary::apt-get::APT::Get::Purge "true";',
      "Binary::apt-get::APT::Get::Purge",
    ],
    ["the same, in another case", 'binary::Apt-Get::quiet "1";', "binary::Apt-Get::quiet"],
    ["a solver that is a program", 'APT::Solver "aspcud";', "the solver aspcud"],
    ["a value that can't be written back", 'APT::Foo "a"b";', "can't be reproduced exactly"],
  ];
  for (const [what, line, message] of cases) {
    test(what, () => expect(() => planningConfig(`${HOST}${line}\n`)).toThrow(message));
  }
  test("settings for apt and built-in solvers are fine", () => {
    for (const line of ['Binary::apt::APT::Color "1";', 'APT::Solver "3.0";', 'APT::Solver "internal";']) {
      expect(() => planningConfig(`${HOST}${line}\n`)).not.toThrow();
    }
  });
});

describe("settings that would make the run differ from the simulation are set or dropped", () => {
  const LEFT_OUT = ['Help "true";', 'Debug::pkgDPkgPM "true";', 'APT::Sources::With:: "/x.deb";'];
  for (const line of LEFT_OUT) {
    test(line, () => expect(planningConfig(`${HOST}${line}\n`)).toBe(planningConfig(HOST)));
  }
  for (const key of ["APT::Get::ReInstall", "APT::Get::AutomaticRemove", "apt::get::PURGE"]) {
    test(key, () => {
      const named = lines(`${HOST}${key} "true";\n`).filter((line) =>
        line.toLowerCase().startsWith(`${key.toLowerCase()} `),
      );
      expect(named).toEqual([expect.stringMatching(/ "false";$/)]);
    });
  }
});

describe("apt lists what it keeps back in the parsed format, whatever the host's settings", () => {
  const CASES = [
    ['quiet "3";', 'quiet "1";'],
    ['QUIET "2";', 'quiet "1";'],
    ['APT::Output-Version "30";', 'APT::Output-Version "0";'],
    ['APT::Get::List-Columns "true";', 'APT::Get::List-Columns "false";'],
    ['APT::Get::Show-Versions "true";', 'APT::Get::Show-Versions "false";'],
  ] as const;
  for (const [line, instead] of CASES) {
    test(line, () => {
      const all = lines(`${HOST}${line}\n`);
      expect(all).toContain(instead);
      expect(all.filter((one) => one.toLowerCase() === line.toLowerCase())).toEqual([]);
    });
  }
});

describe("nothing that runs a program remains", () => {
  const HOOKS = [
    'AptCli::Hooks::Install:: "touch /x";',
    'aptcli::hooks::Upgrade:: "touch /x";',
    'APT::Update::Pre-Invoke:: "touch /x";',
    'APT::Update::Post-Invoke-Success:: "touch /x";',
    'APT::Install::Pre-Invoke:: "touch /x";',
    'DPkg::Pre-Install-Pkgs:: "touch /x";',
    'DPkg::Post-Invoke:: "touch /x";',
    'DPKG::Tools::Options::/x::Version "3";',
    'Binary::apt-cache::AptCli::Hooks::Search:: "touch /x";',
  ];
  for (const hook of HOOKS) {
    test(hook, () => expect(planningConfig(`${HOST}${hook}\n`)).toBe(planningConfig(HOST)));
  }
});

test("settings that affect a simulation are kept, the host's files are disabled, ours come last", () => {
  const all = lines(
    `${HOST}APT::Default-Release "stable";\nDir::Etc::preferences "pins";\nDir::Etc::parts "apt.conf.d";\ndir::bin::ischroot "/x";\n`,
  );
  expect(all).toContain('APT::Default-Release "stable";');
  expect(all).toContain('Dir::Etc::preferences "pins";');
  expect(all.filter((line) => line.toLowerCase().includes("ischroot"))).toHaveLength(1);
  const ours = all.slice(all.indexOf('Dir::Etc::main "/dev/null";'));
  expect(ours.slice(0, 5)).toEqual([
    'Dir::Etc::main "/dev/null";',
    'Dir::Etc::parts "/dev/null";',
    'Dir::Bin::dpkg "/usr/bin/dpkg";',
    'Dir::Bin::ischroot "/bin/false";',
    'Debug::NoLocking "false";',
  ]);
  expect(ours.slice(-4)).toEqual([
    'Dir::Log::Planner "";',
    'Dir::Log::Solver "";',
    'APT::Get::HideAutoRemove "false";',
    "",
  ]);
});

test("an external planner is refused, whatever the case of its key; a built-in one is not", () => {
  for (const line of ['APT::Planner "mine";', 'apt::planner "mine";']) {
    expect(() => planningConfig(`${HOST}${line}\n`)).toThrow("planner mine, a program");
  }
  expect(() => planningConfig(`${HOST}APT::Planner "internal";\n`)).not.toThrow();
});

describe("apt's binary cache", () => {
  const cacheLines = (aptCache?: string) =>
    planningConfig(`${HOST}dir::cache::SRCPKGCACHE "s.bin";\n`, aptCache)
      .split("\n")
      .filter((line) => /^Dir::Cache::(?:src)?pkgcache /i.test(line));
  test("is the host's", () => expect(cacheLines()).toContain('dir::cache::SRCPKGCACHE "s.bin";'));
  test("can be private to a planning, built from scratch", () =>
    expect(cacheLines("/private/p.bin")).toEqual([
      'Dir::Cache::pkgcache "/private/p.bin";',
      'Dir::Cache::srcpkgcache "";',
    ]));
});
