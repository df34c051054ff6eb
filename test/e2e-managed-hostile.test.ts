import { afterAll, afterEach, beforeAll, describe, expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { tarEntry } from "./archive-kit.ts";
import type { FakeCrate } from "./cargo-kit.ts";
import { eventually, submit } from "./e2e-running.ts";
import { type FakeModule, fakeProxy, PROXY } from "./go-kit.ts";
import { AVAILABLE, ManagedChain, type ManagedToolName } from "./managed-chain.ts";
import {
  npmArchive,
  Registries,
  TRICKS,
  type Trick,
  tenGigabytes,
  wheelOfBytes,
} from "./managed-registries.ts";
import { needs } from "./needs.ts";
import type { FakePackage } from "./npm-kit.ts";
import { type FakeWheel, wheel } from "./pip-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * Hostile registries and packages, with the real npm, pip, Go and cargo and the compiled program: each is refused at the step that can
 * see it first, with its reason, and what is installed stays as it is.
 */

const MANY_ZEROS = "\0".repeat(32 << 20);

const app = (version: string): FakePackage => ({
  ...{ name: "app", version },
  manifest: {
    ...{ bin: { app: "cli.js" }, dependencies: { words: "^1.0.0" } },
    optionalDependencies: { extra: "^1.0.0" },
  },
  files: { "cli.js": "#!/usr/bin/env node\nconsole.log(require('words'))\n" },
});
const words = (version: string): FakePackage => ({
  ...{ name: "words", version, manifest: { main: "i.js" } },
  files: { "i.js": "module.exports = 'hello'\n" },
});
const needing = (name: string, dependencies: Record<string, string>): FakePackage => ({
  ...{ name, version: "1.0.0", manifest: { dependencies } },
});
const NPM: FakePackage[] = [
  ...["1.0.0", "1.1.0", "1.2.0", "1.3.0"].map(app),
  words("1.0.0"),
  words("1.1.0"),
  { name: "extra", version: "1.0.0" },
  needing("deep-git", { middle: "1" }),
  needing("middle", { evil: "git+https://127.0.0.1:1/evil.git" }),
  needing("lacking", { nobody: "1" }),
  npmArchive("linking", tarEntry("package/l", "", { type: "2", link: "/etc/passwd" })),
  npmArchive("hard-linking", tarEntry("package/l", "", { type: "1", link: "package/package.json" })),
  { name: "zeros", version: "1.0.0", tarball: tenGigabytes() },
  { name: "moved", version: "1.0.0" },
];

const theApp = (version: string): FakeWheel => ({
  ...{ name: "the-app", version, requires: ["words>=1"] },
  files: {
    "the_app/cli.py": "def main():\n    print('hello')\n",
    [`the_app-${version}.dist-info/entry_points.txt`]: "[console_scripts]\nthe-app = the_app.cli:main\n",
  },
});
const wheelNeeding = (name: string, files: Record<string, string> = {}): FakeWheel => ({
  ...{ name, version: "1.0", files },
});
const LINK_WHEEL = wheelOfBytes("linking", [{ name: "linking/l", body: "/etc/passwd", mode: 0o120777 }]);
const PIP: FakeWheel[] = [
  ...["1.0", "1.1", "1.2"].map(theApp),
  wheelNeeding("words"),
  { ...wheelNeeding("lying"), record: (lines) => lines.map((line) => line.replace(/sha256=./, "sha256=x")) },
  { ...wheelNeeding("lacking"), requires: ["nobody"] },
  { ...wheelNeeding("deep-git"), requires: ["middle"] },
  { ...wheelNeeding("middle"), requires: ["evil @ git+https://127.0.0.1:1/evil.git"] },
  wheelNeeding("moved"),
  wheelNeeding("thief", { "words/__init__.py": "STOLEN = 1\n" }),
  { ...wheelNeeding("with-thief"), requires: ["words", "thief"] },
];
const SDIST = {
  filename: "source-only-1.0.tar.gz",
  url: "https://files.example/s.tgz",
  hashes: { sha256: "0".repeat(64) },
};

const goModule = (path: string, files: Record<string, string>, requires = ""): FakeModule => ({
  ...{ path, version: "v1.0.0" },
  files: {
    "go.mod": `module ${path}\n\ngo 1.17\n${requires}`,
    "main.go": 'package main\nfunc main() { println("hello") }\n',
    ...files,
  },
});
const OTHER_SUM = goModule("other-sum.example/m", {});
const GO: FakeModule[] = [
  goModule("app.example/app", {}),
  OTHER_SUM,
  goModule("climbing.example/m", { "../x.go": "package x\n" }),
  goModule("two-cases.example/m", { "A.txt": "1", "a.txt": "2" }),
  goModule("zeros.example/m", { z: MANY_ZEROS }),
  goModule("lacking.example/m", {}, "\nrequire nobody.example/x v1.0.0\n"),
  goModule("replacing.example/m", {}, "\nreplace words.example/w => ../w\n"),
  goModule("moved.example/m", {}),
];

const crate = (name: string, over: Partial<FakeCrate> = {}): FakeCrate => ({
  ...{ name, version: "1.0.0", files: { "src/main.rs": 'fn main() { println!("hello"); }\n' } },
  ...over,
});
const crateOf = (name: string, ...entries: Buffer[]) =>
  crate(name, {
    archive: [
      tarEntry(`${name}-1.0.0/Cargo.toml`, `[package]\nname = "${name}"\nversion = "1.0.0"\n`),
      ...entries,
    ],
  });
const library = (name: string): FakeCrate => ({ name, version: "1.0.0", files: { "src/lib.rs": "" } });
const CARGO = [
  { crates: [crate("the-app", { dependencies: [{ name: "words", version: "1.0.0" }] }), library("words")] },
  { crates: [crate("without-lock")], lock: () => null },
  {
    crates: [
      crate("deep-git", { dependencies: [{ name: "middle", version: "1.0.0" }] }),
      { ...library("middle"), dependencies: [{ name: "evil", version: "1.0.0" }] },
      library("evil"),
    ],
    lock: (text: string) =>
      text.replace(
        /(name = "evil"\nversion = "1.0.0"\nsource = )"[^"]*"/,
        '$1"git+https://127.0.0.1:1/evil.git#1"',
      ),
  },
  { crates: [crateOf("climbing", tarEntry("climbing-1.0.0/../../x", "x"))] },
  { crates: [crateOf("linking", tarEntry("linking-1.0.0/l", "", { type: "2", link: "/etc/passwd" }))] },
  { crates: [crateOf("two-cases", tarEntry("two-cases-1.0.0/A", "1"), tarEntry("two-cases-1.0.0/a", "2"))] },
  { crates: [crateOf("zeros", tarEntry("zeros-1.0.0/z", MANY_ZEROS))] },
  { crates: [crate("moved")] },
  {
    crates: [crate("lacking", { dependencies: [{ name: "nobody", version: "1.0.0" }] })],
    lock: (text: string) => text,
  },
];

