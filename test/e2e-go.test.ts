import { afterAll, beforeAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionPlan } from "../src/doc.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { type FakeModule, fakeProxy, newDatabase, PROXY } from "./go-kit.ts";
import { needs } from "./needs.ts";
import type { RegistryAnswer } from "./registry-kit.ts";
import { provesRollback } from "./rollback-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * Go from intent to a program in the managed directory, with the real go command on a throw-away host, and a module proxy with a
 * checksum database of our own.
 */

const tool = (version: string, said: string): FakeModule => ({
  path: "tool.example/T",
  version,
  files: {
    "go.mod": "module tool.example/T\n\ngo 1.17\n\nrequire lib.example/deep v0.3.0\n",
    "cmd/t/main.go": `package main\nimport ("os"; "lib.example/deep/sub")\nfunc main() { os.Stdout.WriteString(sub.X + "${said}\\n") }\n`,
  },
});
const LIB: FakeModule = {
  path: "lib.example/deep",
  version: "v0.3.0",
  files: {
    "go.mod": "module lib.example/deep\n\ngo 1.17\n",
    "sub/s.go": 'package sub\n\nconst X = "hello "\n',
  },
};
const REPLACING: FakeModule = {
  ...{ path: "replacing.example/r", version: "v1.0.0" },
  files: {
    "go.mod": "module replacing.example/r\n\ngo 1.17\n\nreplace lib.example/deep => ./deep\n",
    "main.go": "package main\nfunc main() {}\n",
  },
};
const MODULES = [tool("v1.0.0", "one"), tool("v1.1.0", "two"), LIB, REPLACING];

const TARGET = "tool.example/T/cmd/t@v1.0.0";

/** A module that Debian 12's go is too old for. */
const NEWER: FakeModule = {
  ...{ path: "newer.example/n", version: "v1.0.0" },
  files: { "go.mod": "module newer.example/n\n\ngo 1.21.0\n", "main.go": "package main\nfunc main() {}\n" },
};

interface Installation {
  name: string;
  /** Whether everything is tried with it, or only the run itself. */
  isFull: boolean;
  install(host: Chain["host"]): Promise<void>;
}

/** Where administrators put the go that they download; it is copied with the machine. */
const GO = "/usr/local/go/bin/go";
const OWN: Installation = {
  name: GO,
  isFull: true,
  async install(host) {
    await host.exec(["ln", "-s", GO, "/usr/local/bin/go"]);
  },
};

