import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openAuditLog, recordUserEvent } from "../src/audit-log.ts";
import { saveDocument } from "../src/doc-store.ts";
import { openPlanning } from "../src/plan-world.ts";
import { loadPolicyConfig } from "../src/policy-config.ts";
import { ensureOwnDir, ownDirProblem, ownFileProblem } from "../src/sys-own-directory.ts";
import { needs } from "./needs.ts";
import { HOST, install } from "./policy-plans.ts";
import { refuses } from "./signing-kit.ts";

/* Root with another user's HOME, as with `sudo -E`. Alice needs no account: files can belong to a bare uid. */

const ALICE = 1007;
const asRoot = needs(process.geteuid?.() === 0, "root: the directories of root are what is guarded");

let root = "";
let alice = "";
/** Stands for a system directory that only root can change. */
let system = "";
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "aegis-own-"));
  chmodSync(root, 0o755);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => {
  for (const name of readdirSync(root)) rmSync(join(root, name), { recursive: true });
  alice = join(root, "home-alice");
  system = join(root, "system");
  mkdirSync(alice, { mode: 0o755 });
  chownSync(alice, ALICE, ALICE);
  mkdirSync(system, { mode: 0o755 });
});

/** Alice's files. */
function hers(path: string): string {
  mkdirSync(path, { recursive: true });
  for (let at = path; at.startsWith(alice); at = join(at, "..")) chownSync(at, ALICE, ALICE);
  return path;
}

const everything = (directory: string) =>
  readdirSync(directory, { recursive: true, withFileTypes: true }).map(({ parentPath, name }) =>
    join(parentPath, name),
  );

asRoot.describe("root refuses", () => {
  const CASES: [what: string, make: () => string, says: RegExp][] = [
    ["another user's", () => hers(join(alice, "aegis")), /home-alice belongs to another user \(uid 1007\)$/],
    [
      "a missing directory below another user's",
      () => join(alice, "a/b"),
      /home-alice belongs to another user/,
    ],
    [
      "root's own below another user's",
      () => {
        mkdirSync(join(alice, "roots"));
        return join(alice, "roots/aegis");
      },
      /home-alice belongs/,
    ],
    [
      "a link, root's own too",
      () => {
        symlinkSync(system, join(root, "link"));
        return join(root, "link");
      },
      /link is a symbolic link$/,
    ],
    [
      "below a link",
      () => {
        symlinkSync(system, join(root, "link"));
        return join(root, "link/aegis");
      },
      /link is a symbolic link$/,
    ],
    [
      "one that a group can write",
      () => {
        chmodSync(system, 0o775);
        return system;
      },
      /system can be written by others/,
    ],
    [
      "below one that everybody can write",
      () => {
        chmodSync(system, 0o777);
        return join(system, "aegis");
      },
      /system can be written by others/,
    ],
    [
      "one that everybody can write, sticky or not",
      () => {
        chmodSync(system, 0o1777);
        return system;
      },
      /system can be written by others/,
    ],
  ];
  for (const [what, make, says] of CASES) {
    test(what, async () => {
      const path = make();
      const before = everything(root);
      expect(ownDirProblem(path)).toMatch(says);
      const hint = await refuses(() => ensureOwnDir(path), "refused", "root can't use");
      expect(hint).toContain("sudo -H, or HOME=/root");
      expect(everything(root)).toEqual(before);
    });
  }
  test("no path at all", async () => {
    writeFileSync(join(root, "file"), "");
    await refuses(() => ensureOwnDir(join(root, "file/aegis")), "io", "/file is not a directory");
    expect(ownDirProblem(join(root, "file/aegis"))).toContain("/file is not a directory");
  });
  test("another user's file in root's directory", () => {
    const file = join(system, "policy.toml");
    writeFileSync(file, "");
    expect(ownFileProblem(file)).toBeNull();
    chownSync(file, ALICE, ALICE);
    expect(ownFileProblem(file)).toContain("belongs to another user");
  });
});

asRoot.describe("root accepts", () => {
  test("its own; missing ones are created private", () => {
    const path = join(system, "a/b/c");
    ensureOwnDir(path);
    ensureOwnDir(path);
    for (const made of [path, join(system, "a")]) expect(statSync(made).mode & 0o777).toBe(0o700);
    expect(ownDirProblem(path)).toBeNull();
    expect(ownDirProblem(join(system, "not/there"))).toBeNull();
  });
  test("its own below a sticky directory such as /tmp", () => {
    chmodSync(system, 0o1777);
    ensureOwnDir(join(system, "aegis"));
    expect(ownDirProblem(join(system, "aegis"))).toBeNull();
  });
  test("any directory for another user", () => {
    const path = join(alice, "x/y");
    ensureOwnDir(path, ALICE);
    expect(existsSync(path)).toBe(true);
  });
});

