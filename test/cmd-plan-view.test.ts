import { describe, expect, test } from "bun:test";
import { changedNames } from "../src/cmd-plan-changes.ts";
import { differsFrom } from "../src/cmd-plan-table.ts";
import { renderPlan } from "../src/cmd-plan-view.ts";
import { NO_DATA } from "../src/doc-evidence.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import type { Terminal } from "../src/terminal.ts";
import { DEBIAN, entry, removal, upgrade, vulnerability, WEAK } from "./policy-plans.ts";
import { recordedUpgrade } from "./recorded-upgrade.ts";

const PLAN = upgrade({
  transaction: [entry("openssl"), removal("libold")],
  packages_held_back: ["libxml2:i386"],
  risk_signals: ["requires-root", "package-upgrade", "package-removal"],
  risk_score: 33,
  risk_contributions: [{ name: "package-removal", points: 25 }],
});

const terminal = (width: number, colour = false): Terminal => ({ interactive: true, colour, width });
const PIPE: Terminal = { interactive: false, colour: false, width: 80 };
const lines = (text: string) => text.split("\n");

test.each<[what: string, back: Partial<OperationPlan["rollback_plan"]>, says: string | null]>([
  ["all old versions are offered", { inverse: ["a:amd64=1"] }, null],
  [
    "one is gone, one is kept",
    { inverse: ["a:amd64=1", "b:amd64=1", "c:amd64-"], unobtainable: ["a:amd64=1"], kept: ["b:amd64=1"] },
    "Way back   1 of 3 changes can't be undone, the old version is neither offered nor kept: a:amd64=1; 1 of 3 changes only with files that Aegis keeps",
  ],
])("the way back: %s", (_what, back, says) => {
  const text = renderPlan({ ...PLAN, rollback_plan: { ...PLAN.rollback_plan, ...back } }, terminal(400));
  if (says === null) expect(text).not.toContain("Way back");
  else expect(lines(text)).toContain(says);
});

describe("where packages come from, above the table", () => {
  const plan = (sources: string[], evidence: OperationPlan["repository_evidence"] = [DEBIAN, WEAK]) => ({
    ...PLAN,
    transaction: [entry("a1", { sources })],
    repository_evidence: evidence,
  });
  const heading = (one: OperationPlan) =>
    lines(renderPlan(one, terminal(400)))
      .filter((line) => /^(?:[A-Z]: )?from /.test(line))
      .join(" ");
  const UNTRUSTED: OperationPlan["repository_evidence"][number] = {
    ...WEAK,
    ...{ trust: "untrusted", problems: ["trusted=yes", "expired"] },
  };
  const CALLED = ', calls itself "Debian bookworm"';
  const cases: [what: string, plan: OperationPlan, heading: string][] = [
    ["a third party that calls itself Debian", plan([WEAK.id]), `${WEAK.id} (third party, key not pinned)`],
    [
      "one with a key of its own",
      plan([WEAK.id], [{ ...WEAK, trust: "pinned" }]),
      `${WEAK.id} (third party, pinned key)`,
    ],
    ["why it is untrusted", plan([WEAK.id], [UNTRUSTED]), `${WEAK.id} (untrusted: trusted=yes, expired)`],
    [
      "no signature, whatever the plan says of its trust",
      plan([DEBIAN.id], [{ ...DEBIAN, signature_verified: false }]),
      `${DEBIAN.id} (untrusted: no verified signature)`,
    ],
    [
      "trusted=yes, whatever the plan says of its trust",
      plan([DEBIAN.id], [{ ...DEBIAN, trusted_option: true }]),
      `${DEBIAN.id} (untrusted: no verified signature)`,
    ],
    [
      "described twice: the worse counts",
      plan([WEAK.id], [{ ...WEAK, trust: "pinned" }, UNTRUSTED]),
      `${WEAK.id} (untrusted: trusted=yes, expired)`,
    ],
    ["no evidence of it", plan(["http://x y/main"]), "http://x y/main (unknown: no configured source)"],
    ["no source at all", plan([]), "(unknown source)"],
    ["the distribution", plan([DEBIAN.id]), `${DEBIAN.id} (distribution)`],
  ];
  for (const [what, one, shown] of cases) {
    test(what, () => expect(heading(one)).toBe(`from ${shown}${CALLED}`));
  }
  test("several sources: a letter for each, the worse first, and the name is of the one that apt names", () => {
    const shown = renderPlan(plan([DEBIAN.id, WEAK.id]), terminal(100));
    expect(lines(shown).filter((line) => /^(?:[A-Z]: |↑)/.test(line))).toEqual([
      `A: from ${WEAK.id} (third party, key not pinned)`,
      `B: from ${DEBIAN.id} (distribution)${CALLED}`,
      "↑  a1       1.0-1  1.0-2  1.0 kB  A,B  from a source without trust",
    ]);
  });
  test("a label can't leave its quotes", () => {
    const label = 'x" (distribution)';
    const one = {
      ...plan([WEAK.id]),
      transaction: [entry("a1", { sources: [WEAK.id], origin: label, archive: null })],
    };
    expect(heading(one)).toEndWith(String.raw`, calls itself "x\" (distribution)"`);
  });
  test("other ecosystems name their registry", () => {
    const one: OperationPlan = {
      ...plan([]),
      tool: "npm",
      transaction: [entry("a1", { sources: [], origin: "r.example", archive: null })],
    };
    expect(heading(one)).toBe("from r.example");
  });
});

