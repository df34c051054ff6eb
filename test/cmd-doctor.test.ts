import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { keysInTwoRoles, sudoersProblems } from "../src/doctor-trust.ts";
import type { Finding } from "../src/finding.ts";
import { buildWhereNeeded, PROGRAMS } from "./kit.ts";
import { ALICE, configOf, REVIEWER, SIGNER, TRUST } from "./signing-kit.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

describe("sudoersProblems", () => {
  const CASES: [text: string, problems: string[]][] = [
    ["Defaults !env_reset", ["!env_reset keeps every variable"]],
    ["Defaults:alice !env_reset", ["!env_reset keeps every variable"]],
    ["Defaults mail_badpass, !env_reset, secure_path=/bin", ["!env_reset keeps every variable"]],
    ["Defaults setenv", ["setenv lets the caller keep every variable"]],
    ["Defaults!/usr/bin/aegis env_reset,setenv", ["setenv lets the caller keep every variable"]],
    ["alice ALL=(root) SETENV: /usr/local/bin/aegis", ["SETENV lets the caller set any variable"]],
    ["alice ALL=(ALL) NOPASSWD:SETENV: ALL", ["SETENV lets the caller set any variable"]],
    ['Defaults env_keep += "BUN_OPTIONS"', ["env_keep keeps BUN_OPTIONS"]],
    ["Defaults env_keep+=NODE_OPTIONS", ["env_keep keeps NODE_OPTIONS"]],
    [
      'Defaults env_keep = "LANG NODE_TLS_REJECT_UNAUTHORIZED BUN_INSPECT"',
      ["env_keep keeps NODE_TLS_REJECT_UNAUTHORIZED", "env_keep keeps BUN_INSPECT"],
    ],
    ['Defaults env_keep += "LANG", env_keep += "BUN_BE_BUN"', ["env_keep keeps BUN_BE_BUN"]],
    ['Defaults env_check += "BUN_OPTIONS"', ["env_check keeps BUN_OPTIONS"]],
    ['Defaults env_keep += "BUN*"', ["env_keep keeps BUN*"]],
    ['Defaults env_keep += "B*"', ["env_keep keeps B*"]],
    ['Defaults env_keep += "NODE_*"', ["env_keep keeps NODE_*"]],
    ['Defaults env_keep += "*"', ["env_keep keeps *"]],
    ['Defaults env_keep += "LD_PRELOAD"', ["env_keep keeps LD_PRELOAD"]],
    ['Defaults env_keep += \\\n  "BUN_OPTIONS"', ["env_keep keeps BUN_OPTIONS"]],
    ['Defaults env_keep += "BUN_OPTIONS" # needed', ["env_keep keeps BUN_OPTIONS"]],
    ["", []],
    ["Defaults env_reset", []],
    ["Defaults env_reset, !setenv", []],
    ['# Defaults env_keep += "BUN_OPTIONS"', []],
    ["#Defaults !env_reset", []],
    ['Defaults env_keep += "LANG LC_* XDG_CURRENT_DESKTOP"', []],
    ['Defaults env_keep -= "BUN_OPTIONS"', []],
    ['Defaults env_delete += "NODE_OPTIONS"', []],
    ['Defaults env_keep += "MY_BUN_OPTIONS"', []],
    ["@includedir /etc/sudoers.d", []],
    ["alice ALL=(ALL:ALL) NOPASSWD: ALL", []],
  ];
  for (const [text, problems] of CASES)
    test(JSON.stringify(text), () => expect(sudoersProblems(text)).toEqual(problems));
});

describe("the reviewer's keys, in two roles", () => {
  const CASES: [what: string, toml: string, found: object[]][] = [
    [
      "one that also signs",
      `public_keys = ["${SIGNER.publicKeyHex}"]`,
      [{ level: "fail", message: expect.stringContaining(`${SIGNER.keyId} is trusted as an execution key`) }],
    ],
    [
      "one that also approves, beside a good one",
      `public_keys = ["${REVIEWER.publicKeyHex}", "${ALICE.publicKeyHex}"]`,
      [{ level: "fail", message: expect.stringContaining(`${ALICE.keyId} is trusted as an approval key`) }],
    ],
    ["none, where a review is required: another check says so", "required = true", []],
    ["none", "", []],
    ["one of its own", `required = true\npublic_keys = ["${REVIEWER.publicKeyHex}"]`, []],
  ];
  for (const [what, toml, found] of CASES)
    test(what, () =>
      expect(keysInTwoRoles(TRUST, configOf(`[review]\n${toml}`).config)).toMatchObject(found),
    );
});

