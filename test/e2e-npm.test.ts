import { afterAll, beforeAll, expect } from "bun:test";
import { createHash } from "node:crypto";
import { posix } from "node:path";
import { resolveProgram } from "../src/sys-spawn.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import { npmTarball, type TestPackage } from "./managed-kit.ts";
import { needs } from "./needs.ts";
import { provesRollback } from "./rollback-kit.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * npm from the plan to the log, with the real npm and the compiled program, and a registry of the test's own.
 */

const greeter = (version: string, says: string) =>
  npmTarball(
    "greeter",
    version,
    { bin: { greeter: "cli.js" }, dependencies: { words: "^1.0.0" } },
    { "cli.js": `#!/usr/bin/env node\nconsole.log(${says})\n` },
  );
const PACKAGES = [
  greeter("1.0.0", "require('words')"),
  greeter("1.2.0", "`${require('words')} again`"),
  npmTarball("private", "1.0.0", {}),
  npmTarball("words", "1.1.0", { main: "i.js" }, { "i.js": "module.exports = 'hello'\n" }),
];

/** The registry's answers: packuments with what npm's have, and the tarballs. `wants` is the header that it demands. */
function registryOf(packages: readonly TestPackage[], wants: () => string | null) {
  const path = ({ name, version = "" }: TestPackage) => `/${name}/-/${posix.basename(name)}-${version}.tgz`;
  return Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      const { pathname, origin } = new URL(request.url);
      if (wants() !== null && request.headers.get("authorization") !== wants())
        return new Response("{}", { status: 401 });
      const tarball = packages.find((one) => path(one) === pathname);
      if (tarball !== undefined) return new Response(Buffer.from(tarball.bytes));
      const named = packages.filter(({ name }) => `/${name}` === decodeURIComponent(pathname));
      if (named.length === 0) return new Response("{}", { status: 404 });
      const versions = Object.fromEntries(
        named.map((one) => {
          const { name, version = "", bytes } = one;
          const integrity = `sha512-${createHash("sha512").update(Buffer.from(bytes)).digest("base64")}`;
          const known =
            name === "greeter" ? { bin: { greeter: "cli.js" }, dependencies: { words: "^1.0.0" } } : {};
          return [
            version,
            { name, version, ...known, dist: { tarball: `${origin}${path(one)}`, integrity } },
          ];
        }),
      );
      const time = Object.fromEntries(named.map(({ version = "" }) => [version, "2020-01-01T00:00:00.000Z"]));
      const latest = named.at(-1)?.version;
      return Response.json({ name: named[0]?.name, "dist-tags": { latest }, versions, time });
    },
  });
}