describe("grouped by what matters", () => {
  const POCKET: OperationPlan["repository_evidence"][number] = {
    ...DEBIAN,
    ...{ id: "http://s.example bookworm-security", suite: "bookworm-security" },
    ...{ release_label: "Debian-Security", release_suite: "oldstable-security" },
  };
  const secured = { sources: [POCKET.id] };
  const plan: OperationPlan = {
    ...PLAN,
    transaction: [
      entry("a-rest"),
      entry("b-new", { action: "install", from_version: null }),
      entry("passwd"),
      entry("zip", secured),
      entry("new-with-security", { action: "install", from_version: null, ...secured }),
      entry("openssl", secured),
      entry("linux-image-6.1.0-1-amd64", { action: "install", from_version: null }),
      entry("no-hash", { sha256: null }),
      entry("older", { action: "downgrade" }),
      removal("gone", { essential: true }),
    ],
    repository_evidence: [DEBIAN, POCKET],
  };
  test("the most important first, each under what it is", () => {
    const shown = lines(renderPlan(plan, terminal(80)));
    const start = shown.findIndex((line) => /^ +package/.test(line)) + 1;
    const rows = shown.slice(start, shown.indexOf("", start));
    expect(rows.map((line) => line.replace(/^(\S {2}\S+) {2,}.*/, "$1"))).toEqual([
      ...["Removed (1)", "−  gone", "│  essential package removed"],
      ...["Downgraded (1)", "↓  older"],
      ...["Doubtful: source, hash, or files taken over (1)", "↑  no-hash", "│  no SHA-256 known"],
      ...["Kernel and boot (1)", "+  linux-image-6.1.0-1-amd64"],
      ...["Security updates of sensitive packages (1)", "↑  openssl", "Other security updates (1)", "↑  zip"],
      ...["Sensitive packages (1)", "↑  passwd", "New packages (2)", "+  b-new", "+  new-with-security"],
      ...["Other packages (1)", "↑  a-rest"],
    ]);
  });
  test("a policy's own sensitive packages are among them", () => {
    const one = { ...PLAN, transaction: [entry("mine"), entry("other")] };
    expect(renderPlan(one, terminal(80))).not.toContain("Sensitive packages");
    expect(renderPlan(one, terminal(80), { sensitive: ["mine"] })).toContain(
      "Sensitive packages (1)\n↑  mine",
    );
  });
  test("packages of one source with the same versions share a row on a terminal, and none in a pipe", () => {
    const of = (name: string, version = "1.0-2") =>
      entry(name, { to_version: version, to_source: { name: "mesa", version } });
    const one = {
      ...PLAN,
      transaction: [of("libgbm1"), of("libegl1"), of("mesa-tools", "1.0-3"), of("libgl1")],
    };
    const shown = renderPlan(one, terminal(80));
    expect(shown).toContain(
      "↑  mesa (3)    1.0-1  1.0-2  3.0 kB  libgbm1 libegl1 libgl1\n↑  mesa-tools  1.0-1  1.0-3  1.0 kB",
    );
    expect(lines(renderPlan(one, PIPE)).filter((line) => line.startsWith("↑"))).toHaveLength(4);
  });
  describe("vulnerabilities", () => {
    const about = { package: "openssl", version: "1", matched_version: "1" };
    const old = (id: string, change: Partial<OperationPlan["vulnerability_evidence"][number]> = {}) =>
      vulnerability({ ...about, applies_to: "old", id, severity: "high", ...change });
    const of = (name: string, source: string) =>
      entry(name, { from_source: { name: source, version: "1" }, to_source: { name: source, version: "2" } });
    const one: OperationPlan = {
      ...PLAN,
      transaction: [of("libfoo1", "foo"), of("foo-tools", "foo"), of("bar", "bar")],
      vulnerability_evidence: [
        ...["CVE-2026-1", "CVE-2026-2", "CVE-2026-3", "CVE-2026-4"].map((id) => old(id, { package: "foo" })),
        old("CVE-2026-9", {
          ...{ package: "foo", severity: "critical" },
          known_exploited: { cve: "CVE-2026-9", since: "2026-01-01" },
        }),
      ],
    };
    test("what an upgrade fixes makes it a security update, and two packages of the source share the row", () => {
      expect(renderPlan(one, terminal(80))).toContain(
        [
          "Other security updates (2)",
          "↑  foo (2)  1.0-1  1.0-2  2.0 kB  fixes CVE-2026-9 (critical, exploited),",
          "│                                 CVE-2026-1 (high), CVE-2026-2 (high) and 2",
          "│                                 more; libfoo1 foo-tools",
          "Other packages (1)",
          "↑  bar      1.0-1  1.0-2  1.0 kB",
        ].join("\n"),
      );
    });
    test("what was asked for leads the packages of its source", () => {
      const text = renderPlan({ ...one, targets: ["foo-tools"] }, terminal(120));
      expect(text.replace(/\n│ +/g, " ")).toContain("and 2 more; foo-tools (asked for) libfoo1");
      expect(text).not.toContain("asked for by name");
    });
    test("a long plan counts them at its top", () => {
      const many = Array.from({ length: 9 }, (_, n) => entry(`p-${n}`));
      const text = renderPlan({ ...one, transaction: [...one.transaction, ...many] }, terminal(120));
      expect(text).toContain("\nKnown      fixes 5 vulnerabilities (1 exploited, 1 critical, 4 high)\n");
    });
  });
  test("wide terminals have more columns: the source package, and the notes beside", () => {
    const of = entry("perl-base", { essential: true, to_source: { name: "perl", version: "1" } });
    const row = /^↑ .*$/m.exec(renderPlan({ ...PLAN, transaction: [of] }, terminal(200)))?.[0];
    expect(row).toBe("↑  perl-base  1.0-1  1.0-2  1.0 kB  perl       essential package");
  });
});

