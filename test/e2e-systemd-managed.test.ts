import { afterAll, beforeAll, expect, test } from "bun:test";
import { SYSTEM } from "../src/paths.ts";
import { USERS } from "../src/sys-state.ts";
import { brokenInvariants, kindsOf } from "./e2e-running.ts";
import { needs } from "./needs.ts";
import { describeOnSystemd, mustExec, type Production, startProduction } from "./systemd-kit.ts";
import { type Registries, startRegistries } from "./systemd-registries.ts";
import { toolsRoot } from "./systemd-tools.ts";

/*
 * npm, pip, Go and cargo on a production host: from intent to a command that an ordinary user runs, by the tools of the
 * distribution, in the units that `daemon install` writes.
 */

const BUILD_SCRIPT = `fn main() { println!("cargo:rustc-env=WORD=hello"); }\n`;

const CONTENTS = {
  npm: [
    {
      ...{ name: "npm-greeter", version: "1.0.0" },
      manifest: { bin: { "npm-greeter": "cli.js" }, dependencies: { words: "^1.0.0" } },
      files: { "cli.js": "#!/usr/bin/env node\nconsole.log(require('words'))\n" },
    },
    {
      ...{ name: "words", version: "1.1.0", manifest: { main: "i.js" } },
      files: { "i.js": "module.exports = 'hello'\n" },
    },
  ],
  pip: [
    {
      ...{ name: "pip-greeter", version: "1.0.0", requires: ["words>=1"] },
      files: {
        "pip_greeter/main.py": "import words\ndef main():\n    print(words.WORD)\n",
        "pip_greeter-1.0.0.dist-info/entry_points.txt":
          "[console_scripts]\npip-greeter = pip_greeter.main:main\n",
      },
    },
    { name: "words", version: "1.2.0", files: { "words/__init__.py": "WORD = 'hello'\n" } },
  ],
  go: [
    {
      ...{ path: "tool.example/T", version: "v1.0.0" },
      files: {
        "go.mod": "module tool.example/T\n\ngo 1.17\n\nrequire lib.example/deep v0.3.0\n",
        "cmd/go-greeter/main.go":
          'package main\nimport ("os"; "lib.example/deep/sub")\nfunc main() { os.Stdout.WriteString(sub.X) }\n',
      },
    },
    {
      ...{ path: "lib.example/deep", version: "v0.3.0" },
      files: {
        "go.mod": "module lib.example/deep\n\ngo 1.17\n",
        "sub/s.go": 'package sub\n\nconst X = "hello\\n"\n',
      },
    },
  ],
  cargo: [
    [
      {
        ...{ name: "cargo-greeter", version: "1.0.0", dependencies: [{ name: "words", version: "1.2.0" }] },
        files: { "src/main.rs": 'fn main() { println!("{}", words::word()); }\n' },
      },
      {
        ...{ name: "words", version: "1.2.0" },
        files: {
          "src/lib.rs": 'pub fn word() -> &\'static str { env!("WORD") }\n',
          "build.rs": BUILD_SCRIPT,
        },
      },
    ],
  ],
};

/** Tool, target, managed root. */
const TARGETS = [
  ["npm", "npm-greeter@1.0.0", "npm-global"],
  ["pip", "pip-greeter==1.0.0", "pip-packages"],
  ["go", "tool.example/T/cmd/go-greeter@v1.0.0", "go"],
  ["cargo", "cargo-greeter@1.0.0", "cargo"],
] as const;

describeOnSystemd(
  "npm, pip, Go and cargo",
  (suite) => {
    let chain: Production;
    let registries: Registries;
    beforeAll(async () => {
      registries = startRegistries(() => CONTENTS);
      chain = await startProduction(suite, toolsRoot);
      registries.configure(chain.host);
    }, 120_000);
    afterAll(async () => {
      await chain?.stop();
      await registries?.stop();
    });

    const run = (tool: string) => chain.host.exec([`/var/lib/aegis/bin/${tool}-greeter`], { user: "bob" });

    const strangers = ["bob", "alice", USERS.front, USERS.build, USERS.fetch, USERS.reviewer];
    test.each(strangers)("%s can't start a sandbox or a download", async (user) => {
      const script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
      for (const path of [SYSTEM.buildSocket, SYSTEM.fetchSocket]) {
        const connect = [
          "setpriv",
          `--reuid=${user}`,
          `--regid=${user}`,
          "--init-groups",
          "python3",
          "-c",
          script,
        ];
        const { status, stderr } = await chain.host.exec([...connect, path]);
        expect([status, stderr]).toEqual([1, expect.stringContaining("PermissionError")]);
      }
    });

    const isOld = suite === "jammy";
    for (const [tool, target, root] of TARGETS) {
      const can = needs(tool !== "pip" || !isOld, `pip 22.2, which has \`pip inspect\`, on ${suite}`);
      can.test(
        `${tool}: from intent to a command that bob runs, not twice, and takes back`,
        async () => {
          const { execution, path, planned } = await chain.signed(tool, "install", target);
          expect(planned.plan.transaction.length).toBe(2);
          expect(planned.plan.provenance_evidence.filter(({ verified }) => !verified)).toEqual([]);
          const applied = await chain.apply(path, "alice");
          expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
          const ran = await run(tool);
          expect([ran.stdout, ran.stderr]).toEqual(["hello\n", ""]);
          const foreign = ["find", `/var/lib/aegis/${root}`, "!", "-user", "root"];
          expect(await mustExec(chain.host, foreign)).toBe("");
          const again = await chain.apply(path, "alice");
          expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
          expect(kindsOf(chain, execution.execution_plan_id)).toEqual([
            "execution_started",
            "execution_completed",
            "execution_denied",
          ]);

          const undone = await chain.signed("rollback", execution.execution_plan_id);
          expect((await chain.apply(undone.path, "alice")).status).toBe(0);
          expect((await run(tool)).stderr).toContain("No such file");
          const redone = await chain.signed("rollback", undone.execution.execution_plan_id);
          expect((await chain.apply(redone.path, "alice")).status).toBe(0);
          expect((await run(tool)).stdout).toBe("hello\n");
        },
        120_000,
      );
    }

    test("the log is intact, and nothing is left over", async () => {
      expect(await mustExec(chain.host, ["aegis", "audit", "verify", "--system"])).not.toBe("");
      expect(await brokenInvariants(chain)).toEqual([]);
    });
  },
  toolsRoot,
);