const MOVED = [
  "/npm/moved",
  "/pip/simple/moved/",
  "/go/moved.example/m/@v/v1.0.0.mod",
  "/cargo/index/mo/ve/moved",
];

/** The entry of a project that offers the file of another as its own. */
function twinOf(name: string): Record<string, unknown> {
  const other = PIP.find((one) => one.name === name) ?? wheelNeeding(name);
  const filename = "twin-1.0-py3-none-any.whl";
  const sha256 = new Bun.CryptoHasher("sha256").update(wheel(other)).digest("hex");
  return {
    filename,
    url: `https://files.example/${filename}`,
    hashes: { sha256 },
    "upload-time": "2020-01-02T03:04:05Z",
  };
}

const EVIL = "/usr/local/share/EVIL";
const PLANTED = "/srv/planted";
const NPMRC = `node-options=--require=${EVIL}.js\nscript-shell=${EVIL}\ngit=${EVIL}\nprefix=/tmp/EVIL\nignore-scripts=false\n`;
const PIP_CONF = "[global]\ntarget = /tmp/EVIL\nuser = true\nno-binary = :all:\n";
const CARGO_TOML = `[build]\nrustc-wrapper = "${EVIL}"\nrustc = "${EVIL}"\ntarget-dir = "/tmp/EVIL"\n[install]\nroot = "/tmp/EVIL"\n`;
const GO_ENV = `GOFLAGS=-toolexec=${EVIL}\nGOPROXY=http://127.0.0.1:1\n`;
/** Programs that say EVIL and fail, and settings that name them. */
const PLANTED_FILES: Readonly<Record<string, string>> = {
  [EVIL]: "#!/bin/sh\necho EVIL >&2\nexit 66\n",
  [`${EVIL}.js`]: "console.error('EVIL'); process.exit(66);\n",
  [`${EVIL}.d/sitecustomize.py`]: "raise SystemExit('EVIL')\n",
  ...Object.fromEntries(
    ["/root", PLANTED].flatMap((home) => [
      [`${home}/.npmrc`, NPMRC],
      [`${home}/.config/pip/pip.conf`, PIP_CONF],
      [`${home}/.pip/pip.conf`, PIP_CONF],
      [`${home}/pip.conf`, PIP_CONF],
      [`${home}/.cargo/config.toml`, CARGO_TOML],
      [`${home}/.config/go/env`, GO_ENV],
      [`${home}/go.work`, "go 1.17\nuse ./evil\n"],
      [`${home}/sitecustomize.py`, "raise SystemExit('EVIL')\n"],
      [`${home}/pip.py`, "raise SystemExit('EVIL')\n"],
      [`${home}/Cargo.toml`, "evil\n"],
      [`${home}/rust-toolchain.toml`, '[toolchain]\nchannel = "evil"\n'],
    ]),
  ),
};
const PLANTED_ENV: Readonly<Record<string, string>> = {
  ...{ NODE_OPTIONS: `--require=${EVIL}.js`, npm_config_prefix: "/tmp/EVIL", npm_config_script_shell: EVIL },
  ...{
    PYTHONPATH: `${EVIL}.d`,
    PYTHONSTARTUP: `${EVIL}.d/sitecustomize.py`,
    PIP_TARGET: "/tmp/EVIL",
    PIP_NO_BINARY: ":all:",
  },
  ...{ GOFLAGS: `-toolexec=${EVIL}`, GOBIN: "/tmp/EVIL", GOTOOLCHAIN: "go9.9", CC: EVIL },
  ...{ RUSTC_WRAPPER: EVIL, RUSTC: EVIL, CARGO_INSTALL_ROOT: "/tmp/EVIL", CARGO_TARGET_DIR: "/tmp/EVIL" },
  ...{ BASH_ENV: EVIL, TMPDIR: "/tmp/EVIL-none" },
};