test.each<[from: string, to: string, marked: string]>([
  ["1.21.22", "1.21.23", "23"],
  ["1.0-3+deb12u1", "1.0-3+deb12u10", "10"],
  ["2.14-2", "2.14-2+deb12u1", "+deb12u1"],
  ["1:2.66-4+deb12u2+b2", "1:2.66-4+deb12u3+b1", "3+b1"],
  ["2025b-0", "2026f-0", "2026f-0"],
  ["1.0~rc1", "1.0", ""],
  ["5.2.15-2+b8", "5.2.15-2+b13", "13"],
  ["1.0a", "1.0beta", "beta"],
  ["–", "1.0", ""],
])("from %s to %s: %s is marked", (from, to, marked) => {
  expect(to.slice(differsFrom(from, to))).toBe(marked);
});

test("the differing part of a version is bold, also where it wraps", () => {
  const one = { ...PLAN, transaction: [entry("a1", { from_version: "1.21.22", to_version: "1.21.23" })] };
  expect(renderPlan(one, terminal(80, true))).toContain("1.21.\u001b[1m23\u001b[0m");
  const long = `1.${"0.".repeat(40)}`;
  const other = entry("a1", { from_version: `${long}1`, to_version: `${long}2` });
  const shown = renderPlan({ ...PLAN, transaction: [other] }, terminal(80, true));
  expect(shown.split("\u001b[1m2\u001b[0m")).toHaveLength(2);
});

