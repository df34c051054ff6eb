import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { parseControl } from "../src/apt-control.ts";
import { parseDpkgStatus } from "../src/apt-dpkg.ts";
import { runAptHook } from "../src/apt-hook.ts";
import { packageFiles } from "../src/apt-hook-copy.ts";
import { checkControl, checkExclusions, checkFiles } from "../src/apt-hook-files.ts";
import { compareTransaction, parseHookInput } from "../src/apt-hook-input.ts";
import { RUN_FILES, readReceipt } from "../src/apt-hook-receipt.ts";
import { canonicalJson, sha256Hex } from "../src/canonical.ts";
import type { TransactionEntry } from "../src/doc-plan.ts";
import { AegisError } from "../src/errors.ts";
import { hashFile } from "../src/sys-files.ts";
import { needs } from "./needs.ts";
import { entry, removal } from "./policy-plans.ts";
import { refuses } from "./signing-kit.ts";

const recorded = (name: string) =>
  readFileSync(join(import.meta.dir, `fixtures/apt-hook/${name}.txt`), "utf8");
const MIXED = recorded("mixed");

const all = (
  name: string,
  action: TransactionEntry["action"],
  from: string | null,
  to: string,
): TransactionEntry => entry(name, { architecture: "all", action, from_version: from, to_version: to });
const libmulti = (architecture: string) => ({ ...all("libmulti", "upgrade", "1.0", "1.1"), architecture });
/** The transaction recorded in `mixed.txt`. */
const PLANNED: readonly TransactionEntry[] = [
  all("app", "upgrade", "1.0", "2.0"),
  removal("bystander", { architecture: "all", from_version: "1.0" }),
  all("hello-aegis", "upgrade", "1.0", "1.1"),
  all("libapp-extra", "install", null, "1.0"),
  libmulti("amd64"),
  libmulti("i386"),
  all("openssh-aegis", "downgrade", "1.1", "1.0"),
  all("phased", "reinstall", "1.0", "1.0"),
];
const without = (name: string) => PLANNED.filter((e) => e.name !== name);
const changed = (name: string, change: Partial<TransactionEntry>) =>
  PLANNED.map((e) => (e.name === name ? { ...e, ...change } : e));

/** A message from apt with these steps. */
const message = (...lines: string[]) =>
  `VERSION 3\nAPT::Architecture=amd64\n\n${lines.map((line) => `${line}\n`).join("")}`;
const HELLO = "hello 1.0 all none < 1.1 all none /a/hello_1.1_all.deb";

const HELLO_CONTROL = "Package: hello\nVersion: 1.1\nArchitecture: all\n";
/** The control fields of HELLO's file. */
const CONTROL = {
  name: "hello",
  version: "1.1",
  architecture: "all",
  essential: false,
  excludes: [],
  provides: [],
  replaces: [],
};

describe("a .deb with other control fields is refused", () => {
  const steps = parseHookInput(message(HELLO));
  const plan = [all("hello", "upgrade", "1.0", "1.1")];
  const CASES: [name: string, control: Partial<typeof CONTROL>, says: string][] = [
    ["another package", { name: "openssh-server" }, "calls its Package openssh-server, the plan says hello"],
    ["another version", { version: "66.6" }, "calls its Version 66.6"],
    ["another architecture", { architecture: "amd64" }, "calls its Architecture amd64"],
    ["essential, unsaid", { essential: true }, "is an essential package"],
  ];
  for (const [name, control, says] of CASES) {
    test(name, () => {
      expect(() => checkControl(steps, plan, () => ({ ...CONTROL, ...control }))).toThrow(says);
    });
  }
  test("the planned fields pass", () => {
    expect(checkControl(steps, plan, () => CONTROL)).toEqual([CONTROL]);
    const said = [{ ...all("hello", "upgrade", "1.0", "1.1"), essential: true }];
    expect(checkControl(steps, said, () => ({ ...CONTROL, essential: true }))).toHaveLength(1);
  });
});