describeOnThrowaway("npm, from the plan to the log", () => {
  const real = needs(
    resolveProgram("npm") !== null && resolveProgram("node") !== null,
    "npm, which installs here",
  );
  let chain: Chain;
  let registry: ReturnType<typeof registryOf>;
  let wanted: string | null = null;
  beforeAll(async () => {
    registry = registryOf(PACKAGES, () => wanted);
    chain = await startChain();
    const { host } = chain;
    const { port } = registry;
    host.write(
      "/etc/aegis/policy.toml",
      `[npm]\napply = "require_human"\nallowed_registries = ["127.0.0.1:${port}"]\n`,
    );
    host.write("/etc/npmrc", `registry=http://127.0.0.1:${port}/\n`);
    for (const user of ["aegis-build", "aegis-fetch"])
      await host.exec(["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", user]);
    await chain.startDaemon();
  }, 120_000);
  afterAll(async () => {
    await chain.stop();
    await registry.stop(true);
  });

  real.test(
    "a closure is planned, approved, signed, installed and can be run; not twice",
    async () => {
      const { host } = chain;
      const { execution, path } = await chain.signed("npm", "install", "greeter@1.0.0");
      expect(execution.operation_plan.transaction.map(({ name }) => name)).toEqual(["greeter", "words"]);
      const applied = await chain.apply(path);
      expect(applied.stderr).toContain("installing, without a network");
      expect(applied.stdout).toContain("command: greeter");
      expect(applied.status).toBe(0);
      const ran = await host.exec(["/var/lib/aegis/bin/greeter"], { user: "bob" });
      expect(ran.stdout).toBe("hello\n");
      const owner = await host.exec(["find", "/var/lib/aegis/npm-global", "!", "-user", "root"]);
      expect(owner.stdout).toBe("");
      expect((await chain.apply(path)).status).toBe(6);
      const kinds = chain.audit().map(({ kind }) => kind);
      expect(kinds).toContain("execution_completed");
      expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
    },
    120_000,
  );

  real.test(
    "what is installed is listed with execution and people; a byte changed by root is named, and audited once",
    async () => {
      const { host } = chain;
      type Document = {
        roots: { tool: string | null; state: string; packages: object[]; deviations: object[] }[];
      };
      const npm = async (user: "root" | "alice") => {
        const { status, document } = await chain.json(["audit", "installed"], user);
        const { roots } = document as Document;
        return { status, ...roots.find(({ tool }) => tool === "npm") };
      };
      const monitor = async () => {
        const before = chain.audit().length;
        expect((await chain.aegis(["daemon", "--monitor"])).status).toBe(0);
        return chain
          .audit()
          .slice(before)
          .filter(({ kind }) => kind === "unmanaged_change");
      };
      const execution = chain.audit().find(({ kind }) => kind === "execution_completed")?.["execution_id"];
      const by = {
        ...{ execution, signed_by: expect.stringMatching(/^ops@example \(key /) },
        ...{ approved_by: [expect.stringMatching(/^alice@example \(key /)], vulnerabilities: null },
      };
      for (const user of ["root", "alice"] as const)
        expect(await npm(user)).toMatchObject({
          ...{ status: 0, state: "signed", deviations: [] },
          packages: [
            { name: "greeter", version: "1.0.0", part_of: null, ...by },
            { name: "words", version: "1.1.0", part_of: "greeter", ...by },
          ],
        });
      const stranger = await chain.aegis(["audit", "installed"], { user: "bob" });
      expect(stranger.status).toBe(8);
      expect(stranger.stderr).toContain("aegis-admin");
      expect(await monitor()).toEqual([]);
      const affected = [{ package: { ecosystem: "npm", name: "words" }, versions: ["1.1.0"] }];
      host.write(
        "/srv/osv/npm/OSV-1.json",
        JSON.stringify({ id: "OSV-1", modified: "2026-01-01T00:00:00Z", affected }),
      );
      const { stdout } = await chain.aegis(["audit", "installed"], { env: { AEGIS_OSV_DIR: "/srv/osv" } });
      const lines = stdout.split("\n").map((line) => line.split(/ {2,}/));
      expect(lines.map((cells) => [cells[1], cells[3], cells.at(-1)])).toEqual([
        ["PACKAGE", "PART OF", "VULNERABILITIES"],
        ["greeter", "-", "none known"],
        ["words", "greeter", "1: OSV-1 (not rated)"],
        [undefined, undefined, ""],
      ]);

      const file = "lib/node_modules/greeter/cli.js";
      await host.exec(["sed", "-i", "s/words/wordz/", `/var/lib/aegis/npm-global/${file}`]);
      const told = await chain.aegis(["audit", "installed", "npm"], { user: "alice" });
      expect(told.status).toBe(6);
      expect(told.stderr).toContain(`not as signed: ${file} (changed)`);
      expect(await monitor()).toMatchObject([
        { details: { tool: "npm", execution, count: 1, changes: [`changed: ${file}`] } },
      ]);
      expect(await monitor()).toEqual([]);
      const status = await chain.aegis(["daemon", "status"]);
      expect(status.stdout).toContain(`changed: ${file}`);
      const again = await chain.signed("npm", "install", "greeter@1.0.0");
      expect((await chain.apply(again.path)).status).toBe(0);
      expect(await monitor()).toEqual([]);
      expect((await chain.aegis(["daemon", "status"])).stdout).not.toContain(file);
      expect((await chain.aegis(["audit", "installed", "apt"])).stderr).toContain("dpkg-query");
      expect((await npm("alice")).status).toBe(0);
    },
    120_000,
  );

  real.test(
    "a registry that wants a login: the executor's own credentials, from a file that only root can read",
    async () => {
      const { host } = chain;
      const { port } = registry;
      const token = crypto.randomUUID();
      wanted = `Bearer ${token}`;
      host.write("/root/.npmrc", `//127.0.0.1:${port}/:_authToken=${token}\n`);
      const { path } = await chain.signed("npm", "install", "private@1.0.0");
      const without = await chain.apply(path);
      expect(without.stderr).toContain("401");
      const file = "/etc/aegis/registries.toml";
      host.write(file, `[[registry]]\nhost = "127.0.0.1:${port}"\nauthorization = "Bearer ${token}"\n`);
      const open = await chain.apply(path);
      expect(open.stderr).toContain(`sudo chmod 600 ${file}`);
      const doctor = await chain.aegis(["doctor"]);
      expect(doctor.stdout).toContain(`${file} is not a file that root alone can read`);
      await host.exec(["chmod", "600", file]);
      const applied = await chain.apply(path);
      expect(applied.status).toBe(0);
      const places = ["/var/lib/aegis", "/var/log/aegis", "/var/cache/aegis", "/root/.local", "/run/aegis"];
      const found = await host.exec(["grep", "-rlaF", token, ...places]);
      expect(found.stdout).toBe("");
      wanted = null;
    },
    120_000,
  );

  real.test(
    "what an upgrade replaced comes back, and what that replaced",
    () =>
      provesRollback(chain, "npm", "greeter@1.2.0", async () => {
        return (await chain.host.exec(["/var/lib/aegis/bin/greeter"], { user: "bob" })).stdout;
      }),
    240_000,
  );
});