describe("what follows from the change", () => {
  const outlook: OperationPlan["outlook"] = {
    services: {
      units: [
        { unit: "nginx.service", packages: ["openssl"], risky: null },
        { unit: "ssh.service", packages: ["openssl"], risky: "it carries remote logins" },
        { unit: "(screen)", packages: ["openssl"], risky: null },
      ],
      seen_at: "2026-01-02T02:44:05Z",
      unseen: 2,
    },
    reboot: { reasons: ["a new kernel"] },
    configuration_files: [
      { package: "sudo", path: "/etc/sudoers", state: "unknown" },
      { package: "ssh", path: "/etc/ssh/x", state: "modified" },
    ],
    space: [{ path: "/boot", needed: 120_000_000, available: 30_000_000 }],
    unneeded: ["libold"],
    held_back: [{ package: "libxml2:i386", why: "on hold" }],
  };
  const plan = { ...PLAN, outlook };
  const joined = (text: string) => text.replace(/\s*\n +│ /g, " ");
  test("every fact has a line", () => {
    const text = joined(renderPlan(plan, terminal(80)));
    for (const line of [
      "Kept back  libxml2:i386: on hold",
      "Services   to restart with care: ssh.service (it carries remote logins); to restart: nginx.service; programs outside of units: screen; seen 20 minutes before this plan, by root's last look; 2 processes that could not be looked into",
      "Reboot     a new kernel",
      "Conffiles  /etc/ssh/x (ssh): changed on this host and kept; where the new version has another, it is put beside it as .dpkg-dist; 1 file that you may not read: unknown",
      "Disk       /boot: 120.0 MB needed, 30.0 MB free",
      "Unneeded   libold: autoremove would take what nothing needs any more",
    ])
      expect(lines(text)).toContain(line);
  });
  test("what doesn't fit on the disk is said at the top", () => {
    expect(renderPlan(plan, terminal(80))).toContain(
      "\n! Not enough space on /boot: 120.0 MB needed, 30.0 MB free\n",
    );
  });
  test("a long plan says at its top what it is about", () => {
    const many = Array.from({ length: 9 }, (_, n) => entry(`p-${n}`));
    const text = joined(renderPlan({ ...plan, transaction: [removal("x1"), ...many] }, terminal(80)));
    expect(lines(text).slice(4, 7)).toEqual([
      "Changes    10 packages: 1 to remove, 9 to upgrade; 9.0 kB to download",
      "Of these   1 removed; 9 other packages",
      "After it   reboot needed; 2 services on old code, 1 risky to restart; 1 program outside of units on old code; 1 configuration file kept; 1 package kept back",
    ]);
  });
});

test("a decision that nobody made is not shown as one", () => {
  const result = { decision: "require_human", rules: ["r"], reasons: ["because"] } as const;
  const shown = (isDecided: boolean) =>
    renderPlan(PLAN, terminal(120), {
      policy: { result: { ...result, rules: ["r"], reasons: ["because"] }, isDecided },
    });
  expect(shown(false)).toContain("Policy     not decided yet; now it would be require_human: because (r)");
  expect(shown(true)).toContain("Policy     decided: require_human: because (r)");
});

test("a takeover of files is shown above the table, and next to the package's name above the question", () => {
  const taken = ["coreutils", "sudo"];
  const plan = { ...PLAN, transaction: [entry("eater", { takes_over: taken }), entry("other")] };
  expect(lines(renderPlan(plan, terminal(80)))).toContain("! eater takes over files of coreutils, sudo");
  expect(changedNames(plan, terminal(80)).join(" ")).toBe(
    "↑ 2 to upgrade: eater (takes over files of coreutils, sudo) other",
  );
});

test("programs started by dpkg's configuration are among the facts", () => {
  const hook = { configured_in: "/etc/dpkg/dpkg.cfg.d/needrestart", command: "post-invoke=x\u202e" };
  const shown = renderPlan({ ...PLAN, host_hooks: [hook] }, terminal(120));
  expect(shown).toContain("Host hooks /etc/dpkg/dpkg.cfg.d/needrestart: post-invoke=x\\u{202e}");
});