describe("a .deb that conflicts with a package present afterwards", () => {
  const installed = parseDpkgStatus(
    ["openssh-server 1:9.2", "auditd 3.0", "gone 1.0"]
      .map((p) => p.split(" "))
      .map(([name, version]) => {
        const state = name === "gone" ? "deinstall ok config-files" : "install ok installed";
        const provides = name === "auditd" ? "Provides: auditing, audit-api (= 3)\n" : "";
        return `Package: ${name}\nStatus: ${state}\nArchitecture: amd64\nVersion: ${version}\n${provides}`;
      })
      .join("\n"),
  );
  const excluding = (conflicts: string) => [
    parseControl(`${HELLO_CONTROL}Conflicts: ${conflicts}\n`, "x.deb"),
  ];
  const plan = [all("hello", "upgrade", "1.0", "1.1")];
  for (const conflicts of [
    "openssh-server",
    "openssh-server (<< 2:1)",
    "a, openssh-server:amd64 (= 1:9.2)",
    "auditing",
    "audit-api (>= 2)",
  ]) {
    test(conflicts, () => {
      expect(() => checkExclusions(excluding(conflicts), plan, installed)).toThrow("would be there");
    });
  }
  for (const conflicts of [
    "",
    "openssh-server (<< 1:9)",
    "openssh-server:i386",
    "auditing (>= 1)",
    "audit-api (>= 4)",
    "gone",
    "hello",
    "nothing-there",
  ]) {
    test(`passes: ${conflicts}`, () => {
      expect(checkExclusions(excluding(conflicts), plan, installed)).toBeUndefined();
    });
  }
  test("passes: what the plan removes, or lifts out of the range", () => {
    const removes = [...plan, { ...removal("openssh-server"), from_version: "1:9.2" }];
    expect(checkExclusions(excluding("openssh-server"), removes, installed)).toBeUndefined();
    const newer = parseControl("Package: openssh-server\nVersion: 3:1\nArchitecture: amd64\n", "y.deb");
    const lifts = [...plan, entry("openssh-server", { from_version: "1:9.2", to_version: "3:1" })];
    const both = [...excluding("openssh-server (<< 2:1)"), newer];
    expect(checkExclusions(both, lifts, installed)).toBeUndefined();
    const older = parseControl("Package: openssh-server\nVersion: 1:9.3\nArchitecture: amd64\n", "y.deb");
    expect(() => checkExclusions([...excluding("openssh-server (<< 2:1)"), older], lifts, installed)).toThrow(
      "would be there",
    );
  });
});

describe("an ambiguous control file is refused", () => {
  const CASES: [name: string, text: string][] = [
    ["a carriage return hides fields", `X: a\rPackage: hello\rVersion: 1.1\n${HELLO_CONTROL}`],
    ["a repeated field", `${HELLO_CONTROL}Package: other\n`],
    ["two stanzas", `${HELLO_CONTROL}\nPackage: other\n`],
    ["a Unicode line separator hides fields", `X: a\u2028Package: hello\n${HELLO_CONTROL}`],
    ["nothing", ""],
    ["malformed relations", `${HELLO_CONTROL}Conflicts: a | b\n`],
  ];
  for (const [name, text] of CASES) {
    test(name, () => {
      expect(() => parseControl(text, "x.deb")).toThrow("can't be read");
    });
  }
  test("Essential is case-insensitive, as in dpkg; Protected counts too", () => {
    for (const field of ["Essential: Yes", "Essential: YES", "Protected: yes"]) {
      expect(parseControl(`${HELLO_CONTROL}${field}\n`, "x.deb").essential).toBe(true);
    }
  });
});

