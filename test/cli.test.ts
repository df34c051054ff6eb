import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildWhereNeeded, PROGRAMS, type StartOptions, start } from "./kit.ts";
import { install } from "./policy-plans.ts";
import { temporaryDirectory } from "./varlink-kit.ts";

const { path: home, remove } = temporaryDirectory();
const HOME = join(home, "home");
const EMPTY = join(home, "empty");
/** Not /nonexistent: a program that runs as root with nobody's HOME creates that. */
const MISSING = join(home, "missing");
const ENV = {
  HOME,
  XDG_DATA_HOME: join(HOME, "data"),
  XDG_CONFIG_HOME: join(HOME, "config"),
  XDG_CACHE_HOME: join(HOME, "cache"),
  PATH: "/usr/bin:/bin",
};
const AUDIT_LOG = join(HOME, "data/aegis/audit/audit.ndjson");

beforeAll(() => {
  buildWhereNeeded();
  for (const directory of [HOME, EMPTY]) mkdirSync(directory);
});
afterAll(remove);

/** stdout and stderr: a text that must occur, or null for nothing at all. */
type Row = [words: string[], status: number, stdout: string | null, stderr: string | null];

const USAGE: Row[] = [
  [[], 2, null, "no command given"],
  [["plan", "apt", "install", "x", "--runtime", "docker"], 2, null, "apt has no runtimes"],
  [["plan", "docker", "pull", "x", "--runtime", "podman"], 2, null, "docker has no runtimes"],
  [["plan", "container", "pull", "x", "--runtime", "nerdctl"], 2, null, "--runtime takes docker or podman"],
  [["plan", "container", "pull", "x", "--runtime", "container"], 2, null, "--runtime takes docker or podman"],
  [["plan", "container", "pull", "a b", "--runtime", "docker"], 2, null, "can't be an image"],
  [["plan", "podman", "pull"], 2, null, "podman pull needs at least one target"],
  [["plan", "docker", "run", "x"], 2, null, "docker has no operation"],
  [["constructor"], 2, null, "unknown command: constructor"],
  [["__proto__"], 2, null, "unknown command: __proto__"],
  [["toString", "x"], 2, null, "unknown command: toString"],
  [["hasOwnProperty"], 2, null, "unknown command: hasOwnProperty"],
  [["daemon", "__proto__"], 2, null, "unknown command: aegis daemon __proto__"],
  [["daemon", "instal"], 2, null, "Did you mean: aegis daemon install?"],
  [["daemon", "uninstal"], 2, null, "Did you mean: aegis daemon uninstall?"],
  [["daemon", "restart"], 2, null, "Type: systemctl restart aegisd.service"],
  [["daemon", "start"], 2, null, "Type: systemctl start aegisd.service"],
  [["daemon", "nonsense"], 2, null, "Type: aegis daemon install | uninstall | status"],
  [["audit", "verfy"], 2, null, "Did you mean: aegis audit verify?"],
  [["audit", "constructor"], 2, null, "unknown command: aegis audit constructor"],
  [["audit"], 2, null, "path | show | installed | report | verify"],
  [["audit path"], 2, null, "unknown command: audit path"],
  [["sign keygen"], 2, null, "unknown command: sign keygen"],
  [[""], 2, null, "unknown command"],
  [["--nonsense"], 2, null, "unknown command: --nonsense"],
  [["pln", "apt", "update"], 2, null, "Did you mean: aegis plan?"],
  [["--version", "--bogus"], 2, null, "unexpected word --bogus"],
  [["--help", "extra"], 2, null, "unexpected word extra"],
  [["help", "constructor"], 2, null, "unknown command: constructor"],
  [["help", "__proto__"], 2, null, "unknown command: __proto__"],
  [["help", "snapshot"], 2, null, "Did you mean: aegis help snapshots?"],
  [["help", "keys", "units"], 2, null, "unknown command: keys"],
  [["help", "plan", "apt"], 2, null, "unexpected word apt"],
  [["help", "sign", "keygn"], 2, null, "unexpected word keygn"],
  [["help", "daemon", "uninstal"], 2, null, "Did you mean: aegis daemon uninstall?"],
  [["help", "plan", "--man"], 2, null, "--man takes no words"],
  [["help", "--all"], 2, null, "unknown flag --all"],
  [["completion"], 2, null, "<shell> is missing"],
  [["completion", "tcsh"], 2, null, "Type: aegis completion bash | zsh | fish"],
  [["completion", "constructor"], 2, null, 'no completion for "constructor"'],
  [["completion", "__proto__"], 2, null, 'no completion for "__proto__"'],
  [["completion", "\u202ehsab"], 2, null, "\\u{202e}hsab"],
  [["completion", "bash", "zsh"], 2, null, "unexpected word zsh"],
  [["plan"], 2, null, "<ecosystem> is missing"],
  [["plan", "apt"], 2, null, "Try: aegis plan apt update · aegis plan apt upgrade"],
  [["plan", "install", "hello"], 2, null, "Type: aegis plan apt install hello"],
  [["plan", "install", "a b"], 2, null, "Type: aegis plan apt install 'a b'"],
  [["plan", "repair"], 2, null, "Type: aegis plan apt repair"],
  [["plan", "bogus", "install", "x"], 2, null, 'no ecosystem "bogus"'],
  [["plan", "constructor", "install", "x"], 2, null, 'no ecosystem "constructor"'],
  [["plan", "__proto__", "install", "x"], 2, null, 'no ecosystem "__proto__"'],
  [["plan", "apt", "dist-upgrade", "x"], 2, null, 'apt has no operation "dist-upgrade"'],
  [["plan", "rollback"], 2, null, "Type: aegis plan rollback <execution>"],
  [["rollback", "latest"], 2, null, "Type: aegis plan rollback <execution>"],
  [["plan", "rollback", "hello"], 2, null, "there is no execution hello on this host"],
  [
    ["plan", "rollback", "1b7b4a3e-7c9e-4f6a-9a44-af0c2d3e4f50", "x"],
    2,
    null,
    "a rollback takes one execution",
  ],
  [["plan", "apt", "toString", "x"], 2, null, 'apt has no operation "toString"'],
  [["plan", "apt", "install"], 2, null, "at least one target"],
  [["plan", "apt", "install", "nginx", "--yes"], 2, null, "unknown flag --yes"],
  [["plan", "apt", "install", "x", "--out"], 2, null, "--out needs a value"],
  [["apt", "install", "nginx"], 2, null, "Type: aegis plan apt install nginx"],
  [["apt", "install", "nginx", "-y"], 2, null, "Type: aegis plan apt install nginx"],
  [["apt", "install", "$(id)"], 2, null, "Type: aegis plan apt install '$(id)'"],
  [["npm", "install", "left-pad"], 2, null, "Type: aegis plan npm install left-pad"],
  [["docker", "pull", "x", "--", "--plan"], 2, null, "aegis never runs docker directly"],
  [["apt", "install", "--plan", "--plan"], 2, null, "unknown flag --plan"],
  [["apt", "install", "--plan"], 2, null, "at least one target"],
  [["policy", "latest"], 2, null, "there is no operation plan yet"],
  [["review", "latest"], 2, null, "there is no operation plan yet"],
  [["policy", "01234567"], 2, null, "an id starting with 01234567"],
  // No id begins like that: it is the name of a file.
  [["policy", "0123456789"], 2, null, "8 characters of it, latest, or -"],
  [["policy", "/nonexistent/plan.json"], 2, null, "/nonexistent/plan.json"],
  [["policy", "x", "y"], 2, null, "unexpected word y"],
  [["policy", "-"], 2, null, "standard input: not valid JSON"],
  [["policy", "latst"], 2, null, "8 characters of it, latest, or -"],
  [["policy", "/dev/null/plan"], 2, null, "can't read /dev/null/plan: a part of that path is a file"],
  [["policy", "x".repeat(300)], 2, null, "that name is too long"],
  [["sign", "keygen", "--out", "/tmp"], 2, null, "/tmp is a directory"],
  [["sign", "keygen", "--out", join(MISSING, "key")], 2, null, `in ${MISSING}: no such file or directory`],
  // Where nothing answers is never asked: an id that can't be one is refused before.
  [["apply", "--watch", "latest", "--socket", "/nonexistent/s"], 2, null, "full id, which latest is not"],
  [["apply", "--watch", "0123abcd", "--socket", "/nonexistent/s"], 2, null, "Ids: aegis daemon status"],
  [
    ["apply", "--watch", "./plan.json", "--socket", "/nonexistent/s"],
    2,
    null,
    "aegis apply <execution-plan>",
  ],
  [["policy", "report"], 2, null, "--execution-public-key-hex"],
  [["policy", "report", "--allow-unverified-execution-signature"], 2, null, "at least one signed plan"],
  [["sign"], 2, null, "name one plan"],
  [["sign", "latest"], 2, null, "path or full id"],
  [["verify"], 2, null, "name one execution plan"],
  [["verify", "--execution-plan", MISSING], 2, null, MISSING],
  [["apply", "latest"], 2, null, "path or full id"],
  [["apply", "01234567"], 2, null, "path or full id"],
  [["apply", "--execution-plan", MISSING], 2, null, MISSING],
  [["apply", "a", "--execution-plan", "b"], 2, null, "name one execution plan"],
  [["daemon"], 2, null, "name one service"],
  [["doctor", "--skill=1"], 2, null, "--skill takes no value"],
  [["doctor", "--skil"], 2, null, "did you mean --skill?"],
  [["daemon", "--executor", "--reviewer"], 2, null, "name one service"],
  [["daemon", "--hook", "apt"], 2, null, "--hook and --run go together"],
  [["daemon", "--recover", "--run", "/run/x"], 2, null, "--hook and --run go together"],
  [["daemon", "--hook", "npm", "--run", "/run/x"], 2, null, "is not a tool that calls aegis back"],
  [["daemon", "--hook", "constructor", "--run", "/run/x"], 2, null, "is not a tool that calls aegis back"],
  [["daemon", "--executor", "--key", "k"], 2, null, "--key belongs to --reviewer"],
  [["daemon", "--reviewer", "--public-key-hex", "ab"], 2, null, "to the executor"],
  [["audit-path", "extra"], 2, null, "unexpected word extra"],
  [["audit-verify", "--path", "/nonexistent/log"], 2, null, "/nonexistent/log"],
  [["policy", "\u202egnp.json"], 2, null, "\\u{202e}gnp.json"],
  [["\u200bplan"], 2, null, "\\u{200b}plan"],
  [["\u001b]0;title\u0007"], 2, null, "\\x1b]0;title\\x07"],
  [["apt", "install", "\u001b[2J\u2066x\u2069"], 2, null, "\\x1b[2J\\u2066x\\u2069"],
  [["plan", "apt", "install", "a\nb"], 2, null, "a\\nb"],
  [["daemon", "status", "--socket", "/nonexistent/s"], 8, null, "/nonexistent/s"],
  // Without a mistake these two would work on the machine that runs the tests: see host-install.test.ts.
  [["daemon", "install", "--dry-rum"], 2, null, "did you mean --dry-run?"],
  [["daemon", "uninstall", "now"], 2, null, "unexpected word now"],
];