describe("a long name or version does not misalign other rows, and is not truncated", () => {
  const long = `lib${"innocent-".repeat(12)}openssl-backdoor`;
  const version = `1:2.3.4+dfsg-5ubuntu6.7${"+more".repeat(12)}~evil`;
  const transaction = [
    entry(long, { from_version: version, to_version: `${version}2`, architecture: "i386" }),
    ...Array.from({ length: 123 }, (_, i) => entry(`package-${i}`)),
  ];
  test("recorded rows, one with a long version: every other row is one line, aligned with the header", () => {
    const recorded = recordedUpgrade();
    const longer = recorded.map((one, i) => (i === 60 ? { ...one, from_version: version } : one));
    const shown = lines(renderPlan({ ...PLAN, transaction: longer }, terminal(80)));
    const header = shown.find((line) => /^ +package +from +to +size$/.test(line)) ?? "";
    const [from, to, size] = ["from", "to", "size"].map((word) => header.indexOf(word));
    const rows = shown.filter((line) => line.startsWith("↑"));
    expect(rows).toHaveLength(136);
    const whole = longer.filter(({ name, from_version, to_version }) => {
      const row = rows.find((line) => line.startsWith(`↑  ${name} `));
      return (
        row?.slice(from, to).trim() === from_version &&
        row?.slice(to, size).trim() === to_version &&
        row?.slice(size) === "1.5 MB"
      );
    });
    expect(whole.length).toBeGreaterThan(125);
    expect(Math.max(...shown.map((line) => line.length))).toBeLessThanOrEqual(80);
  });
  for (const width of [40, 80, 120]) {
    test(`${width} columns`, () => {
      const shown = lines(renderPlan({ ...PLAN, transaction }, terminal(width)));
      const header = shown.findIndex((line) => /^ +package +from +to +size$/.test(line));
      const starts = ["package", "from", "to"].map((word) => shown[header]?.indexOf(word) ?? -1);
      const column = (line: string, i: number) => line.slice(starts[i], starts[i + 1] ?? line.length);
      const rows = shown.filter((line) => /^↑ {2}package-/.test(line));
      expect(rows).toHaveLength(123);
      for (const row of rows) {
        expect(column(row, 1).trim()).toBe("1.0-1");
        expect(column(row, 2)).toMatch(/^1\.0-2 +1\.0 kB$/);
      }
      const first = shown.findIndex((line) => line.startsWith("↑  lib"));
      const rest = shown.slice(first + 1).findIndex((line) => !line.startsWith("│"));
      const whole = shown.slice(first, first + 1 + rest);
      const cell = (i: number) => whole.map((line) => column(line, i).replace("1.0 kB", "").trim()).join("");
      expect([cell(0), cell(1), cell(2)]).toEqual([`${long}:i386`, version, `${version}2`]);
      expect(Math.max(...shown.map((line) => line.length))).toBeLessThanOrEqual(width);
    });
  }
  test("in a pipe every package is one line, with columns as on a terminal", () => {
    const shown = lines(renderPlan({ ...PLAN, transaction }, PIPE));
    expect(shown).toContain(`↑  ${long}:i386  ${version}  ${version}2  1.0 kB`);
    expect(shown.filter((line) => /^↑ {2}package-\d+ +1\.0-1 +1\.0-2 +1\.0 kB$/.test(line))).toHaveLength(
      123,
    );
  });
});