describe("apt's message is refused", () => {
  const CASES: [name: string, text: string, says: string][] = [
    ["nothing at all", "", "another version"],
    ["version 2 of the interface, recorded", recorded("version-2"), "another version"],
    ["version 1: file names alone", "/var/cache/apt/archives/hello.deb\n", "another version"],
    ["version 30", MIXED.replace("VERSION 3\n", "VERSION 30\n"), "another version"],
    ["settings without an end", "VERSION 3\nA=b\n", "another version"],
    [
      "a package without a file",
      message("hello 1.0 all none < 1.1 all none hello.deb"),
      "hello has no package file",
    ],
    ["a file with a relative path", message(HELLO.replace("/a/", "../a/")), "no package file"],
    ["an unknown action", message(HELLO.replace(/\/a.*/, "**PURGE**")), "no package file"],
    ["a truncated line", message("hello 1.0 all none < 1.1 all none"), "can't be read: hello 1.0"],
    ["a line truncated after a space", message("hello 1.0 all none < 1.1 all none "), "can't be read"],
    ["a line of one word", message("hello"), "can't be read"],
    ["an unknown operator", message(HELLO.replace(" < ", " ? ")), "unknown operator ?"],
    ["the same package twice", message(HELLO, HELLO), "hello:all occurs twice"],
    [
      "removed and installed",
      message("hello 1.0 all none > - - none **REMOVE**", HELLO),
      "hello:all occurs twice",
    ],
    [
      "two other packages that are only configured, recorded",
      recorded("configure-foreign"),
      "hello-aegis:all would be configured",
    ],
    [
      "another architecture is configured",
      message(HELLO, "hello 1.0 i386 none < 1.1 i386 none **CONFIGURE**"),
      "hello:i386 would be configured",
    ],
  ];
  for (const [name, text, says] of CASES)
    test(name, () => refuses(() => parseHookInput(text), "hook_refused", says));
});

describe("apt's message is read", () => {
  const names = (text: string) =>
    parseHookInput(text).map(
      (p) => `${p.action} ${p.name}:${p.architecture} ${p.from_version} ${p.to_version} ${p.file}`,
    );
  const CACHE = "/var/cache/apt/archives";
  const CASES: [name: string, text: string, expected: string[]][] = [
    [
      "recorded: everything at once",
      MIXED,
      [
        "remove bystander:all 1.0 null null",
        `install libapp-extra:all null 1.0 ${CACHE}/libapp-extra_1.0_all.deb`,
        `upgrade app:all 1.0 2.0 ${CACHE}/app_2.0_all.deb`,
        `upgrade hello-aegis:all 1.0 1.1 ${CACHE}/hello-aegis_1.1_all.deb`,
        `upgrade libmulti:i386 1.0 1.1 ${CACHE}/libmulti_1.1_i386.deb`,
        `upgrade libmulti:amd64 1.0 1.1 ${CACHE}/libmulti_1.1_amd64.deb`,
        `downgrade openssh-aegis:all 1.1 1.0 ${CACHE}/openssh-aegis_1.0_all.deb`,
        `reinstall phased:all 1.0 1.0 ${CACHE}/phased_1.0_all.deb`,
      ],
    ],
    [
      "recorded: removals",
      recorded("remove"),
      ["remove conffile-owner:all 1.0 null null", "remove hello-aegis:all 1.1 null null"],
    ],
    [
      "recorded: an install over old configuration files",
      recorded("over-config-files"),
      [`install conffile-owner:all null 1.1 ${CACHE}/conffile-owner_1.1_all.deb`],
    ],
    [
      "a path with spaces",
      message(HELLO.replace("/a/", "/a  b/")),
      ["upgrade hello:all 1.0 1.1 /a  b/hello_1.1_all.deb"],
    ],
    ["nothing to do", message(), []],
  ];
  for (const [name, text, expected] of CASES) test(name, () => expect(names(text)).toEqual(expected));

  test("property: any damage is refused or read, never another error", () => {
    fc.assert(
      fc.property(fc.nat(MIXED.length), fc.nat(40), fc.string(), (at, length, instead) => {
        try {
          parseHookInput(MIXED.slice(0, at) + instead + MIXED.slice(at + length));
        } catch (error) {
          if (!(error instanceof AegisError) || error.code !== "hook_refused") throw error;
        }
      }),
    );
  });
});

