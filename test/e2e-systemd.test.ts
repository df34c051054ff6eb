import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalJson } from "../src/canonical.ts";
import { EXPOSURE } from "../src/cmd-help-units.ts";
import { UNIT_DIRECTORY } from "../src/sys-systemd.ts";
import { brokenInvariants, eventually, kindsOf, plain } from "./e2e-running.ts";
import { ROOT } from "./kit.ts";
import { needs } from "./needs.ts";
import type { SystemdHost } from "./systemd-container.ts";
import {
  bootSuite,
  describeOnSystemd,
  mustExec,
  type Production,
  RESTARTER,
  ranTwice,
  SERVED,
  setUp,
} from "./systemd-kit.ts";
import { archiveReachable, verifierOf } from "./systemd-root.ts";
import { pick } from "./throwaway-packages.ts";

/*
 * A production host from the one binary, on a real systemd: installed, trusted, used by an unprivileged administrator and a
 * second person, and left alone with a crowd.
 */

const BURST = 30;
const OTHERS = [
  SERVED,
  RESTARTER,
  { name: "last", version: "1.0" },
  { name: "second", version: "1.0" },
  ...plain("burst", BURST),
];
const BINARY = join(ROOT, "dist/aegis");
/** Everything that a set-up could touch. */
const LISTING = [
  "sh",
  "-c",
  "find /etc /usr/local /var/lib/aegis /run/aegis -printf '%p %m %s %T@\n' 2>&1 | sort",
];
const LISTENING = ["aegisd.service", "aegisd.socket", "aegis-runner.socket", "aegis-reviewd.socket"];
/**
 * The most that systemd-analyze may find of each unit, of 10, as the help says. The strictest set that apt survives is 3.1; three
 * directives of it are given up by the runner, for the reasons that src/host-hardening.ts has.
 */
const MOST_EXPOSED = Object.entries(EXPOSURE).map(
  ([name, most]) => [name.replace("@.", "@0."), most] as const,
);