describeOnThrowaway("doctor, on a host of its own", () => {
  let host: ThrowawayHost;
  beforeAll(async () => {
    buildWhereNeeded();
    host = await startHost({ binary: PROGRAMS.binary[0] });
  });
  afterAll(() => host.stop());
  beforeEach(() => {
    for (const path of [
      "/etc/aegis",
      "/etc/sudoers.d",
      "/etc/sudoers",
      "/root/.local",
      "/root/.ssh",
      "/home/alice/.local",
      "/var/log/aegis",
    ])
      rmSync(host.path(path), { recursive: true, force: true });
    directory("/var/log", 0o755);
  });

  const doctor = async (env: Record<string, string> = {}, user: "root" | "alice" = "root") => {
    const { status, stdout, stderr } = await host.exec(["aegis", "doctor", "--json"], { env, user });
    const { healthy, findings }: { healthy: boolean; findings: Finding[] } = JSON.parse(stdout);
    expect([stderr, healthy]).toEqual(["", status === 0]);
    return { status, failed: findings.filter(({ level }) => level === "fail"), findings };
  };
  const SIGNING = { AEGIS_SIGNING_SECRET_KEY_HEX: "01".repeat(32) };
  const APPROVAL = { AEGIS_APPROVAL_SECRET_KEY_HEX: "02".repeat(32) };
  const DATA = "/root/.local/share/aegis";
  const directory = (path: string, mode: number, uid = 0) => {
    mkdirSync(host.path(path), { recursive: true });
    chmodSync(host.path(path), mode);
    chownSync(host.path(path), uid, 0);
  };
  const nothing = () => {};
  /** A trusted approval key in root's ~/.ssh. */
  const approverInSsh = (passphrase: string) => {
    directory("/root/.ssh", 0o700);
    const file = host.path("/root/.ssh/id_ed25519");
    spawnSync("/usr/bin/ssh-keygen", ["-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", file]);
    const line = readFileSync(`${file}.pub`, "utf8").trim();
    const entry = `[[key]]\nid = "a"\nname = "alice"\nssh_public_key = "${line}"\nrole = "approval"\n`;
    host.write("/etc/aegis/trusted-keys.toml", entry);
  };
  /** The log's directory as it should be, below one that a group may write. */
  const logsOf = async (group: string, mode = 0o775) => {
    directory("/var/log/aegis", 0o755);
    await host.exec(["groupadd", "--force", "--system", group]);
    await host.exec(["chgrp", group, "/var/log"]);
    chmodSync(host.path("/var/log"), mode);
  };

  const FAILS: [
    name: string,
    check: string,
    says: string,
    prepare: () => unknown,
    env?: Record<string, string>,
  ][] = [
    [
      "foreign code from the environment",
      "environment",
      "BUN_INSPECT_NOTIFY",
      nothing,
      { BUN_INSPECT_NOTIFY: "unix:///nonexistent" },
    ],
    [
      "TLS switched off",
      "environment",
      "NODE_TLS_REJECT_UNAUTHORIZED",
      nothing,
      { NODE_TLS_REJECT_UNAUTHORIZED: "0" },
    ],
    [
      "both secrets in one environment",
      "secrets",
      "one user can read an execution and an approval secret",
      nothing,
      { ...SIGNING, ...APPROVAL },
    ],
    [
      "an execution secret and an approver's SSH key without a passphrase",
      "secrets",
      "one user can read an execution and an approval secret: the environment (signing), /root/.ssh/id_ed25519",
      () => approverInSsh(""),
      SIGNING,
    ],
    [
      "a data directory that a group writes to",
      "directories",
      `${DATA} can be written by others`,
      () => directory(DATA, 0o770),
    ],
    [
      "root with another user's HOME",
      "directories",
      "/home/alice belongs to another user",
      nothing,
      { HOME: "/home/alice" },
    ],
    [
      "plans that others write to",
      "directories",
      `${DATA}/plans can be written by others`,
      () => directory(`${DATA}/plans`, 0o702),
    ],
    [
      "a configuration directory that isn't root's",
      "directories",
      "/etc/aegis does not belong to root",
      () => directory("/etc/aegis", 0o755, 61002),
    ],
    [
      "a log directory of somebody else's",
      "directories",
      "/var/log/aegis does not belong to root",
      () => directory("/var/log/aegis", 0o755, 61002),
    ],
    [
      "a log directory that a group writes to",
      "directories",
      "/var/log/aegis can be written by others",
      () => directory("/var/log/aegis", 0o775),
    ],
    [
      "a link in the log directory's place",
      "directories",
      "/var/log/aegis ",
      () => symlinkSync("../../tmp", host.path("/var/log/aegis")),
    ],
    [
      "a log directory below one that any group but syslog writes to",
      "directories",
      "/var/log can be written by others",
      () => logsOf("bob"),
    ],
    [
      "a log directory below one that everybody writes to",
      "directories",
      "/var/log can be written by others",
      () => logsOf("syslog", 0o777),
    ],
    [
      "a broken policy file",
      "policy",
      "/etc/aegis/policy.toml",
      () => host.write("/etc/aegis/policy.toml", "nonsense = ["),
    ],
    [
      "an unknown key in the policy file",
      "policy",
      "nonsense",
      () => host.write("/etc/aegis/policy.toml", "nonsense = 1\n"),
    ],
    [
      "a policy file that others can write",
      "policy",
      "policy.toml",
      () => {
        host.write("/etc/aegis/policy.toml", "");
        chmodSync(host.path("/etc/aegis/policy.toml"), 0o666);
      },
    ],
    [
      "broken keys",
      "keys",
      "trusted-keys.toml",
      () => host.write("/etc/aegis/trusted-keys.toml", "[[key]]\n"),
    ],
    [
      "sudo keeps BUN_OPTIONS",
      "sudoers",
      "/etc/sudoers.d/aegis: env_keep keeps BUN_OPTIONS",
      () => host.write("/etc/sudoers.d/aegis", 'Defaults env_keep += "BUN_OPTIONS"\n', 0o440),
    ],
    [
      "sudo keeps everything",
      "sudoers",
      "/etc/sudoers: !env_reset",
      () => host.write("/etc/sudoers", "Defaults !env_reset\n", 0o440),
    ],
  ];
  for (const [name, check, says, prepare, env] of FAILS) {
    test(`exit 8: ${name}`, async () => {
      await prepare();
      const { status, failed } = await doctor(env);
      expect(status).toBe(8);
      expect(failed).toEqual([
        { check, level: "fail", message: expect.stringContaining(says), fix: expect.stringMatching(/\S/) },
      ]);
    });
  }

  test("exit 8: reviews are required but not available here", async () => {
    host.write("/etc/aegis/policy.toml", "[review]\nrequired = true\n");
    const { status, failed, findings } = await doctor();
    expect([status, ...failed.map(({ check }) => check)]).toEqual([8, "reviewer", "model"]);
    expect(findings).toContainEqual(expect.objectContaining({ check: "review", level: "warn" }));
  });

  const HEALTHY: [
    name: string,
    prepare: () => unknown,
    env: Record<string, string>,
    user: "root" | "alice",
  ][] = [
    ["a fresh host", nothing, {}, "root"],
    ["an ordinary user's", nothing, {}, "alice"],
    ["one secret", nothing, SIGNING, "alice"],
    ["the other secret", nothing, APPROVAL, "alice"],
    [
      "sudoers that are passed over",
      () => host.write("/etc/sudoers.d/aegis.bak", "Defaults !env_reset\n"),
      {},
      "root",
    ],
    ["private directories", () => directory(DATA, 0o700), {}, "root"],
    ["an approver's SSH key with a passphrase", () => approverInSsh("a passphrase"), SIGNING, "root"],
  ];
  for (const [name, prepare, env, user] of HEALTHY) {
    test(`exit 0: ${name}`, async () => {
      prepare();
      expect(await doctor(env, user)).toMatchObject({ status: 0, failed: [] });
    });
  }

  test("exit 0: /var/log as rsyslog has it on Ubuntu, with a note that names the group and what it can do", async () => {
    await logsOf("syslog");
    for (const user of ["root", "alice"] as const) {
      const { status, findings } = await doctor({}, user);
      expect(status).toBe(0);
      expect(findings).toContainEqual(
        expect.objectContaining({
          check: "directories",
          level: "ok",
          message: expect.stringMatching(/^\/var\/log can be written by the group syslog.*can rename aegis/),
        }),
      );
    }
  });

  test("a problem of a parent directory: the hint names the parent", async () => {
    await logsOf("bob");
    expect((await doctor()).failed[0]?.fix).toStartWith("Type: ls -ld /var/log; ");
  });

  test("people see every check, what to do about a failure, and the count", async () => {
    host.write("/etc/aegis/policy.toml", "nonsense = 1\n");
    const { status, stdout } = await host.exec(["aegis", "doctor"]);
    expect(status).toBe(8);
    for (const check of [
      "host",
      "apt-get",
      "dpkg",
      "packages",
      "directories",
      "keys",
      "secrets",
      "executor",
      "reviewer",
      "model",
      "audit",
      "environment",
      "sudoers",
    ])
      expect(stdout).toMatch(new RegExp(`^[✓!] ${check} `, "m"));
    expect(stdout).toMatch(/^✗ policy +.*nonsense.*\n +\S.*$/m);
    expect(stdout).toMatch(/\n\n1 failure, \d warnings?\n$/);
  });

  test("the agents' rules are printed whatever the host's state", async () => {
    host.write("/etc/sudoers.d/aegis", "Defaults !env_reset\n", 0o440);
    const { status, stdout, stderr } = await host.exec(["aegis", "doctor", "--skill"], { user: "alice" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toStartWith("---\nname: aegis-production-ops\n");
  });

  test("it changes nothing", async () => {
    const list = async () =>
      // Bun's own cache is the machine's below this host: whatever test runs from sources meanwhile writes there.
      (
        await host.exec([
          ...["find", "/etc", "/root", "/var/lib", "/run", "-path", "/root/.bun", "-prune"],
          ...["-o", "-newer", "/etc/hostname", "-print"],
        ])
      ).stdout;
    const before = await list();
    await doctor();
    expect(await list()).toBe(before);
  });
});