describe("a transaction that is not the plan's is refused", () => {
  const CASES: [name: string, planned: readonly TransactionEntry[], says: string][] = [
    ["an extra package", without("phased"), "phased:all (reinstall 1.0) is not in the plan"],
    ["an extra removal", without("bystander"), "bystander:all (remove ) is not in the plan"],
    ["an extra dependency", without("libapp-extra"), "libapp-extra:all (install 1.0) is not in the plan"],
    ["an extra architecture", PLANNED.filter((e) => e.architecture !== "i386"), "libmulti:i386"],
    [
      "another architecture",
      changed("hello-aegis", { architecture: "amd64" }),
      "hello-aegis:all (upgrade 1.1) is not in the plan",
    ],
    [
      "a package less",
      [...PLANNED, entry("more")],
      "more:amd64 is in the plan but not in what apt is about to do",
    ],
    ["a missing removal", [...PLANNED, removal("more")], "more:amd64 is in the plan but not"],
    ["nothing planned at all", [], "is not in the plan"],
    [
      "another new version",
      changed("app", { to_version: "2.1" }),
      "app:all: to_version is 2.0, the plan says 2.1",
    ],
    [
      "another old version",
      changed("app", { from_version: "0.9" }),
      "app:all: from_version is 1.0, the plan says 0.9",
    ],
    [
      "a downgrade for an upgrade",
      changed("openssh-aegis", { action: "upgrade" }),
      "action is downgrade, the plan says upgrade",
    ],
    [
      "an upgrade for an install",
      changed("app", { action: "install", from_version: null }),
      "action is upgrade, the plan says install",
    ],
    [
      "a reinstallation for an upgrade",
      changed("phased", { action: "upgrade", from_version: "0.9" }),
      "action is reinstall",
    ],
    [
      "a removal for an upgrade",
      changed("bystander", { action: "upgrade", to_version: "1.1" }),
      "action is remove",
    ],
    [
      "a version where none was planned",
      changed("libapp-extra", { from_version: "0.1" }),
      "from_version is none, the plan says 0.1",
    ],
  ];
  for (const [name, planned, says] of CASES)
    test(name, () => refuses(() => compareTransaction(parseHookInput(MIXED), planned), "hook_refused", says));

  test("the planned one passes, in any order", () => {
    compareTransaction(parseHookInput(MIXED), PLANNED);
    compareTransaction(parseHookInput(MIXED), PLANNED.toReversed());
    compareTransaction([], []);
  });
});