describeOnSystemd("a production host", (suite) => {
  let host: SystemdHost;
  let chain: Production;
  beforeAll(async () => {
    host = await bootSuite(suite);
  }, 120_000);
  afterAll(() => host?.stop());

  const installed = async (name: string) => {
    const { execution, path } = await chain.signed("apt", "install", name);
    const { status, stderr } = await chain.apply(path, "alice");
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.any(String) });
    expect(await chain.dpkgStatus(name)).toBe("install ok installed");
    expect(kindsOf(chain, execution.execution_plan_id)).toEqual(["execution_started", "execution_completed"]);
    return path;
  };

  let shown: string[] = [];
  const toDo = async (...words: readonly string[]): Promise<string[]> => {
    const text = await mustExec(host, ["/root/aegis", "daemon", "install", "--json", ...words]);
    const { steps } = JSON.parse(text) as { steps: { what: string; done: string | null }[] };
    return steps.filter(({ done }) => done !== null).map(({ what }) => what);
  };

  test("only shown with --dry-run, refused to anybody but root", async () => {
    const before = await mustExec(host, LISTING);
    const steps = await mustExec(host, ["/root/aegis", "daemon", "install", "--dry-run"]);
    for (const what of ["/usr/local/bin/aegis", "aegis-admin", "aegisd.service", "aegis-runner.socket"]) {
      expect(steps).toContain(what);
    }
    shown = await toDo("--dry-run");
    expect(await mustExec(host, LISTING)).toBe(before);
    host.write("/home/alice/aegis", readFileSync(BINARY), 0o755);
    const refused = await host.exec(["/home/alice/aegis", "daemon", "install"], { user: "alice" });
    expect([refused.status, refused.stderr]).toEqual([
      2,
      expect.stringContaining("sudo /home/alice/aegis daemon install"),
    ]);
  });

  test("installed in the steps that were shown, and looked at by the monitor at once", async () => {
    expect(await toDo()).toEqual(shown);
    const log = "/var/log/aegis/audit.ndjson";
    await eventually(() => existsSync(host.path(log)) && host.read(log).includes('"monitor_baseline"'), 60);
    const { stdout } = await host.exec(["/root/aegis", "daemon", "status"]);
    expect(stdout).toContain("no package changed outside Aegis since the monitor's first look, ");
  });

  test("installed and a key trusted: it listens, and installing again has nothing to do", async () => {
    chain = await setUp(host);
    expect((await chain.aegis(["daemon", "status"], { user: "alice" })).status).toBe(0);
    for (const unit of LISTENING) {
      expect((await host.systemctl("is-active", unit)).trim()).toBe("active");
    }
    const { document } = await chain.json(["daemon", "install"]);
    const { steps } = document as { steps: { what: string; done: string | null }[] };
    expect(steps.filter(({ done }) => done !== null)).toEqual([]);
    await host.repo.publish([...pick("hello-aegis=1.0"), ...OTHERS]);
    await host.aptUpdate();
  });

  test("systemd has nothing to say against the units", async () => {
    const said = await mustExec(host, ["journalctl", "--boot", "--no-pager", "--output=cat", "_PID=1"]);
    expect(said.split("\n").filter((line) => line.includes(`${UNIT_DIRECTORY}/aegis`))).toEqual([]);
  });

  test("exposure by systemd-analyze", async () => {
    for (const [unit, limit] of MOST_EXPOSED) {
      const said = await mustExec(host, ["systemd-analyze", "security", "--no-pager", unit]);
      const exposure = Number(/exposure level for .*: ([\d.]+)/.exec(said)?.[1]);
      process.stderr.write(`${suite}: exposure of ${unit} ${exposure}\n`);
      expect(exposure).toBeLessThanOrEqual(limit);
    }
  });

  test("hello: planned and signed by alice, approved by bob, run once", async () => {
    const path = await installed("hello-aegis");
    const again = await chain.apply(path, "alice");
    expect([again.status, again.stderr]).toEqual([6, expect.stringContaining("[replay]")]);
  });

  test("a package with a service and a setuid program", async () => {
    await installed("served");
    expect((await host.systemctl("is-active", "served.service")).trim()).toBe("active");
    expect(statSync(host.path("/usr/bin/setuid-served")).mode & 0o7777).toBe(0o4755);
  });

  test("a directory of the runner with a wrong mode: apply and status say which, and what to type", async () => {
    const { path } = await chain.signed("apt", "install", "second");
    await mustExec(host, ["chmod", "1777", "/var/lib/aegis/runs"]);
    const says = expect.stringMatching(/\/var\/lib\/aegis\/runs must be a directory .*\n.*chmod 00700 /);
    const refused = await chain.apply(path, "alice");
    expect([refused.status, refused.stderr]).toEqual([1, says]);
    const status = await chain.aegis(["daemon", "status"]);
    expect([status.status, status.stdout]).toEqual([8, says]);
    expect(status.stdout).not.toContain("A run that has started");
    // Installing puts it right.
    await mustExec(host, ["/root/aegis", "daemon", "install"]);
    expect((await chain.apply(path, "alice")).status).toBe(0);
  });

  test("stopped: doctor fails like the status, and both say how to start it", async () => {
    await host.systemctl("stop", "aegisd.service", "aegisd.socket");
    for (const words of [["doctor"], ["daemon", "status"]]) {
      const { status, stdout } = await chain.aegis(words);
      expect([status, stdout]).toEqual([8, expect.stringContaining("systemctl start aegisd.service")]);
    }
    await host.systemctl("start", "aegisd.service");
    expect((await chain.aegis(["daemon", "status"])).status).toBe(0);
  });

  test("a policy with a mistake: the status fails, with the words of every refusal", async () => {
    host.write("/etc/aegis/policy.toml", '[apt]\n\ninstal = "allow"\n');
    const says = expect.stringContaining("policy.toml can't be used: apt.instal: unknown key; known keys: ");
    for (const words of [["daemon", "status"], ["doctor"]]) {
      const { status, stdout } = await chain.aegis(words);
      expect([status, stdout]).toEqual([8, says]);
    }
    host.write("/etc/aegis/policy.toml", "");
  });

  test("an upgrade", async () => {
    await host.repo.publish([...pick("hello-aegis=1.1"), ...OTHERS]);
    await host.aptUpdate();
    host.write("/etc/aegis/policy.toml", "[snapshot]\naccept_declared = true\n");
    const { path } = await chain.signed("apt", "upgrade");
    expect((await chain.apply(path, "alice")).status).toBe(0);
    expect(await chain.dpkgVersion("hello-aegis")).toBe("1.1");
  });

  test("a package whose installation re-executes systemd and restarts aegisd", async () => {
    const front = () => host.systemctl("show", "-P", "MainPID", "aegisd.service");
    const before = await front();
    await installed("restarter");
    expect(await front()).not.toBe(before);
  });

  test(`${BURST} at once by two people all run, one after the other`, async () => {
    host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "allow"\n');
    await mustExec(host, ["usermod", "--append", "--groups", "aegis-admin", "bob"]);
    const paths: string[] = [];
    for (let n = 0; n < BURST; n += 3) {
      const three = [0, 1, 2].map((k) => chain.signed("apt", "install", `burst${n + k}`));
      paths.push(...(await Promise.all(three)).map(({ path }) => path));
    }
    const clients = await Promise.all(
      paths.map((path, n) => host.spawn(["aegis", "apply", path], { user: n % 2 === 0 ? "alice" : "bob" })),
    );
    expect(await Promise.all(clients.map((client) => client.exited))).toEqual(Array(BURST).fill(0));
  }, 180_000);

  if (suite === "trixie") {
    test("varlinkctl introspects the front and calls it", async () => {
      const socket = "/run/aegis/aegisd.sock";
      const varlinkctl = async (...args: readonly string[]) => {
        const { status, stdout, stderr } = await host.exec(["varlinkctl", ...args], { user: "alice" });
        expect([status, stderr]).toEqual([0, ""]);
        return stdout;
      };
      expect(await varlinkctl("info", socket)).toContain("io.aegis.Executor");
      expect(await varlinkctl("introspect", socket, "io.aegis.Executor")).toContain("method Apply");
      const status = await varlinkctl("call", "--json=short", socket, "io.aegis.Executor.Status", "{}");
      expect(JSON.parse(status).recent).toBeArray();
      const { execution } = await chain.signed("apt", "install", "last");
      host.write("/tmp/parameters.json", JSON.stringify({ plan: canonicalJson(execution) }));
      const call = `varlinkctl call --more --json=short ${socket} io.aegis.Executor.Apply </tmp/parameters.json`;
      const applied = await host.exec(["sh", "-c", call], { user: "alice" });
      expect(applied.stdout).toContain('"state":"completed"');
      expect(await chain.dpkgStatus("last")).toBe("install ok installed");
    });
  }

  needs(archiveReachable(suite), "Debian's archive").test(
    "hello from Debian's own archive, behind an update of the lists",
    async () => {
      host.addDebian();
      const update = await chain.signed("apt", "update");
      expect((await chain.apply(update.path, "alice")).status).toBe(0);
      const { operation_plan } = (await chain.signed("apt", "install", "hello")).execution;
      const programs = operation_plan.raw_evidence.commands.map(({ argv }) => argv[0] ?? "");
      const verifiers = programs.filter((program) => program === "gpgv" || program === "sqv");
      expect(new Set(verifiers)).toEqual(new Set([verifierOf(suite)]));
      expect(operation_plan.repository_evidence.map(({ trust }) => trust)).toContain("distribution");
      if (verifierOf(suite) === "sqv") {
        // What apt's policy forbids counts for nothing here: of all hashes none is left.
        const policies = "/etc/crypto-policies/back-ends";
        const never = `[hash_algorithms]\ndefault_disposition = "never"\n`;
        await mustExec(host, ["mkdir", "-p", policies]);
        writeFileSync(host.path(`${policies}/apt-sequoia.config`), never);
        const { plan } = await chain.plan("apt", "update");
        expect(plan.repository_evidence.filter((one) => one.signature_verified)).toEqual([]);
        await mustExec(host, ["rm", "-r", "/etc/crypto-policies"]);
      }
      await installed("hello");
      expect((await mustExec(host, ["hello"])).trim()).toBe("Hello, world!");
    },
  );

  test("nothing is left over", async () =>
    expect([...(await brokenInvariants(chain)), ...ranTwice(chain)]).toEqual([]));
});