/** A packument before its newest version came out. */
function withoutVersion(packument: Buffer, version: string): string {
  const all = JSON.parse(packument.toString());
  delete all.versions[version];
  return JSON.stringify({ ...all, "dist-tags": { latest: Object.keys(all.versions).at(-1) } });
}
/** Addresses of a file that each tool's closure needs, and what else its registry says of it. */
const FILE: Readonly<Record<ManagedToolName, string>> = {
  npm: "/npm/words/-/words-1.0.0.tgz",
  pip: "/pip/files/words-1.0-py3-none-any.whl",
  go: "/go/app.example/app/@v/v1.0.0.zip",
  cargo: "/cargo/files/words/1.0.0/download",
};
const TARGET: Readonly<Record<ManagedToolName, string>> = {
  npm: "app@1.0.0",
  pip: "the-app==1.0",
  go: "app.example/app@v1.0.0",
  cargo: "the-app@1.0.0",
};
const edited =
  (from: string | RegExp, to: string): Trick =>
  (proper) =>
    new Response(proper.toString().replace(from, to), {
      headers: { "content-type": "application/vnd.pypi.simple.v1+json" },
    });

describeOnThrowaway("hostile registries and packages", () => {
  const registries = new Registries();
  let managed: ManagedChain;
  /** The packument of words, once a newer version is out. */
  let newestWords = "";
  beforeAll(async () => {
    registries.offer({
      ...{ npm: NPM, pip: PIP, go: GO, cargo: CARGO },
      pipFiles: { "source-only": [SDIST], linking: [LINK_WHEEL.entry], twin: [twinOf("words")] },
    });
    registries.replace(LINK_WHEEL.path, LINK_WHEEL.bytes);
    registries.replace("/pip/files/twin-1.0-py3-none-any.whl", registries.properAnswer(FILE.pip));
    const other = fakeProxy([
      { ...OTHER_SUM, files: { ...OTHER_SUM.files, "evil.go": "package main\n" } },
    ]).answers;
    const zip = "/other-sum.example/m/@v/v1.0.0.zip";
    registries.replace(`/go${zip}`, other[`${PROXY}${zip}`] ?? "");
    newestWords = registries.properAnswer("/npm/words").toString();
    registries.replace("/npm/words", withoutVersion(registries.properAnswer("/npm/words"), "1.1.0"));
    const elsewhere = { status: 302, location: `${registries.origin}/elsewhere` };
    for (const path of MOVED) registries.replace(path, elsewhere);
    managed = await ManagedChain.start(registries);
    for (const [path, text] of Object.entries(PLANTED_FILES)) managed.chain.host.write(path, text, 0o755);
    await managed.chain.startDaemon(PLANTED_ENV);
  }, 240_000);
  afterEach(() => managed.calm());
  afterAll(async () => {
    await managed.chain.stop();
    await registries.stop();
  });

  describe("can't be planned", () => {
    // What npm's and cargo's archives are refused for is seen by one reader, and so it is with pip's and Go's: the quicker ones show it.
    const ROWS: [tool: ManagedToolName, target: string, why: RegExp][] = [
      ["npm", "deep-git@1.0.0", /deep-git 1\.0\.0 → middle 1\.0\.0 → evil@git.* is from a git repository/],
      ["npm", "lacking@1.0.0", /lacking 1\.0\.0 → nobody@1: .* has no nobody/],
      ["npm", "linking@1.0.0", /linking 1\.0\.0: .*"package\/l" is a symbolic link/],
      ["npm", "hard-linking@1.0.0", /hard-linking 1\.0\.0: .*"package\/l" is a hard link/],
      ["npm", "zeros@1.0.0", /zeros 1\.0\.0: .* unpacks to far too much/],
      ["npm", "moved@1.0.0", /status 302, .* sends elsewhere.* not followed/],
      ["pip", "source-only==1.0", /source-only 1\.0: only a source archive, which would run its own code/],
      ["pip", "lying==1.0", /its RECORD lies about "lying\/__init__\.py"/],
      ["pip", "linking==1.0", /linking-1\.0.*: "linking\/l" is a link or a device/],
      ["pip", "lacking==1.0", /nobody \(lacking 1\.0\)\. The index has no nobody/],
      ["pip", "deep-git==1.0", /middle 1\.0 can't be used: it needs evil from an address \(git/],
      ["pip", "moved==1.0", /status 302, and sends elsewhere, which is not followed/],
      ["pip", "twin==1.0", /is of another package than twin 1\.0/],
      ["go", "other-sum.example/m@v1.0.0", /zip file of other-sum\.example\/m v1\.0\.0 is not the one/],
      ["go", "climbing.example/m@v1.0.0", /"climbing\.example\/m@v1\.0\.0\/\.\.\/x\.go" is no plain path/],
      ["go", "two-cases.example/m@v1.0.0", /differ by case alone/],
      ["go", "zeros.example/m@v1.0.0", /unpacks to far too much/],
      ["go", "lacking.example/m@v1.0.0", /nobody\.example\/x@v1\.0\.0: .*404/],
      ["go", "replacing.example/m@v1.0.0", /replace directive \(words\.example\/w => \.\.\/w\)/],
      ["go", "moved.example/m@v1.0.0", /answers 302 and sends elsewhere, which is not followed/],
      ["cargo", "without-lock@1.0.0", /has no Cargo\.lock: cargo would take whatever is newest/],
      ["cargo", "deep-git@1.0.0", /middle 1\.0\.0 needs evil 1\.0\.0 from a git repository/],
      ["cargo", "climbing@1.0.0", /climbing 1\.0\.0: .*\.\.\/x" is no plain path/],
      ["cargo", "linking@1.0.0", /linking 1\.0\.0: .* is a symbolic link/],
      ["cargo", "two-cases@1.0.0", /two-cases 1\.0\.0: .* differ by case alone/],
      ["cargo", "zeros@1.0.0", /zeros 1\.0\.0: .* unpacks to far too much/],
      ["cargo", "lacking@1.0.0", /nobody/],
    ];
    for (const [tool, target, why] of ROWS) {
      needs(AVAILABLE[tool], tool).test(`${tool} ${target}`, async () => {
        const { plan } = await managed.chain.plan(tool, "install", target);
        expect(plan.warnings.join("\n")).toMatch(why);
        expect([plan.metadata_available, plan.transaction]).toEqual([false, []]);
      });
    }

    needs(AVAILABLE.cargo, "cargo").test("cargo moved@1.0.0", async () => {
      const { status, stderr } = await managed.chain.aegis(["plan", "cargo", "install", "moved@1.0.0"]);
      expect([status, stderr]).toEqual([
        8,
        expect.stringMatching(/302 and sends elsewhere, which is not followed/),
      ]);
    });

    needs(AVAILABLE.npm, "npm").test("and what can't be planned can't be signed", async () => {
      const { plan } = await managed.chain.plan("npm", "install", "deep-git@1.0.0");
      const { status, result } = await managed.chain.policy(plan.plan_id);
      expect([status, result.decision]).toEqual([3, "deny"]);
      const { status: signed } = await managed.chain.aegis([
        "sign",
        plan.plan_id,
        "--key",
        "/root/keys/sign",
        "--signer",
        "ops@example",
      ]);
      expect(signed).not.toBe(0);
    });
  });

  describe("is refused by the executor, which uses nothing up", () => {
    /** Signed once for each tool: a refusal uses nothing up. */
    const signed = new Map<ManagedToolName, Promise<{ path: string; id: string }>>();
    const signedOf = (tool: ManagedToolName) => {
      const known =
        signed.get(tool) ??
        managed.chain
          .signed(tool, "install", TARGET[tool])
          .then(({ path, execution }) => ({ path, id: execution.execution_plan_id }));
      signed.set(tool, known);
      return known;
    };

    type Refusal = [tool: ManagedToolName, what: string, path: string, trick: Trick, why: RegExp];
    const { npm, pip, cargo } = FILE;
    const WORDS = "/npm/words";
    const NEEDS_GIT = '"dependencies":{"e":"git+https://127.0.0.1:1/e.git"}';
    const PAGE = "/pip/simple/words/";
    const SUM = "/go/sumdb/sum.example/lookup/app.example/app@v1.0.0";
    const BETWEEN: Refusal[] = [
      ["npm", "a byte that differs", npm, TRICKS.flipped, /words 1\.0\.0: .* doesn't match its metadata/],
      ["npm", "a file that is gone", npm, TRICKS.gone, /words 1\.0\.0: .* status 404/],
      ["npm", "a redirect", npm, TRICKS.elsewhere, /status 302, with a redirect .* which is not followed/],
      [
        "npm",
        "a dependency more",
        WORDS,
        edited('"main"', '"dependencies":{"extra":"1"},"main"'),
        /its dependencies are not those in the registry \(extra\)/,
      ],
      [
        "npm",
        "a git dependency deep in the tree",
        WORDS,
        edited('"main"', `${NEEDS_GIT},"main"`),
        /words 1\.0\.0 → e@git.* is from a git repository/,
      ],
      [
        "npm",
        "an optional one that disappeared",
        "/npm/extra",
        TRICKS.gone,
        /signed install extra:all 1\.0\.0 .*; now it would be nothing/,
      ],
      [
        "npm",
        "a newer version",
        WORDS,
        () => new Response(newestWords),
        /now it would be install words:all 1\.1\.0/,
      ],
      ["npm", "metadata of ten gigabytes", WORDS, TRICKS.bomb, /the answer is larger than \d+ bytes/],
      ["npm", "metadata without end", WORDS, TRICKS.endless, /the answer is larger than \d+ bytes/],
      ["pip", "a byte that differs", pip, TRICKS.flipped, /doesn't match its metadata/],
      ["pip", "a redirect", pip, TRICKS.elsewhere, /status 302, with a redirect .* which is not followed/],
      ["pip", "another hash", PAGE, edited(/(?<="sha256":").{8}/, "00000000"), /doesn't match its metadata/],
      [
        "pip",
        "a source archive alone",
        PAGE,
        edited("words-1.0-py3-none-any.whl", "words-1.0.tar.gz"),
        /words 1\.0: only a source archive/,
      ],
      [
        "go",
        "a module whose sum differs",
        SUM,
        edited(/h1:./, "h1:x"),
        /the checksum database can't be believed about app\.example\/app/,
      ],
      ["cargo", "a byte that differs", cargo, TRICKS.flipped, /doesn't match its metadata/],
      [
        "cargo",
        "a redirect",
        cargo,
        TRICKS.elsewhere,
        /status 302, with a redirect .* which is not followed/,
      ],
      [
        "cargo",
        "another hash",
        "/cargo/index/wo/rd/words",
        edited(/(?<="cksum":").{8}/, "00000000"),
        /another file of words 1\.0\.0 than the Cargo\.lock of the-app names/,
      ],
      [
        "cargo",
        "a withdrawn crate",
        "/cargo/index/th/e-/the-app",
        edited('"yanked":false', '"yanked":true'),
        /has been withdrawn by its authors/,
      ],
    ];
    const LONGER = /words 1\.0\.0 than was signed: it is longer than the signed/;
    const FETCHED: Refusal[] = [
      [
        "npm",
        "a byte that differs",
        npm,
        TRICKS.flipped,
        /words 1\.0\.0 than was signed: it has another SHA-256/,
      ],
      ["npm", "a byte more", npm, TRICKS.longer, LONGER],
      ["npm", "a byte less", npm, TRICKS.shorter, /words 1\.0\.0 than was signed: it has \d+ bytes instead/],
      ["npm", "ten gigabytes behind a content encoding", npm, TRICKS.bomb, LONGER],
      ["npm", "a file without end", npm, TRICKS.endless, LONGER],
      [
        "pip",
        "a byte that differs",
        pip,
        TRICKS.flipped,
        /words 1\.0 than was signed: it has another SHA-256/,
      ],
      [
        "cargo",
        "a byte that differs",
        cargo,
        TRICKS.flipped,
        /words 1\.0\.0 than was signed: it has another SHA-256/,
      ],
    ];
    const UNREACHABLE: Refusal[] = [
      ["npm", "a file that is gone", npm, TRICKS.gone, /words 1\.0\.0 can't be fetched: .* status 404/],
      [
        "npm",
        "a redirect",
        npm,
        TRICKS.elsewhere,
        /words 1\.0\.0 can't be fetched: .* sends elsewhere, which is not followed/,
      ],
    ];
    const rows = (refusals: readonly Refusal[], properTimes: number, code: string, check: string) => {
      for (const [tool, what, path, trick, why] of refusals)
        needs(AVAILABLE[tool], tool).test(`${tool}: ${what}`, async () => {
          const { path: plan, id } = await signedOf(tool);
          const before = managed.installed();
          registries.turn(path, trick, properTimes);
          const applied = await managed.chain.apply(plan);
          expect([applied.status, applied.stderr]).toEqual([
            code === "unavailable" ? 8 : 9,
            expect.stringMatching(why),
          ]);
          const denied = managed.ended(id);
          expect(denied).toMatchObject({ kind: "execution_denied", code, check });
          expect(denied.message).toMatch(why);
          expect(managed.installed()).toEqual(before);
          expect(managed.leftOver()).toEqual([]);
        });
    };
    describe("between plan and run", () => rows(BETWEEN, 0, "drift", "plan-again"));
    describe("once the executor has planned again", () => {
      rows(FETCHED, 1, "evidence_mismatch", "laid-out");
      rows(UNREACHABLE, 1, "unavailable", "laid-out");
    });
  });

  describe("in the sandbox", () => {
    const ROOT = "/var/lib/aegis";
    /** What a tool gone bad does once it has installed what was signed. */
    // One run of each tool, since all of what differs is named; go compiles its standard library each time.
    const TAMPERED: [tool: ManagedToolName, what: string, after: string, why: RegExp][] = [
      [
        "npm",
        "a byte that differs, and a command more",
        `sed -i s/hello/hallo/ ${ROOT}/npm-global/lib/node_modules/app/node_modules/words/i.js; ln -s ../lib/node_modules/app/cli.js ${ROOT}/npm-global/bin/sudo`,
        /words\/i\.js.*bin\/sudo/,
      ],
      [
        "pip",
        "a byte that differs, and code that runs at every start",
        `echo >> ${ROOT}/pip-packages/the_app/cli.py; echo import os > ${ROOT}/pip-packages/x.pth`,
        /^(?=.*the_app\/cli\.py).*x\.pth/m,
      ],
      [
        "go",
        "another version in a program, and a program more",
        `cp ${ROOT}/go/bin/app ${ROOT}/go/bin/sudo; sed -i s/v1\\.0\\.0/v1.0.1/g ${ROOT}/go/bin/app`,
        /bin\/app.*v1\.0\.1.*bin\/sudo/,
      ],
      [
        "cargo",
        "a program more, and a record that differs",
        `cp ${ROOT}/cargo/bin/the-app ${ROOT}/cargo/bin/sudo; sed -i s/the-app/sudo/g ${ROOT}/cargo/.crates2.json`,
        /^(?=.*bin\/sudo).*crates2\.json/m,
      ],
    ];
    for (const [tool, what, after, why] of TAMPERED) {
      needs(AVAILABLE[tool], tool).test(`${tool}: ${what}`, async () => {
        const { path, execution } = await managed.chain.signed(tool, "install", TARGET[tool]);
        const before = managed.installed();
        managed.hook("after", after);
        const applied = await managed.chain.apply(path);
        expect([applied.status, applied.stdout]).toEqual([6, expect.stringMatching(why)]);
        const ended = managed.ended(execution.execution_plan_id);
        expect(ended).toMatchObject({ kind: "execution_completed", state: "failed", code: "hash_mismatch" });
        expect(ended.message).toMatch(/^what was installed isn't what was signed: /);
        expect(managed.installed()).toEqual(before);
        expect(managed.leftOver()).toEqual([]);
      });
    }

    for (const tool of ["npm", "pip"] as const) {
      needs(AVAILABLE[tool], tool).test(
        `${tool}: a byte of a fetched file changes on disk`,
        async () => {
          const { path, execution } = await managed.chain.signed(tool, "install", TARGET[tool]);
          const id = execution.execution_plan_id;
          managed.hook(
            "before",
            "for n in $(seq 300); do [ -e /usr/share/aegis-test/go ] && break; sleep 0.05; done",
          );
          const client = await submit(managed.chain, path);
          await eventually(() => managed.isBuilding());
          const file = managed.chain.host.path(`/var/cache/aegis/archives/${id}/1`);
          writeFileSync(file, await TRICKS.flipped(readFileSync(file)).bytes());
          managed.hook("go", "");
          expect(await client.exited).toBe(6);
          const ended = managed.ended(id);
          expect(ended).toMatchObject({
            ...{ kind: "execution_completed", state: "failed", code: "hash_mismatch" },
            message: expect.stringMatching(/^the fetched file of .* was changed on this host/),
          });
          expect(managed.leftOver()).toEqual([]);
        },
        60_000,
      );
    }

    needs(AVAILABLE.pip, "pip").test("pip: two packages with one file", async () => {
      const { path, execution } = await managed.chain.signed("pip", "install", "with-thief==1.0");
      const before = managed.installed();
      expect((await managed.chain.apply(path)).status).toBe(6);
      const ended = managed.ended(execution.execution_plan_id);
      expect(ended).toMatchObject({ state: "failed", code: "hash_mismatch" });
      expect(ended.message).toMatch(/words\/__init__\.py.*two packages have it/);
      expect(managed.installed()).toEqual(before);
    });
  });

  describe("settings planted in home, working directory and environment, of the planner and of the executor", () => {
    // Go's are in e2e-go.test.ts; and all of the above was run under these.
    const SAID: [tool: "npm" | "pip" | "cargo", program: [string, ...string[]]][] = [
      ["npm", ["/var/lib/aegis/npm-global/bin/app"]],
      ["pip", ["env", "PYTHONPATH=/var/lib/aegis/pip-packages", "/var/lib/aegis/pip-packages/bin/the-app"]],
      ["cargo", ["/var/lib/aegis/cargo/bin/the-app"]],
    ];
    for (const [tool, program] of SAID) {
      needs(AVAILABLE[tool], tool).test(`${tool}: change nothing`, async () => {
        const { host } = managed.chain;
        const argv = ["/usr/local/bin/aegis", "plan", tool, "install", TARGET[tool], "--json"];
        const { stdout } = await host.exec(argv, { env: PLANTED_ENV, cwd: PLANTED });
        const { path } = await managed.chain.sign(JSON.parse(stdout));
        const applied = await managed.chain.apply(path);
        expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("EVIL")]);
        const said = await host.exec(program, { user: "bob" });
        expect(`${said.stdout}${said.stderr}`).toBe("hello\n");
        expect(managed.leftOver()).toEqual([]);
      });
    }
    afterAll(async () => {
      const made = await managed.chain.host.exec(["find", "/tmp", "/root", PLANTED, "-name", "*EVIL*"]);
      expect(made.stdout).toBe("");
    });

    const ELSEWHERE: [tool: ManagedToolName, variable: string, value: (origin: string) => string][] = [
      ["npm", "npm_config_registry", (origin) => `${origin}/npm/`],
      ["pip", "PIP_INDEX_URL", (origin) => `${origin}/pip/simple/`],
      ["cargo", "AEGIS_CARGO_INDEX", (origin) => `sparse+${origin}/cargo/index/`],
    ];
    for (const [tool, variable, value] of ELSEWHERE) {
      needs(AVAILABLE[tool], tool).test(
        `${tool}: another registry is denied by policy, and unknown to the executor`,
        async () => {
          const other = new Registries();
          other.offer({ npm: NPM, pip: PIP, cargo: CARGO });
          const env = { [variable]: value(other.origin) };
          const { stdout } = await managed.chain.aegis(["plan", tool, "install", TARGET[tool], "--json"], {
            env,
          });
          const planned = JSON.parse(stdout);
          const { result } = await managed.chain.policy(planned.plan.plan_id);
          expect([result.decision, result.rules]).toEqual([
            "deny",
            expect.arrayContaining(["artifact-registry"]),
          ]);
          managed.allowRegistries([registries.host, other.host]);
          const { path, execution } = await managed.chain.sign(planned);
          const applied = await managed.chain.apply(path);
          managed.allowRegistries([registries.host]);
          await other.stop();
          expect([applied.status, applied.stderr]).toEqual([
            9,
            expect.stringContaining("which this host's executor doesn't know"),
          ]);
          expect(managed.ended(execution.execution_plan_id)).toMatchObject({
            kind: "execution_denied",
            code: "evidence_mismatch",
            check: "plan-again",
          });
        },
      );
    }
  });
});