needs(process.getuid?.() === 0, "root").describe("package files", () => {
  let root: string;
  /** The run's private directory. */
  let archives: string;
  beforeAll(() => {
    // Not in /tmp: only root may be able to write to any directory above.
    root = mkdtempSync("/root/aegis-apt-hook-");
  });
  beforeEach(() => {
    archives = mkdtempSync(join(root, "archives-"));
    chmodSync(archives, 0o755);
  });
  afterAll(() => rmSync(root, { recursive: true }));

  const DEB = { sha256: sha256Hex("package"), size: 7 };
  const planned = (change: Partial<TransactionEntry> = {}) => [
    { ...all("hello", "upgrade", "1.0", "1.1"), ...DEB, ...change },
  ];
  const deb = () => join(archives, "x.deb");
  const steps = (file = deb()) => parseHookInput(message(HELLO.replace(/\/a.*/, file)));
  const check = (plan = planned(), file = deb()) => checkFiles(steps(file), plan, packageFiles(archives));
  const write = (text: string) => writeFileSync(deb(), text);

  const CASES: [name: string, prepare: () => unknown, planned: TransactionEntry[], says: string][] = [
    [
      "other bytes of the same size",
      () => write("paccage"),
      planned(),
      `has SHA-256 ${sha256Hex("paccage")}, the plan says ${DEB.sha256}`,
    ],
    ["more bytes", () => write("package!"), planned(), "has 8 bytes, the plan says 7"],
    ["fewer bytes", () => write("packag"), planned(), "has 6 bytes, the plan says 7"],
    ["no hash in the plan", () => write("package"), planned({ sha256: null }), "the plan says nothing"],
    ["no size in the plan", () => write("package"), planned({ size: null }), "the plan says nothing"],
    [
      "the plan's hash of another architecture",
      () => write("package"),
      planned({ architecture: "amd64" }),
      "the plan says nothing",
    ],
    [
      "a link",
      () => {
        writeFileSync(join(archives, "real"), "package");
        symlinkSync("real", deb());
      },
      planned(),
      "too many symbolic links",
    ],
    ["a FIFO", () => Bun.spawnSync(["mkfifo", deb()]), planned({ size: 0 }), "is not a regular file"],
    ["a directory", () => mkdirSync(deb()), planned(), "is not a regular file"],
    ["no file", () => {}, planned(), "no such file"],
    ["world-writable archives", () => chmodSync(archives, 0o777), planned(), "written by others"],
    ["archives that aren't root's", () => chownSync(archives, 65534, 0), planned(), "not belong to root"],
    [
      "archives that are a link",
      () => {
        symlinkSync(archives, `${archives}-link`);
        archives = `${archives}-link`;
        write("package");
      },
      planned(),
      "is a symbolic link",
    ],
    ["an existing directory of copies", () => mkdirSync(join(archives, "checked")), planned(), "EEXIST"],
  ];
  for (const [name, prepare, plan, says] of CASES) {
    test(`refused: ${name}`, () => {
      prepare();
      refuses(() => check(plan), "hook_refused", says);
    });
  }
  for (const place of [
    "/root/x.deb",
    "@/partial/x.deb",
    "@/../x.deb",
    "@//x.deb",
    "@/./x.deb",
    "@-more/x.deb",
  ]) {
    test(`refused: a file outside the run's archives, ${place}`, () => {
      write("package");
      refuses(() => check(planned(), place.replace("@", archives)), "hook_refused", "is not in");
    });
  }

  test("a descriptor opened for writing before the check can't change the file after it", () => {
    write("package");
    chownSync(deb(), 65534, 0);
    const kept = openSync(deb(), "r+");
    const link = join(root, "link-kept");
    linkSync(deb(), link);
    expect(check()).toBe(1);
    writeSync(kept, "paccage", 0);
    closeSync(kept);
    writeFileSync(link, "paccage");
    rmSync(link);
    expect(readFileSync(deb(), "utf8")).toBe("package");
    const { uid, gid, mode, nlink } = statSync(deb());
    expect([uid, gid, mode & 0o7777, nlink]).toEqual([0, 0, 0o644, 1]);
    expect(statSync(join(archives, "checked")).mode & 0o7777).toBe(0o700);
    expect(readdirSync(join(archives, "checked"))).toEqual([]);
  });
  test("a full file system: refused, with nothing left behind", () => {
    // A file-size limit stops the copy like a full disk.
    const code = `
      import { packageFiles } from ${JSON.stringify(join(import.meta.dir, "../src/apt-hook-copy.ts"))};
      process.on("SIGXFSZ", () => {});
      try { packageFiles(process.argv[2]).replace(process.argv[2] + "/x.deb", 3_000_000); }
      catch (error) { console.log(error.code, error.message); }`;
    const script = join(root, "full.ts");
    writeFileSync(script, code);
    writeFileSync(deb(), Buffer.alloc(3_000_000, "x"));
    const limited = ["prlimit", "--fsize=2000000", process.execPath, script, archives];
    const { stdout } = Bun.spawnSync(limited, { env: {} });
    expect(stdout.toString()).toStartWith(`hook_refused can't copy ${deb()}: `);
    expect(readdirSync(join(archives, "checked"))).toEqual([]);
    expect(statSync(deb()).size).toBe(3_000_000);
  });
  test("the planned bytes pass; removals have none", () => {
    write("package");
    expect(check()).toBe(1);
    rmSync(join(archives, "checked"), { recursive: true });
    expect(checkFiles(parseHookInput(recorded("remove")), [], packageFiles(archives))).toBe(0);
  });
  test("hashFile reads in pieces", () => {
    const big = Buffer.alloc(5_000_001, "x");
    writeFileSync(join(root, "big"), big);
    expect(hashFile(join(root, "big"))).toEqual({ sha256: sha256Hex(big), size: big.length });
  });

  describe("the hook", () => {
    let run: string;
    let built: string;
    let input: string;
    let real: TransactionEntry[];
    const said: string[] = [];
    const hook = (text = input) =>
      runAptHook(run, text, (line) => void said.push(line), { archives, read: () => CONTROL });
    beforeAll(() => {
      const control = [
        "Package: hello",
        "Version: 1.1",
        "Architecture: all",
        "Maintainer: x",
        "Description: x",
        "",
      ];
      mkdirSync(join(root, "tree/DEBIAN"), { recursive: true });
      writeFileSync(join(root, "tree/DEBIAN/control"), control.join("\n"));
      built = join(root, "hello.deb");
      expect(Bun.spawnSync(["dpkg-deb", "--build", join(root, "tree"), built]).exitCode).toBe(0);
      real = planned(hashFile(built));
    });
    beforeEach(() => {
      run = mkdtempSync(join(root, "run-"));
      copyFileSync(built, deb());
      input = message(HELLO.replace(/\/a.*/, deb()));
      writeFileSync(join(run, RUN_FILES.expected), canonicalJson(real));
      said.length = 0;
    });

    test("passes the planned change, with a receipt", () => {
      expect([hook(), said]).toEqual([0, []]);
      expect(readReceipt(run)).toEqual({
        ok: true,
        reason: null,
        input_sha256: sha256Hex(input),
        files_checked: 1,
      });
      expect(readFileSync(join(run, RUN_FILES.decision), "utf8")).toBe("hook");
    });

    const REFUSED: [name: string, prepare: () => unknown, says: string][] = [
      ["another transaction", () => writeFileSync(join(run, RUN_FILES.expected), "[]"), "is not in the plan"],
      ["no transaction to compare with", () => rmSync(join(run, RUN_FILES.expected)), "ENOENT"],
      [
        "a transaction that isn't one",
        () => writeFileSync(join(run, RUN_FILES.expected), '[{"name":"hello"}]'),
        "",
      ],
      [
        "a run that was stopped",
        () => writeFileSync(join(run, RUN_FILES.decision), "stopped"),
        "the run was stopped",
      ],
      ["a second call", () => hook(), "the run was stopped"],
      ["version 2", () => (input = recorded("version-2")), "another version"],
      ["nothing on its input", () => (input = ""), "another version"],
    ];
    for (const [name, prepare, says] of REFUSED) {
      test(`refuses, with a receipt: ${name}`, () => {
        prepare();
        expect(hook()).toBe(1);
        expect(readReceipt(run)).toEqual({
          ok: false,
          reason: expect.stringContaining(says),
          input_sha256: sha256Hex(input),
          files_checked: 0,
        });
        expect(said).toEqual([expect.stringContaining("aegis: refused before unpacking: ")]);
      });
    }

    test("fails if it can't write a receipt", () => {
      rmSync(run, { recursive: true });
      expect(() => hook()).toThrow();
    });

    test("a missing or damaged receipt is null", () => {
      expect(readReceipt(run)).toBeNull();
      for (const text of ["", "{}", '{"ok":true}', "null"]) {
        writeFileSync(join(run, RUN_FILES.receipt), text);
        expect(readReceipt(run)).toBeNull();
      }
      expect(existsSync(join(run, RUN_FILES.decision))).toBe(false);
    });
  });
});