describe("a plan for people", () => {
  for (const width of [80, 120]) {
    test(`no line is wider than ${width} columns`, () => {
      const long = "a-package-with-an-extraordinarily-long-name-as-some-font-packages-have";
      const plan: OperationPlan = {
        ...PLAN,
        transaction: [
          entry(long, { from_version: "1:2.3.4+dfsg-5ubuntu6.7", to_version: "1:2.3.4+dfsg-5ubuntu6.8" }),
        ],
        packages_held_back: Array.from({ length: 60 }, (_, i) => `held-package-${i}`),
        warnings: ["a warning of many words ".repeat(20)],
      };
      expect(
        Math.max(...lines(renderPlan(plan, terminal(width))).map((line) => line.length)),
      ).toBeLessThanOrEqual(width);
    });
  }

  test("150 targets: the table starts on the first screen, and the command says how much is missing", () => {
    const targets = Array.from({ length: 150 }, (_, i) => `package-${i}=1.0-${i}+deb12u1`);
    const argv = ["apt-get", "install", "-y", "--allow-downgrades", ...targets];
    const text = renderPlan({ ...PLAN, targets, command_preview: argv }, terminal(80));
    expect(lines(text).findIndex((line) => /^ +package +from/.test(line))).toBeLessThan(14);
    expect(text.replace(/[\s│]+/g, " ")).toMatch(
      /Command apt-get install -y .* … and 1\d\d more words \(--json has all\)/,
    );
  });

  test("130 packages: 130 rows, removals first", () => {
    const many = Array.from({ length: 129 }, (_, i) => entry(`package-${i}`));
    const text = renderPlan(
      { ...PLAN, transaction: [...many, entry("gone", { action: "remove" })] },
      terminal(80),
    );
    const rows = lines(text).filter((line) => /^[↑−]/.test(line));
    expect(rows.length).toBe(130);
    expect(rows[0]).toStartWith("−  gone");
    expect(text).toContain("130 packages: 1 to remove, 129 to upgrade; 130.0 kB to download");
  });

  test("each action has its own symbol and count", () => {
    const actions = ["install", "upgrade", "downgrade", "reinstall", "remove"] as const;
    const text = renderPlan(
      { ...PLAN, transaction: actions.map((action) => entry(action, { action })) },
      terminal(120),
    );
    for (const [symbol, action] of ["+", "↑", "↓", "↻", "−"].map((s, i) => [s, actions[i]])) {
      expect(text).toContain(`\n${symbol}  ${action}`);
    }
    expect(text).toContain(
      "5 packages: 1 to remove, 1 to downgrade, 1 to install, 1 to reinstall, 1 to upgrade",
    );
  });

  test("a foreign architecture is shown, the host's own and `all` are not", () => {
    const transaction = [
      entry("libc6", { architecture: "i386" }),
      entry("bash"),
      entry("doc", { architecture: "all" }),
    ];
    const text = renderPlan({ ...PLAN, transaction }, terminal(80));
    expect(text).toContain("libc6:i386");
    expect(text).not.toContain("bash:");
    expect(text).not.toContain("doc:");
  });

  test("held packages, risk and signals are shown", () => {
    const text = renderPlan(PLAN, terminal(80));
    expect(text).toContain("Kept back  libxml2:i386");
    expect(text).toContain("33 of 100 (package-removal 25)");
    expect(text).toContain("Signals    requires-root, package-upgrade, package-removal");
  });

  test("what needs attention is shown: denied targets, sources, vulnerabilities, warnings", () => {
    const id = "http://evil.example.com stable";
    const text = renderPlan(
      {
        ...PLAN,
        transaction: [entry("a1", { sources: [id] })],
        denied_targets: [{ target: "./x.deb", signal: "local-path-denied" }],
        repository_evidence: [
          {
            ...{ id, uri: "http://evil.example.com", suite: "stable", components: [], configured_in: "x" },
            ...{ signed_by: null, trusted_option: true, allow_insecure: false, transport: "http" },
            ...{ release_origin: null, release_label: null, release_suite: null, release_codename: null },
            ...{
              release_date: null,
              release_valid_until: null,
              release_sha256: null,
              signature_verified: false,
            },
            ...{ key_fingerprints: [], trust: "untrusted", problems: ["trusted=yes"] },
          },
        ],
        vulnerability_evidence: [
          {
            ...{
              package: "a1",
              version: "2",
              matched_version: "2",
              applies_to: "new",
              id: "CVE-2026-1",
              aliases: [],
              severity: "critical",
            },
            ...{ fixed_version: null, data_source: "osv", data_age_days: 0 },
          },
        ],
        warnings: ["the disk is full"],
      },
      terminal(120),
    );
    expect(text).toContain("! ./x.deb will be denied by policy (local-path-denied)");
    expect(text).toContain(`! Source ${id} is untrusted: trusted=yes`);
    expect(text).toContain("! a1 2 has CVE-2026-1 (critical)");
    expect(text).toContain("! the disk is full");
  });

  test("the most severe vulnerabilities come first, whatever the plan's order, and the rest is counted by severity", () => {
    const open = Array.from({ length: 9 }, (_, n) =>
      vulnerability({ package: `p${n}`, id: NO_DATA, severity: "unknown" }),
    );
    const arriving = { package: "a1", version: "2", severity: "high" } as const;
    const shown = (...evidence: OperationPlan["vulnerability_evidence"]) =>
      renderPlan(
        { ...PLAN, transaction: [entry("a1", { to_version: "2" })], vulnerability_evidence: evidence },
        terminal(120),
      ).split("\n");
    const lines = shown(...open, vulnerability({ ...arriving, applies_to: "old", id: "CVE-2026-7" }));
    expect(lines.filter((line) => line.startsWith("!")).at(0)).toBe("! a1 2 has CVE-2026-7 (high)");
    expect(lines).toContain("! and 2 more vulnerabilities (--json has all)");
    const ten = Array.from({ length: 10 }, (_, n) => vulnerability({ ...arriving, id: `CVE-2026-${n}` }));
    expect(shown(...open, ...ten)).toContain(
      "! and 11 more vulnerabilities, 2 of them exploited or of high or critical severity (--json has all)",
    );
  });

  test("nothing to do says so, and shows no table", () => {
    const text = renderPlan({ ...PLAN, nothing_to_do: true, transaction: [] }, terminal(80));
    expect(text).toContain("Nothing to do: the host already is in that state.");
    expect(text).not.toContain("package  ");
  });

  test("an update lists the sources it would refresh", () => {
    const source = { ...DEBIAN, id: "https://deb.debian.org/debian bookworm" };
    const text = renderPlan(
      { ...PLAN, operation: "update", transaction: [], repository_evidence: [source] },
      terminal(80),
    );
    expect(text).toContain("Sources    https://deb.debian.org/debian bookworm");
  });

  test("missing vulnerability data is reported", () => {
    const unknown = {
      ...vulnerability(),
      package: "hello",
      version: "2.10-3",
      id: NO_DATA,
      data_source: "osv.dev",
    };
    const text = renderPlan({ ...PLAN, vulnerability_evidence: [unknown] }, terminal(120));
    expect(text).toContain("! hello 2.10-3: no vulnerability data available from osv.dev");
    expect(text).not.toContain("has no-data");
  });

  test("a truncated script says so", () => {
    const scripts = [{ package: "a1", name: "postinst", body: "true;".repeat(100) }];
    const text = renderPlan({ ...PLAN, scripts }, terminal(120)).replace(/[\s│]+/g, " ");
    expect(text).toContain("… (500 characters; --json has all)");
  });

  test("the text of a program is given by its length, and every script has a line", () => {
    const scripts = Array.from({ length: 10 }, (_, n) => ({
      package: `crate${n}`,
      name: "build.rs",
      body: n === 0 ? "fn main() {\n! FORGED\n}\n" : "true",
    }));
    const lines = renderPlan({ ...PLAN, scripts }, terminal(80)).split("\n");
    const first = lines.findIndex((line) => line.startsWith("Scripts"));
    expect(lines.slice(first, first + 9)).toEqual([
      "Scripts    crate0 build.rs: 3 lines, 23 characters (--json has all)",
      ...Array.from({ length: 7 }, (_, n) => `         │ crate${n + 1} build.rs: true`),
      "         │ and 2 more (--json has all)",
    ]);
  });

  test("colour only if the terminal supports it", () => {
    expect(renderPlan(PLAN, terminal(80))).not.toContain("\u001b");
    expect(renderPlan(PLAN, terminal(80, true))).toContain("\u001b[1m");
  });
});

test("forgeable warnings don't displace those that the executor compares", () => {
  const real = "on hold, but would be changed: libc6";
  const invented = Array.from({ length: 20 }, (_, n) => `W: invented ${n}`);
  const shown = renderPlan({ ...PLAN, warnings: [...invented, real] }, PIPE);
  expect(shown).toContain(real);
  expect(shown).toContain("invented 6");
  expect(shown).not.toContain("invented 7");
  expect(shown).toContain("… and 13 more warnings");
});