const NOT_BUILT: Row[] = [
  [["audit", "checkpoint"], 1, null, "not built yet"],
  [["audit", "prove"], 1, null, "not built yet"],
];

const GOOD: Row[] = [
  [["--version"], 0, "aegis ", null],
  [["--help"], 0, "aegis plan apt install <package>", null],
  [["-h"], 0, "aegis audit verify", null],
  [["help"], 0, "aegis audit verify", null],
  [["help", "plan"], 0, "USAGE aegis plan", null],
  [["help", "sign", "keygen"], 0, "USAGE aegis sign keygen", null],
  [["help", "snapshots"], 0, "lvm:<id>", null],
  [["help", "--man"], 0, ".TH AEGIS 1", null],
  [["completion", "bash"], 0, "complete -F _aegis aegis", null],
  [["completion", "zsh"], 0, "#compdef aegis", null],
  [["completion", "fish"], 0, "complete -c aegis", null],
  [["plan", "--help"], 0, "USAGE aegis plan", null],
  [["plan", "-h"], 0, "rollback, repair", null],
  [["daemon", "--help"], 0, "aegis daemon install, uninstall, status", null],
  [["apt", "install", "--plan", "--help"], 0, "USAGE aegis plan", null],
  [["audit", "path"], 0, AUDIT_LOG, null],
  [["audit-path"], 0, AUDIT_LOG, null],
  [["keygen"], 0, "secret_key_hex", null],
  [["sign", "keygen"], 0, "public_key_hex", null],
  [["policy", "rules"], 0, "apt", null],
  [["doctor", "--skill"], 0, "name: aegis-production-ops", null],
];

