import { afterAll, beforeAll, expect, test } from "bun:test";
import { type FakeCrate, FILES, fakeCrates, INDEX, indexUrl } from "./cargo-kit.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { AVAILABLE, installCargo } from "./managed-chain.ts";
import { needs } from "./needs.ts";
import { provesRollback } from "./rollback-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * cargo from the plan to the log, with Debian's cargo and the compiled program, and a registry of the test's own.
 */

const LIBRARY: FakeCrate = {
  name: "words",
  version: "1.2.0",
  files: { "src/lib.rs": 'pub fn word() -> &\'static str { env!("WORD") }\n', "build.rs": BUILD() },
};
const COMMAND: FakeCrate = {
  name: "greeter",
  version: "1.0.0",
  dependencies: [{ name: "words", version: "1.2.0" }],
  files: { "src/main.rs": 'fn main() { println!("{}", words::word()); }\n' },
};

const NEWER: FakeCrate = {
  ...COMMAND,
  version: "1.1.0",
  files: { "src/main.rs": 'fn main() { println!("{} again", words::word()); }\n' },
};

/** A registry with both; each has a lock file of its own. */
function bothVersions() {
  const [older, newer] = [fakeCrates([COMMAND, LIBRARY]), fakeCrates([NEWER, LIBRARY])];
  const url = indexUrl(COMMAND.name);
  return { ...older, ...newer, [url]: `${older[url]}${newer[url]}` };
}

/** A build script that tries what it must not reach, and says in the program what it reached. */
function BUILD(): string {
  return `use std::fs;
use std::net::TcpStream;
fn main() {
    let mut reached = Vec::new();
    if fs::write("/var/lib/aegis/cargo/../evil", "x").is_ok() { reached.push("the state"); }
    if fs::write("/etc/evil", "x").is_ok() { reached.push("etc"); }
    if fs::read_dir("/etc/aegis").is_ok() { reached.push("settings"); }
    if fs::read_dir("/root").is_ok() { reached.push("root"); }
    if fs::read_dir("/home").map(|d| d.count()).unwrap_or(0) > 0 { reached.push("home"); }
    if TcpStream::connect("1.1.1.1:53").is_ok() { reached.push("network"); }
    println!("cargo:rustc-env=WORD={}", if reached.is_empty() { "hello".into() } else { reached.join(",") });
}
`;
}

needs(AVAILABLE.cargo, "Debian's packages of cargo, by apt-get").describe("Debian's cargo", () =>
  describeOnThrowaway("from intent to a command", () => {
    let server: ReturnType<typeof Bun.serve>;
    let chain: Chain;

    beforeAll(async () => {
      const answers = bothVersions();
      server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch(request) {
          const { pathname, origin } = new URL(request.url);
          if (pathname === "/config.json") return Response.json({ dl: `${origin}/files` });
          const under = pathname.startsWith("/files/");
          const answer =
            answers[under ? `${FILES}${pathname.slice("/files".length)}` : `${INDEX}${pathname}`];
          const isBody = typeof answer === "string" || answer instanceof Uint8Array;
          return isBody ? new Response(Buffer.from(answer)) : new Response(null, { status: 404 });
        },
      });
      chain = await startChain();
      const { host } = chain;
      for (const user of ["aegis-build", "aegis-fetch"])
        await host.exec(["useradd", "--system", "--no-create-home", user]);
      await installCargo(chain);
      const { port } = server;
      host.write("/etc/aegis/aegisd.env", `AEGIS_CARGO_INDEX=sparse+http://127.0.0.1:${port}/\n`);
      const policy = ['apply = "require_human"', "allow_build_scripts = true"];
      host.write(
        "/etc/aegis/policy.toml",
        `[cargo]\n${policy.join("\n")}\nallowed_registries = ["127.0.0.1:${port}"]\n`,
      );
      await chain.startDaemon();
    }, 180_000);
    afterAll(async () => {
      await chain.stop();
      await server.stop(true);
    });

    test("a crate is planned, approved, signed, built without a network, installed and can be run; not twice", async () => {
      const { host } = chain;
      const { execution, path } = await chain.signed("cargo", "install", "greeter@1.0.0");
      expect(execution.operation_plan.transaction.map(({ name }) => name)).toEqual(["greeter", "words"]);
      const applied = await chain.apply(path);
      expect([applied.status, applied.stderr]).toEqual([0, expect.not.stringContaining("error")]);
      const ran = await host.exec(["/var/lib/aegis/bin/greeter"], { user: "bob" });
      expect(ran.stdout).toBe("hello\n");
      const owner = await host.exec(["find", "/var/lib/aegis/cargo", "!", "-user", "root"]);
      expect(owner.stdout).toBe("");
      expect((await host.exec(["ls", "/etc/evil", "/var/lib/aegis/evil"])).stdout).toBe("");
      expect((await chain.apply(path)).status).toBe(6);
      expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
    }, 180_000);

    test(
      "what an upgrade replaced comes back, and what that replaced",
      () =>
        provesRollback(chain, "cargo", "greeter@1.1.0", async () => {
          return (await chain.host.exec(["/var/lib/aegis/bin/greeter"], { user: "bob" })).stdout;
        }),
      300_000,
    );
  }),
);
