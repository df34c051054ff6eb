import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { zip } from "./archive-kit.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { needs } from "./needs.ts";
import { provesRollback } from "./rollback-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * pip from the plan to the log, with the real pip and the compiled program, and an index of the test's own.
 */

interface Wheel {
  name: string;
  version: string;
  requires?: string;
  command?: string;
  code: string;
}

const WHEELS: Wheel[] = [
  { name: "words", version: "1.2.0", code: "WORD = 'hello'\n" },
  {
    name: "greeter",
    version: "1.0.0",
    requires: "words>=1",
    command: "greeter",
    code: "import words\ndef main():\n    print(words.WORD)\n",
  },
  {
    name: "greeter",
    version: "1.1.0",
    requires: "words>=1",
    command: "greeter",
    code: "import words\ndef main():\n    print(words.WORD, 'again')\n",
  },
  { name: "other", version: "2.0.0", command: "other", code: "def main():\n    print('other')\n" },
];

const fileOf = ({ name, version }: Wheel) => `${name}-${version}-py3-none-any.whl`;

function wheelOf({ name, version, requires, command, code }: Wheel): Buffer {
  const info = `${name}-${version}.dist-info`;
  const lines = ["Metadata-Version: 2.1", `Name: ${name}`, `Version: ${version}`];
  const files: [string, string][] = [
    [`${name}.py`, code],
    [
      `${info}/METADATA`,
      `${[...lines, ...(requires === undefined ? [] : [`Requires-Dist: ${requires}`])].join("\n")}\n`,
    ],
    [`${info}/WHEEL`, "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"],
  ];
  if (command !== undefined)
    files.push([`${info}/entry_points.txt`, `[console_scripts]\n${command} = ${name}:main\n`]);
  const record = files.map(([path, body]) => {
    const hash = createHash("sha256").update(body).digest("base64url");
    return `${path},sha256=${hash},${Buffer.byteLength(body)}`;
  });
  files.push([`${info}/RECORD`, `${[...record, `${info}/RECORD,,`].join("\n")}\n`]);
  return zip(files.map(([path, body]) => ({ name: path, body })));
}

const hasPip = spawnSync("/usr/bin/python3", ["-m", "pip", "--version"]).status === 0;

needs(hasPip, "pip of /usr/bin/python3").describe("the system's pip", () =>
  describeOnThrowaway("from intent to a module", () => {
    let server: ReturnType<typeof Bun.serve>;
    let chain: Chain;

    beforeAll(async () => {
      const bytes = new Map(WHEELS.map((wheel) => [`/files/${fileOf(wheel)}`, wheelOf(wheel)]));
      server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch(request) {
          const { pathname, origin } = new URL(request.url);
          const file = bytes.get(pathname);
          if (file !== undefined) return new Response(file);
          const wheels = WHEELS.filter(({ name }) => pathname === `/simple/${name}/`);
          if (wheels.length === 0) return new Response(null, { status: 404 });
          const files = wheels.map((wheel) => {
            const path = `/files/${fileOf(wheel)}`;
            const data = bytes.get(path) ?? Buffer.alloc(0);
            const hashes = { sha256: createHash("sha256").update(data).digest("hex") };
            const time = { "upload-time": "2020-01-01T00:00:00.000000Z" };
            return { filename: fileOf(wheel), url: `${origin}${path}`, hashes, size: data.length, ...time };
          });
          const body = { meta: { "api-version": "1.1" }, name: wheels[0]?.name, files };
          return new Response(JSON.stringify(body), {
            headers: { "content-type": "application/vnd.pypi.simple.v1+json" },
          });
        },
      });
      chain = await startChain();
      const { host } = chain;
      for (const user of ["aegis-build", "aegis-fetch"])
        await host.exec(["useradd", "--system", "--no-create-home", user]);
      const { port } = server;
      host.write("/etc/aegis/aegisd.env", `AEGIS_PIP_INDEX_URL=http://127.0.0.1:${port}/simple/\n`);
      host.write(
        "/etc/aegis/policy.toml",
        `[pip]\napply = "require_human"\nallowed_registries = ["127.0.0.1:${port}"]\n`,
      );
      await chain.startDaemon();
    }, 120_000);
    afterAll(async () => {
      await chain.stop();
      await server.stop(true);
    });

    const run = (name: string) => chain.host.exec([`/var/lib/aegis/bin/${name}`], { user: "bob" });

    test("a closure is planned, approved, signed, installed and can be run; not twice", async () => {
      const { execution, path } = await chain.signed("pip", "install", "greeter==1.0.0");
      expect(execution.operation_plan.transaction.map(({ name }) => name)).toEqual(["greeter", "words"]);
      const applied = await chain.apply(path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      expect((await run("greeter")).stdout).toBe("hello\n");
      const owner = await chain.host.exec(["find", "/var/lib/aegis/pip-packages", "!", "-user", "root"]);
      expect(owner.stdout).toBe("");
      expect((await chain.apply(path)).status).toBe(6);
      expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
    }, 120_000);

    test("what was there stays: commands and modules of another package too", async () => {
      const { path } = await chain.signed("pip", "install", "other==2.0.0");
      const applied = await chain.apply(path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      expect([(await run("other")).stdout, (await run("greeter")).stdout]).toEqual(["other\n", "hello\n"]);
    }, 120_000);

    test(
      "what an upgrade replaced comes back, and what that replaced",
      () => provesRollback(chain, "pip", "greeter==1.1.0", async () => (await run("greeter")).stdout),
      240_000,
    );
  }),
);