const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/;

for (const [name, program] of Object.entries(PROGRAMS)) {
  const aegis = (words: readonly string[], options: Partial<StartOptions> = {}) =>
    start([...program, ...words], { env: ENV, cwd: EMPTY, ...options });

  describe(name, () => {
    for (const [words, status, stdout, stderr] of [...USAGE, ...NOT_BUILT, ...GOOD]) {
      test(JSON.stringify(words), async () => {
        const typed = words.indexOf("--");
        const withJson = typed < 0 ? [...words, "--json"] : words.toSpliced(typed, 0, "--json");
        const [plain, json] = await Promise.all([aegis(words), aegis(withJson)]);
        expect({ status: plain.status, stdout: plain.stdout, stderr: plain.stderr }).toEqual({
          status,
          stdout: stdout === null ? "" : expect.stringContaining(stdout),
          stderr: stderr === null ? "" : expect.stringContaining(stderr),
        });
        expect(plain.stdout + plain.stderr).not.toMatch(CONTROL);

        expect({ status: json.status, stderr: json.stderr }).toEqual({ status, stderr: "" });
        expect(json.stdout).toMatch(/^[^\n]+\n$/);
        const document = JSON.parse(json.stdout);
        if (status === 0) expect(document).not.toHaveProperty("error");
        else
          expect(document).toEqual({
            error: {
              code: expect.stringMatching(/^[a-z_]+$/),
              message: expect.any(String),
              hint: expect.any(String),
              ...("details" in document.error ? { details: expect.any(Object) } : {}),
            },
          });
      });
    }

    test("the help of every command, within 80 columns", async () => {
      const { commands } = JSON.parse((await aegis(["--help", "--json"])).stdout);
      expect(Object.keys(commands).length).toBeGreaterThan(15);
      for (const command of Object.keys(commands)) {
        const { status, stdout, stderr } = await aegis([...command.split(" "), "--help"]);
        expect({ command, status, stderr }).toEqual({ command, status: 0, stderr: "" });
        expect(stdout).toContain(`USAGE aegis ${command}`);
        expect(stdout).toContain("--json");
        expect(stdout.split("\n").filter((line) => line.length > 80 || line.endsWith(" "))).toEqual([]);
      }
      const overview = (await aegis(["--help"])).stdout;
      expect(overview.split("\n").filter((line) => line.length > 80)).toEqual([]);
    });

    test("a closed pipe: quiet, with the same exit status", async () => {
      const options = { closeStdout: true };
      const ended = await Promise.all(
        [["policy", "rules"], ["--help"], ["plan", "--help"], ["bogus", "--json"]].map((words) =>
          aegis(words, options),
        ),
      );
      expect(ended.map(({ status, stderr }) => ({ status, stderr }))).toEqual([
        { status: 0, stderr: "" },
        { status: 0, stderr: "" },
        { status: 0, stderr: "" },
        { status: 2, stderr: "" },
      ]);
    });

    test("a result that can't be written is an error, not a success", async () => {
      const full = (...words: string[]) =>
        start(["/bin/sh", "-c", 'exec "$@" >/dev/full', "sh", ...program, ...words], {
          env: ENV,
          cwd: EMPTY,
        });
      expect(await full("sign", "keygen")).toEqual({
        status: 1,
        stdout: "",
        stderr: expect.stringContaining("can't write the result: ENOSPC"),
      });
      expect(await full("policy", "rules", "--json")).toEqual({ status: 1, stdout: "", stderr: "" });
      const deaf = ["/bin/sh", "-c", 'exec "$@" 2>/dev/full', "sh", ...program, "bogus"];
      expect((await start(deaf, { env: ENV, cwd: EMPTY })).status).toBe(2);
    });

    test("no colours without a terminal, whatever the environment", async () => {
      for (const extra of [
        {},
        { NO_COLOR: "1" },
        { TERM: "dumb" },
        { FORCE_COLOR: "3" },
        { TERM: "xterm-256color" },
      ]) {
        const env = { ...ENV, ...extra };
        const ended = await Promise.all(
          [["plan", "--help"], ["policy", "rules"], ["bogus"]].map((w) => aegis(w, { env })),
        );
        for (const { stdout, stderr } of ended) expect(stdout + stderr).not.toContain("\u001b");
      }
    });

    test("colours on a terminal, and none there with NO_COLOR or TERM=dumb", async () => {
      const onTerminal = async (extra: Record<string, string>) => {
        // script(1) gives the command a terminal of its own.
        const command = [...program, "plan", "--help"].map((word) => `'${word}'`).join(" ");
        const { stdout } = await start(["/usr/bin/script", "-qec", command, "/dev/null"], {
          env: { ...ENV, TERM: "xterm", ...extra },
          cwd: EMPTY,
        });
        expect(stdout).toContain("aegis plan");
        return stdout.includes("\u001b[");
      };
      expect(await onTerminal({})).toBe(true);
      expect(await onTerminal({ NO_COLOR: "1" })).toBe(false);
      expect(await onTerminal({ TERM: "dumb" })).toBe(false);
    });

    test("a plan that policy denies is written, says why, and exits 3", async () => {
      const env = { ...ENV, XDG_DATA_HOME: join(home, `${name}-denied`) };
      const words = ["plan", "apt", "install", "./x.deb"];
      const { status, stdout } = await aegis(words, { env });
      expect(status).toBe(3);
      expect(stdout).toContain("Policy denies this plan");
      expect(stdout).toContain("· target source or evidence is denied: ./x.deb (local-path-denied)");
      expect(stdout).not.toContain("Next, you: aegis policy");
      const json = await aegis([...words, "--json"], { env });
      const { path, denial } = JSON.parse(json.stdout);
      expect({ status: json.status, rules: denial.rules }).toEqual({ status: 3, rules: ["target-denied"] });
      expect(JSON.parse(readFileSync(path, "utf8")).targets).toEqual(["./x.deb"]);
    });

    test("no prompt without a terminal", async () => {
      const plan = join(home, `${name}.plan.json`);
      writeFileSync(plan, JSON.stringify(install({ created_at: new Date().toISOString() })));
      const env = { ...ENV, AEGIS_APPROVAL_SECRET_KEY_HEX: "02".repeat(32), XDG_DATA_HOME: join(home, name) };
      const words = ["sign", "approve", "--plan", plan, "--reason", "r", "--signer", "alice"];
      const { status, stdout, stderr } = await aegis(words, { env, stdin: "y\n" });
      expect({ status, stdout }).toEqual({ status: 6, stdout: "" });
      expect(stderr).toContain("no terminal");
      expect(readdirSync(home)).not.toContain(name);
    });
  });
}