/** Debian's packages of go, by its mirror; null where they can't be had. */
function debian(): Installation | null {
  const depends =
    spawnSync("/usr/bin/apt-cache", ["depends", "golang-go"], { encoding: "utf8" }).stdout ?? "";
  const [, release] = /Depends: golang-([\d.]+)-go\n/.exec(depends) ?? [];
  if (release === undefined) return null;
  const directory = mkdtempSync(join(tmpdir(), "aegis-go-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const names = ["golang-go", "golang-src", `golang-${release}-go`, `golang-${release}-src`];
  const { status } = spawnSync("/usr/bin/apt-get", ["download", ...names], { cwd: directory });
  if (status !== 0) return null;
  return {
    name: `Debian's go ${release}`,
    isFull: false,
    async install(host) {
      for (const deb of readdirSync(directory)) {
        host.write(`/tmp/${deb}`, readFileSync(join(directory, deb)));
        const { status, stderr } = await host.exec(["dpkg-deb", "-x", `/tmp/${deb}`, "/"], {
          timeoutMs: 120_000,
        });
        if (status !== 0) throw new Error(stderr);
      }
    },
  };
}

const DEBIAN = debian();
suite(needs(existsSync(GO), `a go command at ${GO}`), OWN);
suite(needs(DEBIAN !== null, "Debian's packages of go, by apt-get download"), DEBIAN ?? OWN);

function suite({ describe }: ReturnType<typeof needs>, { name, isFull, install }: Installation) {
  describe(name, () => describeOnThrowaway("from intent to a program", () => run(isFull, install)));
}

function run(isFull: boolean, installGo: Installation["install"]) {
  const database = newDatabase("sum.example");
  const { answers } = fakeProxy([...MODULES, NEWER], database);
  /** Answers in place of those of the proxy, by path. */
  const changed = new Map<string, RegistryAnswer>();
  /** How often a path is still answered as before. */
  const unchanged = new Map<string, number>();
  let server: ReturnType<typeof Bun.serve>;
  let chain: Chain;

  beforeAll(async () => {
    server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch(request) {
        const path = decodeURIComponent(new URL(request.url).pathname);
        const left = unchanged.get(path) ?? 0;
        if (left > 0) unchanged.set(path, left - 1);
        const other = left > 0 ? undefined : changed.get(path);
        const answer = other ?? answers[`${PROXY}${path}`] ?? { status: 404 };
        if (typeof answer === "string" || answer instanceof Uint8Array)
          return new Response(Buffer.from(answer));
        const { status, location = "" } = answer;
        return new Response(null, { status, ...(location === "" ? {} : { headers: { location } }) });
      },
    });
    chain = await startChain();
    for (const user of ["aegis-build", "aegis-fetch"])
      await chain.host.exec(["useradd", "--system", "--no-create-home", user]);
    await installGo(chain.host);
    chain.host.write(
      "/etc/aegis/aegisd.env",
      `AEGIS_GOPROXY=http://127.0.0.1:${server.port}\nAEGIS_GOSUMDB=${database.key}\n`,
    );
    chain.host.write("/etc/aegis/policy.toml", `[go]\nallowed_registries = ["127.0.0.1:${server.port}"]\n`);
    await chain.startDaemon();
  }, 120_000);
  afterAll(async () => {
    await chain.stop();
    await server.stop(true);
  });

  const runs = async () => {
    const { stdout } = await chain.host.exec(["/var/lib/aegis/bin/t"]);
    return stdout;
  };
  const idOf = ({ execution_plan_id }: ExecutionPlan) => execution_plan_id;
  const eventsOf = (id: string) =>
    chain.audit().flatMap((event) => (event["execution_id"] === id ? [event["kind"]] : []));

  test("is allowed by the default policy, installed, reachable, audited, and not run again", async () => {
    const { execution, path, planned } = await chain.signed("go", "install", TARGET);
    expect(planned.plan.transaction.map(({ name }) => name)).toEqual(["lib.example/deep", "tool.example/T"]);
    expect(execution.policy_decision).toBe("allow");
    expect(execution.argv).toEqual(["go", "install", TARGET]);
    const applied = await chain.apply(path, "alice");
    expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
    expect(await runs()).toBe("hello one\n");
    const again = await chain.apply(path, "alice");
    expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
    expect(eventsOf(idOf(execution))).toEqual([
      "execution_started",
      "execution_completed",
      "execution_denied",
    ]);
    const { stdout } = await chain.host.exec([
      "find",
      "/var/lib/aegis/go",
      "-type",
      "f",
      "-printf",
      "%P %u %m\n",
    ]);
    expect(stdout).toBe("bin/t root 755\n");
    expect((await chain.aegis(["audit", "verify", "--path", "/var/log/aegis"])).status).toBe(0);
  }, 300_000);

  if (!isFull) {
    test("a module that asks for a newer go is refused in planning", async () => {
      const { plan } = await chain.plan("go", "install", "newer.example/n@v1.0.0");
      expect(plan.metadata_available).toBe(false);
      expect(plan.warnings.join()).toMatch(
        /1\.21\.0.*this host's go is too old for it, and no other is downloaded/,
      );
    }, 120_000);
    return;
  }

  test("a newer version takes its place, what it replaced comes back, and what that replaced", async () => {
    await provesRollback(chain, "go", "tool.example/T/cmd/t@v1.1.0", runs);
    expect(await runs()).toBe("hello two\n");
  }, 300_000);

  const zip = "/lib.example/deep/@v/v0.3.0.zip";
  const evilZip = fakeProxy([
    { ...LIB, files: { ...LIB.files, "sub/s.go": 'package sub\nconst X = "evil "\n' } },
  ]).answers[`${PROXY}${zip}`];
  const refusals: [string, string, RegistryAnswer, RegExp][] = [
    ["other bytes of a module", zip, evilZip ?? "", /zip file of lib\.example\/deep v0\.3\.0 is not the one/],
    ["a redirection", zip, { status: 302, location: "http://127.0.0.1:1/" }, /sends elsewhere/],
    ["a module that disappeared", zip, { status: 404 }, /no module proxy has the zip file/],
    [
      "another go.mod",
      "/lib.example/deep/@v/v0.3.0.mod",
      "module lib.example/deep\n",
      /go\.mod of lib\.example\/deep v0\.3\.0 is not the one/,
    ],
  ];
  test.each(refusals)(
    "%s between plan and run: refused, and the program stays",
    async (_, path, answer, why) => {
      const { execution, path: file } = await chain.signed("go", "install", TARGET);
      changed.set(path, answer);
      const applied = await chain.apply(file);
      changed.clear();
      expect(applied.status).not.toBe(0);
      expect(applied.stderr).toMatch(why);
      expect(eventsOf(idOf(execution))).toEqual(["execution_denied"]);
      expect(await runs()).toBe("hello two\n");
    },
    300_000,
  );

  test("other bytes once the executor has planned again: refused before anything is built", async () => {
    const { execution, path } = await chain.signed("go", "install", TARGET);
    changed.set(zip, evilZip ?? "");
    unchanged.set(zip, 1);
    const applied = await chain.apply(path);
    changed.clear();
    expect([applied.status, applied.stderr]).toEqual([9, expect.stringContaining("[evidence_mismatch]")]);
    expect(eventsOf(idOf(execution))).not.toContain("execution_started");
    expect(await runs()).toBe("hello two\n");
  }, 300_000);

  test("a module that replaces others isn't planned: go install refuses it too", async () => {
    const { plan } = await chain.plan("go", "install", "replacing.example/r@v1.0.0");
    expect([plan.metadata_available, plan.warnings.join()]).toEqual([
      false,
      expect.stringContaining("replace directive (lib.example/deep => ./deep)"),
    ]);
  }, 120_000);

  test("settings planted in root's home and environment change nothing", async () => {
    chain.host.write("/root/.config/go/env", "GOFLAGS=-toolexec=/tmp/evil\nGOPROXY=http://127.0.0.1:1\n");
    chain.host.write("/root/go.work", "go 1.17\nuse ./evil\n");
    const { path } = await chain.signed("go", "install", TARGET);
    expect((await chain.apply(path)).status).toBe(0);
    expect(await runs()).toBe("hello one\n");
  }, 300_000);

  test("a plan from a registry that the executor doesn't know is refused, with what to configure", async () => {
    const other = Bun.serve({
      ...{ hostname: "127.0.0.1", port: 0 },
      fetch: (request) => {
        const answer = answers[`${PROXY}${decodeURIComponent(new URL(request.url).pathname)}`];
        return typeof answer === "string" || answer instanceof Uint8Array
          ? new Response(Buffer.from(answer))
          : new Response(null, { status: 404 });
      },
    });
    const host = (server: { port: number | undefined }) => `127.0.0.1:${server.port}`;
    chain.host.write(
      "/etc/aegis/policy.toml",
      `[go]\nallowed_registries = ["${host(server)}", "${host(other)}"]\n`,
    );
    const env = { GOPROXY: `http://${host(other)}` };
    const { stdout } = await chain.aegis(["plan", "go", "install", TARGET, "--json"], { env });
    const { path } = await chain.sign(JSON.parse(stdout));
    const applied = await chain.apply(path);
    expect(applied.stderr).toContain(
      `come from http://${host(other)}/, which this host's executor doesn't know`,
    );
    expect(applied.stderr).toContain("/etc/aegis/aegisd.env");
    await other.stop(true);
  }, 120_000);
}