asRoot.describe("the attacks of a user whose HOME root has (S5)", () => {
  const env = () => ({ HOME: alice });
  const planningArgs = () => ({
    env: env(),
    host: HOST,
  });

  test("she swaps root's plan-* directory: root creates none there", async () => {
    const parent = hers(join(alice, ".cache/aegis/tmp"));
    await refuses(() => openPlanning(planningArgs()), "refused", "home-alice belongs to another user");
    expect(readdirSync(parent)).toEqual([]);
  });
  test("… and she can't swap one in root's own directory", () => {
    const planning = openPlanning({ ...planningArgs(), env: { HOME: alice, XDG_CACHE_HOME: system } });
    const [name = ""] = readdirSync(join(system, "aegis/tmp"));
    const swap = `require("fs").renameSync(${JSON.stringify(join(system, "aegis/tmp", name))}, "/tmp/swapped")`;
    const { exitCode } = Bun.spawnSync([
      ...["setpriv", `--reuid=${ALICE}`, `--regid=${ALICE}`, "--clear-groups"],
      ...[process.execPath, "-e", swap],
    ]);
    expect(exitCode).not.toBe(0);
    expect(readdirSync(join(system, "aegis/tmp"))).toEqual([name]);
    planning.close();
  });
  test("audit/lock is a link: the target's mode is unchanged", async () => {
    const audit = hers(join(alice, ".local/share/aegis/audit"));
    symlinkSync(system, join(audit, "lock"));
    await refuses(() => recordUserEvent(env(), { kind: "plan_created" }), "refused", "home-alice");
    expect(statSync(system).mode & 0o777).toBe(0o755);
    // And if the log's directory is root's, however the link got there.
    const own = join(root, "log");
    mkdirSync(own, { mode: 0o700 });
    symlinkSync(system, join(own, "lock"));
    await refuses(() => openAuditLog(own), "io", "not a directory");
    expect(statSync(system).mode & 0o777).toBe(0o755);
    expect(readdirSync(system)).toEqual([]);
  });
  test("audit is a link to the production log: nothing is written there", async () => {
    const data = hers(join(alice, ".local/share/aegis"));
    symlinkSync(system, join(data, "audit"));
    await refuses(() => recordUserEvent(env(), { kind: "plan_created" }), "refused", "home-alice");
    await refuses(() => openAuditLog(join(data, "audit")), "io");
    expect(readdirSync(system)).toEqual([]);
  });
  test("the same by AEGIS_AUDIT_LOG_DIR", async () => {
    const dir = hers(join(alice, "log"));
    await refuses(
      () => recordUserEvent({ HOME: "/root", AEGIS_AUDIT_LOG_DIR: dir }, { kind: "plan_created" }),
      "refused",
      "home-alice",
    );
    expect(readdirSync(dir)).toEqual([]);
  });
  test("plans is a link to apt.conf.d: root writes no file there", async () => {
    const data = hers(join(alice, ".local/share/aegis"));
    symlinkSync(system, join(data, "plans"));
    await refuses(() => saveDocument("plan", install(), env()), "refused", "home-alice");
    expect(readdirSync(system)).toEqual([]);
  });
  test("plans is a link in root's own data", async () => {
    const data = join(root, "data/aegis");
    ensureOwnDir(data);
    symlinkSync(system, join(data, "plans"));
    const own = { HOME: alice, XDG_DATA_HOME: join(root, "data") };
    await refuses(() => saveDocument("plan", install(), own), "refused", "plans is a symbolic link");
    expect(readdirSync(system)).toEqual([]);
  });
  test("her policy.toml is ignored for root", async () => {
    writeFileSync(join(hers(join(alice, ".config/aegis")), "policy.toml"), '[apt]\ninstall = "allow"\n');
    await refuses(() => loadPolicyConfig(env()), "invalid_config", "home-alice belongs to another user");
  });

  /** A process of Alice's that holds a lock on a file until killed. */
  async function flockOf(path: string) {
    const holder = Bun.spawn(
      [
        ...["setpriv", `--reuid=${ALICE}`, `--regid=${ALICE}`, "--clear-groups"],
        ...["flock", "--no-fork", path, "sh", "-c", "echo held; exec sleep 60"],
      ],
      { stdout: "pipe" },
    );
    await holder.stdout.getReader().read();
    return holder;
  }
  test("her flock on lock/append: root doesn't use that directory", async () => {
    const locks = hers(join(alice, ".local/share/aegis/audit/lock"));
    writeFileSync(join(locks, "append"), "");
    chownSync(join(locks, "append"), ALICE, ALICE);
    const holder = await flockOf(join(locks, "append"));
    try {
      await refuses(() => recordUserEvent(env(), { kind: "plan_created" }), "refused", "home-alice");
    } finally {
      holder.kill();
    }
  });
  test("a lock that is never released: the waiter names it and writes nothing", async () => {
    const dir = join(root, "log");
    const log = openAuditLog(dir, { lockWaitMs: 50 });
    log.append({ kind: "plan_created" });
    const path = join(dir, "lock/append");
    // She can't open it there; a hard link stands for a descriptor she obtained somehow.
    const name = join(hers(join(alice, "came-by")), "append");
    renameSync(path, name);
    chownSync(name, ALICE, ALICE);
    const holder = await flockOf(name);
    renameSync(name, path);
    try {
      const hint = await refuses(
        () => log.append({ kind: "plan_created" }),
        "busy",
        `lock ${path} for 0.05 sec`,
      );
      expect(hint).toContain("lslocks");
      expect(log.head()?.sequence).toBe(1);
    } finally {
      holder.kill();
      await holder.exited;
    }
    expect(log.append({ kind: "plan_created" }).sequence).toBe(2);
  });
});

describe("the log's directories", () => {
  test("a lock directory others can enter is made private, through a descriptor", () => {
    const dir = mkdtempSync(join(tmpdir(), "aegis-log-"));
    try {
      mkdirSync(join(dir, "lock"), { mode: 0o755 });
      openAuditLog(dir);
      expect(lstatSync(join(dir, "lock")).mode & 0o777).toBe(0o700);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