describe("binary", () => {
  const [binary] = PROGRAMS.binary;

  test("failures leave no file in the home and the current directory", async () => {
    const own = join(home, "own");
    mkdirSync(own);
    const env = { HOME: own, PATH: "/usr/bin:/bin" };
    for (const words of [
      ["plan", "apt", "install"],
      ["plan", "apt", "dist-upgrade", "x"],
      ["policy", "latest"],
      ["bogus"],
    ])
      expect(await start([binary, ...words], { env, cwd: own })).toMatchObject({ status: 2 });
    const left = readdirSync(own, { recursive: true, withFileTypes: true });
    expect(left.filter((entry) => !entry.isDirectory())).toEqual([]);
  });

  test("bunfig.toml and .env in the current directory are ignored", async () => {
    const cwd = join(home, "trap");
    mkdirSync(cwd);
    writeFileSync(join(cwd, "preload.ts"), 'console.log("PRELOADED");\n');
    writeFileSync(join(cwd, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
    writeFileSync(join(cwd, "policy.toml"), "no_such_key = 1\n");
    for (const file of [".env", ".env.local", ".env.production"])
      writeFileSync(
        join(cwd, file),
        `AEGIS_POLICY_CONFIG=${join(cwd, "policy.toml")}\nXDG_DATA_HOME=${cwd}\n`,
      );
    const [rules, where] = await Promise.all(
      [
        ["policy", "rules"],
        ["audit", "path"],
      ].map((words) => start([binary, ...words], { env: ENV, cwd })),
    );
    expect(rules).toMatchObject({ status: 0, stderr: "" });
    expect(rules?.stdout).not.toContain("PRELOADED");
    expect(where?.stdout).toBe(`${AUDIT_LOG}\n`);
  });

  test("the same variables in the environment do have an effect, so the test above proves something", async () => {
    const env = { ...ENV, AEGIS_POLICY_CONFIG: join(home, "trap/policy.toml") };
    const { status, stderr } = await start([binary, "policy", "rules"], { env, cwd: EMPTY });
    expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringContaining("no_such_key") });
  });

  const NAMES: [argv0: string, words: string[], says: string][] = [
    ["aegisd", ["--reviewer"], "name one service"],
    ["aegis-reviewd", ["--executor"], "name one service"],
    ["/usr/bin/aegis-reviewd", ["--reviewer"], "--reviewer is given twice"],
    ["aegisctl", ["bogus"], "unknown command: bogus"],
  ];
  for (const [argv0, words, says] of NAMES) {
    test(`called as ${argv0} ${words.join(" ")}`, async () => {
      const { stderr } = await start([binary, ...words], { env: ENV, cwd: EMPTY, argv0 });
      expect(stderr).toContain(says);
    });
  }
});
